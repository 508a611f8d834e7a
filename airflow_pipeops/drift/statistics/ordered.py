"""Statistics of two distribution functions, from cells: exact where the order is known, certified where it is not.

Notation, in a cell of width ``w`` with shares ``f`` (reference) and ``g`` (current): ``D = F - G`` starts at ``d`` and ends
at ``d + f - g``, both known exactly. Inside, ``F`` only rises by ``f`` in all and ``G`` by ``g``, so

    (1)  a <= D <= b   with   a = d - g,   b = d + f,

and by parts, with ``U`` the upper end of the cell, the integral of ``D`` over the cell is known from the sums alone:

    (2)  I = d * w + (f * U - sum_f) - (g * U - sum_g),   sum_f = (sum of the reference's values in the cell) / n.

Every bound below follows from (1) and (2). Roundings: ``d`` is within two units in the last place; ``I`` carries the error
of the sums, which the cells state; the final sums are widened by ``SLACK``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.statistics.cells import UNIT, Cells
from airflow_pipeops.drift.statistics.counts import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Adding up some 1e5 terms pairwise, and the few operations on each of them, err by less than this, relatively.
SLACK = 1e-13

#: What may get lost where products fall below the least normal double.
TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Range:
    """What is known of ``D`` in every cell, in units of ``z``.

    :param start: ``D`` at the lower end.
    :param end: ``D`` at the upper end.
    :param least: ``D`` is not below.
    :param most: ``D`` is not above.
    :param width: of the cell.
    :param gap: from the cell to the next.
    :param area_low: the integral of ``D`` over the cell is not below.
    :param area_high: the integral is not above.
    :param area: the integral.
    :param single: whether all rows of the cell are one value.
    """

    start: Array
    end: Array
    least: Array
    most: Array
    width: Array
    gap: Array
    area_low: Array
    area_high: Array
    area: Array
    single: NDArray[np.bool_]


def ranged(cells: Cells) -> Range:
    """Work out (1) and (2) for every cell."""
    import numpy as np

    n, m = cells.rows
    border = cells.difference()
    start, end = border[:-1], border[1:]
    f, g = cells.before / n, cells.after / m
    with np.errstate(all="ignore"):
        width = (cells.high - cells.low) / cells.scale
        gap = (cells.low[1:] - cells.high[:-1]) / cells.scale
        upper = (cells.high - cells.centre) / cells.scale
        area = start * width + (f * upper - cells.total_before / n) - (g * upper - cells.total_after / m)
        error = cells.error_before / n + cells.error_after / m
        error = 1.01 * (error + 8 * UNIT * ((f + g) * np.abs(upper) + (1 + f + g) * width))
        least, most = start - g, start + f
        # (1) bounds the integral too: that helps where a sum overflowed or cancelled.
        floor, ceiling = least * width, most * width
        low = np.where(np.isfinite(area - error), np.maximum(area - error, floor), floor)
        high = np.where(np.isfinite(area + error), np.minimum(area + error, ceiling), ceiling)
        low = np.minimum(low, high)
        area = np.where(np.isfinite(area), np.clip(area, low, high), (low + high) / 2)
    return Range(start, end, least, most, width, gap, low, high, area, cells.single)


def kolmogorov_smirnov(cells: Cells) -> Score:
    """Kolmogorov-Smirnov distance, ``max|F - G|`` (Smirnov 1939).

    Never below the greatest ``|D|`` at a border, which is a value of ``|F - G|``; by (1) never above the greatest of
    ``|a|`` and ``|b|`` over the cells that are not one value.
    """
    import numpy as np

    known = ranged(cells)
    at_borders = float(np.abs(known.end).max(initial=0.0))
    inside = np.where(known.single, 0.0, np.maximum(np.abs(known.least), np.abs(known.most)))
    high = max(at_borders, float(inside.max(initial=0.0)))
    if high == at_borders:
        return Score.of(at_borders)
    return Score(at_borders, at_borders * (1 - 4 * UNIT), min(1.0, high * (1 + 4 * UNIT)))


def smirnov_places(cells: Cells) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the rows of both sides up to where ``|D|`` is greatest: at a border, and at worst inside a cell."""
    import numpy as np

    known = ranged(cells)
    before, after = np.cumsum(cells.before), np.cumsum(cells.after)
    at = int(np.abs(known.end).argmax())
    border = int(before[at]), int(after[at])
    inside = np.where(known.single, 0.0, np.maximum(np.abs(known.least), np.abs(known.most)))
    at = int(inside.argmax())
    if inside[at] <= abs(known.end[int(np.abs(known.end).argmax())]):
        return border, border
    rises = bool(abs(known.most[at]) >= abs(known.least[at]))  # all of the reference's rows of the cell first
    reached = int(before[at]), int(after[at] - cells.after[at])
    fallen = int(before[at] - cells.before[at]), int(after[at])
    return border, reached if rises else fallen


def smirnov_uncertain(cells: Cells) -> NDArray[np.bool_]:
    """Cells in which ``|F - G|`` may be greater than at every border: what must be looked up to make it exact."""
    import numpy as np

    known = ranged(cells)
    inside = np.maximum(np.abs(known.least), np.abs(known.most))
    return np.asarray(~known.single & (inside > np.abs(known.end).max(initial=0.0)))


def wasserstein(cells: Cells) -> Score:
    """Wasserstein distance of order one in units of ``scale``, the integral of ``|F - G|`` (Vallender 1974).

    Between cells exact. In a cell not below ``|I|``, and equal to it where ``D`` keeps its sign. Elsewhere ``a < 0 < b``,
    and ``|D|`` lies under its chord from ``(a, -a)`` to ``(b, b)``, since it is convex; integrated, the integral of
    ``|D|`` is at most ``((a + b) * I - 2 * a * b * w) / (b - a)``. That is linear in ``I``: its ends bound it.
    """
    import numpy as np

    known = ranged(cells)
    if cells.exact and not known.end.any():
        return Score.of(0.0)
    between = float(np.sum(np.abs(known.end[:-1]) * known.gap))
    lower, upper, guess = _absolute(known)
    low, high = between + float(lower.sum()), between + float(upper.sum())
    value = between + float(guess.sum())
    moved = 2 * cells.rounding  # values that move by h on either side move the distance by 2 h at most
    return _widened(value, low - moved, high + moved)


def wasserstein_slack(cells: Cells) -> Array:
    """How much each cell adds to the width of the certified interval, in units of ``scale``."""
    lower, upper, _ = _absolute(ranged(cells))
    return upper - lower


def _absolute(known: Range) -> tuple[Array, Array, Array]:
    import numpy as np

    a, b, w = known.least, known.most, known.width
    i1, i2 = known.area_low, known.area_high
    lower = np.maximum(np.maximum(i1, -i2), 0.0)
    sure = known.single | (a >= 0) | (b <= 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        chord = np.maximum((a + b) * i1, (a + b) * i2) - 2 * a * b * w
        chord = np.minimum(chord / (b - a), w * np.maximum(-a, b))
        straight = w * (known.start**2 + known.end**2) / (2 * np.abs(known.end - known.start))
    upper = np.where(sure, np.maximum(np.abs(i1), np.abs(i2)), np.maximum(chord, lower))
    crossing = ~sure & (known.start * known.end < 0)
    guess = np.where(crossing, np.maximum(np.nan_to_num(straight), np.abs(known.area)), np.abs(known.area))
    lower, upper = np.where(known.single, 0.0, lower), np.where(known.single, 0.0, upper)
    return lower, upper, np.clip(guess, lower, upper)


def energy(cells: Cells) -> Score:
    """Energy distance in units of the root of ``scale``: ``sqrt(2 * integral of (F - G)**2)`` (Szekely and Rizzo 2013).

    Between cells exact. In a cell not below ``I**2 / w`` (Cauchy and Schwarz). By (1) ``(D - a) * (b - D) >= 0``, that is
    ``D**2 <= (a + b) * D - a * b``: integrated, at most ``(a + b) * I - a * b * w``, linear in ``I``.
    """
    import numpy as np

    known = ranged(cells)
    if cells.exact and not known.end.any():
        return Score.of(0.0)
    a, b, w = known.least, known.most, known.width
    i1, i2 = known.area_low, known.area_high
    between = float(np.sum(known.end[:-1] ** 2 * known.gap))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        smallest = np.maximum(np.maximum(i1, -i2), 0.0)
        # Integers beyond 2**53 may share a cell without width that is not one value.
        lower = np.where(known.single, 0.0, np.nan_to_num(smallest**2 / w))
        upper = np.maximum((a + b) * i1, (a + b) * i2) - a * b * w
        upper = np.minimum(upper, w * np.maximum(a * a, b * b))
        upper = np.where(known.single, 0.0, np.maximum(upper, lower))
        straight = w * (known.start**2 + known.start * known.end + known.end**2) / 3
    guess = np.clip(np.nan_to_num(straight), lower, upper)
    with np.errstate(over="ignore"):
        value, low, high = (float(np.sqrt(2 * (between + part.sum()))) for part in (guess, lower, upper))
    # It is a norm of F - G; values that move by h move F by a function whose square integrates to h at most.
    moved = 2 * (2 * cells.rounding) ** 0.5
    return _widened(value, low - moved, high + moved)


def _squares(known: Range) -> tuple[Array, Array, Array]:
    """Return bounds of ``D**2`` over the points of every cell, and a guess: exact for one value, its middle.

    The middle of a jump is the mean of its ends, so for a group of ties inside the cell it stays between ``a`` and ``b``.
    """
    import numpy as np

    middle = ((known.start + known.end) / 2) ** 2
    least = np.where((known.least < 0) & (known.most > 0), 0.0, np.minimum(known.least**2, known.most**2))
    most = np.maximum(known.least**2, known.most**2)
    guess = (known.start**2 + known.start * known.end + known.end**2) / 3
    single = known.single
    return np.where(single, middle, least), np.where(single, middle, most), np.where(single, middle, guess)


def cramer_von_mises(cells: Cells) -> Score:
    """Two-sample Cramer-von Mises criterion ``T`` with midranks (Anderson 1962; SciPy's ``cramervonmises_2samp``).

    With ``D`` taken in the middle of every jump, for values of ``p`` rows of the reference and ``q`` of the current side::

        T = n * m / N**2 * sum((p + q) * D**2)
            + sum(p**3) * A + sum(q**3) * B - sum(p * q * (p + q)) / (4 * N**2)
            + 1 / (6 * N) - (n / m + m / n) / (12 * N)
        A = (m / (n * N) + 1 / m) / (12 * N),   B = (n / (m * N) + 1 / n) / (12 * N)

    (summation by parts of ``F**2 * G`` and ``F * G**2``). In a cell of ``p`` and ``q`` rows whose ties are unknown, (1)
    bounds ``D``, ``p <= sum(p_i**3) <= p**3``, and the mixed term lies between zero and ``p * q * (p + q)``.
    """
    import numpy as np

    n, m = (float(rows) for rows in cells.rows)
    total = n + m
    p, q = cells.before.astype("float64"), cells.after.astype("float64")
    of_p, of_q = (m / (n * total) + 1 / m) / (12 * total), (n / (m * total) + 1 / n) / (12 * total)
    lower, upper, guess = _squares(ranged(cells))
    cubes, mixed = of_p * p**3 + of_q * q**3, p * q * (p + q) / (4 * total**2)
    plain = of_p * p + of_q * q
    tied = cells.single
    constant = 1 / (6 * total) - (n / m + m / n) / (12 * total)

    def criterion(square: Array, ties: Array, cross: Array) -> float:
        main = float(np.sum((p + q) * square)) * (n / total) * (m / total)
        return main + float(np.sum(ties)) - float(np.sum(cross)) + constant

    low = criterion(lower, np.where(tied, cubes, plain), mixed)
    high = criterion(upper, cubes, np.where(tied, mixed, 0.0))
    value = criterion(guess, np.where(tied, cubes, plain), np.where(tied, mixed, 0.0))
    # Its parts are of either sign: the slack is relative to their size.
    size = float(np.sum((p + q) * upper)) * (n / total) * (m / total) + float(cubes.sum() + mixed.sum())
    spread = SLACK * (size + abs(constant))
    return Score(value, low - spread, high + spread)


def anderson_darling(cells: Cells) -> Score:
    """Two-sample Anderson-Darling statistic with midranks, not yet standardised (Scholz and Stephens 1987, equation 7).

    For two samples it is ``(N - 1) / N * n * m * sum(l * D**2 / (B * (N - B) - N * l / 4))`` over the values: ``l`` rows of
    both sides at the value, ``B`` rows below it and half of ``l``, ``D`` in the middle of the jump. In a cell whose ties
    are unknown (1) bounds ``D``, and the denominator is concave in ``B`` and in ``l``: its least value is at an end.
    """
    import numpy as np

    n, m = (float(rows) for rows in cells.rows)
    total = n + m
    rows = (cells.before + cells.after).astype("float64")
    below = np.cumsum(rows) - rows
    lower, upper, guess = _squares(ranged(cells))

    def denominator(middle: Any, size: Any) -> Any:
        return middle * (total - middle) - total * size / 4

    own = denominator(below + rows / 2, rows)
    ends = [denominator(below + s / 2, s) for s in (np.ones_like(rows), rows)]
    ends += [denominator(below + rows - s / 2, s) for s in (np.ones_like(rows), rows)]
    nearest = np.clip(total / 2, below + 0.5, below + rows - 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.where(cells.single, own, np.minimum.reduce(ends))
        most = np.where(cells.single, own, denominator(nearest, 1.0))
        parts = [
            np.where(square > 0, rows * square / size, 0.0)
            for square, size in ((lower, most), (upper, least), (guess, (least + most) / 2))
        ]
    factor = (total - 1) / total * n * m
    low, high, value = (factor * float(part.sum()) for part in parts)
    return _widened(value, low, high)


@dataclass(frozen=True)
class Moments:
    """Mean and variance of one side, in units of ``z``, each with its certified interval.

    :param rows: with a finite value.
    :param mean: of the values.
    :param variance: of the values, with ``ddof=0``.
    """

    rows: int
    mean: Score
    variance: Score

    @property
    def deviation(self) -> Score:
        """The root of the variance."""
        parts = (
            max(0.0, part) ** 0.5 for part in (self.variance.value, self.variance.low, self.variance.high)
        )
        value, low, high = parts
        return Score(value, low * (1 - 2 * UNIT), high * (1 + 2 * UNIT))


def moments(aggregate: Any) -> Moments:
    """Mean and variance (``ddof=0``) of an aggregate.

    Centred sums: with raw squares, a column of times since 1970 would keep no digit. Cells of one value are computed anew,
    so that a constant column has the variance zero and not a rounding.
    """
    import numpy as np

    count = aggregate.count.astype("float64")
    rows = int(aggregate.count.sum())
    with np.errstate(all="ignore"):
        ends = (
            (aggregate.low - aggregate.centre) / aggregate.scale,
            (aggregate.high - aggregate.centre) / aggregate.scale,
        )
        alone = aggregate.low == aggregate.high
        total = np.where(alone, count * ends[0], aggregate.total)
        most = np.maximum(np.abs(ends[0]), np.abs(ends[1]))
        error = np.where(alone, 4.0, count + 4.0) * UNIT * count * most
        mean = float(total.sum()) / rows
        spread = (float(error.sum()) + SLACK * float((count * most).sum())) / rows
        # About the mean, cell by cell: sum((z - c)**2) = squares - 2 c total + n c**2, and c near the cell loses nothing.
        parts = np.where(
            alone,
            count * (ends[0] - mean) ** 2,
            aggregate.squares - 2 * mean * aggregate.total + count * (mean * mean),
        )
        noise = (count + 6.0) * UNIT * count * (most + abs(mean)) ** 2 * 1.01
        # Of one value z is rounded once; that it is near the mean, and far from zero, makes it a large part of the rest.
        nudge = 2.0 * UNIT * most
        noise = np.where(alone, count * nudge * (2.0 * np.abs(ends[0] - mean) + nudge), noise)
        variance = float(parts.sum()) / rows
        wide = (float(noise.sum()) + SLACK * float(np.abs(parts).sum())) / rows + spread * spread
        wide += 4 * UNIT * float((count * most).sum()) / rows * abs(spread)
    if not (np.isfinite(variance) and np.isfinite(wide)):
        return Moments(rows, Score(mean, -np.inf, np.inf), Score(variance, 0.0, np.inf))
    # Values that move by h move the mean and the deviation by h at most.
    moved = aggregate.rounding
    spread += moved
    constant = len(aggregate.low) == 1 and bool(alone.all())
    variance, wide = (0.0, 0.0) if constant else (max(0.0, variance), wide + TINY)
    wide += moved * (2 * (variance + wide) ** 0.5 + moved)
    spread += TINY
    return Moments(
        rows,
        Score(mean, mean - spread, mean + spread),
        Score(variance, max(0.0, variance - wide), variance + wide),
    )


def moved(current: Any, reference: Any) -> Moments:
    """The moments of the current side, in units of the reference's map."""
    found = moments(current)
    if (current.centre, current.scale) == (reference.centre, reference.scale):
        return found
    ratio = current.scale / reference.scale
    offset = (current.centre - reference.centre) / reference.scale

    def line(part: float) -> float:
        return float(part * ratio + offset)

    mean, variance = found.mean, found.variance
    return Moments(
        found.rows,
        Score(line(mean.value), line(mean.low), line(mean.high)),
        Score(variance.value * ratio**2, variance.low * ratio**2, variance.high * ratio**2),
    )


def mean_shift(before: Moments, after: Moments) -> Score:
    """By how much the means differ, in the units of both."""
    shift = abs(after.mean.value - before.mean.value)
    spread = (before.mean.high - before.mean.low + after.mean.high - after.mean.low) / 2
    return Score(shift, max(0.0, shift - spread), shift + spread)


def _widened(value: float, low: float, high: float) -> Score:
    import numpy as np

    if np.isnan(high):
        high = float("inf")
    low = max(0.0, low * (1 - SLACK) - TINY) if np.isfinite(low) else 0.0
    high = high * (1 + SLACK) + TINY
    within = min(max(value, low), high) if np.isfinite(value) else low
    return Score(within, low, high)
