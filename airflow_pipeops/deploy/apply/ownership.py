"""Whose the fields of an object are, where they become ours: what another tool applied, and we do not, goes then. Pure.

Fields that were applied on the client are held by an ``Update``, and stay for ever: an apply on the server takes away only
what its manager holds. ``kubectl apply --server-side`` moves them to itself, and so is it done here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from airflow_pipeops.base.documents import Json, map_, maps, text

#: Whoever writes it has applied on the client.
_LAST_APPLIED = "f:kubectl.kubernetes.io/last-applied-configuration"


def moved(live: Json, manager: str, owners: Collection[str], tool: str = "") -> list[Json] | None:
    """Return the managed fields of an object once those of others are a manager's.

    :param live: the object.
    :param manager: that takes them over.
    :param owners: managers from whom fields may be taken; what they have not applied stays theirs.
    :param tool: a manager whose applies on the server are taken over, too; empty for none.
    :return: the managed fields; ``None`` where nothing is to be taken over.
    """
    entries = _entries(live)
    taken = [one for one in entries if _is_taken(one, owners, tool)]
    if not taken:
        return None
    mine = next((one for one in entries if _key(one) == (manager, "Apply", "")), None)
    into = mine or {**taken[0], "manager": manager, "operation": "Apply"}
    fields = map_(into.get("fieldsV1"))
    for one in taken:
        if one.get("apiVersion") == into.get("apiVersion"):
            fields = _both(fields, map_(one.get("fieldsV1")))
    others = [one for one in entries if one not in taken and one is not mine]
    return [{**into, "fieldsV1": fields}, *others]


def going(live: Json, after: Json, manager: str, owners: Collection[str], tool: str = "") -> list[str]:
    """Return which fields go once others' fields are a manager's, and it applies.

    :param live: the object before.
    :param after: as the server says it would be, were nothing taken over.
    :return: the paths of the fields.
    """
    entries = _entries(live)
    taken = [one for one in entries if _is_taken(one, owners, tool)]
    kept = [one for one in entries if one not in taken and _key(one) != (manager, "Apply", "")]
    kept += [one for one in _entries(after) if _key(one) == (manager, "Apply", "")]
    held = {path for one in kept for path in _paths(map_(one.get("fieldsV1")))}
    lost = dict.fromkeys(path for one in taken for path in _paths(map_(one.get("fieldsV1"))))
    return [_written(path) for path in lost if path not in held]


def _entries(item: Json) -> list[Json]:
    return maps(map_(item.get("metadata")).get("managedFields"))


def _key(entry: Json) -> tuple[str, str, str]:
    manager, operation, subresource = (
        text(entry.get(key)) for key in ("manager", "operation", "subresource")
    )
    return manager, operation, subresource


def _is_taken(entry: Json, owners: Collection[str], tool: str) -> bool:
    manager, operation, subresource = _key(entry)
    if operation == "Apply":
        return bool(tool) and manager == tool and not subresource
    annotations = map_(map_(map_(entry.get("fieldsV1")).get("f:metadata")).get("f:annotations"))
    return manager in owners and not subresource and _LAST_APPLIED in annotations


def _both(one: Json, other: Json) -> dict[str, Any]:
    return {**one, **{key: _both(map_(one.get(key)), map_(inner)) for key, inner in other.items()}}


def _paths(fields: Json, within: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, inner in fields.items():
        if key != ".":
            yield from _paths(map_(inner), (*within, key)) if inner else [(*within, key)]


def _written(path: tuple[str, ...]) -> str:
    parts = []
    for step in path:
        kind, _, told = step.partition(":")
        pairs = map_(json.loads(told)) if kind == "k" else {}
        inner = ",".join(f"{key}={json.dumps(value)}" for key, value in pairs.items()) or told
        parts.append(f".{told}" if kind == "f" else f"[{inner}]")
    return "".join(parts)
