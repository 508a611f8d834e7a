"""Evidently's bins, from cells: NumPy's Sturges bins, or every value, and what a cell that straddles an edge leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.statistics.aggregates import NumericAggregate
from airflow_pipeops.drift.statistics.bins import sturges_edges
from airflow_pipeops.drift.statistics.cells import Cells, intervals, joined
from airflow_pipeops.drift.statistics.counts import Score, jensen_shannon_terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: With more distinct values in the reference, Evidently bins a numeric column.
DISTINCT = 20


class Open(Exception):
    """The aggregate leaves open what Evidently would do; looking up these intervals settles it."""

    def __init__(self, why: str, refine: tuple[tuple[float, float], ...]) -> None:
        self.refine = refine
        super().__init__(why)


@dataclass(frozen=True, eq=False)
class Histogram:
    """Rows of both sides per bin: between ``least`` and ``most``, equal where nothing straddles.

    :param before_least: least rows of the reference in each bin.
    :param before_most: most rows of the reference in each bin.
    :param after_least: least rows of the current side in each bin.
    :param after_most: most rows of the current side in each bin.
    :param rows: of the reference and of the current side.
    :param refine: the cells that straddle an edge.
    """

    before_least: Array
    before_most: Array
    after_least: Array
    after_most: Array
    rows: tuple[int, int]
    refine: tuple[tuple[float, float], ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every bin is known."""
        return not self.refine


def pandas_type(one: NumericAggregate) -> str:
    """Return the type that pandas would give the column: with a null in it, integers become doubles."""
    name = one.dtype.lower()
    return "float64" if one.missing and name.startswith(("int", "uint", "bool")) else name


def common_type(reference: NumericAggregate, current: NumericAggregate) -> str:
    """Return the type of both sides put together."""
    import numpy as np

    return str(np.result_type(np.dtype(pandas_type(reference)), np.dtype(pandas_type(current))))


def distinct(one: NumericAggregate) -> tuple[int, int]:
    """Bounds of the number of distinct values of one side."""
    import numpy as np

    alone = one.low == one.high
    most = int(np.where(alone & (not one.rounded), 1, one.count).sum())
    return int(np.where(alone, 1, 2).sum()), most


def distinct_together(cells: Cells) -> tuple[int, int]:
    """Bounds of the number of distinct values of both sides."""
    import numpy as np

    least = int(np.where(cells.low == cells.high, 1, 2).sum())
    return least, int(np.where(cells.single, 1, cells.before + cells.after).sum())


def more_than(limit: int, bounds: tuple[int, int], cells: Cells, what: str) -> bool:
    """Whether a number is above a limit.

    :raises Open: if its bounds do not tell.
    """
    if bounds[0] > limit:
        return True
    if bounds[1] <= limit:
        return False
    raise Open(
        f"{what} has between {bounds[0]} and {bounds[1]} distinct values", intervals(cells, ~cells.single)
    )


def binned(reference: NumericAggregate, current: NumericAggregate) -> Histogram:
    """The bins of Evidently's ``get_binned_data``: Sturges bins, or the values themselves where the reference has few.

    :raises Open: if the number of distinct values, or the values themselves, are not known.
    """
    cells = joined(reference, current)
    if not more_than(DISTINCT, distinct(reference), cells, "the reference"):
        before, after = by_value(cells)
        return Histogram(before, before, after, after, cells.rows)
    low = min(float(reference.low[0]), float(current.low[0]))
    high = max(float(reference.high[-1]), float(current.high[-1]))
    edges = sturges_edges(low, high, reference.finite + current.finite, common_type(reference, current))
    return on_edges(reference, current, edges)


def by_value(cells: Cells) -> tuple[Array, Array]:
    """Rows of both sides per distinct value.

    :raises Open: if a cell holds several values.
    """
    if not cells.exact:
        raise Open("some values are only known in sum", intervals(cells, ~cells.single))
    return cells.before.astype("float64"), cells.after.astype("float64")


def on_edges(reference: NumericAggregate, current: NumericAggregate, edges: Array) -> Histogram:
    """Count on given edges, as ``numpy.histogram``: each bin has its lower edge, and the last one both."""
    import numpy as np

    parts: list[Any] = []
    refine: list[tuple[float, float]] = []
    for one in (reference, current):
        first = _place(edges, one.low)
        last = _place(edges, one.high)
        across = first != last
        bins = len(edges) - 1
        least = np.bincount(first[~across], one.count[~across], bins).astype("float64")
        most = least.copy()
        for index in np.flatnonzero(across):  # a few dozen edges at most
            most[first[index] : last[index] + 1] += one.count[index]
            refine.append((float(one.low[index]), float(one.high[index])))
        # The lowest and the highest row of a straddling cell are where they are.
        np.add.at(least, first[across], 1)
        np.add.at(least, last[across], 1)
        parts += [least, most]
    rows = (reference.finite, current.finite)
    return Histogram(parts[0], parts[1], parts[2], parts[3], rows, tuple(sorted(set(refine))))


def _place(edges: Array, values: Array) -> Any:
    import numpy as np

    return np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)


def divergence(method: str, found: Histogram) -> Score:
    """PSI, Kullback-Leibler or Jensen-Shannon on the bins, with Evidently's filling of empty ones.

    Bounds: with ``p`` and ``q`` each between its own bounds, a summand that is zero for equal shares and grows with their
    ratio has its greatest value where the shares are farthest apart, and its least value where they are nearest.
    """
    from airflow_pipeops.drift.statistics import counts as stats

    function = {
        "psi": lambda p, q: stats.psi(stats.filled(p), stats.filled(q)),
        "kl_div": lambda p, q: stats.kullback_leibler(stats.filled(p), stats.filled(q)),
        "jensenshannon": stats.jensen_shannon,
    }[method]
    n, m = found.rows
    guess = (found.before_least + found.before_most) / 2, (found.after_least + found.after_most) / 2
    value = function(guess[0] / guess[0].sum(), guess[1] / guess[1].sum())
    if found.exact:
        return Score.of(value)
    p = found.before_least / n, found.before_most / n
    q = found.after_least / m, found.after_most / m
    if method == "jensenshannon":
        low, high = _box(jensen_shannon_terms, p, q)
        return Score(value, max(0.0, low * (1 - 1e-12)) ** 0.5, (high * (1 + 1e-12)) ** 0.5)
    if any(((part[0] == 0) & (part[1] > 0)).any() for part in (p, q)):
        return Score(value, 0.0, float("inf"))  # empty or not: that alone may decide
    p, q = _filled_box(p), _filled_box(q)
    if method == "kl_div":
        p, q = ((part[0] / part[1].sum(), part[1] / part[0].sum()) for part in (p, q))
        low, high = _box(_kl_terms, p, q)
    else:
        low, high = _box(_psi_terms, p, q)
    return Score(value, low * (1 - 1e-12), high * (1 + 1e-12))


def _filled_box(shares: tuple[Array, Array]) -> tuple[Array, Array]:
    """Bounds of the shares after Evidently's filling: what it fills with hangs on the least share."""
    import numpy as np

    empty = shares[1] == 0
    least, most = (float(part[~empty].min()) for part in shares)
    floor = least / 10**6 if least <= 0.0001 else 0.0001
    ceiling = most / 10**6 if most <= 0.0001 else 0.0001
    return np.where(empty, floor, shares[0]), np.where(empty, ceiling, shares[1])


def _kl_terms(p: Any, q: Any) -> Any:
    """Summands of the divergence of two rows of shares that each add up to one: never negative."""
    import numpy as np

    return p * np.log(p / q) - p + q


def _psi_terms(p: Any, q: Any) -> Any:
    import numpy as np

    return (p - q) * np.log(p / q)


def _box(terms: Any, p: tuple[Array, Array], q: tuple[Array, Array]) -> tuple[float, float]:
    import numpy as np

    corners = np.stack([terms(p[0], q[1]), terms(p[1], q[0])])
    overlap = (p[0] <= q[1]) & (q[0] <= p[1])
    # Apart, the nearest corner is the other one: (least p, most q) where p is the greater.
    nearest = np.where(p[0] > q[1], corners[0], corners[1])
    return float(np.where(overlap, 0.0, nearest).sum()), float(corners.max(axis=0).sum())
