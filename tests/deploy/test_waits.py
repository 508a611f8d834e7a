"""The wait for a set of applied objects, against a Kubernetes API over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from airflow_pipeops.deploy.targets import AppliedSet, Target
from airflow_pipeops.deploy.triggers import AppliedTrigger
from airflow_pipeops.deploy.waits import AppliedController
from airflow_pipeops.exceptions import ReleaseFailed
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kubeconfig import Endpoint
from airflow_pipeops.waits.controller import until_decided
from airflow_pipeops.waits.verdict import Expectation, Verdict
from airflow_pipeops.waits.wait import Wait
from tests.deploy.conftest import Cluster
from tests.deploy.objects import NEW, OLD, Object
from tests.kubernetes.apiserver import ApiServer, Fault

WIDGETS = ("acme.example", "v1", "widgets")


def waited(
    api: ApiServer,
    *targets: Target,
    on: Callable[[Verdict], None] | None = None,
    explain: bool = False,
    **expected: Any,
) -> tuple[Wait, str]:
    """Wait for what was applied; return where it stands, and the message of a failure."""
    given = {
        "match": "any",
        "settle": 0.0,
        "timeout": 60.0,
        "comparison_grace": 0.2,
        "degraded_grace": 0.2,
        **expected,
    }
    ref = AppliedSet("shop", targets, "shop")

    async def source() -> Endpoint:
        return Endpoint(api.url, "Bearer token")

    async def story() -> tuple[Wait, str]:
        async with KubernetesClient(source, pause=0.01, timeout=10.0) as client:
            controller = AppliedController(client)
            wait = Wait(ref, Expectation(**given), rulebook=controller.rulebook, on_change=on)
            await until_decided(controller, [wait], 0.02)
            return wait, await controller.explain(ref, wait.state) if explain else ""

    return asyncio.run(story())


def widget(api: ApiServer, name: str, **status: Any) -> Target:
    """Create a custom resource."""
    body: Object = {
        "apiVersion": "acme.example/v1",
        "kind": "Widget",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"size": 1},
        **({"status": status} if status else {}),
    }
    return Target.of(api.put(*WIDGETS, body), "widgets", body)


def define(api: ApiServer, *fields: str) -> None:
    """Create the definition of widgets, whose status has these fields."""
    schema: Object = {"type": "object", "properties": {"spec": {"type": "object"}}}
    if fields:
        schema["properties"]["status"] = {"type": "object", "properties": {one: {} for one in fields}}
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
    body: Object = {"metadata": {"name": "widgets.acme.example"}, "spec": {"versions": versions}}
    api.put("apiextensions.k8s.io", "v1", "customresourcedefinitions", body)


def test_all_are_ready_once_the_last_one_is(cluster: Cluster) -> None:
    made = cluster.make("Deployment")
    other = widget(cluster.api, "a", observedGeneration=1)
    seen: list[str] = []

    def on(verdict: Verdict) -> None:
        seen.append(verdict.rule)
        if verdict.rule == "not_ready":
            cluster.start()

    wait, _ = waited(cluster.api, Target.of(made, "deployments", made), other, on=on)
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("done", "ready")
    assert seen[0] == "not_ready"
    assert wait.state.verdict.details["objects"] == wait.state.verdict.details["ready"] == 2


def test_a_deployment_whose_pods_crash_says_what_they_say(cluster: Cluster) -> None:
    cluster.broken.add("shop/web:1")
    made = cluster.make("Deployment")
    cluster.start()
    cluster.until(
        "deployments", lambda item: "status" in item and item["status"].get("observedGeneration") == 1
    )
    pod = cluster.api.all("pods")[0]
    cluster.api.tell(pod, "BackOff", "Back-off restarting failed container web")
    cluster.api.pod_logs["shop", pod["metadata"]["name"]] = "starting\nKeyError: 'DATABASE_URL'\n"
    target = Target.of(made, "deployments", made)
    wait, message = waited(cluster.api, target, timeout=1.0, explain=True)
    assert wait.state.verdict.rule == "deadline"
    for said in (
        "CrashLoopBackOff",
        "Back-off restarting",
        "DATABASE_URL",
        "0 of 1 ready",
        "readyReplicas is 0 of 2",
    ):
        assert said in message


def test_what_will_not_come_ends_the_wait(cluster: Cluster) -> None:
    made = cluster.make("Deployment")
    stuck = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": "too slow",
    }
    cluster.api.change(
        "deployments",
        "shop",
        "web",
        lambda item: item.update(status={"observedGeneration": 1, "conditions": [stuck]}),
    )
    wait, _ = waited(cluster.api, Target.of(made, "deployments", made))
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("failed", "degraded")
    assert "too slow" in wait.state.verdict.reason
    assert isinstance(wait.state.error("no"), ReleaseFailed)


def test_one_that_was_made_again_is_not_the_one_that_was_applied(cluster: Cluster) -> None:
    made = cluster.make("Deployment")
    cluster.start()
    cluster.until("deployments", lambda item: item.get("status", {}).get("availableReplicas") == 2)
    deployments = cluster.api.kinds["apps", "v1", "deployments"]
    with cluster.api.lock:
        deployments.objects.clear()
        cluster.make("Deployment")
    wait, _ = waited(cluster.api, Target.of(made, "deployments", made))
    assert wait.state.verdict.state == "failed"
    assert "recreated" in wait.state.verdict.reason


@pytest.mark.parametrize("many", [1, 5])
def test_one_that_is_gone_ends_the_wait(api: ApiServer, many: int) -> None:
    targets = [widget(api, f"w{number}", observedGeneration=1) for number in range(many)]
    with api.lock:
        del api.kinds[WIDGETS].objects["shop", "w0"]
    wait, _ = waited(api, *targets)
    assert wait.state.verdict.state == "failed"
    assert "gone" in wait.state.verdict.reason


def test_a_job_that_is_taken_away_after_its_end_is_not_known(api: ApiServer) -> None:
    body: Object = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once", "namespace": "shop"},
        "spec": {"ttlSecondsAfterFinished": 1},
    }
    target = Target.of(api.put("batch", "v1", "jobs", body), "jobs", body)
    with api.lock:
        api.kinds["batch", "v1", "jobs"].objects.clear()
    wait, _ = waited(api, target, on_unknown="fail")
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("failed", "cannot_tell")
    assert "which nobody saw" in wait.state.verdict.reason


def test_many_of_a_kind_are_read_by_one_list(api: ApiServer) -> None:
    targets = [widget(api, f"w{number}", observedGeneration=1) for number in range(40)]
    api.requests.clear()
    wait, _ = waited(api, *targets)
    assert wait.state.verdict.state == "done"
    looks = [one for one in api.requests if one == "GET /apis/acme.example/v1/namespaces/shop/widgets"]
    assert len(api.requests) - len(looks) <= 1  # its definition
    assert len(looks) == 1


def test_where_nobody_may_list_each_is_read_by_name(api: ApiServer) -> None:
    targets = [widget(api, f"w{number}", observedGeneration=1) for number in range(5)]
    api.tokens["token"] = lambda verb, target, namespace: verb != "list"
    wait, _ = waited(api, *targets)
    assert wait.state.verdict.state == "done"


def test_what_may_not_be_read_opens_no_gate(api: ApiServer) -> None:
    target = widget(api, "a", observedGeneration=1)
    api.tokens["token"] = lambda verb, target, namespace: "widgets" not in target
    wait, _ = waited(api, target, on_unknown="fail")
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("failed", "cannot_tell")
    assert "cannot get" in wait.state.verdict.reason


@pytest.mark.parametrize(
    ("fields", "state", "rule"),
    [(("conditions",), "failed", "deadline"), ((), "done", "ready"), (None, "failed", "cannot_tell")],
)
def test_a_custom_resource_that_nobody_looks_after(
    api: ApiServer, fields: tuple[str, ...] | None, state: str, rule: str
) -> None:
    if fields is not None:
        define(api, *fields)
    wait, _ = waited(api, widget(api, "a"), on_unknown="fail", timeout=2.0)
    assert (wait.state.verdict.state, wait.state.verdict.rule) == (state, rule), wait.state.verdict.reason


def test_a_paused_deployment_fails_waits_or_is_accepted(cluster: Cluster) -> None:
    made = cluster.make("Deployment", paused=True)
    cluster.start()
    cluster.until("deployments", lambda item: item.get("status", {}).get("observedGeneration") == 1)
    target = Target.of(made, "deployments", made)
    wait, _ = waited(cluster.api, target, on_suspended="fail")
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("failed", "suspended")
    wait, _ = waited(cluster.api, target, on_suspended="accept")
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("done", "accepted")

    def on(verdict: Verdict) -> None:
        if verdict.rule == "suspended":
            cluster.api.change("deployments", "shop", "web", lambda item: item["spec"].update(paused=False))

    wait, _ = waited(cluster.api, target, on=on, on_suspended="wait")
    # Somebody changed what was applied: it said that it was to be paused.
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("failed", "degraded")
    assert "overwritten" in wait.state.verdict.reason


def test_a_tag_that_moved_is_found(cluster: Cluster) -> None:
    cluster.runs[f"shop/web@{NEW}"] = OLD
    made = cluster.make("Deployment", image=f"shop/web@{NEW}")
    cluster.start()
    wait, _ = waited(cluster.api, Target.of(made, "deployments", made))
    assert wait.state.verdict.state == "failed"
    assert "other_image" in wait.state.verdict.reason
    assert OLD in wait.state.verdict.reason


def test_a_server_that_fails_for_a_while_is_outlasted(cluster: Cluster) -> None:
    made = cluster.make("Deployment")
    cluster.start()
    cluster.api.faults.append(Fault("status", count=9, status=503))
    wait, _ = waited(cluster.api, Target.of(made, "deployments", made))
    assert wait.state.verdict.state == "done"


def test_the_trigger_goes_on_where_the_task_stopped(cluster: Cluster) -> None:
    made = cluster.make("Deployment")
    applied = AppliedSet("shop", (Target.of(made, "deployments", made),), "shop")
    cluster.start()
    trigger = AppliedTrigger(
        kubernetes_conn_id="kubernetes_default",
        applied=applied.to_json(),
        expectation=Expectation(match="any", settle=0.0, timeout=60.0).to_json(),
        poll_interval=0.02,
        dwell=0.0,
    )
    path, arguments = trigger.serialize()
    assert path == "airflow_pipeops.deploy.triggers.AppliedTrigger"

    async def first() -> Any:
        async for event in AppliedTrigger(**arguments).run():
            return event.payload

    payload = asyncio.run(first())
    assert payload["decided"]["verdict"]["state"] == "done"
    assert AppliedSet.from_json(payload["applied"]) == applied
