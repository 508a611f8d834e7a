"""Operators of Argo Workflows: run a workflow, act on one, declare a cron workflow."""

from airflow_pipeops.argo_workflows.operators.acts import (
    ArgoWorkflowResubmitOperator,
    ArgoWorkflowResumeOperator,
    ArgoWorkflowRetryOperator,
    ArgoWorkflowStopOperator,
    ArgoWorkflowSuspendOperator,
    ArgoWorkflowTerminateOperator,
)
from airflow_pipeops.argo_workflows.operators.cron import (
    ArgoCronWorkflowOperator,
    ArgoCronWorkflowSuspendOperator,
)
from airflow_pipeops.argo_workflows.operators.workflow import ArgoWorkflowOperator

__all__ = [
    "ArgoCronWorkflowOperator",
    "ArgoCronWorkflowSuspendOperator",
    "ArgoWorkflowOperator",
    "ArgoWorkflowResubmitOperator",
    "ArgoWorkflowResumeOperator",
    "ArgoWorkflowRetryOperator",
    "ArgoWorkflowStopOperator",
    "ArgoWorkflowSuspendOperator",
    "ArgoWorkflowTerminateOperator",
]
