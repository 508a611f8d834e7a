"""Two models on the same rows: what is asked of them, and what cannot be answered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.champion import judge
from airflow_pipeops.models.paired.comparison import Question, compare

ROWS = 400


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    made = pd.DataFrame({name: random.normal(size=ROWS) for name in ("x", "noise")})
    late = made["x"] + random.normal(size=ROWS) > 0
    day = pd.date_range("2026-01-01", periods=ROWS, freq="h")
    return made.assign(
        late=late.astype(int), said=np.where(late, "yes", "no"), day=day, size=["s", None] * 200
    )


def models(frame: pd.DataFrame, target: str = "late") -> tuple[Any, Any]:
    knows, guesses = (LogisticRegression().fit(frame[[column]], frame[target]) for column in ("x", "noise"))
    return knows, guesses


def test_labels_of_any_kind_are_the_same_comparison(frame: pd.DataFrame) -> None:
    numbers = compare(*models(frame), frame, Question("roc_auc", "late", cluster="day", slices=("size",)))
    texts = compare(*models(frame, "said"), frame, Question("roc_auc", "said", cluster="day", positive="yes"))
    assert numbers.gain == texts.gain
    assert numbers.gain is not None
    assert numbers.gain.value > 0.1
    assert list(numbers.slices) == ["size=s"]
    other = compare(*models(frame, "said"), frame, Question("roc_auc", "said", positive="no"))
    assert other.challenger == pytest.approx(texts.challenger)


def test_a_slice_in_which_nothing_can_be_measured_is_too_small_to_say(frame: pd.DataFrame) -> None:
    frame = frame.assign(kind=np.where(frame["late"] == 1, "late", "not"))
    found = compare(*models(frame), frame, Question("roc_auc", "late", slices=("kind",)))
    assert {name: (one.error, one.doubt) for name, one in found.slices.items()} == dict.fromkeys(
        ("kind=late", "kind=not"), (None, "all labels are the same, so nothing can be ranked")
    )


@pytest.mark.parametrize(
    ("change", "question", "field", "why"),
    [
        ({}, Question("roc_auc", "said"), "positive", "are 'no', 'yes'|are 'yes', 'no'"),
        ({}, Question("roc_auc", "said", positive="perhaps"), "positive", "no row of 'said' is 'perhaps'"),
        ({}, Question("roc_auc", "nothing"), "data", "no column 'nothing'"),
        ({}, Question("roc_auc", "late", slices=("x",)), "slices", "'x' has 400 values"),
        ({}, Question("roc_auc", "late", cluster="month"), "data", "no column 'month'"),
        (
            {"x": np.nan},
            Question("roc_auc", "late"),
            "data",
            "cannot predict these rows: Input X contains NaN",
        ),
        ({"day": [[1]] * ROWS}, Question("roc_auc", "late", cluster="day"), "cluster", "cannot be compared"),
        ({"late": np.nan}, Question("roc_auc", "late"), "data", "400 labels are null"),
    ],
)
def test_what_cannot_be_compared_is_named(
    frame: pd.DataFrame, change: dict[str, Any], question: Question, field: str, why: str
) -> None:
    pair = models(frame, "said" if question.target == "said" else "late")
    with pytest.raises(InvalidInput, match=why) as caught:
        compare(*pair, frame.assign(**change), question)
    assert caught.value.field == field


def test_no_rows_are_no_comparison(frame: pd.DataFrame) -> None:
    with pytest.raises(InvalidInput, match="no rows"):
        compare(*models(frame), frame.iloc[:0], Question("roc_auc", "late"))


@pytest.mark.parametrize(("days", "told"), [(1, False), (2, False), (9, False), (10, True)])
def test_a_floor_is_not_reached_on_a_handful_of_days(frame: pd.DataFrame, days: int, told: bool) -> None:
    frame = frame.assign(day=np.arange(ROWS) % days)
    found = compare(models(frame)[0], None, frame, Question("roc_auc", "late", cluster="day"))
    said = judge(found.challenger, None, floor=0.6, level=found.level, doubt=found.doubt)
    assert (said.outcome, said.promote) == (("better", True) if told else ("cannot tell", False))
    assert (f"{days} values of 'day', whose rows move together, are too few" in said.reason) is not told


def test_each_model_predicts_once_for_each_kind_of_metric(frame: pd.DataFrame) -> None:
    asked: list[int] = []
    pair = models(frame)
    for number, model in enumerate(pair):
        predict = model.predict_proba
        model.predict_proba = lambda rows, number=number, predict=predict: (
            asked.append(number) or predict(rows)
        )
    guards = ("log_loss", "brier_score", "accuracy", "f1")
    found = compare(*pair, frame, Question("roc_auc", "late", guards=guards))
    assert [gain.metric for gain in found.guards] == list(guards)
    assert sorted(asked) == [0, 0, 1, 1], "for scores, and for classes"
