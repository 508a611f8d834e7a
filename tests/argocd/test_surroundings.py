"""What keeps an application from being synchronised, asked of a server over HTTP, and kept while a stream goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from airflow_pipeops.argocd.clients.protocol import AppRef
from airflow_pipeops.argocd.clients.rest import ArgoCDClient
from airflow_pipeops.argocd.stream import ArgoCDSource
from airflow_pipeops.argocd.waits import ArgoCDController
from airflow_pipeops.waits.controller import until_decided
from airflow_pipeops.waits.status import Observed
from airflow_pipeops.waits.streams.snapshot import Reading, Snapshot
from airflow_pipeops.waits.verdict import Expectation
from tests.waits.judging import Wait

OLD, NEW = "b" * 40, "a" * 40
CLOSED = {"activeWindows": [{"kind": "deny", "schedule": "0 22 * * *", "duration": "9h"}], "canSync": False}
OPEN = {"assignedWindows": [{"kind": "allow"}], "activeWindows": [{"kind": "allow"}], "canSync": True}
FLEET = {
    "metadata": {"name": "fleet"},
    "spec": {"strategy": {"type": "RollingSync"}},
    "status": {
        "applicationStatus": [
            {
                "application": "api",
                "status": "Waiting",
                "step": "2",
                "message": "the step before is not healthy",
            }
        ]
    },
}


def application(
    *, sync: str = "OutOfSync", automated: bool = True, phase: str = "Succeeded"
) -> dict[str, Any]:
    source = {"repoURL": "https://git.example.com/desired.git", "targetRevision": "main", "path": "api"}
    owner = {} if automated else {"ownerReferences": [{"kind": "ApplicationSet", "name": "fleet"}]}
    return {
        "metadata": {"name": "api", "namespace": "argocd", "uid": "u", "resourceVersion": "7", **owner},
        "spec": {"project": "ml", "source": source, "syncPolicy": {"automated": {}} if automated else {}},
        "status": {
            "sync": {"status": sync, "revision": NEW, "comparedTo": {"source": source}},
            "health": {"status": "Healthy"},
            "reconciledAt": "2026-11-02T10:00:00Z",
            "operationState": {
                "phase": phase,
                "startedAt": "2026-11-01T10:00:00Z",
                "finishedAt": None if phase == "Running" else "2026-11-01T10:00:09Z",
                "operation": {"sync": {"revision": OLD}},
                "syncResult": {"revision": OLD},
            },
        },
    }


def read(scripted: Any, app: dict[str, Any], routes: dict[str, Any]) -> tuple[Observed, list[str]]:
    """Read it as a shared stream does; return what was observed, and the paths that were asked."""
    scripted.answers, scripted.routes = [(200, app)], routes

    async def ask() -> Reading:
        client = ArgoCDClient(scripted.url, "token", timeout=2, attempts=1)
        async with ArgoCDSource(client, "ml", "auto") as source:
            return await source.read(AppRef("api"))

    observed = asyncio.run(ask()).observed
    assert observed is not None
    return observed, [path.split("?")[0].rsplit("/", 1)[1] for _, path, _ in scripted.requests]


@pytest.mark.parametrize(
    ("app", "answer", "blocked"),
    [
        (application(), (200, CLOSED), "a window denies it: 0 22 * * * for 9h"),
        (application(), (200, OPEN), ""),
        (application(), (403, {"code": 7, "message": "permission denied"}), ""),
        (application(), (503, b""), ""),
    ],
)
def test_a_closed_window_is_asked_for(scripted: Any, app: Any, answer: Any, blocked: str) -> None:
    observed, asked = read(scripted, app, {"/syncwindows": answer})
    assert observed.blocked == blocked
    assert asked == ["api", "syncwindows"]


def test_the_step_of_a_rolling_sync_is_asked_for(scripted: Any) -> None:
    observed, asked = read(scripted, application(automated=False), {"/fleet": (200, FLEET)})
    assert observed.rollout is not None
    assert (observed.rollout.owner, observed.rollout.status, observed.rollout.step) == (
        "fleet",
        "Waiting",
        "2",
    )
    assert asked == ["api", "fleet"]


def test_a_set_that_nobody_may_read_is_no_obstacle(scripted: Any) -> None:
    answer = (403, {"code": 7, "message": "permission denied"})
    observed, _ = read(scripted, application(automated=False), {"/fleet": answer})
    assert not observed.owner_seen


@pytest.mark.parametrize("app", [application(sync="Synced"), application(phase="Running")])
def test_nothing_is_asked_where_nothing_is_held_up(scripted: Any, app: Any) -> None:
    assert read(scripted, app, {})[1] == ["api"]


@pytest.mark.parametrize(
    ("app", "routes", "policy", "rule"),
    [
        (application(), {"/syncwindows": (200, CLOSED)}, {"on_window": "fail"}, "sync_window"),
        (
            application(automated=False),
            {"/fleet": (404, {"code": 5, "message": "not found"})},
            {"timeout": 0.0},
            "deadline",
        ),
    ],
)
def test_a_wait_says_what_holds_it_up(
    scripted: Any, app: Any, routes: Any, policy: dict[str, Any], rule: str
) -> None:
    scripted.answers, scripted.routes = [(200, app)], routes
    wait = Wait(AppRef("api", "ml"), Expectation(revisions={"*": NEW}, **policy))

    async def run() -> None:
        async with ArgoCDClient(scripted.url, "token", timeout=2, attempts=1) as client:
            await until_decided(ArgoCDController(client), [wait], 0.1)

    asyncio.run(run())
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("failed", rule)


def test_what_was_asked_holds_while_a_stream_tells_of_other_things() -> None:
    asked = Observed("api", "argocd", uid="u", sync="OutOfSync", automatic=True, blocked="a window denies it")
    plain = replace(asked, blocked="", compared_at=9.0)
    shelf = Snapshot()
    shelf.answered(Reading("argocd", "api", 1, asked), 0.0, asked_at=0.0)
    key = ("argocd", "api")

    def told(version: int, observed: Observed) -> str:
        shelf.told(Reading("argocd", "api", version, observed), 1.0)
        entry = shelf.get(key)
        assert entry is not None
        return entry.observed.blocked

    assert told(2, plain) == "a window denies it"
    assert told(3, replace(plain, sync="Synced")) == ""
    shelf.answered(Reading("argocd", "api", 4, asked), 2.0, asked_at=2.0)
    assert told(5, replace(plain, uid="another")) == ""
