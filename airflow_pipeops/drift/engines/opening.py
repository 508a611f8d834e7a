"""Open a source with the engine that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.drift.columns import Column
from airflow_pipeops.drift.engines.sessions import Session
from airflow_pipeops.drift.sources import Files, Frame, Query, Source, TableRef
from airflow_pipeops.exceptions import InvalidInput


def opened(
    source: Source,
    field: str,
    *,
    duck: Any,
    spark: Any = None,
    timeout: float = 3600.0,
    like: Sequence[Column] = (),
    only: Sequence[str] = (),
) -> Session:
    """Open a source with the engine that it needs.

    :param source: what to open.
    :param field: the name under which the reader knows it.
    :param duck: the :class:`~airflow_pipeops.drift.engines.duck.Database` that files and frames are read with.
    :param spark: a Spark session that files and tables without a connection are read with instead.
    :param timeout: seconds for each query in a warehouse.
    :param like: columns of the reference, whose types rule where a file has none of its own.
    :param only: columns that are asked for: Parquet files may differ in others.
    :return: the session; whoever opened it closes it.
    :raises InvalidInput: for what is no source, or has no connection where it needs one.
    """
    if isinstance(source, Frame) and source.in_spark:
        from airflow_pipeops.drift.engines.spark import SparkSide

        return SparkSide(source, field, spark)
    if isinstance(source, (Query, TableRef)):
        if source.conn_id is not None or source.hook is not None:
            from airflow_pipeops.drift.engines.warehouse import Warehouse

            return Warehouse(source, field, timeout=timeout)
        not_empty(field, spark, f"{field} names no connection", "Give conn_id.")
    if spark is not None and isinstance(source, (Files, Query, TableRef)):
        from airflow_pipeops.drift.engines.spark import SparkSide

        return SparkSide(source, field, spark, like)
    if isinstance(source, (Files, Frame)):
        from airflow_pipeops.drift.engines.duck import DuckSide

        return DuckSide(source, field, duck, like, only)
    raise InvalidInput(
        f"{field} is no source",
        field=field,
        value=type(source).__name__,
        remedy="Use Files, Frame, Query, TableRef, or a Profile (of a reference).",
    )
