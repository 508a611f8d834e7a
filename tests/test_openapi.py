"""The validator of :mod:`tests.openapi` sees what does not fit, in the models of both clients."""

from __future__ import annotations

from typing import Any

import pytest
from argo_workflows.model.io_argoproj_workflow_v1alpha1_workflow import IoArgoprojWorkflowV1alpha1Workflow
from kubernetes.client.models import V1Job

from tests.openapi import problems

WORKFLOW: dict[str, Any] = {
    "metadata": {"name": "x", "creationTimestamp": "2026-11-29T10:00:00Z"},
    "spec": {
        "entrypoint": "main",
        "arguments": {"parameters": [{"name": "n", "value": 3}]},
        "templates": [
            {"name": "main", "steps": [[{"name": "a", "template": "b"}]]},
            {"name": "b", "retryStrategy": {"limit": 2}, "container": {"image": "alpine", "ports": []}},
        ],
    },
    "status": {
        "finishedAt": None,
        "nodes": {"x": {"id": "x", "name": "x", "type": "Steps", "startedAt": "2026-11-29T10:00:00Z"}},
    },
}
JOB: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "build", "labels": {"a": "b"}},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "spec": {
                "containers": [{"name": "main", "image": "i", "resources": {"limits": {"cpu": "1"}}}],
                "restartPolicy": "Never",
            }
        },
    },
}


def changed(value: Any, path: str, new: Any) -> Any:
    """Return a copy with one value replaced."""
    first, _, rest = path.partition("/")
    key: Any = int(first) if first.isdigit() else first
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = changed(copy[key], rest, new) if rest else new
    return copy


@pytest.mark.parametrize(("value", "model"), [(WORKFLOW, IoArgoprojWorkflowV1alpha1Workflow), (JOB, V1Job)])
def test_what_fits_has_no_problems(value: Any, model: type) -> None:
    assert problems(value, model) == []


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        ("spec/entrypoin", "main", ".spec.entrypoin: IoArgoprojWorkflowV1alpha1WorkflowSpec has no such field"),
        ("spec/entrypoint", ["main"], ".spec.entrypoint: ['main'] is no str"),
        ("spec/templates/0/steps/0/0/name", 1, ".spec.templates[0].steps[0][0].name: 1 is no str"),
        ("spec/templates", {}, ".spec.templates: {} is no list"),
        ("spec", "text", ".spec: 'text' is no IoArgoprojWorkflowV1alpha1WorkflowSpec"),
        ("status/finishedAt", "soon", ".status.finishedAt: 'soon' is no moment"),
        ("status/nodes/x", {"id": "x", "name": "x"}, ".status.nodes.x.type: IoArgoprojWorkflowV1alpha1NodeStatus needs it"),
        ("metadata/labels", {"a": 1}, ".metadata.labels.a: 1 is no str"),
        ("spec/parallelism", 1.5, ".spec.parallelism: 1.5 is no whole number"),
        ("spec/suspend", "yes", ".spec.suspend: 'yes' is no bool"),
    ],
)  # fmt: skip
def test_what_argo_would_not_send(path: str, new: Any, said: str) -> None:
    assert problems(changed(WORKFLOW, path, new), IoArgoprojWorkflowV1alpha1Workflow) == [said]


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        ("spec/template/spec/container", [], ".spec.template.spec.container: V1PodSpec has no such field"),
        ("spec/template/spec/containers/0", {"image": "i"}, ".spec.template.spec.containers[0].name: V1Container needs it"),
        ("spec/backoffLimit", "0", ".spec.backoffLimit: '0' is no int"),
        ("metadata/labels", {"a": 1}, ".metadata.labels.a: 1 is no str"),
        ("metadata/creationTimestamp", 5, ".metadata.creationTimestamp: 5 is no moment"),
    ],
)  # fmt: skip
def test_what_kubernetes_would_not_take(path: str, new: Any, said: str) -> None:
    assert problems(changed(JOB, path, new), V1Job) == [said]
