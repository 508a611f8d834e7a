"""Links from a task to what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class ArgoCDAppLink(BaseOperatorLink):
    """To the application's page in Argo CD. There from the first look on, so also while the task is deferred."""

    name = "Argo CD application"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty while the task has not looked yet."""
        # Airflow asks in the task's own process at each of its ends, also at a deferral, and keeps the answer.
        return str(getattr(operator, "argocd_url", ""))


def app_url(server: str, namespace: str, name: str) -> str:
    """Return the address of an application's page."""
    return f"{server.rstrip('/')}/applications/{quote(namespace or 'argocd', safe='')}/{quote(name, safe='')}"
