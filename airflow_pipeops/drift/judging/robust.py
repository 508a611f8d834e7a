"""The robust mode: how large is the change, over what chance alone gives, and could chance alone have given it.

Every column is looked at in up to three *dimensions*: its distribution, its missing values, and rows where the reference has
none (new categories, or beyond its range). In each of them there is an **effect** in a unit that does not depend on the
number of rows, its **noise floor** (the mean effect of two samples of these sizes while nothing drifts), the **excess** of
the one over the other, and a **p-value**. Drift needs both: an excess that reaches the threshold, and a p-value that stays
significant among all columns and dimensions. A large sample alone cannot make a tiny change drift, and a small one cannot
by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.results import Dimension
from airflow_pipeops.drift.settings import ROBUST_METHODS, Settings
from airflow_pipeops.drift.statistics import Score, noise, ordered, pvalues
from airflow_pipeops.drift.statistics import counts as stats
from airflow_pipeops.drift.statistics.aggregates import Aggregate, NumericAggregate
from airflow_pipeops.drift.statistics.cells import Cells, intervals, joined
from airflow_pipeops.drift.statistics.tables import Table, categorical_table, numeric_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One dimension of one column.

    :param dimension: ``distribution``, ``missing`` or ``unseen``.
    :param method: name of the statistic.
    :param score: the effect, and its certified interval.
    :param noise: the mean effect while nothing drifts.
    :param excess: the effect over the noise floor.
    :param p: the p-value at the upper and at the lower end of the interval: its least and its greatest value.
    :param threshold: for the excess.
    :param refine: intervals of values that must be looked up to make the score exact.
    """

    dimension: Dimension
    method: str
    score: Score
    noise: float
    excess: Score
    p: tuple[float, float]
    threshold: float
    refine: tuple[tuple[float, float], ...] = ()


def findings(column: str, reference: Aggregate, current: Aggregate, settings: Settings) -> list[Finding]:
    """Look at all dimensions of one column."""
    numeric = isinstance(reference, NumericAggregate)
    method = settings.methods.get(column) or _chosen(settings.method, numeric)
    threshold = settings.thresholds.get(column, settings.threshold)
    threshold = ROBUST_METHODS[method][1] if threshold is None else threshold
    table: Table
    if isinstance(reference, NumericAggregate) and isinstance(current, NumericAggregate):
        table = numeric_table(reference, current, settings.bins)
    else:
        table = categorical_table(reference, current)  # type: ignore[arg-type]  # the caller has compared the kinds
    if method in _TABULAR:
        distribution = _tabular(method, table, threshold)
    else:
        distribution = _ordered(method, reference, current, threshold)
    found = [distribution]
    # Where neither side misses a value there is nothing to test, and no reason to make all other tests stricter for it.
    if absent(reference) or absent(current):
        found.append(_missing(reference, current, settings.missing_threshold))
    return [*found, _unseen(reference, table, settings.unseen_threshold)]


def _chosen(method: str | None, numeric: bool) -> str:
    kind = "numeric" if numeric else "categorical"
    return method if method is not None and kind in ROBUST_METHODS[method][0] else "psi"


def _of_shares(function: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    return lambda before, after: function(before / before.sum(), after / after.sum())


def _of_smoothed(function: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    return lambda before, after: function(stats.smoothed(before), stats.smoothed(after))


def _g_effect(before: Array, after: Array) -> float:
    return float((stats.g_statistic(before, after) / float(before.sum() + after.sum())) ** 0.5)


def _terms(method: str, n: int, m: int, k: int) -> Callable[[Any, Any], Any]:
    """Return the summand of a method's effect (of its square, where it is a root) of the rows of one bin."""
    import numpy as np

    def smooth(a: Any, b: Any) -> tuple[Any, Any]:
        return (a + 0.5) / (n + 0.5 * k), (b + 0.5) / (m + 0.5 * k)

    def of_psi(a: Any, b: Any) -> Any:
        p, q = smooth(a, b)
        return (p - q) * np.log(p / q)

    def of_kl(a: Any, b: Any) -> Any:
        p, q = smooth(a, b)
        return p * np.log(p / q)

    def of_g(a: Any, b: Any) -> Any:
        pooled = (a + b) / (n + m)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.where(a > 0, a * np.log(a / (n * pooled)), 0.0)
            right = np.where(b > 0, b * np.log(b / (m * pooled)), 0.0)
        return 2.0 * (left + right) / (n + m)

    return {
        "psi": of_psi,
        "kl_div": of_kl,
        "g_test": of_g,
        "jensenshannon": lambda a, b: stats.jensen_shannon_terms(a / n, b / m),
        "hellinger": lambda a, b: (np.sqrt(a / n) - np.sqrt(b / m)) ** 2 / 2,
        "total_variation": lambda a, b: np.abs(a / n - b / m) / 2,
        "chisquare": lambda a, b: (a * m - b * n) ** 2 / (float(n) * m * (a + b) * (n + m)),
    }[method]


#: Method -> its effect, and whether that is the root of a sum.
_TABULAR: dict[str, tuple[Callable[[Any, Any], float], bool]] = {
    "psi": (_of_smoothed(stats.psi), False),
    "kl_div": (_of_smoothed(stats.kullback_leibler), False),
    "total_variation": (_of_shares(stats.total_variation), False),
    "jensenshannon": (_of_shares(stats.jensen_shannon), True),
    "hellinger": (_of_shares(stats.hellinger), True),
    "chisquare": (stats.cramers_v, True),
    "g_test": (_g_effect, True),
    "z": (stats.cramers_v, True),  # chi-square of two categories is the square of z
}


def _tabular(method: str, table: Table, threshold: float) -> Finding:
    n, m = table.rows
    effect, root = _TABULAR[method]
    pooled = table.before + table.after
    name = "chisquare" if method == "z" else method
    floor = noise.expected(pooled, n, m, _terms(name, n, m, len(pooled)))
    p = noise.chi_square_p(stats.chi_square(table.before, table.after), pooled, n, m)
    return _finding(
        "distribution", method, Score.of(effect(table.before, table.after)), floor, root, p, p, threshold
    )


def _finding(
    dimension: Dimension,
    method: str,
    score: Score,
    floor: float,
    root: bool,
    p_least: float,
    p_most: float,
    threshold: float,
    refine: tuple[tuple[float, float], ...] = (),
) -> Finding:
    """Take the noise off the effect: where it is a root, off its square, since squares add up."""

    def over(value: float) -> float:
        if root:
            return float(max(0.0, value * value - floor) ** 0.5)
        return max(0.0, value - floor)

    excess = Score(over(score.value), over(score.low), over(score.high))
    mean = max(0.0, floor) ** 0.5 if root else floor
    return Finding(dimension, method, score, mean, excess, (p_least, p_most), threshold, refine)


def _ordered(method: str, reference: Any, current: Any, threshold: float) -> Finding:
    cells = joined(reference, current)
    if method == "t_test":
        return _mean_shift(reference, current, threshold)
    distance = ordered.kolmogorov_smirnov(cells)
    n, m = cells.rows
    # Of the end of each interval that is least in favour, and of the one that is most.
    p = tuple(pvalues.smirnov_limit(end, n, m) for end in (distance.high, distance.low))
    chosen = _uncertain(method, cells)
    root = False
    if method == "ks":
        score, floor = distance, noise.smirnov_mean(n, m)
    elif method == "wasserstein":
        score = ordered.wasserstein(cells)
        score, unit = _normed(score, reference, 1.0)
        floor = noise.wasserstein_mean(cells) / unit
    elif method == "ed":
        score = ordered.energy(cells)
        score, unit = _normed(score, reference, 0.5)
        floor, root = noise.energy_square_mean(cells) / unit**2, True
    elif method == "cramer_von_mises":
        criterion = ordered.cramer_von_mises(cells)
        p = tuple(pvalues.cramer_von_mises(end, n, m, 1e-18) for end in (criterion.high, criterion.low))
        score = _rooted(criterion, n * m / (n + m))
        floor, root = (1 + 1 / (n + m)) / 6 / (n * m / (n + m)), True
    else:
        statistic = ordered.anderson_darling(cells)
        p = tuple(_anderson(end, n, m) for end in (statistic.high, statistic.low))
        score = _rooted(statistic, n * m / (n + m))
        floor, root = 1.0 / (n * m / (n + m)), True
    return _finding("distribution", method, score, floor, root, p[0], p[1], threshold, chosen)


def _anderson(statistic: float, n: int, m: int) -> float:
    """The tabulated p-value ends at 0.001; beyond it the tail falls like ``exp(-2.2 * A)`` or faster: no step below."""
    found = pvalues.anderson_darling(statistic, n, m)
    if found > 0.001:
        return found
    import math

    standard = (statistic - 1.0) / pvalues.anderson_deviation(n, m)
    return float(min(found, 0.001 * math.exp(-1.5 * (standard - 6.546))))


def _rooted(score: Score, size: float) -> Score:
    parts = [(max(0.0, part) / size) ** 0.5 for part in (score.value, score.low, score.high)]
    return Score(*parts)


def _normed(score: Score, reference: NumericAggregate, power: float) -> tuple[Score, float]:
    """Divide by the reference's deviation (by its root for the energy distance, whose square is a length)."""
    deviation = ordered.moments(reference).deviation
    if deviation.high <= 0:  # a constant reference: in units of the map's scale
        return score, 1.0
    units = [max(part, 1e-300) ** power for part in (deviation.value, deviation.low, deviation.high)]
    return Score(score.value / units[0], score.low / units[2], score.high / units[1]), units[0]


def _mean_shift(reference: NumericAggregate, current: NumericAggregate, threshold: float) -> Finding:
    """Shift of the mean in units of the reference's deviation (Cohen's d); p-value by Student's t."""
    before, after = ordered.moments(reference), ordered.moved(current, reference)
    rows = (before.rows, after.rows)
    _, p = pvalues.student(
        (before.mean.value, after.mean.value), (before.variance.value, after.variance.value), rows
    )
    p = 1.0 if p != p else p
    score, _ = _normed(ordered.mean_shift(before, after), reference, 1.0)
    floor = (2 / 3.141592653589793 * (1 / rows[0] + 1 / rows[1])) ** 0.5
    return _finding("distribution", "t_test", score, floor, False, p, p, threshold)


def _uncertain(method: str, cells: Cells) -> tuple[tuple[float, float], ...]:
    """Where to look up values, should the verdict hang on it."""
    if cells.exact:
        return ()
    if method == "ks":
        return intervals(cells, ordered.smirnov_uncertain(cells))
    import numpy as np

    slack = ordered.wasserstein_slack(cells)
    if method == "wasserstein":
        return intervals(cells, slack > 0)
    return intervals(cells, np.asarray(~cells.single & (cells.before + cells.after > 1)))


def _missing(reference: Aggregate, current: Aggregate, threshold: float) -> Finding:
    """Change of the share of missing values (nulls, NaN and infinities)."""
    hits, rows = (absent(reference), absent(current)), (reference.rows, current.rows)
    change = abs(hits[0] / rows[0] - hits[1] / rows[1])
    pooled = sum(hits) / sum(rows)
    floor = (2 / 3.141592653589793 * pooled * (1 - pooled) * (1 / rows[0] + 1 / rows[1])) ** 0.5
    p = pvalues.fisher(hits, rows)
    return _finding("missing", "share", Score.of(change), floor, False, p, p, threshold)


def absent(one: Aggregate) -> int:
    """Rows without a usable value."""
    return one.missing + (one.not_finite if isinstance(one, NumericAggregate) else 0)


def _unseen(reference: Aggregate, table: Table, threshold: float) -> Finding:
    """Share of current rows in new categories, or beyond the reference's range."""
    n, m = table.rows
    score = table.unseen
    if isinstance(reference, NumericAggregate):
        floor = 2.0 / (n + 1)
        # Either end may be the one: twice the chance for half of the rows, the least that the fuller end holds.
        p = [
            min(1.0, 2 * pvalues.beyond(int(-(-round(end * m) // 2)), n, m))
            for end in (score.high, score.low)
        ]
    else:
        found = [noise.new_rows_p(round(end * m), table.pooled, n, m) for end in (score.high, score.low)]
        floor, p = found[0][0] / m, [part[1] for part in found]
    return _finding("unseen", "share", score, floor, False, p[0], p[1], threshold)
