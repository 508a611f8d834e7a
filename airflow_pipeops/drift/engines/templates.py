"""From what a query gave to an aggregate: types made equal, cells put in order, a map that was badly chosen found out."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift.engines import sql
from airflow_pipeops.drift.statistics.aggregates import NumericAggregate
from airflow_pipeops.exceptions import BadResponse

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A cell of several values with more than this share of the rows shows that the map was badly chosen.
_TOO_FULL = 0.02


def numeric(
    table: Mapping[str, Any], rows: int, present: int, where: sql.Map, dtype: str, cut: str
) -> NumericAggregate:
    """Read the cells that a query gave.

    :param table: its columns by name.
    :param rows: of the side or segment.
    :param present: rows that are not null.
    :param where: the map of the fine bins.
    :param dtype: of the column, as NumPy names it.
    :param cut: name of the fine bins.
    :return: the column.
    :raises BadResponse: if the rows do not add up.
    """
    import numpy as np

    key = plain(table["k"], "int64")
    order = np.argsort(key, kind="stable")
    names = {"key": "k", "count": "n", "total": "s", "squares": "q", "low": "lo", "high": "hi"}
    kinds = {**dict.fromkeys(names, "float64"), "key": "int64", "count": "int64"}
    cells = {name: plain(table[given], kinds[name])[order] for name, given in names.items()}
    not_finite = present - int(cells["count"].sum())
    if not_finite < 0 or present > rows:
        raise moved("a source")
    return NumericAggregate(
        rows=rows,
        missing=rows - present,
        not_finite=not_finite,
        centre=where.centre,
        scale=where.scale,
        dtype=dtype,
        cut=cut,
        **disjoint(cells),
    )


def disjoint(cells: dict[str, Any]) -> dict[str, Any]:
    """Put cells together that overlap: an engine whose doubles are not IEEE 754's may put neighbours in the wrong order."""
    import numpy as np

    while len(cells["low"]) and (clash := np.flatnonzero(cells["high"][:-1] >= cells["low"][1:])).size:
        at = int(clash[0])
        for name, how in (
            ("count", np.add),
            ("total", np.add),
            ("squares", np.add),
            ("low", np.minimum),
            ("high", np.maximum),
        ):
            cells[name][at] = how(cells[name][at], cells[name][at + 1])
        cells = {name: np.delete(values, at + 1) for name, values in cells.items()}
    return cells


def map_of(sample: NDArray[Any]) -> sql.Map:
    """Choose a map, with a scale between which and its bound there is room for every sum."""
    from airflow_pipeops.drift.statistics.bins import affine

    centre, scale = affine(sample)
    scale = min(max(scale, 2.0**-330), 2.0**330)
    # Rounded, so that another sample of the same data mostly chooses the same map, and saved profiles can be added up.
    step = scale / 8
    if abs(centre) < step * 2.0**50:
        # Never zero: the square of a difference to zero may be too small for a double, which PostgreSQL calls an error.
        centre = (round(centre / step) or 1) * step
    return sql.Map(centre, scale)


def mended_map(aggregate: NumericAggregate, where: sql.Map) -> sql.Map | None:
    """Return a better map if a cell of several values is too full; ``None`` if the map is good, or none is better."""
    import numpy as np

    finite = aggregate.finite
    wide = aggregate.low < aggregate.high
    if not finite or not (aggregate.count[wide] > _TOO_FULL * finite).any():
        return None
    # What is inside a cell is not known: it is taken for spread evenly between its bounds.
    after = np.cumsum(aggregate.count) / finite
    shares = np.column_stack([after - aggregate.count / finite, after]).ravel()
    bounds = np.column_stack([aggregate.low, aggregate.high]).ravel()
    better = map_of(np.interp((np.arange(512) + 0.5) / 512, shares, bounds))
    return None if better == where else better


def together(parts: Sequence[NumericAggregate]) -> NumericAggregate:
    """Add the segments up to the whole."""
    from airflow_pipeops.drift.statistics.aggregates import merged

    whole = parts[0]
    for part in parts[1:]:
        whole = merged(whole, part)
    return whole


def named(value: Any) -> str:
    """Write a category or a segment's value as text, the same for each engine's driver."""
    if value is None:
        return "(null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, decimal.Decimal):
        return format(value.normalize(), "f") if value.is_finite() else str(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.timezone.utc).isoformat()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


def named_segment(value: Any) -> str:
    """Name a segment: never empty, which is the name of the whole, and never one name for two values."""
    text = named(value)
    # A text that could be taken for one of ours is quoted: the empty one, and the one of a null.
    return repr(text) if value is not None and (text in ("", named(None)) or text[0] in "'\"") else text


def plain(values: Any, kind: str) -> Any:
    """Return numbers as an array of one type; what is null becomes NaN, or zero of an integer."""
    import numpy as np

    blank = 0 if kind == "int64" else np.nan
    if isinstance(values, np.ma.MaskedArray):
        values = values.filled(blank) if values.dtype != object else unmasked(values)
    array = np.asarray(values)
    if array.dtype == object:
        array = np.array([blank if one is None else one for one in array], dtype=kind)
    return array.astype(kind)


def unmasked(values: Any) -> list[Any]:
    """Return values with ``None`` for what is null."""
    import numpy as np

    if isinstance(values, np.ma.MaskedArray):
        return list(values.tolist())
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def moved(side: str) -> BadResponse:
    """Return the error for rows that do not add up from one query to the next."""
    return BadResponse(
        f"the rows of {side} changed while they were counted",
        remedy="Compare a snapshot, or a partition that is complete.",
    )
