"""Questions that Airflow asks people: what was answered, which of them wait, and which were answered with a no.

A worker tells only what a task that succeeds has found: of an approval that fails by its rejection, Airflow writes no event.
Airflow's database holds the answer all the same, with who gave it. The event is written from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.records import Record, parent_ids
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.redaction import cleaned

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Engine
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

#: Questions that are shown at most.
LIMIT = 100
APPROVE, REJECT = "Approve", "Reject"
#: The assets on which approvals are recorded.
_APPROVALS = "pipeops://%/approval"
#: Of a text that was shown, in bytes, and of the people who were asked; a record is small.
_SHOWN, _ASKED = 4000, 50
#: An answer may be so much older than the failure of its task, which a worker has yet to take up.
_TAKEN_UP = timedelta(days=1)


def answer_body(
    *,
    subject: Any,
    body: Any,
    chosen: Sequence[str],
    person: Mapping[str, Any] | None,
    at: datetime,
    timed_out: bool,
    asked: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the body of an approval's record.

    :param subject: what was asked.
    :param body: what was shown.
    :param chosen: the options that were chosen.
    :param person: who has answered, with ``id`` and ``name``; none where a default was taken.
    :param at: when.
    :param timed_out: whether nobody has answered in time.
    :param asked: who was asked, likewise; empty for anybody who may.
    :return: the body.
    """
    who = person or {}
    return {
        "subject": _short(subject),
        "body": _short(body),
        "answer": ", ".join(chosen),
        "approved": list(chosen) == [APPROVE],
        "approved_by": str(who.get("name") or who.get("id") or ""),
        "user": str(who.get("id") or ""),
        "answered_at": at.isoformat(),
        "timed_out": timed_out,
        "asked": [str(one.get("name") or one.get("id")) for one in asked[:_ASKED]],
    }


def waiting(session: Session, hidden: Collection[str] = ()) -> list[dict[str, Any]]:
    """Read the questions that nobody has answered, those first that wait longest.

    :param session: of Airflow's database.
    :param hidden: the DAGs whose questions are left out.
    :return: one object each, as :class:`~airflow_pipeops.delivery.queries.attention.Attention` has it, with the task that
        asks in place of a record.
    """
    from airflow.models.hitl import HITLDetail
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select
    from sqlalchemy.orm import lazyload

    wanted = (
        select(HITLDetail, TaskInstance, Rendered)
        .options(lazyload("*"))
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .join(Rendered, _same_task(Rendered), isouter=True)
        .where(HITLDetail.responded_at.is_(None), TaskInstance.state == "awaiting_input")
        .order_by(HITLDetail.created_at)
        .limit(LIMIT)
    )
    if hidden:
        wanted = wanted.where(TaskInstance.dag_id.not_in(sorted(hidden)))
    found = session.execute(wanted).all()
    uris = _asked_about(session, {ti.dag_id for _, ti, _ in found})
    return [
        {
            "need": "approval",
            "deliverable": _deliverable(uris.get((ti.dag_id, ti.task_id), "")),
            "environment": _environment(rendered),
            "at": detail.created_at.astimezone(timezone.utc).isoformat(timespec="seconds"),
            "what": detail.subject,
            "fact": None,
            "asked": {"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "map_index": ti.map_index},
        }
        for detail, ti, rendered in found
    ]


class Rejections:
    """The approvals that were rejected and whose tasks have failed, of which no worker can write an event.

    :param engine: of Airflow's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._since: datetime | None = None
        self._refused: set[Any] = set()  # what makes no record, and is said once

    @property
    def pending(self) -> bool:
        """Whether one of them has no event yet."""
        from sqlalchemy.orm import Session

        with Session(self._engine) as session:
            return bool(self._read(session))

    def take_up(self) -> None:
        """Write the events that are missing, as Airflow writes those of tasks; one process at a time may."""
        from airflow.assets.manager import asset_manager
        from sqlalchemy.orm import Session

        begun = datetime.now(timezone.utc)
        with Session(self._engine) as session:
            for detail, ti, asset, rendered in self._read(session):
                try:
                    record = self._record(
                        detail, ti, asset.uri, map_(getattr(rendered, "rendered_fields", None))
                    )
                except InvalidInput as error:
                    log.warning("The rejection of %s in %s makes no record: %s", ti.task_id, ti.run_id, error)
                    self._refused.add(ti.id)
                    continue
                asset_manager.register_asset_change(
                    task_instance=ti, asset=asset, extra=record.to_extra(), session=session
                )
            session.commit()
        self._since = begun - _TAKEN_UP

    def _read(self, session: Session) -> list[Any]:
        from airflow.models.asset import AssetEvent, AssetModel, TaskOutletAssetReference
        from airflow.models.hitl import HITLDetail
        from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import exists, select
        from sqlalchemy.orm import lazyload

        outlet = TaskOutletAssetReference
        told = exists().where(
            AssetEvent.asset_id == AssetModel.id,
            AssetEvent.timestamp >= HITLDetail.responded_at,
            AssetEvent.source_dag_id == TaskInstance.dag_id,
            AssetEvent.source_run_id == TaskInstance.run_id,
            AssetEvent.source_task_id == TaskInstance.task_id,
            AssetEvent.source_map_index == TaskInstance.map_index,
        )
        wanted = (
            select(HITLDetail, TaskInstance, AssetModel, Rendered)
            .options(lazyload("*"))  # else each row brings its run, thrice
            .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
            .join(outlet, (outlet.dag_id == TaskInstance.dag_id) & (outlet.task_id == TaskInstance.task_id))
            .join(AssetModel, AssetModel.id == outlet.asset_id)
            .join(Rendered, _same_task(Rendered), isouter=True)
            .where(
                HITLDetail.responded_at.is_not(None),
                TaskInstance.state.in_(("failed", "up_for_retry")),
                AssetModel.uri.like(_APPROVALS),
                ~told,
            )
        )
        if self._since is not None:
            wanted = wanted.where(HITLDetail.responded_at >= self._since)
        return [
            row
            for row in session.execute(wanted)
            if row[0].chosen_options == [REJECT] and row[1].id not in self._refused
        ]

    @staticmethod
    def _record(detail: Any, ti: Any, uri: str, rendered: Mapping[str, Any]) -> Record:
        at = detail.responded_at.astimezone(timezone.utc)
        given = rendered.get("parents")
        body = answer_body(
            subject=detail.subject,
            body=detail.body,
            chosen=detail.chosen_options,
            person=detail.responded_by,
            at=at,
            timed_out=detail.responded_by is None,  # Airflow takes a default then, and nothing else does
            asked=detail.assignees or (),
        )
        return Record(
            kind="approval",
            deliverable=_deliverable(uri),
            body=cleaned(body),
            parents=parent_ids(given if isinstance(given, list) else ()),
            environment=text(rendered.get("environment")) or None,
            at=at.isoformat(timespec="seconds"),
            source={"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "map_index": ti.map_index},
        )


def _same_task(rendered: Any) -> ColumnElement[bool]:
    """Return the condition that rendered fields are those of a task instance."""
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import and_

    parts = ("dag_id", "run_id", "task_id", "map_index")
    return and_(*(getattr(rendered, part) == getattr(TaskInstance, part) for part in parts))


def _asked_about(session: Session, dags: Collection[str]) -> dict[tuple[str, str], str]:
    """Return the assets of approvals, by the DAG and the task that emits them."""
    from airflow.models.asset import AssetModel
    from airflow.models.asset import TaskOutletAssetReference as Outlet
    from sqlalchemy import select

    wanted = select(Outlet.dag_id, Outlet.task_id, AssetModel.uri).join(
        AssetModel, AssetModel.id == Outlet.asset_id
    )
    rows = session.execute(wanted.where(Outlet.dag_id.in_(sorted(dags)), AssetModel.uri.like(_APPROVALS)))
    return {(dag, task): uri for dag, task, uri in rows}


def _deliverable(uri: str) -> str:
    return uri.removeprefix("pipeops://").removesuffix("/approval")


def _environment(rendered: Any) -> str:
    return text(map_(getattr(rendered, "rendered_fields", None)).get("environment"))


def _short(value: Any) -> str:
    """Cut a text to what a record has room for, in any script."""
    said = str(value or "")
    while (size := len(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"))) > _SHOWN:
        said = said[: len(said) * _SHOWN // size]
    return said
