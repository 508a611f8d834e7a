"""Compare two sides, or save one as a profile: out of core, one aggregation for each column and side, on any engine.

>>> from airflow_pipeops.drift.sources import Files                              # doctest: +SKIP
>>> compare(Files("train.parquet"), Files("s3://lake/2026-01/*.parquet")).drifted  # doctest: +SKIP
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeAlias

from airflow_pipeops.drift import plan as planning
from airflow_pipeops.drift.engines.duck import MEMORY_LIMIT, Database
from airflow_pipeops.drift.engines.gatherer import CATEGORIES, Gatherer, Measured, Wanted
from airflow_pipeops.drift.engines.sessions import Cancellation, Column, Session, opened
from airflow_pipeops.drift.engines.sql import RESOLUTION
from airflow_pipeops.drift.judging.dataset import DatasetVerdict
from airflow_pipeops.drift.profile import Profile
from airflow_pipeops.drift.results import ColumnResult
from airflow_pipeops.drift.settings import Settings
from airflow_pipeops.drift.sources import Source
from airflow_pipeops.exceptions import InvalidInput

log = logging.getLogger(__name__)

#: Columns that are done, columns in all (of both sides), and the name of the last one.
Progress: TypeAlias = "Callable[[int, int, str], None]"

#: Seconds between two lines of progress in the log.
_SPEAK_EVERY = 10.0


@dataclass(frozen=True)
class Engine:
    """How the data are read.

    :param memory_limit: of the embedded DuckDB, see :class:`~airflow_pipeops.drift.engines.duck.Database`.
    :param threads: of the embedded DuckDB.
    :param spark: a Spark session that files, and tables without a connection, are read with instead.
    :param timeout: seconds for one query in a warehouse.
    :param resolution: fine bins of a numeric column.
    :param categories: as many of the most frequent ones are told apart; the rest is put together as "other".
    :param refine: settle a verdict that the aggregates leave open by counting single values where it is open. In a
        warehouse it is the one query that returns values of numbers, so it can be forbidden.
    """

    memory_limit: str = MEMORY_LIMIT
    threads: int | None = None
    spark: Any = None
    timeout: float = 3600.0
    resolution: int = RESOLUTION
    categories: int = CATEGORIES
    refine: bool = True

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("resolution", self.resolution, 64, 16384),
            ("categories", self.categories, 2, 100_000),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidInput(
                    f"{name} {value!r} is not between {low} and {high:,}", field=name, value=value
                )


class Steps:
    """Counts columns, tells of them, and stops where somebody asked for it."""

    def __init__(self, progress: Progress | None, cancellation: Cancellation) -> None:
        self.total = 0
        self._done, self._progress, self._cancellation = 0, progress, cancellation
        self._spoken = time.monotonic()

    def __call__(self, name: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self.total, name)
        if time.monotonic() - self._spoken >= _SPEAK_EVERY:
            self._spoken = time.monotonic()
            log.info("measured %d of %d columns, the last one %s", self._done, self.total, name)
        self._cancellation.check()


@dataclass(frozen=True)
class Comparison:
    """How far one side is from the other, and all that is needed to repeat the verdict.

    :param columns: one result for each column (and segment), in the order of the columns.
    :param dataset: the verdict of the whole, without its segments.
    :param reference: what the reference was: kind, name, digests, engine; see ``identity()`` of a source.
    :param current: the same of the other side.
    :param rows: by side and segment; the empty segment is the whole.
    :param settings: how it was judged and read, as plain JSON.
    :param segments: the verdict of each segment.
    :param refined: columns whose open verdict was settled by looking up values.
    :param seconds: that it took.
    """

    columns: tuple[ColumnResult, ...]
    dataset: DatasetVerdict
    reference: Mapping[str, Any]
    current: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, int]]
    settings: Mapping[str, Any]
    segments: Mapping[str, DatasetVerdict] = field(default_factory=dict)
    refined: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def drifted(self) -> bool:
        """Whether the data set drifted for certain."""
        return self.dataset.drifted

    @property
    def share(self) -> float:
        """Weight of the drifted features among those that were judged."""
        return self.dataset.share

    @property
    def whole(self) -> tuple[ColumnResult, ...]:
        """The results that are of no segment."""
        return tuple(item for item in self.columns if not item.segment)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            **self.dataset.to_json(),
            "columns": [item.to_json() for item in self.columns],
            "reference": dict(self.reference),
            "current": dict(self.current),
            "rows": {side: dict(rows) for side, rows in self.rows.items()},
            "settings": dict(self.settings),
            "segments": {name: verdict.to_json() for name, verdict in self.segments.items()},
            "refined": list(self.refined),
            "seconds": round(self.seconds, 3),
        }


def compare(
    reference: Source,
    current: Source,
    *,
    columns: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    segment_by: str | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Comparison:
    """Compare two sides, column by column.

    :param reference: where it comes from, or a saved :class:`~airflow_pipeops.drift.profile.Profile`.
    :param current: where it comes from.
    :param columns: name -> ``numerical``, ``categorical`` or empty; ``None`` for all of both sides.
    :param settings: how the columns are judged.
    :param segment_by: compare each value of this column for itself, too.
    :param progress: called after each column of each side.
    :param cancellation: lets another thread stop it.
    :raises InvalidInput: for an empty side, a damaged file, an unknown column, no common column, or a profile that was
        measured in another way than is asked for.
    :raises Cancelled: if it was told to stop.
    """
    from airflow_pipeops.drift.run import Comparing

    options, judged = engine or Engine(), settings or Settings()
    names, kinds = _names(columns, judged)
    stop = cancellation or Cancellation()
    with ExitStack() as stack:
        database = _database(stack, options)
        sides: list[Session | Profile] = []
        for field, source in (("reference", reference), ("current", current)):
            if isinstance(source, Profile) and field == "reference":
                sides.append(source)
            else:
                sides.append(_open(source, field, options, database, stack, stop))
        work = Comparing(sides[0], sides[1], judged, options, segment_by, Steps(progress, stop))
        return work.run(names, kinds)


def _names(
    columns: Mapping[str, str] | None, settings: Settings
) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    """Return the columns that were asked for, and the kinds that were given in either place."""
    asked = None if columns is None else tuple(columns)
    return asked, {**settings.kinds, **{name: kind for name, kind in (columns or {}).items() if kind}}


def profile(
    source: Source,
    *,
    columns: Mapping[str, str] | None = None,
    segment_by: str | None = None,
    model_version: str = "",
    engine: Engine | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Profile:
    """Boil one side down, to be saved and compared with later.

    :param columns: name -> ``numerical``, ``categorical`` or empty; ``None`` for all.
    :param segment_by: measure each value of this column for itself, too.
    :param model_version: the model that learned from these data.
    :raises InvalidInput: for an empty side, a damaged file, an unknown column, or no column that can be measured.
    """
    if isinstance(source, Profile):
        return source
    settings, stop = engine or Engine(), cancellation or Cancellation()
    steps = Steps(progress, stop)
    with ExitStack() as stack:
        session = _open(source, "source", settings, _database(stack, settings), stack, stop)
        schema = session.schema()
        _check_segment(segment_by, schema, "source")
        names, kinds = _names(columns, Settings())
        planned = planning.one_side(schema, names, kinds, session.dialect, _grouped(segment_by))
        if not planned.kinds:
            raise InvalidInput(
                "no column of the source can be measured",
                field="columns",
                remedy="; ".join(f"{name}: {found.detail}" for name, found in planned.findings.items()),
            )
        steps.total = len(planned.kinds)
        wanted = Wanted(planned.kinds, settings.resolution, settings.categories, segment_by)
        measured = Gatherer(session, wanted, "source", steps).measure()
        return _as_profile(measured, session, schema, wanted, model_version)


def _as_profile(
    measured: Measured, session: Session, schema: tuple[Column, ...], wanted: Wanted, model_version: str
) -> Profile:
    return Profile(
        schema=schema,
        kinds=dict(wanted.kinds),
        rows=measured.rows,
        columns=measured.columns,
        maps=measured.maps,
        source=session.identity(),
        engine=session.engine,
        dialect=session.dialect,
        resolution=wanted.resolution,
        categories=wanted.categories,
        segment_by=wanted.segment_by,
        model_version=model_version,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _database(stack: ExitStack, settings: Engine) -> Database:
    return stack.enter_context(Database(settings.memory_limit, settings.threads))


def _open(
    source: Source, field: str, settings: Engine, database: Database, stack: ExitStack, stop: Cancellation
) -> Session:
    session = opened(source, field, duck=database, spark=settings.spark, timeout=settings.timeout)
    stack.callback(session.close)
    stop.watch(session)
    stop.check()
    return session


def _grouped(segment_by: str | None) -> tuple[str, ...]:
    return () if segment_by is None else (segment_by,)


def _check_segment(segment_by: str | None, schema: tuple[Column, ...], side: str) -> None:
    if segment_by is not None and segment_by not in {column.name for column in schema}:
        raise InvalidInput(
            f"{side} has no column {segment_by!r} to segment by",
            field="segment_by",
            value=segment_by,
            remedy="Check the spelling.",
        )
