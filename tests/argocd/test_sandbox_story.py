"""Sensors, sync and triggers against the sandbox: real Git, real reconciliation, real processes, faults on."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.argocd.operators import ArgoCDSyncOperator
from airflow_pipeops.argocd.sensors import ArgoCDAppSensor, ArgoCDSteadySensor
from airflow_pipeops.argocd.watchers import ArgoCDDriftTrigger
from airflow_pipeops.delivery.deliverable import Deliverable

TICK = timedelta(milliseconds=300)


def live(app: str, revision: str, **arguments: Any) -> ArgoCDAppSensor:
    defaults: dict[str, Any] = {
        "timeout": timedelta(seconds=60),
        "settle": timedelta(seconds=1),
        "poll_interval": TICK,
        "deferrable": False,
    }
    return ArgoCDAppSensor(task_id="live", app=app, revision=revision, **{**defaults, **arguments})


def deferred_result(task: Any, context: dict[str, Any]) -> Any:
    """Run a task as Airflow does: in the worker, in the triggerer, and in a worker again."""
    try:
        return task.execute(context)
    except TaskDeferred as exit_:
        _, arguments = exit_.trigger.serialize()
        trigger = type(exit_.trigger)(**json.loads(json.dumps({**arguments, "dwell": 0})))

        async def first() -> Any:
            async for event in trigger.run():
                return json.loads(json.dumps(event.payload))

        return getattr(task, exit_.method_name)(context, event=asyncio.run(asyncio.wait_for(first(), 90)))


def test_a_commit_comes_to_life_and_one_that_contains_it_is_as_good(
    connected: Any, manifests: Any, context: dict[str, Any]
) -> None:
    first = connected.repository.commit({"life/api.yaml": manifests.deployment()}, "Life one")
    connected.create("life", automated={"selfHeal": True, "prune": True})
    assert deferred_result(live("life", first, deferrable=True), context)["compared"] == first

    second = connected.repository.commit({"life/api.yaml": manifests.deployment(mark="2")}, "Life two")
    other = connected.repository.commit({"elsewhere/x.yaml": manifests.config_map("1")}, "Something else")
    task = live("life", second, git_conn_id="pipeops_gitops_repo", deferrable=True)
    result = deferred_result(task, context)
    assert (result["revision"], result["health"], result["sync"]) == (second, "Healthy", "Synced")
    assert result["compared"] in (second, other)
    names = {env["name"]: env["value"] for env in _container(connected, "life")["env"]}
    assert names["MARK"] == "2"


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_is_taken_back_in_mid_wait_is_no_release(
    connected: Any, manifests: Any, context: dict[str, Any], deferrable: bool
) -> None:
    """The commit is contained in what is live, and green; what it set is not."""
    app, deliverable = f"undone-{deferrable}".lower(), Deliverable("api")
    file = f"{app}/a.yaml"
    first = connected.repository.commit({file: manifests.config_map("1")}, "One")
    connected.create(app, automated={"selfHeal": True})
    live(app, first).execute(context)
    second = connected.repository.commit({file: manifests.config_map("2")}, "Two")
    undone = connected.repository.commit({file: manifests.config_map("1")}, "Back to one")

    def released(revision: str, **arguments: Any) -> Any:
        given = {"git_conn_id": "pipeops_gitops_repo", "deferrable": deferrable, **arguments}
        task = live(app, revision, deliverable=deliverable, environment="production", **given)
        return deferred_result(task, context)

    with pytest.raises(AirflowFailException, match=r"NotJudged: .*data.value.*\(Back to one\)"):
        released(second)
    assert not len(context["outlet_events"])
    # A task that found its values there commits nothing, and names the tip: its values count, not those of the tip.
    change = {"commit": undone, "changed": False, "file": file, "set": {"data.value": "1"}}
    assert released(undone, change=change)["changed"] is False
    record = context["outlet_events"][deliverable.released("production")].extra
    assert (record["body"]["revision"], record["body"]["compared"]) == (undone, undone)
    connected.repository.commit({file: manifests.config_map("3")}, "Three")
    with pytest.raises(AirflowFailException, match=r"data.value.*\(Three\)"):
        released(undone, change=change)


def _container(sandbox: Any, app: str) -> dict[str, Any]:
    found = sandbox.call("GET", f"/sandbox/admin/live?kind=Deployment&namespace={app}")["items"]
    return found[0]["spec"]["template"]["spec"]["containers"][0]


def test_a_wait_holds_through_faults(connected: Any, manifests: Any, context: dict[str, Any]) -> None:
    first = connected.repository.commit({"storm/api.yaml": manifests.deployment()})
    connected.create("storm", automated={})
    live("storm", first).execute(context)
    connected.fault(kind="hang_refresh", count=1)
    connected.fault(kind="error", path="/api/v1/applications/storm*", status=503, probability=0.3)
    connected.fault(kind="truncate", path="/api/v1/applications/storm*", probability=0.2)
    connected.fault(kind="delay", path="/api/v1/applications/storm*", ms=200, probability=0.3)
    second = connected.repository.commit({"storm/api.yaml": manifests.deployment(mark="2")})
    assert live("storm", second).execute(context)["compared"] == second
    connected.heal()
    assert {env["name"]: env["value"] for env in _container(connected, "storm")["env"]}["MARK"] == "2"


def test_a_commit_that_breaks_the_program_fails_with_its_reason(
    connected: Any, manifests: Any, context: dict[str, Any]
) -> None:
    bad = connected.repository.commit(
        {"broken/api.yaml": manifests.deployment("raise SystemExit(3)", deadline=2)}, "Break it"
    )
    connected.create("broken", automated={})
    with pytest.raises(AirflowFailException) as caught:
        live("broken", bad, degraded_grace=timedelta(seconds=1)).execute(context)
    text = str(caught.value)
    assert "ReleaseFailed: Argo CD app broken (project default): Degraded at" in text
    assert "by Ada" in text
    assert "Break it" in text
    assert "Deployment/api" in text


def test_an_application_that_is_not_there(connected: Any, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="NotFound"):
        live("nowhere", "a" * 40).execute(context)


def test_sync_by_hand_is_done_once(connected: Any, manifests: Any, context: dict[str, Any]) -> None:
    first = connected.repository.commit({"hand/a.yaml": manifests.config_map("1")})
    connected.create("hand")
    with pytest.raises(AirflowFailException, match="manual sync"):
        live("hand", first).execute(context)

    def sync(**arguments: Any) -> ArgoCDSyncOperator:
        return ArgoCDSyncOperator(
            task_id="sync",
            app="hand",
            poll_interval=TICK,
            settle=timedelta(0),
            timeout=timedelta(seconds=60),
            deferrable=False,
            **arguments,
        )

    one = sync(revision=first).execute(context)
    again = sync(revision=first).execute(context)
    assert (one["attached"], again["attached"], again["revision"]) == (False, True, first)
    history = connected.call("GET", "/api/v1/applications/hand?project=default")["status"]["history"]
    assert [entry["revision"] for entry in history] == [first]
    # A person who clears the task wants it done again.
    ti = context["ti"]
    ti.task, ti.try_number, ti.max_tries = SimpleNamespace(retries=0), 2, 1
    assert sync(revision=first).execute(context)["attached"] is False
    assert sync(revision=first).execute(context)["attached"] is True
    assert live("hand", first).execute(context)["sync"] == "Synced"

    connected.repository.commit({"hand/a.yaml": manifests.config_map("2")})
    context["ti"].run_id = "run-2"
    behind = sync(revision=first).execute(context)
    assert behind["revision"] == first
    context["ti"].run_id = "run-3"
    with pytest.raises(AirflowFailException, match="InvalidInput"):
        sync(revision="main").execute(context)


def test_a_stuck_operation_of_somebody_else_ends_at_the_deadline(
    connected: Any, manifests: Any, context: dict[str, Any]
) -> None:
    first = connected.repository.commit({"stuck/a.yaml": manifests.config_map("1")})
    connected.create("stuck")
    connected.fault(kind="stuck_operation", app="stuck")
    connected.call("POST", "/api/v1/applications/stuck/sync", {"name": "stuck", "project": "default"})
    second = connected.repository.commit({"stuck/a.yaml": manifests.config_map("2")})
    task = ArgoCDSyncOperator(
        task_id="sync",
        app="stuck",
        revision=second,
        timeout=timedelta(seconds=2),
        poll_interval=TICK,
        deferrable=False,
    )
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        task.execute(context)
    connected.heal()
    assert first != second


class Store:
    """Stands where Airflow keeps the state of a watched asset."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))


def watch_drift(store: Store, wanted: int, during: Any = None, **arguments: Any) -> list[dict[str, Any]]:
    """Run a drift trigger until it has reported so much and a few looks more, and return all that it reported."""
    trigger = ArgoCDDriftTrigger(poll_interval=0.2, **arguments)
    trigger.asset_state_store = store  # type: ignore[assignment]
    found: list[dict[str, Any]] = []

    async def collect() -> None:
        async for event in trigger.run():
            found.append(json.loads(json.dumps(event.payload)))

    async def inside() -> None:
        task = asyncio.create_task(collect())
        await asyncio.sleep(0.8)
        if during is not None:
            await asyncio.to_thread(during)
        end = asyncio.get_running_loop().time() + 30
        while len(found) < wanted and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.8)
        task.cancel()

    asyncio.run(inside())
    return found


def test_drift_is_reported_once_and_again_when_it_differs(
    connected: Any, manifests: Any, context: dict[str, Any]
) -> None:
    first = connected.repository.commit({"drift/a.yaml": manifests.config_map("1")})
    connected.create("drift", automated={})
    live("drift", first).execute(context)
    store = Store()

    def drift(value: str) -> None:
        connected.patch("drift", {"data": {"value": value}})
        connected.until("drift", lambda app: app["status"]["sync"]["status"] == "OutOfSync")

    (event,) = watch_drift(store, 1, lambda: drift("changed"), apps=["drift"])
    assert (event["app"], event["revision"]) == ("drift", first)
    assert event["resources"][0]["change"] == "modified"
    assert event["resources"][0]["fields"] == ["data.value"]
    assert "changed" not in json.dumps(event)
    assert watch_drift(store, 0, apps=["drift"]) == []
    assert ArgoCDHook().difference("drift")["fingerprint"] == event["fingerprint"]
    (other,) = watch_drift(store, 1, lambda: drift("otherwise"), apps=["drift"])
    assert other["fingerprint"] != event["fingerprint"]

    healed = ArgoCDSyncOperator(
        task_id="heal", app="drift", revision=first, poll_interval=TICK, settle=timedelta(0), deferrable=False
    )
    assert healed.execute(context)["revision"] == first
    connected.until("drift", lambda app: app["status"]["sync"]["status"] == "Synced")
    assert ArgoCDHook().difference("drift")["resources"] == []
    again = watch_drift(store, 1, lambda: drift("otherwise"), project="default")
    assert [one["fingerprint"] for one in again if one["app"] == "drift"] == [other["fingerprint"]]

    connected.repository.commit({"elsewhere/y.yaml": manifests.config_map("2")}, "A commit for somebody else")
    connected.call("GET", "/api/v1/applications/drift?project=default&refresh=normal")
    context["ti"].run_id = "run-2"
    healed.git_conn_id = "pipeops_gitops_repo"
    assert healed.execute(context)["sync"] == "Synced"


def test_a_new_commit_is_no_drift(connected: Any, manifests: Any) -> None:
    connected.repository.commit({"fresh/a.yaml": manifests.config_map("1")})
    connected.create("fresh")
    connected.call("POST", "/api/v1/applications/fresh/sync", {"name": "fresh", "project": "default"})
    connected.until("fresh", lambda app: app.get("status", {}).get("sync", {}).get("status") == "Synced")

    def commit() -> None:
        second = connected.repository.commit({"fresh/a.yaml": manifests.config_map("2")})
        connected.call("GET", "/api/v1/applications/fresh?project=default&refresh=normal")
        connected.until("fresh", lambda app: app["status"]["sync"]["revision"] == second)

    assert watch_drift(Store(), 0, commit, apps=["fresh"]) == []


def test_drift_trigger_outlives_an_outage(connected: Any, manifests: Any, context: dict[str, Any]) -> None:
    first = connected.repository.commit({"outage/a.yaml": manifests.config_map("1")})
    connected.create("outage", automated={})
    live("outage", first).execute(context)

    def outage() -> None:
        connected.fault(kind="error", path="/api/v1/applications/outage*", status=500, count=6)
        connected.patch("outage", {"data": {"value": "2"}})

    assert len(watch_drift(Store(), 1, outage, apps=["outage"])) == 1


def test_release_that_dies_is_found_degraded(connected: Any, manifests: Any, context: dict[str, Any]) -> None:
    fragile = "import time;time.sleep(0.1)"
    first = connected.repository.commit({"guard/api.yaml": manifests.deployment()})
    connected.create("guard", automated={})
    live("guard", first).execute(context)

    def watch(**arguments: Any) -> Any:
        return ArgoCDSteadySensor(
            task_id="watch",
            app="guard",
            revision=first,
            grace=timedelta(seconds=1),
            poll_interval=TICK,
            **arguments,
        )

    steady = deferred_result(watch(duration=timedelta(seconds=2), deferrable=True), context)
    assert (steady["verdict"], steady["revision"]) == ("steady", first)
    command = ["python3", "-c", fragile]
    template = {"spec": {"containers": [{**_container(connected, "guard"), "command": command}]}}
    patch = {"spec": {"template": template, "progressDeadlineSeconds": 2}}
    key = {"group": "apps", "kind": "Deployment", "namespace": "guard", "name": "api"}
    connected.call("PATCH", "/sandbox/admin/live", {**key, "patch": patch})
    degraded = watch(duration=timedelta(seconds=30), deferrable=False).execute(context)
    assert degraded["verdict"] == "degraded"
    assert degraded["unhealthy_for"] >= 1
