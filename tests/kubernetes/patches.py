"""The two patches of the API server that are more than a JSON merge patch: strategic merge, and server-side apply."""

from __future__ import annotations

import copy
from typing import Any

from tests.kubernetes.objects import Object

#: Lists that are maps, and by which key.
_KEYS = {
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}


def strategic(target: Any, patch: Any, within: str = "") -> Any:
    """Apply a strategic merge patch: lists that are maps are merged entry by entry."""
    key = _KEYS.get(within)
    if isinstance(patch, list) and key and all(isinstance(entry, dict) for entry in patch):
        found = {entry[key]: entry for entry in target or ()}
        for entry in patch:
            if entry.get("$patch") == "delete":
                found.pop(entry[key], None)
            else:
                found[entry[key]] = strategic(found.get(entry[key]), entry)
        return list(found.values())
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = strategic(merged.get(name), value, name)
    return merged


def applied(target: Object, before: Object, wanted: Object) -> Object:
    """Apply what a manager wants to an object: what it wanted before and wants no more goes."""
    found = copy.deepcopy(target)
    _without(found, before, wanted)
    return dict(strategic(found, wanted))


def _without(found: Any, before: Any, wanted: Any) -> None:
    if not (isinstance(found, dict) and isinstance(before, dict)):
        return
    for name, value in before.items():
        if name not in wanted:
            found.pop(name, None)
        elif isinstance(value, dict):
            _without(found.get(name), value, wanted[name])
        elif name in _KEYS and isinstance(value, list):
            key = _KEYS[name]
            kept = {entry[key]: entry for entry in wanted[name]}
            was = {entry[key]: entry for entry in value}
            found[name] = [
                entry for entry in found.get(name) or () if entry[key] not in was or entry[key] in kept
            ]
            for entry in found[name]:
                if entry[key] in was:
                    _without(entry, was[entry[key]], kept[entry[key]])
