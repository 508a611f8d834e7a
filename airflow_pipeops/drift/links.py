"""From a task to its drift report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class DriftReportLink(BaseOperatorLink):
    """The HTML report, where it is stored."""

    name = "Drift report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return its URI; empty if there is none."""
        return str(getattr(operator, "report_uri", "") or "")
