"""Revisions that people give to operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.exceptions import InvalidInput


def revisions_of(revision: Any) -> dict[str, str]:
    """Return the expected revision per source.

    :return: ``"*"`` to the revision, or each source that is named to its own.
    :raises InvalidInput: for none, or an empty one.
    """
    given = dict(revision) if isinstance(revision, Mapping) else {"*": revision}
    for key, value in given.items():
        if not isinstance(value, str) or not value.strip():
            raise InvalidInput(
                f"the revision is {value!r}",
                field="revision",
                value=value,
                remedy="Give the full commit id, e.g. of the task that committed the change, or match='any'.",
            )
        given[key] = value.strip()
    return {str(key): value for key, value in given.items()}
