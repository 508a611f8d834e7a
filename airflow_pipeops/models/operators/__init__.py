"""Train, evaluate, register, promote and verify models.

Domain functions are named by import path (``package.module:name``), so that a DAG file stays light.
"""

from __future__ import annotations

from airflow_pipeops.models.operators.evaluate import EvaluateModelOperator, MeasureModelOperator
from airflow_pipeops.models.operators.register import RegisterModelOperator, SetModelAliasOperator
from airflow_pipeops.models.operators.train import BuildFeaturesOperator, TrainModelOperator
from airflow_pipeops.serving.operators import VerifyModelOperator

__all__ = [
    "BuildFeaturesOperator",
    "EvaluateModelOperator",
    "MeasureModelOperator",
    "RegisterModelOperator",
    "SetModelAliasOperator",
    "TrainModelOperator",
    "VerifyModelOperator",
]
