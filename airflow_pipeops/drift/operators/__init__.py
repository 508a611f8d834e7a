"""Compare data, predictions and texts with a reference."""

from __future__ import annotations

from airflow_pipeops.drift.operators.comparison import DataDriftOperator, PredictionDriftOperator
from airflow_pipeops.drift.operators.profile import DriftProfileOperator
from airflow_pipeops.drift.operators.text import TextDriftOperator

__all__ = [
    "DataDriftOperator",
    "DriftProfileOperator",
    "PredictionDriftOperator",
    "TextDriftOperator",
]
