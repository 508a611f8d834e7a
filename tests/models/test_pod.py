"""Training in a pod: the same result as on the worker, and the example that does so by configuration."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import pod
from airflow_pipeops.models.operators import BuildFeaturesOperator, TrainModelOperator
from airflow_pipeops.provider.examples import example_dags

DOMAIN = "airflow_pipeops.demo.flights"
IMAGE = "registry.example.com/train@sha256:" + "1" * 64


@pytest.fixture
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> DAG:
    """The example, as it is where the configuration says so."""
    monkeypatch.setenv("PIPEOPS_TRAIN_IN", "kubernetes")
    monkeypatch.setenv("PIPEOPS_TRAIN_IMAGE", IMAGE)
    found = runpy.run_path(str(example_dags() / "data_to_model.py"))
    return next(item for item in found.values() if isinstance(item, DAG))


def test_the_example_trains_where_it_is_told_and_gives_the_same(
    in_a_pod: DAG, connections: Any, context: Any, tmp_path: Path
) -> None:
    task = in_a_pod.get_task("train")
    assert isinstance(task, TrainModelOperator)
    assert (task.run_in, task.run_options["image"]) == ("kubernetes", IMAGE)
    assert "features" in task.upstream_task_ids
    assert task.multiple_outputs is True

    data = [flights.write_month(1, tmp_path / "data", 2000).as_uri()]
    features = BuildFeaturesOperator(task_id="features", data=data, transform=f"{DOMAIN}:features").execute(
        context
    )
    task.data = features["uri"]
    given = json.dumps(task.arguments())
    result = tmp_path / "return.json"
    done = subprocess.run(
        [sys.executable, "-m", "airflow_pipeops.models.pod", given],
        env={**os.environ, "PIPEOPS_RESULT": str(result)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    here = TrainModelOperator(task_id="train", **json.loads(given)).execute(context)
    there = json.loads(result.read_text())
    # Sums of floats may differ in their last bit between two processes, and with them the bytes of the model.
    own = ("seconds", "sha256", "artifact_uri", "training_sha256", "training_uri")
    assert {key: value for key, value in there.items() if key not in own} == {
        key: value for key, value in here.items() if key not in (*own, "run_in")
    }
    assert there["artifact_uri"].endswith(there["sha256"])


@pytest.mark.parametrize("given", ["", "[]", "{", '{"nonesuch": 1}'])
def test_arguments_that_are_none_are_said(given: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="arguments"):
        pod.train(given, tmp_path / "return.json")
    assert not (tmp_path / "return.json").exists()


def test_what_a_trainer_stumbles_over_is_not_said_of_the_arguments(connections: Any, tmp_path: Path) -> None:
    data = [flights.write_month(1, tmp_path / "data", 600).as_uri()]
    given = {"trainer": "tests.models.test_pod:stumbles", "data": data, "name": "flight-delay"}
    with pytest.raises(ValueError, match=r"^Input X contains NaN$"):
        pod.train(json.dumps(given), tmp_path / "return.json")
    with pytest.raises(ValueError, match=r"^Input X contains NaN$"):
        pod.answer(json.dumps(given), tmp_path / "answer.json")
    assert json.loads((tmp_path / "answer.json").read_text()) == {
        "error": "PipeOpsError",
        "message": "the training failed: ValueError: Input X contains NaN",
        "retryable": False,
    }


def stumbles(frame: Any, seed: int) -> Any:
    """A trainer that does not take its rows."""
    raise ValueError("Input X contains NaN")


def test_by_default_it_trains_on_the_worker() -> None:
    found = runpy.run_path(str(example_dags() / "data_to_model.py"))
    dag = next(item for item in found.values() if isinstance(item, DAG))
    assert isinstance(dag.get_task("train"), TrainModelOperator)
    assert dag.get_task("train").run_in == "worker"
