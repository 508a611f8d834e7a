"""What the accounts of the chart may: the Roles as rendered, enforced by an API server while the operators do their work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.deploy.apply.operators import UndoManifestsOperator
from airflow_pipeops.deploy.operators import RolloutRestartOperator
from airflow_pipeops.deploy.sensors import RolloutSensor
from airflow_pipeops.exceptions import AccessDenied
from tests.deploy.apply.conftest import api as api
from tests.deploy.apply.test_operators import as_run, task
from tests.deploy.apply.test_operators import repository as repository
from tests.deploy.conftest import Cluster
from tests.deploy.conftest import cluster as cluster
from tests.git.conftest import Remote
from tests.git.conftest import remote as remote
from tests.helm.policy import DEFINITIONS
from tests.helm.test_chart import render

SPLIT = {
    "serviceAccount": {"perDuty": True},
    "rbac": {
        **{flag: {"enabled": True} for flag in ("flux", "argoWorkflows", "build")},
        "argocd": {"enabled": True, "sync": True},
        "deploy": {"enabled": True, "namespaces": ["shop"]},
    },
}
DUTIES = ("builder", "deployer", "waiter")
LOOKING = {"get", "list", "watch"}


def rights(values: dict[str, Any], account: str) -> set[tuple[str, str, str]]:
    """Return what an account may, as ``(verb, "plural.group", namespace)``."""
    found = render(values)
    roles = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one for one in found if one["kind"] == "Role"
    }
    bound = [
        roles[one["metadata"]["namespace"], one["roleRef"]["name"]]
        for one in found
        if one["kind"] == "RoleBinding" and account in {subject["name"] for subject in one["subjects"]}
    ]
    return {
        (verb, f"{resource}.{group}".rstrip("."), role["metadata"]["namespace"])
        for role in bound
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def may(values: dict[str, Any], account: str) -> Callable[[str, str, str], bool]:
    """Return the answer to each question of the API server."""
    given = rights(values, account)
    return lambda *asked: asked in given


def test_each_duty_has_an_account_and_together_they_may_what_one_account_may() -> None:
    accounts = {
        one["metadata"]["name"]: one["automountServiceAccountToken"]
        for one in render(SPLIT)
        if one["kind"] == "ServiceAccount"
    }
    assert accounts == {"pipeops": False, **{f"pipeops-{duty}": True for duty in DUTIES}}
    assert rights(SPLIT, "pipeops") == set()
    together = set().union(*(rights(SPLIT, f"pipeops-{duty}") for duty in DUTIES))
    assert together == rights({"rbac": SPLIT["rbac"]}, "pipeops")


def test_the_waiter_looks_and_nothing_else_at_all_that_the_others_act_on() -> None:
    waiter = rights(SPLIT, "pipeops-waiter")
    assert {verb for verb, _, _ in waiter} == LOOKING
    acting = {one for duty in DUTIES[:2] for one in rights(SPLIT, f"pipeops-{duty}")} - waiter
    assert {verb for verb, _, _ in acting} >= {"create", "patch", "delete"}


def test_whoever_builds_cannot_deploy_and_whoever_deploys_cannot_build() -> None:
    builder, deployer = (rights(SPLIT, f"pipeops-{duty}") for duty in ("builder", "deployer"))
    assert {namespace for _, _, namespace in builder} == {"argo", "pipeops-build"}
    assert {namespace for _, _, namespace in deployer} == {"argocd", "flux-system", "shop"}


def test_no_account_reads_secrets_unless_helm_keeps_its_releases_there() -> None:
    with_helm = {**SPLIT, "rbac": {"deploy": {"enabled": True, "helm": True, "namespaces": ["shop"]}}}
    asked = {target for duty in DUTIES for _, target, _ in rights(SPLIT, f"pipeops-{duty}")}
    assert "secrets" not in asked
    helm = {verb for verb, target, _ in rights(with_helm, "pipeops-deployer") if target == "secrets"}
    assert helm == {"get", "list", "create", "update", "patch", "delete"}
    assert "secrets" not in {target for _, target, _ in rights(with_helm, "pipeops-waiter")}


def test_definitions_are_read_by_whoever_waits_only_where_that_is_asked_for() -> None:
    assert not [one for one in render(SPLIT) if one["kind"].startswith("Cluster")]
    deploy = {**SPLIT["rbac"]["deploy"], "definitions": True}
    for values, accounts in (
        ({**SPLIT, "rbac": {"deploy": deploy}}, ["pipeops-deployer", "pipeops-waiter"]),
        ({"rbac": {"deploy": deploy}}, ["pipeops"]),
    ):
        found = {one["kind"]: one for one in render(values)}
        assert found["ClusterRole"]["rules"] == [DEFINITIONS]
        assert found["ClusterRoleBinding"]["roleRef"]["name"] == found["ClusterRole"]["metadata"]["name"]
        assert [one["name"] for one in found["ClusterRoleBinding"]["subjects"]] == accounts


def test_what_may_be_applied_may_be_watched_by_deferred_waits() -> None:
    waiter = rights(SPLIT, "pipeops-waiter")
    assert {("watch", "deployments.apps", "shop"), ("watch", "pods", "shop")} <= waiter


def test_the_deployer_may_apply_prune_undo_and_restart(
    repository: Remote, cluster: Cluster, context: dict[str, Any]
) -> None:
    """Nothing is refused on the way; what the API server is asked is what it was found to need."""
    cluster.start()
    cluster.api.tokens["token"] = may(SPLIT, "pipeops-deployer")
    task().execute(context)
    Path(repository.work, "deploy/settings.yaml").unlink()
    repository.commit("no settings any more")
    task().execute(as_run(context, "second"))
    assert cluster.api.read("configmaps", "shop", "settings") is None
    task(UndoManifestsOperator).execute(as_run(context, "third"))
    assert cluster.api.read("configmaps", "shop", "settings") is not None
    restart = RolloutRestartOperator(task_id="restart", kind="Deployment", name="web", namespace="shop")
    restart.execute(as_run(context, "fourth"))


def test_the_waiter_may_wait_and_is_refused_everything_else(
    repository: Remote, cluster: Cluster, context: dict[str, Any]
) -> None:
    cluster.start()
    task().execute(context)
    cluster.api.tokens["token"] = may(SPLIT, "pipeops-waiter")
    before = cluster.api.all("deployments")[0]["spec"]
    wait = RolloutSensor(task_id="wait", kind="Deployment", name="web", namespace="shop", deferrable=False)
    assert wait.execute(as_run(context, "wait"))["health"] == "Healthy"
    repository.put("deploy/web.yaml", repository.show("deploy/web.yaml").replace("web:1", "web:2"))
    repository.commit("newer")
    with pytest.raises((AccessDenied, AirflowFailException), match=r"may not|cannot|permission"):
        task().execute(as_run(context, "second"))
    assert cluster.api.all("deployments")[0]["spec"] == before
