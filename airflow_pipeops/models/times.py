"""The times of rows: what orders them, and whether they come after what a model has learned from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import time, timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import time_of
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.models.artifact import Manifest

#: The zone at the end of a time.
_ZONE = r"[T ]\d{2}.*(?:Z|[-+]\d{2}(?::?\d{2})?)$"


def times(given: pd.Series, time_column: str) -> pd.Series:
    """Return what orders the rows: numbers or times as they are, texts read as times.

    :param given: times, texts or numbers.
    :param time_column: their column.
    :return: numbers or times, in the order of the rows.
    :raises InvalidInput: for texts whose order is not that of the times they mean, and for rows without a time.
    """
    import pandas as pd

    def bad(what: str, remedy: str) -> InvalidInput:
        return InvalidInput(
            f"time_column {time_column!r} {what}", field="time_column", value=time_column, remedy=remedy
        )

    if absent := int(given.isna().sum()):
        raise bad(f"has {absent:,} rows without a time", "Leave them out, or give them one.")
    if pd.api.types.is_numeric_dtype(given.dtype) or pd.api.types.is_datetime64_any_dtype(given.dtype):
        return given
    try:
        zoned = given.astype(str).str.contains(_ZONE, regex=True)
        if zoned.any() and not zoned.all():
            raise bad("has times with and without a zone", "Write all of them with their zone.")
        return pd.to_datetime(given.astype(str), format="ISO8601", utc=bool(zoned.all()))
    except ValueError as error:
        raise bad(
            "holds values that are no times",
            "Write them as 2026-01-31 or 2026-01-31T10:00:00Z, or as numbers.",
        ) from error


def latest(given: pd.Series[Any], time_column: str) -> str:
    """Return the latest time as text, as :func:`after` reads it.

    :param given: times, texts or numbers.
    :param time_column: their column.
    :return: the time, or the number.
    """
    return str(times(given, time_column).max())


def after(given: pd.Series[Any], time_column: str, until: str) -> bool | None:
    """Whether all rows come after a time.

    :param given: their times or numbers.
    :param time_column: their column.
    :param until: what :func:`latest` returned of other rows.
    :return: ``None`` where the two are no times of one kind, and nobody can tell.
    """
    first = times(given, time_column).min()
    try:
        return bool(first > type(first)(until))
    except (TypeError, ValueError):
        return None


def predicted_after(at: pd.Series[Any], until: str) -> bool | None:
    """Whether all predictions were made after the time up to which a model has learned.

    :param at: their times, in UTC.
    :param until: what :func:`latest` returned of the rows that it learned from; midnight stands for the whole day.
    :return: ``None`` where that is no time, and nobody can tell.
    """
    last = time_of(until)
    if last is None:
        return None
    return bool(at.min() >= last + timedelta(days=1) if last.time() == time() else at.min() > last)


def seen(models: Iterable[Manifest], rows: pd.DataFrame, *, at: str = "", needed: bool = False) -> str:
    """Say why models may have learned from the rows that they are judged on.

    :param models: what they say of themselves.
    :param rows: that judge them.
    :param at: column of the time, in UTC, at which they were predicted; by default the column by which each model learned.
    :param needed: whether rows without that column are a reason, too.
    :return: the reason; empty where they come later, or a model does not say up to when it learned.
    """
    for one in models:
        column, until = at or one.time_column, one.trained_until
        if column is None or until is None or not (needed or column in rows.columns):
            continue
        learned = f"a model has learned from rows up to {until}"
        if column not in rows.columns:
            return f"{learned}, and these rows have no {column!r} to tell whether they come later"
        later = predicted_after(rows[at], until) if at else after(rows[column], column, until)
        if later is None:
            return f"{learned}, which the held-out {column!r} cannot be compared with"
        if not later:
            return f"{learned}, and the held-out rows do not all come after that"
    return ""
