"""Train, evaluate, register and promote models.

Domain functions are named by import path (``package.module:name``), so that a DAG file stays light.
"""

from __future__ import annotations

from airflow_pipeops.models.operators.evaluate import EvaluateModelOperator, MeasureModelOperator
from airflow_pipeops.models.operators.performance import ModelPerformanceOperator
from airflow_pipeops.models.operators.register import RegisterModelOperator, SetModelAliasOperator
from airflow_pipeops.models.operators.train import BuildFeaturesOperator, TrainModelOperator

__all__ = [
    "BuildFeaturesOperator",
    "EvaluateModelOperator",
    "MeasureModelOperator",
    "ModelPerformanceOperator",
    "RegisterModelOperator",
    "SetModelAliasOperator",
    "TrainModelOperator",
]
