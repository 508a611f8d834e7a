"""What an apply would change, field by field, and who holds the fields that are contested. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import Json, map_, maps, text
from airflow_pipeops.deploy.apply.objects import MASK, masked
from airflow_pipeops.deploy.apply.parents import COMMIT
from airflow_pipeops.deploy.apply.sets import PART_OF

#: Written by the server itself.
_NOISE = frozenset({"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"})
_OWNER = re.compile(r'conflict with "((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Contested:
    """A field that another manager holds.

    :param owner: the manager.
    :param field: its path.
    """

    owner: str
    field: str

    def __str__(self) -> str:
        return f"{self.field} is {self.owner}'s"


def contested(causes: Sequence[Json]) -> list[Contested]:
    """Read the causes of a conflict between managers of fields."""
    found = []
    for cause in causes:
        if cause.get("reason") == "FieldManagerConflict":
            owner = _OWNER.search(text(cause.get("message")))
            found.append(Contested(owner[1] if owner else "an unknown manager", text(cause.get("field"))))
    return found


def may_force(conflicts: Sequence[Contested], owners: Collection[str]) -> bool:
    """Whether all owners are among those from whom fields may be taken."""
    return bool(conflicts) and all(one.owner in owners for one in conflicts)


def differences(name: str, before: Json | None, after: Json | None) -> list[str]:
    """Compare an object with what it would be; what Secrets hold is masked, and only told to differ.

    :param name: of the object.
    :param before: as it is; ``None`` if it is not there.
    :param after: as the server says it would be; ``None`` if it goes.
    :return: one line for each field that differs, the object's own line first; empty if nothing does.
    """
    if after is None:
        return [f"- {name}"]
    lines = list(_fields(_plain(before), _plain(after), ""))
    if before is None:
        return [f"+ {name}", *lines]
    if text(after.get("kind")) == "Secret":
        lines += _secret_lines(before, after)
    return [f"~ {name}", *lines] if lines else []


def _secret_lines(before: Json, after: Json) -> Iterator[str]:
    for part in ("data", "stringData"):
        old, new = map_(before.get(part)), map_(after.get(part))
        for key in sorted(old.keys() & new.keys()):
            if old[key] != new[key]:
                yield f"    .{part}.{key}: {MASK} -> another value, {MASK}"


def _plain(item: Json | None) -> dict[str, Any]:
    if item is None:
        return {}
    found = masked(item)
    found.pop("status", None)
    metadata = {key: value for key, value in map_(found.get("metadata")).items() if key not in _NOISE}
    for part, mark in (("labels", PART_OF), ("annotations", COMMIT)):
        if part in metadata:
            metadata[part] = {
                key: value for key, value in map_(metadata[part]).items() if key != mark
            } or None
    return {**found, "metadata": metadata}


def _fields(before: Any, after: Any, path: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _fields(before.get(key), after.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and _named(before) and _named(after):
        old, new = ({text(one.get("name")): one for one in side} for side in (maps(before), maps(after)))
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _fields(old.get(key), new.get(key), f'{path}[name="{key}"]')
    elif before is None:
        yield f"    {path}: {_short(after)}"
    elif after is None:
        yield f"    {path}: {_short(before)} -> (removed)"
    else:
        yield f"    {path}: {_short(before)} -> {_short(after)}"


def _named(items: list[Any]) -> bool:
    names = [text(map_(one).get("name")) for one in items]
    return all(names) and len(set(names)) == len(names)


def _short(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return said if len(said) <= 300 else f"{said[:300]}..."
