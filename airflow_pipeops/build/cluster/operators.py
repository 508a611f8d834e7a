"""The operators of Airflow's Kubernetes provider, with a record of what they ran.

Importing this imports the provider's operators, and with them the Kubernetes client, as every DAG file does that uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

from airflow_pipeops.build.cluster.recorded import RecordedPod


class RecordedPodOperator(RecordedPod, KubernetesPodOperator):
    """Runs a pod, and records which images ran in it; see :class:`~airflow_pipeops.build.cluster.recorded.RecordedPod`."""

    template_fields: Sequence[str] = (*RecordedPod.template_fields, *KubernetesPodOperator.template_fields)


class RecordedJobOperator(RecordedPod, KubernetesJobOperator):
    """Runs a Job, and records which images ran in its pods.

    :param wait_until_job_complete: wait for the Job's end, which the record needs.
    """

    template_fields: Sequence[str] = (*RecordedPod.template_fields, *KubernetesJobOperator.template_fields)

    def __init__(self, *, wait_until_job_complete: bool = True, **kwargs: Any) -> None:
        super().__init__(wait_until_job_complete=wait_until_job_complete, **kwargs)
