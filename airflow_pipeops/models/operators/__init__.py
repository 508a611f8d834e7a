"""Train, evaluate, register and promote models.

Domain functions are named by import path (``package.module:name``), so that a DAG file stays light.
"""

from __future__ import annotations

from airflow_pipeops.models.operators.evaluate import EvaluateModelOperator
from airflow_pipeops.models.operators.features import BuildFeaturesOperator, SkewCheckOperator
from airflow_pipeops.models.operators.guard import ModelGuardOperator
from airflow_pipeops.models.operators.labels import JoinLabelsOperator
from airflow_pipeops.models.operators.measure import MeasureModelOperator
from airflow_pipeops.models.operators.performance import ModelPerformanceOperator
from airflow_pipeops.models.operators.register import RegisterModelOperator, SetModelAliasOperator
from airflow_pipeops.models.operators.rollback import FinishModelRollbackOperator, ModelRollbackOperator
from airflow_pipeops.models.operators.search import ChooseTrialOperator, PlanTrialsOperator
from airflow_pipeops.models.operators.train import TrainModelOperator

__all__ = [
    "BuildFeaturesOperator",
    "ChooseTrialOperator",
    "EvaluateModelOperator",
    "FinishModelRollbackOperator",
    "JoinLabelsOperator",
    "MeasureModelOperator",
    "ModelGuardOperator",
    "ModelPerformanceOperator",
    "ModelRollbackOperator",
    "PlanTrialsOperator",
    "RegisterModelOperator",
    "SetModelAliasOperator",
    "SkewCheckOperator",
    "TrainModelOperator",
]
