"""Each example DAG, run to its end by ``dag.test()`` against real Git repositories and a real sandbox."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from airflow.sdk import DAG

from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.stack import DAGS, Stack
from airflow_pipeops.provider.examples import example_dags
from tests.servers import free_ports

RUNNER = Path(__file__).with_name("run_dag.py")
FILES = sorted(example_dags().glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_is_short_and_draws_its_flow(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "─▶" in (ast.get_docstring(ast.parse(text)) or "")
    assert len(text.splitlines()) <= 240, "short enough to read in one sitting"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_run_by_hand_asks_by_a_form(path: Path) -> None:
    """Each field is described, and may be left as it is; where there are choices, the form offers them."""
    dag = next(item for item in runpy.run_path(str(path)).values() if isinstance(item, DAG))
    assert dag.params
    for name in dag.params:
        field = dag.params.get_param(name)
        assert field.description, name
        field.resolve()
        assert "enum" in field.schema or field.schema["type"] in (["null", "string"], "number"), name
    assert "pipeops" in dag.tags, "its runs get a note"


def test_there_are_five() -> None:
    assert {path.stem for path in FILES} == DAGS


@pytest.fixture(scope="module")
def laptop(tmp_path_factory) -> Iterator[Stack]:
    """Repositories, sandbox, Airflow's database and connections; no Airflow processes."""
    stack = Stack(
        tmp_path_factory.mktemp("laptop") / "home", Ports(airflow=free_ports(2), nodes=free_ports(4))
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
        yield stack
    finally:
        stack.stop()


def run_dag(stack: Stack, dag: str, conf: dict | None = None) -> dict:
    """Run a DAG in a process of its own; return the states."""
    command = [sys.executable, str(RUNNER), dag, json.dumps(conf or {})]
    run = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, (run.stdout + run.stderr)[-6000:]
    found = json.loads(run.stdout.splitlines()[-1])
    found["log"] = run.stdout + run.stderr
    return found


@pytest.mark.timeout(900)
def test_from_commit_and_data_to_releases_and_back(laptop: Stack) -> None:
    """One after the other, since each lives on what the one before has done."""
    laptop.seeds.push_version(1)
    code = run_dag(laptop, "code_to_release")
    assert code["state"] == "success", code["log"][-5000:]
    assert httpx.get(laptop.endpoint("delay-api-production") + "/version").json() == {"version": "1"}

    laptop.seeds.push_version(2)
    parent = ["git", "-C", str(laptop.seeds.app_repository), "rev-parse", "main~1"]
    first = subprocess.run(parent, capture_output=True, text=True, check=True).stdout.strip()
    earlier = run_dag(laptop, "code_to_release", {"revision": first, "environment": "staging"})
    assert earlier["state"] == "success", earlier["log"][-5000:]
    assert earlier["tasks"]["staging_is_live"] == "success"
    assert earlier["tasks"]["promote_to_production"] == "skipped"
    assert httpx.get(laptop.endpoint("delay-api-staging") + "/version").json() == {"version": "1"}

    laptop.deliver_history((1, 2))
    model = run_dag(laptop, "data_to_model")
    assert model["state"] == "success", model["log"][-5000:]
    assert model["tasks"]["champion"] == "success"
    assert httpx.get(laptop.endpoint("flight-delay-production") + "/v2/health/ready").status_code == 200

    laptop.deliver_month(3)
    drift = run_dag(
        laptop, "drift_to_retrain", {"batch": sorted(laptop.home.glob("data/*.parquet"))[-1].name}
    )
    assert drift["state"] == "success", drift["log"][-5000:]
    unknown = run_dag(laptop, "drift_to_retrain", {"batch": "no-such.parquet"})
    assert unknown["tasks"]["new_batches"] == "failed"
    assert "there is no batch 'no-such.parquet'" in unknown["log"]
    assert drift["tasks"]["decide"] == "success"

    guard = run_dag(laptop, "release_guard")
    assert guard["state"] == "success", guard["log"][-5000:]
    assert guard["tasks"]["delay_api.watch"] == "success"
    assert guard["tasks"]["delay_api.revert"] == "skipped", "a steady release is left alone"
    one = run_dag(laptop, "release_guard", {"deliverable": "flight-delay", "on_degraded": "report"})
    assert one["tasks"]["flight_delay.watch"] == "success"
    assert one["tasks"]["delay_api.watch"] == "skipped", "nobody asked for it"

    infrastructure = run_dag(laptop, "desired_state_drift", {"policy": "heal"})
    assert infrastructure["state"] == "success", infrastructure["log"][-5000:]
    assert infrastructure["tasks"]["heal"] == "skipped", "there is no difference to heal"
