"""Applications as Argo CD's API returns them, and waits that look at a row of them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.waits.status import Trouble
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from tests.waits.judging import decide

NEW, OLD, NEWER, RENDERED, RENDERED_OLD = "a" * 40, "b" * 40, "c" * 40, "d" * 40, "e" * 40
REPO = "https://git.example.com/team/deploy.git"
#: The server's clock at the first look.
T = 1_790_000_000


def at(seconds: float) -> str:
    """Return a time on the server's clock, relative to the first look, as Kubernetes writes it."""
    return datetime.fromtimestamp(T + int(seconds), tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def op(
    phase: str = "Succeeded", revision: str = NEW, ended: float | None = -60, **more: Any
) -> dict[str, Any]:
    """Return an ``operationState``."""
    state: dict[str, Any] = {
        "phase": phase,
        "startedAt": at(-70),
        "operation": {
            "sync": {"revision": revision},
            "initiatedBy": {"automated": True},
            "retry": {"limit": 5},
        },
        "syncResult": {"revision": revision},
    }
    if ended is not None and phase not in ("Running", "Terminating"):
        state["finishedAt"] = at(ended)
    return state | more


def app(
    desired: str = NEW,
    sync: str = "Synced",
    health: str = "Healthy",
    state: Any = ...,
    *,
    queued: bool = False,
    compared: float = 0,
    since: float = -50,
    automated: Any = ...,
    spec: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    """Return an Application; by default it is live and healthy at NEW."""
    found: dict[str, Any] = {
        "metadata": {"name": "api", "namespace": "argocd", "uid": "u1"} | (metadata or {}),
        "spec": {
            "project": "ml",
            "source": {"repoURL": REPO, "targetRevision": "main"},
            "syncPolicy": {"automated": {"prune": True}} if automated is ... else {"automated": automated},
        }
        | (spec or {}),
        "status": {
            "sync": {"status": sync, "revision": desired},
            "health": {"status": health, "lastTransitionTime": at(since)},
            "reconciledAt": at(compared),
            "resources": [
                {"kind": "Deployment", "name": "api", "status": sync, "health": {"status": health}}
            ],
        }
        | status,
    }
    state = op() if state is ... else state
    if state:
        found["status"]["operationState"] = state
    if queued:
        found["operation"] = state["operation"] if state else {"sync": {"revision": desired}}
    return found


def several(*revisions: str, **more: Any) -> dict[str, Any]:
    """Return an Application with a chart and a Git source."""
    found = app(**more)
    found["spec"]["sources"] = [
        {"repoURL": "https://charts.example.com", "chart": "redis", "targetRevision": "1.x"},
        {"repoURL": REPO, "targetRevision": "main"},
    ]
    found["status"]["sync"] = {"status": found["status"]["sync"]["status"], "revisions": list(revisions)}
    return found


def hydrated(
    done: tuple[str, str], phase: str = "Hydrated", *, compared: str = "", staging: str = "", **more: Any
) -> dict[str, Any]:
    """Return an Application whose commits are rendered into another branch."""
    message, dry = more.pop("message", ""), more.pop("dry", done[0])
    found = app(**more)
    found["spec"].pop("source")
    found["spec"]["sourceHydrator"] = {
        "drySource": {"repoURL": REPO, "targetRevision": "main", "path": "api"},
        "syncSource": {"targetBranch": "env/production", "path": "api"},
    }
    if staging:
        found["spec"]["sourceHydrator"]["hydrateTo"] = {"targetBranch": staging}
    found["status"]["sourceHydrator"] = {
        "currentOperation": {"phase": phase, "message": message, "drySHA": dry},
        "lastSuccessfulOperation": {"drySHA": done[0], "hydratedSHA": done[1]},
    }
    if compared:
        found["status"]["sourceHydrator"]["lastComparedDryRevision"] = compared
    return found


def rolling(status: str, step: str = "2", **more: Any) -> dict[str, Any]:
    """Return the ApplicationSet that owns the application."""
    listed = {"application": "api", "status": status, "step": step, "message": "its turn comes", **more}
    return {
        "metadata": {"name": "all"},
        "spec": {"strategy": {"type": "RollingSync"}},
        "status": {"applicationStatus": [listed]},
    }


def expect(**changes: Any) -> Expectation:
    return Expectation(**{"revisions": {"*": NEW}, **changes})


def contains(*pairs: tuple[str, bool], **changes: Any) -> Expectation:
    """Expect NEW or what contains it; pairs say which revision does."""
    answers = {f"{NEW}..{revision}": known for revision, known in pairs}
    return expect(match="contains", oracle=True, contained=answers, **changes)


def story(expectation: Expectation, *looks: Any, **observing: Any) -> Verdict:
    """Look at one thing after another, through JSON as across a deferral.

    :param looks: ``(seconds, application or Trouble)``, or ``(seconds, application, False)`` for no answer to a refresh.
    """
    memory, verdict = Memory(), None
    for seconds, seen, *refreshed in looks:
        if not isinstance(seen, Trouble):
            seen = observe(seen, refreshed=not refreshed or refreshed[0], **observing)
        verdict, memory = decide(seen, expectation, memory, 100.0 + seconds)
        memory = Memory.from_json(json.loads(json.dumps(memory.to_json())))
    assert verdict is not None
    return verdict
