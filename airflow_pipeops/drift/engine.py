"""Compare two sides, or save one as a profile: out of core, one aggregation for each column and side, on any engine.

>>> from airflow_pipeops.drift.sources import Files                              # doctest: +SKIP
>>> compare(Files("train.parquet"), Files("s3://lake/2026-01/*.parquet")).drifted  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone

from airflow_pipeops.base.arguments import not_empty
from airflow_pipeops.drift import plan as planning
from airflow_pipeops.drift.columns import NO_SEGMENT, Column, Unmeasured
from airflow_pipeops.drift.comparison import Comparison, Engine, Progress, Sample, Steps
from airflow_pipeops.drift.engines.duck import Database
from airflow_pipeops.drift.engines.gatherer import Gatherer, Measured, Wanted
from airflow_pipeops.drift.engines.opening import opened
from airflow_pipeops.drift.engines.rows import SAMPLE_ROWS, rows_of
from airflow_pipeops.drift.engines.sessions import Cancellation, Session
from airflow_pipeops.drift.profile import Profile
from airflow_pipeops.drift.run import Comparing
from airflow_pipeops.drift.settings import AskedKind, Kind, Settings
from airflow_pipeops.drift.sources import Source


def compare(
    reference: Source,
    current: Source,
    *,
    columns: Mapping[str, AskedKind] | None = None,
    settings: Settings | None = None,
    segment_by: str | None = None,
    sampled: int = 0,
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
    :param sampled: draw rows of so many of the compared columns, too, the drifted ones first: see :class:`Sample`.
    :param engine: how the data are read.
    :param progress: called after each column of each side.
    :param cancellation: lets another thread stop it.
    :return: what was found.
    :raises InvalidInput: for an empty side, a damaged file, an unknown column, no common column, or a profile that was
        measured in another way than is asked for.
    :raises Cancelled: if it was told to stop.
    """
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
                like = () if not sides else _schema(sides[0])
                sides.append(_open(source, field, options, database, stack, stop, like))
        work = Comparing(sides[0], sides[1], judged, options, segment_by, Steps(progress, stop))
        found = work.run(names, kinds)
        stop.check()
        return replace(found, sample=_sample(found, sides, sampled, database)) if sampled else found


def _schema(side: Session | Profile) -> tuple[Column, ...]:
    return side.schema if isinstance(side, Profile) else side.schema()


def _sample(
    found: Comparison, sides: Sequence[Session | Profile], most: int, database: Database
) -> Sample | None:
    """Draw rows of what is open already; none where the reference is a profile, which holds no rows."""
    judged = [item for item in found.telling if item.verdict in ("drift", "no drift", "undecided")]
    columns = [item.column for item in judged[:most]]
    sessions = [side for side in sides if not isinstance(side, Profile)]
    if not columns or len(sessions) < len(sides):
        return None
    database.for_rows()
    try:
        before, after = (
            rows_of(session, columns, sample=SAMPLE_ROWS, rows=found.rows[side][NO_SEGMENT])
            for session, side in zip(sessions, ("reference", "current"), strict=True)
        )
    except Unmeasured:  # a page of plots is not worth the verdicts
        return None
    return Sample(before, after)


def _names(
    columns: Mapping[str, AskedKind] | None, settings: Settings
) -> tuple[tuple[str, ...] | None, dict[str, Kind]]:
    """Return the columns that were asked for, and the kinds that were given in either place."""
    kinds = dict(settings.kinds)
    for name, kind in (columns or {}).items():
        if kind:
            kinds[name] = kind
    return None if columns is None else tuple(columns), kinds


def profile(
    source: Source,
    *,
    columns: Mapping[str, AskedKind] | None = None,
    segment_by: str | None = None,
    model_version: str = "",
    engine: Engine | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Profile:
    """Boil one side down, to be saved and compared with later.

    :param source: where it comes from.
    :param columns: name -> ``numerical``, ``categorical`` or empty; ``None`` for all.
    :param segment_by: measure each value of this column for itself, too.
    :param model_version: the model that learned from these data.
    :param engine: how the data are read.
    :param progress: called after each column.
    :param cancellation: lets another thread stop it.
    :return: the profile; the source itself where it is one.
    :raises InvalidInput: for an empty side, a damaged file, an unknown column, or no column that can be measured.
    """
    if isinstance(source, Profile):
        return source
    settings, stop = engine or Engine(), cancellation or Cancellation()
    steps = Steps(progress, stop)
    with ExitStack() as stack:
        session = _open(source, "source", settings, _database(stack, settings), stack, stop)
        schema = session.schema()
        planning.check_segment(segment_by, schema, "source")
        names, kinds = _names(columns, Settings())
        planned = planning.one_side(schema, names, kinds, session.dialect, _grouped(segment_by))
        reasons = "; ".join(f"{name}: {found.detail}" for name, found in planned.findings.items())
        not_empty("columns", planned.kinds, "no column of the source can be measured", reasons)
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
        unmeasured=measured.unmeasured,
    )


def _database(stack: ExitStack, settings: Engine) -> Database:
    return stack.enter_context(Database(settings.memory_limit, settings.threads))


def _open(
    source: Source,
    field: str,
    settings: Engine,
    database: Database,
    stack: ExitStack,
    stop: Cancellation,
    like: tuple[Column, ...] = (),
) -> Session:
    session = opened(source, field, duck=database, spark=settings.spark, timeout=settings.timeout, like=like)
    stack.callback(session.close)
    stop.watch(session)
    stop.check()
    return session


def _grouped(segment_by: str | None) -> tuple[str, ...]:
    return () if segment_by is None else (segment_by,)
