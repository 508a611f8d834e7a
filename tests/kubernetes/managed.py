"""Server-side apply of the API server for tests: who manages which fields, conflicts, and fields that a kind does not have.

An object that nobody has applied carries no managed fields; with the first apply, all that it holds then belongs to
``before-first-apply``, as on a real server. From there, each write is put down to its manager.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.kubernetes.objects import Object, Refused, now
from tests.kubernetes.patches import KEYS, strategic

Path = tuple[str, ...]

#: What identifies an object belongs to nobody, and the status is not applied.
_NOBODYS = frozenset({"apiVersion", "kind", "status"})
_SERVERS = frozenset(
    {
        "name", "namespace", "uid", "resourceVersion", "generation", "generateName", "creationTimestamp",
        "managedFields", "selfLink", "deletionTimestamp",
    }
)  # fmt: skip


@dataclass
class Entry:
    """What one manager manages.

    :param manager: its name.
    :param operation: ``Apply``, or ``Update`` for all else.
    :param paths: of the fields.
    :param raw: as the object carried it.
    """

    manager: str
    operation: str
    paths: set[Path]
    raw: Object = field(default_factory=dict)


def apply(found: Object, wanted: Object, manager: str, *, force: bool) -> Object:
    """Apply what a manager wants to an object.

    :return: the object after it.
    :raises Refused: if another manager's field would get another value, and nothing is forced.
    """
    entries = _entries(found)
    if not entries and (held := set(paths_of(found))):
        entries = [Entry("before-first-apply", "Update", held)]
    mine = next(
        (one for one in entries if (one.manager, one.operation) == (manager, "Apply")),
        Entry(manager, "Apply", set()),
    )
    others = [one for one in entries if one is not mine]
    paths = set(paths_of(wanted))
    causes = []
    for other in others:
        contested = {path for path in other.paths & paths if _at(found, path) != _at(wanted, path)}
        causes += [(other, path) for path in sorted(contested)]
        if force:
            other.paths -= contested
    if causes and not force:
        raise _conflict(causes)
    after = copy.deepcopy(found)
    kept = paths.union(*(other.paths for other in others))
    for path in sorted(mine.paths - paths, key=len):
        # What holds a field that somebody manages is there with it.
        if not any(other[: len(path)] == path for other in kept):
            _remove(after, path)
    after = dict(strategic(after, {**wanted, "metadata": _own_metadata(wanted)}))
    if after != found:
        mine.raw = {}  # its time is that of the change
    mine.paths = paths
    _write(after, [*others, mine])
    return after


def created(body: Object, manager: str, operation: str = "Apply") -> Object:
    """Return an object that is made by an apply, or by another write."""
    after = copy.deepcopy(body)
    if manager:
        _write(after, [Entry(manager, operation, set(paths_of(body)))])
    return after


def updated(before: Object, after: Object, manager: str) -> None:
    """Put down to a manager what another write than an apply has changed; who manages what may be written itself."""
    entries = _entries(after) or _entries(before)
    if not entries:
        return
    was, now_ = set(paths_of(before)), set(paths_of(after))
    changed = {path for path in now_ if path not in was or _at(before, path) != _at(after, path)}
    for entry in entries:
        entry.paths -= changed | (was - now_)
    mine = next((one for one in entries if (one.manager, one.operation) == (manager, "Update")), None)
    if mine is None and changed:
        entries.append(mine := Entry(manager, "Update", set()))
    if mine is not None:
        mine.paths |= changed
    _write(after, entries)


def paths_of(value: Any, within: Path = ()) -> Iterator[Path]:
    """Yield the paths of the fields of an object: of a list that is a map, its entries; of another, the whole."""
    name = within[-1].removeprefix("f:") if within else ""
    if isinstance(value, dict) and (value or not within):
        for key, inner in value.items():
            if not within and key in _NOBODYS:
                continue
            if within == ("f:metadata",) and key in _SERVERS:
                continue
            yield from paths_of(inner, (*within, f"f:{key}"))
    elif (key := KEYS.get(name)) and isinstance(value, list) and all(key in one for one in value):
        for one in value:
            entry = (*within, f"k:{json.dumps({key: one[key]}, separators=(',', ':'))}")
            yield entry
            yield from paths_of(one, entry)
    elif within:
        yield within


def _own_metadata(wanted: Object) -> Object:
    return {key: value for key, value in (wanted.get("metadata") or {}).items() if key not in _SERVERS}


def _entries(item: Object) -> list[Entry]:
    return [
        Entry(raw["manager"], raw["operation"], set(_flat(raw["fieldsV1"])), raw)
        for raw in item["metadata"].get("managedFields") or ()
    ]


def _write(item: Object, entries: list[Entry]) -> None:
    written = []
    for entry in entries:
        fields = _nested(entry.paths)
        if entry.raw.get("fieldsV1") == fields:
            written.append(entry.raw)
        elif entry.paths or entry.operation == "Apply":
            written.append(
                {
                    "manager": entry.manager,
                    "operation": entry.operation,
                    "apiVersion": item.get("apiVersion", ""),
                    "time": now(),
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields,
                }
            )
    item["metadata"]["managedFields"] = written


def _flat(fields: Object, within: Path = ()) -> Iterator[Path]:
    if "." in fields or not fields:
        yield within
    for key, inner in fields.items():
        if key != ".":
            yield from _flat(inner, (*within, key))


def _nested(paths: set[Path]) -> Object:
    root: Object = {}
    for path in sorted(paths):
        place = root
        for step in path:
            place = place.setdefault(step, {})
        if any(other != path and other[: len(path)] == path for other in paths):
            place["."] = {}
    return root


def _at(value: Any, path: Path) -> Any:
    """Return the value of a field; of an entry of a list only that it is there."""
    for step in path:
        value = _step(value, step)
        if value is None:
            return None
    return True if path[-1].startswith("k:") else value


def _step(value: Any, step: str) -> Any:
    if step.startswith("f:"):
        return value.get(step[2:]) if isinstance(value, dict) else None
    key = json.loads(step[2:])
    return (
        next((one for one in value if key.items() <= one.items()), None) if isinstance(value, list) else None
    )


def _remove(item: Object, path: Path) -> None:
    holders: list[Any] = [item]
    for step in path[:-1]:
        holders.append(_step(holders[-1], step))
        if holders[-1] is None:
            return
    holder, last = holders[-1], path[-1]
    if last.startswith("f:"):
        holder.pop(last[2:], None)
    elif (entry := _step(holder, last)) is not None:
        holder.remove(entry)
    # A map that held nothing but what was removed goes with it.
    for step, inner, outer in zip(path[-2::-1], holders[:0:-1], holders[-2::-1], strict=False):
        if inner or not step.startswith("f:") or not isinstance(outer, dict):
            return
        outer.pop(step[2:], None)


def _conflict(causes: list[tuple[Entry, Path]]) -> Refused:
    told = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{entry.manager}"'
            + (f" using {entry.raw['apiVersion']}" if entry.raw and entry.operation == "Update" else ""),
            "field": _dotted(path),
        }
        for entry, path in causes
    ]
    many = f"{len(told)} conflict{'s' if len(told) > 1 else ''}"
    refused = Refused(
        409,
        "Conflict",
        f"Apply failed with {many}: {told[0]['message']}: {', '.join(one['field'] for one in told)}",
    )
    refused.body["details"] = {"causes": told}
    return refused


def _dotted(path: Path) -> str:
    """Write a path as the server does in its causes."""
    return "".join(
        f".{step[2:]}" if step.startswith("f:") else f"[{_key(json.loads(step[2:]))}]" for step in path
    )


def _key(key: Object) -> str:
    return ",".join(f'{name}="{value}"' for name, value in key.items())


# ---- fields that there are ---------------------------------------------------------------------------------------------


def refuse_unknown(body: Object) -> None:
    """Refuse fields that a kind of Kubernetes' own does not have.

    A server without a schema of a kind, as of a custom resource here, takes all.

    :raises Refused: with the words, and the status 500, of the real server.
    """
    version = str(body.get("apiVersion") or "")
    model = f"{version.rpartition('/')[2].capitalize()}{body.get('kind')}"
    if "." in version.partition("/")[0] and not version.partition("/")[0].endswith(".k8s.io"):
        return
    if (where := _unknown(body, model)) is not None:
        metadata = body.get("metadata") or {}
        named = f"{metadata.get('namespace', '')}/{metadata.get('name')}; {version}, Kind={body.get('kind')}"
        raise Refused(
            500,
            "InternalError",
            f"failed to create typed patch object ({named}): {where}: field not declared in schema",
        )


@cache
def _model(name: str) -> Any:
    from kubernetes.client import models

    return getattr(models, name, None)


def _unknown(value: Any, kind: str, where: str = "") -> str | None:
    """Return the path of the first field that a kind does not have."""
    inner = kind.partition("[" if kind.startswith("list[") else "(")[2][:-1]
    if kind.startswith("list[") and isinstance(value, list):
        found = (_unknown(one, inner, f"{where}[{place}]") for place, one in enumerate(value))
        return next((one for one in found if one is not None), None)
    if kind.startswith("dict(") and isinstance(value, dict):
        values = inner.partition(", ")[2]
        found = (_unknown(one, values, f"{where}.{key}") for key, one in value.items())
        return next((one for one in found if one is not None), None)
    model = _model(kind)
    if model is None or not isinstance(value, dict):
        return None
    types = {model.attribute_map[name]: of for name, of in model.openapi_types.items()}
    for key, one in value.items():
        if key not in types:
            return f"{where}.{key}"
        if (deeper := _unknown(one, types[key], f"{where}.{key}")) is not None:
            return deeper
    return None
