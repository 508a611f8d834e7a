"""Which rows move together: those of one day, one user, one document. Pure.

Rows that share weather, prices or an author are fewer than they look. What counts as one observation is said by the design
of the data, and not by a look at the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.gain import MIN_UNITS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]


#: In so many ways rows may move together.
MAX_WAYS = 2


@dataclass(frozen=True)
class Units:
    """The unit that each row belongs to.

    :param codes: shape (rows,); the number of the row's unit, from 0; in the order of time where there is one.
    :param count: how many units there are.
    :param name: of the column that says so; empty where each row stands for itself.
    :param in_time: whether units follow each other in time, so that neighbours may resemble each other.
    :param also: another way in which rows move together, such as by user beside by day.
    """

    codes: Array
    count: int
    name: str = ""
    in_time: bool = False
    also: Units | None = None

    def sums(self, values: Array) -> Array:
        """Add up a value by unit.

        :param values: shape (rows,).
        :return: shape (count,).
        """
        import numpy as np

        return np.bincount(self.codes, weights=values, minlength=self.count)

    def part(self, rows: Array) -> Units:
        """Return the units of some of the rows, numbered anew in the same order.

        :param rows: whether each row is among them, or the numbers of those that are.
        :return: their units.
        """
        import numpy as np

        kept, codes = np.unique(self.codes[rows], return_inverse=True)
        return Units(codes, len(kept), self.name, self.in_time, self.also and self.also.part(rows))

    def shared(self) -> Units:
        """Return units of the rows that move together in both ways."""
        import numpy as np

        assert self.also is not None
        kept, codes = np.unique(self.codes * self.also.count + self.also.codes, return_inverse=True)
        return Units(codes, len(kept), f"{self.name}, {self.also.name}")


def columns_of(cluster: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns that somebody named, one or several."""
    return (cluster,) if isinstance(cluster, str) else tuple(cluster or ())


def of_columns(frame: pd.DataFrame, cluster: str | Sequence[str] | None) -> Units:
    """Return the units of a table's rows.

    :param frame: the rows.
    :param cluster: the column that names the units, or two of them; none where each row stands for itself.
    :return: the units.
    :raises InvalidInput: for a column that is not there, or holds nulls; for more than two.
    """
    columns = columns_of(cluster)
    if len(columns) > MAX_WAYS:
        raise InvalidInput(
            f"cluster names {len(columns)} columns",
            field="cluster",
            value=list(columns),
            remedy=f"Name at most {MAX_WAYS} ways in which rows move together, such as the day and the user.",
        )
    if not columns:
        return each_row(len(frame))
    for column in columns:
        if column not in frame.columns:
            raise InvalidInput(
                f"the data lack the column {column!r}",
                field="cluster",
                value=column,
                remedy="Name a column of the held-out data, such as the day.",
            )
    first, *others = (by_column(frame[column], column) for column in columns)
    return replace(first, also=others[0]) if others else first


def too_few(units: Units, rarest: int) -> str:
    """Say why so few rows or units tell nothing.

    :param units: of the rows that are looked at.
    :param rarest: how many of the rows are of the rarest class; all, where there are no classes.
    :return: a reason in plain words; empty where there are enough.
    """
    rows = len(units.codes)
    if rarest < MIN_UNITS:
        of_a_class = " of the rarest class" if rarest < rows else ""
        return f"{rarest:,} rows{of_a_class} among {rows:,} are too few, at least {MIN_UNITS} are needed"
    if units.count < MIN_UNITS:
        few = f"{units.count} values of {units.name!r}, whose rows move together, are too few"
        return f"{few}, at least {MIN_UNITS} are needed"
    return too_few(units.also, rarest) if units.also else ""


def each_row(rows: int) -> Units:
    """Return units of one row each: rows that are independent.

    :param rows: how many.
    :return: as many units.
    """
    import numpy as np

    return Units(np.arange(rows), rows)


def by_column(marks: pd.Series[Any], name: str) -> Units:
    """Return the units that a column names; times, and texts that begin with an ISO date, count by their day.

    :param marks: shape (rows,); equal values mark rows that move together.
    :param name: of the column.
    :return: the units; in time, where the column holds times.
    :raises InvalidInput: for nulls, or values that cannot be told apart, such as lists.
    """
    import pandas as pd

    if absent := int(marks.isna().sum()):
        raise InvalidInput(
            f"cluster {name!r} has {absent:,} nulls",
            field="cluster",
            value=name,
            remedy="Leave these rows out of the held-out data, or give them a value.",
        )
    days = _days(marks)
    try:
        numbers, kinds = pd.factorize(marks if days is None else days, sort=days is not None)
    except TypeError as error:
        raise InvalidInput(
            f"the values of cluster {name!r} cannot be compared: {error}",
            field="cluster",
            value=name,
            remedy="Name a column of texts, numbers or times.",
        ) from error
    return Units(numbers, len(kinds), name, days is not None)


def _days(marks: pd.Series[Any]) -> pd.Series[Any] | None:
    """Return the day of each value; ``None`` where the column holds no times."""
    import datetime

    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(marks.dtype):
        return marks.dt.floor("D")
    first = marks.iloc[0] if len(marks) else None
    if isinstance(first, datetime.date):
        return pd.to_datetime(marks).dt.floor("D")
    if isinstance(first, str) and marks.astype(str).str.match(r"\d{4}-\d{2}-\d{2}(?:$|[T ])").all():
        return marks.astype(str).str[:10]
    return None
