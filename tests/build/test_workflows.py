"""Builds and test runs on Argo Workflows, over its REST: begun once, waited for in both ways, read, and explained."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from airflow_pipeops.build.backends import BUILDS, TESTS, BuiltImage, TestResult, Waiting, Worker, make
from airflow_pipeops.build.workflows import WorkflowsBuild, WorkflowsTests
from airflow_pipeops.exceptions import (
    BadResponse,
    BuildFailed,
    InvalidInput,
    PodFailed,
    PodLost,
    Unreachable,
)
from tests.argo_workflows.conftest import Store, connect
from tests.argo_workflows.running import Play, fired, until
from tests.argo_workflows.server import ArgoServer, serving_argo
from tests.build.cluster.running import request, test_request
from tests.build.cluster.test_steps import BUILDKIT, BUILDKIT_PUSH

DIGEST = "sha256:" + "d" * 64
JUNIT = b'<testsuite tests="1"><testcase classname="t" name="a"/></testsuite>'
BUSY = BUILDKIT_PUSH.format(said="unexpected status: 429 Too Many Requests")
WAYS = pytest.mark.parametrize("deferrable", [False, True])


@pytest.fixture
def argo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArgoServer]:
    with serving_argo() as server:
        connect(monkeypatch, server.url)
        app = {
            "conn_type": "git_repository",
            "host": "https://git.example.com/team/shop.git",
            "password": "s3cr3tpass",
        }
        monkeypatch.setenv("AIRFLOW_CONN_APP", json.dumps(app))
        yield server


class Task:
    """One task: its attempts share a key, and the store of its state."""

    def __init__(self) -> None:
        self.context: dict[str, Any] = {"task_state_store": Store()}
        self.said: list[str] = []

    def worker(self, key: str = "dag/run/task/-1") -> Worker:
        def never(*_: Any) -> Any:
            raise AssertionError("nothing is done on the worker")

        return Worker(self.context, key, never, never, self.said.append)

    def run(self, kinds: Any, asked: Any, *, deferrable: bool, **options: Any) -> Any:
        given = {"poll_interval": timedelta(milliseconds=50), "deferrable": deferrable, **options}
        outcome = make(kinds, "argo_workflows", given).start(asked, self.worker())
        while isinstance(outcome, Waiting):
            event = fired(outcome.trigger)
            outcome = make(kinds, "argo_workflows", given).resume(asked, self.worker(), event)
        return outcome


def built(argo: ArgoServer, name: str, word: str = json.dumps({"digest": DIGEST})) -> None:
    argo.begin(name)
    argo.node(
        name, name, "Succeeded", exit_code=0, outputs={"last-word": word}, log=("#1 building", "#2 pushing")
    )
    argo.finish(name)


@WAYS
def test_an_image_is_built_once(argo: ArgoServer, deferrable: bool) -> None:
    task = Task()
    with Play(argo, lambda name: built(argo, name)):
        image = task.run(
            BUILDS, request(), deferrable=deferrable, git_secret="git", registry_secret="registry"
        )
    assert isinstance(image, BuiltImage)
    (found,) = argo.workflows()
    assert (image.digest, image.builder) == (DIGEST, "buildkit")
    assert image.facts["uid"] == found["metadata"]["uid"]
    assert any("#2 pushing" in line for line in task.said)
    (template,) = found["spec"]["templates"]
    assert template["initContainers"][0]["name"] == "source"
    assert template["activeDeadlineSeconds"] == "1800"
    assert "s3cr3tpass" not in json.dumps(found)
    again = task.run(BUILDS, request(), deferrable=deferrable)
    assert again.digest == DIGEST
    assert len(argo.workflows()) == 1


@pytest.mark.parametrize("builder", ["auto", "buildah"])
def test_the_last_word_of_the_builder_is_an_output(argo: ArgoServer, builder: str) -> None:
    (template,) = WorkflowsBuild().composed(request(builder=builder))["spec"]["templates"]
    env = {one["name"]: one["value"] for one in template["container"]["env"]}
    (parameter,) = template["outputs"]["parameters"]
    assert parameter["valueFrom"]["path"] == env["PIPEOPS_LAST_WORD"] == "/pipeops/work/last-word"
    assert "/pipeops/work" in [one["mountPath"] for one in template["container"]["volumeMounts"]]


@WAYS
@pytest.mark.parametrize(
    ("node", "log", "error", "said"),
    [
        ({"exit_code": 1}, BUILDKIT, BuildFailed, "step "),
        ({"exit_code": 1}, BUSY, Unreachable, "A retry builds anew"),
        ({"exit_code": 2}, ["something"], BuildFailed, "it said last:\n  something"),
        (
            {"message": "ImagePullBackOff: Back-off pulling image"},
            [],
            PodFailed,
            "its image cannot be pulled",
        ),
        (
            {"exit_code": 137, "message": "OOMKilled (exit code 137)"},
            [],
            PodFailed,
            "more memory than its limit",
        ),
        ({"message": "pod deleted"}, [], PodLost, "A retry begins it anew"),
        ({"message": "something new"}, [], PodFailed, "something new"),
        ({"message": "Step exceeded its deadline"}, [], BuildFailed, "did not end within 30 min"),
    ],
)
def test_why_a_build_failed(
    argo: ArgoServer, deferrable: bool, node: dict[str, Any], log: Any, error: type[Exception], said: str
) -> None:
    lines = tuple(log.splitlines() if isinstance(log, str) else log)

    def work(name: str) -> None:
        argo.begin(name)
        argo.node(name, name, "Failed", log=lines, **node)
        argo.finish(name, "Failed")

    with Play(argo, work), pytest.raises(error) as caught:
        Task().run(BUILDS, request(), deferrable=deferrable)
    assert said in str(caught.value)


def test_a_retry_of_a_failed_build_builds_anew(argo: ArgoServer) -> None:
    task = Task()

    def lost(name: str) -> None:
        argo.begin(name)
        argo.node(name, name, "Failed", exit_code=1, log=tuple(BUSY.splitlines()))
        argo.finish(name, "Failed")

    with Play(argo, lost), pytest.raises(Unreachable):
        task.run(BUILDS, request(), deferrable=False)

    def work(name: str) -> None:
        until(lambda: argo.one(name)["status"]["phase"] == "Running")
        argo.node(name, name, "Succeeded", exit_code=0, outputs={"last-word": json.dumps({"digest": DIGEST})})
        argo.finish(name)

    with Play(argo, work):
        assert task.run(BUILDS, request(), deferrable=False).digest == DIGEST
    assert len(argo.workflows()) == 1


def test_a_builder_that_names_no_image_is_an_error(argo: ArgoServer) -> None:
    with (
        Play(argo, lambda name: built(argo, name, "")),
        pytest.raises(BadResponse, match="does not say which image"),
    ):
        Task().run(BUILDS, request(), deferrable=False)


def test_braces_that_argo_would_replace_are_refused(argo: ArgoServer) -> None:
    with pytest.raises(InvalidInput, match="holds two braces"):
        Task().run(BUILDS, request(containerfile="FROM x\nRUN echo {{now}}\n"), deferrable=False)
    assert argo.workflows() == []


def reported(argo: ArgoServer, name: str, phase: str, code: int, report: bytes | None) -> None:
    argo.begin(name)
    artifacts: tuple[dict[str, Any], ...] = ({"name": "junit"},) if report else ()
    if report:
        argo.artifacts[argo.one(name)["metadata"]["uid"], name, "junit"] = report
    argo.node(name, name, phase, exit_code=code, log=("collected 1 item",), artifacts=artifacts)
    argo.finish(name, phase)


@WAYS
def test_reports_and_output_of_a_test_run_come_back(argo: ArgoServer, deferrable: bool) -> None:
    task = Task()
    with Play(argo, lambda name: reported(argo, name, "Succeeded", 0, JUNIT)):
        found = task.run(TESTS, test_request(), deferrable=deferrable)
    assert isinstance(found, TestResult)
    (attempt,) = found.attempts
    assert (attempt.status, attempt.report, attempt.coverage, attempt.timed_out) == (0, JUNIT, None, False)
    assert "collected 1 item" in attempt.output
    (template,) = argo.workflows()[0]["spec"]["templates"]
    assert [one["name"] for one in template["outputs"]["artifacts"]] == ["junit", "coverage"]
    assert not template.get("initContainers")


@WAYS
def test_tests_that_fail_are_run_again_as_often_as_allowed(argo: ArgoServer, deferrable: bool) -> None:
    task = Task()

    def work(name: str) -> None:
        reported(argo, name, "Failed", 1, JUNIT)
        until(lambda: len(argo.workflows()) == 2)
        other = next(one["metadata"]["name"] for one in argo.workflows() if one["metadata"]["name"] != name)
        reported(argo, other, "Succeeded", 0, JUNIT)

    with Play(argo, work):
        found = task.run(TESTS, test_request(reruns=2), deferrable=deferrable)
    assert [one.status for one in found.attempts] == [1, 0]
    assert not [path for path in argo.requests if path.endswith("/retry")]


def test_a_run_that_takes_too_long_has_timed_out(argo: ArgoServer) -> None:
    def work(name: str) -> None:
        argo.begin(name)
        argo.node(name, name, "Failed", message="Step exceeded its deadline")
        argo.finish(name, "Failed")

    with Play(argo, work):
        (attempt,) = Task().run(TESTS, test_request(), deferrable=False).attempts
    assert (attempt.timed_out, attempt.status) == (True, -1)


def test_whoever_ends_the_task_stops_the_workflow(argo: ArgoServer) -> None:
    made = WorkflowsTests(deferrable=True)
    outcome = made.start(test_request(), Task().worker())
    assert isinstance(outcome, Waiting)
    name = argo.workflows()[0]["metadata"]["name"]
    argo.begin(name)
    made.kill()
    until(lambda: argo.one(name)["status"]["phase"] == "Failed")
    made.kill()  # twice is as good as once
    asyncio.run(outcome.trigger.on_kill())
