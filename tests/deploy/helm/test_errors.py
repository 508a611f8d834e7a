"""What Helm's words mean."""

from __future__ import annotations

import pytest

from airflow_pipeops.deploy.helm.errors import failure
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    ReleaseFailed,
    SystemFailure,
    Unreachable,
    WaitTimeout,
)

SAID: list[tuple[str, type[PipeOpsError], str]] = [
    ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", Conflict, "meanwhile"),
    ("Error: Kubernetes cluster unreachable: dial tcp x/version: connection refused", Unreachable, "x/version"),
    ("Error: kubernetes cluster unreachable: the server has asked for the client to provide credentials", AccessDenied, ""),
    (
        'Error: INSTALLATION FAILED: deployments.apps is forbidden: User "system:serviceaccount:a:b" cannot create resource '
        '"deployments" in API group "apps" in the namespace "shop"', AccessDenied, "may not create deployments",
    ),
    (
        'Error: 1 error occurred:\n* pods "a" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2',
        ReleaseFailed, "quota small",
    ),
    (
        'Error: INSTALLATION FAILED: configmaps "a" is forbidden: unable to create new content in namespace shop because it '
        "is being terminated", ReleaseFailed, "is being deleted",
    ),
    ('Error: INSTALLATION FAILED: create: failed to create: namespaces "shop" not found', NotFound, "create_namespace"),
    (
        'Error: UPGRADE FAILED: unable to build kubernetes objects: resource mapping not found for '
        'name: "x" from "": no matches for kind "Rollout" in version "argoproj.io/v1alpha1"\nensure CRDs are '
        "installed first", InvalidInput, "no kind Rollout in version argoproj.io/v1alpha1",
    ),
    (
        "Error: UPGRADE FAILED: execution error at (web/templates/a.yaml:3:4): image is required", InvalidInput,
        "web/templates/a.yaml, line 3: image is required",
    ),
    (
        'Error: template: web/templates/a.yaml:5:12: executing "web/templates/a.yaml" at <.Values.a.b>: nil pointer',
        InvalidInput, "web/templates/a.yaml, line 5",
    ),
    ("Error: parse error at (web/templates/a.yaml:7): unclosed action", InvalidInput, "line 7: unclosed action"),
    (
        "Error: UPGRADE FAILED: values don't meet the specifications of the schema(s) in the following chart(s):\nweb:\n"
        "- replicas: Invalid type. Expected: integer, given: string", InvalidInput, "replicas: Invalid type",
    ),
    (
        'Error: UPGRADE FAILED: cannot patch "web" with kind Deployment: Deployment.apps "web" is invalid: spec.selector: '
        "Invalid value: {}: field is immutable", ReleaseFailed, "spec.selector cannot be changed",
    ),
    (
        "Error: UPGRADE FAILED: conflict occurred while applying object shop/web-config /v1, Kind=ConfigMap: Apply failed "
        'with 1 conflict: conflict with "kubectl-edit" using v1: .data.greeting && conflict occurred while applying object '
        'shop/web apps/v1, Kind=Deployment: Apply failed with 3 conflicts: conflicts with "hpa" using apps/v1:\n'
        '- .spec.replicas\nconflicts with "kubectl-edit" using apps/v1:\n- .spec.paused\n'
        '- .spec.template.spec.containers[name="web"].ports[containerPort=80,protocol="TCP"].name', ReleaseFailed,
        "belong to others: ConfigMap shop/web-config: .data.greeting is kubectl-edit's; "
        "Deployment shop/web: .spec.replicas is hpa's; Deployment shop/web: .spec.paused is kubectl-edit's; "
        'Deployment shop/web: .spec.template.spec.containers[name="web"].ports[containerPort=80,protocol="TCP"].name is '
        "kubectl-edit's",
    ),
    (
        'Error: admission webhook "policy.example.com" denied the request: no latest tags', ReleaseFailed, "no latest tags",
    ),
    (
        'Error: Internal error occurred: failed calling webhook "policy.example.com": context deadline exceeded',
        Unreachable, "did not answer",
    ),
    ("Error: UPGRADE FAILED: pre-upgrade hooks failed: job migrate failed: Backoff", ReleaseFailed, "pre-upgrade"),
    ("Error: UPGRADE FAILED: timed out waiting for the condition", WaitTimeout, "helm_timeout"),
    ("Error: release: not found", NotFound, "no such release"),
    (
        'Error: chart "web" matching 9.9.9 not found in repo index. (try \'helm repo update\'): no chart version found',
        NotFound, "9.9.9",
    ),
    ("Error: registry.example.com/charts/web:9.9.9: not found", NotFound, "the chart is not there"),
    ("Error: something new", SystemFailure, "something new"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "kind", "told"), SAID)
def test_each_is_one_clear_error(said: str, kind: type[PipeOpsError], told: str) -> None:
    found = failure(said)
    assert type(found) is kind
    assert told in str(found)


def test_what_helm_logs_is_no_complaint() -> None:
    logged = (
        'E1129 13:11:01.6 24025 memcache.go:265] "Unhandled Error"\nWARNING: kubeconfig\nError: something new'
    )
    assert str(failure(logged)) == "Helm failed: something new"


def test_the_state_decides_where_words_do_not() -> None:
    assert type(failure("Error: something new", "failed")) is ReleaseFailed
