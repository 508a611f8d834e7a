"""A backend elsewhere: the task leaves its slot, and another process goes on where it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.triggers.base import BaseTrigger

from airflow_pipeops.build.backends import Attempt, BuiltImage, TestResult, Waiting
from airflow_pipeops.build.operators import BuildImageOperator, RunTestsOperator
from airflow_pipeops.demo.packager import Packager

PATH = "tests.build.test_deferral"


class Fires(BaseTrigger):
    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{PATH}.Fires", {}

    async def run(self) -> Any:
        yield None


class Elsewhere:
    """Works in two steps, and knows nothing of the first in the second."""

    lfs = False

    def platform(self) -> str:
        return "elsewhere"

    def __init__(self) -> None:
        self.killed = False

    def start(self, request: Any, worker: Any) -> Any:
        worker.say(f"begun as {worker.key}")
        return Waiting(Fires())

    def resume(self, request: Any, worker: Any, event: dict[str, Any]) -> Any:
        assert (worker.source() / "test_a.py").is_file()
        if event.get("again"):
            return Waiting(Fires())
        if hasattr(request, "reruns"):
            report = b'<testsuite><testcase name="a"/></testsuite>'
            return TestResult((Attempt(0, False, 1.0, "said", report),), {"pod": "p"})
        return BuiltImage("sha256:" + "1" * 64, "elsewhere", {"pod": "p"})

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize("kind", [BuildImageOperator, RunTestsOperator])
def test_a_deferred_task_goes_on_in_another_process(kind, context, commit) -> None:
    sha = commit({"test_a.py": "", "Containerfile": "FROM scratch\nCOPY . /\nCMD x\n"})

    def task() -> Any:
        more = {"image": "shop", "storage_conn_id": "store"} if kind is BuildImageOperator else {}
        return kind(task_id="t", git_conn_id="app", commit=sha, backend=f"{PATH}:Elsewhere", **more)

    with pytest.raises(TaskDeferred) as deferred:
        task().execute(context)
    kwargs = json.loads(json.dumps(deferred.value.kwargs))  # as Airflow keeps them
    assert (deferred.value.method_name, type(deferred.value.trigger)) == ("resume", Fires)
    with pytest.raises(TaskDeferred):
        task().resume(context, {"again": True}, **kwargs)
    last = task()
    result = last.resume(context, {}, **kwargs)
    assert result["commit"] == sha
    last.on_kill()
    assert last._backend.killed


def test_what_was_begun_is_found_again_where_the_task_is_mapped_by_now(context, commit, monkeypatch) -> None:
    """The map index of a deferred task changes where its DAG is changed meanwhile, and what was begun keeps its name."""
    sha, keys = commit({"test_a.py": ""}), []

    def resume(self: Any, request: Any, worker: Any, event: dict[str, Any]) -> Any:
        keys.append(worker.key)
        return Waiting(Fires())

    def start(self: Any, request: Any, worker: Any) -> Any:
        return resume(self, request, worker, {})

    monkeypatch.setattr(Elsewhere, "start", start)
    monkeypatch.setattr(Elsewhere, "resume", resume)

    def task() -> RunTestsOperator:
        return RunTestsOperator(task_id="t", git_conn_id="app", commit=sha, backend=f"{PATH}:Elsewhere")

    with pytest.raises(TaskDeferred) as first:
        task().execute(context)
    context["ti"].map_index = 0
    with pytest.raises(TaskDeferred) as second:
        task().resume(context, {}, **first.value.kwargs)
    with pytest.raises(TaskDeferred):
        task().resume(context, {}, **second.value.kwargs)
    assert len(set(keys)) == 1
    assert len(keys) == 3


def test_a_backend_elsewhere_has_builders_of_its_own(context, commit, monkeypatch) -> None:
    sha = commit({"test_a.py": "", "Containerfile": "FROM scratch\nCOPY . /\n"})
    asked = []
    monkeypatch.setattr(Elsewhere, "start", lambda self, request, worker: asked.append(request.builder) or self.resume(
        request, worker, {}))  # fmt: skip
    monkeypatch.setenv("AIRFLOW__PIPEOPS__BUILDER", "podman")
    more = {"image": "shop", "storage_conn_id": "store", "git_conn_id": "app", "commit": sha}
    for builder in (None, "buildkit"):
        task = BuildImageOperator(task_id="t", backend=f"{PATH}:Elsewhere", builder=builder, **more)
        task.execute(context)
    assert asked == ["auto", "buildkit"]
    with pytest.raises(AirflowFailException, match="builder 'buildkit' is unknown"):
        BuildImageOperator(task_id="t", builder="buildkit", **more).execute(context)


def test_the_packager_is_found_by_its_import_path() -> None:
    from airflow_pipeops.build import builders

    assert isinstance(builders.own("airflow_pipeops.demo.packager:Packager"), Packager)
