"""``airflow pipeops replay``, really run; and the governor in a DAG on a real Airflow database."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor.command import read_lines, read_policy
from tests.once import airflow_database
from tests.warm import DAGS, Warm

HISTORY = [
    {
        "batch": "april",
        "at": "2013-05-01T00:00:00Z",
        "quality_passed": True,
        "performance": 0.62,
        "performance_error": 0.0,
        "action": "hold",
    },
    {
        "batch": "may",
        "at": "2013-06-01T00:00:00Z",
        "quality_passed": True,
        "performance": 0.63,
        "performance_error": 0.0,
        "action": "hold",
    },
    {"batch": "june", "at": "2013-07-01T00:00:00Z", "quality_passed": False, "action": "investigate"},
]
PROGRAM = Path(__file__).with_name("governor_dag.py")
POLICY = "target: 0.70\nretrain_cost: 0.03\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("airflow")


def surroundings(home: Path, **environment: str) -> dict[str, str]:
    quiet = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    return {**os.environ, "AIRFLOW_HOME": str(home), "DO_NOT_TRACK": "1", **quiet, **environment}


def run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, *command)
    return subprocess.run(command, env=surroundings(home), capture_output=True, text=True, timeout=240)


def replay_here(*arguments: str) -> None:
    """Run what the real command runs, by the real parser, in this process."""
    from airflow.cli.cli_parser import get_parser

    args = get_parser().parse_args(["pipeops", "replay", *arguments])
    args.func(args)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    policy, history = tmp_path / "policy.yaml", tmp_path / "history.jsonl"
    policy.write_text(POLICY)
    history.write_text("\n".join(json.dumps(line) for line in HISTORY))
    return str(policy), str(history)


def test_a_table_with_reasons_and_totals(home: Path, files: tuple[str, str]) -> None:
    policy, history = files
    ran = run(home, "-m", "airflow", "pipeops", "replay", policy, "--history", history)
    assert ran.returncode == 0, ran.stderr
    text = " ".join(ran.stdout.split())
    assert "may 0.630 retrain hold The metric was more than 0.02 worse" in text
    assert "A retrain is expected to win 0.0375 a batch for 1 batch, worth 0.0375, and costs 0.03." in text
    assert (
        "3 batches: 1 hold, 1 retrain, 1 investigate, 0 rollback; 1 unlike the record. The retrains cost 0.03."
        in text
    )


def test_json_from_standard_input(files: tuple[str, str], monkeypatch, capsys) -> None:
    lines = [json.dumps({"observation": line, "action": "hold"}) for line in HISTORY]
    monkeypatch.setattr("sys.stdin", lines)
    replay_here(files[0], "--history", "-", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["totals"] == {
        "batches": 3, "hold": 1, "retrain": 1, "investigate": 1, "rollback": 0, "differ": 1, "cost": 0.03
    }  # fmt: skip
    assert [step["action"] for step in found["steps"]] == ["hold", "retrain", "investigate"]


WRONG = [
    ({"policy": "nowhere.yaml", "history": "x"}, "nowhere.yaml cannot be read"),
    ({"history": "nowhere.jsonl"}, "nowhere.jsonl cannot be read"),
    ({}, "Give --history FILE or --deliverable NAME"),
    ({"policy": "os:path", "history": "x"}, "policy 'os:path' is a module"),
    ({"history": "{policy}"}, "line 1 of the history cannot be read"),
    ({"deliverable": "Not A Name"}, "not a valid name"),
]


@pytest.mark.parametrize(("given", "text"), WRONG)
def test_each_wrong_argument_is_named(given: dict, text: str, files: tuple[str, str], capsys) -> None:
    given = {name: value.format(policy=files[0]) for name, value in given.items()}
    policy = given.pop("policy", files[0])
    with pytest.raises(SystemExit) as ended:
        replay_here(policy, *(word for name, value in given.items() for word in (f"--{name}", value)))
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert text in told
    assert len(told.strip().splitlines()) == 1


def test_a_misspelt_limit_is_no_limit_and_so_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    for text, told in (('{"cooldown_batch": 3}', "has no cooldown_batch"), ("a: [", "neither JSON nor YAML")):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=told):
            read_policy(str(file))
    with pytest.raises(InvalidInput, match="line 2 of the history"):
        read_lines([json.dumps(HISTORY[0]), json.dumps({**HISTORY[1], "performance": "0.7"})])


@pytest.fixture(scope="module")
def airflow(home: Path) -> Iterator[Warm]:
    """An Airflow with a database, and with the DAG."""
    airflow_database(home)
    (home / "dags").mkdir()
    (home / "dags" / PROGRAM.name).write_text(PROGRAM.read_text())
    made = Warm(surroundings(home, AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags")), DAGS)
    yield made
    made.stop()


def govern(airflow: Warm, mode: str, *metrics: float, **environment: str) -> list[dict]:
    """Run the DAG once for each metric; return what was decided."""
    ran = airflow.run(str(PROGRAM), *map(str, metrics), GOVERNOR_MODE=mode, **environment)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-5000:]
    return json.loads(ran.stdout.splitlines()[-1])


def events(home: Path, mode: str) -> dict[str, int]:
    with sqlite3.connect(home / "airflow.db") as database:
        query = "select a.name, count(*) from asset_event e join asset a on a.id = e.asset_id group by a.name"
        found = dict(database.execute(query).fetchall())
    return {name.rpartition(".")[2]: count for name, count in found.items() if mode in name}


def test_decisions_in_a_dag_and_their_replay(airflow: Warm, home: Path, files: tuple[str, str]) -> None:
    found = govern(airflow, "act", 0.62, 0.63, 0.60)
    assert [item["action"] for item in found] == ["hold", "retrain", "hold"]
    assert [item["rule"] for item in found] == ["evidence", "consequence", "evidence"]
    assert events(home, "act") == {"decision": 2, "retrain": 1}
    command = ("-m", "airflow", "pipeops", "replay", files[0], "--deliverable", "late-flights-act", "--json")
    ran = airflow.run(*command)
    replayed = json.loads(ran.stdout)
    assert replayed["totals"]["batches"] == 3
    assert [step["recorded"] for step in replayed["steps"]] == [item["action"] for item in found]


def test_a_person_is_asked_and_the_kill_switch_holds(airflow: Warm, home: Path) -> None:
    found = govern(airflow, "propose", 0.62, 0.63)
    assert [item["states"]["start"] for item in found] == ["skipped", "success"]
    assert events(home, "propose") == {"decision": 2, "retrain": 1}
    stopped = govern(airflow, "propose", 0.1, AIRFLOW_VAR_RETRAINING_OFF="yes")
    assert (stopped[0]["action"], stopped[0]["rule"]) == ("hold", "kill_switch")
    assert events(home, "propose")["retrain"] == 1
