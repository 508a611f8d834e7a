"""The rows of a partition, read in batches of Arrow from files, a table or a query, in memory that stays what it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_pipeops.drift.columns import Column
    from airflow_pipeops.drift.sources import Source

#: Rows that are in memory at once.
BATCH = 65_536
#: Of the DuckDB that files are read with: rows, not aggregates, pass through it.
MEMORY_LIMIT = "512MB"


@dataclass(frozen=True)
class Columns(JsonForm):
    """What is read of a partition.

    :param key: names a row.
    :param features: of all models that score it.
    :param carry: written beside the scores.
    """

    key: tuple[str, ...]
    features: tuple[str, ...]
    carry: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Each column once."""
        return tuple(dict.fromkeys((*self.key, *self.carry, *self.features)))

    @property
    def written(self) -> tuple[str, ...]:
        """Those that are written beside the scores."""
        return tuple(dict.fromkeys((*self.key, *self.carry)))


class Partition:
    """An opened partition.

    :param session: of the engine that reads it.
    :param field: the name under which the reader knows it.
    """

    def __init__(self, session: Any, field: str) -> None:
        self._session, self._field = session, field
        self.engine: str = session.engine
        self.known: tuple[Column, ...] = session.schema()

    def identity(self) -> dict[str, Any]:
        """Return what it is read from, without secrets."""
        return dict(self._session.identity())

    def batches(self, kinds: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
        """Read all rows.

        :param kinds: column -> type, of :func:`kinds_of`.
        :return: batches of these columns.
        """
        query = f"SELECT {self._listed(list(kinds))} FROM {self._session.relation}"
        for batch in self._session.batches(query, list(kinds), BATCH):
            yield conformed(batch, kinds, self._field)

    def twice(self, key: Sequence[str]) -> int:
        """Count the values of a key that more than one row has."""
        named = self._listed(key)
        query = f"SELECT {named} FROM {self._session.relation} GROUP BY {named} HAVING COUNT(*) > 1"
        return int(self._session.rows(f"SELECT COUNT(*) FROM ({query}) AS pipeops_twice")[0][0])

    def _listed(self, columns: Sequence[str]) -> str:
        from airflow_pipeops.drift.engines.sql import identifier

        return ", ".join(identifier(name, self._session.dialect) for name in columns)


@contextmanager
def opened(source: Source, field: str = "data") -> Iterator[Partition]:
    """Open a partition with the engine that it needs, but for Spark.

    :param source: where it comes from.
    :param field: the name under which the reader knows it.
    :return: the partition, while the context lasts.
    :raises InvalidInput: for what holds no rows.
    """
    from airflow_pipeops.drift.engines.duck import Database
    from airflow_pipeops.drift.engines.opening import opened as session_of

    with Database(MEMORY_LIMIT) as database:
        session = session_of(source, field, duck=database)
        try:
            yield Partition(session, field)
        finally:
            session.close()


#: Type in which a feature is scored, by its datatype of the Open Inference Protocol.
FEATURES = {"INT64": "int64", "FP64": "double", "BYTES": "string"}
#: Type in which another column is written, by its family.
_OTHERS = {
    "integer": "int64",
    "number": "double",
    "boolean": "bool",
    "text": "string",
    "uuid": "string",
    "date": "date32[day]",
    "timestamp": "timestamp[us]",
    "timestamptz": "timestamp[us, tz=UTC]",
    "null": "string",
}


def kinds_of(known: Sequence[Column], columns: Columns, features: Mapping[str, str]) -> dict[str, str]:
    """Choose the types in which columns are hashed, scored and written, whatever engine reads them.

    :param known: the columns of the partition.
    :param columns: those that are read; one that is not there is left out.
    :param features: datatype of the Open Inference Protocol by column.
    :return: column -> type of Arrow.
    :raises InvalidInput: for a key or a kept column of a type that cannot be written so, such as a list.
    """
    found: dict[str, str] = {}
    there = {column.name: column for column in known}
    for name in columns.all:
        if name not in there:
            continue
        column = there[name]
        exact = re.match(r"(?i)(big)?(decimal|numeric)", column.type)  # a double may hold another number
        kind = FEATURES.get(features.get(name, "")) or ("string" if exact else _OTHERS.get(column.family))
        if kind is None:
            raise InvalidInput(
                f"the column {name!r} is of the type {column.type}, which can be no key and is not written",
                field=name,
                value=column.type,
                remedy="Name columns of numbers, texts, dates or times in key= and carry=.",
            )
        found[name] = kind
    return found


def families_of(known: Sequence[Column]) -> dict[str, str]:
    """Return the family of each column, as :data:`~airflow_pipeops.serving.batch.contract.FITTING` names it."""
    return {column.name: column.family for column in known}


def conformed(batch: pa.RecordBatch, kinds: Mapping[str, str], field: str = "data") -> pa.RecordBatch:
    """Give the columns of a batch their types.

    :param batch: of any types.
    :param kinds: column -> type of Arrow; NaN of a double becomes null.
    :param field: the name under which the reader knows the rows.
    :return: the same rows.
    :raises InvalidInput: for a value that would be another one.
    """
    import pyarrow as pa

    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        target = _arrow(kinds[name])
        try:
            if pa.types.is_boolean(column.type) and not pa.types.is_boolean(target):
                column = column.cast(pa.int8())
            columns.append(_without_nan(column if column.type == target else column.cast(target)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidInput(
                f"{field}: values of {name!r} ({column.type}) cannot be read as {kinds[name]} without changing them",
                field=name,
                value=str(column.type),
                remedy="Convert the column, or train the model on it as it is.",
            ) from error
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def schema_of(kinds: Mapping[str, str]) -> pa.Schema:
    """Return the schema of columns by the names of their types."""
    import pyarrow as pa

    return pa.schema([(name, _arrow(kind)) for name, kind in kinds.items()])


def _arrow(kind: str) -> pa.DataType:
    import pyarrow as pa

    if kind.startswith("timestamp"):
        return pa.timestamp("us", "UTC" if "UTC" in kind else None)
    plain = {"int64": pa.int64, "double": pa.float64, "string": pa.string, "bool": pa.bool_}
    return plain[kind]() if kind in plain else pa.date32()


def _without_nan(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_floating(column.type):
        return column
    absent = pc.is_nan(column)
    return pc.if_else(absent, pa.scalar(None, column.type), column) if pc.any(absent).as_py() else column
