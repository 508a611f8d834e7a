"""The governor as a task, with real outlet events."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.drift.governor import RetrainPolicy
from airflow_pipeops.drift.operators import RetrainGovernorOperator

MODEL = Deliverable("flight-delay")
POLICY = RetrainPolicy(target=0.70)


def emitted(context: dict, asset) -> Record:
    return Record.from_extra(context["outlet_events"][asset].extra)


def govern(context: dict, **kwargs) -> tuple[RetrainGovernorOperator, dict]:
    operator = RetrainGovernorOperator(task_id="decide", policy=POLICY, deliverable=MODEL, **kwargs)
    return operator, operator.execute(context)


QUALITY = {"passed": True, "batch": "2013-06.parquet"}
DRIFT = {"share": 0.58, "drifted": True, "batch": "2013-06.parquet"}
APRIL = {
    "batch": "2013-04.parquet",
    "at": "2013-05-01T00:00:00+00:00",
    "quality_passed": True,
    "drift_share": 0.6,
    "performance": 0.62,
    "reference_performance": 0.7,
    "action": "hold",
}


def test_a_decision_to_retrain_is_an_event_of_its_own(context: dict) -> None:
    operator, found = govern(
        context, quality=QUALITY, drift=DRIFT, performance={"value": 0.67, "reference": 0.7}, history=[APRIL]
    )
    assert found["action"] == "retrain"
    assert "2013-06.parquet 0.670 against 0.700" in found["reasons"][0]
    assert [asset.name for asset in operator.outlets] == ["flight-delay.retrain"]
    record = emitted(context, MODEL.retrain)
    assert record.kind == "decision"
    assert record.body["observation"]["action"] == "retrain"
    assert record.body["policy"]["max_drop"] == 0.02


def test_hold_is_a_decision_and_starts_nothing(context: dict) -> None:
    operator, found = govern(context, quality=QUALITY, drift=DRIFT, performance=0.70, history=[])
    assert found["action"] == "hold"
    # Airflow sends an event for each outlet of a successful task, so the one that starts training must be gone.
    assert [asset.name for asset in operator.outlets] == ["flight-delay.decision"]
    assert emitted(context, MODEL.decision).id == found["record_id"]


def test_skipped_upstreams_are_no_evidence(context: dict) -> None:
    _, found = govern(
        context, quality={**QUALITY, "passed": False}, drift=None, performance=None, history="[]"
    )
    assert found["action"] == "investigate"
    _, found = govern(context, history=[APRIL])
    assert (found["action"], found["rule"]) == ("hold", "evidence")


def event(record: Record, days: int) -> SimpleNamespace:
    at = datetime(2013, 1, 1, tzinfo=timezone.utc) + timedelta(days=days)
    return SimpleNamespace(extra=record.to_extra(), timestamp=at)


def decision(**changes) -> Record:
    return Record("decision", MODEL.name, {"action": "hold", "observation": {**APRIL, **changes}})


def test_history_comes_from_both_assets_once_for_each_batch(context: dict) -> None:
    foreign = SimpleNamespace(extra={"hello": 1}, timestamp=datetime(2012, 1, 1, tzinfo=timezone.utc))
    context["inlet_events"] = {
        MODEL.decision: [event(decision(), 40), event(decision(performance=0.60), 50), foreign],
        MODEL.retrain: [event(decision(batch="2013-03.parquet", action="retrain"), 10)],
    }
    operator = RetrainGovernorOperator(task_id="decide", deliverable=MODEL)
    assert [(item.batch, item.performance, item.action) for item in operator.past(context)] == [
        ("2013-03.parquet", 0.62, "retrain"),
        ("2013-04.parquet", 0.60, "hold"),
    ]
    assert {asset.name for asset in operator.inlets} == {"flight-delay.decision", "flight-delay.retrain"}


def test_deciding_again_about_a_batch_decides_the_same(context: dict) -> None:
    june = {**APRIL, "batch": "2013-06.parquet", "performance": 0.67, "action": "retrain"}
    _, found = govern(context, quality=QUALITY, performance=0.67, history=[APRIL, june])
    assert found["action"] == "retrain"


@pytest.mark.parametrize("wrong", [{"performance": {"value": "good"}}, {"quality": "yes"}, {"drift": [1]}])
def test_wrong_values_are_refused(wrong: dict, context: dict) -> None:
    with pytest.raises(AirflowFailException, match=f"InvalidInput: {next(iter(wrong))}"):
        govern(context, history=[], **wrong)
