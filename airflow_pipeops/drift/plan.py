"""Which columns are compared, and as what, from the schemas alone. What cannot be compared becomes a finding by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_pipeops.drift.columns import Column
from airflow_pipeops.drift.engines.dialects import CATEGORIES, NUMBERS, SECONDS, TIMES
from airflow_pipeops.drift.results import ColumnDrift
from airflow_pipeops.drift.settings import AskedKind, Kind
from airflow_pipeops.exceptions import InvalidInput

#: What a family is compared as, and called in a finding.
_GROUPS = {
    **dict.fromkeys(NUMBERS, "number"),
    "boolean": "boolean",
    "text": "text",
    "uuid": "text",
    "date": "time",
    "timestamp": "time",
    "timestamptz": "time",
    "time": "time of day",
    "interval": "duration",
}


@dataclass(frozen=True)
class Plan:
    """What will be measured.

    :param order: every column that is reported on.
    :param kinds: column -> ``numerical`` or ``categorical``, of those that can be compared.
    :param findings: the columns that cannot.
    """

    order: tuple[str, ...]
    kinds: dict[str, Kind]
    findings: dict[str, ColumnDrift]


def one_side(
    columns: Sequence[Column],
    names: Sequence[str] | None,
    kinds: Mapping[str, Kind],
    dialect: str,
    without: Sequence[str] = (),
) -> Plan:
    """Plan the measurement of one side: a profile.

    :param columns: of the side.
    :param names: of the columns to measure; ``None`` for all.
    :param kinds: column -> ``numerical`` or ``categorical``, where it shall not be inferred.
    :param dialect: of the engine.
    :param without: columns that are grouped by and not measured.
    :return: what will be measured.
    """
    by_name = {column.name: column for column in columns if column.name not in without}
    order = _order(names, [by_name])
    chosen: dict[str, Kind] = {}
    findings: dict[str, ColumnDrift] = {}
    for name in order:
        found = _kind(by_name[name], kinds.get(name, ""), dialect)
        if isinstance(found, ColumnDrift):
            findings[name] = found
        else:
            chosen[name] = found
    return Plan(order, chosen, findings)


def both_sides(
    reference: Sequence[Column],
    current: Sequence[Column],
    names: Sequence[str] | None,
    kinds: Mapping[str, Kind],
    dialects: tuple[str, str],
    without: Sequence[str] = (),
) -> Plan:
    """Plan a comparison.

    :param reference: columns of the reference.
    :param current: columns of the other side.
    :param names: of the columns to compare; ``None`` for all.
    :param kinds: column -> ``numerical`` or ``categorical``, where it shall not be inferred.
    :param dialects: of the engines of both sides.
    :param without: columns that are grouped by and not measured.
    :return: what will be measured.
    :raises InvalidInput: for an asked column that neither side has, or if no column is common.
    """
    left, right = ({c.name: c for c in side if c.name not in without} for side in (reference, current))
    order = _order(names, [left, right])
    if not set(order) & set(left) & set(right):
        lower = {name.lower() for name in left} & {name.lower() for name in right}
        remedy = "Check that both are of the same data set."
        if lower:
            remedy = "Their names differ in upper and lower case only: rename them in a query."
        raise InvalidInput(
            "the reference and the current data have no column in common",
            field="current",
            remedy=remedy,
        )
    chosen: dict[str, Kind] = {}
    findings: dict[str, ColumnDrift] = {}
    for name in order:
        if name not in right:
            findings[name] = ColumnDrift(
                name, "missing", detail="it is in the reference and not in the current data"
            )
        elif name not in left:
            findings[name] = ColumnDrift(
                name, "extra", detail="it is in the current data and not in the reference"
            )
        else:
            found = _pair(left[name], right[name], kinds.get(name, ""), dialects)
            if isinstance(found, ColumnDrift):
                findings[name] = found
            else:
                chosen[name] = found
    return Plan(order, chosen, findings)


def check_segment(segment_by: str | None, columns: Sequence[Column], side: str) -> None:
    """Refuse a side without the column to segment by.

    :param segment_by: its name; ``None`` where nothing is segmented.
    :param columns: of the side.
    :param side: how the reader knows it.
    :raises InvalidInput: if the side has no such column.
    """
    if segment_by is not None and segment_by not in {column.name for column in columns}:
        raise InvalidInput(
            f"{side} has no column {segment_by!r} to segment by",
            field="segment_by",
            value=segment_by,
            remedy="Check the spelling.",
        )


def _order(names: Sequence[str] | None, sides: Sequence[Mapping[str, Column]]) -> tuple[str, ...]:
    if names is None:
        return tuple(dict.fromkeys(name for side in sides for name in side))
    unknown = [name for name in names if not any(name in side for side in sides)]
    if unknown:
        known = sorted({name for side in sides for name in side})
        near = [name for name in known if name.lower() in {one.lower() for one in unknown}]
        remedy = f"Did you mean {', '.join(near)}?" if near else "Check the spelling."
        raise InvalidInput(
            f"columns {', '.join(map(repr, unknown))} are in neither the reference nor the current data",
            field="columns",
            value=unknown,
            remedy=remedy,
        )
    return tuple(names)


def _pair(before: Column, after: Column, forced: AskedKind, dialects: tuple[str, str]) -> Kind | ColumnDrift:
    name = before.name
    if "null" in (
        before.family,
        after.family,
    ):  # measured as the other side is; its rows say how many are null
        one, dialect = (after, dialects[1]) if before.family == "null" else (before, dialects[0])
        return _kind(one, forced, dialect)
    groups = [_GROUPS.get(column.family) for column in (before, after)]
    if groups[0] != groups[1] and forced != "categorical" and None not in groups:
        return ColumnDrift(
            name, "retyped", detail=f"{groups[0]} ({before.type}) became {groups[1]} ({after.type})"
        )
    first, second = (
        _kind(column, forced, dialect) for column, dialect in zip((before, after), dialects, strict=True)
    )
    return second if isinstance(second, ColumnDrift) and not isinstance(first, ColumnDrift) else first


def _kind(column: Column, forced: AskedKind, dialect: str) -> Kind | ColumnDrift:
    """Return what a column is compared as."""
    if column.family == "null":
        return forced or "categorical"
    if column.family in CATEGORIES:
        if forced == "numerical":
            return ColumnDrift(
                column.name,
                "retyped",
                detail=f"{_GROUPS[column.family]} ({column.type}) was asked for as numbers",
            )
        return "categorical"
    if column.family in NUMBERS:
        return forced or "numerical"
    if column.family in TIMES:
        if forced == "categorical":
            return forced
        if column.family in SECONDS[dialect]:
            return "numerical"
    what = {"nested": "lists, structures and documents", "binary": "bytes"}.get(column.family, "values")
    return ColumnDrift(
        column.name, "unsupported", detail=f"{what} of type {column.type} cannot be compared on {dialect}"
    )
