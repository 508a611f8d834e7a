"""The same Jobs on a real cluster, where ``PIPEOPS_TEST_KUBECONFIG`` names one; otherwise as the cluster for tests plays it.

``PIPEOPS_TEST_NAMESPACE`` names a namespace in which Jobs may be made (``default``), and ``PIPEOPS_TEST_IMAGE`` an image
with a shell (``busybox:1.37``). Each test says in its name which of the two it ran. What each case's command does on a
real node, its steps say of a played one.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.build.backends import TestResult, Waiting
from airflow_pipeops.exceptions import PodFailed, PodLost
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.connections import connect as client_of
from airflow_pipeops.kubernetes.kinds import JOBS, PODS
from tests.build.cluster.running import test_request
from tests.build.cluster.test_backends import FAILING, JUNIT, Task, always, connect, fired, handing_over
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import serving
from tests.kubernetes.workloads import Step, playing

REAL = os.environ.get("PIPEOPS_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("PIPEOPS_TEST_IMAGE", "busybox:1.37")
NOWHERE = "registry.invalid/none@sha256:" + "0" * 64
pytestmark = [
    pytest.mark.timeout(900 if REAL else 120),
    pytest.mark.parametrize("where", ["real" if REAL else "played"]),
]


@contextmanager
def cluster(monkeypatch: pytest.MonkeyPatch, steps: Sequence[Step]) -> Iterator[None]:
    """Reach the real cluster, or one that plays these steps."""
    if REAL:
        extra = {
            "kube_config": Path(REAL).read_text(encoding="utf-8"),
            "namespace": os.environ.get("PIPEOPS_TEST_NAMESPACE", "default"),
        }
        value = json.dumps({"conn_type": "kubernetes", "extra": extra})
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", value)
        yield
        return
    with serving() as api:
        connect(monkeypatch, api)
        with playing(api, always(*steps)):
            yield


def wrote(report: bytes, code: int) -> tuple[str, ...]:
    """Return a command that writes a report, says so, and ends."""
    return ("sh", "-c", f"echo hello; printf '%s' '{report.decode()}' > {{junit}}; exit {code}")


@dataclass(frozen=True)
class Case:
    """A pod, on a real node and on a played one.

    :param command: for the real one.
    :param steps: for the played one.
    :param status: with which the command ends.
    :param report: that it leaves.
    :param kind: of the error, where nobody learns how the tests are.
    :param said: by it.
    :param image: to run; the usual one where it is empty.
    :param timeout: in seconds.
    """

    command: tuple[str, ...]
    steps: tuple[Step, ...]
    status: int = 0
    report: bytes | None = None
    kind: type[Exception] | None = None
    said: str = ""
    image: str = ""
    timeout: float = 120.0


CASES = {
    "passes": Case(
        wrote(JUNIT, 0),
        (pods.runs(), pods.says("hello"), pods.ends(last=handing_over(junit=JUNIT))),
        report=JUNIT,
    ),
    "fails": Case(
        wrote(FAILING, 3),
        (pods.runs(), pods.says("hello"), pods.ends(3, last=handing_over(junit=FAILING))),
        status=3,
        report=FAILING,
    ),
    "memory": Case(
        ("awk", 'BEGIN { s = "x"; while (1) s = s s }'),
        (pods.runs(), pods.out_of_memory()),
        kind=PodFailed,
        said="container main ran out of memory, and was killed; its limit is 64Mi",
    ),
    "no image": Case(
        ("true",),
        (pods.cannot_pull(message="dial tcp: lookup registry.invalid: no such host"),),
        kind=PodLost,
        said="image registry.invalid/none.* of container main cannot be pulled",
        image=NOWHERE,
    ),
    "no program": Case(
        ("nonesuch-program",),
        (pods.ends(128, reason="StartError", message='exec: "nonesuch-program": executable file not found'),),
        kind=PodFailed,
        said="nonesuch-program",
    ),
    "too long": Case(
        ("sleep", "600"),
        (pods.runs(), pods.too_long()),
        status=137,
        timeout=10.0,
    ),
}


@pytest.fixture
def key() -> str:
    """A task that nobody has run before: the cluster may be a real one."""
    return f"dag/{uuid.uuid4()}/task/-1"


def backend(task: Task, *, deferrable: bool = False) -> Any:
    limits = {"limits": {"memory": "64Mi", "cpu": "500m"}}
    return task.tests(deferrable=deferrable, resources=limits, keep=timedelta(minutes=10))


def result(task: Task, case: Case, deferrable: bool) -> Any:
    wanted = test_request(
        image=case.image or IMAGE, command=case.command, timeout=timedelta(seconds=case.timeout)
    )
    found = backend(task, deferrable=deferrable).start(wanted, task.worker)
    return backend(task).resume(wanted, task.worker, fired(found)) if isinstance(found, Waiting) else found


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_pod_ends_as_its_command_does(
    monkeypatch: pytest.MonkeyPatch, where: str, key: str, name: str, deferrable: bool
) -> None:
    if not REAL:
        monkeypatch.setattr("airflow_pipeops.build.cluster.judgement.PATIENCE", 0.2)
    case, task = CASES[name], Task(key)
    with cluster(monkeypatch, case.steps):
        if case.kind is not None:
            with pytest.raises(case.kind, match=case.said):
                result(task, case, deferrable)
            return
        found = result(task, case, deferrable)
    assert isinstance(found, TestResult)
    (attempt,) = found.attempts
    assert attempt.timed_out is (name == "too long")
    assert attempt.status == case.status
    assert attempt.report == case.report
    if case.report:
        assert "hello" in attempt.output
        assert found.facts["image"].partition("@")[2].startswith("sha256:")


def test_a_job_is_begun_once_and_leaves_nothing_when_it_is_killed(
    monkeypatch: pytest.MonkeyPatch, where: str, key: str
) -> None:
    wanted = test_request(image=IMAGE, command=("sleep", "600"))
    with cluster(monkeypatch, (pods.runs(),)):
        first, second = Task(key), Task(key)
        waiting = backend(first, deferrable=True).start(wanted, first.worker)
        again = backend(second, deferrable=True).start(wanted, second.worker)
        assert waiting.trigger.name == again.trigger.name
        assert any("found, which was begun before" in line for line in second.log)
        asyncio.run(waiting.trigger.on_kill())
        end = time.monotonic() + 120
        while left := asyncio.run(_left(waiting.trigger.namespace, waiting.trigger.name)):
            assert time.monotonic() < end, left
            time.sleep(0.2)


async def _left(namespace: str, job: str) -> list[str]:
    """Return what there still is of a Job."""
    async with client_of() as client:
        found = await _names(client, namespace, job)
    return found


async def _names(client: KubernetesClient, namespace: str, job: str) -> list[str]:
    jobs = await client.find(JOBS, namespace, fields=f"metadata.name={job}")
    made = await client.find(PODS, namespace, labels=f"job-name={job}")
    return [str(item["metadata"]["name"]) for item in (*jobs.items, *made.items)]
