"""What every operator that measures data has in common: how they are read, how far it is, and how it is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.exceptions import MissingExtra

if TYPE_CHECKING:
    from airflow_pipeops.drift.comparison import Engine
    from airflow_pipeops.drift.engines.sessions import Cancellation


class MeasuringOperator(DeliveryOperator):
    """Base of the operators that boil data down.

    :param engine: ``duckdb``, or ``spark`` for files and Spark's own tables. What is behind a connection is measured there.
    :param memory_limit: of the embedded DuckDB, for example ``1GB``.
    :param storage_conn_id: connection of type ``pipeops_storage`` for relative names or credentials.
    """

    def __init__(
        self,
        *,
        engine: Literal["duckdb", "spark"] = "duckdb",
        memory_limit: str | None = None,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.engine = one_of("engine", engine, ("duckdb", "spark"))
        self.memory_limit = memory_limit
        self.storage_conn_id = storage_conn_id
        self._cancellation: Cancellation | None = None

    def options(self) -> Engine:
        """Return how the data are read.

        :raises MissingExtra: without pyspark, where Spark is asked for.
        """
        from airflow_pipeops.drift.comparison import Engine

        limit: dict[str, Any] = {"memory_limit": self.memory_limit} if self.memory_limit else {}
        if self.engine == "duckdb":
            return Engine(**limit)
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise MissingExtra("pyspark", "spark") from error
        return Engine(spark=SparkSession.builder.appName("airflow-pipeops").getOrCreate(), **limit)

    def watched(self) -> dict[str, Any]:
        """Return how a measurement tells of its progress, and how a kill of the task ends its running query."""
        from airflow_pipeops.drift.engines.sessions import Cancellation

        self._cancellation = Cancellation()
        return {"progress": self._progress, "cancellation": self._cancellation}

    def on_kill(self) -> None:
        """End the running query."""
        if self._cancellation is not None:
            self._cancellation.cancel()

    def _progress(self, done: int, total: int, column: str) -> None:
        if done % 25 == 0 or done == total:
            self.log.info("Measured %d of %d columns", done, total)
