"""Spark as the engine: the rows stay where they are, the driver gets aggregates."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.delimited import distinct, in_spark, in_spark_paths
from airflow_pipeops.drift.columns import Column, Unmeasured
from airflow_pipeops.drift.engines.sessions import Cancelled, by_name, frame_of, unique
from airflow_pipeops.drift.sources import Files, Frame, Query, TableRef
from airflow_pipeops.exceptions import InvalidInput, MissingExtra, NotFound, PipeOpsError, Unreachable

if TYPE_CHECKING:
    import pandas as pd


def local_session(
    cores: int | str = "*", memory: str = "1g", options: Mapping[str, str] | None = None
) -> Any:
    """Start a Spark on this machine, for data that are too much for one thread and not enough for a cluster.

    :param cores: of this machine that it may use; ``*`` for all.
    :param memory: of its driver, as Spark writes it.
    :param options: more of Spark's own settings.
    :return: the Spark session.
    :raises MissingExtra: without pyspark.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingExtra("pyspark", "spark") from error
    builder = (
        SparkSession.builder.master(f"local[{cores}]")
        .appName("airflow-pipeops drift")
        .config("spark.driver.memory", memory)
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "4")
    )
    for name, value in (options or {}).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


class SparkSide:
    """A source as a temporary view of a Spark session.

    :param session: to read with; that of the frame where it is one.
    """

    dialect = "spark"

    def __init__(
        self,
        source: Files | Frame | Query | TableRef,
        field: str,
        session: Any = None,
        like: Sequence[Column] = (),
    ) -> None:
        self._source, self._field = source, field
        self._like = {column.name: column.family for column in like}
        self._nulls: frozenset[str] = frozenset()
        self._group = f"pipeops-{uuid.uuid4().hex[:12]}"
        self.relation = f"pipeops_{uuid.uuid4().hex[:12]}"
        self._cancelled = False
        self._session = source.data.sparkSession if isinstance(source, Frame) else session
        self.engine = f"spark {self._session.version}"
        self._frame = self._read()
        distinct(self._frame.columns, field)  # Spark knows no column by its case
        self._frame.createOrReplaceTempView(self.relation)

    def _read(self) -> Any:
        source = self._source
        try:
            if isinstance(source, Frame):
                return source.data
            if isinstance(source, Query):
                return self._session.sql(source.sql)
            if isinstance(source, TableRef):
                quoted = ".".join("`" + part.replace("`", "``") + "`" for part in source.parts)
                frame = self._session.table(quoted)
                return frame.where(source.where) if source.where else frame
            if source.format in ("delta", "iceberg"):
                return self._session.read.format(source.format).load(source.paths[0])
            paths = in_spark_paths(self._session, source.paths)
            if source.format == "csv":
                frame, types = in_spark(
                    self._session, paths, source.csv, self._like, source.name, self._field
                )
                self._nulls = frozenset(name for name, kind in types.items() if kind == "null")
                return frame
            return self._session.read.parquet(*paths)
        except PipeOpsError:
            raise
        except Exception as error:
            raise self._error(error) from error

    def schema(self) -> tuple[Column, ...]:
        """Return the columns."""
        found = [
            Column.of(
                field.name,
                "void" if field.name in self._nulls else field.dataType.simpleString(),
                self.dialect,
            )
            for field in self._frame.schema
        ]
        return unique(found, self._field)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a query."""
        return [tuple(row) for row in self._collected(sql)[1]]

    def table(self, sql: str) -> dict[str, Any]:
        """Run a query; return lists by name."""
        names, found = self._collected(sql)
        return by_name(names, found)

    def frame(self, sql: str) -> pd.DataFrame:
        """Run a query; return its rows as they are."""
        names, found = self._collected(sql)
        return frame_of(names, found)

    def _collected(self, sql: str) -> tuple[list[str], list[Any]]:
        if self._cancelled:
            raise Cancelled("the comparison was cancelled")
        self._session.addTag(self._group)
        try:
            frame = self._session.sql(sql)
            return list(frame.columns), frame.collect()
        except Exception as error:
            raise self._error(error, queried=True) from error
        finally:
            self._session.removeTag(self._group)

    def _error(self, error: Exception, queried: bool = False) -> PipeOpsError:
        if self._cancelled:
            return Cancelled("the comparison was cancelled")
        condition = ""
        if callable(getter := getattr(error, "getCondition", None) or getattr(error, "getErrorClass", None)):
            condition = str(getter() or "")
        what = condition or type(error).__name__
        if condition.startswith(("PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND")):
            return NotFound(f"{self._field}: there is no {self._source.name}", remedy="Check the name.")
        if type(error).__name__ in (
            "Py4JNetworkError",
            "SparkConnectGrpcException",
            "ConnectionRefusedError",
        ):
            return Unreachable(f"{self._field}: Spark does not answer ({what})")
        if condition.startswith("COLUMN_ALREADY_EXISTS"):
            said: Any = error
            name = str(said.getMessageParameters().get("columnName", "")).strip("`")
            return InvalidInput(
                f"{self._field} has two columns named {name!r}, or that differ in case only",
                field=self._field,
                value=name,
                remedy="Rename one of them.",
            )
        # A query that fails says nothing about the other columns, unless it met a damaged file.
        kind = Unmeasured if queried and "FAILED_READ_FILE" not in str(error) else InvalidInput
        return kind(
            f"{self._field}: Spark could not read {self._source.name} ({what})",
            field=self._field,
            value=self._source.name,
            remedy="Check that the data are complete, of one schema, and that the query is right.",
        )

    def identity(self) -> dict[str, Any]:
        """Return the name; of a table, that of its catalogue."""
        return {"kind": type(self._source).__name__.lower(), "name": self._source.name, "engine": self.engine}

    def cancel(self) -> None:
        """End the running jobs of this side."""
        self._cancelled = True
        self._session.interruptTag(self._group)

    def close(self) -> None:
        """Drop the view; the session is its owner's."""
        self._session.catalog.dropTempView(self.relation)
