"""The two tasks in a real DAG run: templates, XComs, the wait in a trigger, and the events of the records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.delivery.records import Record
from tests.once import airflow_database

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's database, and the DAG."""
    home: Path = tmp_path_factory.mktemp("airflow")
    for folder in ("dags", "history"):
        (home / folder).mkdir()
    (home / "dags" / "remediation_dag.py").write_text(
        Path(__file__).with_name("remediation_dag.py").read_text()
    )
    airflow_database(home)
    return home


def ran(home: Path, *arguments: str) -> str:
    connection = {"conn_type": "pipeops_storage", "host": (home / "history").as_uri()}
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False", "AIRFLOW_CONN_PIPEOPS_REMEDIATION": json.dumps(connection),
    }  # fmt: skip
    run = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-5000:]
    return run.stdout


def told(home: Path, *said: str) -> dict[str, Any]:
    finding = {
        "kind": "failed_gate",
        "at": datetime.now(timezone.utc).isoformat(),
        "target": {"batch": "march"},
    }
    program = str(home / "dags" / "remediation_dag.py")
    found: dict[str, Any] = json.loads(ran(home, program, json.dumps(finding), *said).splitlines()[-1])
    return found


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_finding_is_answered_verified_and_handed_over(home: Path) -> None:
    found = told(home, "still", "clear", "clear")
    assert found["states"] == {"remediate": "success", "verify": "success"}
    assert found["returned"]["verify"]["state"] == "helped"
    first, second = (Record.from_extra(extra) for extra in found["emitted"])
    assert (first.kind, second.kind) == ("remediation", "remediation")
    assert second.parents == (first.id,)
    soon = told(home, "still")
    assert soon["returned"]["remediate"]["stage"] == "rate"
    assert soon["states"] == {"remediate": "success", "verify": "skipped"}
    shown = json.loads(ran(home, "-m", "airflow", "pipeops", "remediation", "--json"))
    assert shown["held"] == [{"mark": "batch march", "by": found["returned"]["remediate"]["operation"]}]
    again = json.loads(
        ran(home, "-m", "airflow", "pipeops", "remediation", "--reset", "batch march", "--json")
    )
    assert again["held"] == []
