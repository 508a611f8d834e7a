"""What one column of one side is boiled down to before anything is judged: rows in cells, or rows per category.

An aggregate is all that travels from where the data are to where they are judged, and all that a saved *profile* holds.
The statistics read nothing else, so the reference need not be read again, or even exist any more.

**Numeric columns.** One ``GROUP BY key`` gives the cells. The key is any integer that grows with ``x``: in the engines
it is the fine bin of :func:`~airflow_pipeops.drift.statistics.bins.fine_key`, in the compatible mode the pair (fine bin,
Sturges bin) as one integer. The statistics rely on this alone:

- within a side the cells are intervals ``[low, high]`` that do not overlap, in ascending order;
- ``count``, ``low`` and ``high`` are exact; ``total`` and ``squares`` are sums of ``z`` and ``z * z`` in doubles, where
  ``z = (x - centre) / scale``, added up in any order.

They do not rely on equal keys meaning equal intervals on both sides, so a rounding that differs between two engines, or
a profile of another map, costs sharpness and never truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Written into every profile; a profile of another version is refused.
VERSION = 1

_COLUMNS = {
    "key": "int64",
    "count": "int64",
    "total": "float64",
    "squares": "float64",
    "low": "float64",
    "high": "float64",
}


@dataclass(frozen=True, eq=False)
class NumericAggregate:
    """A numeric column of one side, possibly of one segment.

    :param rows: all rows.
    :param missing: SQL nulls.
    :param not_finite: NaN and infinities; they are in no cell.
    :param centre: of the map ``z = (x - centre) / scale``; from the reference's sample, the same on both sides.
    :param scale: of the map; a power of two, so that dividing by it loses nothing in any engine.
    :param key: ascending and unique.
    :param count: rows in the cell, at least one.
    :param total: sum of ``z``.
    :param squares: sum of ``z * z``.
    :param low: least ``x`` seen in the cell.
    :param high: greatest ``x`` seen in the cell.
    :param dtype: of the column, as NumPy names it (``float64``, ``float32``, ``int64``, ``uint8``...); ``float64`` for
        decimals, dates and durations. Evidently's numbers depend on it, and it tells where a double is no longer exact.
    :param cut: name of the key's function. Where both sides have the same map and the same name, equal keys mean the same
        bin, and bins can be counted by key; empty says nothing.
    """

    rows: int
    missing: int
    not_finite: int
    centre: float
    scale: float
    key: NDArray[np.int64]
    count: NDArray[np.int64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    dtype: str = "float64"
    cut: str = ""

    def __post_init__(self) -> None:
        import numpy as np

        for name, kind in _COLUMNS.items():
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=kind))
        # Which of the two zeros an engine meets first is chance; adding one leaves the other.
        for name in ("low", "high"):
            object.__setattr__(self, name, getattr(self, name) + 0.0)
        self._check()

    def _check(self) -> None:
        import numpy as np

        sizes = {len(getattr(self, name)) for name in _COLUMNS}
        if len(sizes) != 1:
            raise _broken("its arrays have different lengths")
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            raise _broken("a cell has no finite bounds", "Keep NaN and infinities out of the cells.")
        if (self.low > self.high).any() or (self.high[:-1] >= self.low[1:]).any():
            raise _broken("its cells are not ascending intervals", "The key must grow with the value.")
        if (self.key[:-1] >= self.key[1:]).any() or (self.count < 1).any():
            raise _broken("its keys are not ascending, or a cell is empty")
        if not 0 < self.scale < float("inf"):
            raise _broken(f"its scale is {self.scale!r}")
        if self.rows != self.missing + self.not_finite + int(self.count.sum()):
            raise _broken("the rows of its cells do not add up to its rows")

    @property
    def finite(self) -> int:
        """Rows that are in a cell."""
        return int(self.count.sum())

    @property
    def rounded(self) -> bool:
        """Whether distinct values may have become one double: integers beyond 2**53."""
        if not self.dtype.lower().startswith(("int64", "uint64")) or not len(self.low):
            return False
        return self._farthest >= 2.0**53

    @property
    def rounding(self) -> float:
        """By how much a value may have been moved on its way to a double, in units of ``scale``."""
        return math.ulp(self._farthest) / 2 / self.scale if self.rounded else 0.0

    @property
    def _farthest(self) -> float:
        return max(abs(float(self.low[0])), abs(float(self.high[-1])))

    def header(self) -> dict[str, Any]:
        """Return the scalars, as plain JSON."""
        return {"kind": "numeric", "version": VERSION, **_scalars(self, _COLUMNS)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name: what a profile stores beside the header."""
        return {name: getattr(self, name) for name in _COLUMNS}


@dataclass(frozen=True, eq=False)
class CategoricalAggregate:
    """A categorical column of one side, possibly of one segment.

    :param rows: all rows.
    :param missing: SQL nulls.
    :param counts: category -> rows; where there are too many, the most frequent ones.
    :param other: rows of the categories beyond the cap; zero where all are listed.
    :param distinct: number of categories, those beyond the cap too.
    :param distinct_exact: whether ``distinct`` was counted and not estimated.
    :param dtype: ``string``, ``bool``, or the integer type for integers that are compared as categories.
    """

    rows: int
    missing: int
    counts: Mapping[str, int]
    other: int = 0
    distinct: int = -1
    distinct_exact: bool = True
    dtype: str = "string"

    def __post_init__(self) -> None:
        if self.distinct < 0:
            object.__setattr__(self, "distinct", len(self.counts))
        if any(count < 1 for count in self.counts.values()) or self.other < 0:
            raise _broken("a category has no rows")
        if self.rows != self.missing + sum(self.counts.values()) + self.other:
            raise _broken("the rows of its categories do not add up to its rows")
        if self.other and self.distinct <= len(self.counts):
            raise _broken("it has rows beyond the cap and no category there")

    @property
    def present(self) -> int:
        """Rows that have a category."""
        return self.rows - self.missing

    @property
    def capped(self) -> bool:
        """Whether some categories are only known in sum."""
        return self.other > 0

    def header(self) -> dict[str, Any]:
        """Return the scalars, as plain JSON."""
        return {"kind": "categorical", "version": VERSION, **_scalars(self, ("counts",))}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return categories and their rows: what a profile stores beside the header."""
        import numpy as np

        names = np.array(list(self.counts), dtype=object)
        return {"category": names, "count": np.fromiter(self.counts.values(), "int64", len(self.counts))}


Aggregate: TypeAlias = "NumericAggregate | CategoricalAggregate"


def restored(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Aggregate:
    """Read an aggregate back from a profile.

    :raises InvalidInput: for a header of another version or kind, or if something is missing.
    """
    given = dict(header)
    kind, version = given.pop("kind", None), given.pop("version", None)
    if version != VERSION or kind not in ("numeric", "categorical"):
        raise InvalidInput(
            f"the profile is of kind {kind!r} and version {version!r}; version {VERSION} is understood",
            field="profile",
            value=version,
            remedy="Make the profile again.",
        )
    try:
        if kind == "numeric":
            return NumericAggregate(**given, **{name: arrays[name] for name in _COLUMNS})
        counts = {str(name): int(n) for name, n in zip(arrays["category"], arrays["count"], strict=True)}
        return CategoricalAggregate(**given, counts=counts)
    except (KeyError, TypeError) as error:
        raise _broken(f"a part is missing or unknown: {error}", "Make the profile again.") from error


def from_values(
    values: Any,
    *,
    centre: float | None = None,
    scale: float | None = None,
    resolution: int | None = None,
    edges: Any = None,
) -> NumericAggregate:
    """Aggregate numbers that are in memory: for small data, and what the engines are tested against.

    :param values: numbers; ``None``, ``NaN`` of a pandas column and masked values count as missing where they are such;
        a NaN of a plain array is not finite.
    :param centre: of the map; with ``scale``, from the values where it is not given (they are the reference then).
    :param scale: of the map.
    :param resolution: number of fine bins; ``None`` gives every distinct value its own cell, and every statistic is exact.
    :param edges: ascending; no cell straddles one of them. With those of Evidently's bins its numbers are exact.
    :return: the column.
    """
    import numpy as np

    from airflow_pipeops.drift.statistics.bins import affine, exact_key, fine_key

    array, missing, dtype = _numbers(values)
    finite = np.sort(array[np.isfinite(array)])
    if centre is None or scale is None:
        centre, scale = affine(finite)
    with np.errstate(over="ignore"):
        z = (finite - centre) / scale
        key = exact_key(finite) if resolution is None else fine_key(z, resolution)
        if resolution is not None and edges is not None:
            inner = np.asarray(edges, "float64")[1:-1]
            key = key * (len(inner) + 1) + np.searchsorted(inner, finite, "right")
        start = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.zeros(0, dtype="int64")
        end = np.r_[start[1:], len(key)].astype("int64") - 1 if len(key) else start
        add = np.add.reduceat if len(key) else lambda *_: np.zeros(0)
        total, squares = add(z, start), add(z * z, start)
    cut = "exact" if resolution is None else f"fine-{resolution}" + _named(edges)
    return NumericAggregate(
        rows=len(array) + missing,
        missing=missing,
        not_finite=len(array) - len(finite),
        centre=centre,
        scale=scale,
        key=key[start],
        count=end - start + 1,
        total=total,
        squares=squares,
        low=finite[start],
        high=finite[end],
        dtype=dtype,
        cut=cut,
    )


def from_categories(values: Any, *, top: int | None = None) -> CategoricalAggregate:
    """Aggregate categories that are in memory; each is compared as its text.

    :param values: of any type; those that pandas takes for null count as missing.
    :param top: keep so many of the most frequent categories; ``None`` for all.
    :return: the column.
    """
    import pandas as pd

    series = pd.Series(values)
    found = series.dropna().map(str).value_counts()
    kept = found if top is None else found.iloc[:top]
    counts = {str(name): int(n) for name, n in kept.items()}
    present = int(found.sum())
    return CategoricalAggregate(
        rows=len(series),
        missing=len(series) - present,
        counts=counts,
        other=present - sum(counts.values()),
        distinct=len(found),
        dtype=str(series.dtype),
    )


def merged(first: NumericAggregate, second: NumericAggregate) -> NumericAggregate:
    """Add two windows of one column that were cut by the same map: the aggregate of both together.

    :raises InvalidInput: if the maps differ.
    """
    import numpy as np

    if not comparable(first, second):
        raise _broken("two windows of different maps cannot be added")
    key = np.concatenate([first.key, second.key])
    order = np.argsort(key, kind="stable")
    start = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0]) if len(key) else np.zeros(0, dtype="int64")

    def both(name: str, how: np.ufunc) -> Any:
        joined = np.concatenate([getattr(first, name), getattr(second, name)])[order]
        return how.reduceat(joined, start) if len(key) else joined

    return NumericAggregate(
        rows=first.rows + second.rows,
        missing=first.missing + second.missing,
        not_finite=first.not_finite + second.not_finite,
        centre=first.centre,
        scale=first.scale,
        key=key[order][start],
        count=both("count", np.add),
        total=both("total", np.add),
        squares=both("squares", np.add),
        low=both("low", np.minimum),
        high=both("high", np.maximum),
        dtype=first.dtype,
        cut=first.cut,
    )


def comparable(first: NumericAggregate, second: NumericAggregate) -> bool:
    """Whether equal keys mean the same bin."""
    return bool(first.cut) and (first.centre, first.scale, first.cut) == (
        second.centre,
        second.scale,
        second.cut,
    )


def merged_categories(first: CategoricalAggregate, second: CategoricalAggregate) -> CategoricalAggregate:
    """Add two windows of one column: the aggregate of both together; only of windows in which no category was capped."""
    if first.capped or second.capped:
        raise _broken("two windows with capped categories cannot be added")
    counts = dict(first.counts)
    for name, rows in second.counts.items():
        counts[name] = counts.get(name, 0) + rows
    return CategoricalAggregate(
        first.rows + second.rows, first.missing + second.missing, counts, dtype=first.dtype
    )


def _named(edges: Any) -> str:
    return "" if edges is None else "-" + ",".join(repr(float(edge)) for edge in edges)


def _numbers(values: Any) -> tuple[NDArray[np.float64], int, str]:
    """Return the doubles that are not missing, how many are missing, and the column's type."""
    import numpy as np

    if hasattr(values, "isna"):  # a pandas column
        kept = values[~values.isna()]
        dtype = str(values.dtype)
        return kept.to_numpy(dtype="float64", na_value=np.nan), len(values) - len(kept), dtype
    array = np.ma.asarray(values)
    missing = int(np.ma.getmaskarray(array).sum())
    return np.asarray(array.compressed(), dtype="float64"), missing, str(array.dtype)


def _scalars(item: Any, without: Any) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in fields(item) if field.name not in without}


def _broken(what: str, remedy: str = "") -> InvalidInput:
    return InvalidInput(f"the aggregate is broken: {what}", field="aggregate", remedy=remedy)
