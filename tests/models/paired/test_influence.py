"""Gains and their errors: against scikit-learn, by hand, and by how often they hold."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.decision import Policy, decide
from airflow_pipeops.models.paired.gain import MIN_UNITS, Gain
from airflow_pipeops.models.paired.influence import degrees_of, gain, standard_error
from airflow_pipeops.models.paired.units import Units, by_column, each_row, of_columns
from tests.benchmarks.promotion import METRICS, equal_models


def scores(rows: int, seed: int = 0):
    random = np.random.default_rng(seed)
    y = (random.random(rows) < 0.3).astype(float)
    new, old = (1 / (1 + np.exp(-(random.normal(size=rows) + sharp * y))) for sharp in (2.0, 1.0))
    return y, new, old


@pytest.mark.parametrize(
    ("metric", "theirs", "sign"),
    [
        ("roc_auc", roc_auc_score, 1),
        ("log_loss", log_loss, -1),
        ("f1", lambda y, p: f1_score(y, p >= 0.5), 1),
    ],
)
def test_a_gain_is_the_difference_that_scikit_learn_gives(metric, theirs, sign) -> None:
    y, new, old = scores(500)
    found = gain(metric, y, new, old)
    assert found.value == pytest.approx(sign * (theirs(y, new) - theirs(y, old)))
    assert (found.challenger, found.champion) == pytest.approx((theirs(y, new), theirs(y, old)))


def test_the_error_of_independent_rows_is_that_of_a_mean() -> None:
    y, new, old = scores(400)
    difference = (y - old) ** 2 - (y - new) ** 2
    assert gain("brier_score", y, new, old).error == pytest.approx(difference.std(ddof=1) / 20)


def test_rows_given_twice_change_nothing_where_both_are_one_unit() -> None:
    y, new, old = scores(400)
    twice = np.tile(np.arange(400), 2)
    once = gain("roc_auc", y, new, old)
    doubled = gain("roc_auc", y[twice], new[twice], old[twice], units=Units(twice, 400, "id"))
    assert (doubled.value, doubled.error) == pytest.approx((once.value, once.error), rel=1e-6)
    assert gain("roc_auc", y[twice], new[twice], old[twice]).error < 0.75 * once.error


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_the_order_of_days_that_do_not_follow_each_other_does_not_matter(random) -> None:
    y, new, old = scores(300)
    names = list(range(30))
    random.shuffle(names)
    day = np.repeat(np.arange(30), 10)
    found = [
        gain("log_loss", y, new, old, units=Units(codes, 30, "day")) for codes in (day, np.array(names)[day])
    ]
    assert found[0].error == pytest.approx(found[1].error)


def test_the_larger_of_two_errors_counts_where_units_follow_each_other_in_time() -> None:
    random = np.random.default_rng(3)
    walk = np.cumsum(random.normal(size=60))
    for pulls in (walk - walk.mean(), np.tile([1.0, -1.0], 30)):
        alone, in_time = (
            standard_error(pulls, Units(np.arange(60), 60, "day", flag)) for flag in (False, True)
        )
        assert in_time >= alone
    assert standard_error(walk - walk.mean(), Units(np.arange(60), 60, "day", True)) > 2 * standard_error(
        walk - walk.mean(), each_row(60)
    )


def test_newey_and_west_by_hand() -> None:
    sums = np.array([1.0, 2.0, -1.0, -2.0, 0.5, 0.5, 1.0, -1.0, 0.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.5, -0.5])
    lags = int(1.3 * 4)
    spread = sums @ sums + 2 * sum((1 - k / (lags + 1)) * (sums[k:] @ sums[:-k]) for k in range(1, lags + 1))
    expected = math.sqrt(max(spread, sums @ sums) * 16 / 15) / 16
    assert standard_error(sums, Units(np.arange(16), 16, "day", True)) == pytest.approx(expected)


@pytest.mark.parametrize(("alike", "most"), [(0.0, 0.05), (0.5, 0.09)])
def test_days_that_resemble_each_other_promise_no_more_than_they_hold(alike: float, most: float) -> None:
    random, rounds, days = np.random.default_rng(4), 2000, 20
    units = Units(np.arange(days), days, "day", True)
    series = random.normal(size=(rounds, days))
    for day in range(1, days):
        series[:, day] = alike * series[:, day - 1] + math.sqrt(1 - alike**2) * series[:, day]
    wrong = 0
    for one in series:
        pulls = one - one.mean()
        found = Gain(
            "mae", 0, 0, one.mean(), standard_error(pulls, units), degrees_of(pulls, units), days, days
        )
        low, _ = found.bounds(0.05)
        wrong += low > 0
    assert wrong / rounds <= most


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("days", [0, 15])
def test_of_two_equal_models_one_is_promoted_as_seldom_as_it_says(metric: str, days: int) -> None:
    """tests/benchmarks/promotion.py draws more, at more sizes; 2.5 % of 300: 18 or more have a chance of 1 in 1,000."""
    promoted = 0
    for seed in range(300):
        found = equal_models(metric, 600, 60, days, np.random.default_rng([seed, days]))
        promoted += decide(found, Policy()).promote
    assert promoted < 18


def test_a_challenger_that_sees_more_sharply_is_promoted() -> None:
    found = [
        decide(
            equal_models("roc_auc", 2000, 400, 0, np.random.default_rng(seed), shift=0.3), Policy()
        ).outcome
        for seed in range(20)
    ]
    assert found.count("better") >= 18


def test_rows_as_if_independent_promote_what_days_do_not() -> None:
    promoted = {"rows": 0, "days": 0}
    for seed in range(100):
        random = np.random.default_rng(seed)
        day = np.repeat(np.arange(15), 100)
        luck = random.normal(size=(2, 15))[:, day]
        y = random.normal(size=1500)
        new, old = y + luck + 0.3 * random.normal(size=(2, 1500))
        for name, units in (("rows", None), ("days", Units(day, 15, "day"))):
            promoted[name] += decide(gain("mse", y, new, old, units=units), Policy()).promote
    assert promoted["rows"] > 25
    assert promoted["days"] < 9


@pytest.mark.parametrize(
    ("y", "new", "old", "days", "why"),
    [
        (
            np.r_[np.ones(9), np.zeros(91)],
            "noise",
            "noise",
            None,
            "9 rows of the rarest class among 100 are too few",
        ),
        (
            np.tile([0.0, 1.0], 50),
            "noise",
            "noise",
            9,
            "9 values of 'day', whose rows move together, are too few",
        ),
        (np.tile([0.0, 1.0], 50), "same", "same", None, "the two models differ on 0 of 100 rows only"),
        (np.tile([0.0, 1.0], 50), "same", "nine", None, "the two models differ on 9 of 100 rows only"),
        (
            np.tile([0.0, 1.0], 50),
            "same",
            "nine",
            20,
            "the two models differ on 9 of 20 values of 'day' only",
        ),
    ],
)
def test_what_nobody_can_tell(y, new, old, days, why) -> None:
    random = np.random.default_rng(0)
    made = {
        "noise": random.random,
        "same": lambda n: np.full(n, 0.4),
        "nine": lambda n: np.r_[np.full(9, 0.9), np.full(n - 9, 0.4)],
    }
    codes = None if days is None else Units(np.arange(100) % days, days, "day")
    metric = "roc_auc" if new == "noise" else "accuracy"
    found = gain(metric, y, made[new](100), made[old](100), units=codes)
    assert found.error is None
    assert found.bounds(0.025) is None
    assert found.doubt.startswith(why)
    assert decide(found, Policy()).outcome == "cannot tell"


def test_a_gain_that_is_the_same_on_every_day_has_no_error() -> None:
    """On each day of four rows, one is taken and one is lost: the days agree, and their sums are all zero."""
    y = np.tile([0.0, 1.0], 40)
    new, old = y.copy(), y.copy()
    new[::4], old[1::4] = 1.0, 0.0
    found = gain("accuracy", y, new, old, units=Units(np.arange(80) // 4, 20, "day"))
    assert (found.value, found.error) == (0.0, None)
    assert found.doubt.startswith("the gain is the same in all 20 values of 'day'")
    assert decide(found, Policy()).outcome == "cannot tell"


def test_ten_that_differ_are_the_least() -> None:
    y = np.tile([0.0, 1.0], 50)
    new, old = np.full(100, 0.4), np.r_[np.full(MIN_UNITS, 0.9), np.full(90, 0.4)]
    assert gain("accuracy", y, new, old).error is not None


def test_a_loss_that_a_few_rows_carry_is_not_better() -> None:
    random = np.random.default_rng(5)
    y = random.normal(size=4000)
    new = y + random.normal(size=4000) * 1.02
    old = y + random.normal(size=4000)
    old[:39] += 30 * (1 + np.arange(39) / 39)
    found = gain("mse", y, new, old)
    assert found.bounds(0.025)[0] > 0 > found.trimmed
    said = decide(found, Policy())
    assert (said.outcome, said.promote) == ("cannot tell", False)
    assert "without the rows that differ most" in said.reason


def test_days_and_users_both_move_together() -> None:
    """By hand: the variances by day and by user, less that of the rows which share both."""
    random = np.random.default_rng(4)
    day, user = np.repeat(np.arange(20), 15), np.tile(np.arange(15), 20)
    pulls = random.normal(size=20)[day] + random.normal(size=15)[user] + 0.1 * random.normal(size=300)
    pulls -= pulls.mean()
    two = Units(day, 20, "day", also=Units(user, 15, "user"))

    def variance(codes: np.ndarray, count: int) -> float:
        return sum(pulls[codes == one].sum() ** 2 for one in range(count)) * count / (count - 1)

    expected = variance(day, 20) + variance(user, 15) - variance(np.arange(300), 300)
    assert standard_error(pulls, two) == pytest.approx(math.sqrt(expected) / 300)
    frame = pd.DataFrame({"day": day, "user": user, "more": 1})
    found = of_columns(frame, ["day", "user"])
    assert standard_error(pulls, found) == pytest.approx(math.sqrt(expected) / 300)
    kept = found.part(frame["day"].to_numpy() < 12)
    assert (kept.count, kept.also.count) == (12, 15)
    with pytest.raises(InvalidInput, match="cluster names 3 columns"):
        of_columns(frame, ["day", "user", "more"])


def test_few_users_tell_nothing_on_however_many_days() -> None:
    y, new, old = scores(900)
    units = Units(np.arange(900) % 30, 30, "day", also=Units(np.arange(900) % 7, 7, "user"))
    found = gain("log_loss", y, new, old, units=units)
    assert found.error is None
    assert found.doubt.startswith("7 values of 'user', whose rows move together, are too few")


@pytest.mark.parametrize("metric", ["calibration_bias", "calibration_slope_error"])
def test_a_guard_of_calibration_lets_harm_pass_as_seldom_as_it_says(metric) -> None:
    """A champion that is right, where the size of a deviation is above its truth; a challenger worse by just the margin."""
    margin, passed = {"calibration_bias": 0.06, "calibration_slope_error": 0.3}[metric], 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        logits = random.normal(size=500)
        y = (random.random(500) < 1 / (1 + np.exp(-logits))).astype(float)
        old = 1 / (1 + np.exp(-logits - 0.1 * random.normal(size=500)))
        sharper = 1 / (1 + np.exp(-logits))
        new = sharper + 0.06 if metric == "calibration_bias" else 1 / (1 + np.exp(-logits / 0.7))
        found = gain(metric, y, np.clip(new, 0, 1), old)
        passed += found.bounds(0.025)[0] > -margin
    assert passed < 18  # as above: 2.5 % of 300 are 7.5


def test_a_challenger_that_learned_by_heart_is_stopped_by_its_calibration() -> None:
    random = np.random.default_rng(1)
    logits = 2 * random.normal(size=20_000)
    y = (random.random(20_000) < 1 / (1 + np.exp(-logits))).astype(float)
    noisy = logits + 0.5 * random.normal(size=20_000)
    new, old = 1 / (1 + np.exp(-5 * logits)), 1 / (1 + np.exp(-noisy))
    policy = Policy(guards={"calibration_slope_error": 0.05})
    guard = gain("calibration_slope_error", y, new, old)
    assert decide(gain("roc_auc", y, new, old), Policy()).outcome == "better"
    assert decide(gain("roc_auc", y, new, old), policy, guards=[guard]).outcome == "worse"


@pytest.mark.parametrize(
    ("column", "count", "in_time"),
    [
        (pd.Series(pd.date_range("2026-01-01", periods=48, freq="h")), 2, True),
        (pd.Series(["2026-01-02", "2026-01-01", "2026-01-02T10:00:00Z"]), 2, True),
        (pd.Series(["anna", "berta", "anna"]), 2, False),
        (pd.Series([7, 7, 8]), 2, False),
    ],
)
def test_which_rows_move_together(column, count, in_time) -> None:
    found = by_column(column, "at")
    assert (found.count, found.in_time, found.name) == (count, in_time, "at")
    if in_time:
        assert found.codes[column.astype(str).argmin()] == 0


def test_a_unit_that_is_null_is_refused() -> None:
    with pytest.raises(InvalidInput, match="1 nulls") as caught:
        by_column(pd.Series(["a", None]), "user")
    assert caught.value.field == "cluster"


def test_on_a_month_of_flights_days_tell_less_than_rows() -> None:
    """Two models of the demo's domain on its real data: the error by days is several times that by rows."""
    from airflow_pipeops.demo import flights

    frames = [flights.features(flights.month(month, 6000)) for month in (1, 5, 6)]
    old, new = (flights.train(frame) for frame in frames[:2])
    june = frames[2]
    new, old = (model.predict_proba(june[list(flights.FEATURES)])[:, 1] for model in (new, old))
    found = gain("log_loss", june["late"], new, old, units=by_column(june["day"], "day"))
    assert found.units == 30
    assert found.design_effect > 4
