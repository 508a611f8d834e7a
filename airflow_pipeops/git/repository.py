"""One Git repository, by the git command line: read it, check it out, change it by commit and push."""

from __future__ import annotations

import contextlib
import functools
import posixpath
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from airflow_pipeops.base.arguments import matching
from airflow_pipeops.base.retries import aretried, retried
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, NotJudged
from airflow_pipeops.git.cache import Cache, Damaged, default_directory
from airflow_pipeops.git.checkout import checkout
from airflow_pipeops.git.commits import Change, Reverted, Writer, identity, told
from airflow_pipeops.git.credentials import Credentials, apart, repository_url, shown
from airflow_pipeops.git.process import Git
from airflow_pipeops.git.values.paths import repository_file

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHORT_SHA = re.compile(r"[0-9a-f]{7,63}")
_BRANCH = re.compile(r"(?![-./])(?!.*(?:\.\.|//|@\{|\.lock$|/\.|[./]$))[^\x00-\x20~^:?*\[\\\x7f]+")


@dataclass(frozen=True)
class Author:
    """Who writes the commits.

    :param name: shown by Git.
    :param email: shown by Git.
    """

    name: str = "airflow-pipeops"
    email: str = "airflow-pipeops@localhost"

    def __post_init__(self) -> None:
        for field, value in (("author_name", self.name), ("author_email", self.email)):
            if not value.strip() or re.search(r"[<>\x00-\x1f\x7f]", value):
                raise InvalidInput(
                    f"{field} {value!r} cannot be written into a commit",
                    field=field,
                    value=value,
                    remedy="Use plain text without angle brackets.",
                )


@dataclass(frozen=True)
class Commit:
    """What is known of a commit.

    :param sha: its full id.
    :param author: ``Name <email>``.
    :param subject: first line of its message.
    :param time: when it was committed, ISO-8601.
    :param parents: ids of its parents.
    """

    sha: str
    author: str
    subject: str
    time: str
    parents: tuple[str, ...]


Method = TypeVar("Method", bound=Callable[..., Any])


def _healing(method: Method) -> Method:
    """Let a method of the repository begin again with a new local copy, where the old one is damaged."""

    @functools.wraps(method)
    def healed(self: GitRepository, *args: Any, **kwargs: Any) -> Any:
        return self._cache.healed(lambda: method(self, *args, **kwargs))

    return cast(Method, healed)


class GitRepository:
    """A repository, and one branch of it.

    :param url: https, http, ssh or file URL, ``git@host:path``, or an absolute path.
    :param credentials: what opens it.
    :param branch: the branch that is read and written.
    :param author: who writes the commits.
    :param cache_dir: where local copies are kept; a directory of this user under the temporary directory by default.
    :param timeout: without progress, after which a call of git is ended.
    :param attempts: how often a call is tried while the repository is unreachable.
    :raises InvalidInput: for a URL or branch that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        branch: str = "main",
        author: Author | None = None,
        cache_dir: str | Path | None = None,
        timeout: timedelta = timedelta(seconds=60),
        attempts: int = 4,
    ) -> None:
        self.url, opening = apart(repository_url(url), credentials or Credentials())
        self.branch = branch_name(branch)
        self.author = author or Author()
        self.attempts = attempts
        self._git = Git(self.url, opening, timeout.total_seconds())
        self._cache = Cache(self._git, Path(cache_dir) if cache_dir else default_directory())

    def __repr__(self) -> str:
        return f"GitRepository({self.display_url!r}, branch={self.branch!r})"

    @property
    def display_url(self) -> str:
        """The URL without anything secret, for people and records."""
        return shown(self.url)

    # Read

    def tip(self, branch: str | None = None) -> str:
        """Ask the remote for the newest commit of a branch.

        :return: its full id.
        :raises NotFound: if there is no such branch.
        """
        name = branch_name(branch or self.branch)
        output = retried(lambda: self._git.run(*self._ls_remote(name), accept=(0, 2)), self.attempts)
        return self._tip_from(output.text, name)

    async def atip(self, branch: str | None = None) -> str:
        """Like :meth:`tip`, without blocking the event loop, and without trying again."""
        name = branch_name(branch or self.branch)
        output = await aretried(lambda: self._git.arun(*self._ls_remote(name), accept=(0, 2)), 1)
        return self._tip_from(output.text, name)

    @_healing
    def fetch(self, branch: str | None = None) -> str:
        """Bring the local copy up to date and return the tip."""
        name = branch_name(branch or self.branch)
        return retried(lambda: self._cache.fetch(name), self.attempts)

    @_healing
    def resolve(self, revision: str = "") -> str:
        """Find a commit.

        :param revision: a full or short commit id, a branch or a tag; empty for the tip of the branch.
        :return: its full id.
        :raises NotFound: if the repository has no such commit.
        """
        if not revision:
            return self.fetch()
        if _SHA.fullmatch(revision):
            self._ensure(revision)
            return revision
        name = branch_name(revision, field="revision")
        output = retried(
            lambda: self._git.run(
                "ls-remote", "--", self.url,
                f"refs/heads/{name}", f"refs/tags/{name}", f"refs/tags/{name}^{{}}",
            ),
            self.attempts,
        )  # fmt: skip
        refs: dict[str, str] = {}
        for line in output.text.splitlines():
            sha, _, ref = line.partition("\t")
            refs[ref] = sha
        for ref in (f"refs/heads/{name}", f"refs/tags/{name}^{{}}", f"refs/tags/{name}"):
            if ref in refs:
                self._ensure(refs[ref], branch=name if ref.startswith("refs/heads/") else None)
                return refs[ref]
        if _SHORT_SHA.fullmatch(name):
            self.fetch()
            found = self._cache.run(
                "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", accept=(0, 1, 128)
            )
            if found.strip():
                return found.decode().strip()
        raise self._no_commit(revision)

    @_healing
    def describe(self, revision: str) -> Commit:
        """Return who made a commit, when and why."""
        sha = self.resolve(revision)
        fields = "%H%x00%an <%ae>%x00%s%x00%cI%x00%P"
        output = self._cache.run("log", "-1", "--no-show-signature", f"--format={fields}", sha, "--")
        full, author, subject, time, parents = output.decode("utf-8", "replace").rstrip("\n").split("\0")
        # A newer Git writes Z for UTC, which Python 3.10 does not read.
        return Commit(full, author, subject, time.replace("Z", "+00:00"), tuple(parents.split()))

    @_healing
    def last_change(self, path: str, revision: str, *, of_lines: str = "", merged: bool = False) -> str:
        """Find the newest commit that changed files under a path.

        :param path: of a file or folder.
        :param revision: where to begin.
        :param of_lines: a regular expression of lines, one of which it must have added, changed or removed.
        :param merged: of what was changed on another branch, find the merge that brought it here.
        :return: the commit; empty if there is none.
        """
        how = [f"-G{of_lines}"] if of_lines else []
        how += ["--first-parent", "-m"] if merged else []
        sha = self.resolve(revision)
        output = self._cache.run("log", "-1", "--no-show-signature", "--format=%H", *how, sha, "--", path)
        return output.decode().strip()

    @_healing
    def read(self, file: str, revision: str = "") -> bytes:
        """Read a file at a revision.

        :return: its content.
        :raises NotFound: if there is none.
        """
        path = repository_file(file)
        sha = self.resolve(revision)
        return self._writer().content(sha, path)

    @_healing
    def tree(self, revision: str, folder: str = ".") -> str:
        """Find the id of a folder's content, which is the same for every commit in which the folder is the same.

        :param folder: path in the repository; the whole by default.
        :return: the id of its tree.
        :raises NotFound: if there is no such folder.
        """
        sha, path = self.resolve(revision), posixpath.normpath(folder)
        if path == ".":
            return self._cache.run("rev-parse", "--verify", f"{sha}^{{tree}}").decode().strip()
        listed = self._cache.run("ls-tree", "-d", "-z", "--full-tree", sha, "--", path)
        _, kind, found = (*listed.partition(b"\t")[0].decode().split(), "", "", "")[:3]
        if kind == "tree":
            return found
        raise NotFound(f"commit {sha[:12]} has no folder {folder!r}", remedy="Check its name.")

    @_healing
    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether one commit is contained in another (a commit contains itself)."""
        first, second = self.resolve(ancestor), self.resolve(descendant)
        return self._cache.is_ancestor(first, second)

    @_healing
    def demand_set(self, commit: str, live: str, change: Mapping[str, Any] | None = None) -> None:
        """Refuse a revision in which what a commit has set is not set any more.

        :param commit: the commit that was waited for.
        :param live: the revision that is live, which contains it.
        :param change: what the operator returned that wrote the commit: its values or the commit that it reverted count
            then, also where it had nothing to change. By default, what the commit changed.
        :raises NotJudged: naming what is lost, and the later commit.
        """
        first, second = self.resolve(commit), self.resolve(live)
        writer, given = self._writer(), change or {}
        if given.get("file") and isinstance(given.get("set"), Mapping):
            missing = writer.unset(repository_file(given["file"]), given["set"], second)
        elif given.get("reverts"):
            missing = writer.lost(self.resolve(given["reverts"]), second, undone=True)
        else:
            missing = writer.lost(first, second)
        if missing:
            raise NotJudged(
                f"{second[:12]} is live and contains {first[:12]}, but what that set is not set any more: "
                f"{told(missing)}; it was changed by {writer.later(first, second, missing)}",
                remedy="Nothing was released by this commit: look at the later one, or set the values anew.",
            )

    @_healing
    def paths_changed(self, old: str, new: str) -> tuple[str, ...]:
        """Return the files that differ between two commits, in order."""
        first, second = self.resolve(old), self.resolve(new)
        output = self._cache.run("diff-tree", "-r", "-z", "--no-renames", "--name-only", first, second, "--")
        return tuple(sorted(path.decode("utf-8", "replace") for path in output.split(b"\0") if path))

    @_healing
    def checkout(self, revision: str, dest: str | Path) -> str:
        """Write the tree of a commit into an empty or new directory, byte by byte, without a ``.git``.

        :return: the full id of the commit.
        :raises InvalidInput: if the directory is not empty, or the tree holds a link that leaves it.
        """
        sha, folder = self.resolve(revision), Path(dest)
        try:
            checkout(self._git, self._cache, sha, folder)
        except Damaged:
            for item in folder.iterdir() if folder.is_dir() else ():
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
            raise
        return sha

    def may_write(self) -> bool:
        """Ask the remote whether this credential may push, without pushing anything."""
        with tempfile.TemporaryDirectory(prefix="pipeops-git-") as scratch:
            self._git.run("init", "--bare", "--quiet", "--template=", scratch)
            output = self._git.run(
                "push", "--dry-run", "--no-verify", "--porcelain", "--", self.url, ":refs/heads/pipeops-check",
                accept=(0, 1, 128), directory=Path(scratch),
            )  # fmt: skip
        return output.code == 0 or "remote ref does not exist" in output.stderr + output.text

    @_healing
    def trailers(self, name: str) -> list[tuple[str, str]]:
        """Read a trailer of all commits of the branch.

        :param name: of the trailer.
        :return: the commits that have it, with its value, the newest first.
        """
        tip = self.fetch()
        output = self._cache.run(
            "log", "--no-show-signature", "-z",
            f"--format=%H %(trailers:key={name},valueonly,separator=%x0A)", tip, "--",
        )  # fmt: skip
        records = (record.partition(" ") for record in output.decode("utf-8", "replace").split("\0"))
        return [
            (sha, line.strip()) for sha, _, values in records for line in values.splitlines() if line.strip()
        ]

    # Write

    def begin(self, folder: Path, message: str) -> str:
        """Push the first commit of a branch that is not there yet.

        :param folder: with the files of the commit.
        :param message: of the commit.
        :return: the commit.
        :raises SystemFailure: also where somebody else began it meanwhile; nothing is overwritten.
        """
        with tempfile.TemporaryDirectory(prefix="pipeops-git-") as scratch:
            where = {"GIT_WORK_TREE": str(folder), **identity(self.author.name, self.author.email)}

            def git(*arguments: str) -> str:
                return self._git.run(*arguments, directory=Path(scratch), extra=where).text

            git("init", "--quiet", "--template=")
            git("add", "--all")
            git("commit", "--quiet", "--message", message)
            git("push", "--quiet", "--no-verify", "--", self.url, f"HEAD:refs/heads/{self.branch}")
            return git("rev-parse", "HEAD").strip()

    @_healing
    def commit_edit(
        self,
        file: str,
        values: Mapping[str, Any],
        message: str,
        *,
        key: str,
        order: int = 1,
        expect: Mapping[str, Any] | None = None,
        trailers: Mapping[str, str] | None = None,
    ) -> Change:
        """Set values of a YAML file by a commit on the branch; see :class:`Writer` for what is promised."""
        return self._writer().edit(
            repository_file(file), values, message,
            key=key, order=order, expect=expect or {}, trailers=trailers or {},
        )  # fmt: skip

    @_healing
    def revert(
        self,
        commit: str,
        reason: str,
        *,
        key: str,
        order: int = 1,
        trailers: Mapping[str, str] | None = None,
    ) -> Reverted:
        """Give the files that a commit touched the content they had before it; see :meth:`Writer.revert`."""
        return self._writer().revert(
            self.resolve(commit), reason, key=key, order=order, trailers=trailers or {}
        )

    # Helpers

    def _writer(self) -> Writer:
        return Writer(self._git, self._cache, self.branch, self.author.name, self.author.email)

    def _ls_remote(self, branch: str) -> tuple[str, ...]:
        return ("ls-remote", "--exit-code", "--", self.url, f"refs/heads/{branch}")

    def _tip_from(self, text: str, branch: str) -> str:
        for line in text.splitlines():
            sha, _, ref = line.partition("\t")
            if ref == f"refs/heads/{branch}" and _SHA.fullmatch(sha):
                return sha
        raise NotFound(
            f"{self.display_url} has no branch {branch!r}",
            remedy="Create the branch with a first commit, or correct the branch of the connection.",
        )

    def _ensure(self, sha: str, branch: str | None = None) -> None:
        """Bring a commit into the local copy."""
        if self._cache.has_commit(sha):
            return
        if branch is None or branch == self.branch:
            self.fetch()
        else:
            self.fetch(branch)
        if self._cache.has_commit(sha):
            return
        with contextlib.suppress(NotFound, AccessDenied):  # said below, in the words of who asked
            retried(lambda: self._cache.fetch_commit(sha), self.attempts)
        if not self._cache.has_commit(sha):
            raise self._no_commit(sha)

    def _no_commit(self, revision: str) -> NotFound:
        return NotFound(
            f"{self.display_url} has no commit {revision!r}",
            remedy="Check that it was pushed, and to this repository.",
        )


def branch_name(branch: str, *, field: str = "branch") -> str:
    """Return the name of a branch, or refuse it."""
    remedy = "Use the plain name, such as main, without refs/heads/ in front."
    return matching(field, branch, _BRANCH, "a name that Git allows", remedy)
