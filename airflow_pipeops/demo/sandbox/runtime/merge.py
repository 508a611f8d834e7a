"""Three-way merge of a manifest into a live object, and JSON merge patch. Pure."""

from __future__ import annotations

import copy
from typing import Any

#: The field that identifies an item in the lists that Kubernetes merges item by item.
_ITEM_KEYS = {"containers": "name", "initContainers": "name", "env": "name", "volumes": "name"}


def apply_merge(live: Any, last: Any, manifest: Any) -> Any:
    """Return ``live`` with ``manifest`` laid over it and without what only ``last`` had.

    Fields that neither manifest names (set by others, or defaults) are kept. Lists are replaced as a whole,
    save containers, env and volumes, which are merged by name.

    :return: a new object.
    """
    if not (isinstance(live, dict) and isinstance(manifest, dict)):
        return copy.deepcopy(manifest)
    last = last if isinstance(last, dict) else {}
    out = {k: copy.deepcopy(v) for k, v in live.items() if not (k in last and k not in manifest)}
    for field, value in manifest.items():
        item_key = _ITEM_KEYS.get(field)
        if item_key and isinstance(value, list) and isinstance(live.get(field), list):
            out[field] = _merge_items(live[field], last.get(field) or [], value, item_key)
        elif value is None:
            out.pop(field, None)  # "field:" with nothing behind it means: not set
        else:
            out[field] = apply_merge(live.get(field), last.get(field), value)
    return out


def _merge_items(live: list[Any], last: list[Any], wanted: list[Any], key: str) -> list[Any]:
    def by_name(items: list[Any]) -> dict[Any, Any]:
        return {i[key]: i for i in items if isinstance(i, dict) and key in i}

    lives, lasts, wants = by_name(live), by_name(last), by_name(wanted)
    if len(wants) != len(wanted):
        return copy.deepcopy(wanted)
    merged = [_merge_item(lives.get(name), lasts.get(name), item) for name, item in wants.items()]
    extra = [copy.deepcopy(i) for name, i in lives.items() if name not in wants and name not in lasts]
    return merged + extra


def _merge_item(live: Any, last: Any, wanted: dict[str, Any]) -> Any:
    merged = apply_merge(live or {}, last, wanted)
    # "value" and "valueFrom" exclude each other: the one that the manifest names wins.
    for one, other in (("value", "valueFrom"), ("valueFrom", "value")):
        if one in wanted and other not in wanted:
            merged.pop(other, None)
    return merged


def merge_patch(target: Any, patch: Any) -> Any:
    """Return ``target`` after a JSON merge patch (RFC 7386): null removes, lists are replaced."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = copy.deepcopy(target) if isinstance(target, dict) else {}
    for field, value in patch.items():
        if value is None:
            out.pop(field, None)
        else:
            out[field] = merge_patch(out.get(field), value)
    return out
