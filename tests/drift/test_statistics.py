"""Statistics of counts and p-values against SciPy; the noise floor and the null distribution against drawing."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.spatial import distance

from airflow_pipeops.drift.judging import robust
from airflow_pipeops.drift.settings import ROBUST_METHODS, Settings
from airflow_pipeops.drift.statistics import counts as stats
from airflow_pipeops.drift.statistics import noise, pvalues
from airflow_pipeops.drift.statistics.aggregates import from_categories, from_values
from airflow_pipeops.drift.statistics.tables import LEAST_EXPECTED, categorical_table, numeric_table
from tests import realdata

counts = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=30)


def sides(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.array(rows, dtype="float64").T
    assume(before.sum() > 0)
    assume(after.sum() > 0)
    return before, after


@given(counts)
@settings(deadline=None)
def test_distances_are_scipys(rows: list[tuple[int, int]]) -> None:
    before, after = sides(rows)
    p, q = before / before.sum(), after / after.sum()
    same = {"rel": 1e-9, "abs": 1e-7}  # the root of what is left of a rounding
    with np.errstate(invalid="ignore"):
        assert stats.jensen_shannon(p, q) == pytest.approx(
            np.nan_to_num(distance.jensenshannon(p, q)), **same
        )
    assert stats.hellinger(p, q) == pytest.approx(max(0.0, 1 - np.sqrt(p * q).sum()) ** 0.5, **same)
    assert stats.total_variation(p, q) == pytest.approx(distance.cityblock(p, q) / 2, **same)
    p, q = stats.smoothed(before), stats.smoothed(after)
    assert stats.kullback_leibler(p, q) == pytest.approx(scipy_stats.entropy(p, q), **same)
    both = scipy_stats.entropy(p, q) + scipy_stats.entropy(q, p)
    assert stats.psi(p, q) == pytest.approx(both, **same)


@given(counts)
@settings(deadline=None)
def test_tables_are_scipys(rows: list[tuple[int, int]]) -> None:
    before, after = sides(rows)
    kept = before + after > 0
    table = np.array([before[kept], after[kept]])
    assume(table.shape[1] > 1)
    theirs = scipy_stats.chi2_contingency(table, correction=False)
    value = stats.chi_square(before, after)
    assert value == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
    assert pvalues.chi_square(value, int(theirs.dof)) == pytest.approx(theirs.pvalue, rel=1e-7, abs=1e-12)
    likely = scipy_stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    assert stats.g_statistic(before, after) == pytest.approx(likely.statistic, rel=1e-9, abs=1e-9)
    if table.shape[1] == 2:
        z = stats.z_statistic(
            (int(table[0, 0]), int(table[0].sum())), (int(table[1, 0]), int(table[1].sum()))
        )
        assert z * z == pytest.approx(value, rel=1e-9, abs=1e-9)
        assert pvalues.normal(z) == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


@given(st.integers(1, 400), st.integers(1, 400), st.data())
@settings(deadline=None)
def test_fisher_is_twice_the_smaller_tail(n: int, m: int, data: Any) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    tails = [
        scipy_stats.fisher_exact([[b, m - b], [a, n - a]], alternative=side).pvalue
        for side in ("less", "greater")
    ]
    assert pvalues.fisher((a, b), (n, m)) == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-7, abs=1e-300)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 1000))
@settings(deadline=None)
def test_p_values_of_ordered_statistics_are_scipys(n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=n).round(1), generator.normal(0.3, 1, m).round(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smirnov = scipy_stats.ks_2samp(x, y)
        at = smirnov.statistic_location
        place = (int((x <= at).sum()), n), (int((y <= at).sum()), m)
        assert pvalues.smirnov(smirnov.statistic, *place) == pytest.approx(smirnov.pvalue, rel=1e-9)
        limit = scipy_stats.ks_2samp(x, y, method="asymp")
        assert pvalues.smirnov_limit(limit.statistic, n, m) == pytest.approx(
            limit.pvalue, rel=1e-9, abs=1e-12
        )
        mises = scipy_stats.cramervonmises_2samp(x, y, method="asymptotic")
        assert pvalues.cramer_von_mises(mises.statistic, n, m) == pytest.approx(
            mises.pvalue, rel=1e-6, abs=1e-12
        )
        student = scipy_stats.ttest_ind(x, y)
    means, variances = (x.mean(), y.mean()), (x.var(), y.var())
    if student.pvalue == student.pvalue:
        assert pvalues.student(means, variances, (n, m)) == pytest.approx(
            tuple(student)[:2], rel=1e-7, abs=1e-12
        )


@pytest.mark.parametrize("rows", [50, 10_000, 1_000_000])
def test_p_values_of_two_constants_are_scipys(rows: int) -> None:
    """As great as the statistics can be: the limit law then takes thousands of terms."""
    x, y = np.full(rows, 2.0), np.full(rows, 3.0)
    mises = scipy_stats.cramervonmises_2samp(x, y, method="asymptotic")
    assert pvalues.cramer_von_mises(mises.statistic, rows, rows) == pytest.approx(mises.pvalue, abs=1e-12)
    assert pvalues.cramer_von_mises(mises.statistic, rows, rows, 1e-18) < 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pvalues.student((2.0, 3.0), (0.0, 0.0), (rows, rows)) == tuple(scipy_stats.ttest_ind(x, y))[:2]
    assert pvalues.student((2.0, 2.0), (0.0, 0.0), (rows, rows)) == pytest.approx(
        (math.nan,) * 2, nan_ok=True
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_p_values_are_scipys(values: list[float]) -> None:
    np.testing.assert_allclose(
        pvalues.benjamini_hochberg(values), scipy_stats.false_discovery_control(values), rtol=1e-12
    )


def test_values_beyond_the_extreme_are_as_rare_as_counting_says() -> None:
    # Of C(7, 3) ways, those in which the two greatest of seven are both among the three new ones: C(5, 1).
    assert pvalues.beyond(2, 4, 3) == pytest.approx(5 / 35)
    assert pvalues.beyond(0, 4, 3) == 1.0


# --- what chance gives --------------------------------------------------------------------------------------------

POOLED = {
    "even": ([40, 40, 40, 40, 40], 120, 80),
    "rare": ([1] * 100 + [2] * 50, 120, 80),
    "unequal": ([3000, 500, 100, 12, 7, 5, 5, 1], 3530, 100),
    "two": ([30, 370], 200, 200),
}


@pytest.mark.parametrize("case", POOLED)
def test_the_noise_floor_and_the_null_distribution(case: str) -> None:
    """Against 20,000 ways of dealing the pooled rows out: the means within four standard errors."""
    sizes, n, m = POOLED[case]
    pooled = np.array(sizes)
    generator = np.random.default_rng(0)
    before = generator.multivariate_hypergeometric(pooled, n, size=20_000, method="marginals").astype(
        "float64"
    )
    after = pooled - before
    chi = np.array([stats.chi_square(a, b) for a, b in zip(before, after, strict=True)])
    mean, variance = noise.chi_square_moments(pooled.astype("float64"), n, m)
    assert abs(chi.mean() - mean) < 4 * chi.std() / len(chi) ** 0.5
    assert chi.var() == pytest.approx(variance, rel=0.1)
    p = np.array([noise.chi_square_p(value, pooled.astype("float64"), n, m) for value in chi[:3000]])
    for level in (
        () if case == "unequal" else (0.05, 0.01)
    ):  # bins as rare as there are never tested by themselves
        assert (p <= level).sum() <= scipy_stats.binom.ppf(0.9999, len(p), level * 1.3)
    for method in ("psi", "kl_div", "jensenshannon", "hellinger", "total_variation", "chisquare", "g_test"):
        term = robust._terms(method, n, m, len(pooled))
        drawn = term(before, after).sum(axis=1)
        floor = noise.expected(pooled.astype("float64"), n, m, term)
        assert abs(drawn.mean() - floor) < 4 * drawn.std() / len(drawn) ** 0.5 + 1e-12, method


def test_new_rows_by_chance() -> None:
    pooled, n, m = np.array([1] * 200 + [2] * 100 + [5] * 10 + [300]), 500, 250
    generator = np.random.default_rng(0)
    before = generator.multivariate_hypergeometric(pooled, n, size=20_000, method="marginals")
    new = np.where(before == 0, pooled, 0).sum(axis=1)
    mean, _ = noise.new_rows_p(0, pooled.astype("float64"), n, m)
    assert abs(new.mean() - mean) < 4 * new.std() / len(new) ** 0.5
    p = np.array([noise.new_rows_p(float(one), pooled.astype("float64"), n, m)[1] for one in new[:1500]])
    assert (p <= 0.01).sum() <= scipy_stats.binom.ppf(0.9999, len(p), 0.01)


def test_floors_of_ordered_statistics() -> None:
    generator = np.random.default_rng(0)
    scores: dict[str, list[float]] = {"ks": [], "wasserstein": [], "ed": []}
    floors: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(80):
        before = from_values(generator.normal(size=900))
        after = from_values(generator.normal(size=600), centre=before.centre, scale=before.scale)
        for name in scores:
            found = robust.findings("x", before, after, Settings(method=name))[0]
            scores[name].append(found.score.value ** (2 if name == "ed" else 1))
            floors[name].append(found.noise ** (2 if name == "ed" else 1))
    for name, drawn in scores.items():
        error = np.std(drawn) / len(drawn) ** 0.5
        # The law of Kolmogorov is that of infinitely many rows: some percent more than with hundreds.
        assert abs(np.mean(drawn) - np.mean(floors[name])) < 4 * error + 0.05 * np.mean(floors[name]), name


# --- robust bins --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=30, max_size=300),
    st.sampled_from([None, 64, 4096]),
    st.integers(2, 20),
)
@settings(deadline=None)
def test_bins_hold_all_rows_and_their_counts_are_exact(
    values: list[float], resolution: int | None, bins: int
) -> None:
    x, y = np.array(values[::2]), np.array(values[1::2])
    before = from_values(x, resolution=resolution)
    after = from_values(y, centre=before.centre, scale=before.scale, resolution=resolution)
    table = numeric_table(before, after, bins)
    assert table.rows == (len(x), len(y))
    assert len(table.edges) == len(table.before) - 1
    pooled = table.before + table.after
    assert len(pooled) == 1 or (pooled * min(table.rows) / sum(table.rows)).min() >= LEAST_EXPECTED
    edges = np.array(table.edges)
    np.testing.assert_array_equal(
        np.bincount(np.searchsorted(edges, x, "right"), minlength=len(pooled)), table.before
    )


def test_one_outlier_moves_no_bin() -> None:
    """Where bins of equal width put everything else into one."""
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=5000), np.r_[generator.normal(3, 1, 5000), 1e12]
    first = from_values(before, resolution=4096)
    second = from_values(after, centre=first.centre, scale=first.scale, resolution=4096)
    found = robust.findings("x", first, second, Settings())
    assert found[0].excess.value > 2


def test_many_categories_of_one_distribution_do_not_drift_and_rare_ones_are_put_together() -> None:
    generator = np.random.default_rng(0)
    before, after = (from_categories(generator.integers(0, 3000, 4000).astype(str)) for _ in range(2))
    table = categorical_table(before, after)
    assert table.rows == (4000, 4000)
    assert len(table.before) < 900
    pooled = table.before + table.after
    assert (pooled / 2).min() >= LEAST_EXPECTED - 2
    found = robust.findings("x", before, after, Settings())[0]
    assert found.excess.value < 0.05
    assert found.p[0] > 0.01


def test_capped_categories_are_compared_where_both_sides_know_them() -> None:
    generator = np.random.default_rng(0)
    draws = [generator.zipf(1.5, 20_000).clip(max=4000).astype(str) for _ in range(2)]
    before, after = (from_categories(side, top=50) for side in draws)
    table = categorical_table(before, after)
    assert table.rows == (20_000, 20_000)
    assert table.unseen.low == 0
    assert table.unseen.high > 0.05
    found = robust.findings("x", before, after, Settings())[0]
    assert found.excess.value < 0.01


@pytest.mark.parametrize("method", ROBUST_METHODS)
def test_every_method_sees_a_shift_and_no_ghost(method: str) -> None:
    generator = np.random.default_rng(0)
    if ROBUST_METHODS[method][0] == "categorical":
        same, moved = (generator.choice(["a", "b"], 4000, p=[share, 1 - share]) for share in (0.5, 0.8))
        sides = [from_categories(part) for part in (generator.choice(["a", "b"], 4000), same, moved)]
    else:
        first = from_values(generator.normal(size=4000), resolution=4096)
        like = {"centre": first.centre, "scale": first.scale, "resolution": 4096}
        sides = [first, *(from_values(generator.normal(shift, 1, 4000), **like) for shift in (0.0, 1.0))]
    quiet, loud = (robust.findings("x", sides[0], side, Settings(method=method))[0] for side in sides[1:])
    assert quiet.excess.value < 0.05 < 0.1 <= loud.excess.value
    assert quiet.p[0] > 0.001 > loud.p[1]


def test_real_weather_of_the_same_season_does_not_drift_and_of_another_does() -> None:
    frame = realdata.noaa()
    year = np.arange(len(frame)) // 365
    season = (np.arange(len(frame)) % 365) // 91
    for name in ("temp", "dew_point", "max_temp"):
        values = frame[name].to_numpy("float64")
        before = from_values(values[(season == 0) & (year % 2 == 0)], resolution=4096)
        like = {"centre": before.centre, "scale": before.scale, "resolution": 4096}
        same = from_values(values[(season == 0) & (year % 2 == 1)], **like)
        other = from_values(values[season == 2], **like)
        assert robust.findings(name, before, same, Settings())[0].excess.value < 0.1
        assert robust.findings(name, before, other, Settings())[0].excess.value > 0.1
