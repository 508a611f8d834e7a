"""Settings that people give as dataclasses: each value is of the type that its field declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from airflow_pipeops.base.arguments import several
from airflow_pipeops.exceptions import InvalidInput

#: Declared type -> the class of its values, and its name in a remedy.
_PLAIN: dict[Any, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
    str: (str, "a text"),
    timedelta: (timedelta, "a timedelta, e.g. timedelta(hours=1)"),
}


def demand_types(settings: Any) -> None:
    """Refuse a value of another type than its field declares, before it is compared with anything.

    Python would take ``2.5`` for a number of batches and ``"no"`` for yes, or end in a ``TypeError`` that names no field.
    Types that are not listed here, and words of a ``Literal``, are left to the settings' own checks.

    :param settings: a dataclass, in its ``__post_init__``.
    :raises InvalidInput: for the first such value.
    """
    for name, hint in _declared(settings.__class__).items():
        value = getattr(settings, name)
        if wanted := _wanted(hint, value):
            raise InvalidInput(
                f"{name} of {type(settings).__name__} is {value!r}",
                field=name,
                value=value,
                remedy=f"Give {wanted}.",
            )


@cache
def _declared(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind) if item.init}


def _wanted(hint: Any, value: Any) -> str:
    """Return what is wanted in place of the value; nothing where it fits."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        said = [_wanted(one, value) for one in inner if one is not NoneType]
        fits = not all(said) or (value is None and NoneType in inner)
        return "" if fits else " or ".join(dict.fromkeys(said)) + (", or None" if NoneType in inner else "")
    if hint in _PLAIN:
        kind, called = _PLAIN[hint]
        fits = isinstance(value, kind) and (hint is bool or not isinstance(value, bool))
        return "" if fits and not (hint is float and _too_large(value)) else called
    if isinstance(hint, type) and is_dataclass(hint):
        return "" if isinstance(value, hint) else f"a {hint.__name__}"
    if origin in (tuple, Collection):
        return _each("a list", inner[:1], value) if several(value) else "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _each("a mapping", inner[1:], value.values()) if isinstance(value, Mapping) else "a mapping"
    return ""


def _too_large(value: Any) -> bool:
    """Whether a whole number is more than any float can hold, which ends each comparison of floats."""
    try:
        float(value)
    except OverflowError:
        return True
    return False


def _each(container: str, inner: tuple[Any, ...], values: Collection[Any]) -> str:
    said = next((found for one in values if inner and (found := _wanted(inner[0], one))), "")
    return f"{container}, with {said} in each place" if said else ""
