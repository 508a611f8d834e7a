"""The true value lies inside every certified interval: against exact fractions, and against SciPy on adversarial columns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from airflow_pipeops.drift.statistics import ordered
from airflow_pipeops.drift.statistics.aggregates import from_values
from airflow_pipeops.drift.statistics.cells import Cells, joined, split
from airflow_pipeops.drift.statistics.pvalues import anderson_deviation
from tests import realdata
from tests.drift import hard_columns


def both(x: np.ndarray, y: np.ndarray, resolution: int | None) -> tuple[Any, Any]:
    first = from_values(x, resolution=resolution)
    return first, from_values(y, centre=first.centre, scale=first.scale, resolution=resolution)


# --- against exact fractions ------------------------------------------------------------------------------------------


def exact(x: Sequence[float], y: Sequence[float]) -> dict[str, Fraction]:
    """Statistics in exact arithmetic; the energy distance squared and halved, the others as they are."""
    n, m = len(x), len(y)
    points = sorted(set(x) | set(y))
    total = n + m
    found = dict.fromkeys(("ks", "wasserstein", "energy", "mises", "anderson"), Fraction(0))
    ranks, below = Fraction(0), 0
    for index, point in enumerate(points):
        first, second = sum(v < point for v in x), sum(v < point for v in y)
        p, q = x.count(point), y.count(point)
        gap = Fraction(first + p, n) - Fraction(second + q, m)
        found["ks"] = max(found["ks"], abs(gap))
        if index + 1 < len(points):
            width = Fraction(points[index + 1]) - Fraction(point)
            found["wasserstein"] += abs(gap) * width
            found["energy"] += gap * gap * width
        middle = first + second + Fraction(p + q + 1, 2)  # the midrank
        ranks += n * sum((middle - i) ** 2 for i in range(first + 1, first + p + 1))
        ranks += m * sum((middle - j) ** 2 for j in range(second + 1, second + q + 1))
        size, b = p + q, below + Fraction(p + q, 2)
        weight = b * (total - b) - Fraction(total * size, 4)
        if weight > 0:
            for counts, rows in ((first + Fraction(p, 2), n), (second + Fraction(q, 2), m)):
                inner = (total * counts - b * rows) ** 2 / weight
                found["anderson"] += Fraction(size, total) * inner / rows
        below += size
    found["mises"] = ranks / (n * m * total) - Fraction(4 * n * m - 1, 6 * total)
    found["anderson"] *= Fraction(total - 1, total)
    return found


def moments_exact(x: Sequence[float]) -> tuple[Fraction, Fraction]:
    mean = sum(map(Fraction, x)) / len(x)
    return mean, sum((Fraction(v) - mean) ** 2 for v in x) / len(x)


FUNCTIONS = {
    "ks": ordered.kolmogorov_smirnov,
    "wasserstein": ordered.wasserstein,
    "energy": ordered.energy,
    "mises": ordered.cramer_von_mises,
    "anderson": ordered.anderson_darling,
}


def in_units(name: str, truth: Fraction, scale: float) -> Fraction:
    if name in ("wasserstein", "energy"):
        return truth / Fraction(scale)
    return truth


def check_exactly(x: Sequence[float], y: Sequence[float], resolution: int | None) -> None:
    first, second = both(np.array(x), np.array(y), resolution)
    cells, truths = joined(first, second), exact(x, y)
    for name, function in FUNCTIONS.items():
        score, truth = function(cells), in_units(name, truths[name], first.scale)
        assert score.low <= score.value <= score.high, name
        low, high = score.low, score.high
        if name == "energy":  # compare the squares, so as to compute no root of a fraction
            with np.errstate(over="ignore"):
                low, high = (
                    float(np.nextafter(np.square(low) / 2, 0)),
                    float(np.nextafter(np.square(high) / 2, np.inf)),
                )
        if np.isinf(high):
            assert Fraction(low) <= truth
            continue
        tolerance = truth * Fraction(1, 2**51) if low == high or name == "energy" else Fraction(0)
        assert Fraction(low) <= truth + tolerance, (name, float(truth), score)
        assert truth - tolerance <= Fraction(high), (name, float(truth), score)
    for side, values in ((first, x), (second, y)):
        found, (mean, variance) = ordered.moments(side), moments_exact(values)
        mean = (mean - Fraction(side.centre)) / Fraction(side.scale)
        variance /= Fraction(side.scale) ** 2
        if np.isfinite(found.mean.high):
            assert Fraction(found.mean.low) <= mean <= Fraction(found.mean.high)
        if np.isfinite(found.variance.high):
            assert Fraction(found.variance.low) <= variance <= Fraction(found.variance.high)


values = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.integers(-5, 5).map(float),
    st.integers(-20, 20).map(lambda k: 1.7e9 + k / 16),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-300, 1e12, -1e12, 1e150, 3.0, 3.0000000000000004]),
)
samples = st.lists(values, min_size=2, max_size=25)


@given(samples, samples, st.sampled_from([None, 1, 2, 16, 1024]))
@example(x=[0.0, 1.7e9], y=[0.0, 1.95], resolution=None)
@settings(deadline=None)
def test_the_truth_is_inside(x: list[float], y: list[float], resolution: int | None) -> None:
    check_exactly(x, y, resolution)


@given(
    st.lists(st.integers(0, 3).map(float), min_size=2, max_size=25), samples, st.sampled_from([None, 1, 4])
)
@settings(deadline=None)
def test_the_truth_is_inside_with_ties(x: list[float], y: list[float], resolution: int | None) -> None:
    check_exactly(x, y + x[:2], resolution)


far = st.lists(st.integers(2**61, 2**61 + 4000) | st.integers(-(2**60), 2**62), min_size=2, max_size=25)


@given(far, far, st.sampled_from([None, 1, 16, 1024]))
@settings(deadline=None)
def test_the_truth_is_inside_where_integers_are_rounded_to_doubles(
    x: list[int], y: list[int], resolution: int | None
) -> None:
    check_exactly(x, y, resolution)


@given(samples, samples, st.sampled_from([4, 64]), st.floats(-10, 10), st.sampled_from([0.25, 8.0]))
@settings(deadline=None)
def test_sides_cut_by_different_maps_are_still_bounded(
    x: list[float], y: list[float], resolution: int, centre: float, scale: float
) -> None:
    """A profile of another map: less sharp, and still true."""
    first = from_values(np.array(x), resolution=resolution)
    second = from_values(np.array(y), centre=centre, scale=scale, resolution=resolution * 2)
    cells, truths = joined(first, second), exact(x, y)
    for name in ("ks", "wasserstein", "mises", "anderson"):
        score, truth = FUNCTIONS[name](cells), in_units(name, truths[name], first.scale)
        assert Fraction(score.low) <= truth * (1 + Fraction(1, 2**50)), name
        assert np.isinf(score.high) or truth * (1 - Fraction(1, 2**50)) <= Fraction(score.high), name


@given(samples, samples, st.sampled_from([1, 2, 16]))
@settings(deadline=None)
def test_looking_up_every_open_cell_makes_all_exact(x: list[float], y: list[float], resolution: int) -> None:
    sides = both(np.array(x), np.array(y), resolution)
    whole = [
        split(side, *np.unique(np.array(part) + 0.0, return_counts=True))
        for side, part in zip(sides, (x, y), strict=True)
    ]
    cells = joined(*whole)
    assert cells.exact
    truths = exact(x, y)
    assert ordered.kolmogorov_smirnov(cells).value == pytest.approx(float(truths["ks"]), rel=1e-12)


# --- against SciPy ----------------------------------------------------------------------------------------------------


def scipys(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    n, m = len(x), len(y)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = {
            "ks": scipy_stats.ks_2samp(x, y, method="asymp").statistic,
            "wasserstein": scipy_stats.wasserstein_distance(x, y),
            "energy": scipy_stats.energy_distance(x, y),
            "mises": scipy_stats.cramervonmises_2samp(x, y, method="asymptotic").statistic,
        }
        if len(np.unique(np.r_[x, y])) > 1:
            found["anderson"] = scipy_stats.anderson_ksamp([x, y], variant="midrank").statistic
            found["anderson"] = found["anderson"] * anderson_deviation(n, m) + 1
    return {name: float(value) for name, value in found.items()}


def check_with_scipy(x: np.ndarray, y: np.ndarray, resolution: int | None, about: str = "") -> None:
    first, second = both(x, y, resolution)
    clean = [
        side[np.isfinite(side)].astype("float64") for side in (x, y)
    ]  # SciPy sums ranks in the type of the data
    truths = scipys(*clean)
    cells: Cells = joined(first, second)
    units = {"wasserstein": first.scale, "energy": first.scale**0.5}
    for name, truth in truths.items():
        score, unit = FUNCTIONS[name](cells), units.get(name, 1.0)
        if not np.isfinite(truth):
            continue  # SciPy's own sum overflowed
        # SciPy rounds too: the Cramer-von Mises criterion is a small difference of large numbers there.
        slack = 1e-9 * abs(truth) + (1e-9 if name in ("mises", "anderson") else 0)
        assert score.low * unit <= truth + slack, (about, name, truth, score)
        assert truth - slack <= score.high * unit, (about, name, truth, score)
        if resolution is None and not first.rounded:
            assert score.value * unit == pytest.approx(truth, rel=1e-9, abs=1e-9), (about, name)


@pytest.mark.parametrize("resolution", [None, 8, 1024, 65536])
def test_adversarial_columns(resolution: int | None) -> None:
    for name, (x, y) in hard_columns.columns(4000).items():
        check_with_scipy(x, y, resolution, name)


@pytest.mark.nightly
@pytest.mark.parametrize("resolution", [None, 16, 4096, 65536])
def test_adversarial_columns_at_a_million_rows(resolution: int | None) -> None:
    for name, (x, y) in hard_columns.columns(1_000_000).items():
        check_with_scipy(x, y, resolution, name)


@pytest.mark.nightly
@pytest.mark.parametrize("data", ["flights", "elec2", "noaa", "covtype", "employment"])
def test_real_columns(data: str) -> None:
    frame = getattr(realdata, data)()
    middle = len(frame) // 2
    for name in frame:
        if frame[name].dtype.kind not in "if":
            continue
        x, y = frame[name][:middle].to_numpy(), frame[name][middle:].to_numpy()
        if np.isfinite(x).sum() > 1 and np.isfinite(y).sum() > 1:
            for resolution in (None, 256, 65536):
                check_with_scipy(x, y, resolution, str(name))


def test_the_interval_is_narrow() -> None:
    """What a fine map buys: at 65,536 bins no verdict hangs on the width."""
    x, y = hard_columns.columns(100_000)["plain"]
    first, second = both(x, y, 65536)
    cells = joined(first, second)
    found = ordered.wasserstein(cells)
    assert (found.high - found.low) / found.value < 1e-5
    found = ordered.kolmogorov_smirnov(cells)
    assert found.high - found.low < 1e-4
