"""Moves workflows of one pod on while a backend waits for them, and a task's worker for it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_pipeops.build.backends import BUILDS, TESTS, Waiting, Worker, make
from tests.argo_workflows.server import ArgoServer
from tests.argo_workflows.server import _node as node
from tests.kubernetes.objects import now

DIGEST = "sha256:" + "d" * 64
TICK = timedelta(seconds=0.05)
#: Is given the server and the name of a workflow.
Step = Callable[[ArgoServer, str], None]


class Task:
    """A task's worker, and what it writes into the log.

    :param key: of the task and the order to run it.
    :param store: of the task's state.
    """

    def __init__(self, key: str = "dag/run/task/-1", store: Any = None) -> None:
        self.log: list[str] = []
        self.worker = Worker(
            context={"task_state_store": store},  # type: ignore[typeddict-item, typeddict-unknown-key]
            key=key,
            source=lambda: Path("/nowhere"),
            run=lambda command: None,  # type: ignore[arg-type, return-value]
            say=self.log.append,
        )

    def build(self, **options: Any) -> Any:
        return make(BUILDS, "argo_workflows", {"deferrable": False, "poll_interval": TICK, **options})

    def tests(self, **options: Any) -> Any:
        return make(TESTS, "argo_workflows", {"deferrable": False, "poll_interval": TICK, **options})


def done(kind: Callable[[], Any], request: Any, task: Task, fired: Callable[[Any], Any]) -> Any:
    """Do what is asked for until it has ended, as an operator does; each part has a backend of its own."""
    result = kind().start(request, task.worker)
    while isinstance(result, Waiting):
        result = kind().resume(request, task.worker, fired(result.trigger))
    return result


def begins(argo: ArgoServer, name: str) -> None:
    argo.begin(name)


def says(*lines: str) -> Step:
    return lambda argo, name: argo.log(name, name, *lines)


def pends(message: str) -> Step:
    """The pod is there, and does not run."""

    def step(argo: ArgoServer, name: str) -> None:
        argo.begin(name)
        argo.node(name, name, "Pending", message=message)

    return step


def waits(event: threading.Event) -> Step:
    def step(argo: ArgoServer, name: str) -> None:
        assert event.wait(60)

    return step


def ends(answer: str = "", code: int | None = 0, message: str = "", phase: str = "") -> Step:
    """The pod ends, and with it the workflow."""
    how = phase or ("Failed" if code or message else "Succeeded")

    def step(argo: ArgoServer, name: str) -> None:
        outputs = {"answer": answer}
        argo.node(name, name, how, message=message, exit_code=code, outputs=outputs)
        argo.finish(name, how, message=message)

    return step


def handles(phase: str) -> Step:
    """An exit handler, which those who run the cluster give to each workflow, has run in a pod of its own."""

    def step(argo: ArgoServer, name: str) -> None:
        def change(item: dict[str, Any]) -> None:
            made = node(f"{name}-1", f"{name}.onExit", f"{name}.onExit", "Pod", "notify")
            code = "0" if phase == "Succeeded" else "1"
            made |= {"phase": phase, "finishedAt": now(), "startedAt": "2999-01-01T00:00:00Z"}
            item["status"]["nodes"][made["id"]] = {**made, "outputs": {"exitCode": code}}

        argo.change("workflows", "argo", name, change)

    return step


def remembers(argo: ArgoServer, name: str) -> None:
    """The template has ``memoize``, and its cache an earlier run: nothing is run."""

    def change(item: dict[str, Any]) -> None:
        item["status"]["nodes"][name]["memoizationStatus"] = {"hit": True, "key": "k", "cacheName": "c"}

    argo.change("workflows", "argo", name, change)


BUILT: tuple[Step, ...] = (begins, says("#1 building", "#2 pushing"), ends(json.dumps({"digest": DIGEST})))


def handing_over(**files: bytes) -> str:
    """Return what the script of the tests leaves of its reports."""
    lines: list[str] = []
    for name, content in files.items():
        packed = base64.encodebytes(gzip.compress(content)).decode().splitlines()
        digest = hashlib.sha256(content).hexdigest()
        lines += [f"=== pipeops begin {name}.xml {len(content)} {digest}", *packed]
        lines.append(f"=== pipeops end {name}.xml")
    return "\n".join([*lines, "=== pipeops all"])


@contextmanager
def playing(argo: ArgoServer, *scripts: Sequence[Step]) -> Iterator[None]:
    """Move workflows on, the first by the first of the scripts, and so on.

    :param scripts: each of steps, which are done at once, one after the other, as soon as the workflow is there.
    """
    stop, trouble = threading.Event(), []

    def play() -> None:
        try:
            met: set[str] = set()
            left = list(scripts)
            while left and not stop.is_set():
                new = [one["metadata"] for one in argo.workflows() if one["metadata"]["uid"] not in met]
                for metadata in new:
                    met.add(metadata["uid"])
                    for step in left.pop(0):
                        step(argo, metadata["name"])
                time.sleep(0.005)
        except Exception as error:  # told in the test's own thread
            trouble.append(repr(error))

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not trouble, trouble


def until(fact: Callable[[], Any]) -> Any:
    """Wait for a fact."""
    end = time.monotonic() + 240
    while not (found := fact()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
    return found
