"""What Airflow's database knows of a run that failed; only its servers and its command line may read it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

#: Tasks of a run that are named.
_NAMED = 5


@dataclass(frozen=True)
class FailedRun:
    """A run that failed.

    :param end: when its first task failed, in ISO 8601.
    :param well: when the last good run before it began; empty if there was none.
    :param what: failed, in words.
    """

    end: str
    well: str
    what: str


def failed_run(dag: str, run: str) -> FailedRun | None:
    """Read what became of a run.

    :param dag: its id.
    :param run: its id.
    :return: what failed; none for a run that is not known, or has not failed.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        failed = session.execute(
            select(TaskInstance.task_id, TaskInstance.end_date)
            .where(TaskInstance.dag_id == dag, TaskInstance.run_id == run, TaskInstance.state == "failed")
            .where(TaskInstance.end_date.is_not(None))
            .order_by(TaskInstance.end_date)
            .limit(_NAMED)
        ).all()
        if not failed:
            return None
        first = failed[0][1]
        before = session.scalar(
            select(DagRun.start_date)
            .where(DagRun.dag_id == dag, DagRun.state == "success", DagRun.start_date < first)
            .order_by(DagRun.start_date.desc())
            .limit(1)
        )
    tasks = ", ".join(dict.fromkeys(name for name, _ in failed))
    return FailedRun(_utc(first), _utc(before) if before else "", f"{tasks} failed in the run {run} of {dag}")


def _utc(at: datetime | None) -> str:
    assert at is not None  # the statement asks for those with a time
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds")
