"""The sensor and the acts, against a Kubernetes API over HTTP with controllers of Deployments and Rollouts."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.deploy.apply.operators import UndoManifestsOperator
from airflow_pipeops.deploy.operators import (
    RolloutAbortOperator,
    RolloutPauseOperator,
    RolloutPromoteOperator,
    RolloutRestartOperator,
    RolloutResumeOperator,
)
from airflow_pipeops.deploy.sensors import RolloutSensor
from airflow_pipeops.exceptions import InvalidInput, Unreachable
from tests.deploy.conftest import Cluster
from tests.deploy.objects import NEW, Object
from tests.kubernetes.apiserver import Fault

STEPS = {"strategy": {"canary": {"steps": [{"pause": {}}, {"pause": {}}, {"pause": {}}]}}}


@pytest.mark.parametrize("cls", [RolloutSensor, UndoManifestsOperator])
def test_an_argument_without_effect_is_refused(cls: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="git_conn_id"):
        cls(task_id="t", name="web", git_conn_id="repository")


def task(cls: Callable[..., Any], **arguments: Any) -> Any:
    """Return a task; a short one, in the worker."""
    given: dict[str, Any] = {"task_id": "task", "name": "web"}
    if cls is RolloutSensor:
        given |= {"poll_interval": timedelta(milliseconds=20), "deferrable": False, "settle": timedelta(0)}
        given |= {"timeout": timedelta(seconds=60), "failed_grace": timedelta(0)}
    return cls(**{**given, **arguments})


def names(cluster: Cluster) -> set[str]:
    return {pod["metadata"]["name"] for pod in cluster.api.all("pods")}


def rolled_out(cluster: Cluster, kind: str = "Deployment", **spec: Any) -> str:
    """Create a workload, and let it come about."""
    cluster.make(kind, **spec)
    cluster.start()
    plural = f"{kind.lower()}s"
    cluster.until(plural, lambda item: item.get("status", {}).get("availableReplicas") == 2)
    return plural


# ---- the sensor ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Deployment", "Rollout"])
def test_a_workload_is_waited_for_and_recorded(cluster: Cluster, context: dict[str, Any], kind: str) -> None:
    cluster.make(kind, image=f"shop/web@{NEW}")
    cluster.start()
    deliverable = Deliverable("web")
    sensor = task(
        RolloutSensor, kind=kind, deliverable=deliverable, environment="production", revision="c" * 40
    )
    result = sensor.execute(context)
    assert (result["rule"], result["health"], result["revision"]) == ("ready", "Healthy", "c" * 40)
    assert result["images"] == [f"docker.io/shop/web@{NEW}"]
    extra = context["outlet_events"][deliverable.released("production")].extra
    assert (extra["kind"], extra["id"]) == ("release", result["record_id"])


def test_the_version_before_is_not_taken_for_the_new_one(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = rolled_out(cluster)
    cluster.pause()
    cluster.set_image(plural, "shop/web:2")
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        task(RolloutSensor, timeout=timedelta(milliseconds=200)).execute(context)
    cluster.go_on()
    assert task(RolloutSensor).execute(context)["generation"] == 2


def test_a_sensor_of_what_somebody_overwrites_fails(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = rolled_out(cluster)
    result = task(RolloutRestartOperator).execute(context)
    cluster.set_image(plural, "shop/web:old")
    with pytest.raises(AirflowFailException, match="not all that was applied still holds"):
        task(RolloutSensor, applied=result["target"]).execute(context)


def test_no_pod_at_all_opens_no_gate(cluster: Cluster, context: dict[str, Any]) -> None:
    cluster.make("Deployment", replicas=0)
    cluster.start()
    with pytest.raises(AirflowFailException, match="zero_replicas"):
        task(RolloutSensor).execute(context)
    assert task(RolloutSensor, empty_ok=True).execute(context)["rule"] == "ready"


def test_what_is_accepted_without_being_ready_is_no_release(
    cluster: Cluster, context: dict[str, Any]
) -> None:
    cluster.make("Deployment", replicas=0)
    cluster.start()
    sensor = task(
        RolloutSensor, on_unknown="accept", deliverable=Deliverable("web"), environment="production"
    )
    result = sensor.execute(context)
    assert (result["rule"], result["record_id"]) == ("accepted", None)


def test_the_wait_crosses_a_deferral(cluster: Cluster, context: dict[str, Any]) -> None:
    cluster.make("Deployment")
    sensor = task(RolloutSensor, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    cluster.start()
    trigger = deferred.value.trigger
    trigger.dwell = 0.0

    async def first() -> Any:
        async for event in trigger.run():
            return event.payload

    result = getattr(task(RolloutSensor), deferred.value.method_name)(context, asyncio.run(first()))
    assert (result["rule"], result["namespace"]) == ("ready", "shop")


def test_one_that_is_not_there_fails(cluster: Cluster, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="NotFound"):
        task(RolloutSensor).execute(context)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"kind": "Pod"}, "kind"),
        ({"on_paused": "perhaps"}, "on_paused"),
        ({"on_unknown": "perhaps"}, "on_unknown"),
        ({"failed_grace": timedelta(-1)}, "failed_grace"),
    ],
)
def test_bad_input_names_its_field(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        task(RolloutSensor, **arguments)


@pytest.mark.parametrize(
    "applied",
    ["web", {"kind": "Deployment"}, {"version": "apps/v1", "kind": "Deployment", "plural": "x", "name": "b"}],
)
def test_what_was_applied_must_be_this_workload(
    cluster: Cluster, context: dict[str, Any], applied: Any
) -> None:
    with pytest.raises(AirflowFailException, match="applied"):
        task(RolloutSensor, applied=applied).execute(context)


# ---- acts ----------------------------------------------------------------------------------------------------------------


def test_a_restart_replaces_the_pods_once_for_each_order(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = rolled_out(cluster)
    before = names(cluster)
    deliverable = Deliverable("web")
    restart = task(RolloutRestartOperator, deliverable=deliverable, environment="production")
    result = restart.execute(context)
    assert (result["changed"], result["attached"]) == (True, False)
    assert context["outlet_events"][deliverable.changed("production")].extra["id"] == result["record_id"]
    assert task(RolloutSensor, applied=result["target"]).execute(context)["rule"] == "ready"
    assert not before & names(cluster)
    generation = cluster.get(plural)["metadata"]["generation"]
    again = task(RolloutRestartOperator).execute(context)
    assert (again["changed"], again["attached"]) == (False, True)
    assert cluster.get(plural)["metadata"]["generation"] == generation
    other = {**context, "ti": SimpleNamespace(**{**vars(context["ti"]), "run_id": "run-2"})}
    assert task(RolloutRestartOperator).execute(other)["changed"] is True


def test_a_restart_whose_answer_was_lost_is_found_again(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = rolled_out(cluster)
    cluster.api.faults.append(Fault("lose", method="PATCH", count=1))
    try:
        result = task(RolloutRestartOperator).execute(context)
    except Unreachable:
        result = task(RolloutRestartOperator).execute(context)
    assert result["attached"] or result["changed"]
    assert cluster.get(plural)["metadata"]["generation"] == 2


def test_a_rollout_restarts(cluster: Cluster, context: dict[str, Any]) -> None:
    rolled_out(cluster, "Rollout")
    result = task(RolloutRestartOperator, kind="Rollout").execute(context)
    assert task(RolloutSensor, kind="Rollout", applied=result["target"]).execute(context)["rule"] == "ready"
    assert task(RolloutRestartOperator, kind="Rollout").execute(context)["attached"] is True


def test_pause_and_resume(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = rolled_out(cluster)
    pause = task(RolloutPauseOperator, deliverable=Deliverable("web"), environment="production")
    assert pause.execute(context)["record_id"] is None
    assert task(RolloutPauseOperator).execute(context)["attached"] is True
    cluster.set_image(plural, "shop/web:2")
    with pytest.raises(AirflowFailException, match="is paused"):
        task(RolloutSensor).execute(context)
    with pytest.raises(AirflowFailException, match="Resume it first"):
        task(RolloutRestartOperator).execute(context)
    result = task(RolloutResumeOperator).execute(context)
    assert result["changed"] is True
    assert task(RolloutSensor, applied=result["target"]).execute(context)["rule"] == "ready"
    assert task(RolloutResumeOperator).execute(context)["changed"] is False


def canary(cluster: Cluster) -> str:
    """Bring a Rollout to its first pause on the way to another version."""
    plural = rolled_out(cluster, "Rollout", **STEPS)
    cluster.set_image(plural, "shop/web:2")
    cluster.until(plural, lambda item: bool(item["status"].get("pauseConditions")))
    return plural


def test_a_promotion_is_one_step_however_often_it_is_tried(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = canary(cluster)
    assert task(RolloutPromoteOperator).execute(context)["changed"] is True
    cluster.until(plural, lambda item: item["status"]["currentStepIndex"] == 1)
    cluster.until(plural, lambda item: bool(item["status"].get("pauseConditions")))
    for _ in range(3):
        again = task(RolloutPromoteOperator).execute(context)
        assert (again["changed"], again["attached"]) == (False, True)
    assert cluster.get(plural)["status"]["currentStepIndex"] == 1
    with pytest.raises(AirflowFailException, match="is paused"):
        task(RolloutSensor, kind="Rollout").execute(context)


def test_a_promotion_that_was_cut_in_the_middle_is_completed(
    cluster: Cluster, context: dict[str, Any]
) -> None:
    plural = canary(cluster)
    cluster.pause()
    cluster.api.faults.append(Fault("status", method="PATCH", path="*/status", status=403))
    with pytest.raises(AirflowFailException):
        task(RolloutPromoteOperator).execute(context)
    assert cluster.get(plural)["status"]["pauseConditions"]
    cluster.api.faults.clear()
    result = task(RolloutPromoteOperator).execute(context)
    assert (result["changed"], result["attached"]) == (True, True)
    cluster.go_on()
    cluster.until(plural, lambda item: item["status"]["currentStepIndex"] == 1)


def test_a_full_promotion_ends_in_a_release(cluster: Cluster, context: dict[str, Any]) -> None:
    canary(cluster)
    result = task(RolloutPromoteOperator, full=True).execute(context)
    done = task(RolloutSensor, kind="Rollout", applied=result["target"], on_paused="wait").execute(context)
    assert done["rule"] == "ready"
    assert task(RolloutPromoteOperator, full=True).execute(context)["attached"] is True


def test_an_aborted_rollout_is_never_a_release(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = canary(cluster)
    result = task(RolloutAbortOperator).execute(context)
    assert result["changed"] is True
    assert task(RolloutAbortOperator).execute(context)["attached"] is True
    cluster.until(plural, lambda item: item["status"]["phase"] == "Degraded")
    with pytest.raises(AirflowFailException, match="was aborted"):
        task(RolloutSensor, kind="Rollout", applied=result["target"]).execute(context)
    with pytest.raises(AirflowFailException, match="was aborted"):
        task(RolloutPromoteOperator).execute(context)
    # Put back to the version before, it is Healthy, and still not what was applied.
    cluster.set_image(plural, "shop/web:1")
    cluster.until(plural, lambda item: item["status"]["phase"] == "Healthy")
    with pytest.raises(AirflowFailException, match="not all that was applied still holds"):
        task(RolloutSensor, kind="Rollout", applied=result["target"]).execute(context)


def test_where_nothing_is_on_its_way_nothing_is_done(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = rolled_out(cluster, "Rollout", **STEPS)
    before = copy.deepcopy(cluster.get(plural))
    for operator in (RolloutAbortOperator, RolloutPromoteOperator):
        result = task(operator, deliverable=Deliverable("web"), environment="production").execute(context)
        assert (result["changed"], result["attached"], result["record_id"]) == (False, False, None)
    assert cluster.get(plural) == before


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        (RolloutPauseOperator, "StatefulSet"),
        (RolloutAbortOperator, "Deployment"),
        (RolloutPromoteOperator, "Deployment"),
    ],
)
def test_an_act_that_a_kind_does_not_know(
    cluster: Cluster, context: dict[str, Any], operator: Callable[..., Any], kind: str
) -> None:
    cluster.make("Deployment")
    body: Object = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {}}
    if kind == "StatefulSet":
        cluster.api.kinds["apps", "v1", "statefulsets"] = type(
            cluster.api.kinds["apps", "v1", "deployments"]
        )("apps", "v1", "statefulsets", True)
        cluster.api.put("apps", "v1", "statefulsets", body)
    with pytest.raises(AirflowFailException, match="knows no such act"):
        task(operator, kind=kind).execute(context)


def test_somebody_who_writes_at_the_same_time_is_no_harm(cluster: Cluster, context: dict[str, Any]) -> None:
    plural = rolled_out(cluster)
    read = RolloutRestartOperator.read
    left = [2]

    class Contended(RolloutRestartOperator):
        async def read(self, client: Any) -> dict[str, Any]:
            item = await read(self, client)
            if left[0]:
                left[0] -= 1
                cluster.api.change(
                    plural, "shop", "web", lambda one: one["spec"].update(minReadySeconds=left[0])
                )
            return item

    result = Contended(task_id="task", name="web").execute(context)
    assert result["changed"] is True
    assert cluster.get(plural)["spec"]["minReadySeconds"] == 0
