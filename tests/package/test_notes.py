"""What a run's note says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_pipeops.provider.notes import ended, starting
from tests.once import airflow_database

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PUSH = {"from_trigger": True, "payload": {"commit": COMMIT, "branch": "main", "git_conn_id": "x"}}


@pytest.mark.parametrize(
    ("conf", "extras", "said"),
    [
        (None, [PUSH], "commit 01234567"),
        ({}, [{"payload": {"name": "flights-03.parquet", "uri": "s3://x"}}], "batch flights-03.parquet"),
        ({}, [{"payload": {"app": "shop-production", "resources": []}}], "app shop-production"),
        ({}, [{"payload": {"missing": {"a": "argocd"}}}], "nothing: connections are missing"),
        ({"revision": "v1.2", "environment": "staging"}, [], "revision v1.2, environment staging"),
        ({"revision": None, "environment": "staging"}, [], "environment staging"),
        ({}, [], "what the DAG finds itself"),
        (None, ["text", {"payload": "text"}, {}], "what the DAG finds itself"),
        (
            {},
            [{"kind": "release", "body": {"revision": COMMIT}, "environment": "production"}],
            "release 01234567 in production",
        ),
    ],
)
def test_at_the_start_it_names_what_started_the_run(conf, extras, said) -> None:
    assert starting(conf, extras) == f"Ships: {said}"


def test_at_the_end_it_names_what_was_recorded() -> None:
    records = [
        {"kind": "commit", "body": {"commit": COMMIT, "subject": "Say 2"}},
        {"kind": "image", "body": {"digest": "sha256:" + "ab" * 32}},
        {"kind": "change", "body": {"commit": COMMIT}, "environment": "staging"},
        {"kind": "decision", "body": {"decision": "hold"}},
        {"kind": "incident", "body": {}, "environment": "production"},
        {"asset": "of somebody else"},
        None,
    ]
    assert ended(records) == (
        "Ships: commit 01234567, image abababab, change 01234567 in staging, decision hold, incident in production"
    )
    assert ended([]) == ""


def test_a_note_fits_into_its_column() -> None:
    assert len(starting({str(i): "x" * 200 for i in range(30)}, [])) == 1000


#: Runs a DAG to its end, then tells its end as the scheduler does, and prints the note that another session reads.
PROGRAM = """
import sys
from airflow.sdk import DAG
from airflow_pipeops import Deliverable, RecordOperator

def dag(tag):
    shop = Deliverable("shop", environments=("production",))
    with DAG(f"of_{tag}", schedule=None, tags=[tag]) as made:
        RecordOperator(
            task_id="x", kind="release", body={"revision": "a" * 40}, deliverable=shop, environment="production"
        )
    return made

ours, other = dag("pipeops"), dag("theirs")

if __name__ == "__main__":
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    for made, before in ((ours, None), (ours, "mine"), (other, None)):
        run = made.test()
        with create_session() as session:
            found = session.get_one(DagRun, run.id)
            found.note = before
            found.notify_dagrun_state_changed("success")
        with create_session() as session:
            print("NOTE", session.get_one(DagRun, run.id).note)
"""


@pytest.mark.timeout(400)
def test_airflow_keeps_the_note_and_nobody_elses_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "shop.py").write_text(PROGRAM)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    airflow_database(tmp_path)
    run = subprocess.run(
        [sys.executable, str(folder / "shop.py")], env=environment, capture_output=True, text=True, check=True
    )
    notes = [line for line in run.stdout.splitlines() if line.startswith("NOTE")]
    assert notes == ["NOTE Ships: release aaaaaaaa in production", "NOTE mine", "NOTE None"], run.stdout[
        -3000:
    ]
