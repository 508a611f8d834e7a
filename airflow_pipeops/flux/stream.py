"""What all waits of a triggerer for Flux share: the watches of a connection, and requests to reconcile."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from typing import Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.flux.client import FluxClient, Gathered, gather, kind_of
from airflow_pipeops.flux.kinds import Ref, owner_of, references
from airflow_pipeops.kubernetes import feeds
from airflow_pipeops.kubernetes.feeds import Feeds, Thing

#: One object is asked to reconcile at most once in so many seconds, whoever wants it.
_REQUEST_PAUSE = 10.0


class Cluster(Feeds):
    """What all waits of one event loop for one connection share.

    :param client: of the cluster.
    """

    def __init__(self, client: FluxClient) -> None:
        super().__init__(client.kubernetes, _kept)
        self.client = client
        self._requests: dict[Ref, tuple[float, str]] = {}

    async def get(self, ref: Ref) -> dict[str, Any]:
        """Return an object as the watch of its kind told it last; read it where there is no such watch."""
        found = await self.feed(kind_of(ref.kind), ref.namespace).get(ref.name)
        # A single object names its kind, one out of a list does not.
        return await self.client.get(ref) if found is None else {**found, "kind": ref.kind}

    async def all(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """Return all objects of a kind in a namespace, as a watch told them last; read where there is none."""
        feed = self.begun(kind_of(kind), namespace)
        found = await feed.all() if feed else None
        if found is not None:
            return [{**item, "kind": kind} for item in found]
        async with self.reads:
            return await self.client.all(kind, namespace)

    async def gather(self, ref: Ref) -> Gathered:
        """Return an object and all that decides about it, as it was told last."""
        return await gather(ref, self.get)

    async def confirm(self, ref: Ref) -> Gathered:
        """Return the same, with whatever changes the object unseen by it read now: a watch may lag behind."""
        fresh = {ref}

        async def get(one: Ref) -> dict[str, Any]:
            if one not in fresh:
                return await self.get(one)
            # A thousand waits may end with one commit.
            async with self.reads:
                item = await self.client.get(one)
            fresh.update(owner_of(item) if one.kind == "Kustomization" else references(item))
            return item

        return await gather(ref, get)

    async def request(self, ref: Ref, token: str) -> str:
        """Ask for a reconciliation; a thousand waits for the same object ask once in a while, and not each for itself.

        :return: the token of the request that will be answered.
        """
        now = time.monotonic()
        at, asked = self._requests.get(ref, (-_REQUEST_PAUSE, ""))
        if now - at < _REQUEST_PAUSE and asked.partition(".ask")[1] and token.partition(".ask")[1]:
            return asked
        self._requests[ref] = now, token
        return await self.client.request(ref, token)


def joined(conn_id: str) -> AbstractAsyncContextManager[Cluster]:
    """Share the cluster of a connection with all others in this event loop."""

    async def opened() -> Cluster:
        from airflow_pipeops.flux.hook import FluxHook

        return Cluster(await FluxHook(conn_id).aclient())

    return feeds.joined(("flux", conn_id), opened)


def thing(ref: Ref) -> Thing:
    """Return what a watch calls an object."""
    return kind_of(ref.kind), ref.namespace, ref.name


def _kept(item: dict[str, Any]) -> dict[str, Any]:
    """Return an object without what is large and says nothing here."""
    metadata = {key: value for key, value in map_(item.get("metadata")).items() if key != "managedFields"}
    status = {key: value for key, value in map_(item.get("status")).items() if key != "inventory"}
    return {"metadata": metadata, "spec": item.get("spec"), "status": status}
