"""Where a live object is not what was pushed, field by field, and who wrote that. Pure.

A manifest says a few of an object's fields. The server fills in others, writes some values in another form, and webhooks
change what is applied; autoscalers and injectors hold fields of their own. None of that is a difference. The object itself
tells them apart: its ``managedFields`` say who wrote which field last. So a field differs if its value is another one *and*
whoever pushed it does not hold it any more.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import Json, map_, maps, text
from airflow_pipeops.delivery.differences import Difference
from airflow_pipeops.deploy.apply.objects import MASK

#: One step into an object: a key, the place in a list, or what tells an item of a list from the others.
Key = tuple[tuple[str, Any], ...]
Step = str | int | Key
Path = tuple[Step, ...]
#: Managers, and the part of an object that each of them holds.
Held = Sequence[tuple[str, Json]]

#: Where nobody says who holds what, an item of a list is told by one of these.
_KEYS = ("name", "mountPath", "devicePath", "containerPort", "port", "ip")
#: Not compared: what says which object it is, and what only the server writes.
_SKIPPED = frozenset({"apiVersion", "kind", "status"})
_SHOWN = 300


@dataclass(frozen=True)
class Field:
    """A field whose live value is not the one that was pushed.

    :param path: of the field.
    :param wanted: the value that was pushed.
    :param live: the value that is there; ``None`` for none.
    :param owners: who holds it now; empty where nobody does.
    """

    path: Path
    wanted: Any
    live: Any
    owners: tuple[str, ...] = ()

    def __str__(self) -> str:
        return written(self.path)


@dataclass(frozen=True)
class Compared:
    """One object that differs.

    :param body: what was pushed; of an object that was not, what it is called.
    :param live: what is there; ``None`` if it is not.
    :param fields: that differ; none of an object that was not pushed.
    """

    body: Json
    live: Json | None
    fields: tuple[Field, ...] = ()

    @property
    def difference(self) -> Difference:
        """What a record says about it; no value is told."""
        metadata, version = map_(self.body.get("metadata")), text(self.body.get("apiVersion"))
        uid = text(map_(map_(self.live).get("metadata")).get("uid"))
        # With the uid: from the digest of a short value it could be guessed.
        parts = [[uid, written(one.path), one.live, one.owners] for one in self.fields]
        return Difference(
            version.rpartition("/")[0],
            text(self.body.get("kind")),
            text(metadata.get("namespace")),
            text(metadata.get("name")),
            "missing" if self.live is None else "modified" if self.fields else "extra",
            tuple(map(written, (one.path for one in self.fields))),
            hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest(),
        )

    def lines(self) -> Iterator[str]:
        """Write it for a person; what a Secret holds is masked."""
        kind, metadata = text(self.body.get("kind")), map_(self.body.get("metadata"))
        place = text(metadata.get("namespace"))
        name = (
            f"{kind} {place}/{text(metadata.get('name'))}"
            if place
            else f"{kind} {text(metadata.get('name'))}"
        )
        if self.live is None:
            yield f"- {name} is not there"
            return
        if not self.fields:
            yield f"+ {name} is there, and was not pushed"
            return
        yield f"~ {name}"
        for one in self.fields:
            hidden = kind == "Secret" and one.path[:1] == ("data",)
            wanted, live = (MASK, MASK) if hidden else (_short(one.wanted), _short(one.live))
            said = "is not there" if one.live is None else f"is {live}"
            by = f" ({', '.join(one.owners)})" if one.owners else ""
            yield f"    {one} {said}{by}, and {wanted} was pushed"


def changed(
    body: Mapping[str, Any], live: Mapping[str, Any], mark: Path, ignored: Collection[str] = ()
) -> tuple[Field, ...]:
    """Compare an object with what was pushed.

    :param body: what was pushed; of a Secret, what it holds may be masked.
    :param live: what is there.
    :param mark: a field that only whoever pushed it writes: who holds that is us.
    :param ignored: managers that may hold fields that were pushed, as an autoscaler holds ``replicas``.
    :return: the fields that differ.
    """
    told = [
        (text(one.get("manager")), map_(one.get("fieldsV1")))
        for one in maps(map_(live.get("metadata")).get("managedFields"))
    ]
    if body.get("kind") == "Secret":
        told = [(manager, _with_data(held)) for manager, held in told]
        body, live = _decoded(body), _decoded(live)
    ours = frozenset(manager for manager, _ in _at(told, mark))
    found: list[Field] = []
    for key, value in body.items():
        if key not in _SKIPPED:
            found += _fields(value, live.get(key), (key,), _stepped(told, key), ours)
    return tuple(
        one
        for one in found
        if not (one.owners and set(one.owners) <= set(ignored))
        # What nobody kept cannot be compared; that somebody else wrote it can be told all the same.
        and (one.wanted != MASK or body.get("kind") != "Secret" or one.live is None or one.owners)
    )


def value_at(item: Any, path: Path) -> Any:
    """Return the value of a field; ``None`` where it is not there."""
    for step in path:
        if isinstance(step, str):
            item = map_(item).get(step)
        elif isinstance(step, int):
            item = item[step] if isinstance(item, list) and step < len(item) else None
        else:
            item = _found(item, step)
    return item


def written(path: Path) -> str:
    """Write a path as a person reads it."""
    parts = []
    for step in path:
        if isinstance(step, str):
            parts.append(f".{step}")
        else:
            inner = str(step) if isinstance(step, int) else ",".join(f"{k}={json.dumps(v)}" for k, v in step)
            parts.append(f"[{inner}]")
    return "".join(parts).lstrip(".")


def _fields(wanted: Any, live: Any, path: Path, held: Held, ours: frozenset[str]) -> Iterator[Field]:
    # The server leaves out what is empty or its zero value.
    if wanted == live or (live is None and not wanted):
        return
    whole = bool(held) and not any(part for _, part in held)
    if (
        isinstance(wanted, Mapping)
        and isinstance(live, Mapping)
        and not (whole and wanted.keys() != live.keys())
    ):
        for key, value in wanted.items():
            yield from _fields(value, live.get(key), (*path, key), _stepped(held, key), ours)
    elif _is_set(held) and isinstance(wanted, list) and isinstance(live, list):
        if missing := [one for one in wanted if one not in live]:
            yield Field(path, missing, live)
    elif isinstance(wanted, list) and isinstance(live, list) and (steps := _steps(wanted, live, held, whole)):
        for step, one in zip(steps, wanted, strict=True):
            at = live[step] if isinstance(step, int) else _found(live, step)
            yield from _fields(one, at, (*path, step), _item(held, at), ours)
    elif not ours & {manager for manager, _ in held}:
        yield Field(path, wanted, live, tuple(sorted({manager for manager, _ in held})))


def _steps(wanted: list[Any], live: list[Any], held: Held, whole: bool) -> Sequence[int | Key]:
    """Say how the items of a list are found in the live one; nothing where the lists differ as a whole."""
    keys = next((list(json.loads(key[2:])) for _, part in held for key in part if key.startswith("k:")), [])
    if not keys and not whole:
        keys = [key for key in _KEYS if _tells(wanted, key) and _tells(live, key)][:1]
    if keys:
        steps = [tuple((key, map_(one)[key]) for key in keys if key in map_(one)) for one in wanted]
        return steps if all(steps) else []
    return list(range(len(wanted))) if len(wanted) == len(live) else []


def _is_set(held: Held) -> bool:
    return any(key.startswith("v:") for _, part in held for key in part)


def _tells(items: list[Any], key: str) -> bool:
    values = [json.dumps(map_(one).get(key)) for one in items if key in map_(one)]
    return len(set(values)) == len(items)


def _found(items: Any, step: Key) -> Any:
    listed = items if isinstance(items, list) else []
    return next((one for one in listed if dict(step).items() <= map_(one).items()), None)


# ---- who holds what ----------------------------------------------------------------------------------------------------


def _stepped(held: Held, key: str) -> Held:
    """Return who holds a field of what is held; who holds a thing as a whole holds each of its fields."""
    name = f"f:{key}"
    return [(manager, map_(part.get(name))) for manager, part in held if not part or name in part]


def _item(held: Held, item: Any) -> Held:
    """Return who holds an item of a list."""
    found = []
    for manager, part in held:
        if not part:
            found.append((manager, part))
        for key, inner in part.items():
            if key.startswith("k:") and json.loads(key[2:]).items() <= map_(item).items():
                found.append((manager, map_(inner)))
    return found


def _at(held: Held, path: Path) -> Held:
    for step in path:
        held = _stepped(held, str(step))
    return held


def _with_data(held: Json) -> Json:
    """Return what is held of a Secret; the server makes its ``stringData`` a part of its ``data``."""
    given = map_(held.get("f:stringData"))
    return {**held, "f:data": {**map_(held.get("f:data")), **given}} if given else held


def _decoded(item: Mapping[str, Any]) -> Json:
    """Return a Secret with all that it holds in ``data``."""
    given = {
        key: value if value == MASK else base64.b64encode(str(value).encode()).decode()
        for key, value in map_(item.get("stringData")).items()
    }
    kept = {key: value for key, value in item.items() if key != "stringData"}
    return {**kept, "data": {**map_(item.get("data")), **given}} if given else kept


def _short(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
