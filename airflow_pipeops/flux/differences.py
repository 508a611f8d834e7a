"""What differs from the desired state, or was put right again, as far as Flux says so. Pure.

The helm-controller reports drift as a condition, if it looks for it at all. The kustomize-controller says nothing: it
applies everything at each interval, and its events name what that changed. A change at a revision that was applied before
is a correction; at a new revision it is a release.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.flux.revisions import names
from airflow_pipeops.redaction import redacted

#: How many resources are named.
LIMIT = 20
_LINE = re.compile(
    r"^([A-Z]\w*)/(?:([a-z0-9.-]+)/)?([A-Za-z0-9.:-]+) (configured|created|deleted|changed|removed)\b", re.M
)
_REVISION = "kustomize.toolkit.fluxcd.io/revision"
_CHANGED = {
    "configured": "modified",
    "changed": "modified",
    "created": "missing",
    "removed": "missing",
    "deleted": "extra",
}


@dataclass(frozen=True)
class Change(JsonForm):
    """One object that differed.

    :param change: ``modified``, ``missing`` or ``extra``.
    """

    kind: str
    namespace: str
    name: str
    change: str


@dataclass(frozen=True)
class Correction:
    """What a Kustomization put right at one moment.

    :param at: when, as the cluster writes it.
    :param revision: the revision that it applied again.
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


def corrections(
    item: Mapping[str, Any], events: Iterable[Mapping[str, Any]], since: str = ""
) -> list[Correction]:
    """Return what a Kustomization put right, the latest last.

    :param item: the Kustomization; its history says since when each revision has been applied.
    :param events: about it, in any order.
    :param since: leave out what is not later than this, as the cluster writes times.
    """
    first: dict[str, str] = {}
    for entry in maps(map_(item.get("status")).get("history")):
        if text(entry.get("lastReconciledStatus")) in ("ReconciliationSucceeded", ""):
            revision = text(map_(entry.get("metadata")).get("revision"))
            begun = text(entry.get("firstReconciled"))
            if revision and begun:
                first[revision] = min(begun, first.get(revision, begun))
    found = []
    for event in sorted(map(map_, events), key=when):
        revision = text(map_(map_(event.get("metadata")).get("annotations")).get(_REVISION))
        named, at = changes(text(event.get("message"))), when(event)
        if not named or not revision or text(event.get("type")) == "Warning":
            continue
        applied = first.get(revision)
        if applied is not None and at > applied and at > since:
            found.append(Correction(at, names(revision)[0], named))
    return found


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
