"""Is somebody else releasing this? Pure: from the records of an environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.operations.remediation.findings import moment

#: Digits by which a shortened commit is known.
_SHORT = 7


def releasing(records: Iterable[Record], now: datetime, longest: timedelta, commit: str = "") -> str:
    """Say who is releasing: who has changed the desired state, and nothing has been said of how that went.

    A change is under way until a release or rollback of its commit, or one that was made from its record; of a change
    without a commit, until any. What else is recorded meanwhile, an incident or the late release of an older commit, says
    nothing of it.

    :param records: of one deliverable in one environment: *change*, *release*, *rollback*.
    :param now: with a zone.
    :param longest: that a release takes; an older change is no longer one.
    :param commit: that is at fault itself, and so no reason to wait.
    :return: the change and the DAG that made it; empty if nobody is.
    """
    known = sorted(records, key=lambda one: one.at)
    ends = [one for one in known if one.kind in ("release", "rollback")]
    for one in reversed(known):
        if one.kind != "change" or not one.body.get("changed"):
            continue
        if any(_ends(end, one) for end in ends):
            return ""  # and what was wanted before it is live with it
        fresh = now - datetime.fromisoformat(one.at) <= longest
        said = text(one.body.get("commit"))
        ours = one.body.get("operation")  # its own lock guards it
        if fresh and not (said and said == commit) and not ours:
            return f"{said[:12] or 'a change'} of {one.source.get('dag') or 'somebody'} at {one.at}"
    return ""


def unlabelled(records: Iterable[Record], until: str) -> str:
    """Say of which release no label tells yet: what labels say now was lost by the one before it.

    :param records: as :func:`releasing` has them.
    :param until: time up to which labels are there, ISO-8601 with a zone.
    :return: the release; empty if labels tell of the newest.
    :raises InvalidInput: for what is no time.
    """
    there = moment("labels_until", until)
    last = max((one for one in records if one.kind == "release"), key=lambda one: one.at, default=None)
    if last is None or there > datetime.fromisoformat(last.at):
        return ""
    which = text(last.body.get("revision"))[:12] or "what was released"
    return f"{which} is live since {last.at}, and labels are there until {there.isoformat()}"


def _ends(end: Record, change: Record) -> bool:
    """Whether a release or rollback is the end of a change; a rollback that it was made from is its beginning."""
    if end.at < change.at or end.id in change.parents:
        return False
    wanted = text(change.body.get("commit"))
    return not wanted or change.id in end.parents or any(_same(wanted, name) for name in _names(end.body))


def _names(body: Mapping[str, Any]) -> set[str]:
    """All revisions that a record names: one, one for each source, or those of several applications."""
    found: set[str] = set()
    waiting = [body.get(part) for part in ("revision", "compared", "reverts")]
    waiting += [
        map_(one).get(part) for one in map_(body.get("apps")).values() for part in ("revision", "compared")
    ]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, (list, tuple)):
            waiting += one
        elif name := text(one):
            found.add(name)
    return found


def _same(commit: str, name: str) -> bool:
    """Whether a revision is that commit: ``main@sha1:...`` as Flux writes it, or the first digits of it."""
    return commit in name or (len(name) >= _SHORT and commit.startswith(name))
