"""Names of domain functions, so that a DAG file stays light: ``package.module:name``, imported when a task runs."""

from __future__ import annotations

import importlib
from typing import Any

from airflow_pipeops.exceptions import InvalidInput


def named(path: str, field: str) -> Any:
    """Import what a path names.

    :param path: for example ``team.flights:train``.
    :param field: the argument that holds it, for the error.
    :raises InvalidInput: if it is malformed or names nothing.
    """
    module, colon, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    remedy = f"Give {field} as package.module:name, importable by the worker."
    if not (module and colon and name):
        raise InvalidInput(f"{field} {path!r} is no import path", field=field, value=path, remedy=remedy)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            f"{field} {path!r} cannot be imported: {error}", field=field, value=path, remedy=remedy
        ) from error
    return found


def function(path: str, field: str) -> Any:
    """Import a function; see :func:`named`."""
    found = named(path, field)
    if not callable(found):
        raise InvalidInput(f"{field} {path!r} is not a function", field=field, value=path)
    return found
