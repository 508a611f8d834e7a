"""Tasks that failed: why, and what they had found by then, of which no worker can write an event.

Airflow writes the events of a task that succeeds. One that fails leaves word in an XCom before it ends, and an API server,
which sees in Airflow's database that it has failed, makes a record of kind *failure* from it. A worker that was killed
leaves no word: then the record says that the task failed, and that nobody knows why.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.base.connections import known_to_airflow
from airflow_pipeops.base.documents import map_, maps, text, whole
from airflow_pipeops.delivery.questions import REJECT
from airflow_pipeops.delivery.records import KINDS, PER_ENVIRONMENT, Evidence, Record
from airflow_pipeops.exceptions import GateFailed, InvalidInput, NotJudged, PipeOpsError, ReleaseFailed
from airflow_pipeops.redaction import cleaned, redacted

if TYPE_CHECKING:
    from airflow.models.asset import AssetModel
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

#: How a task failed: a judgement said no, it could not be done, or nobody knows.
Outcome = Literal["refused", "failed", "unknown"]
#: The XCom in which a worker leaves word.
WORD = "pipeops_failure"
#: Of a reason, and of what was found before, so many characters; a record is small.
_REASON, _FOUND = 2000, 8000
#: The first look of a process goes back so far; later ones so far behind the one before, since states come late.
_FIRST, _LATE = timedelta(days=7), timedelta(days=1)
#: A look that has taken so long is repeated after so many times that, and after so many seconds at the latest.
_REST, _LONGEST = 50, 30.0
#: Events that are written by one transaction.
_AT_ONCE = 100
#: Of what a worker has left, what a record can do without; it may be more than one has room for.
_BESIDE = frozenset({"found", "evidence", "parents", "commit"})
_SOURCE = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": "map_index"}
_ID = re.compile(r"[0-9a-f]{64}")
_SAYS_NOTHING = (
    "Nobody said why: its worker was killed or lost, a person failed it, it failed before its work began, or it is a task"
    " of another package. See its log."
)


def word(
    error: BaseException,
    *,
    number: Any,
    deliverable: str,
    environment: Any,
    parents: Any,
    records: Sequence[Record],
    kept: Sequence[Evidence],
) -> dict[str, Any]:
    """Say why a task fails, and what it has found. Pure.

    :param error: that it fails by.
    :param number: of the try.
    :param deliverable: that it is about; empty if it is about several.
    :param environment: where.
    :param parents: ids that it was given, however deep, among whatever else.
    :param records: that it has made by then.
    :param kept: files that it has kept as evidence.
    :return: what is left for the record.
    """
    inner = error.__cause__  # of what Airflow is to see, such as that no retry mends it
    cause = inner if isinstance(inner, PipeOpsError) and not isinstance(error, PipeOpsError) else error
    # What Airflow takes out of a log goes out of this, too; before it is cut, since half a secret is one.
    reason = redacted(str(cause), known_to_airflow)[:_REASON].encode("utf-8", "replace").decode()
    evidence = {one.sha256: one for one in (*kept, *(one for record in records for one in record.evidence))}
    above = [*_ids(parents), *(parent for record in records for parent in record.parents)]
    judged = isinstance(cause, (GateFailed, ReleaseFailed)) and not isinstance(cause, NotJudged)
    outcome: Outcome = "refused" if judged else "failed"
    found: list[dict[str, Any]] = []
    room = _FOUND
    for record in records:
        body = json.loads(json.dumps(dict(record.body)))
        room -= len(json.dumps(body))
        what = {"kind": record.kind, "id": record.id, "deliverable": record.deliverable}
        found.append(what | {"body": body} if room >= 0 else what)
    said: dict[str, Any] = cleaned(
        {
            "try": number,
            "outcome": outcome,
            "error": type(cause).__name__,
            "reason": reason,
            "deliverable": deliverable,
            "environment": text(environment),
            "commit": next((record.commit for record in records if record.commit), None),
            "parents": list(dict.fromkeys(above))[:50],
            "evidence": [one.to_json() for one in list(evidence.values())[:20]],
            "found": found,
        }
    )
    return said


@dataclass(frozen=True)
class Ended:
    """A try of a task that failed for good.

    :param ti: its id in Airflow's database.
    :param dag: its DAG.
    :param run: its run.
    :param task: its name.
    :param map_index: of it.
    :param number: of the try.
    :param tries: that it was allowed.
    :param operator: name of its class.
    :param at: when it ended, in UTC.
    """

    ti: Any
    dag: str
    run: str
    task: str
    map_index: int
    number: int
    tries: int
    operator: str
    at: datetime

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What tells it from any other, also after the task was cleared: its number goes on then."""
        return self.dag, self.run, self.task, self.map_index, self.number


def failure(
    ended: Ended, said: Mapping[str, Any], deliverable: str, kinds: Iterable[str], environment: str
) -> Record:
    """Make the record of a failure. Pure.

    :param ended: the try.
    :param said: what its worker has left; empty if it has left nothing.
    :param deliverable: that it is about.
    :param kinds: of record that the task would have made.
    :param environment: where, as far as its assets tell; empty if they do not.
    :return: the record.
    :raises InvalidInput: if what was left makes no record.
    """
    own = text(said.get("deliverable")) in ("", deliverable)
    found = [
        {name: value for name, value in one.items() if name != "deliverable"}
        for one in maps(said.get("found"))
        if text(one.get("deliverable")) == deliverable
    ]
    outcome = text(said.get("outcome"))
    return Record(
        kind="failure",
        deliverable=deliverable,
        body=cleaned(
            {
                "outcome": outcome if outcome in ("refused", "failed") else "unknown",
                "error": text(said.get("error"), 200),
                "reason": text(said.get("reason"), _REASON) or _SAYS_NOTHING,
                "operator": ended.operator,
                "of": sorted(set(kinds)),
                "found": found,
                "try": ended.number,
                "tries": ended.tries,
            }
        ),
        parents=tuple(_ids(said.get("parents"))) if own else (),
        environment=(text(said.get("environment")) if own else "") or environment or None,
        commit=text(said.get("commit")) or None,
        at=ended.at.isoformat(timespec="seconds"),
        source={"dag": ended.dag, "run": ended.run, "task": ended.task, "map_index": ended.map_index},
        evidence=tuple(Evidence.from_json(one) for one in maps(said.get("evidence"))) if own else (),
    )


def _ids(values: Any) -> Iterator[str]:
    """The record ids in what was given as parents, however deep; what is none is left out."""
    if isinstance(values, str):
        if _ID.fullmatch(values):
            yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _ids(value)


def about(uris: Iterable[str]) -> dict[str, tuple[set[str], str]]:
    """Say from the assets of a task about which deliverables it is.

    :param uris: of the assets.
    :return: name of a deliverable -> the kinds of record, and the environment if there is one alone.
    """
    kinds: dict[str, set[str]] = {}
    places: dict[str, set[str]] = {}
    for uri in uris:
        name, kind, place, *_ = (*uri.removeprefix("pipeops://").split("/"), "", "")
        kind = "decision" if kind == "retrain" else kind
        if name and kind in KINDS:
            kinds.setdefault(name, set()).add(kind)
            if kind in PER_ENVIRONMENT and place:
                places.setdefault(name, set()).add(place)
    return {
        name: (found, next(iter(places[name])) if len(places.get(name, ())) == 1 else "")
        for name, found in kinds.items()
    }


class Failures:
    """The tasks with assets of deliverables that failed for good, of which no worker can write an event.

    :param engine: of Airflow's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._since = datetime.now(timezone.utc) - _FIRST
        self._rests_until = 0.0
        self._seen: set[tuple[Any, int]] = set()  # recorded, or of which there is nothing to record

    @property
    def pending(self) -> bool:
        """Whether one of them may have no record yet; not asked so often that it would weigh on a large database."""
        from sqlalchemy.orm import Session

        begun = time.monotonic()
        if begun < self._rests_until:
            return False
        with Session(self._engine) as session:
            found = bool(self._read(session))
        self._rests_until = begun + min(_REST * (time.monotonic() - begun), _LONGEST)
        return found

    def take_up(self) -> None:
        """Write the events that are missing, as Airflow writes those of tasks; one process at a time may."""
        from sqlalchemy.orm import Session

        begun = datetime.now(timezone.utc)
        with Session(self._engine) as session:
            found = self._read(session)
            recorded = _recorded(session, min((one.at for one in found), default=begun))
            missing = [(one, uris) for one, uris in found.items() if one.key not in recorded]
            for first in range(0, len(missing), _AT_ONCE):
                for one, uris in missing[first : first + _AT_ONCE]:
                    self._write(session, one, uris)
                session.commit()
        self._seen |= {(one.ti, one.number) for one in found}
        self._since = begun - _LATE

    def _read(self, session: Session) -> dict[Ended, list[str]]:
        """Read which tries failed, and of each the assets of its task."""
        from airflow.models.asset import AssetModel, TaskOutletAssetReference
        from airflow.models.hitl import HITLDetail
        from airflow.models.taskinstance import TaskInstance as Ti
        from sqlalchemy import select

        outlet = TaskOutletAssetReference
        wanted = (
            select(
                Ti.id, Ti.dag_id, Ti.run_id, Ti.task_id, Ti.map_index, Ti.try_number, Ti.max_tries, Ti.operator, Ti.end_date,
                AssetModel.uri, HITLDetail.chosen_options,
            )
            .select_from(outlet)
            .join(AssetModel, AssetModel.id == outlet.asset_id)
            .join(Ti, (Ti.dag_id == outlet.dag_id) & (Ti.task_id == outlet.task_id))
            .join(HITLDetail, HITLDetail.ti_id == Ti.id, isouter=True)
            .where(AssetModel.uri.like("pipeops://%"), Ti.state == "failed", Ti.end_date >= self._since)
            .order_by(Ti.end_date)
        )  # fmt: skip
        found: dict[Ended, list[str]] = {}
        for ti, dag, run, task, index, number, more, operator, end, uri, chosen in session.execute(wanted):
            assert end is not None  # it is asked for
            at = end.astimezone(timezone.utc)
            one = Ended(ti, dag, run, task, index, number, more + 1, operator or "", at)
            # A rejected approval has its own record.
            if (one.ti, one.number) not in self._seen and chosen != [REJECT]:
                found.setdefault(one, []).append(uri)
        return found

    def _write(self, session: Session, ended: Ended, uris: Iterable[str]) -> None:
        from airflow.models.taskinstance import TaskInstance

        said = _said(session, ended)
        ti = session.get(TaskInstance, ended.ti)
        why = {name: value for name, value in said.items() if name not in _BESIDE}
        for deliverable, (kinds, environment) in about(uris).items():
            for left in (said, why, {}):
                try:
                    record = failure(ended, left, deliverable, kinds, environment)
                except (InvalidInput, TypeError) as error:
                    log.warning("What %s in %s has left makes no record: %s", ended.task, ended.run, error)
                else:
                    _emit(session, ti, record)
                    break


def _said(session: Session, ended: Ended) -> Mapping[str, Any]:
    """Read what the worker of a try has left."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    found = session.scalar(
        select(XComModel.value).where(
            XComModel.dag_id == ended.dag, XComModel.run_id == ended.run, XComModel.task_id == ended.task,
            XComModel.map_index == ended.map_index, XComModel.key == WORD,
        )
    )  # fmt: skip
    if isinstance(found, str):  # as workers store it: JSON in a text
        try:
            found = json.loads(found)
        except ValueError:
            found = None  # a reference of a backend that keeps values elsewhere
    said = map_(found)
    return said if whole(said.get("try")) == ended.number else _given(session, ended)


def _given(session: Session, ended: Ended) -> Mapping[str, Any]:
    """Read what a task was given, which its worker has told when it began; it says nothing of how it ended."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered
    from sqlalchemy import select

    of = (ended.dag, ended.run, ended.task, ended.map_index)
    columns = (Rendered.dag_id, Rendered.run_id, Rendered.task_id, Rendered.map_index)
    found = session.scalar(
        select(Rendered.rendered_fields).where(
            *(column == value for column, value in zip(columns, of, strict=True))
        )
    )
    return {name: value for name, value in map_(found).items() if name in ("environment", "parents")}


def _recorded(session: Session, since: datetime) -> set[tuple[Any, ...]]:
    """Read which tries have their event."""
    from airflow.models.asset import AssetEvent, AssetModel
    from sqlalchemy import select

    wanted = (
        select(
            AssetEvent.source_dag_id, AssetEvent.source_run_id, AssetEvent.source_task_id, AssetEvent.source_map_index,
            AssetEvent.extra,
        )
        .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        # The end of a task is told by the clock of its worker.
        .where(AssetModel.uri.like("pipeops://%/failure"), AssetEvent.timestamp >= since - _LATE)
    )  # fmt: skip
    return {
        (*key, whole(map_(map_(extra).get("body")).get("try"))) for *key, extra in session.execute(wanted)
    }


def _emit(session: Session, ti: TaskInstance | None, record: Record) -> None:
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetEvent

    asset = _asset(session, record.deliverable)
    # A DAG names it, and may be started by it. Without the task, which was cleared this moment, nobody would believe it.
    if asset.active is not None and ti is not None:
        asset_manager.register_asset_change(
            task_instance=ti, asset=asset, extra=record.to_extra(), session=session
        )
        return
    by = {f"source_{what}": record.source[name] for what, name in _SOURCE.items()}
    session.add(AssetEvent(asset_id=asset.id, extra=record.to_extra(), **by))


def _asset(session: Session, deliverable: str) -> AssetModel:
    """Return the asset of failures, which no task names: Airflow would write an empty event on it for each that succeeds."""
    from airflow.models.asset import AssetModel
    from sqlalchemy import select
    from sqlalchemy.orm import lazyload

    name, uri = f"{deliverable}.failure", f"pipeops://{deliverable}/failure"
    wanted = select(AssetModel).options(lazyload("*")).where(AssetModel.name == name, AssetModel.uri == uri)
    found = session.scalar(wanted)
    if found is None:
        found = AssetModel(name=name, uri=uri, group="pipeops", extra={})
        session.add(found)
        session.flush()
    return found
