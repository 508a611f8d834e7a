"""Folders for secrets: only this user may read them, and what a killed process left goes before the next one is made."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path


class PrivateFolder:
    """A temporary folder that is held by a lock, as long as this process lives, or a child that was given :attr:`lock`.

    Folders of this prefix and user that nobody holds any more are deleted first: no killed process does so itself.

    :param prefix: of its name.
    """

    def __init__(self, prefix: str) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            _delete_unheld(left)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix))
            try:
                #: An open file; a child that inherits it holds the folder, too.
                self.lock = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:  # somebody deleted it before it was held
                continue
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self.path.exists():  # else somebody found it before it was held
                    return
            os.close(self.lock)

    def close(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def _delete_unheld(path: Path) -> None:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # somebody else's, or gone by now
        return
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
