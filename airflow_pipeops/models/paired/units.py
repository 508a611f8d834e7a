"""Which rows move together: those of one day, one user, one document. Pure.

Rows that share weather, prices or an author are fewer than they look. What counts as one observation is said by the design
of the data, and not by a look at the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Units:
    """The unit that each row belongs to.

    :param codes: shape (rows,); the number of the row's unit, from 0; in the order of time where there is one.
    :param count: how many units there are.
    :param name: of the column that says so; empty where each row stands for itself.
    :param in_time: whether units follow each other in time, so that neighbours may resemble each other.
    """

    codes: Array
    count: int
    name: str = ""
    in_time: bool = False

    def sums(self, values: Array) -> Array:
        """Add up a value by unit.

        :param values: shape (rows,).
        :return: shape (count,).
        """
        import numpy as np

        return np.bincount(self.codes, weights=values, minlength=self.count)

    def part(self, rows: Array) -> Units:
        """Return the units of some of the rows, numbered anew in the same order.

        :param rows: shape (rows,); whether a row is among them.
        :return: their units.
        """
        import numpy as np

        kept, codes = np.unique(self.codes[rows], return_inverse=True)
        return Units(codes, len(kept), self.name, self.in_time)


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
