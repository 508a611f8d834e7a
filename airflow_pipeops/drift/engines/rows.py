"""Rows themselves, for what aggregates cannot do: a sample for a report, texts, and labels joined to predictions.

Only the named columns are read, and of a large source only a sample. A session that is open already is asked for them;
a source that is not is opened for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.sources import Frame, Source
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

    from airflow_pipeops.drift.engines.sessions import Session

#: A report of more rows says nothing more, and takes minutes to open.
SAMPLE_ROWS = 100_000


def read_rows(
    source: Source,
    field: str,
    *,
    columns: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
    spark: Any = None,
) -> pd.DataFrame:
    """Open a source and read rows of it.

    :param source: where they come from.
    :param field: the name under which the reader knows the source.
    :param columns: those to read; by default all.
    :param sample: so many rows at most, each with the same chance.
    :param seed: the same rows for the same seed, as long as they are read in the same order; Trino, BigQuery, ClickHouse and
        Redshift cannot repeat a draw, and draw anew.
    :param spark: a Spark session that files and tables without a connection are read with.
    :return: one column for each that was named.
    :raises InvalidInput: for a profile, which holds no rows, or an unknown column.
    """
    from airflow_pipeops.drift.profile import Profile

    if isinstance(source, Profile):
        raise InvalidInput(
            f"{field} is a profile, which holds no rows",
            field=field,
            remedy="Give the files, table or query themselves.",
        )
    if isinstance(source, Frame) and not source.in_spark:
        return _of_frame(source, field, columns, sample, seed)
    from airflow_pipeops.drift.engines.duck import ROWS_MEMORY, Database
    from airflow_pipeops.drift.engines.opening import opened

    with ExitStack() as stack:
        # One thread: the sample must be the same at every look.
        database = stack.enter_context(Database(ROWS_MEMORY, threads=1))
        session = opened(source, field, duck=database, spark=spark, only=columns)
        stack.callback(session.close)
        known = [column.name for column in session.schema()]
        _check(columns, known, field)
        return rows_of(session, list(columns) or known, sample=sample, seed=seed)


def rows_of(
    session: Session,
    columns: Sequence[str],
    *,
    sample: int | None = None,
    seed: int = 0,
    rows: int | None = None,
) -> pd.DataFrame:
    """Read rows of a session.

    :param session: the side, opened.
    :param columns: those to read; the session has all of them.
    :param sample: so many rows at most, as for :func:`read_rows`.
    :param seed: as for :func:`read_rows`.
    :param rows: how many the session has, where they have been counted.
    :return: one column for each that was named.
    """
    from airflow_pipeops.drift.engines.sql import identifier

    selected = ", ".join(identifier(name, session.dialect) for name in columns)
    query = f"SELECT {selected} FROM {session.relation}"
    if sample is not None:
        if session.dialect == "duckdb":
            query += f" USING SAMPLE reservoir({int(sample)} ROWS) REPEATABLE ({int(seed)})"
        else:
            query = _drawn(session, query, sample, seed, rows)
    found = session.frame(query)
    found.columns = list(columns)  # a driver may give them in capitals
    return found


def _check(columns: Sequence[str], known: Sequence[str], field: str) -> None:
    absent = [name for name in columns if name not in known]
    if absent:
        raise InvalidInput(
            f"{field} has no column {', '.join(map(repr, absent))}",
            field=field,
            value=absent,
            remedy=f"It has {', '.join(list(known)[:20])}.",
        )


def _of_frame(
    source: Frame, field: str, columns: Sequence[str], sample: int | None, seed: int
) -> pd.DataFrame:
    from airflow_pipeops.base.tables import exact
    from airflow_pipeops.drift.engines.duck import arrow

    frame: Any = arrow(source.data, field)
    if type(frame).__module__.startswith("pyarrow"):
        frame = exact(frame.to_table() if hasattr(frame, "to_table") else frame)
    _check(columns, [str(name) for name in frame.columns], field)
    if columns:
        frame = frame[list(columns)]
    if sample is not None and len(frame) > sample:
        frame = frame.sample(sample, random_state=seed)
    return frame.reset_index(drop=True)


def _drawn(session: Session, query: str, sample: int, seed: int, rows: int | None) -> str:
    """Draw rows where dialects share no sampling clause: some too many by tossing coins, and as many of them as wanted."""
    from airflow_pipeops.drift.engines.dialects import coin

    if rows is None:
        rows = int(session.rows(f"SELECT COUNT(*) FROM {session.relation}")[0][0])
    if rows <= sample:
        return query
    before, first = coin(session.dialect, seed)
    if before:
        session.rows(before)
    _, second = coin(session.dialect, seed + 1)
    # Five deviations more than wanted, so that too few are drawn once in three million times.
    share = (sample + 5 * sample**0.5) / rows
    return f"{query} WHERE {first} < {share:.9E} ORDER BY {second} LIMIT {int(sample)}"
