"""Boil the columns of one side down to aggregates: one query for each column, whatever the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.drift.columns import NO_SEGMENT, Column, Unmeasured
from airflow_pipeops.drift.engines import sql
from airflow_pipeops.drift.engines.dialects import NUMBERS, numpy_type
from airflow_pipeops.drift.engines.sessions import Session
from airflow_pipeops.drift.engines.templates import (
    map_of,
    mended_map,
    moved,
    named,
    named_segment,
    numeric,
    plain,
    together,
    unmasked,
)
from airflow_pipeops.drift.settings import Kind
from airflow_pipeops.drift.statistics.aggregates import Aggregate, CategoricalAggregate, NumericAggregate
from airflow_pipeops.exceptions import InvalidInput

#: Categories beyond so many of the most frequent ones are put together as "other".
CATEGORIES = 10_000
#: More segments than this are a mistake: a key, and not a kind.
SEGMENTS = 200

#: Texts in one list of an ``IN``.
_LISTED = 500
#: Attempts to mend a map, each another scan of the column.
_MENDS = 3
#: Families whose values can be listed in an ``IN`` on every engine.
_CAPPED = ("text", "uuid", "integer")


@dataclass
class Measured:
    """One side, boiled down.

    :param rows: by segment; :data:`~airflow_pipeops.drift.columns.NO_SEGMENT` is the whole.
    :param columns: by segment and column.
    :param maps: of the numeric columns.
    :param unmeasured: columns of which nothing can be told, and why.
    """

    rows: dict[str, int]
    columns: dict[str, dict[str, Aggregate]]
    maps: dict[str, sql.Map] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """How to boil down.

    :param kinds: column -> ``numerical`` or ``categorical``.
    :param resolution: fine bins of a numeric column.
    :param categories: the cap.
    :param segment_by: column whose values are measured each for itself, too.
    """

    kinds: Mapping[str, Kind]
    resolution: int = sql.RESOLUTION
    categories: int = CATEGORIES
    segment_by: str | None = None


class Gatherer:
    """Asks one session.

    :param step: called with the column's name after each column.
    """

    def __init__(self, session: Session, wanted: Wanted, side: str, step: Callable[[str], None]) -> None:
        self._session, self._wanted, self._side, self._step = session, wanted, side, step
        self._columns = {column.name: column for column in session.schema()}
        self._segment = None
        if wanted.segment_by is not None:
            self._segment = sql.identifier(wanted.segment_by, session.dialect)

    def measure(self) -> Measured:
        """Measure all columns.

        :raises InvalidInput: if there are no rows, or no column can be measured.
        """
        found = Measured(rows := self.counted(), {segment: {} for segment in rows})
        for name in self._wanted.kinds:
            try:
                parts, where = self.column(name, rows)
            except Unmeasured as error:  # of this column nothing can be told; of the others it can
                found.unmeasured[name] = str(error)
                if len(found.unmeasured) == len(self._wanted.kinds):
                    raise
                continue
            if where is not None:
                found.maps[name] = where
            for segment, aggregate in parts.items():
                found.columns[segment][name] = aggregate
        return found

    def column(
        self, name: str, rows: Mapping[str, int], where: sql.Map | None = None
    ) -> tuple[dict[str, Aggregate], sql.Map | None]:
        """Measure one column.

        :param name: of the column.
        :param rows: what :meth:`counted` returned.
        :param where: the map of the reference; without it, one is chosen here.
        :return: aggregates by segment, and the map of a numeric column.
        """
        found: tuple[dict[str, Aggregate], sql.Map | None]
        if self._wanted.kinds[name] == "numerical":
            found = self._numeric(name, rows, where)
        else:
            found = self._categorical(name, rows), None
        self._step(name)
        return found

    def counted(self) -> dict[str, int]:
        """Count the rows, of each segment too."""
        dialect, relation = self._session.dialect, self._session.relation
        total = int(self._session.rows(sql.rows(dialect, relation))[0][0])
        not_empty(self._side, total, f"{self._side} has no rows", "Nothing can be said of no data.")
        if self._segment is None:
            return {NO_SEGMENT: total}
        found = self._session.rows(sql.segments(dialect, relation, self._segment, SEGMENTS + 1))
        if len(found) > SEGMENTS:
            raise InvalidInput(
                f"{self._side} has more than {SEGMENTS} segments of {self._wanted.segment_by!r}",
                field="segment_by",
                value=self._wanted.segment_by,
                remedy="Segment by a column with few values.",
            )
        return {NO_SEGMENT: total, **dict(sorted((named_segment(value), int(n)) for value, n in found))}

    def values(self, name: str, ranges: Sequence[tuple[float, float]], segment: str) -> tuple[Any, Any]:
        """Return the distinct values within some cells, and the rows of each: what refines a verdict."""
        import numpy as np

        by = self._segment if segment != NO_SEGMENT else None
        query = sql.values(self._session.dialect, self._session.relation, self._value(name), ranges, by)
        found = self._session.table(query)
        if by is not None:
            chosen = np.array([named_segment(label) == segment for label in unmasked(found["g"])], dtype=bool)
            found = {key: np.ma.asarray(found[key])[chosen] for key in ("x", "n")}
        value, count = plain(found["x"], "float64"), plain(found["n"], "int64")
        order = np.argsort(value, kind="stable")
        return value[order], count[order]

    def complete(
        self, name: str, aggregate: CategoricalAggregate, needed: Sequence[str]
    ) -> CategoricalAggregate:
        """Count categories that the other side lists and this one's cap left out: so they are known exactly on both."""
        absent = [category for category in needed if category not in aggregate.counts]
        if not aggregate.capped or not absent or self._columns[name].family not in _CAPPED:
            return aggregate
        dialect, whole = self._session.dialect, self._columns[name].family == "integer"
        value, counts = sql.identifier(name, dialect), dict(aggregate.counts)
        for start in range(0, len(absent), _LISTED):
            part = absent[start : start + _LISTED]
            try:
                listed = [str(int(one)) if whole else sql.text(one, dialect) for one in part]
            except InvalidInput as error:  # what no literal can hold is a matter of this column
                raise Unmeasured(error.message, field=name) from error
            query = sql.among(dialect, self._session.relation, value, listed)
            counts.update({named(one): int(n) for one, n in self._session.rows(query)})
        other = aggregate.rows - aggregate.missing - sum(counts.values())
        distinct = max(aggregate.distinct, len(counts) + 1) if other else len(counts)
        return CategoricalAggregate(
            aggregate.rows,
            aggregate.missing,
            counts,
            other,
            distinct,
            aggregate.distinct_exact,
            aggregate.dtype,
        )

    def _value(self, name: str) -> str:
        column = self._columns[name]
        found = sql.as_number(name, column.family, self._session.dialect)
        assert found is not None, "the plan lets through only what the dialect can express"
        return found

    def _numeric(
        self, name: str, rows: Mapping[str, int], given: sql.Map | None
    ) -> tuple[dict[str, Aggregate], sql.Map]:
        chosen = given or self._chosen(name)
        found = self._cells(name, rows, chosen)
        mends = _MENDS if given is None else 0  # a map that was given stays
        for _ in range(mends):
            better = mended_map(found[NO_SEGMENT], chosen)
            if better is None:
                break
            chosen = better  # the sample misled: its rows are not like the others
            found = self._cells(name, rows, chosen)
        return dict(found), chosen

    def _chosen(self, name: str) -> sql.Map:
        import numpy as np

        found = self._session.table(
            sql.tiles(self._session.dialect, self._session.relation, self._value(name))
        )
        bounds = [plain(found[key], "float64") for key in ("lo", "hi")]
        return map_of(np.concatenate(bounds))

    def _cells(self, name: str, rows: Mapping[str, int], where: sql.Map) -> dict[str, NumericAggregate]:
        import numpy as np

        session, column = self._session, self._columns[name]
        query = sql.cells(
            session.dialect,
            session.relation,
            self._value(name),
            where,
            self._wanted.resolution,
            self._segment,
        )
        table = session.table(query)
        dtype = numpy_type(column.type) if column.family in NUMBERS else "float64"
        cut = f"fine-{self._wanted.resolution}"
        present = rows
        if int(plain(table["n"], "int64").sum()) != rows[NO_SEGMENT]:
            present = self._present(name, rows)
        if self._segment is None:
            return {NO_SEGMENT: numeric(table, rows[NO_SEGMENT], present[NO_SEGMENT], where, dtype, cut)}
        labels = np.array([named_segment(value) for value in unmasked(table["g"])], dtype=object)
        parts: dict[str, NumericAggregate] = {}
        for segment, count in rows.items():
            if segment != NO_SEGMENT:
                chosen = labels == segment
                part = {key: np.ma.asarray(values)[chosen] for key, values in table.items() if key != "g"}
                parts[segment] = numeric(part, count, present.get(segment, 0), where, dtype, cut)
        return {NO_SEGMENT: together(list(parts.values())), **parts}

    def _present(self, name: str, rows: Mapping[str, int]) -> dict[str, int]:
        query = sql.present(self._session.dialect, self._session.relation, self._value(name), self._segment)
        found = self._session.rows(query)
        if self._segment is None:
            return {NO_SEGMENT: int(found[0][0])}
        return {named_segment(label): int(n) for label, n in found}

    def _categorical(self, name: str, rows: Mapping[str, int]) -> dict[str, Aggregate]:
        session, column = self._session, self._columns[name]
        value, top = sql.identifier(name, session.dialect), self._wanted.categories + 1
        dtype = _category_type(column)
        whole = session.rows(sql.categories(session.dialect, session.relation, value, top))
        found: dict[str, Aggregate] = {NO_SEGMENT: self._counted(whole, rows[NO_SEGMENT], dtype)}
        if self._segment is not None:
            parts: dict[str, list[Any]] = {segment: [] for segment in rows if segment != NO_SEGMENT}
            query = sql.categories(session.dialect, session.relation, value, top, self._segment)
            for label, *rest in session.rows(query):
                parts[named_segment(label)].append(rest)
            found.update({part: self._counted(given, rows[part], dtype) for part, given in parts.items()})
        return found

    def _counted(self, found: Sequence[Sequence[Any]], rows: int, dtype: str) -> CategoricalAggregate:
        missing = sum(int(n) for value, n, *_ in found if value is None)
        counts: dict[str, int] = {}
        for value, n, *_ in found:
            # Two values may have one name, such as 1.5 and 1.50 of a decimal; not more than the cap are kept.
            if value is not None and (len(counts) < self._wanted.categories or named(value) in counts):
                counts[named(value)] = counts.get(named(value), 0) + int(n)
        listed = int(found[0][2]) if found else 0
        other = rows - missing - sum(counts.values())
        if other < 0:
            raise moved(self._side)
        distinct = max(listed, len(counts) + 1) if other else len(counts)
        return CategoricalAggregate(
            rows,
            missing,
            counts,
            other,
            distinct,
            True,
            dtype,
        )


def _category_type(column: Column) -> str:
    if column.family == "boolean":
        return "bool"
    return numpy_type(column.type) if column.family == "integer" else "string"
