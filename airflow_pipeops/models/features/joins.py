"""Joins as of a time: to each row what was known then, and nothing that came later.

A table of facts has two clocks: when something was so (the event), and when it was written down. Who looks at the first
alone learns from what nobody could know: a value that was filled in later stands at an early time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import has_columns, not_empty, one_of, positive
from airflow_pipeops.base.typed import demand_types
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.times import times

if TYPE_CHECKING:
    import pandas as pd

#: As it was known when the row was, or when the table is built.
KnownBy = Literal["row", "build"]
_KNOWN_BY: tuple[KnownBy, ...] = ("row", "build")


@dataclass(frozen=True)
class Join:
    """A table whose values are joined to rows, for each the newest that was known.

    Of several values of one event, the one counts that was written last; of those written at once, the one that stands last.

    :param table: its name, by which the tables are given.
    :param keys: columns that rows and table share.
    :param columns: of the table, that are joined; they are null where nothing was known.
    :param event_time: column with the time at which a value was so.
    :param created_time: column with the time at which it was written down. Without one, values that were written later, or
        corrected, cannot be told from those that were known.
    :param ttl: for which a value counts after its event; for ever without. Of labels: for which one comes after its row.
    :param known_by: ``row``: as known at the row's time, as features are; ``build``: as known when the table is built, as
        labels are, whose event is not before their row.
    """

    table: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    event_time: str
    created_time: str | None = None
    ttl: timedelta | None = None
    known_by: KnownBy = "row"

    def __post_init__(self) -> None:
        for name in ("keys", "columns"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, (value,))
        demand_types(self)
        for name in ("keys", "columns"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            not_empty(name, getattr(self, name), f"join {self.table!r} names no {name}", "Name at least one.")
        one_of("known_by", self.known_by, _KNOWN_BY)
        if self.ttl is not None:
            positive("ttl", self.ttl)


def joined(
    rows: pd.DataFrame, time: str, table: pd.DataFrame, join: Join, *, as_of: datetime | None = None
) -> pd.DataFrame:
    """Join a table as of each row's time.

    :param rows: each of them comes out once, in its place, whatever the table holds.
    :param time: their column of times.
    :param table: the values.
    :param join: how.
    :param as_of: when the table is built: what was written later is not known. By default, everything is.
    :return: the rows with the columns joined.
    :raises InvalidInput: for columns that are absent, or there twice; for times of two kinds; for keys of two types.
    """
    import numpy as np

    has_columns("data", rows.columns, [*join.keys, time])
    needed = [*join.keys, *join.columns, join.event_time, *filter(None, [join.created_time])]
    has_columns(f"table {join.table!r}", table.columns, needed)
    if both := [name for name in join.columns if name in rows.columns]:
        raise InvalidInput(
            f"the data and table {join.table!r} both have the column {both[0]!r}",
            field="joins",
            value=both,
            remedy="Give one of them another name.",
        )
    table = table.reset_index(drop=True)
    found = _newest_known(rows.reset_index(drop=True), time, table, join, as_of)
    # By number and not by value, so that none passes through another system's types; -1 is no row of the table.
    values = table[list(join.columns)].reindex(np.asarray(found))
    return rows.assign(**{name: values[name].set_axis(rows.index) for name in join.columns})


def _newest_known(
    rows: pd.DataFrame, time: str, table: pd.DataFrame, join: Join, as_of: datetime | None
) -> list[int]:
    """Return, for each row, which row of the table was the newest that was known; -1 for none."""
    import duckdb
    import pandas as pd

    now, ours = _ticks(rows[time], time, as_of)
    event, theirs = _ticks(table[join.event_time], join.event_time, as_of)
    created = event
    if join.created_time is not None:
        created, written = _ticks(table[join.created_time], join.created_time, as_of)
        _same_kind(written, theirs, join.created_time, join.event_time)
    _same_kind(ours, theirs, time, join.event_time)
    if join.ttl is not None and ours == "numbers":
        raise InvalidInput(
            f"ttl is a time, and {time!r} holds numbers", field="ttl", value=str(join.ttl),
            remedy="Give columns of times, or leave ttl out.",
        )  # fmt: skip
    left = pd.DataFrame({"n": range(len(rows)), "t": now})
    right = pd.DataFrame({"n": range(len(table)), "event": event, "created": created})
    for number, name in enumerate(join.keys):
        left[f"k{number}"], right[f"k{number}"] = _keys(rows[name], table[name], name, join.table)
    conditions = [f"e.k{number} = f.k{number}" for number in range(len(join.keys))]
    conditions += ["f.event <= e.t", "f.created <= e.t"] if join.known_by == "row" else ["f.event >= e.t"]
    if as_of is not None:
        limit = _moment(as_of, theirs, time)
        conditions += [f"f.event <= {limit}", f"f.created <= {limit}"]
    if join.ttl is not None:
        ttl = round(join.ttl.total_seconds() * 1_000_000)
        conditions.append(f"f.event > e.t - {ttl}" if join.known_by == "row" else f"f.event <= e.t + {ttl}")
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("e", left)
        connection.register("f", right)
        found = connection.execute(
            "SELECT coalesce(arg_max(f.n, (f.event, f.created, f.n)) FILTER (f.n IS NOT NULL), -1) FROM e LEFT JOIN f"
            f" ON {' AND '.join(conditions)} GROUP BY e.n ORDER BY e.n"
        ).fetchall()
    return [number for (number,) in found]


def _ticks(given: pd.Series[Any], name: str, as_of: datetime | None) -> tuple[pd.Series[Any], str]:
    """Return times as whole microseconds, and of which kind they are; numbers stay as they are."""
    import pandas as pd

    found = times(given, name)
    if not pd.api.types.is_datetime64_any_dtype(found.dtype):
        if as_of is not None:
            raise InvalidInput(
                f"as_of is a time, and {name!r} holds numbers", field="as_of", value=str(as_of),
                remedy="Give columns of times, or leave as_of out.",
            )  # fmt: skip
        return found, "numbers"
    zoned = getattr(found.dtype, "tz", None) is not None
    plain = found.dt.tz_convert("UTC").dt.tz_localize(None) if zoned else found
    return plain.astype("datetime64[us]").astype("int64"), "times with a zone" if zoned else "times"


def _moment(as_of: datetime, kind: str, name: str) -> int:
    import pandas as pd

    given = pd.Series([pd.Timestamp(as_of)])
    ticks, said = _ticks(given, "as_of", None)
    _same_kind(said, kind, "as_of", name)
    return int(ticks.iloc[0])


def _same_kind(one: str, other: str, name: str, of: str) -> None:
    if one != other:
        raise InvalidInput(
            f"{name!r} holds {one}, and {of!r} holds {other}",
            field=name,
            remedy="Give both as times of one kind, with their zone or without.",
        )


def _keys(
    ours: pd.Series[Any], theirs: pd.Series[Any], name: str, table: str
) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """Return key columns that the engine compares as they are; a null is equal to nothing."""
    import pandas as pd

    kinds = [pd.api.types.infer_dtype(column.dropna().astype("object")) for column in (ours, theirs)]
    numbers = ("integer", "floating", "mixed-integer-float", "empty")
    alike = kinds[0] == kinds[1] or "empty" in kinds or all(kind in numbers for kind in kinds)
    if not alike:
        raise InvalidInput(
            f"key {name!r} holds {kinds[0]} in the data and {kinds[1]} in table {table!r}",
            field="keys",
            value=name,
            remedy="Give both the same type; 7 and '7' are not equal.",
        )
    left, right = (column.astype("object").where(column.notna(), None) for column in (ours, theirs))
    codes, known = pd.factorize(pd.concat([left, right], ignore_index=True))
    assert known is not None
    found = pd.Series(codes).where(codes >= 0).astype("Int64")
    return found.iloc[: len(left)].reset_index(drop=True), found.iloc[len(left) :].reset_index(drop=True)


def rows_by_label(
    rows: pd.DataFrame, time: str, label: str, delay: timedelta, as_of: datetime
) -> pd.DataFrame:
    """Make null the labels that are not known yet when the table is built.

    :param rows: with their labels.
    :param time: their column of times.
    :param label: the label's column.
    :param delay: for which a label comes after its row.
    :param as_of: when the table is built.
    :return: all rows.
    :raises InvalidInput: for a column that is absent, or times that cannot be compared with ``as_of``.
    """
    has_columns("data", rows.columns, [time, label])
    now, kind = _ticks(rows[time], time, as_of)
    known = now + round(delay.total_seconds() * 1_000_000) <= _moment(as_of, kind, time)
    return rows.assign(**{label: rows[label].where(known.to_numpy())})


def tables_needed(joins: Sequence[Join]) -> list[str]:
    """Return the names of the tables that joins need, each once."""
    return list(dict.fromkeys(join.table for join in joins))
