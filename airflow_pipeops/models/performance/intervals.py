"""Confidence intervals that hold for one row of a class as for a million. Pure.

A proportion has the interval of Clopper and Pearson (Biometrika 26, 1934), which is exact. It can be read in another way:
to what was seen add one further row that is as bad as a row can be, let every row weigh at random (by the Dirichlet law, as
in the Bayesian bootstrap; Rubin 1981), and take a low quantile of the mean; the upper end takes a row that is as good as
can be. So read, it is an interval for all values between two bounds and not for hits and misses only (Gaffke, Mathematical
Methods of Statistics 14, 2005; Learned-Miller and Thomas 2019): many rows narrow it by what they vary, and few cannot make
it collapse, since the further row is worth as much as each of them. The weighted mean's law is here the beta law of its mean
and variance, which for hits and misses is again Clopper's and Pearson's.

A metric that is put together from several classes has such a row in each, and their effects add up as independent errors do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """The rows of one class, as far as a metric rests on them.

    :param rows: how many there are.
    :param down: by how much one further row, as bad as can be, would lower the metric.
    :param up: by how much one as good as can be would raise it.
    :param variance: of the metric, for the chance in these rows.
    """

    rows: int
    down: float
    up: float
    variance: float = 0.0


def proportion(hits: float, trials: float, confidence: float) -> tuple[float, float]:
    """Return the exact interval of a proportion."""
    from scipy.special import betaincinv

    tail, misses = (1 - confidence) / 2, trials - hits
    low = float(betaincinv(hits, misses + 1, tail)) if hits else 0.0
    return low, float(betaincinv(hits + 1, misses, 1 - tail)) if misses else 1.0


def bounded(
    value: float,
    parts: Sequence[Part],
    confidence: float,
    *,
    least: float = 0.0,
    most: float = 1.0,
    variance: float = 0.0,
) -> tuple[float, float]:
    """Return the interval of a metric that lies between two bounds.

    :param parts: the classes it rests on.
    :param confidence: chance that either end holds, both together, such as 0.95.
    :param least: the metric is never below.
    :param most: the metric is never above.
    :param variance: of the metric, beside that of its parts.
    """
    scale, tail = most - least, (1 - confidence) / 2
    if scale <= 0:
        return value, value
    low = _quantile(
        tail, (value - least) / scale, [(one.down / scale, one) for one in parts], variance, scale
    )
    high = _quantile(tail, (most - value) / scale, [(one.up / scale, one) for one in parts], variance, scale)
    return least + scale * low, most - scale * high


def _quantile(
    tail: float, seen: float, parts: Sequence[tuple[float, Part]], variance: float, scale: float
) -> float:
    """Return the quantile at ``tail`` of what lies in 0 to 1, above 0 by ``seen``."""
    from scipy.special import betaincinv

    mean = seen - math.sqrt(math.fsum(step * step for step, _ in parts))
    spread = variance / scale**2
    for step, one in parts:
        # Of a weighted mean of n values and the further one: exact, as the beta law's for hits and misses.
        n = one.rows
        spread += one.variance / scale**2 * n * n / ((n + 1) * (n + 2)) + step * step * n / (n + 2)
    size = mean * (1 - mean) / spread - 1 if spread > 0 else math.inf
    if mean <= 0 or size <= 0:
        return 0.0
    found = float(betaincinv(mean * size, (1 - mean) * size, tail)) if size < math.inf else mean
    return max(0.0, min(found, seen))
