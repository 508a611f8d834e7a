"""The history in a folder or a bucket: one file for each version, and of two writers of a version one wins.

``000000/001.json``, ``000000/002.json``, ... A version is a whole history, bounded by the limits of the policy; the chain of
them says what was decided when. Nothing is changed and nothing is deleted: what is older than you need, a life-cycle rule
of the bucket may take away, except for the newest.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final

from airflow_pipeops.base.documents import map_, parsed
from airflow_pipeops.exceptions import BadResponse, Conflict, SystemFailure, Unreachable, Unsupported
from airflow_pipeops.operations.remediation.history import History, Reset

#: Bytes of a version.
_MOST: Final = 32 * 1024 * 1024
#: Versions in one folder, so that listing stays cheap.
_FOLDER: Final = 1000
#: Others may be faster so often.
_TRIES: Final = 100
#: Object stores whose filesystem creates an object only where none is, in one request.
_CREATING: Final = frozenset({"s3", "s3a", "gs", "gcs"})
#: The file that stops everything, whatever is in it.
STOP: Final = "STOP"


class Journal:
    """The history, shared by all that act.

    :param root: the folder, as an ``ObjectStoragePath`` or a path.
    :param clock: tells the time, with a zone.
    :raises Unsupported: where nothing can be created exclusively.
    """

    def __init__(self, root: Any, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        self.root, self.clock = root, clock
        self._protocol = str(getattr(root, "protocol", "") or "file")
        if not (self._protocol in {"file", "local"} or (self._protocol in _CREATING and _creates(root.fs))):
            raise Unsupported(
                f"of two writers to {self._protocol}://, nobody can say who was first",
                field="storage_conn_id",
                value=self._protocol,
                remedy="Keep the remediator's history in a folder that all workers share, or in S3 or GCS.",
            )

    @property
    def stopped(self) -> bool:
        """Whether somebody has put a file STOP beside the history."""
        return bool(self._asked(lambda: (self.root / STOP).exists()))

    def read(self) -> tuple[int, History]:
        """Read the newest version.

        :return: its number, and the history; 0 and an empty one at first.
        :raises BadResponse: for one that cannot be read: nobody knows then what was done.
        """
        number = self._newest()
        if not number:
            return 0, History()
        path = self._path(number)
        try:
            content = self._asked(lambda: path.read_bytes())
            if len(content) > _MOST:
                raise ValueError(f"it has {len(content):,} bytes")
            found = parsed(content)
            # An empty history would allow everything anew.
            if not isinstance(map_(found).get("operations"), list):
                raise ValueError("it is no history")
            return number, History.from_json(found)
        except (ValueError, TypeError) as error:
            raise BadResponse(
                f"version {number} of the remediator's history cannot be read: {error}",
                remedy=f"Look at {path}. Nothing is done before it can be read.",
            ) from error

    def write(self, number: int, history: History) -> bool:
        """Write a version, if nobody has written it yet.

        :param number: of the version: one more than that which was read.
        :param history: to be kept.
        :return: whether it was written; if not, somebody else was faster.
        """
        content = json.dumps(history.to_json(), separators=(",", ":")).encode()
        path = self._path(number)
        try:
            if self._protocol in _CREATING:
                self._asked(lambda: path.fs.pipe_file(path.path, content, mode="create"))
            else:
                _linked(str(getattr(path, "path", path)), content)
        except FileExistsError:
            return False
        return True

    def update(self, change: Callable[[History], History | None]) -> History:
        """Change the history, over and over until nobody was faster.

        :param change: returns the new one of what is there; ``None`` to leave it. It sees each version once.
        :return: what is there now.
        :raises Conflict: if others were faster each time.
        """
        for _ in range(_TRIES):
            number, history = self.read()
            changed = change(history)
            if changed is None:
                return history
            changed = changed.pruned(self.clock())
            if self.write(number + 1, changed):
                return changed
        raise Conflict("the remediator's history is changed by others all the time")

    def reset(self, scope: str, by: str) -> History:
        """Let a rule, or what is done about a deliverable, go on: a person has looked.

        :param scope: ``rule:NAME``, or ``DELIVERABLE@ENVIRONMENT``, or a mark. What is still being done goes on.
        :param by: who says so.
        :return: the history.
        """
        given = Reset(scope, self.clock().isoformat(), by)
        return self.update(lambda history: history.with_reset(given))

    def _newest(self) -> int:
        if self._protocol not in _CREATING and not self._asked(self.root.exists):
            # An empty history would allow everything anew.
            raise Unreachable(
                f"the folder of the remediator's history is not there: {self.root}",
                remedy="Make it once, by hand; if it was there, find out where it is.",
            )
        folders = self._numbers(self.root)
        for folder in sorted(folders, reverse=True):
            if files := self._numbers(self.root / f"{folder:06}"):
                return folder * _FOLDER + max(files)
        return 0

    def _numbers(self, folder: Any) -> list[int]:
        if (fs := getattr(folder, "fs", None)) is not None and hasattr(fs, "invalidate_cache"):
            fs.invalidate_cache()
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = self._asked(lambda: [path.name for path in folder.iterdir()])
        stems = (name.removesuffix(".json") for name in names)  # and no draft
        return [int(stem) for stem in stems if stem.isdecimal()]

    def _path(self, number: int) -> Any:
        return self.root / f"{number // _FOLDER:06}" / f"{number % _FOLDER:03}.json"

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (FileNotFoundError, FileExistsError):
            raise
        except PermissionError as error:
            raise SystemFailure(f"the remediator's history is not accessible: {error}") from error
        except OSError as error:
            raise Unreachable(f"the remediator's history cannot be reached: {error}") from error


def _creates(fs: Any) -> bool:
    """Whether the client of a store takes the mode that creates; an older one would let it be, and overwrite."""
    return "mode" in inspect.signature(getattr(fs, "_pipe_file", fs.pipe_file)).parameters


def _linked(path: str, content: bytes) -> None:
    """Create a file with its whole content, or find that it is there: a link is made in one step."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = f"{path}.{uuid.uuid4().hex}.draft"
    try:
        with open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise Unreachable(f"the remediator's history cannot be written: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
