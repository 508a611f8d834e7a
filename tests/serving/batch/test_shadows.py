"""A challenger's shadow scores become an evaluation once labels are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models import artifact
from airflow_pipeops.models.operators.comparison import looks
from airflow_pipeops.models.performance import measure
from airflow_pipeops.serving.batch.contract import ScoreContract
from airflow_pipeops.serving.batch.manifest import Pinned
from airflow_pipeops.serving.pairs import Unscored
from airflow_pipeops.serving.shadows import EvaluateShadowOperator
from tests.ledgers import event
from tests.serving.batch.conftest import lines, pinned

MODEL = Deliverable("flight-delay")
CARRY = ("late", "day", "origin")
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluate(context: Any, challenger: Pinned) -> Evaluate:
    """Evaluate shadow scores of February's flights."""
    context["inlet_events"].setdefault(MODEL.asset("evaluation"), [])

    def act(*scores: dict[str, Any], **more: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "scores": list(scores),
            "challenger_sha256": challenger.sha256,
            "label_column": "late",
            "key": "flight",
            "cluster": "day",
        }
        return EvaluateShadowOperator(task_id="judge", deliverable=MODEL, **{**given, **more}).execute(
            context
        )

    return act


@pytest.fixture
def picky(february: Path, tmp_path: Path) -> Pinned:
    """A challenger that refuses each flight of which a number is unknown."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    numbers = ["hour", "distance", *flights.WEATHER]
    whole = pd.read_parquet(february).dropna()
    pick = ColumnTransformer([("numbers", "passthrough", numbers)])
    model = make_pipeline(pick, LogisticRegression()).fit(whole[list(flights.FEATURES)], whole["late"])
    return pinned(model, whole, tmp_path / "picky", "3")


def test_labels_make_an_evaluation_of_shadow_scores(
    run: Any, context: Any, challenger: Pinned, february: Path, evaluate: Evaluate
) -> None:
    frame = pd.read_parquet(february)
    late = frame["late"].astype("float64").where(frame.index % 10 > 0)
    flights.write(frame.assign(late=late), february)
    facts = {**run(shadows=(challenger,), carry=CARRY), "record_id": "a" * 64}

    found = evaluate(facts)
    assert (found["rows"], found["unlabelled"], found["units"]) == (2700, 300, 28)
    with pytest.raises(AirflowFailException, match="partition 2013-02 is given twice"):
        evaluate(facts, facts, cluster=())
    assert found["unscored"] == {"rows": 0, "champion": 0, "challenger": 0}
    shown = lines(facts)
    known = shown[shown["late"].notna()]
    value = measure("roc_auc", np.asarray(known["late"]), np.asarray(known["probability"])).value
    assert found["champion"] == pytest.approx(value)
    assert found["gain"] == pytest.approx(found["challenger"] - found["champion"])
    record = context["outlet_events"][MODEL.asset("evaluation")].extra
    assert (record["parents"], record["body"]["outcome"]) == (["a" * 64], found["outcome"])

    planned = evaluate(facts, planned_units=30)
    assert planned["interval"][0] < found["interval"][0], (
        "an interval for all looks is wider than one for a look"
    )
    guarded = evaluate(facts, guards={"brier_score": 0.0}, slices=["origin"])
    assert [one["metric"] for one in guarded["guards"]] == ["brier_score"]
    assert guarded["small"] == []
    with pytest.raises(AirflowFailException, match="'flight' has 2,700 values"):
        evaluate(facts, slices=["flight"])
    loose = evaluate(facts, margin=0.5, enough="not worse")
    assert (loose["outcome"], loose["promote"]) == ("not worse", True)
    assert evaluate(facts, cluster=())["units"] == 2700

    with pytest.raises(AirflowFailException, match="the challenger has no scores of partition 2013-02"):
        evaluate(facts, challenger_sha256="e" * 64)
    with pytest.raises(AirflowFailException, match="several champions"):
        evaluate(facts, {**facts, "sha256": "f" * 64})
    with pytest.raises(AirflowFailException, match="nonesuch"):
        evaluate(facts, label_column="nonesuch")
    with pytest.raises(AirflowFailException, match="day names more than one row of partition 2013-02"):
        evaluate(facts, key="day")


def test_one_that_refuses_hard_rows_is_not_promoted_by_the_others(
    run: Any, picky: Pinned, february: Path, evaluate: Evaluate
) -> None:
    frame = pd.read_parquet(february)
    hard = frame[list(flights.FEATURES)].isna().any(axis=1)
    # Of what it does not refuse, the challenger is right about everything, so to say.
    easy = frame["hour"] + frame["distance"] / 1e4
    flights.write(frame.assign(late=(easy > easy.median()).astype(int)), february)
    contract = ScoreContract(null_scores=0.5, fallbacks=0.5)
    facts = run(shadows=(picky,), carry=CARRY, contract=contract)
    found = evaluate(facts, challenger_sha256=picky.sha256)
    count = int(hard.sum())
    assert found["unscored"] == {"rows": count, "champion": 0, "challenger": count}
    assert (found["rows"], found["outcome"], found["promote"]) == (3000 - count, "invalid", False)
    assert f"{count:,} of 3,000 labelled rows have no score" in found["reason"]
    assert "one that leaves out hard rows looks good on the others" in found["reason"]

    strict = run(shadows=(picky,), carry=CARRY)
    assert strict["shadows"][0]["outcome"] == "failed"
    with pytest.raises(AirflowFailException, match=r"do not hold the contract .*have no score"):
        evaluate(strict, challenger_sha256=picky.sha256)


@pytest.mark.parametrize(
    ("until", "carry", "why"),
    [
        ("2013-01-31", CARRY, ""),
        (
            "2013-02-10",
            CARRY,
            "learned from rows up to 2013-02-10, and the held-out rows do not all come after",
        ),
        ("2013-01-31", ("late", "origin"), "these rows have no 'day' to tell whether they come later"),
    ],
)
def test_a_challenger_is_not_judged_by_labels_that_it_may_have_learned_from(
    run: Any,
    evaluate: Evaluate,
    fitted: Any,
    table: pd.DataFrame,
    tmp_path: Path,
    until: str,
    carry: Any,
    why: str,
) -> None:
    features = artifact.features_of(table, flights.FEATURES)
    said = artifact.Manifest(MODEL.name, features, flights.TARGET, time_column="day", trained_until=until)
    stored = artifact.save(fitted, said, tmp_path / "learned")
    learned = Pinned(MODEL.name, "4", stored.sha256, stored.uri)
    facts = run(shadows=(learned,), carry=carry)
    found = evaluate(facts, challenger_sha256=learned.sha256, cluster=())
    assert (found["outcome"] == "invalid") is bool(why)
    assert why in found["reason"]


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ((0, 0, 0), ""),
        ((10, 10, 10), ""),
        ((10, 10, 0), ""),
        ((1, 0, 1), "leaves out hard rows"),
        ((11, 11, 11), "and 1.00% may"),
        ((12, 6, 6), "and 1.00% may"),
    ],
)
def test_rows_without_a_score_are_few_and_not_the_challengers(counts: tuple[int, ...], why: str) -> None:
    said = Unscored(*counts).invalid(1000, 0.01)
    assert why in said if why else not said


def test_each_look_without_a_plan_counts_as_one_more() -> None:
    def body(challenger: str, digest: str, *partitions: str) -> dict[str, Any]:
        return {"challenger_sha256": challenger, "data_digest": digest, "partitions": list(partitions)}

    earlier = [
        body("a", "1", "2013-01"),
        body("a", "2", "2013-01", "2013-02"),
        body("b", "2", "2013-01", "2013-02"),
        body("c", "9", "2012-12"),
        {"challenger_sha256": "d", "data_digest": "2"},
        {"subject": "guard"},
    ]
    now = body("a", "3", "2013-02", "2013-03")
    assert looks([], now, planned=False) == 1
    assert looks(earlier, now, planned=False) == 3
    assert looks(earlier, now, planned=True) == 2
    assert looks(earlier, body("a", "2", "2013-01", "2013-02"), planned=False) == 3, (
        "a retry is no other look"
    )


def test_looks_are_read_from_the_records(
    run: Any, context: Any, challenger: Pinned, february: Path, evaluate: Evaluate
) -> None:
    asset = MODEL.asset("evaluation")
    frame = pd.read_parquet(february)
    late = frame["late"].astype("float64")
    flights.write(frame.assign(late=late.where(frame["day"] < "2013-02-15")), february)
    facts = run(shadows=(challenger,), carry=CARRY)
    first = evaluate(facts)
    assert (first["challengers"], first["alpha"]) == (1, 0.025)
    extra = dict(context["outlet_events"][asset].extra)
    context["inlet_events"][asset] = [event(extra, 1, asset)]
    assert evaluate(facts)["challengers"] == 1, "a retry is no other look"
    flights.write(frame.assign(late=late), february)
    grown = run(shadows=(challenger,), carry=CARRY)
    assert evaluate(grown)["challengers"] == 2
    assert evaluate(grown, planned_units=30)["challengers"] == 1, "a plan holds at all looks together"
    assert evaluate(grown, max_uses=1)["outcome"] == "invalid"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"cluster": None}, "cluster"),
        ({"planned_units": 2}, "planned_units"),
        ({"guards": {"rmse": 0.1}}, "guards"),
        ({"margin": -1.0}, "margin"),
        ({"unscored": 2.0}, "unscored"),
        ({"enough": "worse"}, "enough"),
        ({"challengers": 0}, "challengers"),
    ],
)
def test_what_contradicts_itself_is_refused_while_the_dag_is_read(given: dict[str, Any], field: str) -> None:
    named = {"scores": [], "challenger_sha256": "a", "label_column": "late", "key": "k", "cluster": "day"}
    with pytest.raises(InvalidInput) as caught:
        EvaluateShadowOperator(task_id="t", **{**named, **given})
    assert caught.value.field == field
