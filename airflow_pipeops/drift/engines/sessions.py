"""One side of a comparison, opened: it says its schema, and answers the generated SQL with aggregates."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.drift.columns import Column
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

if TYPE_CHECKING:
    import pandas as pd


class Session(Protocol):
    """What an engine offers for one source."""

    dialect: str
    #: Name and version.
    engine: str

    @property
    def relation(self) -> str:
        """How the rows are named in a ``FROM``."""

    def schema(self) -> tuple[Column, ...]:
        """Return the columns, in their order."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a generated query."""

    def table(self, sql: str) -> dict[str, Any]:
        """Run a generated query; return its columns by name, masked arrays or lists with ``None``."""

    def frame(self, sql: str) -> pd.DataFrame:
        """Run a generated query; return its rows with every value as it is, nulls too."""

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
        self._cancelled = False

    def cancel(self) -> None:
        """End the running query and everything after it."""
        with self._lock:
            self._cancelled = True
            sessions = list(self._sessions)
        for session in sessions:
            session.cancel()

    def watch(self, session: Session) -> None:
        """Include a session."""
        with self._lock:
            self._sessions.append(session)

    def check(self) -> None:
        """Go on, or not.

        :raises Cancelled: if somebody asked for it.
        """
        if self._cancelled:
            raise Cancelled("the comparison was cancelled")


def by_name(names: Sequence[str], found: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Turn rows into columns."""
    columns = list(zip(*found, strict=True)) if found else [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def frame_of(names: Sequence[str], found: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """Turn rows of Python's own values into a frame: integers stay integers beside a null, decimals stay decimals."""
    import pandas as pd

    def series(values: list[Any]) -> pd.Series[Any]:
        known = [value for value in values if value is not None]
        kinds = {type(value) for value in known}
        if len(kinds) > 1:
            return pd.Series(values, dtype=object)
        if kinds == {int} and len(known) < len(values):
            small = min(known) >= -(2**63) and max(known) < 2**63
            return pd.Series(values, dtype="Int64" if small else object)
        return pd.Series(values)

    return pd.DataFrame({name: series(values) for name, values in by_name(names, found).items()})


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
    not_empty(field, columns, f"{field} has no columns", "Nothing can be said of no data.")
    return tuple(columns)
