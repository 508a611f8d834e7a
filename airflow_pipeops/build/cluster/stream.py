"""The pods of our Jobs as the source of a shared stream: one watch per connection and namespace for all waits.

What the watch tells is that something has happened to a pod. What that means stands in several objects, so the Job is
asked about by name then; and again after a while, since nothing at all may happen to what no node takes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.build.cluster.client import JobRef, seen
from airflow_pipeops.build.cluster.jobs import MANAGED, MANAGER
from airflow_pipeops.build.cluster.judgement import observed
from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import PODS
from airflow_pipeops.waits.streams.snapshot import Reading
from airflow_pipeops.waits.streams.source import unknown_credential
from airflow_pipeops.waits.streams.stream import SharedStream, shared_stream


class JobSource:
    """The Jobs of one namespace. Use it as ``async with``.

    :param client: of the cluster.
    :param namespace: that is watched.
    :param startup: seconds for which a pod may not run yet.
    """

    streams = polls = True

    def __init__(self, client: KubernetesClient, namespace: str, startup: float) -> None:
        self.home: str | None = namespace
        self._client, self._startup = client, startup

    async def __aenter__(self) -> JobSource:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(*error)

    async def events(self) -> AsyncGenerator[Reading, None]:
        """Yield which Job something has happened to."""
        labels = f"{MANAGED}={MANAGER}"
        async with aclosing(self._client.follow(PODS, self.home or "", labels=labels)) as events:
            async for event in events:
                metadata = map_(event["object"].get("metadata"))
                job = text(map_(metadata.get("labels")).get("job-name"))
                yield Reading(text(metadata.get("namespace")), job, None, None)

    async def read(self, ref: JobRef) -> Reading:
        """Look at one Job."""
        found = observed(ref.namespace, ref.name, await seen(self._client, ref, self._startup))
        return Reading(ref.namespace, ref.name, None, found)

    async def refresh(self, ref: JobRef) -> Reading | None:
        """A cluster looks by itself."""
        return await self.read(ref)

    def refused(self, error: PipeOpsError) -> bool:
        """Whether the credential itself is no good."""
        return unknown_credential(error)


def watch_of(conn_id: str, namespace: str, startup: float) -> SharedStream:
    """Return the watch that all waits on a connection and namespace share in this event loop."""

    async def connect() -> Any:
        from airflow_pipeops.kubernetes.connections import aconnect

        return JobSource(await aconnect(conn_id), namespace, startup)

    return shared_stream(
        ("jobs", conn_id, namespace, startup), f"Kubernetes {conn_id}, namespace {namespace}", connect
    )
