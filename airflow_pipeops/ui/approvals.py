"""Who waits for an answer in Airflow: its approvals, of the DAGs that a person may read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import timezone
from typing import Any

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import select
from sqlalchemy.orm import Session

#: Questions that are shown at most.
LIMIT = 100


def waiting(session: Session, hidden: Collection[str]) -> list[dict[str, Any]]:
    """Read the questions that nobody has answered, those first that wait longest.

    :param session: of Airflow's database.
    :param hidden: the DAGs whose questions are left out.
    :return: one object each, as :class:`~airflow_pipeops.delivery.queries.attention.Attention` has it, with the task that
        asks in place of a record.
    """
    wanted = (
        select(HITLDetail, TaskInstance)
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .where(HITLDetail.responded_at.is_(None), TaskInstance.state == "awaiting_input")
        .order_by(HITLDetail.created_at)
        .limit(LIMIT)
    )
    if hidden:
        wanted = wanted.where(TaskInstance.dag_id.not_in(sorted(hidden)))
    return [
        {
            "need": "approval",
            "deliverable": "",
            "environment": "",
            "at": detail.created_at.astimezone(timezone.utc).isoformat(timespec="seconds"),
            "what": detail.subject,
            "fact": None,
            "asked": {"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "map_index": ti.map_index},
        }
        for detail, ti in session.execute(wanted)
    ]


def sign(questions: list[dict[str, Any]]) -> str:
    """Return what changes when any question comes or goes."""
    told = [(one["asked"], one["at"]) for one in questions]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12] if told else "0"
