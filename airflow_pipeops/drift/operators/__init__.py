"""Compare data, predictions and texts with a reference, measure a model, and decide whether to retrain."""

from __future__ import annotations

from airflow_pipeops.drift.operators.data import DataDriftOperator
from airflow_pipeops.drift.operators.prediction import PredictionDriftOperator
from airflow_pipeops.drift.operators.profile import DriftProfileOperator
from airflow_pipeops.drift.operators.text import TextDriftOperator
from airflow_pipeops.governor.operators import ApprovedRetrainOperator, RetrainGovernorOperator
from airflow_pipeops.models.operators.performance import ModelPerformanceOperator

__all__ = [
    "ApprovedRetrainOperator",
    "DataDriftOperator",
    "DriftProfileOperator",
    "ModelPerformanceOperator",
    "PredictionDriftOperator",
    "RetrainGovernorOperator",
    "TextDriftOperator",
]
