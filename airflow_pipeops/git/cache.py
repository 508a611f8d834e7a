"""A local copy of a remote repository, shared by all tasks of a machine and safe to lose at any moment."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from airflow_pipeops.exceptions import SystemFailure, Unreachable
from airflow_pipeops.git.process import Git

_BROKEN = re.compile(
    r"not a git repository|bad object|object file .* is empty|loose object .* is corrupt|packfile .* (cannot|truncated)|"
    r"unable to read tree|missing blob object|did not send all necessary objects|invalid index-pack output",
    re.IGNORECASE,
)


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
            try:
                self._fetch(f"+refs/heads/{branch}:{ref}")
                return self.git.run("rev-parse", "--verify", ref, directory=self.directory).text
            except SystemFailure as error:
                if not _BROKEN.search(error.message):
                    raise
            # A machine that lost power may leave a broken copy. It is only a copy.
            shutil.rmtree(self.directory, ignore_errors=True)
            self._fetch(f"+refs/heads/{branch}:{ref}")
            return self.git.run("rev-parse", "--verify", ref, directory=self.directory).text

    def fetch_commit(self, sha: str) -> None:
        """Fetch one commit that is on no branch fetched so far; servers may refuse that."""
        with self._locked():
            self._fetch(f"+{sha}:refs/pipeops/commits/{sha}")

    def has_commit(self, sha: str) -> bool:
        """Whether the copy holds this commit."""
        if not self.directory.exists():
            return False
        output = self.git.run(
            "cat-file", "-e", f"{sha}^{{commit}}", directory=self.directory, accept=(0, 1, 128)
        )
        return output.code == 0

    def run(
        self,
        *arguments: str,
        accept: tuple[int, ...] = (0,),
        stdin: bytes = b"",
        extra: dict[str, str] | None = None,
    ) -> bytes:
        """Run git in the copy and return its output."""
        output = self.git.run(*arguments, accept=accept, stdin=stdin, directory=self.directory, extra=extra)
        return output.stdout

    def _fetch(self, refspec: str) -> None:
        self.prepare()
        self.git.run(
            "fetch", "--no-tags", "--no-write-fetch-head", "--quiet", "--", self.git.url, refspec,
            directory=self.directory,
        )  # fmt: skip

    def prepare(self) -> None:
        """Create the copy where there is none, and clear what a killed process left."""
        if not (self.directory / "HEAD").exists():
            self.git.run("init", "--bare", "--quiet", "--template=", str(self.directory))
        # We hold the only lock that counts: a lock file here is what a killed process left.
        for stale in (self.directory / "refs").rglob("*.lock"):
            stale.unlink(missing_ok=True)
        for name in ("packed-refs.lock", "shallow.lock", "config.lock"):
            (self.directory / name).unlink(missing_ok=True)

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
            deadline = time.monotonic() + 2 * self.git.timeout
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Unreachable(
                            "another task has been fetching this repository for too long"
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(handle)
