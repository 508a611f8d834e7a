"""The drift gate and the governor as tasks, with real files, real Evidently and real outlet events."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.drift.governor import RetrainPolicy
from airflow_pipeops.drift.operators import DataDriftOperator, RetrainGovernorOperator
from airflow_pipeops.exceptions import InvalidInput

MODEL = Deliverable("flight-delay")
POLICY = RetrainPolicy(target=0.70)


@pytest.fixture
def files(tmp_path: Path, monkeypatch, winter: pd.DataFrame, summer: pd.DataFrame) -> dict[str, str]:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    found = {"reference": tmp_path / "winter.parquet", "current": tmp_path / "summer.csv"}
    winter.to_parquet(found["reference"])
    summer.to_csv(found["current"], index=False)
    return {name: path.as_uri() for name, path in found.items()}


def emitted(context: dict, asset) -> Record:
    return Record.from_extra(context["outlet_events"][asset].extra)


def test_a_drifted_batch_is_recorded_with_its_report(files: dict[str, str], context: dict) -> None:
    operator = DataDriftOperator(task_id="drift", **files, deliverable=MODEL)
    found = operator.execute(context)

    assert found["drifted"]
    assert found["share"] >= 0.5
    assert found["rows"]["current"] == 2228
    assert found["batch"] == "summer.csv"
    assert {"column", "score", "threshold", "method", "drifted", "verdict"} <= set(found["columns"][0])
    assert "<html" in ObjectStoragePath(found["report"]).read_text()[:2000].lower()
    record = emitted(context, MODEL.drift)
    assert record.id == found["record_id"]
    assert [item.name for item in record.evidence] == ["drift.html", "drift.json"]
    assert record.body["library"].startswith("evidently 0.7")
    assert len(record.body["reference"]["digest"]) == 64
    link = operator.operator_extra_links[0]
    assert link.get_link(operator, ti_key=None).endswith(
        f"/pipeops/evidence/dag/{record.evidence[0].sha256}/drift.html"
    )
    json.dumps(found, allow_nan=False)


def test_a_gate_refuses_a_drifted_batch(files: dict[str, str], context: dict) -> None:
    operator = DataDriftOperator(task_id="drift", **files, on_drift="fail", deliverable=MODEL)
    with pytest.raises(AirflowFailException, match=r"DriftFound: batch summer.csv drifted: .*temp"):
        operator.execute(context)
    assert len(context["outlet_events"]) == 0


def test_no_deliverable_no_record(files: dict[str, str], context: dict) -> None:
    found = DataDriftOperator(task_id="drift", **files, columns=["hour"]).execute(context)
    assert (found["record_id"], found["drifted"]) == (None, False)


def test_damaged_file_is_one_clear_error(files: dict[str, str], tmp_path: Path, context: dict) -> None:
    whole = (tmp_path / "winter.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    operator = DataDriftOperator(task_id="drift", **{**files, "current": (tmp_path / "cut.parquet").as_uri()})
    with pytest.raises(AirflowFailException, match=r"InvalidInput: .*cut.parquet is damaged"):
        operator.execute(context)


def test_a_thousand_columns_fit_into_a_record(tmp_path: Path, monkeypatch, context: dict) -> None:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    left = pd.DataFrame({"x": [1.0, 2.0] * 50})
    names = [f"column_with_quite_a_long_name_{n}" for n in range(1000)]
    wide = left.join(pd.DataFrame(1, index=left.index, columns=names))
    left.to_parquet(tmp_path / "a.parquet")
    wide.to_parquet(tmp_path / "b.parquet")
    found = DataDriftOperator(
        task_id="drift",
        reference=str(tmp_path / "b.parquet"),
        current=str(tmp_path / "a.parquet"),
        deliverable=MODEL,
    ).execute(context)
    assert len(found["columns"]) == 1001
    assert emitted(context, MODEL.drift).body["columns_drifted"] == 1000


@pytest.mark.parametrize("wrong", [{"on_drift": "shout"}, {"drift_share": 0}])
def test_wrong_arguments_are_refused_at_parse(wrong: dict) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        DataDriftOperator(task_id="drift", reference="a.csv", current="b.csv", **wrong)


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
