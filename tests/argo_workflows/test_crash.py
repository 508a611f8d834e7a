"""The worker is killed: between intent and effect, between effect and note, and while it waits. There is one workflow.

A task runs in a process of its own that ends itself, or is ended, by SIGKILL. What Airflow keeps is in a file. The next
attempt, in another process, finds what there is. In the gate a few times, every night fifty times each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.argo_workflows.clients.rest import ArgoWorkflowsClient
from airflow_pipeops.argo_workflows.operators import ArgoWorkflowOperator
from tests.argo_workflows.running import MANIFEST, run, task, until
from tests.argo_workflows.server import ArgoServer, Plan

POINTS = ("intent", "effect", "mid-wait")
FEW, MANY = range(2), range(50)
TIMES = [pytest.param(at, id=str(at)) for at in FEW] + [
    pytest.param(at, id=str(at), marks=pytest.mark.nightly) for at in MANY if at not in FEW
]


class FileStore:
    """Airflow's store of a task's state: it outlives the process."""

    def __init__(self, path: Path, after: Callable[[int], None] = lambda _: None) -> None:
        self._path, self._after, self._sets = path, after, 0

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self._path.read_text()).get(key, default) if self._path.exists() else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        kept = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._path.write_text(json.dumps({**kept, key: value}))
        self._sets += 1
        self._after(self._sets)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder: Path, context: dict[str, Any], point: str) -> int:
    """Run the task in a process of its own, which ends itself at a point; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if point == "intent":
            context["task_state_store"] = FileStore(
                folder / "store", lambda sets: die() if sets == 1 else None
            )
        else:
            context["task_state_store"] = FileStore(folder / "store")
        if point == "effect":
            created = ArgoWorkflowsClient.create

            async def create(self: Any, namespace: str, manifest: Any) -> Any:
                await created(self, namespace, manifest)
                die()

            ArgoWorkflowsClient.create = create  # type: ignore[method-assign]
        made = task(ArgoWorkflowOperator, workflow=MANIFEST, logs="none")
        (folder / "result").write_text(json.dumps(run(made, context)))
        code = 0
    except BaseException:
        (folder / "error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def end_of(pid: int) -> int:
    """Return how a process has ended: its exit code, or the signal that killed it, below zero."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the process did not end")


def finished(argo: ArgoServer, folder: Path, context: dict[str, Any]) -> dict[str, Any]:
    """Run the attempt that goes to its end, and return its result."""
    argo.plan = Plan(seconds=0.1, outputs={"n": "1"})
    assert end_of(attempt(folder, context, "")) == 0, (folder / "error").read_text()
    found: dict[str, Any] = json.loads((folder / "result").read_text())
    return found


@pytest.mark.parametrize("at", TIMES)
@pytest.mark.parametrize("point", POINTS)
def test_there_is_one_workflow_and_the_next_attempt_finds_it(
    argo: ArgoServer, context: dict[str, Any], tmp_path: Path, point: str, at: int
) -> None:
    pid = attempt(tmp_path, context, point)
    if point == "mid-wait":
        until(lambda: bool(argo.workflows()))
        argo.begin(argo.workflows()[0]["metadata"]["name"])
        # Anywhere in what it does from there on.
        time.sleep(random.Random(at).uniform(0, 0.3))
        os.kill(pid, signal.SIGKILL)
    assert end_of(pid) == -signal.SIGKILL
    assert len(argo.workflows()) == (point != "intent")
    found = finished(argo, tmp_path, context)
    (workflow,) = argo.workflows()
    assert found["uid"] == workflow["metadata"]["uid"]
    assert found["attached"] is (point != "intent")
    assert found["outputs"] == {"n": "1"}


@pytest.mark.nightly
@pytest.mark.parametrize("at", MANY)
def test_wherever_it_is_killed_there_is_one(
    argo: ArgoServer, context: dict[str, Any], tmp_path: Path, at: int
) -> None:
    argo.plan = Plan(seconds=0.2)
    moment = random.Random(at)
    for _ in range(3):
        pid = attempt(tmp_path, context, "")
        time.sleep(moment.uniform(0, 0.3))
        os.kill(pid, signal.SIGKILL)
        end_of(pid)
    found = finished(argo, tmp_path, context)
    (workflow,) = argo.workflows()
    assert found["uid"] == workflow["metadata"]["uid"]
