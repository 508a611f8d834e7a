"""Metrics against scikit-learn, and their intervals against repeated sampling."""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance import METRICS, Performance, measure, rarest
from airflow_pipeops.models.performance.intervals import Part, bounded, proportion
from airflow_pipeops.models.performance.metrics import influence
from tests.benchmarks import coverage

TRUTH = {
    "roc_auc": sk.roc_auc_score,
    "log_loss": sk.log_loss,
    "brier_score": sk.brier_score_loss,
    "calibration_bias": lambda y, p: abs(np.mean(p) - np.mean(y)),
    "calibration_slope_error": lambda y, p: abs(regressed(y, p) - 1),
    "accuracy": lambda y, p: sk.accuracy_score(y, p >= 0.5),
    "precision": lambda y, p: sk.precision_score(y, p >= 0.5),
    "recall": lambda y, p: sk.recall_score(y, p >= 0.5),
    "f1": lambda y, p: sk.f1_score(y, p >= 0.5),
    "multiclass_accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "precision_macro": lambda y, p: sk.precision_score(y, p, average="macro", zero_division=0),
    "recall_macro": lambda y, p: sk.recall_score(y, p, average="macro", zero_division=0),
    "f1_macro": lambda y, p: sk.f1_score(y, p, average="macro"),
    "f1_weighted": lambda y, p: sk.f1_score(y, p, average="weighted"),
    "mae": sk.mean_absolute_error,
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "r2": sk.r2_score,
    **{
        f"pinball_loss_{percent}": functools.partial(sk.mean_pinball_loss, alpha=percent / 100)
        for percent in (1, 5, 10, 25, 50, 75, 90, 95, 99)
    },
}


def regressed(y: np.ndarray, p: np.ndarray) -> float:
    """The slope of a logistic regression on the logits, by scikit-learn's solver of second order."""
    from scipy.special import logit

    x = logit(np.clip(p, 1e-6, 1 - 1e-6))[:, None]
    solver = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-14, max_iter=500)
    return float(solver.fit(x, y).coef_[0, 0])


def binary(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    p = np.round(random.beta(2, 3, rows), 2)  # rounded, so that there are ties
    return (random.random(rows) < p).astype(float), p


def numbers(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.normal(10, 3, rows)
    return y, y + random.normal(0.5, 1, rows)


def names(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes of different sizes; what is not told by the prediction is drawn anew."""
    random = np.random.default_rng(seed)
    known, shares = np.array(["bird", "cat", "dog", "\u00fcbel"]), [0.45, 0.3, 0.15, 0.1]
    y, other = (random.choice(known, rows, p=shares) for _ in range(2))
    return y, np.where(random.random(rows) < 0.7, y, other)


SAMPLES = {"binary": binary, "multiclass": names, "regression": numbers}


def sample(metric: str, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return SAMPLES[METRICS[metric].task](rows, seed)


def test_every_metric_has_a_truth_here() -> None:
    assert set(TRUTH) == set(METRICS)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [40, 5000])
def test_equal_to_scikit_learn(metric: str, rows: int) -> None:
    y, p = sample(metric, rows, 7)
    found = measure(metric, y, p)
    # A regression is solved by steps: by both to the same value, and not to the same last digit.
    exact = {"rel": 1e-6, "abs": 1e-8} if metric == "calibration_slope_error" else {"rel": 1e-12}
    assert found.value == pytest.approx(TRUTH[metric](y, p), **exact)
    assert found.low <= found.value <= found.high
    assert found.rows == rows


@pytest.mark.parametrize("metric", METRICS)
def test_the_influence_of_a_row_is_what_the_metric_loses_without_it(metric: str) -> None:
    """Against the jackknife, which knows no formula: each row is left out, and the metric is measured anew."""
    y, p = sample(metric, 400, 11)
    if METRICS[metric].folded:
        p = p**2  # too low and too far apart: a deviation next to zero has no such thing
    value, pulls = influence(metric, y, p)
    left_out = np.array([influence(metric, np.delete(y, row), np.delete(p, row))[0] for row in range(len(y))])
    jackknife = (len(y) - 1) * (value - left_out)
    assert pulls.mean() == pytest.approx(0, abs=1e-9)
    assert np.corrcoef(pulls, jackknife)[0, 1] > 0.999
    assert pulls.std() == pytest.approx(jackknife.std(), rel=0.03)


@pytest.mark.parametrize(
    ("y", "p", "why"),
    [
        ([0, 1] * 20, [0.2] * 40, "not defined"),
        ([0] * 20 + [1] * 20, [0.2] * 20 + [0.6] * 20, "not defined"),
        ([0, 1] * 20, [-0.1, 0.5] * 20, "calibration_slope_error needs probabilities"),
    ],
)
def test_a_slope_that_nobody_can_have(y: list, p: list, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        measure("calibration_slope_error", y, p)


def test_the_sign_of_a_deviation_does_not_count() -> None:
    y, p = binary(5000, 3)
    high, low = (measure("calibration_bias", y, np.clip(p + by, 0, 1)) for by in (0.1, -0.1))
    assert high.low > 0.07
    assert low.low > 0.07
    sure = measure("calibration_slope_error", y, p**3 / (p**3 + (1 - p) ** 3))
    assert sure.value == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_covers_as_often_as_it_says(metric: str) -> None:
    truth = measure(metric, *sample(metric, 2_000_000, 1)).value
    rounds = 400
    hits = 0
    for seed in range(rounds):
        found = measure(metric, *sample(metric, 300, 1000 + seed))
        hits += found.low <= truth <= found.high
    # 95 % of 400 by the binomial distribution, four standard deviations either way.
    assert abs(hits - 0.95 * rounds) <= 4 * math.sqrt(rounds * 0.95 * 0.05)


@pytest.mark.parametrize("positives", [1, 2, 3, 5, 10, 100])
@pytest.mark.parametrize("case", coverage.CASES)
def test_few_rows_of_a_class_do_not_make_a_model_worse(case: str, positives: int) -> None:
    """Data as the model was measured on before: ``worse`` is an error, and 2.5 % of them are allowed."""
    rounds = 120
    held, worse = coverage.covered(coverage.CASES[case], positives, rounds)
    # 2.5 % of 120 are three; eleven have a chance of 1 in 5,000.
    assert worse * rounds <= 10
    assert held * rounds >= 0.95 * rounds - 4 * math.sqrt(rounds * 0.95 * 0.05)


def test_one_positive_row_says_next_to_nothing() -> None:
    y = np.r_[1.0, np.zeros(2000)]
    p = np.r_[0.5, np.linspace(0, 1, 2000)]
    found = measure("roc_auc", y, p)
    assert found.low < 0.05
    assert found.high > 0.95
    found = measure("recall", y, p, threshold=0.9)
    assert (found.value, found.low, found.high) == (0, 0, pytest.approx(0.975))
    best = measure("roc_auc", [0, 0, 1], [0.1, 0.2, 0.9])
    assert (best.value, best.high) == (1, 1)
    assert best.low < 0.1


def test_many_rows_narrow_it_by_what_they_vary() -> None:
    """As narrow as DeLong's, and not as that of a share of hits and misses."""
    y, p = binary(20_000, 5)
    found = measure("roc_auc", y, p)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.0037, rel=0.05)


@pytest.mark.parametrize(
    ("metric", "y", "p", "rows"),
    [
        ("roc_auc", [0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4], 1),
        ("roc_auc", [0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], 0),
        ("recall", [1, 1, 1, 0], [1, 1, 1, 1], 1),
        ("precision", [1, 1, 0, 0], [0, 0, 0, 0], 0),
        ("f1", [0, 0, 0], [1, 0, 0], 0),
        ("accuracy", [0, 0, 0], [0, 0, 0], 3),
        ("brier_score", [0, 0, 0], [0, 0, 0], 3),
        ("f1_macro", ["a", "a", "b"], ["a", "b", "c"], 1),
        ("multiclass_accuracy", ["a", "a", "b"], ["a", "b", "c"], 3),
        ("r2", [1, 1], [0, 2], 0),
        ("mae", [1, 1], [0, 2], 2),
    ],
)
def test_the_rarest_class_is_counted_where_a_metric_rests_on_it(
    metric: str, y: list, p: list, rows: int
) -> None:
    assert rarest(metric, y, p) == rows


@given(st.integers(0, 50), st.integers(1, 50))
@example(hits=0, more=11)
def test_a_proportion_stays_within_bounds_and_around_the_share(hits: int, more: int) -> None:
    trials = hits + more
    low, high = proportion(hits, trials, 0.95)
    assert 0 <= low <= hits / trials <= high <= 1
    assert high > low
    # Of hits and misses the bounds of a mean are the exact interval again.
    share = hits / trials
    part = Part(trials, share / (trials + 1), (1 - share) / (trials + 1), share * (1 - share) / trials)
    assert bounded(share, [part], 0.95) == pytest.approx((low, high), abs=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=60))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, float]]) -> None:
    y, p = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    if len(set(y)) < 2:
        with pytest.raises(InvalidInput, match="all labels are the same"):
            measure("roc_auc", y, p)
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]]
    found = measure("roc_auc", y, p)
    assert found.value == pytest.approx(np.mean(pairs))
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


few = st.sampled_from(["a", "b", "c", "d", 1, 2.5])


@given(st.lists(st.tuples(few, few), min_size=1, max_size=30))
def test_classes_of_any_kind_are_scikit_learns(rows: list[tuple[object, object]]) -> None:
    y, p = [row[0] for row in rows], [row[1] for row in rows]
    if not set(y) & set(p):
        return
    numbered = {name: number for number, name in enumerate(dict.fromkeys([*y, *p]))}
    coded = [[numbered[item] for item in side] for side in (y, p)]
    for metric in (name for name, kind in METRICS.items() if kind.task == "multiclass"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class that is predicted and no label
            truth = TRUTH[metric](*coded)
        assert measure(metric, y, p).value == pytest.approx(truth, rel=1e-12, abs=1e-12), metric


def test_worse_than_only_beyond_chance() -> None:
    y, p = binary(5000, 3)
    found = measure("roc_auc", y, p)
    assert found.worse_than(found.high + 0.001)
    assert not found.worse_than((found.value + found.high) / 2)
    loss = measure("brier_score", y, p)
    assert loss.worse_than(loss.low - 0.001)
    assert not loss.worse_than(loss.value)
    assert Performance(**loss.to_json()) == loss


@pytest.mark.parametrize(
    ("metric", "y", "p", "field"),
    [
        ("magic", [0, 1], [0, 1], "metric"),
        ("accuracy", [], [], "labels"),
        ("accuracy", [0, 1], [1], "labels"),
        ("accuracy", [0, 2], [0, 1], "labels"),
        ("mae", [1, math.nan], [1, 1], "labels"),
        ("mae", [1, 1], [1, math.inf], "predictions"),
        ("log_loss", [0, 1], [0.5, 1.5], "predictions"),
        ("precision", [0, 1], [0, 0], "metric"),
        ("r2", [1, 1], [0, 2], "metric"),
        ("accuracy", ["a", "b"], [0, 1], "labels"),
        ("accuracy", [0, 1], ["a", "b"], "predictions"),
        ("f1_macro", ["a", "b"], ["a"], "labels"),
        ("f1_macro", ["a", None], ["a", "b"], "labels"),
        ("f1_macro", ["a", "b"], ["a", math.nan], "predictions"),
        ("f1_macro", ["1", "2"], [1, 2], "predictions"),
    ],
)
def test_what_cannot_be_measured_is_named(metric: str, y: list, p: list, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        measure(metric, y, p)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("labels", "predictions"), [(["bird"] * 30, ["cat", "dog"] * 15), ([3] * 30, np.repeat([1.0, 2.0], 15))]
)
def test_a_day_on_which_no_predicted_class_is_a_label_is_measured(labels, predictions) -> None:
    found = measure("multiclass_accuracy", labels, predictions)
    assert (found.value, found.low) == (0.0, 0.0)
    assert 0 < found.high < 0.13
    assert measure("f1_macro", labels, predictions).value == 0.0


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        (["1", "2"], [1, 2]),
        (["Bird", "Cat"], ["bird ", "cat "]),
        ([0, 1], [0.13, 0.87]),
        ([True, False], ["yes", "no"]),
    ],
)
def test_classes_that_are_written_in_two_ways_are_refused(labels, predictions) -> None:
    with pytest.raises(InvalidInput, match="no class in common") as caught:
        measure("multiclass_accuracy", labels, predictions)
    assert caught.value.field == "predictions"
