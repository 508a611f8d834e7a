"""Statistics of two rows of counts: bins of a numeric column, or categories.

All are exact up to rounding. ``p`` and ``q`` are the shares of the reference and of the current side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A statistic, and the certified interval around it.

    :param value: the best estimate; the statistic itself where the interval is a point.
    :param low: the true value is not below, rounding included.
    :param high: the true value is not above, rounding included.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float) -> Score:
        """An exact score."""
        return cls(float(value), float(value), float(value))

    @property
    def exact(self) -> bool:
        """Whether it is known and not only bounded."""
        return self.low == self.high

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def filled(shares: Counts) -> Counts:
    """Replace empty bins as Evidently does (``stattests/utils.py``): by 1e-4, or a millionth of the least share."""
    import numpy as np

    least = float(shares[shares != 0].min())
    filling = least / 10**6 if least <= 0.0001 else 0.0001
    return np.asarray(np.where(shares == 0, filling, shares))


def smoothed(counts: Counts) -> Counts:
    """Shares after half a row was added to every bin (Jeffreys' prior): no bin is empty, and none is made up of nothing."""
    import numpy as np

    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))


def psi(p: Counts, q: Counts) -> float:
    """Population stability index, ``sum((p - q) * ln(p / q))``: Jeffreys' divergence (Jeffreys 1946; Siddiqi 2006)."""
    import numpy as np

    return float(np.sum((p - q) * np.log(p / q)))


def kullback_leibler(p: Counts, q: Counts) -> float:
    """Kullback-Leibler divergence of the reference from the current side in nats (Kullback and Leibler 1951)."""
    import numpy as np

    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p / q, 1.0)), 0.0)))


def jensen_shannon(p: Counts, q: Counts) -> float:
    """Jensen-Shannon distance in nats, the root of the divergence (Lin 1991; Endres and Schindelin 2003)."""
    import numpy as np

    p, q = p / p.sum(), q / q.sum()
    return float(np.sqrt(max(0.0, float(np.sum(jensen_shannon_terms(p, q))))))


def jensen_shannon_terms(p: Counts, q: Counts) -> Counts:
    """The summands of the Jensen-Shannon divergence: each is convex in both shares, and never negative."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log(2 * p / (p + q)), 0.0)
        right = np.where(q > 0, q * np.log(2 * q / (p + q)), 0.0)
    return np.asarray((left + right) / 2)


def total_variation(p: Counts, q: Counts) -> float:
    """Total variation, ``sum(|p - q|) / 2``: the share of rows that would have to be moved."""
    import numpy as np

    return float(np.sum(np.abs(p - q)) / 2)


def hellinger(p: Counts, q: Counts) -> float:
    """Hellinger distance, ``sqrt(1 - sum(sqrt(p * q)))`` (Hellinger 1909)."""
    import numpy as np

    # As a sum of squares: 1 - sum(sqrt(pq)) would lose half of the digits for similar sides.
    return float(np.sqrt(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2) / 2))


def chi_square(before: Counts, after: Counts) -> float:
    """Pearson's chi-square of homogeneity of a 2 x k table (Pearson 1911).

    Unlike a goodness of fit it knows that the reference is a sample too; without that, every alarm is too frequent.
    """
    import numpy as np

    n, m = float(before.sum()), float(after.sum())
    pooled = before + after
    kept = pooled > 0
    gap = (before[kept] * (m / (n + m)) - after[kept] * (n / (n + m))) ** 2
    return float(np.sum(gap / pooled[kept]) * ((n + m) / n) * ((n + m) / m))


def chi_square_fit(before: Counts, after: Counts) -> float:
    """Pearson's chi-square of fit, the reference taken for the truth: Evidently's; infinite for a new category."""
    import numpy as np

    expected = before * (float(after.sum()) / float(before.sum()))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sum((after - expected) ** 2 / expected))


def g_statistic(before: Counts, after: Counts) -> float:
    """The likelihood ratio ``G`` of homogeneity of a 2 x k table, ``2 * sum(O * ln(O / E))`` (Wilks 1938)."""
    import numpy as np

    n, m = float(before.sum()), float(after.sum())
    pooled = (before + after) / (n + m)
    value = 0.0
    for counts, rows in ((before, n), (after, m)):
        kept = counts > 0
        value += 2.0 * float(np.sum(counts[kept] * np.log(counts[kept] / (rows * pooled[kept]))))
    return max(0.0, value)


def z_statistic(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Two proportions compared with the pooled variance.

    :param before: hits and rows of the reference.
    :param after: hits and rows of the current side.
    :return: the statistic; zero where nothing varies.
    """
    (a, n), (b, m) = before, after
    pooled = (a + b) / (n + m)
    variance = pooled * (1 - pooled) * (1 / n + 1 / m)
    if variance == 0:
        return 0.0
    return float((a / n - b / m) / variance**0.5)


def cramers_v(before: Counts, after: Counts) -> float:
    """Cramer's V of a 2 x k table: chi-square as an effect size between 0 and 1, whatever the number of rows."""
    return float((chi_square(before, after) / float(before.sum() + after.sum())) ** 0.5)


def aligned(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[list[str], Counts, Counts]:
    """Return the categories of both sides, sorted, and the rows of each side."""
    import numpy as np

    names = sorted(set(before) | set(after))
    first = np.array([before.get(name, 0) for name in names], dtype="float64")
    second = np.array([after.get(name, 0) for name in names], dtype="float64")
    return names, first, second


def unseen(before: Counts, after: Counts) -> tuple[float, float]:
    """Share of current rows in new categories, and share of reference rows in categories that vanished."""
    new = float(after[before == 0].sum() / after.sum())
    return new, float(before[after == 0].sum() / before.sum())
