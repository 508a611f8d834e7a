"""What a suite is judged on: a frame in memory, a table or query in a database, or files read by Spark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from airflow_pipeops.base.arguments import one_given
from airflow_pipeops.base.delimited import Csv, distinct, in_spark, in_spark_paths
from airflow_pipeops.exceptions import PipeOpsError, SystemFailure

if TYPE_CHECKING:
    import pandas as pd


class Batch(Protocol):
    """What the judgement needs of a batch."""

    rows: int
    columns: tuple[str, ...]

    def holds_text(self, column: str) -> bool:
        """Whether the column holds text, so that a numeric bound makes no sense."""
        ...

    def open(self, context: Any) -> Any:
        """Return the batch of a Great Expectations context."""
        ...


class FrameBatch:
    """A pandas frame.

    :param frame: the rows.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.rows = len(frame)
        self.columns = tuple(map(str, frame.columns))

    def holds_text(self, column: str) -> bool:
        """Whether pandas infers text."""
        from pandas.api.types import infer_dtype

        return infer_dtype(self._frame[column], skipna=True) in ("string", "mixed", "bytes", "categorical")

    def open(self, context: Any) -> Any:
        """Return the Great Expectations batch."""
        asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("batch")
        return asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": self._frame})


class SqlBatch:
    """A table, or the rows of a query; the database does the work, and only counts come back.

    :param engine: the SQLAlchemy engine of an Airflow connection.
    :param table: name, with or without its schema; or
    :param query: a SELECT.
    :raises SystemFailure: if the database cannot describe it.
    """

    def __init__(self, engine: Any, *, table: str = "", query: str = "") -> None:
        one_given("give a table or a query", "Exactly one of the two.", table=table, query=query)
        self._engine = engine
        self._query = query.rstrip().rstrip(";")
        schema, _, name = table.rpartition(".")
        self._schema, self._table = schema or None, name
        self.columns, self.rows = self._asked(_columns_and_count)

    def holds_text(self, column: str) -> bool:
        """Whether the first value that is not null is text."""
        return isinstance(self._asked(_first_value, column), (str, bytes))

    def _connect(self) -> Any:
        pooled = self._engine.raw_connection()
        connection = pooled.driver_connection
        pooled.detach()
        return connection

    def _asked(self, question: Callable[..., Any], *arguments: Any) -> Any:
        import sqlalchemy as sa

        selected: Any = sa.table(self._table, schema=self._schema)
        if self._query:
            selected = sa.text(self._query).columns().subquery("batch")
        try:
            with self._engine.connect() as connection:
                return question(connection, selected, *arguments)
        except sa.exc.SQLAlchemyError as error:
            what = f"table {self._table!r}" if self._table else "the query"
            # The text of the error quotes the statement, and may quote rows: its type says enough.
            raise SystemFailure(
                f"the database cannot read {what} ({type(error).__name__})",
                remedy="Check its name, and that the connection's user may read it.",
            ) from None

    def open(self, context: Any) -> Any:
        """Return the Great Expectations batch."""
        # Connections come from the engine that the hook has made, with all that it knows; Great Expectations is told the
        # dialect, and no password.
        kind = f"{self._engine.dialect.name}+{self._engine.driver}://"
        source = context.data_sources.add_sql(
            "sql", connection_string=kind, kwargs={"creator": self._connect}
        )
        if self._query:
            asset = source.add_query_asset("batch", query=self._query)
        else:
            asset = source.add_table_asset("batch", table_name=self._table, schema_name=self._schema)
        return asset.add_batch_definition_whole_table("whole").get_batch()


class SparkFrameBatch:
    """A frame of Spark, judged where it stands; nothing comes to this process but counts.

    :param frame: the rows.
    :param name: of where they come from.
    :raises SystemFailure: if Spark cannot count them.
    :raises InvalidInput: if two columns differ by case alone.
    """

    def __init__(self, frame: Any, name: str = "the rows") -> None:
        self._frame = frame
        try:
            self.rows = int(frame.count())
        except Exception as error:  # py4j and Spark have many types of error
            raise _unreadable(name, error) from error
        self.columns = tuple(frame.columns)
        distinct(self.columns, "data")

    def holds_text(self, column: str) -> bool:
        """Whether Spark's type of the column is text."""
        return dict(self._frame.dtypes)[column] in ("string", "binary")

    def open(self, context: Any) -> Any:
        """Return the Great Expectations batch."""
        asset = context.data_sources.add_spark("spark", persist=False).add_dataframe_asset("batch")
        return asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": self._frame})


class SparkBatch(SparkFrameBatch):
    """Files that Spark reads, where it stands.

    :param files: URIs of Parquet or CSV files or folders, of one format.
    :param config: settings of the Spark session, for example ``{"spark.master": "yarn"}``.
    :param options: what CSV files do not say of themselves.
    :raises SystemFailure: if Spark cannot read them.
    :raises InvalidInput: if CSV files leave open how they are to be read.
    """

    def __init__(
        self, files: Sequence[str], config: Mapping[str, str] | None = None, options: Csv | None = None
    ) -> None:
        from airflow_pipeops.exceptions import MissingExtra

        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise MissingExtra("pyspark", "spark") from error
        builder = SparkSession.builder.appName("airflow-pipeops")
        for name, value in (config or {}).items():
            builder = builder.config(name, value)
        csv = all(".csv" in name.rsplit("/", 1)[-1].lower() for name in files)
        try:
            session = builder.getOrCreate()
            paths = in_spark_paths(session, files)
            if csv:
                frame, _ = in_spark(session, paths, options or Csv(), {}, "+".join(files), "data")
            else:
                frame = session.read.parquet(*paths)
        except PipeOpsError:
            raise
        except Exception as error:  # py4j and Spark have many types of error
            raise _unreadable(", ".join(files), error) from error
        super().__init__(frame, ", ".join(files))


def _unreadable(name: str, error: Exception) -> SystemFailure:
    return SystemFailure(
        f"Spark cannot read {name} ({type(error).__name__})",
        remedy="Check the URIs, and that each file is whole.",
    )


def _columns_and_count(connection: Any, selected: Any) -> tuple[tuple[str, ...], int]:
    import sqlalchemy as sa

    none = connection.execute(sa.select(sa.text("*")).select_from(selected).limit(0))
    count = connection.execute(sa.select(sa.func.count()).select_from(selected))
    return tuple(map(str, none.keys())), int(count.scalar_one())


def _first_value(connection: Any, selected: Any, name: str) -> Any:
    import sqlalchemy as sa

    column: Any = sa.column(name)
    known = sa.select(column).select_from(selected).where(column.is_not(None))
    return connection.execute(known.limit(1)).scalar()
