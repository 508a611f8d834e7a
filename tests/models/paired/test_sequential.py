"""A gain that is looked at each day: how often it errs, and how long it takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.models.paired.decision import Policy, decide
from airflow_pipeops.models.paired.gain import Gain
from airflow_pipeops.models.paired.sequential import chance, quantile
from tests.benchmarks.promotion import looked_at, watched


@given(st.floats(1e-9, 0.4), st.integers(10, 10_000), st.integers(3, 500), st.integers(10, 365))
def test_the_chance_is_that_of_the_quantile(alpha: float, units: int, degrees: int, planned: int) -> None:
    errors = quantile(alpha, units, degrees, planned)
    assert chance(errors, units, degrees, planned) == pytest.approx(alpha, rel=1e-4)


def test_by_hand() -> None:
    """The boundary of Waudby-Smith and others at its planned time, whose variance is known as a million days know it."""
    n, scale = 60, (5.99146 + np.log(6.99146)) / 60
    expected = np.sqrt(2 * (n * scale + 1) / (n * scale) * np.log(np.sqrt(n * scale + 1) / 0.05))
    assert quantile(0.025, n, 10**9, 60) == pytest.approx(expected, rel=1e-4)
    assert quantile(0.025, n, 10**9, 60) < min(quantile(0.025, n, 10**9, far) for far in (15, 240))
    assert chance(0.0, n, 9, 60) == chance(-1.0, n, 9, 60) == 0.5


def test_who_looks_each_day_says_of_equal_models_as_seldom_as_promised_that_they_differ() -> None:
    """From the tenth to the fiftieth day, 100 times; 2.5 % on either side are five, and twelve have a chance of 1 in 200."""
    found = {"once": 0, "at all times": 0}
    for seed in range(100):
        gains = watched(np.random.default_rng(seed), 50)
        for rule in found:
            found[rule] += looked_at(gains, rule, 30)[0] != "cannot tell"
    assert found["at all times"] < 12
    assert found["once"] > 13, "what anybody finds who looks each day at an interval made for one look"


def test_a_better_challenger_is_found_and_a_worse_one_is_too() -> None:
    for shift, outcome in ((1.0, "better"), (-1.0, "worse")):
        found = [
            looked_at(watched(np.random.default_rng(seed), 60, shift), "at all times", 30)
            for seed in range(20)
        ]
        assert [one[0] for one in found].count(outcome) >= 18
        assert np.median([one[1] for one in found]) < 45


def test_slices_and_guards_are_looked_at_in_the_same_way() -> None:
    """Of a gain that is looked at each day, what harms beyond doubt is what lies below its bounds."""
    fine = Gain("auc", 0.6, 0.5, 0.1, 0.01, 40, 4000, 40, "day", planned=30)
    for value in (-0.02, -0.026, -0.029, -0.04):
        slice_ = Gain("auc", 0.5 + value, 0.5, value, 0.01, 40, 400, 40, "day", planned=30)
        below = slice_.bounds(0.025)[1] < 0
        assert (decide(fine, Policy(), slices={"s": slice_}).outcome == "worse") is below
    assert (
        decide(fine, Policy(), slices={"s": Gain("auc", 0.47, 0.5, -0.025, 0.01, 40, 400, 40)}).outcome
        == "worse"
    )


def test_more_days_are_needed_where_looks_are_many() -> None:
    once, each = (
        decide(Gain("auc", 0.51, 0.5, 0.01, 0.01, 29, 900, 30, "day", planned=planned), Policy())
        for planned in (None, 30)
    )
    assert once.outcome == each.outcome == "cannot tell"
    assert each.further_units > once.further_units > 0
