"""``airflow pipeops doctor``, really run, beside a real API server and its database."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


def run(server: Any, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ran: subprocess.CompletedProcess[str] = server.warm.run("-m", "airflow", *arguments, **environment)
    return ran


def test_it_finds_what_is_well_and_what_is_not(server: Any, tmp_path: Path) -> None:
    added = run(
        server,
        "connections",
        "add",
        "shelf",
        "--conn-type",
        "pipeops_storage",
        "--conn-host",
        tmp_path.as_uri(),
    )
    assert added.returncode == 0, added.stderr
    ran = run(
        server,
        *("pipeops", "doctor", "--output", "json"),
        AIRFLOW_CONN_GONE=json.dumps(
            {"conn_type": "git_repository", "host": (tmp_path / "gone.git").as_uri()}
        ),
        AIRFLOW_CONN_OTHERS=json.dumps({"conn_type": "http", "host": "example.com", "password": "hunter2"}),
        AIRFLOW__PIPEOPS__REGISTRY_CONN_ID="no_such_registry",
    )
    assert ran.returncode == 1, ran.stderr
    found = {check["about"]: check for check in json.loads(ran.stdout)["checks"]}
    standings = {about: check["standing"] for about, check in found.items()}
    assert (
        standings["versions"] == standings["plugin"] == standings["routes"] == standings["evidence"] == "good"
    ), found
    assert standings["connection shelf (pipeops_storage)"] == "good", found
    assert standings["connection gone (git_repository)"] == "bad"
    assert (
        found["connection no_such_registry"]["found"]
        == "[pipeops] registry_conn_id names it, and it is not there."
    )
    assert standings["triggerer"] == "bad"  # none runs
    assert all(check["remedy"] for check in found.values() if check["standing"] != "good")
    assert "connection others (http)" not in found
    assert "hunter2" not in ran.stdout + ran.stderr


def test_one_connection_alone(server: Any, tmp_path: Path) -> None:
    shelf = json.dumps({"conn_type": "pipeops_storage", "host": tmp_path.as_uri()})
    ran = run(server, "pipeops", "doctor", "box", AIRFLOW_CONN_BOX=shelf)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "connection box (pipeops_storage)" in ran.stdout
    assert "triggerer" not in ran.stdout
