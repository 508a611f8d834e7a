"""How rare a deviation is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.operations.anomalies import pool as module
from airflow_pipeops.operations.anomalies.pool import LEAST, Pool
from tests.operations.anomalies.worlds import heavy


def filled(values) -> Pool:
    pool = Pool()
    for value in values:
        pool.add(value)
    return pool


@given(st.lists(st.floats(-50, 50), min_size=LEAST, max_size=300), st.floats(-200, 200), st.floats(0, 100))
@settings(max_examples=100, deadline=None)
def test_what_is_further_off_is_no_more_likely(values, deviation: float, further: float) -> None:
    pool = filled(values)
    assert 0 < pool.above(deviation + further) <= pool.above(deviation) + 1e-12 <= 1 + 1e-9
    assert 0 < pool.below(deviation - further) <= pool.below(deviation) + 1e-12 <= 1 + 1e-9


@given(st.lists(st.floats(-50, 50), min_size=LEAST, max_size=200), st.floats(-100, 100))
@settings(max_examples=60, deadline=None)
def test_below_is_above_of_the_mirrored(values, deviation: float) -> None:
    assert filled(values).below(deviation) == pytest.approx(
        filled([-value for value in values]).above(-deviation)
    )


@pytest.mark.parametrize("freedom", [3.0, 5.0, 50.0])
def test_the_chance_is_a_bound_far_beyond_what_was_seen(freedom: float) -> None:
    """Of 1,000 values, the next ones: no more of them are as rare as 1 in 5,000 than 1 in 5,000."""
    rng = random.Random(1)
    below = total = 0
    for _ in range(20):
        pool = filled(heavy(rng, freedom) for _ in range(1000))
        found = [pool.above(heavy(rng, freedom)) for _ in range(5000)]
        below, total = below + sum(chance <= 1 / 5000 for chance in found), total + len(found)
    assert below <= total / 5000 * 1.9, "20 are due; a bound may be missed by its noise alone"


def test_a_rank_alone_cannot_reach_what_a_budget_asks_for() -> None:
    rng = random.Random(2)
    pool = filled(rng.gauss(0, 1) for _ in range(60))
    assert pool.above(30.0) < 1e-5 < 1 / 61


def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 40)
    pool = filled([*[1000.0] * 40, *map(float, range(40))])
    assert len(pool) == 40
    assert pool.above(39.0) < 0.5


def test_equal_values_are_no_tail() -> None:
    pool = filled([0.0] * 100)
    assert pool.above(0.0) == 1.0
    assert pool.below(0.0) == 1.0
    assert pool.above(1.0) > 1 / 101 > pool.above(5.0)
