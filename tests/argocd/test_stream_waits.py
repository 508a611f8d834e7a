"""One trigger for many waits: its arguments, its one event, and rows of earlier versions."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_pipeops.argocd.clients.protocol import AppRef
from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.argocd.triggers import ArgoCDWaitTrigger
from airflow_pipeops.argocd.waits import ArgoCDController
from airflow_pipeops.exceptions import BadResponse, InvalidInput, SyncFailed
from airflow_pipeops.waits.controller import until_decided
from airflow_pipeops.waits.verdict import Expectation
from tests.waits.judging import Wait

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


class Apps:
    """A client whose applications are as given; ``good`` comes to life at the third look."""

    def __init__(self) -> None:
        self.looks = 0

    async def get(self, ref: AppRef) -> dict[str, Any]:
        if ref.name == "bad":
            return application(phase="Failed")
        self.looks += 1
        return application("Healthy" if self.looks > 3 else "Progressing")

    async def refresh(self, ref: AppRef, *, hard: bool, timeout: float) -> dict[str, Any]:
        return await self.get(ref)


@pytest.mark.parametrize(("fail_fast", "good"), [(True, "wait"), (False, "done")])
def test_the_first_failure_ends_it_if_that_is_asked_for(fail_fast: bool, good: str) -> None:
    waits = [Wait(AppRef(name), Expectation.from_json(expectation())) for name in ("bad", "good")]
    client: Any = Apps()
    asyncio.run(until_decided(ArgoCDController(client), waits, 0.02, fail_fast=fail_fast))
    assert [wait.state.verdict.state for wait in waits] == ["failed", good]
    assert isinstance(waits[0].state.error("x"), SyncFailed)


class Turns:
    """A server on which one application falls ill as soon as the other is healthy, until it was read so often."""

    def __init__(self, ill: int) -> None:
        self.read: list[str] = []
        self.ill = ill

    async def get(self, ref: AppRef) -> dict[str, Any]:
        self.read.append(ref.name)
        second = self.read.count("second") > 3
        if ref.name == "second":
            return application("Healthy" if second else "Progressing")
        self.ill -= second
        return application("Progressing" if second and self.ill >= 0 else "Healthy")

    async def refresh(self, ref: AppRef, *, hard: bool, timeout: float) -> dict[str, Any]:
        return await self.get(ref)


def test_a_group_is_live_only_if_all_of_it_is_at_one_moment() -> None:
    waits = [Wait(AppRef(name), Expectation.from_json(expectation())) for name in ("first", "second")]
    client: Any = Turns(ill=3)
    asyncio.run(until_decided(ArgoCDController(client), waits, 0.02))
    assert [wait.state.verdict.state for wait in waits] == ["done", "done"]
    # The first was done before the second was; it is read until it is healthy beside the second.
    assert client.ill < 0
    healthy = [number for number, name in enumerate(client.read) if name == "second"][3]
    assert client.read[healthy:].count("first") > 3


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
        ArgoCDWaitTrigger(argocd_conn_id="argocd_default", waits=waits).serialize()
    assert caught.value.field == "waits"
