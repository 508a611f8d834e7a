"""From a task to its workflow in the web interface of Argo Workflows.

Airflow asks for it in the task's own process at each of its ends, also at a deferral, and keeps the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from airflow_pipeops.delivery.links import CommitLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class ArgoWorkflowLink(BaseOperatorLink):
    """To the workflow's page in Argo Workflows."""

    name = "Argo workflow"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return its address; empty while it is not known."""
        return str(getattr(operator, "workflow_url", "") or "")


#: What every operator of a workflow offers.
LINKS: tuple[BaseOperatorLink, ...] = (ArgoWorkflowLink(), CommitLink())


def workflow_url(server: str, namespace: str, name: str, uid: str = "") -> str:
    """Return the address of a workflow's page; empty where no web interface is known.

    With its uid, the page is found in the archive, too.

    :param server: base URL of the web interface.
    :param namespace: of the workflow.
    :param name: of the workflow.
    :param uid: which of that name.
    :return: the address.
    """
    if not server or not name:
        return ""
    query = f"?uid={quote(uid, safe='')}" if uid else ""
    return f"{server.rstrip('/')}/workflows/{quote(namespace, safe='')}/{quote(name, safe='')}{query}"
