"""Workers and triggerers are killed: between intent and effect, between effect and note, and as they wait. There is one Job.

Each runs in a process of its own that ends itself, or is ended, by SIGKILL; the cluster lives on. In the gate a few times,
every night fifty times each.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.build.backends import Waiting
from airflow_pipeops.kubernetes.client import KubernetesClient
from tests.build.cluster.running import request, test_request
from tests.build.cluster.test_backends import DIGEST, JUNIT, Task, connect, handing_over, until
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.workloads import Step, playing

#: Those that have not been waited for.
PROCESSES: set[int] = set()
POINTS = ("intent", "effect", "mid-wait")
FEW, MANY = range(1), range(50)
TIMES = [pytest.param(at, id=str(at)) for at in FEW] + [
    pytest.param(at, id=str(at), marks=pytest.mark.nightly) for at in MANY if at not in FEW
]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with serving() as server:
        connect(monkeypatch, server)
        yield server


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def _nobody_left() -> Iterator[None]:
    """Whatever a test that fails leaves running ends with it."""
    yield
    while PROCESSES:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            pid = PROCESSES.pop()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def forked(folder: Path, work: Callable[[], Any]) -> int:
    """Do work in a process of its own, and leave its result in a file; return its process id."""
    pid = os.fork()
    if pid:
        PROCESSES.add(pid)
        return pid
    code = 1
    try:
        (folder / "result").write_text(json.dumps(work()))
        code = 0
    except BaseException:
        (folder / "error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def attempt(folder: Path, kind: str, point: str = "") -> int:
    """Run the task in a process of its own, which ends itself at a point."""

    def work() -> Any:
        created = KubernetesClient.create

        async def create(self: Any, *given: Any, **named: Any) -> Any:
            if point == "intent":
                die()
            made = await created(self, *given, **named)
            if point == "effect":
                die()
            return made

        KubernetesClient.create = create  # type: ignore[method-assign]
        task = Task()
        backend = task.build() if kind == "build" else task.tests()
        done = backend.start(request() if kind == "build" else test_request(), task.worker)
        said = done.digest if kind == "build" else [one.status for one in done.attempts]
        return {"said": said, "found": any("found, which was begun before" in line for line in task.log)}

    return forked(folder, work)


def end_of(pid: int) -> int:
    """Return how a process has ended: its exit code, or the signal that killed it, below zero."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            PROCESSES.discard(pid)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the process did not end")


def finished(folder: Path, pid: int) -> Any:
    assert end_of(pid) == 0, (folder / "error").read_text()
    return json.loads((folder / "result").read_text())


def steps(go: threading.Event) -> list[Step]:
    last = handing_over(junit=JUNIT)
    return [
        pods.runs(),
        pods.says("#1"),
        pods.waits(go),
        pods.ends(message=json.dumps({"digest": DIGEST}), last=last),
    ]


@pytest.mark.parametrize("at", TIMES)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", ["build", "test"])
def test_there_is_one_job_and_the_next_attempt_finds_it(
    api: ApiServer, tmp_path: Path, kind: str, point: str, at: int
) -> None:
    go = threading.Event()
    with playing(api, lambda pod: steps(go)):
        pid = attempt(tmp_path, kind, point)
        if point == "mid-wait":
            until(lambda: api.all("pods"))
            # Anywhere in what it does from there on.
            time.sleep(random.Random(at).uniform(0, 0.3))
            os.kill(pid, signal.SIGKILL)
        assert end_of(pid) == -signal.SIGKILL
        assert len(api.all("jobs")) == (point != "intent")
        go.set()
        done = finished(tmp_path, attempt(tmp_path, kind))
    assert done["said"] == (DIGEST if kind == "build" else [0])
    assert done["found"] is (point != "intent")
    assert len(api.all("jobs")) == 1
    assert len(api.all("pods")) == 1


#: A triggerer that has nothing but what the database keeps of a trigger.
TRIGGERER = """
import asyncio, importlib, json, sys
path, arguments = json.loads(sys.argv[1])
module, _, name = path.rpartition(".")
trigger = getattr(importlib.import_module(module), name)(**{**arguments, "dwell": 0})

async def event():
    async for one in trigger.run():
        return one.payload

found = asyncio.run(event())
open(sys.argv[2], "w").write(json.dumps(found))
"""


def triggerer(waiting: Waiting, result: Path) -> subprocess.Popen[bytes]:
    kept = json.dumps(waiting.trigger.serialize())
    started = subprocess.Popen(
        [sys.executable, "-c", TRIGGERER, kept, str(result)], stdout=subprocess.DEVNULL
    )
    PROCESSES.add(started.pid)
    return started


@pytest.mark.parametrize("at", TIMES)
def test_a_triggerer_that_is_killed_is_followed_by_another_that_waits_on(
    api: ApiServer, tmp_path: Path, at: int
) -> None:
    go, task, result = threading.Event(), Task(), tmp_path / "event"
    with playing(api, lambda pod: steps(go)):
        waiting = task.build(deferrable=True).start(request(), task.worker)
        assert isinstance(waiting, Waiting)
        first = triggerer(waiting, result)
        until(lambda: api.open_watches, seconds=120)
        time.sleep(random.Random(at).uniform(0, 0.3))
        first.kill()
        assert first.wait(30) == -signal.SIGKILL
        assert not result.exists()
        go.set()
        assert triggerer(waiting, result).wait(120) == 0
        assert task.build().resume(request(), task.worker, json.loads(result.read_text())).digest == DIGEST
    assert len(api.all("jobs")) == 1
