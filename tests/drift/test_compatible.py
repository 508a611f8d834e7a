"""The compatible mode against the real Evidently, column by column and method by method."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from airflow_pipeops.drift.judging.verdicts import ColumnResult, Settings, compare_columns
from airflow_pipeops.drift.settings import COMPATIBLE_METHODS
from airflow_pipeops.drift.statistics.aggregates import from_categories, from_values
from airflow_pipeops.drift.statistics.bins import sturges_edges
from airflow_pipeops.drift.statistics.cells import split
from airflow_pipeops.drift.statistics.histogram import common_type
from tests import realdata
from tests.drift import hard_columns

MODE = "evidently-compatible"

Side = dict[str, pd.Series]


def evidently(
    before: Side, after: Side, method: str | None = None, **definition: Any
) -> dict[str, tuple[str, float, bool] | None]:
    """Return method, score and verdict by column, as Evidently's own report says; ``None`` where it fails."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.metrics.column_statistics import ValueDriftCalculation

    os.environ.setdefault("DO_NOT_TRACK", "1")
    found: dict[str, tuple[str, float, bool] | None] = {}
    for column in before:
        given = {"data_definition": DataDefinition(**definition)} if definition else {}
        sides = [Dataset.from_pandas(side[column].to_frame(column), **given) for side in (after, before)]
        report = Report([ValueDrift(column=column, method=method)], include_tests=True)
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stderr(nowhere),
            # Four fifths of the time went into figures that nobody looks at.
            mock.patch.object(ValueDriftCalculation, "_render", return_value=[]),
        ):
            warnings.simplefilter("ignore")
            try:
                said = report.run(*sides).dict()
            except Exception:
                found[column] = None
                continue
        metric = said["metrics"][0]
        drifted = said["tests"][0]["status"] == "FAIL"
        found[column] = (metric["config"]["method"], float(metric["value"]), drifted)
    return found


def ours(before: Side, after: Side, settings: Settings, resolution: int | None) -> dict[str, ColumnResult]:
    """Compare by aggregates: with ``resolution``, as an engine builds them, and looking up what is left open."""
    left, right = {}, {}
    for name in before:
        one, other = before[name], after[name]
        if one.dtype == object or one.dtype.name in ("str", "string", "category", "bool"):
            left[name], right[name] = from_categories(one), from_categories(other)
        else:
            left[name], right[name] = pair(one, other, resolution)
    results = {item.column: item for item in compare_columns(left, right, settings)}
    for name, item in results.items():
        if item.refine:
            sides = {name: look_up(left[name], before[name], item.refine)}
            others = {name: look_up(right[name], after[name], item.refine)}
            (results[name],) = compare_columns(sides, others, narrowed(settings, name))
    return results


def narrowed(settings: Settings, name: str) -> Settings:
    kinds = {key: kind for key, kind in settings.kinds.items() if key == name}
    return Settings(mode=MODE, method=settings.method, kinds=kinds)


def pair(one: pd.Series, other: pd.Series, resolution: int | None) -> tuple[Any, Any]:
    first = from_values(one, resolution=resolution)
    second = from_values(other, centre=first.centre, scale=first.scale, resolution=resolution)
    if resolution is None or not (first.finite and second.finite):
        return first, second
    low, high = min(first.low[0], second.low[0]), max(first.high[-1], second.high[-1])
    edges = sturges_edges(low, high, first.finite + second.finite, common_type(first, second))
    like = {"centre": first.centre, "scale": first.scale, "resolution": resolution, "edges": edges}
    return from_values(one, **like), from_values(other, **like)


def look_up(aggregate: Any, values: pd.Series, intervals: Any) -> Any:
    numbers = values.dropna().to_numpy("float64")
    numbers = np.sort(numbers[np.isfinite(numbers)])
    chosen = np.zeros(len(numbers), bool)
    for low, high in intervals:
        chosen[np.searchsorted(numbers, low, "left") : np.searchsorted(numbers, high, "right")] = True
    return split(aggregate, *np.unique(numbers[chosen], return_counts=True))


def check(
    before: Side,
    after: Side,
    method: str | None,
    resolution: int | None,
    kind: str = "",
    *,
    known: Any = None,
) -> int:
    """Compare and return how many scores were exact; fail with all that differ."""
    definition = {f"{kind}_columns": list(before)} if kind else {}
    theirs = known if known is not None else evidently(before, after, method, **definition)
    settings = Settings(mode=MODE, method=method, kinds=dict.fromkeys(before, kind) if kind else {})
    found = ours(before, after, settings, resolution)
    wrong = {
        name: item
        for name, item in found.items()
        if not (agree(item, theirs[name], method) or excused(item, before[name], after[name], theirs[name]))
    }
    assert not wrong, "\n".join(f"{name}: {theirs[name]}\n    {item}" for name, item in wrong.items())
    return sum(item.score is not None and item.low == item.high for item in found.values())


def excused(item: ColumnResult, before: pd.Series, after: pd.Series, truth: Any) -> bool:
    """Whether ours is Student's test to nine digits, and Evidently's as good as its rounding of the means allows.

    It takes them in the column's own type: far from zero, or in single precision, that is less than nine digits.
    """
    if item.method != "t_test" or truth is None:
        return False
    sides = [side[np.isfinite(side.astype("float64"))] for side in (before, after)]
    sides = [side if side.dtype.kind in "iu" else side.astype("float64") for side in sides]
    x, y = ((side.to_numpy() - sides[0].iloc[0]).astype("float64") for side in sides)  # loses nothing
    if not (x.any() or y.any()):  # one constant: no test, but Evidently may have its rounding tested
        return (item.score, item.verdict) == (None, "undecided")
    unit = 64 * float(np.finfo("float32" if before.dtype == "float32" else "float64").eps)
    freedom = len(x) + len(y) - 2
    means = math.fsum(x) / len(x), math.fsum(y) / len(y)
    squares = math.fsum((x - means[0]) ** 2) + math.fsum((y - means[1]) ** 2)
    width = math.sqrt(squares / freedom * (1 / len(x) + 1 / len(y)))
    t = abs(means[0] - means[1]) / width
    slack = unit * (t + max(abs(float(side.max())) for side in (*sides, *(-side for side in sides))) / width)
    p, high, low = (2 * scipy.stats.t.sf(max(0.0, part), freedom) for part in (t, t - slack, t + slack))
    close = item.low <= p <= item.high or item.score == pytest.approx(p, rel=1e-9, abs=2e-15)
    return close and low <= truth[1] <= high and item.verdict == ("drift" if truth[2] else "no drift")


def agree(item: ColumnResult, truth: tuple[str, float, bool] | None, method: str | None) -> bool:
    if truth is None or math.isnan(truth[1]):
        return item.score is None and item.verdict == "undecided"
    said, score, drifted = truth
    if item.open and method == "hellinger":
        return True  # its bins hang on the number of distinct values, of which only so many are looked up at once
    if item.score is None or item.low is None or item.high is None:
        return False
    if not item.low <= item.score <= item.high:
        return False
    # A p-value is one minus something: it is right to some digits of one.
    least = 1e-12 if said == "cramer_von_mises" else 2e-15
    near = item.low < item.high or item.score == pytest.approx(score, rel=1e-9, abs=least)
    inside = item.low <= score * (1 + 1e-9) + least and score * (1 - 1e-9) - least <= item.high
    named = item.method == (COMPATIBLE_METHODS[method][3] if method else said)
    return near and inside and named and item.verdict == ("drift" if drifted else "no drift")


def adverse(rows: int) -> tuple[Side, Side]:
    pairs = hard_columns.columns(rows) | {
        f"text {name}": values for name, values in hard_columns.categories(rows).items()
    }
    return tuple({name: pd.Series(both[side]) for name, both in pairs.items()} for side in (0, 1))  # type: ignore[return-value]


#: A typed list of which columns Evidently cannot compare by itself: of those types it leaves out in silence.
UNKNOWN = ("bytes",)


def without(sides: tuple[Side, Side], names: Any) -> tuple[Side, Side]:
    return tuple({key: value for key, value in side.items() if key not in names} for side in sides)  # type: ignore[return-value]


@lru_cache(maxsize=4)
def default(rows: int) -> tuple[tuple[Side, Side], Any]:
    sides = without(adverse(rows), [*UNKNOWN, "text many"] if rows < 6000 else UNKNOWN)
    return sides, evidently(*sides)


@pytest.mark.parametrize("resolution", [None, 65536])
@pytest.mark.parametrize("rows", [700, 100_000])
def test_what_evidently_chooses_by_itself(rows: int, resolution: int | None) -> None:
    sides, known = default(rows)
    exact = check(*sides, None, resolution, known=known)
    # Integers beyond 2**53 are rounded to doubles, so they are bounded only.
    assert exact >= (len(known) - 2 if resolution is None else 14)


NUMERIC = [name for name, (kinds, *_) in COMPATIBLE_METHODS.items() if "numeric" in kinds]
CATEGORICAL = [name for name, (kinds, *_) in COMPATIBLE_METHODS.items() if "categorical" in kinds]
SOME = ["outlier 1e12", "float32 ties", "bytes", "zero-inflated", "two values"]


@pytest.mark.parametrize("method", NUMERIC)
def test_numeric_methods(method: str) -> None:
    sides = adverse(100_000)
    few = without(sides, set(sides[0]) - set(SOME))
    known = evidently(*few, method, numerical_columns=SOME)
    for resolution in (None, 65536):
        check(*few, method, resolution, "numerical", known=known)


@pytest.mark.parametrize("method", NUMERIC)
def test_numeric_methods_on_every_kind_of_column(method: str) -> None:
    sides = adverse(3000)
    few = without(sides, [name for name in sides[0] if name.startswith("text")])
    known = evidently(*few, method, numerical_columns=list(few[0]))
    for resolution in (None, 512):
        check(*few, method, resolution, "numerical", known=known)


def test_evidently_calls_a_constant_drifted() -> None:
    """Its rounding of the two means decides: no number, one, or as good as zero; there is no number."""
    drifted = set()
    for rows in (1000, 2000, 3000, 5000):
        before, after = ({"x": pd.Series(np.full(size, 3.7))} for size in (rows, rows - rows // 10))
        found = evidently(before, after, "t_test")["x"]
        drifted.add(found is not None and found[2])
        (item,) = ours(before, after, Settings(mode=MODE, method="t_test"), None).values()
        assert (item.score, item.verdict) == (None, "undecided")
    assert True in drifted


@pytest.mark.parametrize("method", CATEGORICAL)
def test_categorical_methods(method: str) -> None:
    """The second time with as many rows on both sides: without that Evidently's G-test has no number."""
    sides = adverse(20_000)
    few = without(sides, [name for name in sides[0] if not name.startswith("text")])
    rows = 15_000 if method == "g_test" else 19_000
    check(few[0], {name: values[:rows] for name, values in few[1].items()}, method, None, "categorical")
    if method == "g_test":
        alike = [{name: values[:rows] for name, values in side.items()} for side in few]
        assert check(alike[0], alike[1], method, None, "categorical") >= 6


@pytest.mark.nightly
@pytest.mark.parametrize("method", [None, *NUMERIC])
def test_all_of_it_at_a_million_rows(method: str | None) -> None:
    sides = adverse(1_000_000)
    if method is None:
        sides = without(sides, UNKNOWN)
        known = evidently(*sides)
    else:
        sides = without(sides, [name for name in sides[0] if name.startswith("text")])
        known = evidently(*sides, method, numerical_columns=list(sides[0]))
    for resolution in (None, 65536):
        check(*sides, method, resolution, "numerical" if method else "", known=known)


@pytest.mark.nightly
@pytest.mark.parametrize("data", ["flights", "elec2", "noaa", "covtype", "employment"])
def test_real_data_at_full_size(data: str) -> None:
    """Halves in the file's order: most of these drift."""
    sides = halves(data)
    known = evidently(*sides)
    for resolution in (None, 65536):
        check(*sides, None, resolution, known=known)


def test_real_data() -> None:
    check(*halves("elec2"), None, None)


def halves(data: str) -> tuple[Side, Side]:
    frame = getattr(realdata, data)()
    frame = frame[
        [name for name in frame if frame[name].dtype.kind in "ifO" or frame[name].dtype.name == "str"]
    ]
    middle = len(frame) // 2
    return tuple({name: part[name] for name in frame} for part in (frame[:middle], frame[middle:]))  # type: ignore[return-value]


def test_free_text_is_said_to_be_such() -> None:
    before, after = (pd.Series([f"{side} {number}" for number in range(900)]) for side in "ab")
    (found,) = ours({"x": before}, {"x": after}, Settings(mode=MODE), None).values()
    assert (found.verdict, found.score) == ("undecided", None)
    assert "free text" in found.detail


def test_a_cap_gives_bounds_around_evidently() -> None:
    """The most frequent categories alone: the distance of all of them lies between the bounds."""
    before, after = hard_columns.categories(20_000)["skewed"]
    truth = evidently({"x": pd.Series(before)}, {"x": pd.Series(after)})["x"]
    assert truth is not None
    for top in (5, 50, 500):
        left, right = ({"x": from_categories(side, top=top)} for side in (before, after))
        (found,) = compare_columns(left, right, Settings(mode=MODE))
        assert found.low is not None
        assert found.high is not None
        assert found.low <= truth[1] <= found.high
        assert found.low < found.high


@pytest.mark.parametrize("method", ["psi", "jensenshannon", "kl_div", "hellinger"])
def test_a_profile_without_evidentlys_bins_gives_bounds_around_evidently(method: str) -> None:
    """A saved reference cannot know the bins, which depend on both sides."""
    before, after = hard_columns.columns(20_000)["plain"]
    first = from_values(before, resolution=4096)
    second = from_values(after, centre=first.centre, scale=first.scale, resolution=4096)
    truth = evidently({"x": pd.Series(before)}, {"x": pd.Series(after)}, method)["x"]
    assert truth is not None
    (found,) = compare_columns({"x": first}, {"x": second}, Settings(mode=MODE, method=method))
    if found.high is None:
        assert found.verdict == "undecided"
        assert found.refine
    else:
        assert found.low is not None
        assert found.low <= truth[1] <= found.high
