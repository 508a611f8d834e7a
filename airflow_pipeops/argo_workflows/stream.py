"""Argo Workflows as the source of a shared stream: one watch for all waits and watchers on a connection and namespace."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argo_workflows.status import observe
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.exceptions import BadResponse, PipeOpsError, Unreachable
from airflow_pipeops.waits.status import Observed
from airflow_pipeops.waits.streams.snapshot import Reading
from airflow_pipeops.waits.streams.source import unknown_credential
from airflow_pipeops.waits.streams.stream import SharedStream, shared_stream

if TYPE_CHECKING:
    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
    from airflow_pipeops.argo_workflows.status import WorkflowStatus


class WorkflowSource:
    """The workflows of one namespace. Use it as ``async with``.

    :param client: reaches them.
    :param namespace: which one.
    :param mode: ``stream``, ``poll``, or ``auto``: a stream, and polls where none works.
    """

    def __init__(self, client: ArgoWorkflows, namespace: str, mode: str) -> None:
        self.streams, self.polls = mode != "poll", mode != "stream"
        self.home: str | None = namespace
        self._client, self._namespace = client, namespace

    async def __aenter__(self) -> WorkflowSource:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(*error)

    async def events(self) -> AsyncGenerator[Reading, None]:
        """Yield each workflow's state, and then each change."""
        async with aclosing(self._client.watch(self._namespace)) as events:
            async for event in events:
                workflow = event["object"]
                yield _reading(workflow, None if event["type"] == "DELETED" else _observed(workflow))

    async def read(self, ref: WorkflowRef) -> Reading:
        """Read one workflow with its nodes, out of the archive where it is not live any more."""
        workflow = await self._client.get(ref, whole=True)
        return _reading(workflow, _slim(observe(workflow)))

    async def refresh(self, ref: WorkflowRef) -> Reading | None:
        """There is nothing to compare: it is read."""
        return await self.read(ref)

    def refused(self, error: PipeOpsError) -> bool:
        """Whether the token itself is no good."""
        return unknown_credential(error)


def watch_of(conn_id: str, namespace: str) -> SharedStream:
    """Return the watch that all waits on a connection and namespace share in this event loop.

    :param conn_id: the connection.
    :param namespace: of the workflows.
    :return: the stream, which may be used by others, too.
    """

    async def connect() -> WorkflowSource:
        from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook

        hook = ArgoWorkflowsHook(conn_id, namespace=namespace)
        try:
            client = await hook.aclient()
        except PipeOpsError:
            raise
        except Exception as error:  # Airflow's own: its API is down for a moment, which should end no wait
            said = f"the connection {conn_id} cannot be read: {type(error).__name__}"
            raise Unreachable(said) from error
        return WorkflowSource(client, hook.namespace, hook.mode)

    where = f"Argo Workflows {conn_id}, namespace {namespace}"
    return shared_stream(("argo_workflows", conn_id, namespace), where, connect)


def _slim(observed: Observed) -> Observed:
    """Leave out the nodes that no judgement looks at; one is kept in any case, as a sign that they were read."""
    status: WorkflowStatus = observed.reconciled
    return replace(observed, reconciled=replace(status, nodes=status.undone or status.nodes[:1]))


def _observed(workflow: Any) -> Observed | None:
    try:
        return observe(workflow)
    except BadResponse:
        return None  # unknown from here on, so it is asked for by name


def _reading(workflow: Any, observed: Observed | None) -> Reading:
    metadata = map_(map_(workflow).get("metadata"))
    version = text(metadata.get("resourceVersion"))
    return Reading(
        text(metadata.get("namespace")),
        text(metadata.get("name")),
        int(version) if version.isdecimal() else None,
        observed,
    )
