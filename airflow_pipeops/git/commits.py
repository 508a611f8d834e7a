"""The write loop: one commit for one act, whatever dies, and nobody else's change lost."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.base.retries import pause
from airflow_pipeops.exceptions import AccessDenied, Conflict, InvalidInput, NotFound, Unreachable
from airflow_pipeops.git.cache import Cache
from airflow_pipeops.git.credentials import PASSPHRASE, shown
from airflow_pipeops.git.process import Git, Output
from airflow_pipeops.git.values.edits import get_values, set_values
from airflow_pipeops.git.values.standing import differing, lost
from airflow_pipeops.git.values.undo import undo

log = logging.getLogger(__name__)

#: The trailer that ties a commit to the act of one task.
KEY_TRAILER = "PipeOps-Key"
#: How far back the key of an earlier attempt is looked for, in commits of the branch.
HISTORY = 5000
#: How often others may be faster, and how often the network may fail, before we give up.
MAX_CONFLICTS, MAX_FAILURES = 40, 4
#: How often in a row the server may say that the branch is locked.
MAX_LOCKED = 12

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_RACE = re.compile(
    r"non-fast-forward|fetch first|stale info|cannot lock ref|failed to update ref|incorrect old value|needs force|"
    r"reference already exists|failed to lock",
    re.IGNORECASE,
)
_LOCK = re.compile(r"Unable to create '[^']*\.lock': File exists")


@dataclass(frozen=True)
class Change:
    """The outcome of an edit.

    :param commit: the commit that made it; where nothing had to change, the tip.
    :param changed: whether this act made a commit, now or in an earlier attempt.
    :param previous: the old value by path.
    :param reused: whether the commit was found, made by an earlier attempt of the same act.
    """

    commit: str
    changed: bool
    previous: dict[str, Any] = field(default_factory=dict)
    reused: bool = False


@dataclass(frozen=True)
class Reverted:
    """The outcome of a revert.

    :param commit: the commit that made it; where all was restored already, the tip.
    :param changed: whether this act made a commit, now or in an earlier attempt.
    :param restored: files whose content of before is back.
    :param reused: whether the commit was found, made by an earlier attempt of the same act.
    """

    commit: str
    changed: bool
    restored: tuple[str, ...] = ()
    reused: bool = False


@dataclass(frozen=True)
class Act:
    """What one task does to a branch, however often it is tried.

    :param key: of the act.
    :param order: 1 when it was first ordered, and higher for each time that a person had it done again.
    """

    key: str
    order: int = 1

    @property
    def trailer(self) -> str:
        """What its commit says of it."""
        return self.key if self.order <= 1 else f"{self.key} order {self.order}"

    def order_of(self, trailer: str) -> int:
        """Return which order of this act a commit is of; 0 for another act."""
        key, _, order = trailer.partition(" order ")
        if key != self.key:
            return 0
        return int(order) if order.isascii() and order.isdigit() else 1


@dataclass(frozen=True)
class Entry:
    """A file in a tree.

    :param mode: its file mode in octal digits, for example ``100644``; ``0`` where there is no file.
    :param blob: id of its content; zeros where there is no file.
    """

    mode: str
    blob: str


_ABSENT = Entry("0", "0" * 40)


@dataclass(frozen=True)
class _Plan:
    """What to write on top of a tip.

    :param entries: the files to write, by path; none where nothing has to change.
    :param previous: the values that were there before, by path.
    """

    entries: dict[str, Entry]
    previous: dict[str, Any] = field(default_factory=dict)


def identity(name: str, email: str) -> dict[str, str]:
    """Return the environment by which git knows who makes a commit."""
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }


class Writer:
    """Writes to one branch.

    Each turn fetches the tip, looks for the commit of an earlier attempt of the same act, applies the change to the
    *fresh* tip, commits and pushes without force. If somebody else was faster, or nobody knows whether the push arrived,
    it takes another turn. So an act makes at most one commit, and never undoes anybody else's.

    A commit that is found is taken for the act's own only while what it set still stands at the tip. Where somebody has
    changed that since, an act that was ordered anew (its ``order`` is higher: a person cleared the task) is written anew,
    and a mere further attempt fails and names the later commit.

    :param git: runs git.
    :param cache: the local copy.
    :param branch: the branch to write.
    :param name: of the author.
    :param email: of the author.
    """

    def __init__(self, git: Git, cache: Cache, branch: str, name: str, email: str) -> None:
        self._git, self._cache, self._branch = git, cache, branch
        self._locked_out = 0
        self._identity = identity(name, email)

    def edit(
        self,
        file: str,
        values: Mapping[str, Any],
        message: str,
        *,
        key: str,
        order: int,
        expect: Mapping[str, Any],
        trailers: Mapping[str, str],
    ) -> Change:
        """Set values of a YAML file.

        :param key: names the act; the same key with the same file and values is the same act, and makes one commit.
        :param order: of several orders to do the same, which one this is.
        :param expect: values that the file must have, by path, or nothing is written.
        :return: the commit, and what it changed.
        :raises InvalidInput: if the edit is not possible, ``expect`` does not hold, or what an earlier attempt set was
            changed since.
        :raises NotFound: if there is no such branch or file.
        :raises AccessDenied: if the remote refuses the commit.
        :raises Conflict: if others were faster each time.
        """
        not_empty("set", values, "there is no value to set", "Give at least one path and value.")
        act = Act(act_key(key, ["edit", self._branch, file, dict(values)]), order)

        def plan(tip: str) -> _Plan:
            return self._plan_edit(tip, file, values, expect)

        def gone(_: str, tip: str) -> dict[str, list[str]]:
            return self.unset(file, values, tip)

        commit, done, reused = self._write(act, message, trailers, plan, gone)
        if reused:
            done = _Plan({}, self._previous(commit, file, values))
        return Change(commit, reused or bool(done.entries), done.previous, reused)

    def revert(
        self, commit: str, reason: str, *, key: str, order: int, trailers: Mapping[str, str]
    ) -> Reverted:
        """Give every file that a commit touched the content which it had before.

        A file that was changed again since gets back the values, keys and items that the commit set, added or removed, if
        each of them still stands; what somebody changed later is not thrown away.

        :param commit: full id of a commit on the branch.
        :return: the commit, and what it restored.
        :raises InvalidInput: if it is not on the branch, is its first commit, or a file was changed since.
        """
        act = Act(act_key(key, ["revert", self._branch, commit]), order)
        subject = self._cache.run("log", "-1", "--format=%s", commit, "--").decode("utf-8", "replace").strip()
        why = reason.strip() or "No reason was given."
        message = f"Revert {commit[:12]}: {subject}\n\n{why}\n\nThis restores what was there before {commit}."
        restored: tuple[str, ...] = ()

        def plan(tip: str) -> _Plan:
            nonlocal restored
            made = self._plan_revert(tip, commit)
            restored = tuple(sorted(made.entries))
            return made

        found, done, reused = self._write(act, message, trailers, plan, self.lost)
        if reused:
            restored = tuple(sorted(self._touched(found)))
        return Reverted(found, reused or bool(done.entries), restored, reused)

    def content(self, commit: str, file: str) -> bytes:
        """Read a file in a commit.

        :return: its content.
        :raises NotFound: if there is no such file.
        :raises InvalidInput: if it is a link, a directory or a submodule.
        """
        entry = self._files(commit, [file]).get(file)
        if entry is None:
            raise NotFound(
                f"the repository has no file {file!r} at {commit[:12]}",
                remedy="Check the path, from the top of the repository and with the right case.",
            )
        if entry.mode not in ("100644", "100755"):
            kind = {"120000": "a symbolic link", "160000": "a submodule", "040000": "a directory"}.get(
                entry.mode
            )
            raise InvalidInput(
                f"{file!r} is {kind or 'not a file'}",
                field="file",
                value=file,
                remedy="Name the file itself.",
            )
        return self._cache.run("cat-file", "blob", entry.blob)

    def lost(self, commit: str, now: str, *, undone: bool = False) -> dict[str, list[str]]:
        """Find what a commit has set, and what is not set in another commit.

        :param commit: full id.
        :param now: full id of the commit in question.
        :param undone: ask about what a revert of the commit has set.
        :return: values or lines, by file; empty where all that it set stands.
        """
        touched = self._touched(commit, root=True)
        there = self._files(now, list(touched))
        found = {}
        for path, (before, after) in touched.items():
            old, new, seen = before, after, there.get(path, _ABSENT)
            if undone:
                old, new = new, old
            if seen != new and (gone := lost(*(self._blob(entry) for entry in (old, new, seen)))):
                found[path] = gone
        return found

    def unset(self, file: str, values: Mapping[str, Any], now: str) -> dict[str, list[str]]:
        """Find which values are others in a commit, in the form of :meth:`lost`."""
        try:
            gone = differing(values, get_values(self._text(now, file), values))
        except (InvalidInput, NotFound) as error:
            gone = [error.message]
        return {file: gone} if gone else {}

    def later(self, commit: str, now: str, files: Iterable[str]) -> str:
        """Name the newest commit after another one that touched one of these files."""
        output = self._cache.run("log", "-1", "--format=%h (%s)", f"{commit}..{now}", "--", *files)
        return output.decode("utf-8", "replace").strip() or "a later commit"

    def _blob(self, entry: Entry) -> bytes | None:
        if entry == _ABSENT:
            return None
        if entry.mode == "160000":  # a submodule: its commit is all there is of it
            return entry.blob.encode()
        return self._cache.run("cat-file", "blob", entry.blob)

    def _write(
        self,
        act: Act,
        message: str,
        trailers: Mapping[str, str],
        plan: Callable[[str], _Plan],
        gone: Callable[[str, str], dict[str, list[str]]],
    ) -> tuple[str, _Plan, bool]:
        """Return the commit, what it was made from, and whether an earlier attempt made it."""
        text = commit_message(message, {**trailers, KEY_TRAILER: act.trailer})
        conflicts = failures = 0
        while True:
            try:
                tip = self._cache.fetch(self._branch)
                earlier, order = self._find(tip, act)
                if earlier and not (missing := gone(earlier, tip)):
                    log.info("The commit of an earlier attempt is there: %s", earlier)
                    return earlier, _Plan({}), True
                if earlier and order >= act.order:
                    raise self._taken_back(earlier, tip, missing)
                planned = plan(tip)
                if not planned.entries:
                    return tip, planned, False
                commit = self._commit(tip, planned.entries, text)
                if self._push(commit):
                    return commit, planned, False
                conflicts += 1
                if conflicts >= MAX_CONFLICTS:
                    raise Conflict(
                        f"branch {self._branch!r} moved on {conflicts} times while we tried to write to it",
                        remedy="Try again when fewer tasks write to it.",
                    )
                time.sleep(pause(min(conflicts, 5), base=0.05, longest=1.0))
            except Unreachable:
                # Nobody knows whether a push arrived: the next turn looks for it by its key.
                failures += 1
                if failures >= MAX_FAILURES:
                    raise
                time.sleep(pause(failures - 1))

    def _push(self, commit: str) -> bool:
        """Push without force. False if the branch moved on meanwhile."""
        output = self._git.run(
            "push", "--no-verify", "--porcelain", "--progress", "--", self._git.url, f"{commit}:refs/heads/{self._branch}",
            accept=(0, 1), directory=self._cache.directory,
        )  # fmt: skip
        if output.code == 0:
            return True
        refused = next((line for line in output.text.splitlines() if line.startswith("!")), "")
        if _RACE.search(refused):
            # Another push holds the lock for a moment; one that was killed left it for ever.
            self._locked_out = self._locked_out + 1 if _LOCK.search(output.stderr) else 0
            if self._locked_out >= MAX_LOCKED:
                raise Conflict(
                    f"the server cannot lock the branch {self._branch!r}: {' '.join(output.stderr.split())[-600:]}",
                    remedy="If no push is under way, remove the lock file that it names on the server.",
                )
            return False
        if "[remote rejected]" in refused or "[rejected]" in refused:
            raise self._refused(refused, output)
        failure = self._git.failure("push", output)
        failure.with_copy = "remote:" not in output.stderr and "remote error" not in output.stderr  # type: ignore[attr-defined]
        raise failure

    def _refused(self, line: str, output: Output) -> AccessDenied:
        reason = line.rpartition("\t")[2]
        said = " ".join(
            part.removeprefix("remote:").strip()
            for part in output.stderr.splitlines()
            if part.startswith("remote:")
        )
        return AccessDenied(
            f"the remote refused the commit to {self._branch!r}: {shown(reason)} {said[:600]}".rstrip(),
            remedy="Allow this account to push to the branch, or satisfy the rule that the server names.",
        )

    def _find(self, tip: str, act: Act) -> tuple[str, int]:
        """Return the commit that carries the key of this act, of its newest order, and that order; or none, and 0."""
        output = self._cache.run(
            "log", f"--max-count={HISTORY}", "--no-show-signature", "-z",
            f"--format=%H %(trailers:key={KEY_TRAILER},valueonly,separator=%x0A)", tip, "--",
        )  # fmt: skip
        found = ("", 0)
        for record in output.decode("utf-8", "replace").split("\0"):
            sha, _, keys = record.partition(" ")
            order = max((act.order_of(line.strip()) for line in keys.splitlines()), default=0)
            if order > found[1]:
                found = (sha, order)
        return found

    def _taken_back(self, commit: str, tip: str, missing: Mapping[str, list[str]]) -> InvalidInput:
        return InvalidInput(
            f"{commit[:12]} of an earlier attempt is on branch {self._branch!r}, but what it set was changed since by "
            f"{self.later(commit, tip, missing)}: {told(missing)}; a further attempt does not undo that",
            field="commit",
            value=commit,
            remedy="Clear the task if it shall be set again.",
        )

    def _commit(self, tip: str, entries: Mapping[str, Entry], message: str) -> str:
        """Write a commit object on top of a tip; it is nowhere but in the local copy."""
        index_info = b"".join(
            f"{entry.mode} {entry.blob}\t{path}".encode() + b"\0" for path, entry in entries.items()
        )
        with tempfile.TemporaryDirectory(prefix="pipeops-git-") as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            self._cache.run("read-tree", tip, extra=index)
            self._cache.run("update-index", "-z", "--index-info", stdin=index_info, extra=index)
            tree = self._cache.run("write-tree", extra=index).decode().strip()
        opened = self._git.credentials
        output = self._git.run(
            "commit-tree", *(["-S"] if opened.signing_private_key else []), tree, "-p", tip, "-F", "-",
            stdin=message.encode(), extra={**self._identity, PASSPHRASE: opened.signing_private_key_passphrase},
            directory=self._cache.directory,
        )  # fmt: skip
        return output.text.strip()

    def _plan_edit(self, tip: str, file: str, values: Mapping[str, Any], expect: Mapping[str, Any]) -> _Plan:
        text = self._text(tip, file)
        edit = set_values(text, values)
        if not edit.changed:
            return _Plan({}, edit.previous)
        for path, found in get_values(text, expect).items():
            if type(found) is not type(expect[path]) or found != expect[path]:
                raise InvalidInput(
                    f"{file}: {path} is {found!r} and not {expect[path]!r} as expected; nothing was written",
                    field="expect",
                    value=expect[path],
                    remedy="Somebody changed it meanwhile: look at the file's history, then decide again.",
                )
        blob = self._cache.run("hash-object", "-w", "--stdin", stdin=edit.text.encode()).decode().strip()
        return _Plan({file: Entry(self._files(tip, [file])[file].mode, blob)}, edit.previous)

    def _previous(self, commit: str, file: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return get_values(self._text(f"{commit}^", file), values)

    def _text(self, commit: str, file: str) -> str:
        try:
            return self.content(commit, file).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"{file!r} is not UTF-8 text", field="file", value=file, remedy="Save the file as UTF-8."
            ) from error

    def _plan_revert(self, tip: str, commit: str) -> _Plan:
        if not self._cache.is_ancestor(commit, tip):
            raise InvalidInput(
                f"the commit {commit[:12]} is not on branch {self._branch!r}",
                field="commit",
                value=commit,
                remedy="Name a commit of this branch.",
            )
        touched = self._touched(commit)
        now = self._files(tip, list(touched))
        entries = {}
        for path, (before, after) in touched.items():
            current = now.get(path, _ABSENT)
            if current == before:
                continue
            if current == after:
                entries[path] = before
                continue
            if (restored := self._undone(before, after, current)) is None:
                raise self._changed_since(tip, commit, path)
            if restored != current:
                entries[path] = restored
        return _Plan(entries)

    def _undone(self, before: Entry, after: Entry, current: Entry) -> Entry | None:
        """Return a file that was changed again, with the values of before; ``None`` where it is not to be told apart."""
        if not before.mode == after.mode == current.mode or before.mode not in ("100644", "100755"):
            return None
        try:
            texts = [self._cache.run("cat-file", "blob", it.blob).decode() for it in (before, after, current)]
        except UnicodeDecodeError:
            return None
        text = undo(*texts)
        if text is None:
            return None
        blob = self._cache.run("hash-object", "-w", "--stdin", stdin=text.encode()).decode().strip()
        return Entry(current.mode, blob)

    def _touched(self, commit: str, *, root: bool = False) -> dict[str, tuple[Entry, Entry]]:
        """Return each file that a commit touched, as it was before and after; for a merge, against the first parent.

        :param root: of the first commit, too, which touched all its files.
        """
        parents = self._cache.run("rev-parse", f"{commit}^@").split()
        if not parents and root:
            parents = [self._cache.run("mktree").strip()]  # an empty tree
        if not parents:
            raise InvalidInput(
                f"{commit[:12]} is the first commit: there is nothing before it",
                field="commit",
                value=commit,
                remedy="Name a later commit.",
            )
        raw = self._cache.run(
            "diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", parents[0].decode(), commit, "--"
        )
        parts = raw.split(b"\0")
        touched = {}
        for head, path in zip(parts[::2], parts[1::2], strict=False):
            mode_before, mode_after, before, after, _ = head.decode().lstrip(":").split()
            touched[path.decode("utf-8", "surrogateescape")] = (
                Entry(mode_before.lstrip("0") or "0", before),
                Entry(mode_after.lstrip("0") or "0", after),
            )
        return touched

    def _files(self, commit: str, paths: list[str]) -> dict[str, Entry]:
        if not paths:
            return {}
        raw = self._cache.run("ls-tree", "-z", "--full-tree", commit, "--", *paths)
        found = {}
        for line in filter(None, raw.split(b"\0")):
            head, _, path = line.partition(b"\t")
            mode, _, blob = head.decode().split()
            found[path.decode("utf-8", "surrogateescape")] = Entry(mode, blob)
        return found

    def _changed_since(self, tip: str, commit: str, path: str) -> InvalidInput:
        named = self.later(commit, tip, [path])
        return InvalidInput(
            f"{commit[:12]} cannot be reverted: {path} was changed again by {named}",
            field="commit",
            value=commit,
            remedy="Revert the newer commit first, or set the values that you want by a new change.",
        )


def act_key(key: str, act: Any) -> str:
    """Return the key of an act: who does it, and a digest of what is done, so that another act has another key."""
    content = json.dumps([key, act], sort_keys=True, separators=(",", ":")).encode()
    return f"{_CONTROL.sub(' ', key).strip()}#{hashlib.sha256(content).hexdigest()[:16]}"


def commit_message(message: str, trailers: Mapping[str, str]) -> str:
    """Return a commit message that ends with its trailers."""
    body = message.replace("\0", "").strip()
    not_empty("message", body, "the commit message is empty", "Say why the change is made.")
    lines = [f"{name}: {_CONTROL.sub(' ', str(value)).strip()}" for name, value in trailers.items()]
    return body + "\n\n" + "\n".join(lines) + "\n"


def told(missing: Mapping[str, list[str]]) -> str:
    """Return what is not set any more, in one line."""
    return "; ".join(f"{file}: {', '.join(what[:5])}" for file, what in list(missing.items())[:5])
