"""Which live objects differ from the desired state, and when that is news. Pure.

Drift is live state that differs at an *unchanged* desired revision. A difference that comes from a new commit is a
change on its way, and no drift; one that self-heal is about to mend is worth no word unless it stays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_pipeops.waits.status import Observed

#: Of the live object, what says nothing about drift and changes by itself.
_VOLATILE = ("resourceVersion", "generation", "managedFields", "uid", "creationTimestamp", "selfLink")
#: How many resources a payload names, and how many fields of each.
LIMIT = 20


@dataclass(frozen=True)
class Difference:
    """One object that differs.

    :param change: ``modified``, ``missing`` (desired and not live) or ``extra`` (live and not desired).
    :param fields: paths of the fields that differ; never their values, which may be secret.
    :param digest: of the live value.
    """

    group: str
    kind: str
    namespace: str
    name: str
    change: str
    fields: tuple[str, ...] = ()
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what a payload says about it."""
        return {
            "group": self.group,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "change": self.change,
            "fields": list(self.fields[:LIMIT]),
        }


@dataclass(frozen=True)
class DriftMemory:
    """What is remembered about one application between two looks.

    :param synced_at: the desired revisions at which it was last seen Synced.
    :param suspect: the desired revisions at which the last look found drift.
    :param reported: fingerprint of the difference that was reported last; empty once it is gone.
    """

    synced_at: tuple[str, ...] = ()
    suspect: tuple[str, ...] = ()
    reported: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"synced_at": list(self.synced_at), "suspect": list(self.suspect), "reported": self.reported}

    @classmethod
    def from_json(cls, data: Any) -> DriftMemory:
        """Read the JSON form; anything else is an empty memory."""
        if not isinstance(data, Mapping):
            return cls()
        return cls(
            tuple(map(str, data.get("synced_at") or ())),
            tuple(map(str, data.get("suspect") or ())),
            str(data.get("reported") or ""),
        )


def suspicious(observed: Observed, memory: DriftMemory) -> tuple[bool, DriftMemory]:
    """Say whether this look shows drift that is worth comparing the objects for.

    :return: whether, and the memory for the next look.
    """
    operation = observed.operation
    busy = bool(operation and (operation.queued or operation.phase in ("Running", "Terminating")))
    if observed.sync == "Synced" and observed.desired:
        return False, DriftMemory(synced_at=observed.desired)
    if observed.sync != "OutOfSync" or not observed.desired or busy or observed.deleting:
        return False, replace(memory, suspect=())
    applied = (
        operation is not None and operation.phase == "Succeeded" and operation.revisions == observed.desired
    )
    if not applied and memory.synced_at != observed.desired:
        return False, replace(memory, suspect=())
    again = memory.suspect == observed.desired
    return again or not observed.self_heal, replace(memory, suspect=observed.desired)


def news(differences_: Iterable[Difference], memory: DriftMemory) -> tuple[bool, DriftMemory]:
    """Say whether these differences were not reported yet, and remember them as reported."""
    found = fingerprint(differences_)
    return bool(found) and found != memory.reported, replace(memory, reported=found)


def differences(managed: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """Read the managed resources of an application, and return those that differ, in a stable order."""
    found = []
    for item in managed:
        one = differs(item)
        if one is not None:
            change, live, predicted = one
            found.append(
                Difference(
                    group=str(item.get("group") or ""),
                    kind=str(item.get("kind") or ""),
                    namespace=str(item.get("namespace") or ""),
                    name=str(item.get("name") or ""),
                    change=change,
                    fields=tuple(_paths(live, predicted)) if change == "modified" else (),
                    digest=_digest(live),
                )
            )
    return sorted(found, key=lambda one: (one.group, one.kind, one.namespace, one.name))


def differs(item: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return how a managed resource differs, its live state, and the state that it should have; ``None`` if it does not.

    Both are normalised as Argo CD does it, so what it is told to ignore is left out; volatile fields are left out too.
    """
    if item.get("hook") is True:
        return None
    live = _state(item.get("normalizedLiveState") or item.get("liveState"))
    target = _state(item.get("targetState"))
    predicted = _state(item.get("predictedLiveState")) or target
    change = _change(item, live, target, predicted)
    if not change:
        return None
    return change, live, None if change == "extra" else predicted


def fingerprint(found: Iterable[Difference]) -> str:
    """Return one digest of which objects differ and what their live values are; empty for none."""
    parts = [[one.group, one.kind, one.namespace, one.name, one.change, one.digest] for one in found]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest() if parts else ""


def payload(observed: Observed, found: list[Difference]) -> dict[str, Any]:
    """Return what an event says about a difference."""
    return {
        "app": observed.name,
        "revision": observed.desired[0] if len(observed.desired) == 1 else list(observed.desired),
        "sync": observed.sync,
        "resources": [one.to_json() for one in found[:LIMIT]],
        "more": max(0, len(found) - LIMIT),
        "fingerprint": fingerprint(found),
    }


def _change(item: Mapping[str, Any], live: Any, target: Any, predicted: Any) -> str:
    if target is None:
        return "extra" if live is not None else ""
    if live is None:
        return "missing"
    modified = item.get("modified")
    return "modified" if (modified if isinstance(modified, bool) else live != predicted) else ""


def _state(value: Any) -> Any:
    """Read one of the states, which travel as JSON in a string, without what is volatile."""
    if not isinstance(value, str) or not value:
        return None
    try:
        state = json.loads(value)
    except ValueError:
        return value
    if not isinstance(state, dict):
        return state
    state.pop("status", None)
    if isinstance(state.get("metadata"), dict):
        for key in _VOLATILE:
            state["metadata"].pop(key, None)
        if not state["metadata"]:
            del state["metadata"]
    return state


def _digest(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _paths(live: Any, desired: Any, at: str = "") -> Iterable[str]:
    if isinstance(live, dict) and isinstance(desired, dict):
        for key in sorted({*live, *desired}, key=str):
            yield from _paths(live.get(key), desired.get(key), f"{at}.{key}" if at else str(key))
    elif isinstance(live, list) and isinstance(desired, list) and len(live) == len(desired):
        for index, (one, other) in enumerate(zip(live, desired, strict=True)):
            yield from _paths(one, other, f"{at}[{index}]")
    elif live != desired:
        yield at
