"""A cohort is measured when its labels are due and there, and not before."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.labels.cohorts import Ask, cohorts
from airflow_pipeops.models.labels.joining import join

DELAY = timedelta(days=3)


def made(days: int, per_day: int = 40, *, coverage: float = 1.0, seed: int = 0):
    """Predictions of a model that ranks a little, with the labels three days later."""
    random = np.random.default_rng(seed)
    rows = days * per_day
    label = random.integers(0, 2, rows)
    at = pd.Timestamp("2013-03-01", tz="UTC") + pd.to_timedelta(np.repeat(np.arange(days), per_day), "D")
    key = [f"k{number}" for number in range(rows)]
    score = np.clip(0.5 + 0.15 * (label - 0.5) + random.normal(0, 0.2, rows), 0, 1)
    predictions = pd.DataFrame({"key": key, "at": at, "sha256": "m", "score": score})
    labels = pd.DataFrame({"key": key, "at": at + DELAY, "label": label})
    return join(predictions, labels[random.random(rows) < coverage]).frame


def on(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=timezone.utc)


def test_months_are_measured_when_their_last_labels_are_due():
    frame = made(45)
    ask = Ask(by="month", delay=DELAY)
    assert [one.state for one in cohorts(frame, ask, on("2013-04-03"))] == ["waiting", "waiting"]
    march, april = cohorts(frame, ask, on("2013-04-04"))
    assert (march.name, march.state, april.state) == ("2013-03", "measured", "waiting")
    assert march.low < march.value < march.high
    assert (march.predictions, march.labelled) == (31 * 40, 31 * 40)
    assert "labels are due at 2013-05-04" in april.reason


def test_labels_that_do_not_come_are_no_bad_model():
    (march,) = cohorts(made(31, coverage=0.5), Ask(delay=DELAY), on("2013-06-01"))
    assert (march.state, march.value) == ("labels missing", None)
    assert "80% should be there" in march.reason


def test_the_interval_counts_days_where_rows_of_one_day_move_together():
    """Each day has its own luck: rows alone would give an interval that is far too narrow."""
    frame = made(31, 200)
    day = frame["at"].dt.day.to_numpy()
    luck = np.random.default_rng(1).normal(0, 0.2, 32)[day]
    frame = frame.assign(score=np.clip(frame["score"] + luck * np.where(frame["label"] == 1, 1, -1), 0, 1))
    (by_days,) = cohorts(frame, Ask("brier_score", delay=DELAY), on("2013-06-01"))
    (whole,) = cohorts(
        frame.assign(at=frame["at"].iloc[0]), Ask("brier_score", by="day", delay=DELAY), on("2013-06-01")
    )
    assert by_days.value == pytest.approx(whole.value)
    assert by_days.high - by_days.low > 3 * (whole.high - whole.low)


def test_few_days_have_a_value_and_no_interval():
    (march,) = cohorts(made(5), Ask(delay=DELAY), on("2013-06-01"))
    assert march.state == "measured"
    assert march.low is None


def test_few_rows_say_nothing():
    (march,) = cohorts(made(31, 3), Ask(delay=DELAY), on("2013-06-01"))
    assert march.state == "too few labels"


def test_each_model_is_its_own_cohort_and_weeks_begin_on_monday():
    frame = pd.concat([made(14), made(14).assign(sha256="n", score=0.5)])
    found = cohorts(frame, Ask(by="week", delay=DELAY), on("2013-06-01"))
    assert [(one.sha256, one.name) for one in found[:3]] == [
        ("m", "2013-02-25"),
        ("m", "2013-03-04"),
        ("m", "2013-03-11"),
    ]
    assert {one.value for one in found if one.sha256 == "n" and one.state == "measured"} == {0.5}


def test_an_estimate_fills_what_waits_says_what_it_is_and_sees_no_concept_drift():
    pytest.importorskip("nannyml")
    frame = made(45, 60)
    april = frame["at"] >= "2013-04-01"
    turned = frame.assign(label=frame["label"].where(~april, 1 - frame["label"].astype(float)))
    march, waiting = cohorts(turned, Ask(delay=DELAY, estimate=True), on("2013-04-10"))
    assert march.state == "measured"
    assert (waiting.state, waiting.estimated) == ("waiting", True)
    assert waiting.low < waiting.value < waiting.high
    assert "blind to a change of what the same inputs mean" in waiting.reason
    _, truth = cohorts(turned, Ask(delay=DELAY), on("2013-06-01"))
    assert truth.value < 0.5 < 0.6 < waiting.value, "what it is blind to"


@pytest.mark.parametrize(
    ("metric", "days", "said"),
    [
        ("mae", 45, "no estimate: one of mae without labels needs the features"),
        ("brier_score", 45, "no estimate: one of brier_score without labels is not known"),
        (
            "roc_auc",
            20,
            "no estimate: it needs 300 labelled rows of cohorts that were measured, and there are 0",
        ),
    ],
)
def test_a_cohort_without_an_estimate_says_why(metric, days, said):
    newest = cohorts(
        made(days), Ask(metric, delay=DELAY, estimate=True), on("2013-03-25" if days == 20 else "2013-04-10")
    )[-1]
    assert (newest.state, newest.value, newest.estimated) == ("waiting", None, False)
    assert newest.reason.startswith("its labels are due")
    assert said in newest.reason


@pytest.mark.parametrize(
    ("field", "value"),
    [("metric", "roc"), ("by", "year"), ("delay", timedelta(days=-1)), ("min_coverage", 1.5)],
)
def test_a_bad_question_names_its_field(field, value):
    with pytest.raises(InvalidInput) as error:
        Ask(**{field: value})
    assert error.value.field == field
