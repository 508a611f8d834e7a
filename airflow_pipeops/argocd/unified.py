"""The differences between live and desired state as a text that people read, without the values of secrets. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from airflow_pipeops.argocd.differences import differs
from airflow_pipeops.base.redaction import MASK, redacted

_SECRET_NAME = re.compile(
    r"(?i)password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential"
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def unified(managed: Iterable[Mapping[str, Any]]) -> str:
    """Return a unified diff from live to desired state over all managed resources that differ; empty for none.

    :param managed: items of ``managed-resources``.
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
    """
    if kind == "Secret":
        live, desired = _without_copies(live), _without_copies(desired)
        for field in ("data", "stringData"):
            one, other = _map(live).get(field), _map(desired).get(field)
            hidden = _all_masked(one, other)
            live, desired = _with(live, field, hidden[0]), _with(desired, field, hidden[1])
    return _named_masked(live, desired)


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
