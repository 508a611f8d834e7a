"""The table of the robust mode: bins of the reference's own quantiles, or categories, and the rows of both sides in them.

Bins of equal width, from the least to the greatest value of both sides, let one outlier squeeze all other values into one
bin. Quantiles of the reference do not move with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.statistics.aggregates import CategoricalAggregate, NumericAggregate, comparable
from airflow_pipeops.drift.statistics.cells import joined
from airflow_pipeops.drift.statistics.counts import Score, aligned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: A bin with fewer expected rows on the smaller side says nothing by itself: it is put together with others.
LEAST_EXPECTED = 5.0

#: With so few distinct values each is a bin of its own.
FEW_VALUES = 20


@dataclass(frozen=True, eq=False)
class Table:
    """Rows per bin; the counts are exact.

    :param before: of the reference.
    :param after: of the current side.
    :param unseen: share of current rows where the reference has none: beyond its range, or in a new category.
    :param pooled: rows of both sides of each category before any were put together; empty for numbers.
    :param edges: of a numeric column's bins, in ``x``, without the two infinite ends.
    """

    before: Array
    after: Array
    unseen: Score
    pooled: Array
    edges: tuple[float, ...] = ()

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the reference and of the current side."""
        return int(self.before.sum()), int(self.after.sum())


def numeric_table(reference: NumericAggregate, current: NumericAggregate, bins: int = 10) -> Table:
    """Cut a numeric column at quantiles of the reference, and below and above all of it.

    The cuts lie at borders of fine bins, where the rows of both sides are known exactly: no second scan, and no second
    grouping key. A border is off the quantile by the rows of one fine bin at most.
    """
    import numpy as np

    if comparable(reference, current):
        keys, other = reference.key, current.key
        first, second = reference.count, current.count
        starts = reference.low
    else:
        cells = joined(reference, current)
        places = np.arange(len(cells.low))
        kept, also = cells.before > 0, cells.after > 0
        keys, other, starts = places[kept], places[also], cells.low[kept]
        first, second = cells.before[kept], cells.after[also]
    chosen = _cuts(keys, other, first, bins)
    cuts = np.r_[keys[0], keys[chosen], keys[-1] + 1]
    before = _counted(keys, first, cuts)
    after = _counted(other, second, cuts)
    before, after, left = _merged(before, after)
    edges = np.r_[starts[0], starts[chosen], np.nextafter(reference.high[-1], np.inf)]
    return Table(
        before,
        after,
        _beyond(reference, current),
        np.zeros(0),
        tuple(float(edge) for edge in edges[left]),
    )


def _cuts(keys: Any, other: Any, count: Any, bins: int) -> Any:
    """Return at which cells of the reference a bin starts: never the first."""
    import numpy as np

    if len(keys) <= FEW_VALUES:
        return np.arange(1, len(keys))
    upto = np.cumsum(count)
    wanted = upto[-1] * np.arange(1, bins) / bins
    after = np.searchsorted(upto, wanted)  # the cell in which the quantile falls
    nearer = np.where(wanted - (upto[after] - count[after]) <= upto[after] - wanted, after, after + 1)
    nearer = np.unique(nearer)
    return nearer[(nearer > 0) & (nearer < len(keys))]


def _counted(keys: Any, count: Any, cuts: Any) -> Array:
    import numpy as np

    upto = np.r_[0, np.cumsum(count)]
    at = upto[np.searchsorted(keys, cuts)]
    return np.asarray(np.diff(np.r_[0, at, upto[-1]]), "float64")


def _merged(before: Array, after: Array) -> tuple[Array, Array, Any]:
    """Put neighbouring bins together until each has enough expected rows on the smaller side.

    Which ones depends on the pooled rows alone, so the test stays conditional on them. Returns the borders kept too.
    """
    import numpy as np

    pooled = before + after
    share = min(before.sum(), after.sum()) / pooled.sum()
    groups, held = [], 0.0
    for index, rows in enumerate(pooled):  # a dozen bins
        held += rows * share
        if held >= LEAST_EXPECTED:
            groups.append(index + 1)
            held = 0.0
    if not groups:
        groups = [len(pooled)]
    groups[-1] = len(pooled)  # the rest goes to the last one
    starts = np.r_[0, groups[:-1]].astype("int64")
    return np.add.reduceat(before, starts), np.add.reduceat(after, starts), np.array(groups[:-1], "int64") - 1


def _beyond(reference: NumericAggregate, current: NumericAggregate) -> Score:
    """Share of the current rows outside the reference's range; between bounds where a cell straddles its end."""
    least, greatest = reference.low[0], reference.high[-1]
    rows = float(current.finite)
    sure = int(current.count[(current.high < least) | (current.low > greatest)].sum())
    partly = (current.low < least) & (current.high >= least) | (current.high > greatest) & (
        current.low <= greatest
    )
    # The cell's extreme value is outside, and perhaps all but one of its rows.
    inside = current.count[partly]
    low, high = sure + len(inside), sure + int(inside.sum())
    return Score(low / rows, low / rows, high / rows)


def categorical_table(reference: CategoricalAggregate, current: CategoricalAggregate) -> Table:
    """Line up the categories; those that are known on one side only because of a cap, and rare ones, are put together.

    Rare ones by their pooled frequency and then by name, until a group has enough expected rows: zip codes of one
    district stay together, and the test is conditional on what the grouping looked at.
    """
    import numpy as np

    before_counts, after_counts = reference.counts, current.counts
    rest_before, rest_after = reference.other, current.other
    if reference.capped or current.capped:
        both = before_counts.keys() & after_counts.keys()
        rest_before += sum(rows for name, rows in before_counts.items() if name not in both)
        rest_after += sum(rows for name, rows in after_counts.items() if name not in both)
        before_counts = {name: before_counts[name] for name in both}
        after_counts = {name: after_counts[name] for name in both}
    _, before, after = aligned(before_counts, after_counts)
    unseen = _new(reference, current)
    pooled = before + after
    order = np.argsort(-pooled, kind="stable")  # the names are sorted already
    before, after = _grouped(before[order], after[order])
    if rest_before or rest_after:
        before, after = np.r_[before, rest_before], np.r_[after, rest_after]
    return Table(before, after, unseen, pooled)


def _grouped(before: Array, after: Array) -> tuple[Array, Array]:
    import numpy as np

    if not len(before):
        return before, after
    pooled = before + after
    expected = pooled * (min(before.sum(), after.sum()) / max(1.0, pooled.sum()))
    rare = expected < LEAST_EXPECTED
    sums = np.cumsum(np.where(rare, expected, 0.0))
    bucket = np.floor(sums / LEAST_EXPECTED)
    if rare.any():
        full = np.floor(sums[-1] / LEAST_EXPECTED)
        bucket = np.minimum(bucket, max(0.0, full - 1))  # the rest goes to the last one
    label = np.where(rare, (~rare).sum() + bucket, np.cumsum(~rare) - 1).astype("int64")
    size = int(label.max()) + 1
    sides: list[Any] = [np.bincount(label, side, size) for side in (before, after)]
    kept = sides[0] + sides[1] > 0
    return sides[0][kept], sides[1][kept]


def _new(reference: CategoricalAggregate, current: CategoricalAggregate) -> Score:
    """Share of the current rows in categories that the reference has not."""
    rows = float(current.present)
    listed = sum(count for name, count in current.counts.items() if name not in reference.counts)
    if not (reference.capped or current.capped):
        return Score.of(listed / rows)
    # Beyond the reference's cap lies anything; beyond the current side's cap too.
    low = 0 if reference.capped else listed
    return Score(low / rows, low / rows, (listed + current.other) / rows)
