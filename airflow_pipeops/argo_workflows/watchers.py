"""What an :class:`~airflow.sdk.AssetWatcher` can be told by Argo Workflows: a workflow has succeeded, or failed.

Each end is told once, and has a ``key`` in its payload. What was told is kept in the asset's state store, so a restart of
the triggerer repeats nothing, and what ended meanwhile is told afterwards, as far as the workflow, or its archive, is still
there. What had ended before the watch began is not told.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.argo_workflows.status import WorkflowStatus, read
from airflow_pipeops.base.arguments import interval, not_empty
from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.watchers import Watcher
from airflow_pipeops.exceptions import BadResponse

if TYPE_CHECKING:
    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows

#: So many ends are remembered that are not listed any more: an archive may list them again.
_MOST = 500


class ArgoWorkflowEndTrigger(Watcher):
    """Watches the workflows with given labels for ever, and yields an event for each that has ended in one of its ways.

    All are listed in each look, without their nodes: one request, whatever their number.

    :param labels: a label selector, for example ``team=ml``.
    :param argo_workflows_conn_id: the connection.
    :param namespace: of the workflows; by default that of the connection.
    :param poll_interval: between two looks.
    """

    #: Phases that are told.
    phases: ClassVar[tuple[str, ...]] = ()
    #: Under which name the state store keeps what was told.
    kept_as: ClassVar[str] = ""
    arguments: ClassVar[tuple[str, ...]] = ("labels", "argo_workflows_conn_id", "namespace", "poll_interval")

    def __init__(
        self,
        labels: str,
        *,
        argo_workflows_conn_id: str = "argo_workflows_default",
        namespace: str = "",
        poll_interval: timedelta | float = timedelta(seconds=15),
    ) -> None:
        super().__init__()
        remedy = "Give a label selector, for example 'team=ml'."
        self.labels = not_empty("labels", labels, "no workflow is named", remedy)
        self.argo_workflows_conn_id, self.namespace = argo_workflows_conn_id, namespace
        self.poll_interval = interval("poll_interval", poll_interval)

    @property
    def subject(self) -> str:
        """What is looked for, and where."""
        return f"workflows with {self.labels} through {self.argo_workflows_conn_id}"

    @asynccontextmanager
    async def source(self) -> AsyncIterator[tuple[ArgoWorkflows, str]]:
        """Open a client."""
        from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook

        hook = ArgoWorkflowsHook(self.argo_workflows_conn_id, namespace=self.namespace)
        async with await hook.aclient() as client:
            yield client, hook.namespace

    async def look(self, source: tuple[ArgoWorkflows, str]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the ends that are new."""
        client, namespace = source
        found = [status for one in await client.find(namespace, self.labels) if (status := _read(one))]
        data, _ = await self.recall(self.kept_as)
        memory = map_(data).get("told")
        for status in news(found, self.phases, memory):
            payload = {
                "name": status.name,
                "namespace": status.namespace,
                "uid": status.uid,
                "phase": status.phase,
                "message": status.message[:500],
                "started_at": status.started_at,
                "finished_at": status.finished_at,
            }
            yield self.keyed(payload, self.argo_workflows_conn_id, status.uid, status.attempt)
        self.remember(self.kept_as, {"told": remembered(found, memory)})


class ArgoWorkflowSucceededTrigger(ArgoWorkflowEndTrigger):
    """Fires when a workflow has succeeded.

    The payload is ``{name, namespace, uid, phase, message, started_at, finished_at, key}``.
    """

    phases = ("Succeeded",)
    kept_as = "argo-workflows-succeeded"


class ArgoWorkflowFailedTrigger(ArgoWorkflowEndTrigger):
    """Fires when a workflow has failed, or ended in an error; again when it was retried and fails again.

    The payload is ``{name, namespace, uid, phase, message, started_at, finished_at, key}``.
    """

    phases = ("Failed", "Error")
    kept_as = "argo-workflows-failed"


def news(
    found: Iterable[WorkflowStatus], phases: Sequence[str], told: Mapping[str, str] | None
) -> list[WorkflowStatus]:
    """Return the workflows whose end is new, in the order in which they ended.

    :param found: all that are listed.
    :param phases: that are told.
    :param told: uid -> the attempt whose end is known; ``None`` at the very first look, at which nothing is new.
    :return: those whose end is to be told.
    """
    if told is None:
        return []
    new = [one for one in found if one.phase in phases and one.completed and told.get(one.uid) != one.attempt]
    return sorted(new, key=lambda one: (one.finished_at, one.name))


def remembered(found: Iterable[WorkflowStatus], told: Mapping[str, str] | None) -> dict[str, str]:
    """Return what is known after a look: the ends of all that are listed, and the last of those that are not any more."""
    listed = {one.uid: one.attempt for one in found if one.over and one.completed}
    left = {uid: attempt for uid, attempt in (told or {}).items() if uid not in listed}
    latest = dict(sorted(left.items(), key=lambda item: item[1])[-_MOST:])
    return {**latest, **listed}


def _read(workflow: Any) -> WorkflowStatus | None:
    try:
        return read(workflow)
    except BadResponse:
        return None
