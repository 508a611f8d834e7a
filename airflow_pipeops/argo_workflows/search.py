"""Find the workflow that somebody else submitted: by its name, or the newest with given labels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
from airflow_pipeops.argo_workflows.status import WorkflowStatus, read
from airflow_pipeops.base.retries import jittered
from airflow_pipeops.exceptions import NotFound, PipeOpsError, WaitTimeout


@dataclass(frozen=True)
class Search:
    """What is looked for.

    :param namespace: in which it is.
    :param name: of the workflow; or
    :param labels: a label selector.
    """

    namespace: str
    name: str = ""
    labels: str = ""

    def __str__(self) -> str:
        what = self.name or f"a workflow with {self.labels}"
        return f"{what} in namespace {self.namespace}"


def newest(found: Sequence[WorkflowStatus]) -> WorkflowStatus | None:
    """Return the workflow that was created last; ``None`` of none."""
    return max(found, key=lambda status: (status.created_at, status.name), default=None)


async def find(client: ArgoWorkflows, search: Search) -> WorkflowStatus | None:
    """Look once; ``None`` while it is not there."""
    if search.name:
        try:
            return read(await client.get(WorkflowRef(search.name, search.namespace)))
        except NotFound:
            return None
    return newest([read(one) for one in await client.find(search.namespace, search.labels)])


async def until_found(
    client: ArgoWorkflows, search: Search, timeout: float, poll_interval: float
) -> WorkflowStatus:
    """Look until it is there.

    :param client: reaches Argo Workflows.
    :param search: what is looked for.
    :param timeout: seconds after which the search is over.
    :param poll_interval: seconds between two looks.
    :return: the workflow.
    :raises WaitTimeout: where it never was.
    """
    end, trouble = time.monotonic() + timeout, ""
    while True:
        try:
            found = await find(client, search)
            trouble = ""
        except PipeOpsError as error:
            if not error.retryable:
                raise
            found, trouble = None, error.message
        if found is not None:
            return found
        left = end - time.monotonic()
        if left <= 0:
            raise WaitTimeout(
                f"{search} was not there within {timeout:.0f} s" + (f": {trouble}" if trouble else "")
            )
        await asyncio.sleep(min(jittered(poll_interval, 0.8, 1.2), left))
