"""What the rows of a partition are held against where they are: a suite of Great Expectations, and what was learned from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import DataRejected, PipeOpsError
from airflow_pipeops.serving.batch import contract as judging
from airflow_pipeops.serving.batch.contract import Check

if TYPE_CHECKING:
    from airflow_pipeops.drift.sources import Source
    from airflow_pipeops.serving.batch.scoring import Order
    from airflow_pipeops.validation.batches import Batch
    from airflow_pipeops.validation.suite import Expectation


def suite_of(order: Order) -> tuple[list[Expectation], str]:
    """Read the suite that rows must pass.

    :param order: what is to be scored.
    :return: its expectations, and their digest; empty ones where there is no suite.
    :raises InvalidInput: for what is no suite.
    """
    from airflow_pipeops.validation.suite import expectations

    if not order.expectations:
        return [], ""
    found = expectations(order.expectations)
    said = sorted(
        json.dumps([one.type, one.kwargs, one.severity], sort_keys=True, default=str) for one in found
    )
    return found, hashlib.sha256("\n".join(said).encode()).hexdigest()


def expected(order: Order, suite: Sequence[Expectation], rows: int) -> list[Check]:
    """Judge the rows by a suite.

    :param order: what is to be scored.
    :param suite: their expectations.
    :param rows: how many there are.
    :return: the checks.
    :raises DataRejected: for more rows than may be in memory, where they are judged there.
    """
    from airflow_pipeops.validation.engine import judge

    with _batch(order, rows) as batch:
        return judging.expected(judge(batch, list(suite)))


def skew(order: Order, features: Sequence[str]) -> Check:
    """Hold the rows against those that the model has learned from.

    :param order: what is to be scored.
    :param features: columns that are compared.
    :return: the check.
    """
    from airflow_pipeops.drift.engine import compare
    from airflow_pipeops.drift.sources import Files

    try:
        with _there(order) as source:
            found = compare(Files(order.model.reference_uri), source, columns=dict.fromkeys(features, ""))
    except PipeOpsError as error:
        said = f"the rows cannot be held against what the model has learned from: {error}"
        return judging.skewed(None, said, order.contract)
    named = [item.column for item in found.telling if item.drifted]
    said = f"{found.share:.0%} of the features have drifted since the training: {', '.join(named[:10])}"
    return judging.skewed(found.drifted, said if named else "", order.contract)


@contextmanager
def _there(order: Order) -> Iterator[Source]:
    """Give the rows where they are: a frame of Spark where that reads them."""
    if order.spark is None:
        yield order.source()
        return
    from airflow_pipeops.drift.sources import Frame
    from airflow_pipeops.serving.batch.spark import opened_in_spark

    with opened_in_spark(order.source(), order.spark) as (side, session):
        yield Frame(session.table(side.relation))


@contextmanager
def _batch(order: Order, rows: int) -> Iterator[Batch]:
    """Give what a suite is judged on: a table where it is, in a database or in Spark; files in memory."""
    from airflow_pipeops.drift.engines.rows import read_rows
    from airflow_pipeops.drift.sources import Frame, Query, TableRef
    from airflow_pipeops.validation.batches import FrameBatch, SparkFrameBatch, SqlBatch

    with _there(order) as source:
        if isinstance(source, Frame):
            yield SparkFrameBatch(source.data)
        elif isinstance(source, (Query, TableRef)) and source.conn_id and not getattr(source, "where", ""):
            from airflow.sdk import BaseHook

            hook: Any = BaseHook.get_hook(source.conn_id)
            table = source.name if isinstance(source, TableRef) else ""
            query = source.sql if isinstance(source, Query) else ""
            yield SqlBatch(hook.get_sqlalchemy_engine(), table=table, query=query)
        elif rows > order.expectation_rows:
            raise DataRejected(
                f"a suite of Great Expectations needs all rows in memory, and partition {order.partition} has {rows:,}",
                remedy="Raise expectation_rows, or judge the partition before by ValidateDataOperator(engine='spark').",
            )
        else:
            yield FrameBatch(read_rows(source, "data"))
