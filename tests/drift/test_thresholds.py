"""Thresholds from history: the stated rate holds for windows to come; too short a history is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from airflow_pipeops.drift.judging.thresholds import calibrate
from airflow_pipeops.drift.judging.verdicts import compare_columns
from airflow_pipeops.drift.settings import Settings
from airflow_pipeops.drift.statistics.aggregates import from_categories, from_values
from airflow_pipeops.exceptions import InvalidInput


def window(generator: Any, reference: Any, rows: int = 200) -> Any:
    """A window with a level of its own: more than chance alone, as seasons are."""
    values = generator.normal(generator.normal(0, 0.3), 1, rows)
    return from_values(values, centre=reference.centre, scale=reference.scale, resolution=64)


def test_the_stated_rate_holds_where_the_default_would_cry() -> None:
    generator = np.random.default_rng(5)
    reference = from_values(generator.normal(size=4000), resolution=64)
    alarms = defaults = 0
    for _ in range(200):
        history = [{"x": window(generator, reference)} for _ in range(19)]
        found = calibrate(history, reference={"x": reference}, rate=0.05)
        assert found.rate == pytest.approx(0.05)
        (score,) = calibrate(
            [{"x": window(generator, reference)}] * 2, reference={"x": reference}, rate=0.4
        ).scores["x"][:1]
        alarms += score >= found.thresholds["x"]
        defaults += score >= 0.1
    # Exactly 5% in truth: much fewer or more than 10 of 200 would be one in a thousand.
    assert stats.binom.ppf(0.001, 200, 0.05) <= alarms <= stats.binom.ppf(0.999, 200, 0.05)
    assert defaults > 40


def test_each_window_against_all_others() -> None:
    generator = np.random.default_rng(1)
    first = from_values(generator.normal(size=500), resolution=64)
    history = [
        {
            "x": window(generator, first, 500),
            "c": from_categories(generator.choice(list("ab"), 500)),
            "odd": first,
        }
        for _ in range(20)
    ]
    del history[3]["odd"]
    found = calibrate(history, rate=0.05)
    assert set(found.thresholds) == {"x", "c"}
    assert all(len(scores) == 20 for scores in found.scores.values())
    assert found.thresholds["x"] > max(0.0, *sorted(found.scores["x"])[:-1])
    assert calibrate(history, rate=0.05, least=0.7).thresholds["c"] == 0.7


def test_the_thresholds_are_used_and_those_of_a_person_kept() -> None:
    generator = np.random.default_rng(2)
    reference = from_values(generator.normal(size=2000), resolution=64)
    history = [{"x": window(generator, reference, 2000)} for _ in range(20)]
    found = calibrate(history, reference={"x": reference}, rate=0.05)
    settings = found.applied(Settings())
    worst = max(history, key=lambda one: found.scores["x"][history.index(one)])
    (result,) = compare_columns({"x": reference}, worst, settings)
    assert result.threshold == found.thresholds["x"]
    assert result.verdict == "no drift"
    assert found.applied(Settings(thresholds={"x": 7.0})).thresholds["x"] == 7.0


def test_too_short_a_history_and_p_values_are_refused() -> None:
    one = from_values(np.arange(900.0))
    with pytest.raises(InvalidInput, match="cannot tell") as caught:
        calibrate([{"x": one}] * 18, rate=0.05)
    assert "at least 19 windows" in str(caught.value)
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        calibrate([{"x": one}] * 18, rate=5)
    with pytest.raises(InvalidInput, match="p-value"):
        calibrate([{"x": one}] * 20, Settings(mode="evidently-compatible"), reference={"x": one}, rate=0.05)
