"""From a task to what a person asks for next: the report, the log of what it ran, the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class ReportLink(BaseOperatorLink):
    """The report that the task kept, shown by Airflow to those who may read the DAG."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return its address; empty while there is none."""
        # Airflow asks in the task's own process at each of its ends, and keeps the answer.
        return str(getattr(operator, "report_url", "") or "")


class LogLink(BaseOperatorLink):
    """The whole output of what the task ran, kept as evidence."""

    name = "Full output"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return its address; empty while there is none."""
        return str(getattr(operator, "log_url", "") or "")


class CommitLink(BaseOperatorLink):
    """The commit that the task is about, at the forge that keeps it."""

    name = "Commit"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return its address; empty while the commit is not known, or for a forge that is not."""
        return str(getattr(operator, "commit_url", "") or "")
