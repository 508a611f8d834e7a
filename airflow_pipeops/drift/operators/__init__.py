"""Compare data with a reference, and decide whether to retrain."""

from __future__ import annotations

from airflow_pipeops.drift.operators.data import DataDriftOperator
from airflow_pipeops.drift.operators.governor import RetrainGovernorOperator

__all__ = ["DataDriftOperator", "RetrainGovernorOperator"]
