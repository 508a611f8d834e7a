"""The guard's DAG, run to its end on the flights of autumn 2013: real repositories, a real sandbox, a real endpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pandas as pd
import pytest

from airflow_pipeops.demo import flights
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.stack import Stack
from airflow_pipeops.git.repository import GitRepository
from airflow_pipeops.models import artifact
from tests.dags.test_example_dags import run_dag
from tests.servers import free_ports

NAME = "flight-delay"
FILE = f"apps/{NAME}/overlays/production/model.yaml"
ENV = "spec.template.spec.containers[name=server].env"


@pytest.fixture(scope="module")
def autumn(tmp_path_factory) -> Iterator[Stack]:
    """The model of autumn runs in production; it and that of summer before it have predicted October and November."""
    stack = Stack(
        tmp_path_factory.mktemp("autumn") / "home", Ports(airflow=free_ports(2), nodes=free_ports(6))
    )
    try:
        stack.prepare()
        stack.start_sandbox()
        stack.migrate()
        headers = {"Authorization": f"Bearer {stack.sandbox_token('deployer')}"}
        for application in stack.seeds.applications():
            httpx.post(
                f"{stack.sandbox_url}/api/v1/applications", json=application, headers=headers, timeout=30
            ).raise_for_status()
        versions = _models(stack)
        _deploy(stack, versions["2"], "2")
        stack.registry().set_alias(NAME, "champion", "2")
        yield stack
    finally:
        stack.stop()


def _models(stack: Stack) -> dict[str, artifact.Stored]:
    """Train and register both, and let them predict; labels come a day after the flight."""
    month = {n: flights.features(flights.month(n, 6000)) for n in (5, 6, 8, 9, 10, 11)}
    rows = pd.concat([month[10], month[11]], ignore_index=True)
    key = [f"flight {number}" for number in rows.index]
    registry, found = stack.registry(), {}
    for version, trained in (("1", (5, 6)), ("2", (8, 9))):
        data = pd.concat([month[n] for n in trained])
        model = flights.train(data, 0)
        manifest = artifact.Manifest(NAME, artifact.features_of(data, flights.FEATURES), flights.TARGET)
        stored = found[version] = artifact.save(model, manifest, stack.home / "artifacts")
        registry.register(NAME, stored.uri, stored.sha256)
        score = model.predict_proba(rows[list(flights.FEATURES)])[:, 1]
        made = pd.DataFrame({"key": key, "at": rows["day"], "sha256": stored.sha256, "score": score})
        flights.write(made, stack.home / "predictions" / f"autumn-{version}.parquet")
    at = (pd.to_datetime(rows["day"]) + timedelta(days=1)).dt.strftime("%Y-%m-%d")
    flights.write(
        pd.DataFrame({"key": key, "at": at, "label": rows["late"]}), stack.home / "labels" / "autumn.parquet"
    )
    flights.write_month(11, stack.home / "data", 3000)
    return found


def _deploy(stack: Stack, stored: artifact.Stored, version: str) -> None:
    """Let production serve a model, and wait until it does."""
    values: dict[str, Any] = {
        f"{ENV}[name=MODEL_URI].value": stored.uri,
        f"{ENV}[name=MODEL_SHA256].value": stored.sha256,
        f"{ENV}[name=MODEL_VERSION].value": version,
        "spec.replicas": 1,
    }
    git = GitRepository(stack.seeds.deploy_repository.as_uri(), cache_dir=stack.home / "cache")
    git.commit_edit(FILE, values, f"Deploy version {version}", key=f"test {version}")
    until = time.monotonic() + 300
    while serves(stack) != stored.sha256:
        assert time.monotonic() < until, "production does not serve the model"
        time.sleep(0.5)


def serves(stack: Stack) -> str:
    """The digest that production serves; empty while nothing answers."""
    try:
        answer = httpx.get(f"{stack.endpoint(f'{NAME}-production')}/v2/models/{NAME}", timeout=10)
        return str(answer.json()["parameters"]["sha256"])
    except (httpx.HTTPError, ValueError, KeyError):
        return ""


@pytest.mark.timeout(1800)
def test_a_month_is_scored_once_by_the_model_that_is_promoted(autumn: Stack) -> None:
    judged = run_dag(autumn, "drift_to_retrain", {"batch": "flights-2013-11.parquet"}, timeout=800)
    (validation,) = [one["id"] for one in judged["emitted"] if one["kind"] == "validation"]
    first = run_dag(autumn, "batch_scores", timeout=800)
    assert first["state"] == "success", first["log"][-5000:]
    assert first["tasks"]["score[0]"] == "success"
    (record,) = [one for one in first["emitted"] if one["kind"] == "scores"]
    scores = record["body"]
    assert record["parents"] == [validation], "of the data; no record tells of how the model was registered"
    assert (scores["partition"], scores["rows"], scores["outcome"]) == ("2013-11", 3000, "scored")
    assert scores["sha256"] == autumn.registry().by_alias(NAME, "champion").sha256
    again = run_dag(autumn, "batch_scores", {"batch": "flights-2013-11.parquet"}, timeout=800)
    assert again["state"] == "success", again["log"][-5000:]
    (found,) = [one["body"] for one in again["emitted"] if one["kind"] == "scores"]
    assert (found["outcome"], found["output_digest"]) == ("found", scores["output_digest"])
    absent = run_dag(autumn, "batch_scores", {"batch": "flights-2012-01.parquet"}, timeout=800)
    assert (absent["state"], absent["emitted"]) == ("failed", [])
    assert "there is no batch 'flights-2012-01.parquet'" in absent["log"]


@pytest.mark.timeout(1800)
def test_late_labels_take_the_model_of_autumn_back_on_both_sides(autumn: Stack) -> None:
    told = run_dag(autumn, "model_guard", {"mode": "observe", "before": "1"}, timeout=800)
    assert told["state"] == "success", told["log"][-5000:]
    assert told["tasks"]["guard"] == "success"
    assert told["tasks"]["roll_back"] == "skipped", "who observes takes nothing back"
    (found,) = [one["body"] for one in told["emitted"] if one["body"].get("subject") == "guard"]
    assert (found["verdict"], found["order"]["release"], found["order"]["before"]) == ("worse", "2", "1")

    done = run_dag(autumn, "model_guard", {"mode": "act", "before": "1"}, timeout=800)
    assert done["state"] == "success", done["log"][-5000:]
    assert done["tasks"]["approve"] == "skipped"
    assert done["tasks"]["finish"] == "success"
    before = autumn.registry().version(NAME, "1")
    assert serves(autumn) == before.sha256
    assert autumn.registry().by_alias(NAME, "champion") == before
    assert "worse" in autumn.registry().version(NAME, "2").blocked
    kinds = [one["kind"] for one in done["emitted"]]
    assert kinds.count("rollback") == kinds.count("release") == kinds.count("decision") == 1
