"""What differs from the desired state, or was put right again, as far as Flux says so. Pure.

The helm-controller reports drift as a condition, if it looks for it at all, and each correction as an event. The
kustomize-controller says nothing: it applies everything at each interval, and its events name what that changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.documents import map_, maps, text, time_of, whole
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.flux.objects import observe
from airflow_pipeops.flux.revisions import names
from airflow_pipeops.redaction import redacted

#: How many resources are named.
LIMIT = 20
_LINE = re.compile(
    r"^([A-Z]\w*)/(?:([a-z0-9.-]+)/)?([A-Za-z0-9.:-]+) (configured|created|deleted|changed|removed)\b", re.M
)
#: What a controller says of each reconciliation that ends well.
_FINISHED = "ReconciliationSucceeded"
#: After so many events about one object a controller leaves out others (client-go's recorder).
_BURST = 25
#: An event and the status of the same reconciliation are so near, seconds.
_NEAR = 5.0
_NO_EVENTS = "its condition tells of the drift that is there now, and only events of what was put right"
_REVISION = "kustomize.toolkit.fluxcd.io/revision"
_CHANGED: Mapping[str, Literal["modified", "missing", "extra"]] = {
    "configured": "modified",
    "changed": "modified",
    "created": "missing",
    "removed": "missing",
    "deleted": "extra",
}


@dataclass(frozen=True)
class Change(JsonForm):
    """One object that differed.

    :param kind: of the object.
    :param namespace: of the object; empty where it has none.
    :param name: of the object.
    :param change: how it differed.
    """

    kind: str
    namespace: str
    name: str
    change: Literal["modified", "missing", "extra"]


@dataclass(frozen=True)
class Correction:
    """What was put right at one moment.

    :param at: when, as the cluster writes it.
    :param revision: the revision that a Kustomization applied again.
    :param changes: the objects.
    """

    at: str
    revision: str
    changes: tuple[Change, ...]


def changes(message: str) -> tuple[Change, ...]:
    """Read the objects that a message names."""
    return tuple(
        Change(kind, namespace or "", name, _CHANGED[what])
        for kind, namespace, name, what in _LINE.findall(message)
    )


@dataclass(frozen=True)
class Told:
    """What events tell of corrections.

    :param corrections: that are surely some, the latest last.
    :param unclear: why there may be others; empty if there are none.
    """

    corrections: tuple[Correction, ...] = ()
    unclear: str = ""


def corrections(item: Mapping[str, Any], events: Iterable[Mapping[str, Any]], since: str = "") -> Told:
    """Return what a Kustomization put right, as far as its events tell.

    A change of objects at a revision that had been applied before is a correction; at a new one it is a release. A cluster
    merges equal events into the first of them, and keeps its revision; and a controller leaves events out when it has
    written many. Where that hides which was which, the answer says so.

    :param item: the Kustomization; its history says which revisions it has applied.
    :param events: about it, in any order.
    :param since: leave out what is not later than this, as the cluster writes times.
    :return: the corrections, and why there may be others.
    """
    listed = sorted(map(map_, events), key=when)
    applied = _applied_at(listed)
    found, unclear = [], _left_out(item, listed, since)
    for event in listed:
        revision, named, at = _revision_of(event), changes(text(event.get("message"))), when(event)
        if not named or not revision or text(event.get("type")) == "Warning" or at <= since:
            continue
        answer = _is_correction(item, event, applied, listed)
        if answer is None:
            objects = ", ".join(f"{one.kind}/{one.name}" for one in named[:3])
            unclear = unclear or (
                f"a change of {objects} may be a release or a correction: the cluster keeps {_count(event)} equal event(s) "
                "as one, with the revision of the first"
            )
        elif answer:
            found.append(Correction(at, names(revision)[0], named))
    return Told(tuple(found), unclear)


def released_corrections(events: Iterable[Mapping[str, Any]], since: str = "") -> Told:
    """Return what was put right of a Helm release: its controller says so of each, whatever became of equal events.

    :param events: about it, in any order.
    :param since: leave out what is not later than this, as the cluster writes times.
    :return: the corrections, and why there may be others.
    """
    listed = sorted(map(map_, events), key=when)
    found = [
        Correction(when(event), "", changes(text(event.get("message"))))
        for event in listed
        if text(event.get("reason")) == "DriftCorrected" and when(event) > since
    ]
    return Told(tuple(found), _too_many(listed))


def verdict_on(
    item: Mapping[str, Any], events: Sequence[Mapping[str, Any]] | None, since: str
) -> dict[str, Any]:
    """Say whether the cluster differs from what Flux applied, or was put right again.

    :param item: the Kustomization or HelmRelease.
    :param events: about it, in any order; ``None`` where nobody may read them.
    :param since: corrections before this do not count, as the cluster writes times.
    :return: ``{kind, name, namespace, verdict, mode, revision, resources, more, message, warning}``.
    """
    observed = observe([item])
    main, release = observed.reconciled.main, observed.reconciled.release
    message, mode, revision = "", "enabled", main.applied[0] if main.applied else ""
    if release is None:
        told = Told(unclear="only events say what was put right")
        if events is not None:
            told = corrections(item, events, since)
    else:
        message, mode, revision = release.drifted, release.drift_mode, release.chart
        told = Told()
        if mode == "enabled":
            told = released_corrections(events, since) if events is not None else Told(unclear=_NO_EVENTS)
        elif mode == "disabled":
            told = Told(
                unclear=f"{main} has drift detection off: whatever happens to its objects, it stays ready. Set "
                "spec.driftDetection.mode to warn or enabled"
            )
    # A drift that was put right since it was found is none any more.
    over = any(release is not None and one.at >= release.drifted_since for one in told.corrections)
    if message and not over:
        verdict, named = "drifted", changes(message.partition(": ")[2])
    else:
        verdict = "corrected" if told.corrections else "unknown" if told.unclear else "clean"
        named = tuple(dict.fromkeys(change for one in told.corrections for change in one.changes))
    return {
        "kind": main.kind,
        "name": main.name,
        "namespace": main.namespace,
        "verdict": verdict,
        "mode": mode,
        "revision": revision,
        **report(named, "" if over else message),
        "warning": told.unclear,
    }


def _is_correction(
    item: Mapping[str, Any],
    event: Mapping[str, Any],
    applied: Mapping[str, str],
    listed: Sequence[Mapping[str, Any]],
) -> bool | None:
    """Whether an event that names changes is about a correction; ``None`` where nobody can tell."""
    revision = _revision_of(event)
    at = _first(event)
    before = applied.get(revision, at) < at or _held_before(item, revision, at, when(listed[0]))
    if _count(event) == 1 or before is None:
        return before
    status = map_(item.get("status"))
    # All of the merged ones are of this revision if there has been no other since.
    still = revision == text(status.get("lastAppliedRevision")) == text(status.get("lastAttemptedRevision"))
    return True if before and still else None


def _held_before(item: Mapping[str, Any], revision: str, at: str, oldest: str) -> bool | None:
    """Whether the history says that a revision was applied before; ``None`` where nobody can tell.

    An entry of the history is about one state, whatever the revision: that a state was there before may mean that a commit
    brought it back. So it tells only if nothing else was there in between.

    :param oldest: when the oldest event that is kept was.
    """
    history = maps(map_(item.get("status")).get("history"))
    mine = [
        one
        for one in history
        if text(map_(one.get("metadata")).get("revision")) == revision and _succeeded(one)
    ]
    begun = min(
        (text(one.get("firstReconciled")) for one in mine if text(one.get("firstReconciled"))), default=""
    )
    if not begun or begun >= at:
        return False
    others = [text(one.get("lastReconciled")) for one in history if one not in mine]
    between = max((one for one in others if begun < one < at), default="")
    if not between:
        return True
    # It was brought back after that; had it been applied since, an event would say so, if they reach back so far.
    return False if oldest and oldest <= between else None


def _applied_at(listed: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return when each revision was first applied as a whole, as far as events reach back."""
    found: dict[str, str] = {}
    for event in listed:
        if text(event.get("reason")) == _FINISHED and _revision_of(event):
            found.setdefault(_revision_of(event), _first(event))
    return found


def _left_out(item: Mapping[str, Any], listed: Sequence[Mapping[str, Any]], since: str) -> str:
    """Say why events may be missing: a controller writes 25 about an object at once, and then one in five minutes."""
    crowded = _too_many(listed)
    if crowded:
        return crowded
    history = [one for one in maps(map_(item.get("status")).get("history")) if _succeeded(one)]
    newest = max(history, key=lambda one: text(one.get("lastReconciled")), default={})
    last, begun = text(newest.get("lastReconciled")), text(newest.get("firstReconciled"))
    finished = [event for event in listed if text(event.get("reason")) == _FINISHED]
    if not last:
        return "" if any(when(event) > since for event in listed) else "there are no events about it"
    if last > since and not any(_seconds(when(event)) >= _seconds(last) - _NEAR for event in finished):
        return f"its last reconciliation ({last}) has left no event"
    total = whole(newest.get("totalReconciliations")) or 0
    window = max(begun, since)
    kept = sum(_count(event) for event in finished if _seconds(when(event)) >= _seconds(window) - _NEAR)
    if begun < since and _seconds(last) > _seconds(begun):
        # Of those before the window nobody wants to know; they come about evenly.
        total = int(
            total * max(0.0, _seconds(last) - _seconds(since)) / (_seconds(last) - _seconds(begun)) * 0.7
        )
    return f"of {total} reconciliations {kept} have left an event" if kept < total else ""


def _too_many(listed: Sequence[Mapping[str, Any]]) -> str:
    written = sum(_count(event) for event in listed)
    combined = any(
        text(event.get("message")).startswith("(combined from similar events)") for event in listed
    )
    if written < _BURST and not combined:
        return ""
    return f"{written} events were written about it within an hour, and a controller leaves out others after so many"


def _succeeded(entry: Mapping[str, Any]) -> bool:
    return text(entry.get("lastReconciledStatus")) in (_FINISHED, "")


def _revision_of(event: Mapping[str, Any]) -> str:
    return text(map_(map_(event.get("metadata")).get("annotations")).get(_REVISION))


def _count(event: Mapping[str, Any]) -> int:
    return max(1, whole(map_(event.get("series")).get("count")) or whole(event.get("count")) or 1)


def _first(event: Mapping[str, Any]) -> str:
    """Return when the first of merged events happened."""
    times = (event.get("firstTimestamp"), event.get("eventTime"), event.get("lastTimestamp"))
    return next((f"{text(one)[:19]}Z" for one in times if text(one)), "")


def _seconds(moment: str) -> float:
    found = time_of(moment)
    return found.timestamp() if found else 0.0


def when(event: Mapping[str, Any]) -> str:
    """Return when an event last happened, as the cluster writes it, to the second."""
    series = map_(event.get("series"))
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((f"{text(one)[:19]}Z" for one in times if text(one)), "")


def fingerprint(parts: Any) -> str:
    """Return one digest of what was found."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def report(found: Iterable[Change], message: str) -> dict[str, Any]:
    """Return what a payload says about changes: objects, and never their values."""
    listed = [one.to_json() for one in found]
    return {
        "resources": listed[:LIMIT],
        "more": max(0, len(listed) - LIMIT),
        "message": redacted(message)[:1000],
    }
