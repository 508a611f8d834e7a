"""One trigger for many waits: its arguments, its one event, and rows of earlier versions."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.argocd.triggers import ArgoCDWaitTrigger
from airflow_pipeops.argocd.wait import Decided
from airflow_pipeops.exceptions import BadResponse, InvalidInput, SyncFailed
from airflow_pipeops.gitops.verdict import Expectation

NEW = "a" * 40


def application(health: str = "Healthy", phase: str = "Succeeded") -> dict[str, Any]:
    state = {
        "phase": phase,
        "startedAt": "2026-11-01T10:00:01Z",
        "finishedAt": "2026-11-01T10:00:05Z",
        "operation": {"sync": {"revision": NEW}},
        "syncResult": {"revision": NEW},
    }
    return {
        "metadata": {"name": "api", "namespace": "argocd", "uid": "u"},
        "spec": {"project": "ml", "source": {"repoURL": "https://git/x", "targetRevision": "main"}},
        "status": {
            "sync": {"status": "Synced", "revision": NEW},
            "health": {"status": health, "lastTransitionTime": "2026-11-01T10:00:10Z"},
            "reconciledAt": "2026-11-01T10:01:00Z",
            "operationState": state,
        },
    }


def expectation(**more: Any) -> dict[str, Any]:
    return {"revisions": {"*": NEW}, "settle": 0.0, **more}


def fire(trigger: ArgoCDWaitTrigger) -> dict[str, Any]:
    """Run the trigger as it comes out of the database."""
    path, arguments = trigger.serialize()
    assert path == "airflow_pipeops.argocd.triggers.ArgoCDWaitTrigger"
    revived = ArgoCDWaitTrigger(**json.loads(json.dumps({**arguments, "dwell": 0})))

    async def all_events() -> list[Any]:
        return [event.payload async for event in revived.run()]

    (payload,) = asyncio.run(asyncio.wait_for(all_events(), 20))
    return json.loads(json.dumps(payload))


def trigger(*apps: str, **more: Any) -> ArgoCDWaitTrigger:
    waits = [{"app": app, "expectation": expectation()} for app in apps]
    return ArgoCDWaitTrigger(argocd_conn_id="argocd_default", waits=waits, poll_interval=0.05, **more)


def test_one_event_tells_of_all_waits(scripted: Any) -> None:
    scripted.answers = [(200, application("Progressing"))] * 3 + [(200, application())]
    event = fire(trigger("one", "two", "three"))
    assert {app: one["verdict"]["state"] for app, one in event["decided"].items()} == {
        "one": "done",
        "two": "done",
        "three": "done",
    }
    assert {path.rsplit("/", 1)[1] for path in scripted.paths()} == {"one", "two", "three"}
    assert all("project=default" in path for _, path, _ in scripted.requests)


@pytest.mark.parametrize(("fail_fast", "states"), [(True, {"failed", "wait"}), (False, {"failed", "done"})])
def test_the_first_failure_ends_it_if_that_is_asked_for(
    fail_fast: bool, states: set[str], scripted: Any
) -> None:
    failed, slow = application(phase="Failed"), application("Progressing")
    scripted.answers = [(200, failed), (200, slow), (200, slow), (200, slow), (200, application())]
    event = fire(trigger("bad", "good", fail_fast=fail_fast))
    decided = {app: Decided.from_json(one) for app, one in event["decided"].items()}
    assert {one.verdict.state for one in decided.values()} == states
    (bad,) = [one for one in decided.values() if one.verdict.state == "failed"]
    assert isinstance(bad.error("x"), SyncFailed)


def test_a_trigger_of_an_earlier_version_goes_on(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application("Progressing")), (200, application())]
    begun = time.time() - 60
    row = {
        "argocd_conn_id": "argocd_default",
        "app": "api",
        "project": "ml",
        "app_namespace": "",
        "git_conn_id": None,
        "expectation": expectation(),
        "memory": {"started_at": begun, "now": begun, "looked": True},
        "poll_interval": 0.05,
    }
    event = fire(ArgoCDWaitTrigger(**row))
    assert event["decided"]["api"]["memory"]["started_at"] == begun
    assert all("project=ml" in path for _, path, _ in scripted.requests)
    task = ArgoCDAppSensor(task_id="task", app="api", revision=NEW)
    assert task.execute_complete(context, event=event)["rule"] == "healthy"


def test_an_event_of_an_earlier_version_is_read(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application())]
    event = fire(trigger("api"))["decided"]["api"]
    task = ArgoCDAppSensor(task_id="task", app="api", revision=NEW)
    assert task.execute_complete(context, event=event)["compared"] == NEW


def test_an_operator_waits_for_several(scripted: Any) -> None:
    scripted.answers = [(200, application("Progressing"))]
    task = ArgoCDAppSensor(task_id="task", app="api", revision=NEW, settle=timedelta(0), deferrable=True)
    wanted = {app: task.within(Expectation(revisions={"*": NEW})) for app in ("one", "two")}
    with pytest.raises(TaskDeferred) as caught:
        task.wait_all(wanted, "execute_complete", fail_fast=False)
    _, arguments = caught.value.trigger.serialize()
    assert [wait["app"] for wait in arguments["waits"]] == ["one", "two"]
    assert arguments["fail_fast"] is False
    assert arguments["waits"][0]["project"] == "default"
    scripted.answers = [(200, application())]
    decided = task.resumed_all(fire(caught.value.trigger))
    assert {one.verdict.rule for one in decided.values()} == {"healthy"}
    with pytest.raises(BadResponse, match="2 applications"):
        task.resumed({"decided": {app: one.to_json() for app, one in decided.items()}})
    with pytest.raises(InvalidInput):
        task.wait_all({}, "execute_complete")


@pytest.mark.parametrize("waits", [[], [{"app": ""}], [{"app": "a"}, {"app": "a"}]])
def test_waits_are_named_once_each(waits: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidInput) as caught:
        ArgoCDWaitTrigger(argocd_conn_id="argocd_default", waits=waits)
    assert caught.value.field == "waits"
