"""The message of a failed wait: what it says, that it fits, and that it keeps secrets to itself."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.argocd.clients.rest import AppRef, ArgoCDClient
from airflow_pipeops.argocd.messages import LIMIT, Findings, compose, headline, next_change, window_lines
from airflow_pipeops.argocd.reports import explain
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.redaction import redacted
from airflow_pipeops.waits.status import Condition, Observed, Operation, Resource
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict

SHA, OLD = "1a2b3c4d" * 5, "b" * 40
NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC, a Friday
URL = "https://argo.example.com/applications/payments/api"
WHY = "Job/db-migrate PreSync hook failed: BackoffLimitExceeded"

HOOK = Resource("Job", "db-migrate", hook="PreSync", phase="Failed", message="BackoffLimitExceeded")
OBSERVED = Observed(
    name="api",
    namespace="payments",
    project="ml",
    operation=Operation(phase="Failed", started_at=NOW - 90, finished_at=NOW - 30, resources=(HOOK,)),
    resources=(
        Resource("Service", "api", health="Healthy"),
        Resource("Deployment", "api", health="Progressing", message="waiting for rollout"),
        Resource("Deployment", "worker", health="Degraded", message="probe failed"),
    ),
    conditions=(Condition("SyncError", "Failed last sync attempt"),),
)
WINDOWS = {
    "canSync": False,
    "assignedWindows": [{"kind": "allow", "schedule": "0 22 * * *", "duration": "1h", "manualSync": True}],
}
EVENTS = [
    {
        "type": "Warning",
        "reason": "FailedScheduling",
        "message": "0/3 nodes are available",
        "count": 4,
        "involvedObject": {"kind": "Pod", "name": "api-1"},
    }
]


def verdict(rule: str = "operation_failed", reason: str = "", **details: Any) -> Verdict:
    facts = {
        "expected": {"0": SHA},
        "match": "exact",
        "desired": [SHA],
        "applied": [SHA],
        "sync": "OutOfSync",
        "health": "Degraded",
        "rule_held": 12.0,
        "operation": {
            "phase": "Failed",
            "message": "one or more tasks failed",
            "retries": 2,
            "initiated_by": "airflow",
            "ours": True,
        },
        "warnings": ["an earlier synchronisation failed"],
    }
    return Verdict(
        "failed", rule, reason or f"the synchronisation at 1a2b3c4d failed: {WHY}", {**facts, **details}
    )


def full(**more: Any) -> Findings:
    told: dict[str, Any] = {
        "observed": OBSERVED,
        "described": {SHA: " by Ada: Migrate the tables"},
        "logs": {"Job/db-migrate": ["starting", "relation already exists"]},
        "events": EVENTS,
        "windows": WINDOWS,
        "commits": {SHA: f"https://github.com/team/deploy/commit/{SHA}"},
    }
    return Findings(**{**told, **more})


def test_the_whole_message() -> None:
    text = compose("payments/api (project ml)", verdict(), full(), URL, now=NOW)
    assert text.splitlines() == [
        f"Argo CD app payments/api (project ml): sync FAILED at 1a2b3c4d (expected 1a2b3c4d): {WHY}",
        f"  {URL}",
        f"  expected 1a2b3c4d by Ada: Migrate the tables  https://github.com/team/deploy/commit/{SHA}",
        f"  desired 1a2b3c4d by Ada: Migrate the tables  https://github.com/team/deploy/commit/{SHA}",
        f"  applied 1a2b3c4d by Ada: Migrate the tables  https://github.com/team/deploy/commit/{SHA}",
        "  sync OutOfSync, health Degraded",
        "  operation Failed, started 2027-01-15T07:58:30Z, ended 2027-01-15T07:59:30Z, 2 retries, started by airflow, "
        "carries our id: one or more tasks failed",
        "  failed Job/db-migrate PreSync hook: BackoffLimitExceeded",
        "  last log lines of Job/db-migrate:",
        "    starting",
        "    relation already exists",
        "  Deployment/worker is Degraded: probe failed",
        "  Deployment/api is Progressing: waiting for rollout",
        "  condition SyncError: Failed last sync attempt",
        "  event FailedScheduling on Pod/api-1 (4 times): 0/3 nodes are available",
        "  sync windows: a synchronisation is not allowed now",
        "    allow 0 22 * * * for 1h, opens next at 2027-01-15 22:00 UTC, by hand allowed",
        "  note: an earlier synchronisation failed",
        "  decided by rule operation_failed, so for 12 s, matching exact",
    ]


HEADLINES: dict[str, tuple[Verdict, str]] = {
    "a failed sync": (verdict(), f"sync FAILED at 1a2b3c4d (expected 1a2b3c4d): {WHY}"),
    "of several sources": (
        verdict(reason="the synchronisation at bbbbbbbb, 1.2.3 error: no chart"),
        "sync FAILED at bbbbbbbb, 1.2.3 (expected 1a2b3c4d): no chart",
    ),
    "a deadline after one": (
        verdict("deadline", f"waited 30 s, because the synchronisation at bbbbbbbb failed: {WHY}"),
        f"waited 30 s, because the synchronisation at bbbbbbbb failed: {WHY} (expected 1a2b3c4d)",
    ),
    "degraded": (
        verdict("degraded", "Degraded at 1a2b3c4d for 65 s: Deployment/api Degraded: probe failed"),
        "Degraded at 1a2b3c4d for 65 s: Deployment/api Degraded: probe failed",
    ),
    "nothing expected": (verdict("app_not_found", "it is not there", expected={}), "it is not there"),
}


@pytest.mark.parametrize("case", HEADLINES)
def test_the_first_line_decides(case: str) -> None:
    judged, says = HEADLINES[case]
    assert headline("api", judged) == f"Argo CD app api: {says}"


def test_nothing_but_the_verdict() -> None:
    bare = Verdict("failed", "app_not_found", "it is not there")
    text = compose("api", bare, Findings(), "", now=NOW)
    assert text.splitlines() == [
        "Argo CD app api: it is not there",
        "  sync ?, health ?, no operation",
        "  decided by rule app_not_found, matching ?",
    ]


def test_what_matters_least_goes_first() -> None:
    long = ["x" * 390] * 50
    many = tuple(Resource("Pod", f"p{n}", health="Degraded", message="y" * 390) for n in range(40))
    findings = full(
        observed=Observed(name="api", resources=many, operation=OBSERVED.operation),
        logs={"Job/db-migrate": long, "Pod/p1": long},
        events=[{**EVENTS[0], "message": "z" * 390}] * 10,
    )
    text = compose("api", verdict(), findings, URL, now=NOW)
    assert len(text.encode()) <= LIMIT
    assert "sections were left out" in text
    assert "event " not in text
    assert "note:" not in text
    assert "  failed Job/db-migrate" in text
    assert "decided by rule" in text
    assert "and 25 more" in text


SECRETS = [
    "https://bob:hunter2-hunter2@git.example.com/x",
    "Authorization: Bearer abcdefghijkl",
    "token=abc123def456 is wrong",
    'password: "hunter2 hunter2"',
    "eyJhbGciOi.eyJzdWIiOiJh.c2lnbmF0dXJl",
    "ghp_abcdefghijklmnopqrstuvwxyz0123",
    "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    "?access_key=hunter2&x=1",
    '{"api_key": "hunter2"}',
]
LEAKS = ("hunter2", "abcdefghijkl", "abc123def456", "c2lnbmF0dXJl")


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    ill = Observed(
        name="api",
        resources=(Resource("Pod", "p", health="Degraded", message=secret),),
        conditions=(Condition("ComparisonError", secret),),
        operation=Operation(resources=(Resource("Job", "j", phase="Failed", message=secret),)),
    )
    findings = full(
        observed=ill,
        logs={"Job/j": [secret]},
        events=[{**EVENTS[0], "message": secret}],
        described={SHA: f" by {secret}"},
    )
    told = verdict(
        reason=f"the synchronisation at 1a2b3c4d failed: {secret}",
        warnings=[secret],
        operation={"phase": "Failed", "message": secret, "initiated_by": secret},
    )
    text = compose("api", told, findings, URL, now=NOW)
    assert not [leak for leak in LEAKS if leak in text], text


@pytest.mark.parametrize(
    "plain",
    [
        "the token authentication failed",
        "basic validation of the manifest failed",
        'secret "db-credentials" not found',
        "https://argo.example.com/applications/a/b?operation=true",
        "mail ada@example.com about it",
        "Deployment/api is Degraded: 0/3 replicas",
    ],
)
def test_plain_words_are_left_alone(plain: str) -> None:
    assert redacted(plain) == plain


texts = st.text(max_size=600)
resources = st.builds(
    Resource,
    kind=texts,
    name=texts,
    health=st.sampled_from(["Degraded", "Healthy", ""]),
    phase=st.sampled_from(["Failed", ""]),
    message=texts,
)


@settings(max_examples=60, deadline=None)
@given(
    reason=st.text(max_size=4000),
    ill=st.lists(resources, max_size=25),
    conditions=st.lists(st.builds(Condition, type=texts, message=texts), max_size=15),
    logs=st.dictionaries(texts, st.lists(texts, max_size=50), max_size=3),
    notes=st.lists(texts, max_size=8),
    where=st.sampled_from(["reason", "log", "condition", "note", "resource"]),
)
def test_it_always_fits_and_never_leaks(
    reason: str, ill: Any, conditions: Any, logs: Any, notes: Any, where: str
) -> None:
    secret = "https://bob:hunter2@git.example.com"
    ill = [*ill, Resource("Pod", "p", health="Degraded", message=secret if where == "resource" else "")]
    conditions = [*conditions, Condition("X", secret if where == "condition" else "")]
    logs = {**logs, "Pod/p": [secret if where == "log" else ""]}
    notes = [*notes, secret if where == "note" else ""]
    reason = f"{reason} {secret}" if where == "reason" else reason or "why"
    observed = Observed(
        name="api",
        resources=tuple(ill),
        conditions=tuple(conditions),
        operation=Operation(resources=tuple(ill)),
    )
    findings = full(observed=observed, logs=logs)
    text = compose("api (project ml)", verdict(reason=reason, warnings=notes), findings, URL, now=NOW)
    assert len(text.encode()) <= LIMIT
    assert text.startswith("Argo CD app api (project ml): ")
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("schedule", "duration", "expected"),
    [
        ("0 22 * * *", "1h", (False, NOW + 14 * 3600)),
        ("0 7 * * *", "1h30m", (True, NOW + 1800)),
        ("0 8 * * *", "10m", (True, NOW + 600)),
        ("not a schedule", "1h", None),
        ("", "", None),
    ],
)
def test_when_a_window_changes(schedule: str, duration: str, expected: Any) -> None:
    assert next_change(schedule, duration, NOW) == expected


def test_no_window_no_words() -> None:
    assert window_lines(None, NOW) == []
    assert window_lines({"canSync": True, "assignedWindows": [], "activeWindows": None}, NOW) == []
    (first, second) = window_lines({"canSync": True, "assignedWindows": [{"kind": "deny"}, 7]}, NOW)
    assert "is allowed now" in first
    assert "deny" in second


def test_it_is_looked_up_over_http(scripted: Any) -> None:
    hook = {
        "kind": "Job",
        "group": "batch",
        "namespace": "api",
        "name": "db-migrate",
        "hookType": "PreSync",
        "hookPhase": "Failed",
        "message": "BackoffLimitExceeded",
    }
    pod = {
        "kind": "Pod",
        "name": "db-migrate-x",
        "namespace": "api",
        "uid": "p1",
        "parentRefs": [{"uid": "j1"}],
    }
    job = {"kind": "Job", "group": "batch", "name": "db-migrate", "namespace": "api", "uid": "j1"}
    logged = [
        json.dumps({"result": {"content": "token=abc123def456"}}),
        json.dumps({"result": {"last": True}}),
    ]
    scripted.routes = {
        "/metadata": (200, {"author": "Ada", "message": "Migrate the tables\n\nmore"}),
        "/events": (200, {"items": EVENTS}),
        "/resource-tree": (200, {"nodes": [job, pod]}),
        "/logs": (200, "\n".join(logged).encode()),
        "/syncwindows": (503, b""),
    }
    source = {"repoURL": "https://github.com/team/deploy", "targetRevision": "main"}
    scripted.answers = [
        (
            200,
            {
                "metadata": {"name": "api", "namespace": "payments"},
                "spec": {"project": "ml", "source": source},
                "status": {"operationState": {"phase": "Failed", "syncResult": {"resources": [hook]}}},
            },
        )
    ]
    decided = Decided(verdict(), Memory(), Expectation())

    async def ask() -> str:
        async with ArgoCDClient(scripted.url, "s3cr3t-token", timeout=2, attempts=1) as client:
            return await explain(client, AppRef("api"), decided, URL)

    text = asyncio.run(ask())
    assert text.startswith("Argo CD app api (project ml): sync FAILED at 1a2b3c4d")
    assert (
        f"expected 1a2b3c4d by Ada: Migrate the tables  https://github.com/team/deploy/commit/{SHA}" in text
    )
    # Airflow's masker may know the word itself as a secret of another test's connection.
    assert re.search(r"last log lines of Job/db-migrate:\n    (token|\*\*\*)=\*\*\*\n", text)
    assert "abc123def456" not in text
    assert "event FailedScheduling on Pod/api-1" in text
    assert "sync windows" not in text
    asked = [path for _, path, _ in scripted.requests]
    assert any("resourceUID=p1" in path for path in asked), "the events of the pod below the job"


def test_everything_fails_but_the_verdict(scripted: Any) -> None:
    scripted.answers = [(500, b"")]

    async def ask() -> str:
        async with ArgoCDClient(scripted.url, timeout=2, attempts=1) as client:
            return await explain(
                client, AppRef("api", "ml"), Decided(verdict(), Memory(), Expectation()), URL
            )

    assert asyncio.run(ask()).startswith("Argo CD app api (project ml): sync FAILED at 1a2b3c4d")
