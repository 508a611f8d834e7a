"""The comparison itself: measures column by column, keeps only scores, judges all together, refines what stayed open."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_pipeops.drift import plan as planning
from airflow_pipeops.drift.columns import NO_SEGMENT, Column, Unmeasured
from airflow_pipeops.drift.comparison import Comparison, Engine, Steps
from airflow_pipeops.drift.engines.gatherer import Gatherer, Wanted
from airflow_pipeops.drift.judging.verdicts import Scored, dataset_verdict, judge, score_column
from airflow_pipeops.drift.profile import Fingerprint, Profile
from airflow_pipeops.drift.results import ColumnDrift, ColumnResult, ColumnVerdict
from airflow_pipeops.drift.settings import Kind, Settings
from airflow_pipeops.drift.statistics.aggregates import Aggregate, CategoricalAggregate, NumericAggregate
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow_pipeops.drift.engines.sessions import Session
    from airflow_pipeops.drift.engines.sql import Map

#: Rounds of looking up values: each settles what the one before brought up.
_ROUNDS = 3
#: Rows of a side whose values are looked up at once.
_MOST_VALUES = 1_000_000


class Side:
    """One side: measured while it is read, or read from a profile."""

    def __init__(self, name: str, given: Session | Profile) -> None:
        self.name, self.given = name, given
        self.profile = given if isinstance(given, Profile) else None
        self.schema: tuple[Column, ...] = given.schema if isinstance(given, Profile) else given.schema()
        self.dialect = given.dialect
        self.rows: dict[str, int] = {}
        self._gatherer: Gatherer | None = None
        self._fingerprint = Fingerprint()

    def start(self, wanted: Wanted, step: Callable[[str], None]) -> None:
        """Count the rows."""
        if isinstance(self.given, Profile):
            self.rows = (
                dict(self.given.rows) if wanted.segment_by else {NO_SEGMENT: self.given.rows[NO_SEGMENT]}
            )
        else:
            self._gatherer = Gatherer(self.given, wanted, self.name, step)
            self.rows = self._gatherer.counted()

    def column(self, name: str, where: Map | None = None) -> tuple[dict[str, Aggregate], Map | None]:
        """Return a column by segment, and the map of a numeric one."""
        if isinstance(self.given, Profile):
            if why := self.given.unmeasured.get(name):
                raise Unmeasured(f"when the profile was made, {why}", field=self.name)
            parts = {segment: self.given.columns[segment][name] for segment in self.rows}
            return parts, self.given.maps.get(name)
        assert self._gatherer is not None
        return self._gatherer.column(name, self.rows, where)

    def keep(self, name: str, parts: Mapping[str, Aggregate]) -> None:
        """Take the aggregates into the digest."""
        if self.profile is None:
            for segment, aggregate in parts.items():
                self._fingerprint.add(segment, name, aggregate)

    def complete(self, name: str, parts: dict[str, Aggregate], other: Mapping[str, Aggregate]) -> None:
        """Count the categories that the other side lists and this side's cap left out, in the whole."""
        mine, theirs = parts.get(NO_SEGMENT), other.get(NO_SEGMENT)
        if self._gatherer is None or not isinstance(mine, CategoricalAggregate):
            return
        if isinstance(theirs, CategoricalAggregate):
            parts[NO_SEGMENT] = self._gatherer.complete(name, mine, list(theirs.counts))

    def sharpened(
        self, name: str, segment: str, aggregate: NumericAggregate, ranges: tuple[tuple[float, float], ...]
    ) -> NumericAggregate:
        """Return the aggregate with the values of some cells told apart; as it is where they cannot be looked up."""
        from airflow_pipeops.drift.statistics.cells import split

        if self._gatherer is None or _rows_within(aggregate, ranges) > _MOST_VALUES:
            return aggregate
        return split(aggregate, *self._gatherer.values(name, ranges, segment))

    def identity(self) -> dict[str, Any]:
        """Return what a record says about this side."""
        if isinstance(self.given, Profile):
            return self.given.identity()
        return {
            **self.given.identity(),
            "engine": self.given.engine,
            "rows": self.rows[NO_SEGMENT],
            "data_digest": self._fingerprint.hexdigest(),
        }


class Comparing:
    """One run."""

    def __init__(
        self,
        reference: Session | Profile,
        current: Session | Profile,
        settings: Settings,
        options: Engine,
        segment_by: str | None,
        steps: Steps,
    ) -> None:
        self._started = time.monotonic()
        self._left, self._right = Side("reference", reference), Side("current", current)
        self._settings, self._options, self._segment_by, self._steps = settings, options, segment_by, steps
        self._maps: dict[str, Map] = {}

    def run(self, names: tuple[str, ...] | None, kinds: Mapping[str, Kind]) -> Comparison:
        """Compare, and return what was found."""
        planned = self._planned(names, kinds)
        wanted = self._wanted(planned)
        self._steps.total = len(planned.kinds) * (1 if self._left.profile else 2)
        self._left.start(wanted, self._steps)
        self._right.start(wanted, self._steps)
        scored: dict[tuple[str, str], Scored] = {}
        for name in planned.order:
            for item in self._column(name, planned):
                scored[item.column, item.segment] = item
        for item in self._one_sided():
            scored[item.column, item.segment] = item
        results = judge(list(scored.values()), self._settings)
        results, refined = self._refined(scored, results)
        whole = [item for item in results if not item.segment]
        return Comparison(
            columns=tuple(results),
            dataset=dataset_verdict(whole, self._settings),
            reference=self._left.identity(),
            current=self._right.identity(),
            rows={"reference": self._left.rows, "current": self._right.rows},
            settings=self._settings_json(),
            segments=self._by_segment(results),
            refined=refined,
            seconds=time.monotonic() - self._started,
        )

    def _planned(self, names: tuple[str, ...] | None, kinds: Mapping[str, Kind]) -> planning.Plan:
        left, right = self._left, self._right
        without = () if self._segment_by is None else (self._segment_by,)
        for side in (left, right):
            planning.check_segment(self._segment_by, side.schema, side.name)
        if left.profile is not None:
            names, kinds = _as_profiled(left.profile, names, kinds, self._segment_by, right.schema)
        dialects = (left.dialect, right.dialect)
        planned = planning.both_sides(left.schema, right.schema, names, kinds, dialects, without)
        every = {column.name for side in (left, right) for column in side.schema}
        self._settings.check(every)
        return planned

    def _wanted(self, planned: planning.Plan) -> Wanted:
        found = self._left.profile or self._options
        return Wanted(planned.kinds, found.resolution, found.categories, self._segment_by)

    def _column(self, name: str, planned: planning.Plan) -> list[Scored]:
        if name in planned.findings:
            rows = (self._left.rows[NO_SEGMENT], self._right.rows[NO_SEGMENT])
            return [Scored(name, NO_SEGMENT, rows, (None, None), finding=planned.findings[name])]
        try:
            before, after = self._measured(name)
            self._left.keep(name, before)
            self._right.keep(name, after)
            self._left.complete(name, before, after)
            self._right.complete(name, after, before)
        except Unmeasured as error:  # of this column nothing can be told; of the others it can
            rows = (self._left.rows[NO_SEGMENT], self._right.rows[NO_SEGMENT])
            finding = ColumnDrift(name, "undecided", detail=f"it could not be measured: {error}")
            return [Scored(name, NO_SEGMENT, rows, (None, None), finding=finding)]
        common = [segment for segment in before if segment in after]
        return [self._scored(name, segment, before[segment], after[segment]) for segment in common]

    def _measured(self, name: str) -> tuple[dict[str, Aggregate], dict[str, Aggregate]]:
        before, where = self._left.column(name)
        if where is not None:
            self._maps[name] = where
        after, _ = self._right.column(name, where)
        return before, after

    def _scored(self, name: str, segment: str, before: Aggregate, after: Aggregate) -> Scored:
        return score_column(name, before, after, self._settings, segment=segment)

    def _one_sided(self) -> list[Scored]:
        """Segments of one side only: a finding each, about the column that was segmented by."""
        if self._segment_by is None:
            return []
        found = []
        for segment in {**self._left.rows, **self._right.rows}:
            rows = (self._left.rows.get(segment, 0), self._right.rows.get(segment, 0))
            if all(rows):
                continue
            verdict: ColumnVerdict = "missing" if rows[0] else "extra"
            said = "in the reference and not in the current data" if rows[0] else "new in the current data"
            finding = ColumnDrift(self._segment_by, verdict, detail=f"the segment {segment!r} is {said}")
            found.append(Scored(self._segment_by, segment, rows, (None, None), finding=finding))
        return found

    def _refined(
        self, scored: dict[tuple[str, str], Scored], results: list[ColumnResult]
    ) -> tuple[list[ColumnResult], tuple[str, ...]]:
        """Look up values where a verdict is open, and judge again: one verdict may move those of others."""
        sharp: dict[tuple[str, str], tuple[Aggregate, Aggregate]] = {}
        rounds = _ROUNDS if self._options.refine else 0
        for _ in range(rounds):
            still = [item for item in results if item.open]
            if not still:
                break
            for item in still:
                with suppress(Unmeasured):  # it stays open
                    scored[item.column, item.segment] = self._sharper(item, sharp)
            results = judge(list(scored.values()), self._settings)
        settled = [
            name for name, _ in sharp if not any(item.column == name and item.open for item in results)
        ]
        return results, tuple(dict.fromkeys(settled))

    def _sharper(
        self, item: ColumnResult, sharp: dict[tuple[str, str], tuple[Aggregate, Aggregate]]
    ) -> Scored:
        key = (item.column, item.segment)
        if key not in sharp:  # measured again: to have kept them all would cost the memory of all
            before, after = self._measured(item.column)
            sharp[key] = before[item.segment], after[item.segment]
        pair = [
            side.sharpened(item.column, item.segment, one, item.refine)
            if isinstance(one, NumericAggregate)
            else one
            for side, one in zip((self._left, self._right), sharp[key], strict=True)
        ]
        sharp[key] = pair[0], pair[1]
        return self._scored(item.column, item.segment, *pair)

    def _by_segment(self, results: list[ColumnResult]) -> dict[str, Any]:
        names = dict.fromkeys(item.segment for item in results if item.segment)
        return {
            name: dataset_verdict([item for item in results if item.segment == name], self._settings)
            for name in names
        }

    def _settings_json(self) -> dict[str, Any]:
        import numpy as np

        from airflow_pipeops import __version__

        judged = {
            name: sorted(value) if isinstance(value, (set, frozenset, tuple, list)) else value
            for name, value in asdict(self._settings).items()
        }
        found = self._left.profile or self._options
        return {
            **judged,
            "resolution": found.resolution,
            "categories": found.categories,
            "segment_by": self._segment_by,
            "maps": {name: [one.centre, one.scale] for name, one in self._maps.items()},
            "versions": {"airflow-pipeops": __version__, "numpy": np.__version__},
        }


def _as_profiled(
    profile: Profile,
    names: tuple[str, ...] | None,
    kinds: Mapping[str, Kind],
    segment_by: str | None,
    current: tuple[Column, ...],
) -> tuple[tuple[str, ...] | None, dict[str, Kind]]:
    """Return the columns and kinds that fit the profile.

    :raises InvalidInput: if it was measured in another way than is asked for.
    """
    if segment_by is not None and profile.segment_by != segment_by:
        raise InvalidInput(
            f"the profile has no segments by {segment_by!r}",
            field="segment_by",
            value=segment_by,
            remedy=f"Use segment_by={profile.segment_by!r}, or make the profile again.",
        )
    for name, kind in kinds.items():
        if profile.kinds.get(name, kind) != kind:
            raise InvalidInput(
                f"the profile measured {name!r} as {profile.kinds[name]}, and it is asked for as {kind}",
                field="columns",
                value=name,
                remedy="Make the profile again, with that kind.",
            )
    plain = planning.one_side(profile.schema, None, {}, profile.dialect)
    skipped = set(plain.kinds) - set(profile.kinds)  # measurable, and left out when the profile was made
    if names is None and skipped:
        every = dict.fromkeys(column.name for column in (*profile.schema, *current))
        names = tuple(name for name in every if name not in skipped)
    elif names is not None and (absent := [name for name in names if name in skipped]):
        raise InvalidInput(
            f"the profile did not measure {', '.join(map(repr, absent))}",
            field="columns",
            value=absent,
            remedy="Make the profile again, with these columns.",
        )
    # Only the kinds that were asked for then: the others follow from the types, and a type that changed is a finding.
    chosen = {name: kind for name, kind in profile.kinds.items() if plain.kinds.get(name) != kind}
    return names, {**kinds, **chosen}


def _rows_within(aggregate: NumericAggregate, ranges: tuple[tuple[float, float], ...]) -> int:
    import numpy as np

    inside = np.zeros(len(aggregate.key), dtype=bool)
    for low, high in ranges:
        inside |= (aggregate.low <= high) & (aggregate.high >= low)
    return int(aggregate.count[inside].sum())
