"""Values that people give to operators."""

from __future__ import annotations

from datetime import timedelta

from airflow_pipeops.exceptions import InvalidInput


def positive(field: str, value: timedelta, *, zero: bool = False) -> timedelta:
    """Return a duration that is one.

    :raises InvalidInput: for anything else.
    """
    if isinstance(value, timedelta) and (value > timedelta(0) or (zero and not value)):
        return value
    raise InvalidInput(
        f"{field} is {value!r}",
        field=field,
        value=value,
        remedy="Give a positive timedelta, e.g. timedelta(minutes=5).",
    )
