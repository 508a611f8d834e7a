"""Values that people give to operators and triggers: checked once, in one form of words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from airflow_pipeops.exceptions import InvalidInput


def positive(field: str, value: timedelta, *, zero: bool = False) -> timedelta:
    """Return a duration that is one.

    :param zero: no time at all is one, too.
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


def interval(field: str, value: timedelta | float) -> float:
    """Return the seconds between two looks.

    :raises InvalidInput: for none.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds > 0:
        return seconds
    raise InvalidInput(
        f"{field} is {seconds:g} s",
        field=field,
        value=seconds,
        remedy="Give a time above zero; 10 seconds is usual.",
    )


def one_of(field: str, value: str, allowed: Sequence[str]) -> str:
    """Return a value that is one of these.

    :raises InvalidInput: for any other.
    """
    if value in allowed:
        return value
    raise InvalidInput(
        f"{field} is {value!r}", field=field, value=value, remedy=f"Use one of {', '.join(allowed)}."
    )
