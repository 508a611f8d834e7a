"""What a real Argo CD 3.5.1 said, and what was true then: the recordings of one day, each judged by the rules of the wait.

``recordings/`` holds the answers as they came, without ``managedFields``. Names that end in ``-final``, and those without a
suffix, are Applications from the Kubernetes API; ``-get`` are from the REST API, ``-tree`` resource trees, and ``error``
and ``m-error`` answers to what is refused.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops import exceptions
from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.clients.errors import error_of
from airflow_pipeops.argocd.clients.protocol import AppRef, Resource
from airflow_pipeops.argocd.clients.rest import ArgoCDClient
from airflow_pipeops.argocd.messages import Findings, compose, unhealthy_pods
from airflow_pipeops.argocd.novelty import (
    DegradedMemory,
    ReleaseMemory,
    degraded,
    needs_comparison,
    released,
)
from airflow_pipeops.waits.status import Observed
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from tests.waits.judging import decide

RECORDINGS = Path(__file__).parent / "recordings"


def recorded(name: str) -> Any:
    """Read a recording."""
    return json.loads((RECORDINGS / f"{name}.json").read_text())


def app(name: str) -> Observed:
    """Read a recorded Application."""
    return observe(recorded(name))


def judged(observed: Observed, seconds: float = 200.0, **more: Any) -> Verdict:
    """Judge what stays so for a while, each look the answer to a refresh, waiting for the commit that is compared."""
    at = (
        dict(enumerate(observed.desired))
        if all(len(one) == 40 for one in observed.desired)
        else {0: "f" * 40}
    )
    expectation = Expectation(revisions={str(index): one for index, one in at.items()}, settle=5.0, **more)
    memory, now = Memory(), 0.0
    verdict = Verdict("wait", "", "")
    while now <= seconds and verdict.state == "wait":
        verdict, memory = decide(replace(observed, refreshed=now > 0), expectation, memory, now)
        now += 10.0
    return verdict


#: Recording -> what a wait for the compared commit says of it when it lasts, and words of the reason.
TRUTH = {
    "b-crash-final": ("wait", "progressing", "Progressing"),
    "b-crash-get": ("wait", "progressing", "Deployment/api Progressing: Waiting for rollout"),
    "b-later-crash-final": ("done", "healthy", "live and Healthy"),
    "b-missing-deadline-get": ("failed", "degraded", "exceeded its progress deadline"),
    "b-missing-get": ("wait", "progressing", "Waiting for rollout"),
    "c-invalidfield": ("wait", "retrying", "will be tried again"),
    "c-nopath": ("failed", "comparison_error", "app path does not exist"),
    "c-norepo": ("failed", "comparison_error", "repository not found"),
    "d-presyncfail": ("wait", "retrying", "will be tried again"),
    "d2-d2-pre": ("failed", "operation_failed", "Job/migrate PreSync hook failed"),
    "e-multisource": ("done", "healthy", "live and Healthy"),
    "f-drift-app": ("failed", "manual_sync_needed", "Secret/creds"),
    "g-windowdeny": ("wait", "out_of_sync", "is a sync window closed?"),
    "i-running": ("wait", "operation_running", "is running"),
    "o-degraded-app": ("wait", "progressing", "Progressing"),
    "released-late": ("wait", "settling", "for 3 of 5 s"),
    "stale-progressing-after-controller-kill": ("wait", "progressing", "Progressing"),
    "st-crash-after-rollout": ("wait", "progressing", "Progressing"),
}


@pytest.mark.parametrize("name", TRUTH)
def test_the_wait_says_what_was_true(name: str) -> None:
    state, rule, words = TRUTH[name]
    verdict = judged(app(name))
    assert (verdict.state, verdict.rule) == (state, rule)
    assert words in verdict.reason


def test_a_release_in_the_second_of_its_comparison_is_told() -> None:
    seen = app("released-eq-second")
    assert seen.operation is not None
    assert seen.compared_at == seen.operation.finished_at
    before = ReleaseMemory(known=True, reported="another", number=1)
    payload, memory = released(seen, before)
    assert payload is None  # once may be chance
    payload, memory = released(seen, memory)
    assert payload is not None
    assert payload["revision"] == seen.deployed[0]


def test_where_health_did_not_change_one_comparison_is_asked_for() -> None:
    seen = app("released-eq-second")
    assert seen.operation is not None
    assert seen.operation.finished_at is not None
    before = ReleaseMemory(known=True, reported="another", number=1)
    equal = replace(seen, health_since=seen.operation.finished_at - 600)
    assert needs_comparison(equal, before)
    assert released(equal, released(equal, before)[1])[0] is None
    compared = replace(equal, compared_at=seen.operation.finished_at + 1)
    assert not needs_comparison(compared, before)
    assert released(compared, released(compared, before)[1])[0] is not None


def test_pods_that_crash_after_a_rollout_are_told_of_where_that_is_asked_for() -> None:
    seen = app("st-crash-after-rollout")
    assert seen.health == "Progressing"
    for grace, told in ((None, False), (300.0, True)):
        payload, memory = degraded(seen, DegradedMemory(), 0.0, unhealthy_grace=grace)
        assert payload is None
        payload, memory = degraded(seen, memory, 299.0, unhealthy_grace=grace)
        assert payload is None
        payload, memory = degraded(seen, memory, 301.0, unhealthy_grace=grace)
        assert bool(payload) is told
        if payload:
            assert (payload["health"], payload["lasted"]) == ("Progressing", 301.0)
            assert degraded(seen, memory, 400.0, unhealthy_grace=grace)[0] is None


def test_a_progressing_that_nothing_moves_is_looked_at_again() -> None:
    seen = app("stale-progressing-after-controller-kill")
    expectation = Expectation(revisions={"0": seen.desired[0]}, settle=5.0)
    memory, asked = Memory(), []
    for now in range(0, 60, 5):
        verdict, memory = decide(replace(seen, refreshed=now == 0), expectation, memory, float(now))
        asked += [now] if verdict.refresh and verdict.rule == "progressing" else []
    assert asked[:1] == [20]


def test_the_message_names_the_pod_that_crashes_whoever_is_asked() -> None:
    for name in ("b-crash-final", "b-crash-get"):
        seen = app(name)
        pods = unhealthy_pods(recorded("b-crash-tree"))
        text = compose("b-crash", judged(seen), Findings(observed=seen, pods=pods), "", now=0.0)
        assert (
            "pod api-6d4b84d749-kkssh is CrashLoopBackOff: back-off 40s restarting failed container" in text
        )


REFUSED = {
    "error-get-absent": exceptions.NotFound,
    "error-get-other-project": exceptions.NotFound,
    "error-sync-window-denied": exceptions.SyncFailed,
    "error-rollback-unknown-id": exceptions.SyncFailed,
    "i-rollback-autosync-error": exceptions.SyncFailed,
    "i-sync-old-autosync-error": exceptions.SyncFailed,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_has_a_type_and_the_words_of_the_server(name: str) -> None:
    body = recorded(name)
    error = error_of(
        body["_code"], json.dumps(body).encode(), "application api", "https://argocd.example.com"
    )
    assert type(error) is REFUSED[name]
    assert body["message"] in str(error)


def test_an_expired_token_is_said_in_words_on_a_stream_too() -> None:
    said = recorded("m-error-shortlived")["get"]
    frame = {
        "error": {
            "grpc_code": 16,
            "http_code": 401,
            "message": said["message"],
            "http_status": "Unauthorized",
        }
    }
    for content in (f"data: {json.dumps(frame)}\n\n", json.dumps(frame), json.dumps(said)):
        error = error_of(401, content.encode(), "the stream", "https://argocd.example.com")
        assert type(error) is exceptions.AccessDenied
        assert "token is expired" in str(error)
        assert "{" not in str(error)


def test_why_a_log_cannot_be_had_is_not_the_last_word_of_a_pod(script: Any) -> None:
    script.answers = [(200, (RECORDINGS / "logs-error-as-content.jsonl").read_bytes())]

    async def story() -> None:
        async with ArgoCDClient(script.url, "token") as client:
            with pytest.raises(exceptions.Unreachable, match="no preferred addresses found"):
                await client.logs(AppRef("api"), Resource("Deployment", "api", "api", "apps"))

    asyncio.run(story())
