"""Builds and test runs as Jobs, over the API: begun once, waited for in both ways, read, and explained."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import models as k8s

from airflow_pipeops.build.backends import BUILDS, TESTS, BuiltImage, TestResult, Waiting, Worker, make
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    BuildFailed,
    InvalidInput,
    NotFound,
    PodFailed,
    PodLost,
    Unreachable,
)
from tests.build.cluster.running import request, test_request
from tests.build.cluster.test_steps import BUILDKIT, BUILDKIT_PUSH
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, Fault, serving
from tests.kubernetes.workloads import Step, Workloads, playing
from tests.openapi import problems

DIGEST = "sha256:" + "d" * 64
JUNIT = (
    b'<testsuite tests="2"><testcase classname="t" name="a"/><testcase classname="t" name="b"/></testsuite>'
)
FAILING = (
    b'<testsuite tests="1"><testcase classname="t" name="a"><failure message="no"/></testcase></testsuite>'
)
GOOD: tuple[Step, ...] = (
    pods.runs(), pods.says("#1 building", "#2 pushing"), pods.ends(message=json.dumps({"digest": DIGEST}))
)  # fmt: skip
PATIENT = {"startup_timeout": timedelta(minutes=5), "poll_interval": timedelta(seconds=0.05)}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _connections(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, api)


def connect(monkeypatch: pytest.MonkeyPatch, api: ApiServer) -> None:
    """Make the connections to the cluster and to the source."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": api.url}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {"token": "token"}}],
    }
    extra = {"kube_config": json.dumps(config), "namespace": "ci"}
    source = {"host": "https://git.example.com/team/shop.git", "login": "robot", "password": "s3cr3t"}
    for name, value in {
        "KUBERNETES_DEFAULT": {"conn_type": "kubernetes", "extra": extra},
        "APP": {"conn_type": "git_repository", **source},
        "FOLDER": {"conn_type": "git_repository", "host": "/srv/git/shop"},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(value))


class Task:
    """A task's worker, and what it writes into the log.

    :param key: of the task and the order to run it.
    """

    def __init__(self, key: str = "dag/run/task/-1") -> None:
        self.log: list[str] = []
        self.worker = Worker(
            context={},  # type: ignore[typeddict-item]
            key=key,
            source=lambda: Path("/nowhere"),
            run=lambda command: None,  # type: ignore[arg-type, return-value]
            say=self.log.append,
        )

    def build(self, **options: Any) -> Any:
        return make(BUILDS, "kubernetes", {"deferrable": False, **PATIENT, **options})

    def tests(self, **options: Any) -> Any:
        return make(TESTS, "kubernetes", {"deferrable": False, **PATIENT, **options})


def always(*steps: Step) -> Callable[[Any], Sequence[Step]]:
    return lambda pod: steps


def fired(waiting: Waiting) -> Mapping[str, Any]:
    """Run a trigger as the triggerer does: from what the database keeps of it."""
    path, arguments = waiting.trigger.serialize()
    kind = type(waiting.trigger)
    assert path == f"{kind.__module__}.{kind.__qualname__}"
    trigger = kind(**{**json.loads(json.dumps(arguments)), "dwell": 0})

    async def event() -> Mapping[str, Any]:
        async for one in trigger.run():
            payload: Mapping[str, Any] = json.loads(json.dumps(one.payload))
            return payload
        raise AssertionError("it ended without an event")

    return asyncio.run(event())


def handing_over(**files: bytes) -> dict[str, Sequence[str]]:
    """Return what the sidecar writes about files."""
    lines: list[str] = []
    for name, content in files.items():
        packed = base64.encodebytes(gzip.compress(content)).decode().splitlines()
        digest = hashlib.sha256(content).hexdigest()
        lines += [
            f"=== pipeops begin {name}.xml {len(content)} {digest}",
            *packed,
            f"=== pipeops end {name}.xml",
        ]
    return {"reports": [*lines, "=== pipeops all"]}


def until(look: Callable[[], Any], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


# ---- builds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_image_is_built_and_its_digest_comes_back(api: ApiServer, deferrable: bool) -> None:
    task = Task()
    with playing(api, always(*GOOD)):
        result = task.build(deferrable=deferrable).start(request(), task.worker)
        if isinstance(result, Waiting):
            event = fired(result)
            result = task.build(deferrable=deferrable).resume(request(), task.worker, event)
    assert isinstance(result, BuiltImage)
    assert (result.digest, result.builder) == (DIGEST, "buildkit")
    assert result.facts["builder_image"].startswith("moby/buildkit:v")
    assert "@sha256:" in result.facts["builder_image"]
    (job,) = api.all("jobs")
    assert problems(job, k8s.V1Job) == []
    assert (job["metadata"]["namespace"], result.facts["job"]) == ("ci", job["metadata"]["name"])
    if not deferrable:
        assert task.log.count("#1 building") == 1
        assert task.log.count("#2 pushing") == 1


def test_what_is_sent_holds_no_secret(api: ApiServer) -> None:
    task = Task()
    with playing(api, always(*GOOD)):
        task.build(git_secret="git-login").start(request(), task.worker)
    said = json.dumps([api.all("jobs"), api.all("pods"), task.log])
    assert "https://git.example.com/team/shop.git" in said
    assert "s3cr3t" not in said


def test_the_log_of_a_deferred_build_is_told_once(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    task, more, told = Task(), threading.Event(), []

    def heard(line: str) -> bool:
        told.append(capsys.readouterr().out)
        return line in "".join(told)

    steps = (pods.runs(), pods.says("it-is-early"), pods.waits(more), pods.says("it-is-late"), GOOD[-1])
    with playing(api, always(*steps)):
        waiting = task.build(deferrable=True).start(request(), task.worker)
        assert isinstance(waiting, Waiting)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(fired(waiting)))
        thread.start()
        until(lambda: heard("it-is-early"))
        more.set()
        thread.join(60)
        task.build(deferrable=True).resume(request(), task.worker, found[0])
    heard("")
    whole = "\n".join([*told, *task.log])
    assert (whole.count("it-is-early"), whole.count("it-is-late")) == (1, 1)


def test_a_log_that_cannot_be_read_to_its_end_is_said_to_be_incomplete(api: ApiServer) -> None:
    task = Task()
    api.faults.append(Fault("status", path="*/log", status=503))
    with playing(api, always(*GOOD)):
        assert task.build().start(request(), task.worker).digest == DIGEST
    assert [line for line in task.log if "may be incomplete" in line and "503" in line]


def test_the_log_of_a_pod_that_was_lost_is_said_to_be_incomplete(api: ApiServer) -> None:
    task, go = Task(), threading.Event()
    telling = task.log.append

    def say(line: str) -> None:
        telling(line)
        if line == "half of it":
            go.set()

    worker = replace(task.worker, say=say)
    steps = (pods.runs(), pods.says("half of it"), pods.waits(go), pods.evicted())
    with playing(api, always(*steps)), pytest.raises(PodLost):
        task.build().start(request(), worker)
    assert [line for line in task.log if "may be incomplete: the end of its container was not seen" in line]


def test_a_waiting_trigger_holds_one_watch_whoever_waits(api: ApiServer) -> None:
    """Ten builds wait in one event loop: one watch for all of them."""
    go = threading.Event()
    waits: list[Waiting] = []
    with playing(api, always(pods.runs(), pods.waits(go), GOOD[-1])):
        for number in range(10):
            task = Task(f"dag/run/task/{number}")
            waits.append(task.build(deferrable=True).start(request(), task.worker))

        async def all_events() -> list[Any]:
            async def one(waiting: Waiting) -> Any:
                _, arguments = waiting.trigger.serialize()
                async for event in type(waiting.trigger)(**{**arguments, "dwell": 0}).run():
                    return event.payload

            tasks = [asyncio.ensure_future(one(waiting)) for waiting in waits]
            while not api.open_watches:
                await asyncio.sleep(0.01)
            most = api.open_watches
            go.set()
            events = await asyncio.gather(*tasks)
            assert most == 1
            return events

        events = asyncio.run(all_events())
    assert [event["decided"]["verdict"]["state"] for event in events] == ["done"] * 10


STEP_SAID = r"step \[3/4\] RUN pip install nonesuch-package failed"
PUSH = BUILDKIT_PUSH.format(said="503 Service Unavailable").splitlines()
NO_LOGIN = "container source failed with status 128"
FAILURES: list[Any] = [
    ("step", [pods.runs(), pods.says(*BUILDKIT.splitlines()), pods.ends(1)], BuildFailed, STEP_SAID),
    ("push", [pods.runs(), pods.says(*PUSH), pods.ends(1)], Unreachable, "503"),
    ("untold", [pods.runs(), pods.says("what", "ever"), pods.ends(2)], BuildFailed, "status 2; it said last"),
    ("memory", [pods.runs(), pods.out_of_memory()], PodFailed, "ran out of memory.*its limit is 1Gi.*resources"),
    ("evicted", [pods.runs(), pods.evicted()], PodLost, "Evicted: The node was low on resource"),
    ("node", [pods.runs(), pods.node_lost()], PodLost, "pod is gone"),
    ("source", [pods.init_fails("source", 128, "fatal: no")], PodFailed, NO_LOGIN),
    ("time", [pods.runs(), pods.too_long()], BuildFailed, "did not end within 30 min"),
    ("nothing", [pods.runs(), pods.ends()], BadResponse, "does not say which image"),
]  # fmt: skip


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("steps", "kind", "said"), [pytest.param(*case[1:], id=case[0]) for case in FAILURES]
)
def test_a_build_that_fails_says_why(
    api: ApiServer, steps: list[Step], kind: type[Exception], said: str, deferrable: bool
) -> None:
    task = Task()
    backend = task.build(deferrable=deferrable, resources={"limits": {"memory": "1Gi"}})

    def story() -> Any:
        result = backend.start(request(), task.worker)
        return (
            backend.resume(request(), task.worker, fired(result)) if isinstance(result, Waiting) else result
        )

    with playing(api, always(*steps)), pytest.raises(kind, match=said):
        story()


#: What keeps a pod from beginning; after a short patience the task fails, and leaves no Job behind.
STUCK: list[Any] = [
    ("image", [pods.cannot_pull()], PodFailed, "image moby/buildkit.* cannot be pulled: .*manifest unknown"),
    ("registry", [pods.cannot_pull(message="dial tcp: i/o timeout")], PodLost, "i/o timeout"),
    ("node", [pods.unschedulable()], PodLost, "no node takes its pod: 0/3 nodes"),
]


@pytest.mark.parametrize(("steps", "kind", "said"), [pytest.param(*case[1:], id=case[0]) for case in STUCK])
def test_what_never_begins_is_said_and_taken_away(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, steps: list[Step], kind: type[Exception], said: str
) -> None:
    monkeypatch.setattr("airflow_pipeops.build.cluster.judgement.PATIENCE", 0.5)
    task = Task()
    with playing(api, always(*steps)), pytest.raises(kind, match=said):
        task.build(startup_timeout=timedelta(seconds=8)).start(request(), task.worker)
    assert api.all("jobs") == []
    assert api.all("pods") == []


def test_a_quota_that_never_has_room_is_said_and_the_job_taken_away(api: ApiServer) -> None:
    api.admission.append(pods.quota())
    task = Task()
    with playing(api, always()), pytest.raises(PodLost, match=r"no room for its pod.*exceeded quota: team"):
        task.build(startup_timeout=timedelta(seconds=8)).start(request(), task.worker)
    assert api.all("jobs") == []


REFUSED: list[Any] = [
    (
        lambda api: api.admission.append(pods.quota("count/jobs.batch", "jobs")),
        PodLost,
        "no room for .*exceeded quota",
    ),
    (lambda api: api.no_namespaces.add("ci"), NotFound, 'namespaces "ci" not found'),
    (lambda api: api.ending_namespaces.add("ci"), NotFound, "namespace of .* is being deleted"),
    (
        lambda api: api.tokens.update(token=lambda verb, kind, _: verb != "create"),
        AccessDenied,
        "lacks a permission on jobs",
    ),
    (lambda api: api.tokens.clear(), AccessDenied, "refuses the credential"),
]


@pytest.mark.parametrize(("arrange", "kind", "said"), REFUSED)
def test_a_job_that_is_refused(
    api: ApiServer, arrange: Callable[[ApiServer], None], kind: type[Exception], said: str
) -> None:
    arrange(api)
    with pytest.raises(kind, match=said):
        Task().build().start(request(), Task().worker)
    assert api.all("jobs") == []


@pytest.mark.parametrize(
    ("options", "wanted", "said"),
    [
        ({}, {"git_conn_id": "folder"}, "a folder of this machine"),
        ({}, {"repository": ""}, "no registry was named"),
        ({}, {"builder": "kaniko"}, "builder is 'kaniko'"),
        ({"pod_template": "/nowhere"}, {}, "pod template /nowhere cannot be read"),
    ],
)
def test_bad_input_is_told_before_anything_is_touched(
    api: ApiServer, options: dict[str, Any], wanted: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        Task().build(**options).start(request(**wanted), Task().worker)
    assert api.requests == []


def test_an_option_that_it_does_not_take_is_named() -> None:
    with pytest.raises(InvalidInput, match="memory_limit"):
        make(BUILDS, "kubernetes", {"memory_limit": "1Gi"})


# ---- once ----------------------------------------------------------------------------------------------------------------


def test_an_answer_that_is_lost_is_looked_up(api: ApiServer) -> None:
    api.faults.append(Fault("lose", method="POST", path="*/jobs", count=1))
    task = Task()
    with playing(api, always(*GOOD)):
        result = task.build().start(request(), task.worker)
    assert result.digest == DIGEST
    assert len(api.all("jobs")) == 1


def test_two_workers_at_once_begin_one_job(api: ApiServer) -> None:
    results: list[Any] = []

    def work() -> None:
        task = Task()
        results.append(task.build().start(request(), task.worker))

    with playing(api, always(*GOOD)):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert [result.digest for result in results] == [DIGEST] * 4
    assert len(api.all("jobs")) == 1


def test_a_pod_that_was_lost_is_replaced_by_the_retry_and_a_build_that_failed_is_not(api: ApiServer) -> None:
    scripts = iter(
        [(pods.runs(), pods.evicted()), (pods.runs(), pods.says("error: failed to solve: x"), pods.ends(1))]
    )
    with playing(api, lambda pod: next(scripts)):
        with pytest.raises(PodLost):
            Task().build().start(request(), Task().worker)
        for _ in range(2):
            with pytest.raises(BuildFailed):
                Task().build().start(request(), Task().worker)
    assert len(api.all("jobs")) == 2


#: What may go well the next time, though the Job has ended by itself: a push, the source, a log without a word.
PASSING: list[Any] = [
    ("push", [pods.runs(), pods.says(*PUSH), pods.ends(1)], Unreachable),
    ("source", [pods.init_fails("source", 128, "fatal: Could not resolve host: git.example.com")], PodLost),
    ("nothing", [pods.runs(), pods.ends()], BadResponse),
    ("no digest", [pods.runs(), pods.ends(message=json.dumps({"digest": "sha256:"}))], BadResponse),
]  # fmt: skip


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(("steps", "kind"), [pytest.param(*case[1:], id=case[0]) for case in PASSING])
def test_a_retry_of_what_may_pass_builds_anew(
    api: ApiServer, steps: list[Step], kind: type[Exception], deferrable: bool
) -> None:
    scripts, task = iter([steps, GOOD]), Task()
    backend = task.build(deferrable=deferrable)

    def story() -> Any:
        result = backend.start(request(), task.worker)
        return (
            backend.resume(request(), task.worker, fired(result)) if isinstance(result, Waiting) else result
        )

    with playing(api, lambda pod: next(scripts)):
        with pytest.raises(kind) as caught:
            story()
        assert getattr(caught.value, "retryable", False)
        assert story().digest == DIGEST


@pytest.mark.parametrize("kind", ["build", "test"])
def test_a_pod_that_is_gone_before_it_was_read_is_a_lost_one(api: ApiServer, kind: str) -> None:
    """The Job says that it is complete, and nobody can say any more what came of it."""
    wanted = request() if kind == "build" else test_request()
    go, end = (
        threading.Event(),
        pods.ends(message=json.dumps({"digest": DIGEST}), last=handing_over(junit=JUNIT)),
    )
    with playing(api, always(pods.runs(), pods.waits(go), end)):
        task = Task()
        backend = task.build(deferrable=True) if kind == "build" else task.tests(deferrable=True)
        waiting = backend.start(wanted, task.worker)
        go.set()
        event = fired(waiting)
        (pod,) = api.all("pods")
        gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
        api.change("pods", "ci", pod["metadata"]["name"], lambda item: item["metadata"].update(gone))
        until(lambda: not api.all("pods"))
        with pytest.raises(PodLost, match="pod is gone"):
            backend.resume(wanted, task.worker, event)
        backend.deferrable = False
        assert isinstance(backend.start(wanted, task.worker), (BuiltImage, TestResult))
    assert len(api.all("jobs")) == 2


def test_a_task_that_was_cleared_builds_anew(api: ApiServer) -> None:
    with playing(api, always(*GOOD)):
        for key in ("dag/run/task/-1", "dag/run/task/-1 order 2"):
            Task().build().start(request(), Task(key).worker)
    assert len(api.all("jobs")) == 2


def test_a_job_of_somebody_else_under_our_name_is_left_alone(api: ApiServer) -> None:
    with playing(api, always(*GOOD)):
        Task().build().start(request(), Task().worker)
        (job,) = api.all("jobs")
        name = job["metadata"]["name"]
        api.change("jobs", "ci", name, lambda item: item["metadata"].update(labels={}))
        with pytest.raises(InvalidInput, match="not of this task"):
            Task().build().start(request(), Task().worker)
    assert [job["metadata"]["name"] for job in api.all("jobs")] == [name]


def test_a_cluster_that_does_not_answer_for_a_while_is_outlasted(api: ApiServer) -> None:
    go, results = threading.Event(), []
    with playing(api, always(pods.runs(), pods.waits(go), GOOD[-1])):
        thread = threading.Thread(
            target=lambda: results.append(Task().build().start(request(), Task().worker))
        )
        thread.start()
        until(lambda: api.all("pods") and api.all("pods")[0]["status"]["phase"] == "Running")
        api.faults.append(Fault("status", method="GET", path="*/jobs/*", count=6, status=503))
        until(lambda: not api.faults)
        go.set()
        thread.join(60)
    assert results[0].digest == DIGEST


# ---- nobody waits any more -----------------------------------------------------------------------------------------------


def running(api: ApiServer) -> Workloads:
    return Workloads(api, always(pods.runs(), pods.waits(threading.Event())))


def test_a_task_that_is_killed_takes_its_job_with_it(api: ApiServer) -> None:
    cluster = running(api)
    cluster.start()
    backend, task = Task().build(), Task()

    def kill_when_it_runs() -> None:
        until(lambda: api.all("pods"))
        backend.kill()

    thread = threading.Thread(target=kill_when_it_runs)
    thread.start()
    with pytest.raises((NotFound, PodFailed)):
        backend.start(request(), task.worker)
    thread.join(60)
    cluster.stop()
    assert api.all("jobs") == []
    assert api.all("pods") == []


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_task_that_is_killed_while_its_job_is_created_takes_it_away(
    api: ApiServer, deferrable: bool
) -> None:
    backend = Task().build(deferrable=deferrable, startup_timeout=timedelta(seconds=2))
    task = Task()
    api.faults.append(Fault("delay", method="POST", path="*/jobs", count=1, seconds=1.0))

    def kill_before_it_is_there() -> None:
        until(lambda: any(one.startswith("POST") for one in api.requests))
        backend.kill()

    thread = threading.Thread(target=kill_before_it_is_there)
    thread.start()
    with contextlib.suppress(NotFound, PodFailed):  # deferred, it is the trigger that finds nothing
        backend.start(request(), task.worker)
    thread.join(60)
    assert any(one.startswith("POST") for one in api.requests)
    assert api.all("jobs") == []


def test_a_deferred_task_that_is_killed_takes_its_job_with_it(api: ApiServer) -> None:
    task = Task()
    waiting = task.build(deferrable=True).start(request(), task.worker)
    assert len(api.all("jobs")) == 1
    asyncio.run(waiting.trigger.on_kill())
    assert api.all("jobs") == []


def test_a_task_that_has_begun_nothing_has_nothing_to_take_away(api: ApiServer) -> None:
    Task().build().kill()
    assert api.requests == []


# ---- tests ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_reports_of_tests_come_back(api: ApiServer, deferrable: bool) -> None:
    task, wanted = Task(), test_request(command=("pytest", "--junitxml", "{junit}"))
    steps = [
        pods.runs(),
        pods.says("2 passed"),
        pods.ends(last=handing_over(junit=JUNIT, coverage=b"<coverage/>")),
    ]
    with playing(api, always(*steps)):
        result = task.tests(deferrable=deferrable).start(wanted, task.worker)
        if isinstance(result, Waiting):
            result = task.tests(deferrable=deferrable).resume(wanted, task.worker, fired(result))
    (attempt,) = result.attempts
    assert (attempt.status, attempt.timed_out, attempt.output) == (0, False, "2 passed")
    assert (attempt.report, attempt.coverage) == (JUNIT, b"<coverage/>")
    assert result.facts["image"] == wanted.image
    (job,) = api.all("jobs")
    assert problems(job, k8s.V1Job) == []


@pytest.mark.parametrize("deferrable", [False, True])
def test_tests_that_fail_are_run_again_while_that_is_allowed(api: ApiServer, deferrable: bool) -> None:
    failing = [pods.runs(), pods.says("1 failed"), pods.ends(1, last=handing_over(junit=FAILING))]
    passing = [pods.runs(), pods.says("2 passed"), pods.ends(last=handing_over(junit=JUNIT))]
    scripts, task, wanted = iter([failing, passing]), Task(), test_request(reruns=3)
    with playing(api, lambda pod: next(scripts)):
        backend = task.tests(deferrable=deferrable)
        result = backend.start(wanted, task.worker)
        while isinstance(result, Waiting):
            result = task.tests(deferrable=deferrable).resume(wanted, task.worker, fired(result))
    assert [attempt.status for attempt in result.attempts] == [1, 0]
    assert [attempt.report for attempt in result.attempts] == [FAILING, JUNIT]
    assert len(api.all("jobs")) == 2


def test_tests_that_left_no_report_or_took_too_long_are_not_run_again(api: ApiServer) -> None:
    """Another run could not show that a test is flaky; the worker's own backend does the same."""
    for key, steps in (("crash", pods.ends(139)), ("slow", pods.too_long())):
        with playing(api, always(pods.runs(), steps)):
            result = Task(key).tests().start(test_request(reruns=3), Task(key).worker)
        assert len(result.attempts) == 1
    assert len(api.all("jobs")) == 2


UNJUDGED: list[Any] = [
    ("memory", [pods.runs(), pods.out_of_memory()], PodFailed, "ran out of memory"),
    ("node", [pods.runs(), pods.says("half"), pods.node_lost()], PodLost, "pod is gone"),
    (
        "no program",
        [pods.ends(128, reason="StartError", message="exec: pytest: not found")],
        PodFailed,
        "not found",
    ),
]


@pytest.mark.parametrize(
    ("steps", "kind", "said"), [pytest.param(*case[1:], id=case[0]) for case in UNJUDGED]
)
def test_what_is_not_the_tests_fault_is_no_failed_test(
    api: ApiServer, steps: list[Step], kind: type[Exception], said: str
) -> None:
    with playing(api, always(*steps)), pytest.raises(kind, match=said):
        Task().tests().start(test_request(reruns=2), Task().worker)
    # And it is not run again as if a test had failed.
    assert len(api.all("jobs")) <= 1


def test_tests_that_do_not_end_are_an_attempt_that_was_stopped(api: ApiServer) -> None:
    with playing(api, always(pods.runs(), pods.says("slow"), pods.too_long())):
        result = Task().tests().start(test_request(), Task().worker)
    assert (result.attempts[0].timed_out, result.attempts[0].report) == (True, None)
    assert "before it could" in result.attempts[0].output


def test_tests_without_an_image_are_refused(api: ApiServer) -> None:
    with pytest.raises(InvalidInput, match="none was named"):
        Task().tests().start(test_request(image=""), Task().worker)
    assert api.requests == []


def test_where_no_platform_is_asked_for_the_nodes_that_a_pod_may_run_on_are_a_part_of_the_key(
    monkeypatch, api
) -> None:
    arm = {"kubernetes.io/arch": "arm64"}
    template = {"spec": {"containers": [], "nodeSelector": arm}}
    task = Task()
    assert (
        task.build(node_selector=arm).platform()
        == task.build(pod_template=template).platform()
        == "linux/arm64"
    )
    named = {"kubernetes.io/arch": "amd64"}
    assert task.build(pod_template=template, node_selector=named).platform() == "linux/amd64"
    here, there = task.build().platform(), task.build(kubernetes_conn_id="other").platform()
    assert here != there
    assert "linux/" not in here
    assert (task.build(lfs=True).lfs, task.build().lfs) == (True, False)
