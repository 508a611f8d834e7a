"""Act on an Argo CD application: one operator per act, each safe to try again."""

from __future__ import annotations

from airflow_pipeops.argocd.operators.application import ArgoCDApplicationOperator
from airflow_pipeops.argocd.operators.diff import ArgoCDDiffOperator
from airflow_pipeops.argocd.operators.refresh import ArgoCDRefreshOperator
from airflow_pipeops.argocd.operators.rollback import ArgoCDRollbackOperator
from airflow_pipeops.argocd.operators.sync import ArgoCDSyncOperator
from airflow_pipeops.argocd.operators.terminate import ArgoCDTerminateOperator

__all__ = [
    "ArgoCDApplicationOperator",
    "ArgoCDDiffOperator",
    "ArgoCDRefreshOperator",
    "ArgoCDRollbackOperator",
    "ArgoCDSyncOperator",
    "ArgoCDTerminateOperator",
]
