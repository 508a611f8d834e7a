"""The patch of the API server that knows which lists are maps: strategic merge."""

from __future__ import annotations

from typing import Any

#: Lists that are maps, and by which key.
KEYS = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}


def strategic(target: Any, patch: Any, within: str = "") -> Any:
    """Apply a strategic merge patch: lists that are maps are merged entry by entry."""
    key = KEYS.get(within)
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
