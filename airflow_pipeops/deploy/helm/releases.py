"""The history of a release, as Helm keeps it in Secrets, and what is to be done about it. All of it is pure.

Helm's state *is* its lock: a revision that is ``pending-*`` keeps everybody out, and nothing ends that when the Helm that
wrote it was killed. So each revision of ours carries labels that say which task it is of, and a later attempt finds it.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from airflow_pipeops.base.documents import map_, parsed, text, whole
from airflow_pipeops.exceptions import BadResponse

#: Names that Helm takes for a release.
NAME = re.compile(r"(?=.{1,53}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
#: Label of a revision: which order to run which task; a retry is of the same, a clearing of another.
ORDER = "pipeops-order"
#: Label of a revision: which task of which run.
TASK = "pipeops-task"

#: Label of a revision: its own number. Helm hands labels on to later revisions of others, which have another number.
NUMBER = "pipeops-revision"
#: Label of a revision: the DAG that made it, for people.
DAG = "pipeops-dag"
#: Label of a revision: the commit that it is of.
COMMIT = "pipeops-commit"
#: Label of a revision that was judged as failed, whatever Helm thinks of it: its own number.
FAILED = "pipeops-failed"
_NONE = "none"
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

#: Statuses of a revision that a rollback may return to.
GOOD = ("deployed", "superseded")
#: What a release unpacks to at most, in bytes: a Secret holds one megabyte, packed.
_MOST = 64 * 1024**2

Action = Literal["act", "attach", "wait", "roll_back", "uninstall", "undone", "refuse"]


@dataclass(frozen=True)
class Revision:
    """One revision of a release.

    :param number: 1 for the first.
    :param status: ``deployed``, ``superseded``, ``failed``, ``pending-upgrade`` and so on.
    :param description: what Helm or a person said about it.
    :param at: when it was begun, in seconds since 1970; 0 where that is not told.
    :param labels: those that are not Helm's own.
    :param chart: name of its chart.
    :param version: of its chart.
    :param manifest: what was rendered, without hooks.
    :param hooks: the manifests of its hooks.
    """

    number: int
    status: str
    description: str = ""
    at: float = 0.0
    labels: Mapping[str, str] | None = None
    chart: str = ""
    version: str = ""
    manifest: str = ""
    hooks: tuple[str, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether it keeps everybody else out."""
        return self.status.startswith("pending-")

    def label(self, name: str) -> str:
        """Return a label; empty where it is not set."""
        return (self.labels or {}).get(name, "")

    @property
    def labelled_itself(self) -> bool:
        """Whether its labels are about itself, and were not handed on by Helm from an earlier revision."""
        return self.label(NUMBER) == str(self.number)

    @property
    def returns_to(self) -> int:
        """The revision that it rolls back to; 0 for one that is no rollback."""
        found = re.match(r"Rollback to (\d{1,9})(?!\d)", self.description)
        return int(found[1]) if found and int(found[1]) < self.number else 0

    @property
    def good(self) -> bool:
        """Whether a rollback may return to it."""
        return self.status in GOOD and self.label(FAILED) != str(self.number)

    def made_by(self, ours: Ours) -> bool:
        """Whether a task made it."""
        return self.label(TASK) == ours.task and self.labelled_itself


@dataclass(frozen=True)
class Ours:
    """How a task finds again what it did.

    :param order: value of the label :data:`ORDER`.
    :param task: value of the label :data:`TASK`.
    :param patience: seconds for which one run of Helm may last.
    :param dag: id of its DAG, for people.
    :param commit: that it releases; empty for none.
    """

    order: str
    task: str
    patience: float
    dag: str = ""
    commit: str = ""

    def labels(self, number: int) -> dict[str, str]:
        """Write the labels that a revision of it bears.

        :param number: that the revision will have.
        :return: the labels.
        """
        dag = re.sub(r"[^A-Za-z0-9_.-]", "_", self.dag)[:63].strip("_.-")
        # Said also where there is none: Helm would hand on that of the revision before.
        commit = self.commit if _LABEL.fullmatch(self.commit) else _NONE
        return {ORDER: self.order, TASK: self.task, NUMBER: str(number), DAG: dag, COMMIT: commit}


@dataclass(frozen=True)
class Recovery:
    """What is to be done about a release.

    :param action: ``act`` (nothing is in the way), ``attach`` (our own revision is there), ``wait`` (our own Helm may still
        run), ``roll_back`` or ``uninstall`` (ours, and its Helm is dead), ``undone`` (ours was rolled back since), or
        ``refuse`` (somebody else holds it).
    :param reason: why, in a sentence.
    :param revision: which one is meant; with ``roll_back`` that to which.
    :param seconds: how long to wait, with ``wait``.
    :param remedy: what a person does about it, where that is not the usual.
    """

    action: Action
    reason: str
    revision: int = 0
    seconds: float = 0.0
    remedy: str = ""


def label_of(key: str) -> str:
    """Return the value of a label for a key of a task, which may be longer than a label, and of any characters."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def history_of(secrets: Iterable[Mapping[str, Any]]) -> tuple[Revision, ...]:
    """Read the revisions of a release out of the Secrets that Helm keeps them in.

    :param secrets: those with the labels ``owner=helm`` and ``name``.
    :return: the revisions, the oldest first.
    :raises BadResponse: for one that cannot be read.
    """
    return tuple(sorted((_revision(secret) for secret in secrets), key=lambda one: one.number))


def _revision(secret: Mapping[str, Any]) -> Revision:
    metadata = map_(secret.get("metadata"))
    labels = {str(key): str(value) for key, value in map_(metadata.get("labels")).items()}
    try:
        release = map_(parsed(_unpacked(text(map_(secret.get("data")).get("release")))))
        number = whole(release.get("version")) or int(labels.get("version", ""))
    except (ValueError, binascii.Error, OSError, EOFError, zlib.error) as error:
        raise BadResponse(
            f"the Secret {text(metadata.get('name'))} holds no release of Helm ({error})"
        ) from error
    info, chart = map_(release.get("info")), map_(map_(release.get("chart")).get("metadata"))
    hooks = release.get("hooks") if isinstance(release.get("hooks"), list) else []
    return Revision(
        number,
        text(info.get("status")) or labels.get("status", "unknown"),
        text(info.get("description")),
        _seconds(text(info.get("last_deployed"))),
        {key: value for key, value in labels.items() if key not in _HELMS},
        text(chart.get("name")),
        text(chart.get("version")),
        text(release.get("manifest")),
        tuple(text(map_(hook).get("manifest")) for hook in hooks or ()),
    )


_HELMS = ("name", "owner", "status", "version", "createdAt", "modifiedAt")


def _unpacked(data: str) -> bytes:
    raw = base64.b64decode(base64.b64decode(data, validate=True), validate=True)
    if raw[:2] != b"\x1f\x8b":
        return raw
    whole_ = zlib.decompressobj(wbits=31)
    found = whole_.decompress(raw, _MOST)
    if whole_.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {_MOST:,} bytes")
    return found


def packed(release: bytes) -> str:
    """Return the data of a Secret for a release, as Helm packs it."""
    return base64.b64encode(base64.b64encode(gzip.compress(release))).decode()


def _seconds(moment: str) -> float:
    # Helm writes nanoseconds, and Python before 3.11 reads six digits.
    head, dot, rest = moment.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if dot else ""
    try:
        found = datetime.fromisoformat((head + zone).replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    found = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    return found.timestamp() + (float(f"0.{digits}") if digits else 0.0)


def plan_recovery(history: Sequence[Revision], ours: Ours, now: float) -> Recovery:
    """Say what a task does about a release before it acts, from its history alone.

    :param history: the revisions, the oldest first.
    :param ours: how the task finds again what it did.
    :param now: seconds since 1970.
    :return: what to do, and why.
    """
    if not history:
        return Recovery("act", "there is no such release")
    newest = history[-1]
    if newest.pending or newest.status == "uninstalling":
        return _pending(history, ours, now)
    mine = [one for one in history if one.made_by(ours) and one.label(ORDER) == ours.order]
    if not mine or mine[-1].pending:  # one that never came to life, and was got out of the way
        return Recovery("act", f"revision {newest.number} is {newest.status}, and none is of this task")
    last = mine[-1]
    if last is newest and last.status != "deployed":
        return Recovery("act", f"revision {last.number} of this task is {last.status}: {last.description}")
    if last is newest or newest.returns_to == last.number:
        return Recovery("attach", f"revision {newest.number} is of this task", newest.number)
    said = newest.description or newest.status
    return Recovery(
        "undone",
        f"revision {last.number} of this task was followed by revision {newest.number} ({said})",
        last.number,
    )


def _pending(history: Sequence[Revision], ours: Ours, now: float) -> Recovery:
    *before, newest = history
    what = f"revision {newest.number} is {newest.status}"
    # A rollback bears the labels of what it returns to: it is of whom it takes away from.
    undoes = newest.status == "pending-rollback" and bool(before) and before[-1].made_by(ours)
    if not (newest.made_by(ours) or undoes):
        by = (
            f"DAG {newest.label(DAG)}" if newest.label(DAG) and newest.labelled_itself else newest.description
        )
        return Recovery("refuse", f"{what}, held by {by or 'somebody who did not say who'}", newest.number)
    if not newest.at:
        return Recovery("refuse", f"{what}, and does not say since when: it may be at work", newest.number)
    left = newest.at + ours.patience - now
    if left > 0:
        return Recovery(
            "wait", f"{what}, begun by this task, whose Helm may still be at work", newest.number, left
        )
    return _dead(history, ours, f"{what}, and the Helm of this task that began it is dead")


def _dead(history: Sequence[Revision], ours: Ours, dead: str) -> Recovery:
    """Say what gets a revision out of the way that is pending for ever, without taking away what is not of the task."""
    *before, newest = history
    live = max((one.number for one in before if one.status == "deployed"), default=0)
    target = newest.returns_to or live or way_back(history, newest.number)
    if newest.status == "uninstalling":
        return Recovery("uninstall", dead, newest.number)
    if target:
        return Recovery("roll_back", dead, target)
    others = [one for one in before if one.status != "uninstalled" and not one.made_by(ours)]
    if not others:
        return Recovery("uninstall", f"{dead}, and nothing was deployed before", newest.number)
    other = others[-1]
    said = f"{dead}; no good revision is before it, and revision {other.number} ({other.status}) is not of this task"
    remedy = (
        f"Look at what revision {other.number} has left. 'helm rollback' to {other.number} goes on from it, and "
        "'helm uninstall' takes it all away; then clear this task."
    )
    return Recovery("refuse", said, newest.number, remedy=remedy)


def plan_return(history: Sequence[Revision], failed: int, patience: float, now: float) -> Recovery:
    """Say what takes a release back from a revision, from its history alone; a later revision is not thrown away.

    :param history: the revisions, the oldest first.
    :param failed: number of the revision to go back from.
    :param patience: seconds for which one run of Helm may last.
    :param now: seconds since 1970.
    :return: what to do, and why: ``roll_back``, ``attach`` (it is done), ``wait`` (somebody is at it), or ``refuse``.
    """
    later = [one for one in history if one.number > failed]
    target = way_back(history, failed)
    if failed not in [one.number for one in history]:
        return Recovery("refuse", f"there is no revision {failed}")
    if not target:
        return Recovery("refuse", f"no good revision is before revision {failed}")
    other = next((one for one in later if one.returns_to != target), None)
    if other is not None:
        said = other.description or other.status
        return Recovery(
            "refuse", f"revision {other.number} ({said}) came after revision {failed}", other.number
        )
    newest = history[-1]
    if newest.status == "deployed" and later:
        return Recovery("attach", f"revision {newest.number} is what revision {target} was", newest.number)
    if not newest.pending:
        return Recovery("roll_back", f"revision {newest.number} is {newest.status}", target)
    if not later or not newest.at:
        return Recovery(
            "refuse", f"revision {newest.number} is {newest.status}: somebody is at work on it", newest.number
        )
    left = newest.at + patience - now
    if left > 0:
        return Recovery("wait", f"revision {newest.number} is {newest.status}", newest.number, left)
    return Recovery("roll_back", f"the Helm that began revision {newest.number} is dead", target)


def way_back(history: Sequence[Revision], failed: int) -> int:
    """Find the revision that a failed one is rolled back to: not one that was itself judged as failed or rolled back from,
    and none that is the same as the failed one under another number.

    :param failed: number of the failed revision.
    :return: its number; 0 where there is none.
    """
    until = [one for one in history if one.number <= failed]
    undone = {number for one in until if one.returns_to for number in range(one.returns_to + 1, one.number)}
    what = origin(history, failed)
    good = [one.number for one in until if one.number < failed and one.good and one.number not in undone]
    return max((number for number in good if origin(history, number) != what), default=0)


def origin(history: Sequence[Revision], number: int) -> int:
    """Find the revision that one is the same as, over any number of rollbacks; itself where it is no rollback."""
    returns = {one.number: one.returns_to for one in history}
    while target := returns.get(number, 0):
        number = target
    return number


def commit_of(history: Sequence[Revision], number: int) -> str:
    """Read the commit that a revision is of; empty where nobody has written it down."""
    first = origin(history, number)
    found = next((one for one in history if one.number == first), None)
    told = found.label(COMMIT) if found is not None and found.labelled_itself else ""
    return "" if told == _NONE else told
