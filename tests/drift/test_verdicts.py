"""Verdicts: of columns whose values moved, whose schema broke, and of the data set; and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from airflow_pipeops.drift.judging.verdicts import (
    Settings,
    compare_columns,
    dataset_verdict,
    judge,
    score_column,
)
from airflow_pipeops.drift.statistics.aggregates import Aggregate, from_categories, from_values
from airflow_pipeops.exceptions import InvalidInput

MODES = ["robust", "evidently-compatible"]


def numbers(values: Any, like: Any = None, resolution: int | None = 4096) -> Any:
    if like is None:
        return from_values(values, resolution=resolution)
    return from_values(values, centre=like.centre, scale=like.scale, resolution=resolution)


@pytest.fixture
def sides() -> tuple[dict[str, Aggregate], dict[str, Aggregate]]:
    generator = np.random.default_rng(0)
    before: dict[str, Aggregate] = {}
    after: dict[str, Aggregate] = {}
    for index in range(8):
        before[f"n{index}"] = numbers(generator.normal(size=5000))
        after[f"n{index}"] = numbers(generator.normal(0.5 * (index == 3), 1, 5000), before[f"n{index}"])
    before["c"] = from_categories(generator.choice(list("abcd"), 5000))
    after["c"] = from_categories(generator.choice(list("abcd"), 5000))
    return before, after


def verdicts(results: list[Any]) -> dict[str, str]:
    return {item.column: item.verdict for item in results}


@pytest.mark.parametrize("mode", MODES)
def test_what_moved_drifts_and_nothing_else(mode: str, sides: Any) -> None:
    results = compare_columns(*sides, Settings(mode=mode))
    said = verdicts(results)
    assert [name for name, verdict in said.items() if verdict == "drift"] == ["n3"]
    assert list(said) == list(sides[0])
    whole = dataset_verdict(results)
    assert (whole.verdict, whole.judged, whole.share) == ("no drift", 9, pytest.approx(1 / 9))
    json.dumps([item.to_json() for item in results] + [whole.to_json()], allow_nan=False)


@pytest.mark.parametrize("mode", MODES)
def test_what_broke_in_the_schema_is_a_finding(mode: str, sides: Any) -> None:
    before, after = sides
    before |= {"gone": before["c"], "texts": before["c"], "void": before["n0"], "empty": before["n0"]}
    after |= {
        "new": before["c"],
        "texts": after["n0"],
        "void": from_values(np.full(9, np.nan)),
        "empty": from_values(np.zeros(0)),
    }
    results = compare_columns(before, after, Settings(mode=mode))
    said = verdicts(results)
    assert {name: said[name] for name in ("gone", "new", "texts", "void", "empty")} == {
        "gone": "missing",
        "new": "extra",
        "texts": "retyped",
        "void": "all null",
        "empty": "undecided",
    }
    whole = dataset_verdict(results)
    assert whole.drifted
    assert whole.broken == ("gone", "texts", "void")
    assert whole.judged == 12


def test_a_critical_column_decides_alone(sides: Any) -> None:
    settings = Settings(critical=["n3"])
    whole = dataset_verdict(compare_columns(*sides, settings), settings)
    assert whole.drifted
    assert whole.critical == ("n3",)
    settings = Settings(critical=["n2"])
    assert not dataset_verdict(compare_columns(*sides, settings), settings).drifted


def test_weights_move_the_share(sides: Any) -> None:
    settings = Settings(weights={"n3": 8.0})
    whole = dataset_verdict(compare_columns(*sides, settings), settings)
    assert whole.share == pytest.approx(0.5)
    assert whole.drifted
    settings = Settings(weights={"n3": 0.0})
    assert dataset_verdict(compare_columns(*sides, settings), settings).share == 0


def test_target_and_prediction_are_kept_apart(sides: Any) -> None:
    settings = Settings(targets=["n3"], predictions=["c"])
    whole = dataset_verdict(compare_columns(*sides, settings), settings)
    assert whole.targets == (("n3", "drift"),)
    assert whole.predictions == (("c", "no drift"),)
    assert (whole.judged, whole.share) == (7, 0.0)


def test_thresholds_by_column(sides: Any) -> None:
    assert verdicts(compare_columns(*sides, Settings(thresholds={"n3": 9.0})))["n3"] == "no drift"
    low = Settings(mode="evidently-compatible", thresholds={"n2": 0.0001})
    assert verdicts(compare_columns(*sides, low))["n2"] == "drift"


def test_too_few_rows_are_undecided_and_not_counted() -> None:
    generator = np.random.default_rng(0)
    before = {"x": numbers(generator.normal(size=5000)), "y": numbers(generator.normal(size=5000))}
    after = {
        "x": numbers(generator.normal(size=30), before["x"]),
        "y": numbers(generator.normal(size=500), before["y"]),
    }
    results = compare_columns(before, after)
    assert verdicts(results) == {"x": "undecided", "y": "no drift"}
    assert "30 usable rows" in results[0].detail
    assert not results[0].open
    assert dataset_verdict(results).judged == 1
    assert dataset_verdict(results[:1]).verdict == "undecided"


def test_columns_of_which_nobody_can_tell_do_not_pass_the_whole() -> None:
    generator = np.random.default_rng(0)
    names = ["a", "b", "c", "d"]
    before = {name: numbers(generator.normal(size=5000)) for name in names}
    after = {
        name: numbers(generator.normal(size=rows), before[name])
        for name, rows in zip(names, (5000, 5000, 30, 30), strict=True)
    }
    results = compare_columns(before, after)
    assert verdicts(results) == {"a": "no drift", "b": "no drift", "c": "undecided", "d": "undecided"}
    whole = dataset_verdict(results)
    assert (whole.verdict, whole.low, whole.high, whole.judged) == ("undecided", 0.0, 0.5, 2)
    # Where even both of them would not be enough, they do not matter; a critical one always does.
    assert dataset_verdict(results, Settings(drift_share=0.6)).verdict == "no drift"
    assert "at most 50%" in dataset_verdict(results, Settings(drift_share=0.6)).reasons[0]
    critical = Settings(drift_share=0.6, critical=["c"])
    assert dataset_verdict(results, critical).verdict == "undecided"


def test_missing_values_are_drift_though_the_distribution_is_the_same() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=5000)
    before = {"x": numbers(generator.normal(size=5000))}
    holes = np.where(np.arange(5000) % 5 == 0, np.nan, values)
    (found,) = compare_columns(before, {"x": numbers(holes, before["x"])})
    assert (found.verdict, found.dimension, found.score) == ("drift", "missing", pytest.approx(0.2))
    assert found.nulls == (0.0, pytest.approx(0.2))
    assert "missing" in found.detail


def test_new_categories_and_values_beyond_the_range_are_drift() -> None:
    generator = np.random.default_rng(0)
    common = [str(number) for number in range(20)]
    before = {
        "c": from_categories(generator.choice(common, 5000)),
        "x": numbers(generator.uniform(size=5000)),
    }
    after = {
        "c": from_categories(np.r_[generator.choice(common, 4600), np.full(400, "new")]),
        "x": numbers(np.r_[generator.uniform(size=4600), np.full(400, 1.5)], before["x"]),
    }
    for found in compare_columns(before, after, Settings(threshold=9.0)):
        assert (found.verdict, found.dimension) == ("drift", "unseen")
        assert found.score == pytest.approx(0.08)


def test_segments_are_more_columns(sides: Any) -> None:
    before, after = (
        {(name, segment): one for name, one in side.items() for segment in "ab"} for side in sides
    )
    results = compare_columns(before, after)
    assert [(item.column, item.segment) for item in results if item.drifted] == [("n3", "a"), ("n3", "b")]
    del after[("n0", "b")]
    said = {(item.column, item.segment): item.verdict for item in compare_columns(before, after)}
    assert said[("n0", "b")] == "missing"


def test_column_by_column_is_the_same_as_at_once(sides: Any) -> None:
    settings = Settings()
    scored = [score_column(name, one, sides[1][name], settings) for name, one in sides[0].items()]
    assert judge(scored, settings) == compare_columns(*sides, settings)


@pytest.mark.parametrize("setting", ["thresholds", "weights", "methods", "kinds"])
def test_a_setting_for_an_unknown_column_is_refused(setting: str, sides: Any) -> None:
    value: Any = {"methods": "psi", "kinds": "numerical"}.get(setting, 1.0)
    with pytest.raises(InvalidInput, match="neither side has") as caught:
        compare_columns(*sides, Settings(**{setting: {"nothing": value}}))
    assert caught.value.field == setting


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "evidently"},
        {"method": "mmd"},
        {"methods": {"x": "KS"}},
        {"kinds": {"x": "number"}},
        {"threshold": -1.0},
        {"thresholds": {"x": float("nan")}},
        {"weights": {"x": -1.0}},
        {"false_alarms": 0.0},
        {"drift_share": 1.5},
        {"bins": 1},
        {"min_rows": 0},
    ],
)
def test_bad_settings_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Settings(**wrong)


def test_no_common_column_is_refused() -> None:
    one = from_values(np.arange(5.0))
    with pytest.raises(InvalidInput, match="no column in common"):
        compare_columns({"a": one}, {"b": one})


def test_a_coarse_aggregate_is_undecided_and_looking_up_what_it_names_decides() -> None:
    from airflow_pipeops.drift.statistics.cells import split

    generator = np.random.default_rng(3)
    x, y = generator.normal(size=20_000), generator.normal(0.145, 1, 20_000)
    before = numbers(x, resolution=16)
    after = numbers(y, before, resolution=16)
    exact = {"x": numbers(x, resolution=None)}, {"x": numbers(y, resolution=None)}
    excess = compare_columns(*exact, Settings(method="ks"))[0].excess
    assert excess is not None
    settings = Settings(method="ks", thresholds={"x": excess * 0.9999})  # a hair below
    (found,) = compare_columns({"x": before}, {"x": after}, settings)
    assert found.verdict == "undecided"
    assert found.open
    assert dataset_verdict([found]).verdict == "undecided"

    def looked_up(one: Any, values: np.ndarray) -> Any:
        chosen = np.zeros(len(values), bool)
        for low, high in found.refine:
            chosen |= (values >= low) & (values <= high)
        return split(one, *np.unique(values[chosen], return_counts=True))

    (settled,) = compare_columns({"x": looked_up(before, x)}, {"x": looked_up(after, y)}, settings)
    (truth,) = compare_columns(*exact, settings)
    assert settled.verdict == truth.verdict == "drift"
    assert settled.low == settled.high == pytest.approx(truth.score, rel=1e-12)
    with pytest.raises(InvalidInput, match="do not add up"):
        split(before, *np.unique(x[:500], return_counts=True))
