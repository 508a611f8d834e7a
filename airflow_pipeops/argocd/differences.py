"""Which live objects differ from the desired state, and when that is news; and the text of it that people read. Pure.

News is live state that differs at an *unchanged* desired revision. A difference that comes from a new commit is a
change on its way, and no news; one that self-heal is about to mend is worth no word unless it stays.

The text shows no value of a secret.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.differences import Change, Difference, fingerprint, told
from airflow_pipeops.redaction import MASK, redacted
from airflow_pipeops.waits.status import Observed

#: Of the live object, what no desired state says, and what changes by itself.
_VOLATILE = ("resourceVersion", "generation", "managedFields", "uid", "creationTimestamp", "selfLink")
_SECRET_NAME = re.compile(
    r"(?i)password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential"
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class DifferencesMemory(JsonForm):
    """What is remembered about one application between two looks.

    :param synced_at: the desired revisions at which it was last seen Synced.
    :param suspect: the desired revisions at which the last look found it out of sync.
    :param reported: fingerprint of the difference that was reported last; empty once it is gone.
    """

    synced_at: tuple[str, ...] = ()
    suspect: tuple[str, ...] = ()
    reported: str = ""


def suspicious(observed: Observed, memory: DifferencesMemory) -> tuple[bool, DifferencesMemory]:
    """Say whether this look is worth comparing the objects for.

    :return: whether, and the memory for the next look.
    """
    operation = observed.operation
    busy = bool(operation and (operation.queued or operation.phase in ("Running", "Terminating")))
    if observed.sync == "Synced" and observed.desired:
        return False, DifferencesMemory(synced_at=observed.desired)
    if observed.sync != "OutOfSync" or not observed.desired or busy or observed.deleting:
        return False, replace(memory, suspect=())
    applied = (
        operation is not None and operation.phase == "Succeeded" and operation.revisions == observed.desired
    )
    if not applied and memory.synced_at != observed.desired:
        return False, replace(memory, suspect=())
    again = memory.suspect == observed.desired
    return again or not observed.self_heal, replace(memory, suspect=observed.desired)


def news(differences_: Iterable[Difference], memory: DifferencesMemory) -> tuple[bool, DifferencesMemory]:
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


def differs(item: Mapping[str, Any]) -> tuple[Change, Any, Any] | None:
    """Return how a managed resource differs, its live state, and the state that it should have; ``None`` if it does not.

    Both are normalised as Argo CD does it, so what it is told to ignore is left out; volatile fields are left out too.

    :return: how, the live state, and the desired state.
    """
    if item.get("hook") is True:
        return None
    live = _state(item.get("normalizedLiveState") or item.get("liveState"))
    target = _state(item.get("targetState"))
    predicted = _state(item.get("predictedLiveState")) or target
    change = _change(item, live, target, predicted)
    if change is None:
        return None
    return change, live, None if change == "extra" else predicted


def out_of_sync(observed: Observed) -> list[Difference]:
    """Return the objects that the controller says are out of sync, where nobody can compare them field by field.

    :param observed: the application, with its resources.
    :return: one for each, in the order of group, kind, namespace and name.
    """
    found = [
        Difference(
            item.group,
            item.kind,
            item.namespace,
            item.name,
            "extra" if item.prune else "missing" if item.health == "Missing" else "modified",
        )
        for item in observed.resources
        if item.sync == "OutOfSync"
    ]
    return sorted(found, key=lambda one: (one.group, one.kind, one.namespace, one.name))


def payload(observed: Observed, found: list[Difference]) -> dict[str, Any]:
    """Return what an event says about a difference."""
    return {
        "app": observed.name,
        "revision": observed.desired[0] if len(observed.desired) == 1 else list(observed.desired),
        "sync": observed.sync,
        **told(found),
    }


def unified(managed: Iterable[Mapping[str, Any]]) -> str:
    """Return a unified diff from live to desired state over all managed resources that differ; empty for none.

    :param managed: items of ``managed-resources``.
    :return: the text.
    """
    parts = []
    for item in sorted(managed, key=_key):
        found = differs(item)
        if found is None:
            continue
        change, live, desired = found
        live, desired = masked(live, desired, str(item.get("kind") or ""))
        name = "/".join(filter(None, _key(item)))
        before, after = redacted(_text(live)), redacted(_text(desired))
        lines = difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"live/{name}", f"desired/{name}", lineterm=""
        )
        body = list(lines) or [
            f"--- live/{name}",
            f"+++ desired/{name}",
            f" ({change}; only masked values differ)",
        ]
        parts.append("\n".join(body))
    return "\n".join(parts) + "\n" if parts else ""


def masked(live: Any, desired: Any, kind: str) -> tuple[Any, Any]:
    """Return two states of one object with the values of secrets masked, but so that a difference still shows.

    The server masks the contents of Secrets already. Here they are masked again, and so is what only its name gives away,
    such as the value of an environment variable ``DB_PASSWORD``.

    :return: the live state, and the desired state.
    """
    if kind == "Secret":
        live, desired = _without_copies(live), _without_copies(desired)
        for field in ("data", "stringData"):
            one, other = _map(live).get(field), _map(desired).get(field)
            hidden = _all_masked(one, other)
            live, desired = _with(live, field, hidden[0]), _with(desired, field, hidden[1])
    return _named_masked(live, desired)


def _change(item: Mapping[str, Any], live: Any, target: Any, predicted: Any) -> Change | None:
    if target is None:
        return "extra" if live is not None else None
    if live is None:
        return "missing"
    modified = item.get("modified")
    differs = modified if isinstance(modified, bool) else live != predicted
    return "modified" if differs else None


def _state(value: Any) -> Any:
    """Read one of the states, which travel as JSON in a string, without what is volatile."""
    if not isinstance(value, str) or not value:
        return None
    try:
        state = parsed(value)
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


def _named_masked(one: Any, other: Any) -> tuple[Any, Any]:
    if isinstance(one, dict) or isinstance(other, dict):
        left, right = _map(one), _map(other)
        hide = _SECRET_NAME.search(f"{left.get('name')} {right.get('name')}") is not None
        pairs = {}
        for key in {**left, **right}:
            value = left.get(key), right.get(key)
            plain = isinstance(value[0] if key in left else value[1], (str, bytes))
            hidden = plain and ((hide and key == "value") or _tells(str(key)))
            pairs[key] = _masks(*value) if hidden else _named_masked(*value)
        return (
            {key: pairs[key][0] for key in left} if isinstance(one, dict) else one,
            {key: pairs[key][1] for key in right} if isinstance(other, dict) else other,
        )
    if isinstance(one, list) or isinstance(other, list):
        return _lists_masked(one, other)
    return one, other


def _lists_masked(one: Any, other: Any) -> tuple[Any, Any]:
    left, right = (side if isinstance(side, list) else [] for side in (one, other))
    longest = max(len(left), len(right))
    both = [_named_masked(_at(left, index), _at(right, index)) for index in range(longest)]
    return (
        [both[index][0] for index in range(len(left))] if isinstance(one, list) else one,
        [both[index][1] for index in range(len(right))] if isinstance(other, list) else other,
    )


def _tells(key: str) -> bool:
    """Whether a field of this name holds a secret, and not only the name or place of one."""
    return bool(_SECRET_NAME.search(key)) and not key.lower().endswith(("name", "ref", "path", "type"))


def _all_masked(one: Any, other: Any) -> tuple[Any, Any]:
    left, right = _map(one), _map(other)
    pairs = {key: _masks(left.get(key), right.get(key)) for key in {**left, **right}}
    return (
        {key: pairs[key][0] for key in left} if isinstance(one, dict) else one,
        {key: pairs[key][1] for key in right} if isinstance(other, dict) else other,
    )


def _masks(one: Any, other: Any) -> tuple[str, str]:
    return (MASK, MASK) if one == other else (f"{MASK} (live)", f"{MASK} (desired)")


def _without_copies(state: Any) -> Any:
    """Return a Secret without the annotation in which kubectl keeps a copy of all of it."""
    annotations = _map(_map(state).get("metadata")).get("annotations")
    if not isinstance(annotations, dict) or _LAST_APPLIED not in annotations:
        return state
    kept = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
    return {**state, "metadata": {**state["metadata"], "annotations": kept}}


def _with(state: Any, field: str, value: Any) -> Any:
    return {**state, field: value} if isinstance(state, dict) and field in state else state


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def _text(state: Any) -> str:
    if state is None:
        return ""
    if not isinstance(state, (dict, list)):
        return str(state)
    # Through JSON, so that the same object twice is written out twice and not as an alias.
    return str(yaml.safe_dump(json.loads(json.dumps(state)), sort_keys=True, width=10_000))


def _key(item: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(item.get(field) or "") for field in ("group", "kind", "namespace", "name"))


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
