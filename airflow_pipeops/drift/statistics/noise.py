"""What chance alone gives: the noise floor of a score, and the null distribution of a table.

Everything here is conditional on the pooled rows of each bin: if nothing drifted, every way of dealing the pooled rows out
to the two sides is equally likely, so the rows of one bin on the reference's side are hypergeometric. That holds for two
categories and for five thousand, for 200 rows and for millions, without an asymptotic "expected at least five".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: From so many expected rows on both sides on, a bin's rows are taken for normal.
_PLENTY = 50.0

#: Mean of the Kolmogorov distribution, ``sqrt(pi / 2) * ln 2``.
_KOLMOGOROV_MEAN = 0.8687311606361592


def expected(pooled: Array, n: int, m: int, term: Callable[[Any, Any], Any]) -> float:
    """Work out the mean of ``sum(term(a, b))`` over all ways of dealing the pooled rows out: exact, but for huge bins.

    :param pooled: rows of each bin, of both sides together.
    :param n: rows of the reference.
    :param m: rows of the current side.
    :param term: the summand, of the rows of the reference and of the current side; vectorised.
    :return: the mean.
    """
    import numpy as np

    sizes, times = np.unique(pooled[pooled > 0], return_counts=True)
    share = n / (n + m)
    mean = sizes * share
    plenty = np.minimum(mean, sizes - mean) >= _PLENTY
    found = 0.0
    if plenty.any():
        found += float(times[plenty] @ _by_quadrature(sizes[plenty], n, m, term))
    if not plenty.all():
        found += float(times[~plenty] @ _by_counting(sizes[~plenty], n, m, term))
    return found


def _deviation(sizes: Array, n: int, m: int) -> Array:
    import numpy as np

    total = n + m
    spread = sizes * (n / total) * (m / total) * (total - sizes) / max(1, total - 1)
    return np.sqrt(np.maximum(spread, 0.0))


def _by_quadrature(sizes: Array, n: int, m: int, term: Callable[[Any, Any], Any]) -> Array:
    """Trapezoids over the normal law of the rows of each bin: all but exact, and good for a kink as well."""
    import numpy as np

    nodes = np.linspace(-8.0, 8.0, 161)
    weights = np.exp(-0.5 * nodes**2)
    mean, spread = sizes * (n / (n + m)), _deviation(sizes, n, m)
    rows = mean[:, None] + spread[:, None] * nodes
    rows = np.clip(rows, np.maximum(0.0, sizes - m)[:, None], np.minimum(sizes, n)[:, None])
    return np.asarray(term(rows, sizes[:, None] - rows) @ (weights / weights.sum()))


def _by_counting(sizes: Array, n: int, m: int, term: Callable[[Any, Any], Any]) -> Array:
    """Sum over the hypergeometric law of the rows of each bin, as far as it reaches (ten deviations)."""
    import numpy as np
    from scipy.special import gammaln

    mean, spread = sizes * (n / (n + m)), _deviation(sizes, n, m)
    least = np.maximum(np.maximum(0.0, sizes - m), np.floor(mean - 10 * spread - 10))
    most = np.minimum(np.minimum(sizes, n), np.ceil(mean + 10 * spread + 10))
    rows = least[:, None] + np.arange(int((most - least).max()) + 1)
    inside = rows <= most[:, None]
    rows = np.minimum(rows, most[:, None])
    rest = sizes[:, None] - rows

    def ways(of: Any, some: Any) -> Any:
        return gammaln(of + 1) - gammaln(some + 1) - gammaln(of - some + 1)

    # C(n, a) C(m, b) / C(n + m, a + b); normed, since gammaln of large numbers keeps some twelve digits only.
    logs = np.where(inside, ways(float(n), rows) + ways(float(m), rest), -np.inf)
    chance = np.exp(logs - logs.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    return np.asarray(np.sum(np.where(inside, chance * term(rows, rest), 0.0), axis=1))


def chi_square_moments(pooled: Array, n: int, m: int) -> tuple[float, float]:
    """Mean and variance of chi-square over all 2 x k tables with these margins: exact (Haldane 1940; Dawid 1988)."""
    import numpy as np

    pooled = pooled[pooled > 0]
    total, k = float(n + m), float(len(pooled))
    mean = total * (k - 1) / (total - 1)
    if total <= 3 or k < 2:
        return mean, 0.0
    columns = (k - 1) * (total - k) / (total - 1)
    rows = (total - 2) / (total - 1)
    rare_columns = (total * float(np.sum(1.0 / pooled)) - k * k) / (total - 2)
    rare_rows = (total * (1.0 / n + 1.0 / m) - 4.0) / (total - 2)
    variance = 2 * total / (total - 3) * (columns - rare_columns) * (rows - rare_rows)
    variance += total * total / (total - 1) * rare_columns * rare_rows
    return mean, max(0.0, variance)


def chi_square_p(statistic: float, pooled: Array, n: int, m: int) -> float:
    """P-value of chi-square by Pearson's law of type III, a shifted gamma law, with its moments.

    Mean and variance are exact. The skewness is that of independent bins: with sides of different sizes and a few expected
    rows per bin the tail is heavier than that of the usual chi-square law. Where bins are full, it is that law.
    """
    from scipy import special

    mean, variance = chi_square_moments(pooled, n, m)
    if variance <= 0 or mean <= 0:
        return 1.0
    skewness = _third_cumulant(pooled[pooled > 0], n, m) / variance**1.5
    shape, scale = 4 / skewness**2, skewness * variance**0.5 / 2
    return float(special.gammaincc(shape, max(0.0, shape + (statistic - mean) / scale)))


def _third_cumulant(pooled: Array, n: int, m: int) -> float:
    """Third cumulant of chi-square over bins of independent binomial rows.

    Of the square of a standardised variable it is ``8 + 12 k4 + 10 k3**2 + k6`` with the variable's cumulants; those of a
    binomial one are rational in ``t * p * q`` and ``p * q``.
    """
    import numpy as np

    pq = (n / (n + m)) * (m / (n + m))
    spread = pooled * pq
    third = (1 - 4 * pq) / spread  # of the third one, the square
    fourth = (1 - 6 * pq) / spread
    sixth = (1 - 30 * pq + 120 * pq**2) / spread**2
    parts = 8 + 12 * fourth + 10 * third + sixth
    return float(max(np.sum(parts) * (len(pooled) - 1) / len(pooled), 1e-3))


def new_rows_p(new: float, pooled: Array, n: int, m: int) -> tuple[float, float]:
    """Rows of the current side that chance puts into categories without a reference row, and the p-value of ``new`` rows.

    A category of ``t`` pooled rows has no reference row with the chance ``C(m, t) / C(n + m, t)``. The p-value is by the
    gamma law with this mean, and the variance of independent categories: theirs is smaller, since one shuts out the other.
    """
    import numpy as np
    from scipy import special

    sizes, times = np.unique(pooled[pooled > 0], return_counts=True)
    with np.errstate(invalid="ignore", over="ignore"):
        gone = special.gammaln(m + 1.0) - special.gammaln(np.maximum(m - sizes, 0) + 1.0)
        gone -= special.gammaln(n + m + 1.0) - special.gammaln(n + m - sizes + 1.0)
        # Rounding of gammaln at huge arguments: the chance is never above that of drawing with replacement.
        gone = np.minimum(gone, sizes * np.log(m / (n + m)))
    chance = np.where(sizes > m, 0.0, np.exp(np.minimum(gone, 0.0)))
    mean = float(np.sum(times * sizes * chance))
    variance = float(np.sum(times * sizes**2 * chance * (1 - chance)))
    if new <= mean or new <= 0:
        return mean, 1.0
    if mean <= 0 or variance <= 0:
        return mean, 0.0
    return mean, float(special.gammaincc(mean * mean / variance, new * mean / variance))


def smirnov_mean(n: int, m: int) -> float:
    """Mean of the Kolmogorov-Smirnov distance of two samples of one continuous law; ties make it smaller."""
    return float(min(1.0, _KOLMOGOROV_MEAN * (1.0 / n + 1.0 / m) ** 0.5))


def wasserstein_mean(cells: Any) -> float:
    """Mean of the Wasserstein distance in units of ``scale``: ``sqrt(2 / pi * (1/n + 1/m)) * integral of sqrt(H (1 - H))``.

    ``F - G`` is about a Brownian bridge at the pooled ``H``, and the mean size of a normal value is ``sqrt(2 / pi)`` of
    its deviation (del Barrio, Gine and Matran 1999).
    """
    import numpy as np

    n, m = cells.rows
    return float(np.sqrt(2 / np.pi * (1.0 / n + 1.0 / m)) * _integral(cells, np.sqrt))


def energy_square_mean(cells: Any) -> float:
    """Mean of the squared energy distance, in units of ``scale``: ``2 * (1/n + 1/m) * integral of H (1 - H)``."""
    n, m = cells.rows
    return float(2 * (1.0 / n + 1.0 / m) * _integral(cells, lambda part: part))


def _integral(cells: Any, of: Callable[[Any], Any]) -> float:
    import numpy as np

    pooled = np.cumsum(cells.before + cells.after) / float(cells.before.sum() + cells.after.sum())
    height = of(np.clip(pooled * (1 - pooled), 0.0, None))
    before = np.r_[0.0, height[:-1]]
    width = (cells.high - cells.low) / cells.scale
    gap = (cells.low[1:] - cells.high[:-1]) / cells.scale
    return float(np.sum((before + height) / 2 * width) + np.sum(height[:-1] * gap))
