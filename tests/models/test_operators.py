"""The operators one after the other, on real data, a real registry and a real server; and what breaks them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import artifact
from airflow_pipeops.models.hook import MLflowHook
from airflow_pipeops.models.operators import (
    BuildFeaturesOperator,
    EvaluateModelOperator,
    MeasureModelOperator,
    RegisterModelOperator,
    SetModelAliasOperator,
    TrainModelOperator,
)
from airflow_pipeops.serving.api.operators import VerifyModelOperator
from tests.ledgers import event
from tests.models.conftest import Server

DOMAIN = "airflow_pipeops.demo.flights"
MODEL = Deliverable("flight-delay")


@pytest.fixture
def ready(connections):
    """Connections to a fresh registry and store."""
    return connections


def run(context: dict[str, Any], operator: type, **arguments: Any) -> dict[str, Any]:
    return operator(task_id="task", **arguments).execute(context)


def learn(context, tmp_path, *months: int, rows: int = 3000) -> dict[str, Any]:
    """Features and training, as the DAG does them."""
    data = [flights.write_month(n, tmp_path / "data", rows).as_uri() for n in months]
    features = run(context, BuildFeaturesOperator, data=data, transform=f"{DOMAIN}:features")
    return run(
        context,
        TrainModelOperator,
        trainer=f"{DOMAIN}:train",
        scorer=f"{DOMAIN}:score",
        data=features["uri"],
        name=MODEL.name,
        time_column="day",
        target="late",
    )


def evaluate(context, trained, **arguments) -> dict[str, Any]:
    context["inlet_events"].setdefault(MODEL.asset("evaluation"), [])
    return run(
        context,
        EvaluateModelOperator,
        model=MODEL.name,
        challenger=trained,
        deliverable=MODEL,
        **{"scorer": f"{DOMAIN}:score", **arguments},
    )


def test_a_csv_file_with_its_options_is_the_same_data(ready, context, tmp_path):
    """Decimal commas, semicolons and another encoding: features, model and metrics are those of the Parquet file."""
    parquet = flights.write_month(1, tmp_path / "data", 3000)
    frame = pd.read_parquet(parquet)
    (tmp_path / "data" / "1.csv").write_text(
        frame.to_csv(sep=";", decimal=",", index=False), encoding="utf-16-le"
    )
    data = (tmp_path / "data" / "1.csv").as_uri()
    csv = {"decimal": ",", "encoding": "utf-16-le", "types": {"day": "text"}}
    with pytest.raises(AirflowFailException, match="is not in UTF-8"):
        run(context, BuildFeaturesOperator, data=data, transform=f"{DOMAIN}:features")
    features = run(context, BuildFeaturesOperator, data=data, transform=f"{DOMAIN}:features", csv=csv)
    expected = run(context, BuildFeaturesOperator, data=str(parquet), transform=f"{DOMAIN}:features")
    assert features["sha256"] == expected["sha256"]

    how = {"trainer": f"{DOMAIN}:train", "scorer": f"{DOMAIN}:score", "name": MODEL.name, "target": "late"}
    trained = run(context, TrainModelOperator, data=expected["uri"], **how)
    assert run(context, TrainModelOperator, data=data, csv=csv, **how)["metrics"] == trained["metrics"]

    judged = evaluate(context, trained, holdout=data, csv=csv)
    assert judged["challenger"] == evaluate(context, trained, holdout=str(parquet))["challenger"]
    run(context, RegisterModelOperator, model=MODEL.name, challenger=trained)
    run(context, SetModelAliasOperator, model=MODEL.name, version="1", alias="champion")
    measure = {"model": MODEL.name, "scorer": f"{DOMAIN}:score"}
    measured = run(context, MeasureModelOperator, data=data, csv=csv, **measure)
    assert measured["value"] == judged["challenger"]


def test_the_whole_way(ready, context, tmp_path):
    first = learn(context, tmp_path, 1)
    assert learn(context, tmp_path, 1)["sha256"] == first["sha256"], "an attempt repeated changes nothing"
    reference, holdout = (pd.read_parquet(first[key]) for key in ("reference_uri", "holdout_uri"))
    assert (len(reference), len(holdout)) == (first["train_rows"], first["holdout_rows"])
    assert reference["day"].max() < holdout["day"].min()

    judged = evaluate(context, first)
    assert (judged["promote"], judged["champion"], judged["gain"]) == (True, None, None)
    assert judged["challenger"] == first["metrics"]["auc"]

    registered = run(
        context, RegisterModelOperator, model=MODEL.name, challenger=first, deliverable=MODEL,
        parents=[judged["record_id"]],
    )  # fmt: skip
    assert registered["version"] == "1"
    extra = context["outlet_events"][MODEL.model].extra
    assert (extra["kind"], extra["body"]["sha256"]) == ("model", first["sha256"])
    assert extra["parents"] == [judged["record_id"]]
    assert extra["body"]["registry_url"] == "", "a file has no pages"
    again = run(context, RegisterModelOperator, model=MODEL.name, challenger=first, deliverable=MODEL)
    assert again["version"] == "1", "a crash between registering and the alias, and a retry: one version"

    alias = {"model": MODEL.name, "version": "1", "alias": "champion"}
    assert run(context, SetModelAliasOperator, **alias)["previous"] is None
    moved = run(context, SetModelAliasOperator, **alias, deliverable=MODEL)
    assert moved["previous"] == "1"
    extra = context["outlet_events"][MODEL.asset("alias")].extra
    assert (extra["id"], extra["body"]) == (moved.pop("record_id"), moved)

    march = flights.write_month(3, tmp_path / "data", 2000).as_uri()
    measured = run(
        context,
        MeasureModelOperator,
        model=MODEL.name,
        data=[march],
        scorer=f"{DOMAIN}:score",
        deliverable=MODEL,
    )
    assert measured["reference"] == first["metrics"]["auc"]
    assert 0.4 < measured["value"] < 0.9
    assert measured["record_id"]

    alone = {"model": MODEL.name, "data": [march], "scorer": f"{DOMAIN}:score"}
    named = run(context, MeasureModelOperator, **alone, alias="nobody", version="1")
    assert (named["version"], named["value"]) == ("1", measured["value"])
    with pytest.raises(AirflowFailException, match=r"version=77\) not found"):
        run(context, MeasureModelOperator, **alone, version="77")

    itself = evaluate(context, first)
    assert (itself["promote"], itself["outcome"], itself["gain"]) == (False, "invalid", 0.0)
    assert itself["champion_version"] == "1"
    assert "the challenger is the champion itself" in itself["reason"]

    better = learn(context, tmp_path, 6, rows=6000)
    judged = evaluate(context, better, cluster=())  # a week of held-out days is too few to tell by days
    assert judged["promote"], judged["reason"]
    assert judged["interval"][0] > 0
    assert not evaluate(context, better, cluster=(), minimum_gain=0.4)["promote"]

    server = Server(artifact.Stored(registered["artifact_uri"], registered["sha256"]), MODEL_VERSION="1")
    try:
        ready("flight_delay_staging", "http", server.wait_ready())
        arguments = {
            "http_conn_id": "flight_delay_staging",
            "model": MODEL.name,
            "artifact_uri": registered["artifact_uri"],
            "sha256": registered["sha256"],
            "data": first["holdout_uri"],
        }
        found = run(context, VerifyModelOperator, version="1", **arguments)
        assert (found["rows"], found["max_difference"]) == (50, 0)
        with pytest.raises(AirflowFailException, match="serves version 1"):
            run(context, VerifyModelOperator, version="2", **arguments)
    finally:
        server.stop()


def test_by_days_with_a_guard_and_slices(ready, context, tmp_path):
    """The same rows say less as days; carriers with few flights are named as too few, and none is harmed."""
    first = learn(context, tmp_path, 1)
    run(context, RegisterModelOperator, model=MODEL.name, challenger=first)
    run(context, SetModelAliasOperator, model=MODEL.name, version="1", alias="champion")
    later = learn(context, tmp_path, 6, rows=6000)
    july = flights.write_month(7, tmp_path / "data", 6000).as_uri()
    how = {"scorer": None, "metric": "roc_auc", "holdout": july}
    by_rows = evaluate(context, later, **how, cluster=())
    # By days, since the challenger was trained with that column of times.
    by_days = evaluate(context, later, **how, guards={"log_loss": 0.05}, slices=["carrier", "origin"])
    assert by_rows["gain"] == by_days["gain"] > 0
    assert by_days["error"] > 1.5 * by_rows["error"] == 1.5 * by_days["error_by_rows"]
    assert (by_days["units"], by_days["unit"], by_rows["units"]) == (31, "day", 6000)
    assert (by_days["outcome"], by_days["promote"]) == ("better", True)
    assert [guard["metric"] for guard in by_days["guards"]] == ["log_loss"]
    assert "carrier=HA" in by_days["small"]
    assert by_days["harmed"] == []
    fallen = evaluate(context, later, **how, cluster="day", floor=0.99)
    assert (fallen["outcome"], fallen["promote"]) == ("worse", False)
    two_ways = evaluate(context, later, **how, cluster=["day", "dest"])
    assert (two_ways["unit"], two_ways["units"]) == ("day, dest", 31)
    assert two_ways["error"] >= by_days["error"]
    shadow = evaluate(context, later, **how, planned_units=30)
    assert shadow["interval"][0] < by_days["interval"][0]
    assert shadow["gain"] == by_days["gain"]


def test_a_metric_of_ones_own_has_its_interval_by_days_of_the_time_column_too(ready, context, tmp_path):
    first = learn(context, tmp_path, 1)
    run(context, RegisterModelOperator, model=MODEL.name, challenger=first)
    run(context, SetModelAliasOperator, model=MODEL.name, version="1", alias="champion")
    later = learn(context, tmp_path, 6)
    july = flights.write_month(7, tmp_path / "data", 2000).as_uri()
    by_days, by_rows = (evaluate(context, later, holdout=july, **how) for how in ({}, {"cluster": ()}))
    assert (by_days["unit"], by_days["units"]) == ("day", 31)
    assert (by_rows["unit"], by_rows["units"]) == (None, 2000)


def test_rows_that_a_model_has_learned_from_judge_nothing(ready, context, tmp_path):
    first = learn(context, tmp_path, 6)
    run(context, RegisterModelOperator, model=MODEL.name, challenger=first)
    run(context, SetModelAliasOperator, model=MODEL.name, version="1", alias="champion")
    judged = evaluate(context, learn(context, tmp_path, 3), scorer=None, metric="roc_auc")
    assert (judged["outcome"], judged["promote"]) == ("invalid", False)
    assert "a model has learned from rows up to 2013-06-2" in judged["reason"]
    itself = {"scorer": None, "metric": "roc_auc", "alias": "nobody"}
    known = evaluate(
        context,
        learn(context, tmp_path, 6),
        holdout=flights.write_month(6, tmp_path / "data", 3000).as_uri(),
        floor=0.5,
        **itself,
    )
    assert (known["outcome"], known["promote"]) == ("invalid", False)
    assert known["reason"].startswith(
        "No floor can be held against these rows: a model has learned from rows up to"
    )


def test_times_that_cannot_be_compared_are_said_to_be_so(ready, context, tmp_path):
    first = learn(context, tmp_path, 1)
    run(context, RegisterModelOperator, model=MODEL.name, challenger=first)
    run(context, SetModelAliasOperator, model=MODEL.name, version="1", alias="champion")
    frame = pd.read_parquet(flights.write_month(7, tmp_path / "data", 2000))
    zoned = tmp_path / "zoned.parquet"
    frame.assign(day=pd.to_datetime(frame["day"]).dt.tz_localize("UTC")).to_parquet(zoned)
    judged = evaluate(context, learn(context, tmp_path, 3), scorer=None, metric="roc_auc", holdout=str(zoned))
    assert (judged["outcome"], judged["promote"]) == ("invalid", False)
    assert "which the held-out 'day' cannot be compared with" in judged["reason"]


def test_challengers_that_were_tried_on_the_same_rows_are_counted(ready, context, tmp_path):
    """The earlier evaluations lie on the deliverable's asset; the chance of a wrong promotion is shared out."""
    asset = MODEL.asset("evaluation")
    holdout = flights.write_month(7, tmp_path / "data", 2000).as_uri()
    tried = [learn(context, tmp_path, month, rows=1000) for month in (2, 3, 4)]
    run(context, RegisterModelOperator, model=MODEL.name, challenger=learn(context, tmp_path, 1, rows=1000))
    run(context, SetModelAliasOperator, model=MODEL.name, version="1", alias="champion")
    events: list[Any] = []
    context["inlet_events"] = {asset: events}
    for number, challenger in enumerate([*tried, tried[0]], 1):
        judged = evaluate(context, challenger, scorer=None, metric="roc_auc", holdout=holdout)
        assert judged["challengers"] == min(number, 3)
        assert judged["alpha"] == pytest.approx(0.025 / min(number, 3) ** 2)
        extra = context["outlet_events"][asset].extra
        events.append(event(extra, number, asset))
    again = evaluate(context, tried[0], scorer=None, metric="roc_auc", holdout=holdout, max_uses=2)
    assert (again["outcome"], again["promote"]) == ("invalid", False)
    assert "have judged 2 challengers, 2 are the most" in again["reason"]


@pytest.mark.parametrize(
    ("arguments", "field", "why"),
    [
        ({"metric": "auc"}, "metric", "roc_auc"),
        ({"guards": {"auc": 0.1}}, "guards", "roc_auc"),
        ({"guards": {"f1": -0.1}}, "guards[f1]", "zero or more"),
        ({"enough": "not worse"}, "margin", "how much"),
        ({"scorer": f"{DOMAIN}:score", "slices": ["carrier"]}, "slices", "Leave scorer= out"),
        ({"scorer": f"{DOMAIN}:score", "positive": 1}, "positive", "Leave scorer= out"),
        ({"scorer": f"{DOMAIN}:score", "planned_units": 30}, "planned_units", "Leave scorer= out"),
        ({"scorer": f"{DOMAIN}:score", "cluster": ["day", "dest"]}, "cluster", "Leave scorer= out"),
        ({"planned_units": 3}, "planned_units", "At least 10"),
        ({"max_uses": 0}, "max_uses", "challenger itself"),
    ],
)
def test_an_evaluation_that_contradicts_itself_is_refused_while_the_dag_is_read(arguments, field, why):
    with pytest.raises(InvalidInput, match=why) as caught:
        EvaluateModelOperator(task_id="judge", model="m", challenger={}, **arguments)
    assert caught.value.field == field


def test_a_tampered_challenger_is_neither_evaluated_nor_registered(ready, context, tmp_path):
    trained = learn(context, tmp_path, 1, rows=500)
    model = Path(trained["artifact_uri"].removeprefix("file://")) / "model.skops"
    model.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(AirflowFailException, match="digest"):
        evaluate(context, trained)
    with pytest.raises(AirflowFailException, match="digest"):
        run(context, RegisterModelOperator, model=MODEL.name, challenger=trained)
    assert MLflowHook().get_registry().find(MODEL.name, trained["sha256"]) is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"trainer": "nowhere:train"}, "trainer 'nowhere:train' cannot be imported"),
        ({"trainer": "train"}, "is not an import path"),
        ({"trainer": f"{DOMAIN}:TARGET"}, "not a function"),
        ({"data": []}, "no URI"),
        ({"data": "/nowhere.parquet"}, "no file"),
        ({"name": "../up"}, "not usable"),
        ({"time_column": "when"}, "lack the column 'when'"),
        ({"holdout": 0.999}, "left to learn from"),
        ({"label_delay": timedelta(hours=24)}, "late labels need the time of a row"),
        ({"label_delay": 60}, "late labels need the time of a row"),
        ({"feature_set": {"path": f"{DOMAIN}:FLIGHTS"}}, "is not what BuildFeaturesOperator returns"),
        ({"feature_set": "{'path': 'm:F', 'digest': '0'}"}, "is not what BuildFeaturesOperator returns"),
        ({"until": datetime(2030, 1, 1, tzinfo=timezone.utc)}, "until .* is no time"),
    ],
)
def test_bad_input_to_training_stores_nothing(ready, context, tmp_path, arguments, why):
    data = flights.write_month(1, tmp_path / "data", 500).as_uri()
    given = {"trainer": f"{DOMAIN}:train", "data": data, "name": "m", **arguments}
    with pytest.raises(AirflowFailException, match=why):
        run(context, TrainModelOperator, **given)
    assert not (tmp_path / "store").exists()


def test_measuring_without_a_champion_says_so(ready, context, tmp_path):
    data = flights.write_month(1, tmp_path / "data", 500).as_uri()
    with pytest.raises(AirflowFailException, match="has no 'champion'"):
        run(context, MeasureModelOperator, model="m", data=data, scorer=f"{DOMAIN}:score")


def test_a_challenger_of_another_shape_is_refused(ready, context):
    with pytest.raises(AirflowFailException, match="not what TrainModelOperator returns"):
        evaluate(context, {"sha256": "x"})
