"""One side of a comparison, opened: it says its schema, and answers the generated SQL with aggregates."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_pipeops.drift.engines.dialects import family
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.drift.sources import Source


@dataclass(frozen=True)
class Column:
    """A column as its engine knows it.

    :param type: as the engine writes it.
    :param family: how it can be compared, see :mod:`airflow_pipeops.drift.engines.dialects`.
    """

    name: str
    type: str
    family: str

    @classmethod
    def of(cls, name: str, type_name: str, dialect: str) -> Column:
        """Make one from what an engine says."""
        return cls(name, type_name, family(type_name, dialect))


class Session(Protocol):
    """What an engine offers for one source."""

    dialect: str
    #: Name and version.
    engine: str
    #: How the rows are named in a ``FROM``.
    relation: str

    def schema(self) -> tuple[Column, ...]:
        """Return the columns, in their order."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a generated query."""

    def table(self, sql: str) -> dict[str, Any]:
        """Run a generated query; return its columns by name, masked arrays or lists with ``None``."""

    def identity(self) -> dict[str, Any]:
        """Return what tells these rows from others, as plain JSON without secrets."""

    def cancel(self) -> None:
        """End the running query, from another thread."""

    def close(self) -> None:
        """Let go of everything, temporary files too."""


class Cancelled(PipeOpsError):
    """The comparison was told to stop; nothing was recorded."""


class Cancellation:
    """A way to stop a comparison from another thread, such as an operator's ``on_kill``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: list[Session] = []
        self._told = False

    def cancel(self) -> None:
        """End the running query and everything after it."""
        with self._lock:
            self._told = True
            sessions = list(self._sessions)
        for session in sessions:
            session.cancel()

    def watch(self, session: Session) -> None:
        """Include a session."""
        with self._lock:
            self._sessions.append(session)

    @property
    def told(self) -> bool:
        """Whether somebody asked."""
        return self._told

    def check(self) -> None:
        """Go on, or not.

        :raises Cancelled: if somebody asked for it.
        """
        if self._told:
            raise Cancelled("the comparison was cancelled")


def by_name(names: Sequence[str], found: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Turn rows into columns."""
    columns = list(zip(*found, strict=True)) if found else [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def unique(columns: Sequence[Column], field: str) -> tuple[Column, ...]:
    """Return the columns if each has a name of its own.

    :raises InvalidInput: for two of one name, or none at all.
    """
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise InvalidInput(
                f"{field} has two columns named {column.name!r}",
                field=field,
                value=column.name,
                remedy="Rename one of them.",
            )
        seen.add(column.name)
    if not columns:
        raise InvalidInput(f"{field} has no columns", field=field, remedy="Nothing can be said of no data.")
    return tuple(columns)


def opened(source: Source, field: str, *, duck: Any, spark: Any = None, timeout: float = 3600.0) -> Session:
    """Open a source with the engine that it needs.

    :param duck: the :class:`~airflow_pipeops.drift.engines.duck.Database` that files and frames are read with.
    :param spark: a Spark session that files and tables without a connection are read with instead.
    :param timeout: seconds for each query in a warehouse.
    """
    from airflow_pipeops.drift.sources import Files, Frame, Query, TableRef

    if isinstance(source, Frame) and source.in_spark:
        from airflow_pipeops.drift.engines.spark import SparkSide

        return SparkSide(source, field, spark)
    if isinstance(source, (Query, TableRef)):
        if source.conn_id is not None or source.hook is not None:
            from airflow_pipeops.drift.engines.warehouse import Warehouse

            return Warehouse(source, field, timeout=timeout)
        if spark is None:
            raise InvalidInput(
                f"{field} names no connection", field=field, value=source.name, remedy="Give conn_id."
            )
    if spark is not None and isinstance(source, (Files, Query, TableRef)):
        from airflow_pipeops.drift.engines.spark import SparkSide

        return SparkSide(source, field, spark)
    if isinstance(source, (Files, Frame)):
        from airflow_pipeops.drift.engines.duck import DuckSide

        return DuckSide(source, field, duck)
    raise InvalidInput(
        f"{field} is no source",
        field=field,
        value=type(source).__name__,
        remedy="Use Files, Frame, Query, TableRef, or a Profile (of a reference).",
    )
