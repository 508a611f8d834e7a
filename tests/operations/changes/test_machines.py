"""What machines did as a cause, and what they noticed as an incident: with records as their operators emit them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.operations.anomalies.look import look as looked
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.anomalies.runs import Values
from airflow_pipeops.operations.anomalies.series import Name, Point
from airflow_pipeops.operations.changes.gathering import why
from airflow_pipeops.operations.changes.suspects import Explanation
from airflow_pipeops.operations.remediation.operators import RemediateOperator, VerifyRemediationOperator
from airflow_pipeops.operations.tuning.decision import recorded
from airflow_pipeops.operations.tuning.knob import Knob
from airflow_pipeops.operations.tuning.steps import Step
from tests.ledgers import START, at, entries, indexed, record
from tests.operations.changes.test_gathering import Ledger, incident, ledger, shipped, told
from tests.operations.test_knobs import KNOB, asked, outcomes

__all__ = ["ledger"]
DAY = 24 * 60.0
API = Deliverable("delay-api", environments=("staging", "production"))


def tuned(day: float, step: Step, knob: Knob = KNOB) -> Record:
    """A look of the tuner at a day, with this decision."""
    return record("tuning", recorded([(replace(knob, value=step.value), step)]), minutes=DAY * day)


def step(value: float, to: float, action: str = "move", mode: str = "apply") -> Step:
    """A step as the tuner decides it, with other values."""
    made = asked(KNOB, outcomes((40, 0.18)), 30)
    return replace(made, value=value, to=to, action=action, mode=mode)  # type: ignore[arg-type]


def worse(day: float) -> Record:
    body = {"subject": "performance", "metric": "auc", "value": 0.6, "worse": True}
    return record("evaluation", body, minutes=DAY * day)


def kinds(found: Explanation) -> list[str]:
    return [kind for kind, _ in told(found)]


def test_a_moved_knob_is_a_suspect(ledger: Ledger) -> None:
    looks = [
        tuned(9, step(0.02, 0.02, "hold")),
        tuned(9.5, step(0.02, 0.025)),
        tuned(10, step(0.025, 0.025, "hold")),
    ]
    found = why(ledger([*shipped("old", 0), *looks, worse(10)]), worse(10).id)
    first = found.suspects[0].candidate
    assert (first.kind, first.what, first.before) == ("tuning", "max_drop: 0.025, 0.02 before", "0.02")
    assert (first.id, first.at, first.size) == (looks[1].id, at(9.5 * DAY), pytest.approx(0.25))
    assert kinds(found) == ["tuning", "code"]
    assert "the value that was there before" in found.suspects[0].check.what


@pytest.mark.parametrize(
    ("looks", "suspected"),
    [
        ([tuned(9, step(0.02, 0.025, mode="shadow"))], False),
        ([tuned(9, step(0.02, 0.025, mode="propose"))], False),  # nobody was seen to merge it
        ([tuned(9, step(0.02, 0.025, mode="propose")), tuned(9.5, step(0.025, 0.025, "hold"))], True),
        ([tuned(9, step(0.02, 0.025)), tuned(9.5, step(0.02, 0.02, "hold"))], False),  # the commit never came
        ([tuned(9, step(0.02, 0.025))], True),
    ],
)
def test_only_what_took_effect_is_suspected(ledger: Ledger, looks: list[Record], suspected: bool) -> None:
    found = why(ledger([*shipped("old", 0), *looks, worse(10)]), worse(10).id)
    assert ("tuning" in kinds(found)) is suspected


def test_a_step_that_was_taken_back_is_cleared_and_remembered(ledger: Ledger) -> None:
    looks = [
        tuned(5, step(0.02, 0.025)),
        tuned(6, step(0.025, 0.02, "revert")),
        tuned(9.5, step(0.02, 0.025)),
    ]
    found = why(ledger([*shipped("old", 0), *looks, worse(10)]), worse(10).id)
    again = found.suspects[0].candidate
    assert (again.id, again.same, again.taken_back) == (looks[2].id, 2, 1)
    cleared = {one.id: one.reason for one in found.excluded}
    assert "taken back" in cleared[looks[0].id]


def test_a_step_and_its_commit_are_one_change(ledger: Ledger) -> None:
    look = tuned(9.5, step(0.02, 0.025))
    commit = record(
        "change", {"commit": "c" * 40, "changed": True, "file": "tuning.yaml", "set": {"knobs[name=max_drop].value": 0.025}},
        look, environment="production", minutes=9.5 * DAY + 1,
    )  # fmt: skip
    found = why(ledger([*shipped("old", 0), look, commit, worse(10)]), worse(10).id)
    assert told(found)[0] == ("tuning", "knobs[name=max_drop].value=0.025")
    assert kinds(found).count("tuning") == 1


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "journal").mkdir()
    connection = {"conn_type": "pipeops_storage", "host": (tmp_path / "journal").as_uri()}
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_REMEDIATION", json.dumps(connection))
    return tmp_path


POLICY = {
    "mode": "act",
    "rules": [
        {"name": "out", "finding": "failed_gate", "action": "quarantine_batch", "patience": 0.001, "window": 0.001},
        {"name": "page", "finding": "late_labels", "action": "notify"},
    ],
}  # fmt: skip


def answered(context: Any, kind: str, before: timedelta = timedelta(0)) -> tuple[Record, dict[str, Any]]:
    """What the operator records when it answers a finding now."""
    finding = {
        "kind": kind, "at": (datetime.now(timezone.utc) - before).isoformat(), "target": {"batch": "march"},
        "reason": "half of the rows have no fare",
    }  # fmt: skip
    operator = RemediateOperator(
        task_id="remediate", deliverable=API, environment="production", finding=finding, policy=POLICY
    )
    context["inlet_events"] = dict.fromkeys(operator._read(), ())
    returned = operator.execute(context)
    ((_, emitted),) = operator.emitted
    return emitted, returned


def minutes(hours: float) -> float:
    """So many hours from now, as the ledger of tests counts."""
    return (datetime.now(timezone.utc) - START).total_seconds() / 60 + 60 * hours


def test_an_act_of_a_remediation_is_a_suspect_until_it_is_undone(
    journal: Path, context: Any, ledger: Ledger
) -> None:
    act, returned = answered(context, "failed_gate")
    assert returned["state"] == "acted"
    broke = incident(
        minutes(0.2), body={"what": "the run failed", "onset": [at(minutes(-1)), at(minutes(0.2))]}
    )
    with_old = [*shipped("old", minutes(-240)), act, broke]
    found = why(ledger(with_old), broke.id)
    assert told(found)[0] == ("remediation", "quarantine_batch of batch march")
    assert found.suspects[0].candidate.id == act.id
    # It did not help, and the verification took it back: an incident long after that is none of its doing.
    proof = VerifyRemediationOperator(
        task_id="verify", remediation=returned, judge=lambda finding: "worse", policy=POLICY, deliverable=API,
        environment="production", interval=timedelta(seconds=1),
    )  # fmt: skip
    proof.execute(context)
    ((_, ended),) = proof.emitted
    assert ended.body["undone"]
    later = incident(minutes(5), body={"what": "the run failed", "onset": [at(minutes(4)), at(minutes(5))]})
    index = indexed(journal / "later.db", entries([*with_old, ended, later]))
    again = why(index, later.id)
    assert "remediation" not in kinds(again)
    assert act.id in {one.id for one in again.excluded}
    # One may ask by the remediation, too: why was it needed?
    assert why(index, act.id).symptom.what == "half of the rows have no fare"


def test_what_only_called_a_person_changed_nothing(journal: Path, context: Any, ledger: Ledger) -> None:
    call, _ = answered(context, "late_labels")
    broke = incident(minutes(0.2))
    assert kinds(why(ledger([*shipped("old", minutes(-240)), call, broke]), broke.id)) == ["code"]


def anomaly(values: Callable[[int], float], kind: str, count: int, minutes: float) -> Record:
    """What a look at a run of every hour records, of which the last values are unusual."""
    seconds = START.timestamp() + 60 * minutes
    points = [Point(seconds - 3600 * (count - n), values(n), run=f"r{n}") for n in range(count)]
    found = looked(
        Values(tuple((Name("delays", kind, "", "team"), point) for point in points)),
        AnomalyPolicy(), points[-20].at, seconds, {},
    )  # fmt: skip
    assert found.alarms
    return record("anomaly", json.loads(json.dumps(found.facts(AnomalyPolicy()))), minutes=minutes)


def test_an_anomaly_is_an_incident_with_its_onset(ledger: Ledger) -> None:
    """Runs of ten minutes take an hour since a commit."""
    draw, seen = random.Random(1), 10 * DAY + 30
    slow = anomaly(lambda n: 600 + draw.gauss(0, 20) + (3000 if n > 230 else 0), "duration", 240, seen)
    new = shipped("new", seen - 60 * 9.7, "production")
    after = shipped("after", seen - 20, "production")
    found = why(ledger([*shipped("old", 0), *new, *after, slow]), slow.id)
    asked = found.symptom
    assert (asked.kind, asked.record, asked.deliverable) == ("degraded", slow.id, "delay-api")
    assert "delays" in asked.what
    alarm = slow.body["alarms"][0]
    assert asked.start <= alarm["at"][:19] <= asked.end < slow.at
    assert told(found)[0] == ("code", "new")
    assert "after" not in [what for _, what in told(found)]


def test_rows_that_are_too_few_show_as_data_and_no_alarm_is_no_incident(ledger: Ledger) -> None:
    draw = random.Random(2)
    few = anomaly(lambda n: 10.0 if n == 239 else 1000 + draw.gauss(0, 20), "rows", 240, 10 * DAY)
    quiet = record("anomaly", {"alarms": [], "count": 0, "looked": 9, "cannot_tell": 0}, minutes=10 * DAY + 5)
    index = ledger([*shipped("old", 0), few, quiet])
    assert why(index, few.id).symptom.kind == "data"
    assert why(index, "delay-api").symptom.record == few.id
    with pytest.raises(InvalidInput, match="says of nothing that it went wrong"):
        why(index, quiet.id)


@pytest.mark.parametrize(
    "alarm", [{}, {"kind": 7}, {"kind": "duration", "at": "soon", "seen": "x"}, {"at": at(5), "onset": ["never"]},
              {"kind": "interval", "at": at(5), "seen": 1e300}],
)  # fmt: skip
def test_an_alarm_that_says_little_is_still_an_incident(ledger: Ledger, alarm: dict[str, Any]) -> None:
    odd = record("anomaly", {"alarms": [alarm], "count": 1}, minutes=10 * DAY)
    assert why(ledger([*shipped("old", 0), odd]), odd.id).symptom.end <= odd.at


def test_whatever_a_person_would_try(ledger: Ledger) -> None:
    broke = incident(10_100)
    bad = shipped("new", 10_000, "production")
    seen = incident(10_200, bad[-1], body={"what": "the run failed"})
    explained = record("explanation", {"outcome": "likely", "symptom": {}}, broke, minutes=10_150)
    index = ledger([*shipped("old", 0), *bad, broke, explained, seen])
    assert why(index, "run").symptom.record == seen.id  # the id of a run alone
    assert why(index, " dag/run ").symptom.record == seen.id
    assert why(index, "delay-api").symptom.record == seen.id
    assert (
        why(index, bad[0].id).symptom.record == seen.id
    )  # a commit: what went wrong with what was made of it
    assert why(index, f"delay-api@production@{at(10_110)}").symptom.record == broke.id
    for ref, error, said in (
        (
            "delay-api@prod",
            NotFound,
            "nothing of delay-api is recorded in prod; it is in production, staging",
        ),
        ("delay-ap@production", NotFound, "nothing of delay-ap is live in production"),
        ("delay-api@production@2999-01-01", InvalidInput, "is still to come"),
        ("delay-api@production@yesterday", InvalidInput, "no date and no time"),
        ("nightly/scheduled__2026-03-01T00:00:00+00:00", NotFound, "the DAG nightly has recorded nothing"),
        ("scheduled__2026-03-01T00:00:00+00:00", InvalidInput, "no deliverable, and no run"),
    ):
        with pytest.raises(error, match=said):
            why(index, ref)
    with pytest.raises(InvalidInput):
        why(index, "run", allowed=["another"])


# Go writes the first of them where nobody knows.
@pytest.mark.parametrize("first", ["0001-01-01T00:00:00Z", "0001-01-05"])
def test_there_is_nothing_before_the_first_of_all_times(ledger: Ledger, first: str) -> None:
    broke = incident(10_100, body={"onset": [first, at(10_100)]})
    index = ledger([*shipped("old", 0), *shipped("new", 10_000, "production"), broke])
    assert why(index, broke.id).symptom.record == broke.id
    assert why(index, f"delay-api@production@{first}").symptom.what == "something was wrong at that time"


def test_a_run_of_several_dags_is_not_guessed(ledger: Ledger) -> None:
    other = replace(incident(10_000), source={"dag": "other", "run": "run", "task": "t", "map_index": -1})
    index = ledger([*shipped("old", 0), other])
    with pytest.raises(InvalidInput, match="several DAGs have a run run: dag, other"):
        why(index, "run")
    assert why(index, "other/run").symptom.record == other.id


def test_an_explanation_is_asked_about_again(ledger: Ledger, tmp_path: Path) -> None:
    broke = incident(10_100)
    old = [*shipped("old", 0), *shipped("new", 10_000, "production")]
    first = why(ledger([*old, broke]), broke.id)
    told_then = record(
        "explanation", {"outcome": "likely", "symptom": first.symptom.to_json()}, broke, minutes=10_150
    )
    of_a_run = record(
        "explanation", {"outcome": "likely", "symptom": {**first.symptom.to_json(), "record": "", "what": "the run failed"}},
        minutes=10_160,
    )  # fmt: skip
    index = indexed(tmp_path / "again.db", entries([*old, broke, told_then, of_a_run]))
    assert why(index, told_then.id).symptom == first.symptom
    assert why(index, of_a_run.id).symptom.what == "the run failed"


def probe(day: float, drifted: bool | None, model: str = "gpt", verdict: str = "") -> Record:
    """What ProviderDriftOperator records."""
    body = {"subject": "provider", "batch": model, "drifted": drifted, "verdict": verdict or "changed"}
    return record("drift", {**body, "reason": "9 of 20 probes"}, minutes=DAY * day)


def test_a_model_behind_an_endpoint_that_changed_is_a_suspect(ledger: Ledger) -> None:
    probes = [probe(1, None, verdict="pinned"), probe(5, False), probe(8, True), probe(9, True)]
    ill = worse(9.4)
    found = why(ledger([*probes, probe(8.5, False, "other"), ill]), ill.id)
    assert told(found) == [("provider", "gpt behind the endpoint answers otherwise: 9 of 20 probes")], (
        "once, when it was first found"
    )
    assert found.suspects[0].candidate.id == probes[2].id
    assert "provider" in found.suspects[0].check.what


@pytest.mark.parametrize(
    ("probes", "count"),
    [
        (
            [
                probe(1, None, verdict="pinned"),
                probe(8, True),
                probe(9.1, None, verdict="pinned"),
                probe(9.2, True),
            ],
            2,
        ),
        ([probe(1, True), probe(8, False), probe(9, True)], 2),
        ([probe(8, True), probe(9, None, verdict="cannot tell"), probe(9.1, True)], 1),
        ([probe(8, False), probe(8.5, None, verdict="cannot tell")], 0),
    ],
)
def test_each_change_of_a_model_behind_an_endpoint_counts_once(
    ledger: Ledger, probes: list[Record], count: int
) -> None:
    ill = worse(9.4)
    assert kinds(why(ledger([*probes, ill]), ill.id)) == ["provider"] * count


def ran(day: float, task: str = "train", dag: str = "dag", **versions: str) -> Record:
    """A record of a task that these versions ran."""
    made = record("workflow", {"name": f"{task} {day}"}, minutes=DAY * day, task=task)
    return replace(made, source={**made.source, "dag": dag, **versions})


def test_what_ran_a_task_otherwise_than_before_is_a_suspect(ledger: Ledger) -> None:
    old = {"airflow": "3.2.0", "packages": "aa", "dag_version": "v1"}
    new = {"airflow": "3.3.0", "packages": "bb", "dag_version": "v1"}
    runs = [ran(1, **old), ran(2, **old), ran(8, **new), ran(8.1, "score", **new), ran(9, **new)]
    others = [ran(2, "score", **old), ran(2, dag="other", **old), ran(8.5, dag="other", **new)]
    ill = worse(9.4)
    found = why(ledger([*runs, *others, ill]), ill.id)
    (suspect,) = found.suspects
    assert told(found) == [("library", "other software runs dag: Airflow 3.3.0, packages bb")]
    assert suspect.candidate.at == at(DAY * 8)
    assert suspect.check.what.endswith("It was: Airflow 3.2.0, packages aa.")


def test_other_code_of_a_dag_is_a_suspect(ledger: Ledger) -> None:
    old, ill = {"airflow": "3.2.0", "dag_version": "v1"}, worse(9.4)
    moved = [ran(1, **old), ran(8, **{**old, "dag_version": "v2", "bundle_version": "c0ffee"})]
    assert told(why(ledger([*moved, ill]), ill.id)) == [("code", "other code of the DAG dag: version v2")]


def test_what_went_wrong_may_be_the_first_that_was_run_otherwise(ledger: Ledger) -> None:
    well = record("evaluation", {"metric": "auc", "worse": False, "value": 0.8}, minutes=DAY * 8)
    ill = worse(9)
    before, after = (
        replace(one, source={**one.source, "airflow": said})
        for one, said in ((well, "3.2.0"), (ill, "3.3.0"))
    )
    found = why(ledger([before, after]), after.id)
    assert told(found) == [("library", "other software runs dag: Airflow 3.3.0")]
    assert found.suspects[0].candidate.id == before.id


def test_records_that_do_not_say_what_ran_them_tell_nothing(ledger: Ledger) -> None:
    ill = worse(9)
    assert (
        why(ledger([ran(1), ran(2, airflow="3.3.0"), ran(3), ran(4, airflow="3.3.0"), ill]), ill.id).suspects
        == ()
    )
