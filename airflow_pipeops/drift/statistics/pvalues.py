"""P-values: how often chance alone gives a statistic at least as great.

Each is a plain function of the statistic and the numbers of rows, so it can be had from aggregates, and at both ends of a
certified interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Up to so many rows a side, SciPy (and with it Evidently) counts the lattice paths of Smirnov's test exactly.
SMIRNOV_EXACT = 10_000

#: Up to so many rows a side, the Cramer-von Mises test is exact.
MISES_EXACT = 20

#: The size of the term at which SciPy (and with it Evidently) ends the series of its limit law.
MISES_PRECISION = 1e-7


def smirnov(distance: float, before: tuple[int, int], after: tuple[int, int]) -> float:
    """Two-sided Kolmogorov-Smirnov test, as ``scipy.stats.ks_2samp`` chooses it: exact up to 10,000 rows a side.

    :param distance: the greatest ``|F - G|``; used for the limit distribution.
    :param before: rows of the reference up to where it is reached, and all of them; used for the exact one.
    :param after: the same of the current side.
    :return: the p-value.
    """
    from scipy import stats

    (i, n), (j, m) = before, after
    if max(n, m) <= SMIRNOV_EXACT:
        import numpy as np

        # The p-value depends on the distance and the sizes alone: two tied samples with that distance give it.
        samples = (np.repeat([0, 1], [part, rows - part]) for part, rows in ((i, n), (j, m)))
        return float(stats.ks_2samp(*samples).pvalue)
    return smirnov_limit(distance, n, m)


def smirnov_limit(distance: float, n: int, m: int) -> float:
    """Kolmogorov-Smirnov test by the one-sample law for ``n * m / (n + m)`` rows, as SciPy does for large samples."""
    from scipy import stats

    rows = float(max(n, m)) * float(min(n, m)) / (n + m)
    return float(min(1.0, max(0.0, stats.kstwo.sf(distance, max(1.0, float(round(rows)))))))


def chi_square(statistic: float, freedom: int) -> float:
    """Chi-square test; one if there is no freedom (a single category is always alike)."""
    from scipy import special

    if freedom < 1:
        return 1.0
    return float(special.chdtrc(freedom, statistic))


def normal(z: float) -> float:
    """Two-sided test of a standard normal statistic."""
    from scipy import special

    return float(min(1.0, 2.0 * special.ndtr(-abs(z))))


def student(
    means: tuple[float, float], variances: tuple[float, float], rows: tuple[int, int]
) -> tuple[float, float]:
    """Student's t with the pooled variance (Student 1908), as ``scipy.stats.ttest_ind``.

    :param means: of both sides.
    :param variances: of both sides, with ``ddof=0``.
    :param rows: of both sides.
    :return: ``(t, p)``; NaN where nothing varies at all, and nothing differs.
    """
    from scipy import special

    n, m = rows
    freedom = n + m - 2
    pooled = (n * variances[0] + m * variances[1]) / freedom if freedom > 0 else math.nan
    width = math.sqrt(pooled * (1 / n + 1 / m)) if pooled == pooled else math.nan
    shift = means[0] - means[1]
    if width != width or (width == 0 and shift == 0):
        return math.nan, math.nan
    if width == 0:
        return math.copysign(math.inf, shift), 0.0
    t = shift / width
    return t, float(min(1.0, 2.0 * special.stdtr(freedom, -abs(t))))


def fisher(hits: tuple[int, int], rows: tuple[int, int]) -> float:
    """Fisher's exact test of two shares, twice the smaller tail (Fisher 1935): never too small, at any number of rows."""
    import numpy as np
    from scipy.special import gammaln

    (a, b), (n, m) = hits, rows
    both, total = a + b, n + m
    if both in (0, total):
        return 1.0
    mean = both * (m / total)
    reach = (
        40 * math.sqrt(mean * (n / total) * (1 - both / total)) + 40
    )  # beyond it nothing is left of a double
    least, most = max(0, both - n, math.floor(mean - reach)), min(both, m, math.ceil(mean + reach))
    if not least <= b <= most:
        return 0.0
    hit = np.arange(least, most + 1, dtype="float64")

    def ways(of: float, some: Any) -> Any:
        return gammaln(of + 1) - gammaln(some + 1) - gammaln(of - some + 1)

    logs = ways(m, hit) + ways(n, both - hit)
    chance = np.exp(logs - logs.max())
    at = b - least
    tails = float(chance[: at + 1].sum()), float(chance[at:].sum())
    return float(min(1.0, 2.0 * min(tails) / float(chance.sum())))


def beyond(outside: int, n: int, m: int) -> float:
    """Chance that so many of ``m`` new rows, or more, lie beyond the extreme of ``n`` reference rows on one side.

    The outermost ``outside`` of the pooled rows are all new: ``m (m - 1) ... / ((n + m) (n + m - 1) ...)`` (Wilks 1942).
    Ties make it rarer.
    """
    from scipy import special

    if outside <= 0:
        return 1.0
    lost = special.gammaln(m + 1) - special.gammaln(m - outside + 1)
    lost -= special.gammaln(n + m + 1) - special.gammaln(n + m - outside + 1)
    return float(math.exp(min(0.0, float(lost))))


def cramer_von_mises(statistic: float, n: int, m: int, precision: float = MISES_PRECISION) -> float:
    """Cramer-von Mises test by its limit distribution, standardised as in Anderson (1962), equations 9 to 15.

    SciPy and Evidently use it from 21 rows a side on.

    :param statistic: the criterion ``T``.
    :param n: rows of the reference.
    :param m: rows of the current side.
    :param precision: at which term the series ends. A p-value below that of SciPy and Evidently is not theirs to know; with
        a smaller one the tail is right down to some 1e-15.
    :return: the p-value.
    """
    import numpy as np

    total, product = n + m, float(n) * float(m)
    mean = (1 + 1 / total) / 6
    variance = (total + 1.0) * (4 * product * total - 3 * (float(n) ** 2 + float(m) ** 2) - 2 * product)
    variance /= 45.0 * float(total) ** 2 * 4 * product
    standard = 1 / 6 + (statistic - mean) / np.sqrt(45 * variance)
    if standard < 0.003:
        return 1.0
    return float(max(0.0, 1.0 - _mises_limit(float(standard), precision)))


def _mises_limit(x: float, precision: float) -> float:
    """Limit distribution of the Cramer-von Mises statistic (Csorgo and Faraway 1996, equation 1.2).

    The greater ``x`` the more terms it takes, some ``10 * sqrt(x)`` of them.
    """
    import numpy as np
    from scipy import special

    found, first, size = 0.0, 0, 16
    while True:
        k = np.arange(first, first + size, dtype="float64")
        order = 4 * k + 1
        inner = order**2 / (16 * x)
        weight = np.exp(special.gammaln(k + 0.5) - special.gammaln(k + 1)) / (math.pi**1.5 * math.sqrt(x))
        terms = weight * np.sqrt(order) * np.exp(-inner) * special.kv(0.25, inner)
        small = np.flatnonzero(np.abs(terms) < precision)
        if len(small):
            return found + float(terms[: small[0] + 1].sum())
        found, first, size = found + float(terms.sum()), first + size, 2 * size


_EULER = 0.5772156649015329

#: Scholz and Stephens (1987), table 2: coefficients of the critical values, for each level.
_LEVELS = (0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001)
_B0 = (0.675, 1.281, 1.645, 1.96, 2.326, 2.573, 3.085)
_B1 = (-0.245, 0.25, 0.678, 1.149, 1.822, 2.364, 3.615)
_B2 = (-0.105, -0.305, -0.362, -0.391, -0.396, -0.345, -0.154)


def anderson_darling(statistic: float, n: int, m: int) -> float:
    """Anderson-Darling test of two samples, interpolated between 0.25 and 0.001 as ``scipy.stats.anderson_ksamp`` does.

    :param statistic: as in Scholz and Stephens (1987), equation 7, not yet standardised.
    :param n: rows of the reference.
    :param m: rows of the current side.
    :return: the p-value, from 0.001 to 0.25.
    """
    import numpy as np

    standard = (statistic - 1.0) / anderson_deviation(n, m)
    critical = np.add(np.add(_B0, _B1), _B2)
    if standard < critical.min():
        return _LEVELS[0]
    if standard > critical.max():
        return _LEVELS[-1]
    return float(np.exp(np.polyval(np.polyfit(critical, np.log(_LEVELS), 2), standard)))


def anderson_deviation(n: int, m: int) -> float:
    """Standard deviation of the two-sample Anderson-Darling statistic (Scholz and Stephens 1987, equation 4).

    Their double sum ``g`` in closed form: ``H(N-1)**2 - H(N)**2 + H2(N)`` with the harmonic numbers of order one and two.
    """
    from scipy import special

    total = float(n + m)
    big = 1.0 / n + 1.0 / m
    h = float(special.digamma(total)) + _EULER
    after = h + 1 / total
    squares = math.pi**2 / 6 - float(special.polygamma(1, total + 1))
    g = h * h - after * after + squares
    k = 2
    a = (4 * g - 6) * (k - 1) + (10 - 6 * g) * big
    b = (2 * g - 4) * k**2 + 8 * h * k + (2 * g - 14 * h - 4) * big - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * k**2 + (4 * h - 4 * g + 6) * k + (2 * h - 6) * big + 4 * h
    d = (2 * h + 6) * k**2 - 4 * h * k
    top = a * total**3 + b * total**2 + c * total + d
    return math.sqrt(top / ((total - 1) * (total - 2) * (total - 3)))


def benjamini_hochberg(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the adjusted p-values: rejecting those up to ``q`` keeps the share of false alarms at ``q``.

    Benjamini and Hochberg (1995); if nothing drifted at all, an alarm anywhere has the chance ``q`` (Simes).
    """
    import numpy as np

    given: Any = np.asarray(values, dtype="float64")
    if not len(given):
        return np.zeros(0)
    order = np.argsort(given, kind="stable")
    scaled = given[order] * len(given) / np.arange(1, len(given) + 1)
    steps = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    result = np.empty(len(given))
    result[order] = steps
    return result
