"""The same Jobs on a real cluster, where ``PIPEOPS_TEST_KUBECONFIG`` names one; otherwise as the cluster for tests plays it.

See :mod:`tests.kubernetes.real`. Each test says in its name which of the two it ran. What each case's command does on a
real node, its steps say of a played one. A whole build needs more: ``PIPEOPS_TEST_BUILD``, a JSON object with the ``git``
URL and ``commit`` of any source, the ``repository`` to push to, and options of the backend, such as ``registry_secret``.
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
from typing import Any

import pytest

from airflow_pipeops.build.backends import TestResult, Waiting
from airflow_pipeops.build.oci import is_digest
from airflow_pipeops.exceptions import PodFailed, PodLost
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.connections import connect as client_of
from airflow_pipeops.kubernetes.kinds import JOBS, PODS
from tests.build.cluster.running import request, test_request
from tests.build.cluster.test_backends import FAILING, GOOD, JUNIT, Task, always, connect, fired, handing_over
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import serving
from tests.kubernetes.real import IMAGE, REAL, WHERE, reach
from tests.kubernetes.workloads import Step, playing

NOWHERE = "registry.invalid/none@sha256:" + "0" * 64
pytestmark = [
    pytest.mark.timeout(900 if REAL else 120),
    WHERE,
]


@contextmanager
def cluster(monkeypatch: pytest.MonkeyPatch, steps: Sequence[Step]) -> Iterator[None]:
    """Reach the real cluster, or one that plays these steps."""
    if REAL:
        reach(monkeypatch)
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


BUILD = json.loads(os.environ.get("PIPEOPS_TEST_BUILD", "{}"))
NO_HOST = "fatal: unable to access 'https://git.invalid/shop.git/': Could not resolve host: git.invalid"
#: Options of the backend, steps of a played pod, error and its words.
BUILDS = {
    "no source": (
        {},
        (pods.init_fails("source", 128, NO_HOST),),
        PodLost,
        "container source failed with status",
    ),
    "no image": (
        {"git_image": NOWHERE},
        (pods.cannot_pull("source", message="dial tcp: lookup registry.invalid: no such host"),),
        PodLost,
        "image registry.invalid/none.* of container source cannot be pulled",
    ),
}


def source(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_APP", json.dumps({"conn_type": "git_repository", "host": url}))


@pytest.mark.parametrize("builder", ["buildkit", "buildah"])
@pytest.mark.parametrize("name", BUILDS)
def test_a_build_that_cannot_begin_says_why(
    monkeypatch: pytest.MonkeyPatch, where: str, key: str, name: str, builder: str
) -> None:
    if not REAL:
        monkeypatch.setattr("airflow_pipeops.build.cluster.judgement.PATIENCE", 0.2)
    options, steps, kind, said = BUILDS[name]
    task = Task(key)
    with cluster(monkeypatch, steps):
        source(monkeypatch, "https://git.invalid/shop.git")
        with pytest.raises(kind, match=said):
            task.build(**options).start(request(builder=builder), task.worker)


@pytest.mark.skipif(bool(REAL) and not BUILD, reason="PIPEOPS_TEST_BUILD names no source and no registry")
def test_an_image_is_built_and_pushed(monkeypatch: pytest.MonkeyPatch, where: str, key: str) -> None:
    given = dict(BUILD) if REAL else {"git": "https://git.example.com/shop.git", "commit": "a" * 40}
    url, task = given.pop("git"), Task(key)
    about = {name: given.pop(name) for name in ("commit", "repository") if name in given}
    about["containerfile"] = "FROM scratch\nCOPY . /\n"
    with cluster(monkeypatch, GOOD):
        source(monkeypatch, url)
        built = task.build(**given).start(request(tag=f"test-{uuid.uuid4().hex}", **about), task.worker)
    assert is_digest(built.digest)


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
