"""Two aggregates of one column, cut along common borders: what every ordered statistic is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.statistics.aggregates import NumericAggregate
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Relative error of one operation on doubles.
UNIT = 2.0**-53


@dataclass(frozen=True, eq=False)
class Cells:
    """The line cut into cells that neither side straddles.

    Between two cells there is no value, so both distribution functions are known exactly at every border. Within a cell
    the order of the two sides is unknown, unless the cell is one single value.

    :param low: least value in the cell, of both sides.
    :param high: greatest value in the cell, of both sides.
    :param before: rows of the reference in the cell.
    :param after: rows of the current side in the cell.
    :param total_before: sum of ``z`` of the reference's rows; exact up to ``error_before``.
    :param total_after: the same of the current side.
    :param error_before: how wrong ``total_before`` can be.
    :param error_after: how wrong ``total_after`` can be.
    :param single: whether all rows of the cell are one value.
    :param centre: of the map of ``z``; the reference's.
    :param scale: of the map of ``z``; the reference's.
    :param rounding: by how much each value may have been moved on its way to a double, in units of ``scale``.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    total_before: NDArray[np.float64]
    total_after: NDArray[np.float64]
    error_before: NDArray[np.float64]
    error_after: NDArray[np.float64]
    single: NDArray[np.bool_]
    centre: float
    scale: float
    rounding: float = 0.0

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the reference and of the current side."""
        return int(self.before.sum()), int(self.after.sum())

    @property
    def exact(self) -> bool:
        """Whether every cell is one value, so that every statistic is exact."""
        return bool(self.single.all())

    def difference(self) -> NDArray[np.float64]:
        """Return ``F - G`` at the k + 1 borders of the k cells: exact up to one rounding."""
        import numpy as np

        n, m = self.rows
        first = np.r_[0, np.cumsum(self.before)]
        second = np.r_[0, np.cumsum(self.after)]
        if float(n) * float(m) < 2.0**62:  # whole numbers: the subtraction loses nothing
            return np.asarray((first * m - second * n) / (float(n) * float(m)))
        return np.asarray(first / n - second / m)


def joined(reference: NumericAggregate, current: NumericAggregate) -> Cells:
    """Cut both sides along common borders.

    Cells of one side do not overlap each other, so intervals that overlap are of different sides; those that hang
    together become one cell. Two intervals in the same fine bin that do not overlap stay apart: their order is known.
    """
    import numpy as np

    centre, scale = reference.centre, reference.scale
    sides = [_side(one, centre, scale) for one in (reference, current)]
    low = np.concatenate([reference.low, current.low])
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.concatenate([reference.high, current.high])[order]
    reach = np.maximum.accumulate(high) if len(high) else high
    first = np.flatnonzero(np.r_[True, low[1:] > reach[:-1]]) if len(low) else np.zeros(0, "int64")
    nothing = [np.zeros(len(one.key)) for one in (current, reference)]

    def along(values: Any, other: Any, own_first: bool) -> Any:
        parts = [values, other] if own_first else [other, values]
        both = np.concatenate(parts)[order]
        return np.add.reduceat(both, first) if len(first) else both

    last = np.r_[first[1:], len(low)] - 1 if len(first) else first
    rounding = max(reference.rounding, current.rounding * current.scale / scale)
    left, right = low[first], reach[last]
    return Cells(
        low=left,
        high=right,
        before=along(reference.count, nothing[0].astype("int64"), True),
        after=along(current.count, nothing[1].astype("int64"), False),
        total_before=along(sides[0][0], nothing[0], True),
        total_after=along(sides[1][0], nothing[1], False),
        error_before=along(sides[0][1], nothing[0], True),
        error_after=along(sides[1][1], nothing[1], False),
        single=(left == right) & (not rounding),
        centre=centre,
        scale=scale,
        rounding=rounding,
    )


def _side(one: NumericAggregate, centre: float, scale: float) -> tuple[Any, Any]:
    """Return the sums of ``z`` in the common map, and how wrong they can be.

    Each ``z`` carries two roundings, and a sum of ``c`` terms in any order at most ``c - 1`` more (Higham, *Accuracy and
    Stability of Numerical Algorithms*, 4.4): together less than ``(c + 3) * u * c * max|z|``. Where all rows of a cell
    are one value, the sum is computed anew from it.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        count = one.count.astype("float64")
        ends = (one.low - centre) / scale, (one.high - centre) / scale
        most = np.maximum(np.abs(ends[0]), np.abs(ends[1]))
        total, error = one.total, (count + 3.0) * UNIT * 1.01 * count * most
        if (one.centre, one.scale) != (centre, scale):
            # sum((x - c) / s) = (sum((x - c') / s') * s' + n * (c' - c)) / s: some digits go in the cancellation.
            moved = (one.total * one.scale + count * (one.centre - centre)) / scale
            own = np.maximum(np.abs(one.low - one.centre), np.abs(one.high - one.centre))
            error = 2.0 * (count + 8.0) * UNIT * count * (own + abs(one.centre - centre)) / scale
            total = moved
        alone = one.low == one.high
        total = np.where(alone, count * ends[0], total)
        error = np.where(alone, 4.0 * UNIT * count * most, error)
    return total, error


def split(aggregate: NumericAggregate, values: Any, counts: Any) -> NumericAggregate:
    """Replace whole cells by the values that were looked up in them: afterwards their order is known.

    The keys are numbered anew, so the result is for judging and not for a profile.

    :param aggregate: the column, in cells.
    :param values: the distinct values of one or more whole cells, ascending.
    :param counts: rows of each.
    :return: the column, with a cell for each of these values.
    :raises InvalidInput: if they do not add up to the rows of the cells: the data changed in between.
    """
    import numpy as np

    values, counts = np.asarray(values, "float64"), np.asarray(counts, "int64")
    if not len(values):
        return aggregate
    place = np.searchsorted(aggregate.low, values, "right") - 1
    inside = (place >= 0) & (values <= aggregate.high[place])
    taken = np.bincount(place[inside], counts[inside], len(aggregate.key)).astype("int64")
    touched = taken > 0
    if not inside.all() or (taken[touched] != aggregate.count[touched]).any():
        raise InvalidInput(
            "the rows that were looked up do not add up to the rows that were counted before",
            field="values",
            remedy="The data changed in between: compare again.",
        )
    with np.errstate(over="ignore"):
        z = (values - aggregate.centre) / aggregate.scale
        sums = counts * z, counts * z * z
    kept = ~touched

    def mixed(name: str, new: Any) -> Any:
        return np.concatenate([getattr(aggregate, name)[kept], new])

    low = mixed("low", values)
    order = np.argsort(low, kind="stable")
    parts = {
        "count": mixed("count", counts),
        "total": mixed("total", sums[0]),
        "squares": mixed("squares", sums[1]),
        "low": low,
        "high": mixed("high", values),
    }
    fresh = {name: array[order] for name, array in parts.items()}
    return replace(aggregate, key=np.arange(len(low)), cut="", **fresh)


def intervals(cells: Cells, chosen: Any, most: int = 1000) -> tuple[tuple[float, float], ...]:
    """Find the values that must be looked up to resolve some cells.

    :param cells: the column.
    :param chosen: mask or indices of the cells.
    :param most: so many intervals at most, the first ones.
    :return: intervals of ``x``; neighbouring cells are one.
    """
    import numpy as np

    index = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.sort(np.asarray(chosen))
    if not len(index):
        return ()
    breaks = np.flatnonzero(np.diff(index) > 1)
    first, last = index[np.r_[0, breaks + 1]], index[np.r_[breaks, len(index) - 1]]
    pairs: Sequence[tuple[float, float]] = [
        (float(cells.low[a]), float(cells.high[b])) for a, b in zip(first[:most], last[:most], strict=True)
    ]
    return tuple(pairs)
