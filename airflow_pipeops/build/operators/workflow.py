"""The workflow by which work is done elsewhere, as an operator within the task's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_pipeops.argo_workflows.causes import failed_nodes
from airflow_pipeops.argo_workflows.operators.workflow import ArgoWorkflowOperator
from airflow_pipeops.base.documents import map_
from airflow_pipeops.build.cluster.backends import last_word
from airflow_pipeops.build.elsewhere import ANSWER_OF_NODE, failed

if TYPE_CHECKING:
    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
    from airflow_pipeops.argo_workflows.status import WorkflowStatus
    from airflow_pipeops.exceptions import PipeOpsError
    from airflow_pipeops.waits.wait import Decided


class ArgoWork(ArgoWorkflowOperator):
    """Runs it; where it has failed, the error is its container's, and what no retry mends is not tried again."""

    _seen: WorkflowStatus | None = None

    async def _whole(self, client: ArgoWorkflows, ref: WorkflowRef) -> WorkflowStatus:
        self._seen = await super()._whole(client, ref)
        return self._seen

    def _failure(self, ref: WorkflowRef, decided: Decided) -> PipeOpsError:
        error = super()._failure(ref, decided)
        # Of the node: a workflow that is tried again keeps its own outputs of before.
        nodes = failed_nodes(self._seen.nodes) if self._seen else []
        said = next((one.parameters[ANSWER_OF_NODE] for one in nodes if ANSWER_OF_NODE in one.parameters), "")
        refused = failed(map_(last_word(said)), f"Argo {ref}")
        if refused is None:
            return error
        self.log.error("%s", error)
        refused.retryable = refused.retryable and error.retryable
        return refused
