"""Run a workflow on Argo Workflows, once, and take what it gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_pipeops.argo_workflows.manifest import manifest_of, reference
from airflow_pipeops.argo_workflows.operators.base import folder_of
from airflow_pipeops.argo_workflows.operators.running import WorkflowRunOperator
from airflow_pipeops.base.arguments import object_name, one_given


class ArgoWorkflowOperator(WorkflowRunOperator):
    """Run a workflow, and wait for its end.

    :param workflow: the manifest: a dict; YAML, or the name of a YAML file, relative to the DAG file; a model of the
        ``argo_workflows`` package; or an object with ``to_dict()``, as Hera's are. Not templated by Airflow: ``{{ }}`` in it
        is Argo's own.
    :param template: name of a ``WorkflowTemplate`` to run in place of a manifest. Templated.
    :param cluster_scope: ``template`` is a ``ClusterWorkflowTemplate``.
    """

    template_fields: Sequence[str] = ("template", *WorkflowRunOperator.template_fields)

    def __init__(
        self, *, workflow: Any = None, template: str = "", cluster_scope: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        one_given(
            "give either a workflow, or the name of a template",
            "For example template='train', or workflow='train.yaml'.",
            workflow=workflow is not None,
            template=template,
        )
        self.workflow = workflow
        self.template = template
        self.cluster_scope = cluster_scope

    def _manifest(self) -> dict[str, Any] | None:
        if self.workflow is None:
            return reference(object_name(self.template), cluster_scope=self.cluster_scope)
        folder = folder_of(self)
        return manifest_of(self.workflow, folder)
