"""What is read as a finding, and what the judges of the example say of it afterwards."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.anomalies.runs import Dag, measured
from airflow_pipeops.operations.remediation.decision import decide
from airflow_pipeops.operations.remediation.history import History, Operation
from airflow_pipeops.operations.remediation.judges import application_seen, run_seen, runs_seen
from airflow_pipeops.operations.remediation.policy import RemediationPolicy, Rule
from airflow_pipeops.operations.remediation.recorded import alarmed, found_in, hanging
from airflow_pipeops.operations.remediation.verification import Seen, due

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
BAD = "b" * 40


def record(kind: Any, environment: str | None = None, **body: Any) -> Record:
    return Record(kind, "delays", body, (), environment, at=NOW.isoformat(), source={"dag": "ship"})


@pytest.mark.parametrize(
    ("given", "commit"),
    [
        (record("release", "staging", revision=BAD, health="Degraded"), BAD),
        (record("release", "staging", revision=BAD, health="Healthy"), None),
        (record("incident", "staging", what="pods restart", bad_revision=BAD), BAD),
        (record("incident", "staging", what="pods restart"), ""),
        (record("incident", "staging", what="pods restart", bad_revision=BAD, restored_by="c" * 40), None),
        (record("drift", drifted=True), None),
    ],
)
def test_a_release_that_went_bad_is_found_unless_somebody_has_taken_it_back(
    given: Record, commit: str | None
) -> None:
    found = found_in(given, "production")
    assert [one.target.get("commit", "") for one in found] == ([] if commit is None else [commit])
    for one in found:
        assert (one.kind, one.environment, one.record) == ("degraded_release", "staging", given.id)


ALARM = {
    "root": "load",
    "dag": True,
    "kind": "duration",
    "run": "r1",
    "reason": "load: 6 h, where 10 min is usual",
}


def test_each_alarm_of_a_look_is_a_finding_whoever_tells_it() -> None:
    failing = {**ALARM, "kind": "failure", "run": "r2"}
    looked = {"alarms": [ALARM, failing], "until": NOW.isoformat()}
    slow, failed = found_in(record("anomaly", **looked), "production")
    assert (slow.kind, slow.target) == ("anomaly", {"dag": "load", "run": "r1", "series": "duration"})
    assert (failed.kind, failed.target["run"]) == ("failed_run", "r2")
    assert slow.key == alarmed(looked, "delays", "production", "")[0].key, (
        "its record and its result say the same"
    )
    with pytest.raises(InvalidInput, match="is no time"):
        alarmed({"alarms": [ALARM]}, "delays", "production", "")


def test_what_was_delivered_is_no_dag_though_it_has_the_name_of_one() -> None:
    """A rule that pauses the DAG of a finding has nothing to pause: none of its runs was looked at."""
    alarm = {
        "root": "load",
        "dag": False,
        "kind": "wait",
        "variant": "production",
        "reason": "it waited for 2 h",
    }
    (found,) = found_in(record("anomaly", alarms=[alarm], until=NOW.isoformat()), "production")
    assert found.target == {"subject": "load", "series": "wait", "variant": "production"}
    rule = Rule("pause", "anomaly", "pause_dag", modes={"production": "act"})
    order = decide(found, RemediationPolicy(mode="act", rules=(rule,)), History(), NOW)
    assert (order.outcome, order.stage) == ("refuse", "precondition"), order


def test_what_a_watcher_tells_of_other_dags_is_left_out() -> None:
    told = {
        "subject": "load",
        "dag": True,
        "finding": "too slow",
        "kind": "duration",
        "run": "r1",
        "reason": "it hangs",
    }
    signals = [told, {**told, "subject": "other"}, {"uri": "s3://x"}, {"subject": "load", "missing": {}}]
    (found,) = hanging(signals, ["load"], "delays", "production", NOW.isoformat())
    assert (found.reason, found.target["run"]) == ("it hangs", "r1")


@pytest.mark.parametrize(
    ("state", "sight"),
    [("success", "clear"), ("failed", "still"), ("running", "cannot tell"), (None, "cannot tell")],
)
def test_a_run_that_was_cleared_is_well_once_it_has_succeeded(state: str | None, sight: str) -> None:
    assert run_seen("r1", {"dag_run_id": "r1", "state": state}).sight == sight
    assert run_seen("gone", None).sight == "cannot tell"


def runs(*minutes: float, still: float | None = None) -> list[dict[str, Any]]:
    """Sixty hourly runs of ten minutes, then these; and one that still runs."""
    rng = random.Random(3)
    took = [10 * rng.lognormvariate(0, 0.05) for _ in range(60)] + list(minutes)
    made = []
    for number, length in enumerate([*took, *([] if still is None else [still])]):
        start = NOW + timedelta(hours=number - 60)
        ends = number < len(took)
        made.append(
            {
                "dag_run_id": f"r{number}", "state": "success" if ends else "running", "run_type": "scheduled",
                "start_date": start.isoformat(),
                "end_date": (start + timedelta(minutes=length)).isoformat() if ends else None,
            }
        )  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("after", "still", "sight"),
    [
        ([], None, "cannot tell"),
        ([300.0], None, "still"),
        ([300.0, 10.0], None, "clear"),
        ([10.0, 300.0], None, "still"),
        ([10.0], 300.0, "still"),
        ([], 1.0, "cannot tell"),
    ],
)
def test_the_judge_of_anomalies_is_asked_about_what_came_since(
    after: list[float], still: float | None, sight: str
) -> None:
    given = runs(*after, still=still)
    now = NOW + timedelta(hours=len(after), minutes=still or 0)
    values = measured(Dag("load"), given, now.timestamp())
    assert runs_seen(values, "duration", NOW.timestamp()).sight == sight


def test_a_run_that_a_person_starts_clears_none_of_those_that_come_by_themselves() -> None:
    begun = runs(*[10.0] * 5)
    by_hand = [{**run, "dag_run_id": f"by-hand-{run['dag_run_id']}", "run_type": "manual"} for run in begun]
    slow = runs(300.0)
    now = (NOW + timedelta(hours=6)).timestamp()
    values = measured(Dag("load"), [*slow, *by_hand], now)
    assert runs_seen(values, "duration", NOW.timestamp()).sight == "still"
    assert runs_seen(values, "duration", NOW.timestamp(), variant="manual").sight == "clear"
    alarm = {**ALARM, "variant": "manual"}
    (found,) = alarmed({"alarms": [alarm], "until": NOW.isoformat()}, "delays", "production", "")
    assert found.target["variant"] == "manual"


@pytest.mark.parametrize(
    ("health", "sync", "sight"),
    [
        ("Healthy", "Synced", "clear"),
        ("Healthy", "OutOfSync", "cannot tell"),
        ("Progressing", "Synced", "still"),
        ("Degraded", "Synced", "still"),
        ("Missing", "OutOfSync", "still"),
        ("Unknown", "Unknown", "cannot tell"),
        ("Suspended", "Synced", "cannot tell"),
    ],
)
def test_a_release_is_well_if_it_is_what_git_wants_and_healthy(health: str, sync: str, sight: str) -> None:
    assert application_seen(health, sync).sight == sight
    assert Seen.of(application_seen(health, sync).to_json()).sight == sight


def test_the_last_look_is_made_when_the_proof_is_due() -> None:
    at = NOW.isoformat()
    done = Operation("1", "r", "notify", "a", "b", at, "acted", at, acted=at, patience=1800, window=900)
    assert due(done) == NOW + timedelta(minutes=45)
    assert due(done.set("acted", NOW, "", clear_since=at)) == NOW + timedelta(minutes=15)
