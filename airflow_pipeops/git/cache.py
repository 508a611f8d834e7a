"""A local copy of a remote repository, shared by all tasks of a machine and safe to lose at any moment."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from airflow_pipeops.exceptions import AccessDenied, Conflict, NotFound, SystemFailure, Unreachable
from airflow_pipeops.git.credentials import shown
from airflow_pipeops.git.process import Git

log = logging.getLogger(__name__)

_ANY = tuple(range(256))
_COMPLAINT = re.compile(r"^(error|fatal): ", re.MULTILINE)

Result = TypeVar("Result")


class Damaged(SystemFailure):
    """The local copy cannot be used."""


def default_directory() -> Path:
    """Return this user's own directory for copies."""
    return Path(tempfile.gettempdir()) / f"pipeops-git-cache-{os.getuid()}"


class Cache:
    """A bare copy. It has no working tree, so nothing of the repository's content is ever run, followed or converted.

    :param git: runs git for the repository.
    :param root: where copies are kept.
    """

    def __init__(self, git: Git, root: Path) -> None:
        self.git = git
        self.directory = root / hashlib.sha256(git.url.encode()).hexdigest()[:24]
        self._lock = root / f"{self.directory.name}.lock"

    def fetch(self, branch: str) -> str:
        """Bring a branch up to date.

        :return: its newest commit.
        :raises NotFound: if there is no such branch.
        """
        ref = f"refs/pipeops/heads/{branch}"
        with self._locked():
            self._fetch(f"+refs/heads/{branch}:{ref}")
            return self.run("rev-parse", "--verify", f"{ref}^{{commit}}").decode().strip()

    def healed(self, act: Callable[[], Result]) -> Result:
        """Do something with the copy; where the copy is damaged, make it anew and do it once more.

        A machine that lost power, a full disk or a curious person may leave anything in its place. It is only a copy.

        :param act: what may be done twice.
        :return: what it returns.
        :raises Damaged: naming the folder, if the new copy cannot be used either.
        """
        before = self._identity()
        try:
            return act()
        except (SystemFailure, OSError) as error:
            if not self._is_at_fault(error):
                raise
            log.warning("The local copy in %s is damaged, and made anew: %s", self.directory, error)
        with self._locked():
            if self._identity() == before:  # else another task was faster
                self._remove()
        try:
            return act()
        except (Damaged, OSError) as error:
            raise Damaged(
                f"the local copy of the repository in {self.directory} cannot be used: {error}",
                remedy="Look at that folder, its owner and the space on its disk; it can be removed at any time.",
            ) from error

    def _is_at_fault(self, error: Exception) -> bool:
        """Whether the copy, and not the remote, is the cause: the remote is asked without the copy, if need be."""
        if isinstance(error, (Damaged, OSError)):
            return True
        if isinstance(error, (AccessDenied, Conflict)) or not getattr(error, "with_copy", False):
            return False
        if isinstance(error, Unreachable):  # the words of a torn line are those of a broken pack, too
            check = ("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
            output = self.git.run(*check, directory=self.directory, accept=_ANY)
            return output.code != 0
        if not isinstance(error, NotFound):
            return True
        if re.search(r"remote ref|not our ref|unadvertised", error.message):
            return False
        return self.git.run("ls-remote", "--", self.git.url, accept=_ANY).code == 0

    def _identity(self) -> int:
        try:
            return self.directory.stat().st_ino
        except OSError:
            return 0

    def _remove(self) -> None:
        if self.directory.is_dir() and not self.directory.is_symlink():
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            self.directory.unlink(missing_ok=True)

    def fetch_commit(self, sha: str) -> None:
        """Fetch one commit that is on no branch fetched so far; servers may refuse that.

        :raises NotFound: if the server does not know it, or refuses.
        """
        with self._locked():
            self._fetch(f"+{sha}:refs/pipeops/commits/{sha}")

    def has_commit(self, sha: str) -> bool:
        """Whether the copy holds this commit."""
        if not self.directory.exists():
            return False
        output = self.git.run(
            "cat-file", "-e", f"{sha}^{{commit}}", directory=self.directory, accept=(0, 1, 128)
        )
        if output.code and "Not a valid object name" not in output.stderr:
            raise Damaged(f"the local copy in {self.directory} cannot be read: {output.stderr}")
        return output.code == 0

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether one commit is contained in another; the copy must hold both."""
        base = self.run("merge-base", ancestor, descendant, accept=(0, 1))
        return base.decode().strip() == ancestor

    def run(
        self,
        *arguments: str,
        accept: tuple[int, ...] = (0,),
        stdin: bytes = b"",
        extra: dict[str, str] | None = None,
    ) -> bytes:
        """Run git in the copy, without the remote.

        :return: what it wrote.
        :raises Damaged: if it fails, in git's own words.
        """
        output = self.git.run(*arguments, accept=_ANY, stdin=stdin, directory=self.directory, extra=extra)
        # Some commands complain about an object that they cannot read, and answer as if it were not part of the history.
        silent = 128 in accept or not _COMPLAINT.search(output.stderr)
        if output.code not in accept or not silent:
            said = " ".join(output.stderr.split())[-600:] or f"exit status {output.code}"
            raise Damaged(f"git {arguments[0]} failed in the local copy {self.directory}: {said}")
        return output.stdout

    def _fetch(self, refspec: str) -> None:
        self.prepare()
        try:
            self.git.run(
                "fetch", "--no-tags", "--no-write-fetch-head", "--quiet", "--progress", "--", self.git.url, refspec,
                directory=self.directory, tell=self._touch,
            )  # fmt: skip
        except SystemFailure as error:
            error.with_copy = True  # type: ignore[attr-defined]
            self._sweep()  # what was fetched so far is of no use, and may fill the disk attempt by attempt
            raise

    def prepare(self) -> None:
        """Create the copy where there is none, and clear what a killed process left."""
        if not (self.directory / "HEAD").exists():
            self._remove()
            output = self.git.run(
                "init", "--bare", "--quiet", "--template=", str(self.directory), accept=_ANY
            )
            if output.code:
                raise Damaged(f"git cannot make {self.directory}: {' '.join(output.stderr.split())[-600:]}")
        self._sweep()
        # We hold the only lock that counts: a lock file here is what a killed process left.
        for stale in (self.directory / "refs").rglob("*.lock"):
            stale.unlink(missing_ok=True)
        for name in ("packed-refs.lock", "shallow.lock", "config.lock"):
            (self.directory / name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what ended fetches left; they run under our lock, so nobody is at work on it."""
        objects = self.directory / "objects"
        for left in [
            *(objects / "pack").glob("tmp_*"),
            *objects.glob("tmp_objdir-*"),
            *objects.glob("incoming-*"),
        ]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def _touch(self) -> None:
        """Show those who wait for the lock that its holder makes progress."""
        with contextlib.suppress(OSError):
            os.utime(self._lock)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = self._lock.parent.stat()
        if owner.st_uid != os.getuid():
            raise SystemFailure(
                f"the directory {self._lock.parent} belongs to another user",
                remedy="Remove it, or give this process a TMPDIR of its own.",
            )
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            since = time.time()
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.time() - max(since, os.fstat(handle).st_mtime) > 2 * self.git.timeout:
                        raise Unreachable(
                            f"another task fetches {shown(self.git.url)}, and makes no progress"
                        ) from None
                    time.sleep(0.02)
            self._touch()
            yield
        finally:
            os.close(handle)
