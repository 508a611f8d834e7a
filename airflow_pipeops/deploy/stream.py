"""What all waits of a triggerer for applied objects share: the watches of a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.deploy.judgement import Found
from airflow_pipeops.deploy.selectors import selects
from airflow_pipeops.deploy.targets import Target
from airflow_pipeops.deploy.waits import AppliedController
from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.kubernetes import feeds
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.feeds import Feeds
from airflow_pipeops.kubernetes.kinds import PODS

#: What no judgement reads, and what may be secret.
_DROPPED = frozenset({"data", "stringData", "binaryData"})


class Cluster(Feeds):
    """What all waits of one event loop for one connection share.

    :param client: of the cluster.
    """

    def __init__(self, client: KubernetesClient) -> None:
        super().__init__(client, _kept)
        #: What is known of definitions.
        self.declared: dict[tuple[str, str], bool | None] = {}


class Told(AppliedController):
    """Looks at what watches told last; what may not be watched is read."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.kubernetes, cluster.declared)
        self._cluster = cluster

    async def read(self, targets: Sequence[Target]) -> list[Found]:
        """Return what there is of each."""
        return [await self.one(target, await self._there(target)) for target in targets]

    async def _there(self, target: Target) -> Mapping[str, dict[str, Any]] | None:
        try:
            item = await self._cluster.feed(target.served, target.namespace).get(target.name)
        except NotFound:
            return {}
        return None if item is None else {target.name: item}

    async def pods(self, target: Target, item: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the pods of a workload."""
        told = await self._cluster.feed(PODS, target.namespace).all() if target.kind != "Pod" else None
        return (
            await super().pods(target, item) if told is None else [pod for pod in told if selects(item, pod)]
        )


class Read(AppliedController):
    """Looks at what is read for it, not many at the same time: a thousand waits may end with one change."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.kubernetes, cluster.declared)
        self._cluster = cluster

    async def read(self, targets: Sequence[Target]) -> list[Found]:
        """Return what there is of each."""
        async with self._cluster.reads:
            return await super().read(targets)


def joined(conn_id: str) -> AbstractAsyncContextManager[Cluster]:
    """Share the watches of a connection with all others in this event loop."""

    async def opened() -> Cluster:
        from airflow_pipeops.kubernetes.connections import aconnect

        return Cluster(await aconnect(conn_id))

    return feeds.joined(("applied", conn_id), opened)


def _kept(item: dict[str, Any]) -> dict[str, Any]:
    metadata = map_(item.get("metadata"))
    if "spec" in item:  # of what has none, who holds its fields is all that tells whether it was changed
        metadata = {key: value for key, value in metadata.items() if key != "managedFields"}
    return {**{key: value for key, value in item.items() if key not in _DROPPED}, "metadata": metadata}
