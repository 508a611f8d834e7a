"""Objects that a DAG names by their path, so that a task imports them and the DAG file does not."""

from __future__ import annotations

import importlib
from typing import Any

from airflow_pipeops.exceptions import InvalidInput


def load(path: str, field: str) -> Any:
    """Return the object that ``"package.module:name"`` names.

    :param path: module, colon, attribute.
    :param field: the name under which the reader knows the value, for the error.
    :raises InvalidInput: if there is no such module or attribute.
    """
    module, colon, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not (colon and module and name):
        raise InvalidInput(
            f"{field} {path!r} is not an import path",
            field=field,
            value=path,
            remedy='Write it as "package.module:name".',
        )
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            f"{field} {path!r} cannot be imported: {error}",
            field=field,
            value=path,
            remedy="Install the module where the task runs, and check the spelling.",
        ) from error
    return found


def function(path: str, field: str) -> Any:
    """Return the function that ``"package.module:name"`` names; see :func:`load`."""
    found = load(path, field)
    if not callable(found):
        raise InvalidInput(f"{field} {path!r} is not a function", field=field, value=path)
    return found
