"""What the chart's Role allows is what the code needs, no more and no less: both ways of waiting, and each kind of end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_pipeops.build.backends import BuiltImage, TestResult, Waiting
from airflow_pipeops.exceptions import PodFailed
from tests.build.cluster.running import request, test_request
from tests.build.cluster.test_backends import GOOD, JUNIT, Task, always, connect, fired, handing_over
from tests.helm.test_chart import RBAC, one
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.workloads import playing

Right = tuple[str, str]


def granted() -> set[Right]:
    return {
        (f"{resource}.{group}".rstrip("."), verb)
        for rule in one("Role", RBAC["build"])["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture
def asked() -> set[Right]:
    return set()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, asked: set[Right]) -> Iterator[ApiServer]:
    """A cluster that gives what the chart's Role gives, in its namespace alone."""
    rights = granted()

    def allow(verb: str, target: str, namespace: str) -> bool:
        asked.add((target, verb))
        return (target, verb) in rights and namespace == "ci"

    with serving() as server:
        server.tokens = {"token": allow}
        connect(monkeypatch, server)
        yield server


def test_everything_goes_with_the_chart_s_role_and_needs_all_of_it(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, asked: set[Right]
) -> None:
    monkeypatch.setattr("airflow_pipeops.build.cluster.judgement.PATIENCE", 0.2)
    task = Task("dag/run/build/-1")
    with playing(api, always(*GOOD)):
        assert isinstance(task.build().start(request(), task.worker), BuiltImage)

    go, task = threading.Event(), Task("dag/run/deferred/-1")
    with playing(api, always(pods.runs(), pods.waits(go), GOOD[-1])):
        waiting = task.build(deferrable=True).start(request(), task.worker)
        assert isinstance(waiting, Waiting)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(fired(waiting)))
        thread.start()
        go.set()
        thread.join(60)
        assert isinstance(task.build().resume(request(), task.worker, found[0]), BuiltImage)

    task = Task("dag/run/tests/-1")
    with playing(api, always(pods.runs(), pods.says("ok"), pods.ends(last=handing_over(junit=JUNIT)))):
        assert isinstance(task.tests().start(test_request(), task.worker), TestResult)

    task = Task("dag/run/stuck/-1")
    with playing(api, always(pods.cannot_pull())), pytest.raises(PodFailed, match="cannot be pulled"):
        task.build().start(request(), task.worker)

    task = Task("dag/run/killed/-1")
    with playing(api, always()):
        waiting = task.build(deferrable=True).start(request(), task.worker)
        asyncio.run(waiting.trigger.on_kill())
    assert asked == granted()


def test_without_a_right_to_events_a_build_still_fails_with_what_the_pod_says(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_pipeops.build.cluster.judgement.PATIENCE", 0.2)
    allow = api.tokens["token"]
    api.tokens["token"] = lambda verb, target, namespace: (
        target != "events" and allow(verb, target, namespace)
    )
    with playing(api, always(pods.cannot_pull())), pytest.raises(PodFailed, match="manifest unknown"):
        Task().build().start(request(), Task().worker)


def test_without_a_right_to_watch_a_deferred_build_is_polled(api: ApiServer) -> None:
    allow = api.tokens["token"]
    api.tokens["token"] = lambda verb, target, namespace: verb != "watch" and allow(verb, target, namespace)
    task = Task()
    with playing(api, always(*GOOD)):
        waiting = task.build(deferrable=True).start(request(), task.worker)
        event = fired(waiting) if isinstance(waiting, Waiting) else {}
        result = task.build().resume(request(), task.worker, event) if event else waiting
    assert isinstance(result, BuiltImage)
