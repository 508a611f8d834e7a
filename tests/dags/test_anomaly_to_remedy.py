"""What is found is answered by a DAG: woken by a record, within the policy that ships, and handed to a person once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_pipeops.delivery.records import Record
from airflow_pipeops.operations.remediation.journal import Journal
from airflow_pipeops.operations.remediation.policy import RemediationPolicy
from airflow_pipeops.provider.examples import example_dags
from tests.once import airflow_database

ROOT = Path(__file__).parents[2]
POLICY = example_dags() / "anomaly_to_remedy.yaml"
BUNDLE = {
    "name": "examples",
    "classpath": "airflow_pipeops.provider.examples.ExampleDagsBundle",
    "kwargs": {},
}


def test_the_policy_that_ships_is_one() -> None:
    policy = RemediationPolicy.of(str(POLICY))
    assert {rule.finding for rule in policy.rules} == {"anomaly", "degraded_release", "failed_run"}
    assert policy.mode == "observe"
    release = next(rule for rule in policy.rules if rule.action == "revert_commit")
    assert release.approval == ("production",)


class Home:
    """Airflow's database, the history, and the policy that ships with times in which a test can wait for a proof."""

    def __init__(self, folder: Path) -> None:
        policy = yaml.safe_load(POLICY.read_text())
        for rule in policy["rules"]:
            rule |= {"patience": 1, "window": 1}
        (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
        (folder / "history").mkdir()
        self.journal = Journal(folder / "history")
        self._environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([BUNDLE]),
            "AIRFLOW__PIPEOPS__EVIDENCE_URI": (folder / "evidence").as_uri(),
            "PIPEOPS_REMEDIATION_POLICY": str(folder / "policy.yaml"),
            "AIRFLOW_CONN_PIPEOPS_REMEDIATION": json.dumps(
                {"conn_type": "pipeops_storage", "host": (folder / "history").as_uri()}
            ),
        }  # fmt: skip
        airflow_database(folder)

    def ran(self, *arguments: str, **more: str) -> str:
        run = subprocess.run(
            [sys.executable, *arguments], env={**self._environment, **more}, capture_output=True, text=True
        )
        assert run.returncode == 0, (run.stdout + run.stderr)[-5000:]
        return run.stdout

    def answered(self, form: dict[str, str], *records: Record, **more: str) -> dict[str, Any]:
        program = str(Path(__file__).with_name("run_dag.py"))
        woken = json.dumps([record.to_extra() for record in records])
        out = self.ran(program, "anomaly_to_remedy", json.dumps(form), woken, **more)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        found["said"] = [one["body"] for one in found["emitted"] if one["kind"] == "remediation"]
        return found


def look(run: str) -> Record:
    """What a look at the runs has recorded."""
    now = datetime.now(timezone.utc).isoformat()
    alarm = {
        "root": "code_to_release",
        "dag": True,
        "kind": "duration",
        "run": run,
        "reason": f"{run} still runs",
    }
    body = {"alarms": [alarm], "count": 1, "until": now}
    return Record(
        "anomaly", "delay-api", body, (), at=now, source={"dag": "look_over", "run": run, "task": "look"}
    )


@pytest.mark.nightly  # four runs of a whole DAG
@pytest.mark.timeout(3600)
def test_an_anomaly_wakes_it_and_is_told_then_acted_on_then_a_persons(tmp_path: Path) -> None:
    home = Home(tmp_path)
    dry = home.answered({}, look("one"))
    tasks = dry["tasks"]
    assert (dry["state"], tasks["delay_api.look"]) == ("success", "skipped")
    assert tasks["delay_api.remediate"] == "success", "what nobody can explain is answered all the same"
    assert tasks["delay_api_staging.remediate"] == tasks["flight_delay.remediate"] == "skipped"
    (said,) = dry["said"]
    assert (said["outcome"], said["action"], said["finding"]["reason"]) == (
        "observe",
        "hold_promotion",
        "one still runs",
    )
    assert tasks["delay_api.verify"] == "skipped"
    assert home.journal.read()[0] == 0, "nothing was begun: it is a dry run until somebody says act"

    form = {"finding": "failed_run", "what": "code_to_release/x", "environment": "staging", "mode": "propose"}
    proposed = home.answered(form)
    assert [one["outcome"] for one in proposed["said"]] == ["propose", "propose"], "nobody has said yes"
    assert home.journal.read()[0] == 0

    done = home.answered({}, look("two"), PIPEOPS_REMEDIATION_MODE="act")
    assert done["state"] == "success"
    first, second = done["said"]
    assert (first["outcome"], first["state"]) == ("act", "acted")
    assert (second["state"], second["called"]) == ("handed_over", 1), "no judge can be asked: nobody can tell"
    assert not second["undone"], "nothing is undone on no knowledge"
    again = home.answered({}, look("three"), PIPEOPS_REMEDIATION_MODE="act")
    assert [(one["outcome"], one["stage"]) for one in again["said"]] == [("refuse", "lock")]
    history = home.journal.read()[1]
    assert (len(history.operations), len(history.calls)) == (1, 1), "one act, one call"
    assert set(history.marks) == {"promotion delay-api@production"}
