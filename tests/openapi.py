"""Does a JSON object have the form that a server's published API description gives to it? Told by its generated client.

A generated client carries the description: each model names its fields, their names in JSON, and their types. The models
of ``argo_workflows`` and of ``kubernetes`` say the same in two ways, and both are read here.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

#: Fields that the description calls a text, and the servers take and give as a number, too (``IntOrString``, ``AnyString``).
_NUMBERS_TOO = frozenset(
    {
        *("limit", "value", "default", "port", "size_limit", "duration", "factor", "max_duration", "cap"),
        *("min_available", "max_unavailable", "weight"),
    }
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?")


def problems(value: Any, model_class: type) -> list[str]:
    """Compare a JSON value with a model.

    A moment may be ``null``, as Go writes one that has not come. A field that the model does not know is a problem.

    :param value: what was sent or received, as ``json.loads`` returns it.
    :param model_class: a class of ``argo_workflows.model`` or ``kubernetes.client.models``.
    :return: what does not fit, each with its path; nothing for a value that does.
    """
    return _model(value, model_class, "")


def _model(value: Any, model: type, path: str) -> list[str]:
    types = _types(model)
    if list(types) == ["value"] and not getattr(model, "attribute_map", None):
        return _typed(value, types["value"], path, "")  # a list or a text with a name of its own
    if not isinstance(value, Mapping):
        return [f"{path or '.'}: {_said(value)} is no {model.__name__}"]
    named = {model.attribute_map[name]: name for name in types}  # type: ignore[attr-defined]
    found = [f"{path}.{name}: {model.__name__} has no such field" for name in value if name not in named]
    for name in _required(model):
        if value.get(model.attribute_map[name]) is None:  # type: ignore[attr-defined]
            found.append(f"{path}.{model.attribute_map[name]}: {model.__name__} needs it")  # type: ignore[attr-defined]
    for name, item in value.items():
        if name in named:
            found += _typed(item, types[named[name]], f"{path}.{name}", named[name])
    return found


def _typed(value: Any, kind: Any, path: str, name: str) -> list[str]:
    if isinstance(kind, tuple):
        tried = [_typed(value, one, path, name) for one in kind]
        return min(tried, key=len) if tried else []
    if isinstance(kind, str):
        kind = _parsed(kind)
    if kind is datetime.datetime:
        good = value is None or (isinstance(value, str) and _DATE.fullmatch(value))
        return [] if good else [f"{path}: {_said(value)} is no moment"]
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [f"{path}: {_said(value)} is no list"]
        return [said for at, item in enumerate(value) for said in _typed(item, kind[0], f"{path}[{at}]", "")]
    if isinstance(kind, dict):
        if not isinstance(value, Mapping):
            return [f"{path}: {_said(value)} is no object"]
        inner = kind[str]
        return [said for key, item in value.items() for said in _typed(item, inner, f"{path}.{key}", "")]
    if getattr(kind, "openapi_types", None):
        return _model(value, kind, path)
    return _plain(value, kind, path, name)


def _plain(value: Any, kind: Any, path: str, name: str) -> list[str]:
    if kind is object or kind is None:
        return []
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and (kind in (int, float) or (kind is str and name in _NUMBERS_TOO)):
        return [f"{path}: {value!r} is no whole number"] if kind is int and not isinstance(value, int) else []
    return [] if isinstance(value, kind) and not number else [f"{path}: {_said(value)} is no {kind.__name__}"]


def _said(value: Any) -> str:
    return repr(value)[:60]


@functools.cache
def _types(model: type) -> Mapping[str, Any]:
    return dict(model.openapi_types)  # type: ignore[attr-defined]


@functools.cache
def _required(model: type) -> tuple[str, ...]:
    if model.__module__.startswith("argo_workflows"):
        made = inspect.signature(model._from_openapi_data)  # type: ignore[attr-defined]
        return tuple(name for name, one in made.parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD)
    from kubernetes.client import Configuration

    lax = Configuration()
    lax.client_side_validation = False
    probe = model(local_vars_configuration=lax)
    lax.client_side_validation = True
    return tuple(name for name in _types(model) if _refuses_none(probe, name))


def _refuses_none(probe: Any, name: str) -> bool:
    try:
        setattr(probe, name, None)
    except ValueError:
        return True
    return False


@functools.cache
def _parsed(text: str) -> Any:
    """Read a type as the Kubernetes client writes it: ``list[V1Pod]``, ``dict(str, str)`` or, newer, ``dict[str, str]``."""
    if match := re.fullmatch(r"list\[(.+)\]", text):
        return [_parsed(match[1])]
    if match := re.fullmatch(r"dict[([](\w+), (.+)[])]", text):
        return {str: _parsed(match[2])}
    plain = {
        "str": str,
        "int": int,
        "float": float,
        "bool": bool,
        "object": object,
        "datetime": datetime.datetime,
    }
    if text in plain:
        return plain[text]
    import kubernetes.client.models

    return getattr(kubernetes.client.models, text)
