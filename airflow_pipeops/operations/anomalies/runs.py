"""Runs of DAGs as series: what Airflow says of each becomes values, and those that have not ended stay open. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise

from airflow_pipeops.base.documents import Json, maps, text
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.anomalies.series import Name, Point

#: How runs came to be; those of other ways are series of their own.
_REGULAR = ("scheduled", "asset_triggered", "asset_materialization", "")
_ENDED = ("success", "failed")


@dataclass(frozen=True)
class Dag:
    """A DAG whose runs are looked at.

    :param dag_id: its id.
    :param owner: in whose budget its alarms are counted: the first of its owners.
    :param paused: whether it is; nothing is missing of one that is.
    :param scheduled: whether a next run is due at some time.
    """

    dag_id: str
    owner: str = ""
    paused: bool = False
    scheduled: bool = False

    @classmethod
    def of(cls, given: Json) -> Dag:
        """Read what Airflow's API says of a DAG."""
        owners = given.get("owners")
        owner = text(owners[0]) if isinstance(owners, list) and owners else ""
        due = given.get("next_dagrun_run_after")
        return cls(text(given.get("dag_id")), owner, given.get("is_paused") is True, bool(due))


@dataclass(frozen=True)
class Window:
    """A time in which something was deployed: runs that began in it are compared with others of such times.

    :param start: when it began, in seconds since 1970.
    :param end: when it was over.
    """

    start: float
    end: float

    @classmethod
    def read(cls, given: Sequence[Json]) -> tuple[Window, ...]:
        """Read windows as people write them: ``{"start": ISO time, "end": ISO time}``.

        :return: the windows.
        :raises InvalidInput: for one whose times are none, or that ends before it begins.
        """
        found = []
        for one in given:
            start, end = moment(one.get("start")), moment(one.get("end"))
            if start is None or end is None or end <= start:
                raise InvalidInput(
                    f"{dict(one)!r} is no window",
                    field="deploys",
                    remedy='Give {"start": ..., "end": ...} with ISO-8601 times, the end after the start.',
                )
            found.append(cls(start, end))
        return tuple(found)


@dataclass(frozen=True)
class Values:
    """What was measured.

    :param closed: values of what has ended.
    :param open: of what still grows.
    """

    closed: tuple[tuple[Name, Point], ...] = ()
    open: tuple[tuple[Name, Point], ...] = ()

    @classmethod
    def all_of(cls, several: Iterable[Values]) -> Values:
        """Put several together."""
        every = list(several)
        return cls(
            tuple(value for one in every for value in one.closed),
            tuple(value for one in every for value in one.open),
        )


@dataclass(frozen=True)
class _Run:
    """A run, as far as it is measured; times in seconds since 1970.

    :param run_id: its id.
    :param state: as Airflow calls it.
    :param kind: how it came to be.
    :param version: of its DAG.
    :param queued: when it came into the queue.
    :param start: of its work.
    :param end: of its work.
    """

    run_id: str
    state: str
    kind: str
    version: str
    queued: float | None
    start: float | None
    end: float | None

    @classmethod
    def of(cls, given: Json) -> _Run:
        parts = (text(given.get(part)) for part in ("dag_run_id", "state", "run_type"))
        times = (moment(given.get(part)) for part in ("queued_at", "start_date", "end_date"))
        run_id, state, kind = parts
        return cls(run_id, state, kind, _version(given), *times)

    def variant(self, windows: Sequence[Window]) -> str:
        """Which runs it is compared with; empty for the regular ones."""
        at = self.queued if self.start is None else self.start
        deployed = at is not None and any(window.start <= at < window.end for window in windows)
        return " ".join(["" if self.kind in _REGULAR else self.kind, "deploy" if deployed else ""]).strip()

    def closed(self) -> Iterator[tuple[str, Point]]:
        """Yield what is known of it for good."""
        if self.start is None:
            return
        if self.queued is not None and self.start >= self.queued:
            yield "queue", Point(self.queued, self.start - self.queued, self.start, "", self.run_id)
        if self.state in _ENDED and self.end is not None and self.end >= self.start:
            yield "failure", Point(self.start, float(self.state == "failed"), self.end, "", self.run_id)
            if self.state == "success":
                yield (
                    "duration",
                    Point(self.start, self.end - self.start, self.end, self.version, self.run_id),
                )

    def open(self, now: float) -> Iterator[tuple[str, Point]]:
        """Yield what still grows."""
        if self.state == "running" and self.start is not None:
            yield "duration", Point(self.start, now - self.start, now, self.version, self.run_id)
        if self.state == "queued" and self.start is None and self.queued is not None:
            yield "queue", Point(self.queued, now - self.queued, now, self.version, self.run_id)


def measured(dag: Dag, runs: Iterable[Json], now: float, windows: Sequence[Window] = ()) -> Values:
    """Make values of the runs of a DAG: duration, time in the queue, failures, and the time from one run to the next.

    A run is one value of each, however often its tasks were tried. How long a run took that failed says nothing of how long
    one takes.

    :param runs: as Airflow's API lists them, in any order.
    :param now: the time, in seconds since 1970.
    :param windows: in which something was deployed.
    :return: the values.
    """
    read = [_Run.of(run) for run in runs]
    closed, growing = [], []
    for run in read:
        variant = run.variant(windows)
        closed += [
            (Name(dag.dag_id, kind, variant, dag.owner, dag=True), point) for kind, point in run.closed()
        ]
        growing += [
            (Name(dag.dag_id, kind, variant, dag.owner, dag=True), point) for kind, point in run.open(now)
        ]
    starts = sorted(
        (run.start, run.run_id) for run in read if run.kind == "scheduled" and run.start is not None
    )
    if starts and dag.scheduled:
        gaps = Name(dag.dag_id, "interval", "", dag.owner, dag=True)
        for (before, _), (start, run_id) in pairwise(starts):
            closed.append((gaps, Point(before, start - before, start, "", run_id)))
        # What waits in the queue has come: that it waits is told of its own.
        if not dag.paused and not any(run.state == "queued" for run in read):
            since = starts[-1][0]
            growing.append((gaps, Point(since, now - since, now)))
    return Values(tuple(closed), tuple(growing))


def parents_of(assets: Iterable[Json]) -> dict[str, frozenset[str]]:
    """Find which DAGs make what others are scheduled on.

    :param assets: as Airflow's API lists them.
    :return: DAG -> those whose tasks make an asset that it waits for.
    """
    found: dict[str, set[str]] = {}
    for asset in assets:
        makers = {text(task.get("dag_id")) for task in maps(asset.get("producing_tasks"))}
        for dag in maps(asset.get("scheduled_dags")):
            child = text(dag.get("dag_id"))
            found.setdefault(child, set()).update(makers - {child, ""})
    return {child: frozenset(makers) for child, makers in found.items()}


def moment(value: object) -> float | None:
    """Read a time that others wrote.

    :return: seconds since 1970; none for what is no ISO-8601 time with a zone.
    """
    try:
        found = (
            value
            if isinstance(value, datetime)
            else datetime.fromisoformat(text(value).replace("Z", "+00:00"))
        )
        return found.astimezone(timezone.utc).timestamp() if found.tzinfo else None
    except (ValueError, OverflowError):  # the first moment of all may have none in UTC
        return None


def _version(run: Json) -> str:
    """Return which version of its DAG a run was of; one whose code changed on its way is of the last one."""
    numbers = [one.get("version_number") for one in maps(run.get("dag_versions"))]
    whole = [number for number in numbers if isinstance(number, int)]
    return str(max(whole)) if whole else ""
