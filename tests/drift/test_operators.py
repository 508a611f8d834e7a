"""The operators that compare: real files, a real database's hook where one is named, real Evidently, real outlet events."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import Asset, ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped
from sklearn.metrics import f1_score

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.drift.operators import (
    DataDriftOperator,
    DriftProfileOperator,
    PredictionDriftOperator,
    TextDriftOperator,
)
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.operators.performance import ModelPerformanceOperator
from tests.drift.test_text import FINANCE, WEATHER, sentences

MODEL = Deliverable("flight-delay")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    return tmp_path


@pytest.fixture
def files(folder: Path, winter: pd.DataFrame, summer: pd.DataFrame) -> dict[str, str]:
    found = {"reference": folder / "winter.parquet", "current": folder / "summer.csv"}
    winter.to_parquet(found["reference"])
    summer.to_csv(found["current"], index=False)
    return {name: path.as_uri() for name, path in found.items()}


def emitted(context: dict, asset: Asset) -> Record:
    return Record.from_extra(context["outlet_events"][asset].extra)


def test_a_drifted_batch_is_recorded_with_its_report(files: dict[str, str], context: dict) -> None:
    operator = DataDriftOperator(task_id="drift", **files, deliverable=MODEL)
    found = operator.execute(context)
    assert (found["verdict"], found["drifted"]) == ("drift", True)
    assert found["share"] >= 0.5
    assert found["rows"]["current"] == 2228
    assert found["batch"] == "summer.csv"
    assert {"column", "score", "threshold", "method", "drifted", "verdict", "p_value"} <= set(
        found["columns"][0]
    )
    page = ObjectStoragePath(found["report"]).read_text()
    assert "batch summer.csv drifted" in page
    record = emitted(context, MODEL.drift)
    assert record.id == found["record_id"]
    assert [item.name for item in record.evidence] == ["drift.html", "drift.json"]
    assert len(record.body["reference"]["data_digest"]) == 64
    assert all(column["noise"] is None or column["noise"] >= 0 for column in record.body["columns"])
    whole = json.loads(ObjectStoragePath(record.evidence[1].uri).read_text())
    assert whole["columns"][0]["dimensions"]
    assert (
        operator.operator_extra_links[0]
        .get_link(operator, ti_key=None)
        .endswith(f"/pipeops/evidence/dag/{record.evidence[0].sha256}/drift.html")
    )
    json.dumps(found, allow_nan=False)


def test_evidently_compatible_numbers_are_evidentlys(
    files: dict[str, str], winter: pd.DataFrame, summer: pd.DataFrame, context: dict
) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    operator = DataDriftOperator(task_id="drift", **files, mode="evidently-compatible", report=False)
    found = operator.execute(context)
    numerical = [name for name in winter.columns if name != "origin"]
    definition = DataDefinition(numerical_columns=numerical, categorical_columns=["origin"])
    current, reference = (Dataset.from_pandas(side, data_definition=definition) for side in (summer, winter))
    metrics = Report([DataDriftPreset()]).run(current, reference).dict()["metrics"]
    theirs = {metric["config"]["column"]: metric["value"] for metric in metrics[1:]}
    ours = {item["column"]: item["score"] for item in found["columns"]}
    assert ours == pytest.approx(theirs, rel=1e-7)
    assert found["share"] == pytest.approx(metrics[0]["value"]["share"])


def test_a_gate_refuses_a_drifted_batch(files: dict[str, str], context: dict) -> None:
    operator = DataDriftOperator(task_id="drift", **files, on_drift="fail", report=False, deliverable=MODEL)
    with pytest.raises(AirflowFailException, match=r"DriftFound: batch summer.csv drifted: .*temp"):
        operator.execute(context)
    assert len(context["outlet_events"]) == 0


def test_a_gate_refuses_a_batch_of_which_nobody_can_tell(files: dict[str, str], context: dict) -> None:
    operator = DataDriftOperator(
        task_id="drift", **files, on_drift="fail", min_rows=10**9, report=False, deliverable=MODEL
    )
    with pytest.raises(AirflowFailException, match=r"DriftFound: batch summer.csv is undecided"):
        operator.execute(context)
    assert len(context["outlet_events"]) == 0


def test_a_branch_takes_the_side_of_the_verdict(files: dict[str, str], context: dict) -> None:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    with DAG("branches"):
        drift = DataDriftOperator(
            task_id="drift",
            **files,
            on_drift="branch",
            if_drift=["investigate"],
            if_no_drift=["go_on"],
            report=False,
            deliverable=MODEL,
        )
        drift >> [EmptyOperator(task_id="investigate"), EmptyOperator(task_id="go_on")]
    context["ti"].task = drift
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        drift.execute(context)
    assert [task[0] if isinstance(task, tuple) else task for task in skipped.value.tasks] == ["go_on"]
    assert context["ti"].xcoms["return_value"]["drifted"] is True
    assert context["ti"].xcoms["drifted"] is True
    assert emitted(context, MODEL.drift).body["drifted"] is True


def test_a_profile_stands_in_for_a_reference_that_is_gone(
    files: dict[str, str], folder: Path, context: dict
) -> None:
    direct = DataDriftOperator(task_id="drift", **files, report=False).execute(context)
    made = DriftProfileOperator(
        task_id="profile", source=files["reference"], model_version="7", deliverable=MODEL
    ).execute(context)
    assert emitted(context, MODEL.data).body["model_version"] == "7"
    (folder / "winter.parquet").unlink()
    operator = DataDriftOperator(
        task_id="drift", reference={"profile": made["profile"]}, current=files["current"], deliverable=MODEL
    )
    found = operator.execute(context)
    assert found["report"] == ""
    assert found["reference"]["digest"] == made["digest"]
    assert found["reference"]["model_version"] == "7"
    assert [(item["column"], item["score"]) for item in found["columns"]] == [
        (item["column"], item["score"]) for item in direct["columns"]
    ]


def test_an_asset_names_a_side(files: dict[str, str], context: dict) -> None:
    found = DataDriftOperator(
        task_id="drift", reference=Asset(files["reference"]), current=files["current"], report=False
    ).execute(context)
    assert found["drifted"]


def test_damaged_file_is_one_clear_error(files: dict[str, str], folder: Path, context: dict) -> None:
    whole = (folder / "winter.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    operator = DataDriftOperator(
        task_id="drift", **{**files, "current": (folder / "cut.parquet").as_uri()}, deliverable=MODEL
    )
    with pytest.raises(AirflowFailException, match=r"InvalidInput: .*cut.parquet is damaged"):
        operator.execute(context)
    assert len(context["outlet_events"]) == 0
    assert not (folder / "evidence").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "none of its kinds"),
        ({"table": "t", "query": "SELECT 1"}, "table and query"),
        ({"table": "t", "password": "x"}, "the unknown password"),
        ({"profile": "/nowhere/p.npz"}, "profile"),
        ([], "names no data"),
        (7, "names no data"),
    ],
)
def test_a_side_of_no_known_form_is_named(files: dict, given: object, message: str, context: dict) -> None:
    operator = DataDriftOperator(task_id="drift", reference=given, current=files["current"])
    with pytest.raises(AirflowFailException, match=message):
        operator.execute(context)


def test_a_thousand_columns_fit_into_a_record(folder: Path, context: dict) -> None:
    left = pd.DataFrame({"x": [1.0, 2.0] * 100})
    names = [f"column_with_quite_a_long_name_{n}" for n in range(1000)]
    wide = left.join(pd.DataFrame(1, index=left.index, columns=names))
    left.to_parquet(folder / "a.parquet")
    wide.to_parquet(folder / "b.parquet")
    found = DataDriftOperator(
        task_id="drift",
        reference=str(folder / "b.parquet"),
        current=str(folder / "a.parquet"),
        report=False,
        deliverable=MODEL,
    ).execute(context)
    assert found["columns_total"] == 1001
    assert len(found["columns"]) == 200
    assert emitted(context, MODEL.drift).body["columns_drifted"] == 1000


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"on_drift": "shout"}, "on_drift"),
        ({"on_drift": "branch"}, "on_drift"),
        ({"if_drift": ["x"]}, "on_drift"),
        ({"drift_share": 0}, "drift_share"),
        ({"method": "magic"}, "method"),
        ({"thresholds": {"x": -1}}, "threshold of x"),
        ({"engine": "abacus"}, "engine"),
    ],
)
def test_wrong_arguments_are_refused_at_parse(wrong: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        DataDriftOperator(task_id="drift", reference="a.csv", current="b.csv", **wrong)
    assert caught.value.field == field


def test_a_threshold_for_an_unknown_column_is_refused(files: dict[str, str], context: dict) -> None:
    operator = DataDriftOperator(task_id="drift", **files, thresholds={"tempp": 0.2})
    with pytest.raises(AirflowFailException, match="'tempp', which neither side has"):
        operator.execute(context)


def test_only_the_predictions_are_compared(folder: Path, context: dict) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"score": random.beta(2, 5, 3000), "x": random.normal(0, 1, 3000)})
    rows.to_parquet(folder / "before.parquet")
    rows.assign(score=random.beta(4, 3, 3000), x=rows.x + 5).to_parquet(folder / "after.parquet")
    found = PredictionDriftOperator(
        task_id="drift",
        reference=str(folder / "before.parquet"),
        current=str(folder / "after.parquet"),
        predictions="score",
        report=False,
        deliverable=MODEL,
    ).execute(context)
    assert found["drifted"]
    assert [item["column"] for item in found["columns"]] == ["score"]
    assert emitted(context, MODEL.drift).body["subject"] == "predictions"


def test_texts_are_compared_and_never_told(folder: Path, context: dict) -> None:
    pd.DataFrame({"prompt": sentences(WEATHER, 400, 1)}).to_parquet(folder / "before.parquet")
    pd.DataFrame({"prompt": [f"{text}!" for text in sentences(FINANCE, 400, 2)]}).to_parquet(
        folder / "after.parquet"
    )
    found = TextDriftOperator(
        task_id="drift",
        reference=str(folder / "before.parquet"),
        current=str(folder / "after.parquet"),
        text="prompt",
        descriptors=["length", "words", "sentiment"],
        report=False,
        deliverable=MODEL,
    ).execute(context)
    assert found["embedding"]["p_value"] < 0.01
    assert {item["column"] for item in found["columns"]} == {"length", "words", "sentiment"}
    record = emitted(context, MODEL.drift)
    told = json.dumps([found, record.body, ObjectStoragePath(record.evidence[0].uri).read_text()])
    assert "thunder" not in told
    assert "equity" not in told


@pytest.fixture
def scored(folder: Path) -> dict[str, str]:
    random = np.random.default_rng(0)
    score = random.random(2000)
    rows = pd.DataFrame(
        {"id": range(2000), "score": score, "late": (random.random(2000) < score).astype(int)}
    )
    rows[["id", "score"]].to_parquet(folder / "predictions.parquet")
    rows.sample(1500, random_state=1)[["id", "late"]].to_csv(folder / "labels.csv", index=False)
    return {
        "predictions": str(folder / "predictions.parquet"),
        "labels": str(folder / "labels.csv"),
        "key": "id",
        "prediction_column": "score",
        "label_column": "late",
    }


def test_late_labels_are_joined_and_the_metric_has_an_interval(scored: dict, context: dict) -> None:
    operator = ModelPerformanceOperator(task_id="performance", **scored, reference="0.80", deliverable=MODEL)
    found = operator.execute(context)
    assert found["counts"]["coverage"] == 0.75
    assert found["low"] < found["value"] < found["high"]
    assert found["value"] == pytest.approx(5 / 6, abs=0.03)
    assert (found["verdict"], found["worse"], found["estimated"]) == ("steady", False, False)
    assert emitted(context, MODEL.asset("evaluation")).body["counts"]["unlabelled"] == 500


def test_a_loss_beyond_chance_fails_the_gate(scored: dict, context: dict) -> None:
    operator = ModelPerformanceOperator(task_id="performance", **scored, reference=0.95, on_worse="fail")
    with pytest.raises(AirflowFailException, match=r"PerformanceDropped: roc_auc of predictions.parquet is"):
        operator.execute(context)


def test_too_few_labels_are_said(scored: dict, context: dict) -> None:
    found = ModelPerformanceOperator(
        task_id="performance",
        **scored,
        reference=0.95,
        min_coverage=0.9,
        on_worse="fail",
        on_unknown="accept",
    ).execute(context)
    assert (found["verdict"], found["value"], found["worse"]) == ("too few labels", None, False)


@pytest.mark.parametrize(
    ("unknown", "why"),
    [({"reference": 0.5, "min_coverage": 0.9}, "too few labels"), ({"reference": None}, "no reference")],
)
def test_a_gate_stays_shut_where_nobody_can_tell(
    scored: dict, context: dict, unknown: dict, why: str
) -> None:
    gate = ModelPerformanceOperator(
        task_id="performance", **scored, **unknown, on_worse="fail", deliverable=MODEL
    )
    with pytest.raises(AirflowFailException, match=rf"PerformanceDropped: nobody can tell .*\({why}\)"):
        gate.execute(context)
    assert not gate.emitted


@pytest.mark.parametrize("label", [0, "on time"])
@pytest.mark.parametrize("metric", ["roc_auc", "precision", "recall", "f1"])
def test_a_quiet_day_without_a_positive_label_is_one_of_too_few_labels(
    folder: Path, context: dict, metric: str, label: int | str
) -> None:
    """However labels are written; and so is a day with three of them."""
    path = folder / "quiet.parquet"
    positive = "late" if label == "on time" else None
    for few in (0, 3):
        labels = [1 if positive is None else positive] * few + [label] * (400 - few)
        scores = np.linspace(0, 1, 400)
        pd.DataFrame({"prediction": scores, "label": labels}).to_parquet(path)
        found = ModelPerformanceOperator(
            task_id="quiet",
            predictions=str(path),
            metric=metric,
            positive=positive,
            reference=0.9,
            on_worse="fail",
            on_unknown="accept",
        ).execute(context)
        assert (found["verdict"], found["value"], found["worse"]) == ("too few labels", None, False)
        assert found["counts"]["rarest_class"] == few


def test_a_quiet_day_of_accuracy_is_measured_however_labels_are_written(folder: Path, context: dict) -> None:
    path = folder / "quiet.parquet"
    for label, positive in ((0, None), ("on time", "late")):
        pd.DataFrame({"prediction": [0.1] * 200, "label": [label] * 200}).to_parquet(path)
        found = ModelPerformanceOperator(
            task_id="quiet", predictions=str(path), metric="accuracy", positive=positive, reference=0.9
        ).execute(context)
        assert (found["verdict"], found["value"]) == ("steady", 1.0)


def test_without_a_reference_nothing_is_steady(scored: dict, context: dict) -> None:
    for reference in (None, "None", {"value": None}):
        found = ModelPerformanceOperator(task_id="performance", **scored, reference=reference).execute(
            context
        )
        assert (found["verdict"], found["worse"]) == ("no reference", False)


def test_labels_of_several_classes(folder: Path, context: dict) -> None:
    random = np.random.default_rng(0)
    kind = random.choice(["bird", "cat", "dog"], 900)
    told = np.where(random.random(900) < 0.8, kind, "cat")
    path = folder / "animals.parquet"
    pd.DataFrame({"prediction": told, "label": kind}).to_parquet(path)
    found = ModelPerformanceOperator(
        task_id="animals", predictions=str(path), metric="f1_macro", reference=0.99
    ).execute(context)
    assert found["value"] == pytest.approx(f1_score(kind, told, average="macro"))
    assert found["verdict"] == "worse"
    with pytest.raises(InvalidInput, match="f1_macro is no metric of two classes"):
        ModelPerformanceOperator(task_id="animals", predictions=str(path), metric="f1_macro", positive="cat")


def test_a_governor_understands_the_result(scored: dict, context: dict) -> None:
    from airflow_pipeops.governor.operators import RetrainGovernorOperator

    found = ModelPerformanceOperator(task_id="performance", **scored, reference=0.8).execute(context)
    decided = RetrainGovernorOperator(task_id="decide", performance=found, history=[]).execute(context)
    assert decided["observation"]["performance"] == found["value"]
    assert decided["observation"]["reference_performance"] == 0.8


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"metric": "magic"}, "metric"), ({"key": ()}, "key"), ({"on_worse": "shout"}, "on_worse")],
)
def test_what_makes_no_sense_is_refused_at_parse(scored: dict, wrong: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ModelPerformanceOperator(task_id="performance", **{**scored, **wrong})
    assert caught.value.field == field


def test_a_function_gives_the_side_to_judge(
    files: dict[str, str], summer: pd.DataFrame, context: dict
) -> None:
    from airflow.sdk import DAG, task

    with DAG("decorated"):

        @task.data_drift(reference=files["reference"], report=False, deliverable=MODEL)
        def batch(rows: int):
            from airflow_pipeops.drift.sources import Frame

            return Frame(summer.head(rows), name="july")

        operator = batch(2000).operator
    found = operator.execute(context)
    assert (found["drifted"], found["batch"], found["rows"]["current"]) == (True, "july", 2000)
