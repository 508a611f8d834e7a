"""Where the story breaks, a person is told which task it was, where its log is, and what to do next."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from airflow_pipeops.demo.failures import explain
from airflow_pipeops.demo.teller import StoryBroken
from airflow_pipeops.exceptions import PipeOpsError


def task(name: str, state: str | None, tries: int = 1) -> dict:
    return {
        "dag_id": "code",
        "dag_run_id": "asset__1+00:00",
        "task_id": name,
        "state": state,
        "try_number": tries,
    }


@pytest.fixture
def stack(tmp_path):
    tasks = [
        task("commit", "success"),
        task("build", "running"),
        task("test", "failed", 3),
        task("live", "upstream_failed"),
        task("later", None),
    ]
    api = SimpleNamespace(
        dags=lambda: ["code", "never_ran"],
        runs=lambda dag: [{"dag_run_id": "old"}, {"dag_run_id": "asset__1+00:00"}] if dag == "code" else [],
        task_instances=lambda dag, run: tasks if run == "asset__1+00:00" else [task("old", "failed")],
    )
    return SimpleNamespace(home=tmp_path, url="http://127.0.0.1:8080", api=api)


def test_the_failed_task_comes_first_with_its_newest_log_and_its_page(stack) -> None:
    place = stack.home / "airflow" / "logs" / "dag_id=code" / "run_id=asset__1+00:00" / "task_id=test"
    place.mkdir(parents=True)
    for number in (1, 2, 3):
        (place / f"attempt={number}.log").touch()
        os.utime(place / f"attempt={number}.log", (number, number))
    told = explain(stack, StoryBroken("waited in vain"))
    assert told[0] == "✗ The story ended: waited in vain"
    named = [line.strip() for line in told if " is " in line and line.startswith("  code.")]
    assert named == ["code.test is failed (try 3)", "code.build is running (try 1)"]
    assert f"    log:  {place / 'attempt=3.log'}" in told
    assert "    log:  none was written yet" in told
    assert "    page: http://127.0.0.1:8080/dags/code/runs/asset__1%2B00%3A00/tasks/test" in told
    assert told[-1].startswith("Next: ")
    assert any(str(stack.home / "logs") in line for line in told)


def test_of_a_mapped_task_the_one_that_failed_is_named(stack) -> None:
    mapped = {"map_index": 1, "rendered_map_index": "flights-2013-03.parquet"}
    stack.api.task_instances = lambda dag, run: [{**task("quality", "failed"), **mapped}]
    place = stack.home / "airflow" / "logs" / "dag_id=code" / "run_id=asset__1+00:00" / "task_id=quality"
    for index in (0, 1, 2):
        (place / f"map_index={index}").mkdir(parents=True)
        (place / f"map_index={index}" / "attempt=1.log").touch()
    told = explain(stack, StoryBroken("waited in vain"))
    assert "  code.quality[flights-2013-03.parquet] is failed (try 1)" in told
    assert f"    log:  {place / 'map_index=1' / 'attempt=1.log'}" in told
    page = "http://127.0.0.1:8080/dags/code/runs/asset__1%2B00%3A00/tasks/quality/mapped/1"
    assert f"    page: {page}" in told


def test_an_airflow_that_does_not_answer_is_said(stack) -> None:
    def no() -> list[str]:
        raise PipeOpsError("down")

    stack.api.dags = no
    told = explain(stack, StoryBroken("waited in vain"))
    assert "Airflow cannot say which task it was: down" in told
    assert any(str(stack.home / "logs") in line for line in told)
