"""The JSON form of dataclasses: one name and value for each field."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from airflow_pipeops.base.documents import map_

Form = TypeVar("Form", bound="JsonForm")


class JsonForm:
    """Gives a dataclass its JSON form: tuples as lists, durations in seconds, dataclasses of this kind as objects."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: _plain(getattr(self, name)) for name in _names(type(self))}

    @classmethod
    def from_json(cls: type[Form], data: Any) -> Form:
        """Read the JSON form; fields of later versions are left out.

        :param data: the JSON form; anything else counts as an empty one.
        :return: the object.
        :raises TypeError: if a field that has no default is missing.
        """
        given, hints = map_(data), get_type_hints(cls)
        return cls(**{name: _typed(hints[name], given[name]) for name in _names(cls) if name in given})


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(kind: type) -> tuple[str, ...]:
    if kind not in _NAMES:
        _NAMES[kind] = tuple(item.name for item in fields(cast(Any, kind)))
    return _NAMES[kind]


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int, float, bool):  # most are, and are soon told so
        return value
    if isinstance(value, JsonForm):
        return value.to_json()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    """Return a value as the field wants it; one that does not fit is left to the dataclass's own checks."""
    if get_origin(hint) in (Union, UnionType) and value is not None:
        hint = next(one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        return tuple(_typed(get_args(hint)[0], item) for item in value)
    if hint is timedelta and isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):  # not a number, or longer than all time
            return timedelta(seconds=value)
    if isinstance(hint, type) and issubclass(hint, JsonForm) and isinstance(value, Mapping):
        return hint.from_json(value)
    return value
