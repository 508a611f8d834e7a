"""Compare a batch of data with what the model learned from."""

from __future__ import annotations

from airflow_pipeops.drift.operators.base import ComparisonOperator


class DataDriftOperator(ComparisonOperator):
    """Compare a batch of data with its reference. Arguments and result are those of :class:`ComparisonOperator`."""
