"""From a task to the evidence that it kept."""

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
