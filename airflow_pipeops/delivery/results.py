"""What a task returns is a row of Airflow's database, and no place for what a server said at length. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

#: Bytes of a result, as JSON. A result beyond is kept as a file, which it names.
MOST = 96 * 1024
#: Of such a result, a text that is not longer stays where it is, in characters.
_SHORT = 1000


def bounded(result: Any, keep: Callable[[str], str]) -> Any:
    """Return a result of bounded size.

    :param result: what a task is about to return, as JSON.
    :param keep: keeps the whole result, as JSON, and returns where.
    :return: the result; of one that is too large, each long text, and then the largest fields until it fits, became
        ``{"kept_in": ..., "bytes": ...}``; and so did the whole of one that has too many fields for that.
    """
    whole = _json(result)
    if len(whole) <= MOST:
        return result
    where = keep(whole)
    if not isinstance(result, Mapping):
        return _left(result, where)
    found = {name: _short(value, where) for name, value in result.items()}
    sizes = {name: len(_json(value)) for name, value in found.items()}
    size = len(_json(found))
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if size <= MOST:
            return found
        found[name] = _left(result[name], where)
        size += len(_json(found[name])) - sizes[name]
    return found if size <= MOST else _left(result, where)


def _short(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _short(one, where) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(one, where) for one in value]
    return _left(value, where) if isinstance(value, str) and len(value) > _SHORT else value


def _left(value: Any, where: str) -> dict[str, Any]:
    content = value.encode("utf-8", "replace") if isinstance(value, str) else _json(value)
    return {"kept_in": where, "bytes": len(content)}


def _json(value: Any) -> str:
    return json.dumps(value, default=str)
