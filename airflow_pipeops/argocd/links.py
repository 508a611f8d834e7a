"""Links from a task to what it waits for: the application, its operation, the commit.

Airflow asks for them in the task's own process at each of its ends, also at a deferral, and keeps the answers. So they are
there from the first look on, also while the task is deferred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from airflow_pipeops.delivery.links import CommitLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class ArgoCDAppLink(BaseOperatorLink):
    """To the application's page in Argo CD."""

    name = "Argo CD application"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty while the task has not looked yet."""
        return str(getattr(operator, "argocd_url", "") or "")


class ArgoCDOperationLink(BaseOperatorLink):
    """To the last operation of the application: the panel with its phase, messages and results."""

    name = "Argo CD operation"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty while the task has not looked yet."""
        return operation_url(str(getattr(operator, "argocd_url", "") or ""))


#: What every operator of an application offers.
LINKS: tuple[BaseOperatorLink, ...] = (ArgoCDAppLink(), ArgoCDOperationLink(), CommitLink())


def app_url(server: str, namespace: str, name: str) -> str:
    """Return the address of an application's page; empty where Argo CD has no web interface that is known."""
    if not server:
        return ""
    return f"{server.rstrip('/')}/applications/{quote(namespace or 'argocd', safe='')}/{quote(name, safe='')}"


def operation_url(app: str) -> str:
    """Return the address of the operation's panel on an application's page; empty for none."""
    return f"{app}?operation=true" if app else ""
