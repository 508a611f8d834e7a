"""One watch per connection, namespace and kind for all waits of a triggerer, and what it has told.

A thousand waits cost one connection per kind. Nothing that was told outlives the connection that told it; while there is
none, nobody asks on his own account, so a server that is down meets no storm. Where watching is not allowed, each wait
polls for itself. What a watch says is never the last word: a wait ends on objects that were read for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from weakref import WeakKeyDictionary

from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.exceptions import AccessDenied, NotFound, PipeOpsError, Unreachable
from airflow_pipeops.flux.client import FluxClient, Gathered, gather, kind_of
from airflow_pipeops.flux.kinds import Ref, owner_of, references
from airflow_pipeops.waits.streams.listener import GOOD
from airflow_pipeops.waits.streams.pacing import Backoff
from airflow_pipeops.waits.streams.stream import detached

log = logging.getLogger(__name__)

#: Waits end one after another: the connection is kept for so long after the last one. Seconds.
LINGER = 30.0
#: A watch has so long to tell of everything that there is.
ARRIVAL = 10.0
#: Pauses before a broken watch is taken up again, and before a forbidden one is tried again.
FIRST_PAUSE, LONGEST_PAUSE, REFUSED_PAUSE = 0.5, 30.0, 300.0

#: Reads at the same time, beside the watches.
_READS = 8
#: One object is asked to reconcile at most once in so many seconds, whoever wants it.
_REQUEST_PAUSE = 10.0


FeedState = Literal["starting", "live", "lost", "refused"]


class Feed:
    """What the watch of one kind in one namespace has told."""

    def __init__(self, client: FluxClient, kind: str, namespace: str, tell: Any) -> None:
        self.kind, self.namespace = kind, namespace
        #: And why, where it is lost or refused.
        self.state: FeedState = "starting"
        self.why = ""
        self._client, self._tell = client, tell
        self._objects: dict[str, dict[str, Any]] = {}
        self._settled = asyncio.Event()
        self._task = detached(self._run())

    async def get(self, name: str) -> dict[str, Any] | None:
        """Return an object; ``None`` where only a question of one's own can tell.

        :return: the object.
        :raises NotFound: if it is not there.
        :raises Unreachable: while the watch is lost.
        """
        if not await self._live():
            return None
        found = self._objects.get(name)
        if found is None:
            raise NotFound(f"{self.kind} {self.namespace}/{name} does not exist")
        return found

    async def all(self) -> list[dict[str, Any]] | None:
        """Return all objects; ``None`` where only a question of one's own can tell.

        :return: the objects.
        :raises Unreachable: while the watch is lost.
        """
        return list(self._objects.values()) if await self._live() else None

    async def close(self) -> None:
        """Stop watching."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _live(self) -> bool:
        """Whether the watch tells; it may need a moment to begin."""
        if self.state == "starting":
            with contextlib.suppress(asyncio.TimeoutError):
                await within(ARRIVAL, self._settled.wait())
        if self.state in ("live", "refused"):
            return self.state == "live"
        raise Unreachable(
            f"the watch of {self.kind} in {self.namespace} is {self.state}: {self.why or 'no answer yet'}"
        )

    async def _run(self) -> None:
        backoff, refused = Backoff(FIRST_PAUSE, LONGEST_PAUSE), Backoff(REFUSED_PAUSE, REFUSED_PAUSE)
        while True:
            began, pauses = time.monotonic(), backoff
            try:
                await self._follow()
            except (AccessDenied, NotFound) as error:
                # Also a kind that this cluster does not serve.
                self._end("refused", error)
                pauses = refused
            except PipeOpsError as error:
                # Each beginning reads the whole list: one that is cut at once is none that went well.
                if time.monotonic() - began >= GOOD:
                    backoff.reset()
                self._end("lost", error)
            await asyncio.sleep(pauses.next())

    async def _follow(self) -> None:
        """Read the list, then every change; each list takes the place of all that was known."""
        kind = kind_of(self.kind)
        found = await self._client.kubernetes.find(kind, self.namespace)
        self._objects = {_name(item): self._kept(item) for item in found.items}
        self._begin()
        version = found.resource_version
        while True:
            async for event in self._client.kubernetes.watch(kind, self.namespace, resource_version=version):
                item = event["object"]
                version = text(map_(item.get("metadata")).get("resourceVersion")) or version
                if event["type"] != "BOOKMARK":
                    self._take(event["type"], item)
            await asyncio.sleep(random.uniform(0.05, 0.2))

    def _begin(self) -> None:
        if self.state != "live":
            log.info("Watching %s in %s", self.kind, self.namespace)
        self.state, self.why = "live", ""
        self._settled.set()
        self._tell(None)

    def _take(self, event: str, item: dict[str, Any]) -> None:
        name = _name(item)
        if event == "DELETED":
            self._objects.pop(name, None)
        else:
            self._objects[name] = self._kept(item)
        self._tell(Ref(self.kind, self.namespace, name))

    def _kept(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return an object without what is large and says nothing here."""
        metadata = {key: value for key, value in map_(item.get("metadata")).items() if key != "managedFields"}
        status = {key: value for key, value in map_(item.get("status")).items() if key != "inventory"}
        return {"kind": self.kind, "metadata": metadata, "spec": item.get("spec"), "status": status}

    def _end(self, state: FeedState, error: PipeOpsError) -> None:
        self.state, self.why = state, str(error)
        self._objects.clear()
        self._settled.set()
        log.warning("The watch of %s in %s is %s: %s", self.kind, self.namespace, state, error)
        if state == "refused":
            self._tell(None)


class Cluster:
    """What all waits of one event loop for one connection share.

    :param client: of the cluster.
    """

    def __init__(self, client: FluxClient) -> None:
        self.client, self.users = client, 0
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._listeners: defaultdict[Ref, set[Listener]] = defaultdict(set)
        self._reads = asyncio.Semaphore(_READS)
        self._requests: dict[Ref, tuple[float, str]] = {}

    def polled(self, refs: Iterable[Ref]) -> bool:
        """Whether any of these objects must be polled, since watching its kind is not allowed there."""
        feeds = (self._feeds.get((ref.kind, ref.namespace)) for ref in refs)
        return any(feed is not None and feed.state == "refused" for feed in feeds)

    async def get(self, ref: Ref) -> dict[str, Any]:
        """Return an object as the watch of its kind told it last; read it where there is no such watch."""
        found = await self._feed(ref.kind, ref.namespace).get(ref.name)
        return await self.client.get(ref) if found is None else found

    async def all(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """Return all objects of a kind in a namespace, as a watch told them last; read where there is none."""
        feed = self._feeds.get((kind, namespace))
        found = await feed.all() if feed else None
        if found is not None:
            return found
        async with self._reads:
            return await self.client.all(kind, namespace)

    def _feed(self, kind: str, namespace: str) -> Feed:
        key = (kind, namespace)
        if key not in self._feeds:
            self._feeds[key] = Feed(self.client, kind, namespace, self._tell)
        return self._feeds[key]

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
            async with self._reads:
                item = await self.client.get(one)
            fresh.update(owner_of(item) if one.kind == "Kustomization" else references(item))
            return item

        return await gather(ref, get)

    async def close(self) -> None:
        """End all watches and the connection."""
        for feed in self._feeds.values():
            await feed.close()
        await self.client.__aexit__(None, None, None)

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

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        """Return who is told of changes of the objects that it names."""
        listener = Listener(self._listeners)
        try:
            yield listener
        finally:
            listener.concerns(set())

    def _tell(self, ref: Ref | None) -> None:
        """Wake whom a change concerns; everybody if the change is that all was read anew."""
        concerned = self._listeners.values() if ref is None else [self._listeners.get(ref, set())]
        for listeners in list(concerned):
            for listener in listeners:
                listener.woken.set()


class Listener:
    """Is told of changes, also of those between two questions."""

    def __init__(self, registry: defaultdict[Ref, set[Listener]]) -> None:
        self.woken = asyncio.Event()
        self._registry, self._refs = registry, set[Ref]()

    def concerns(self, refs: set[Ref]) -> None:
        """Name the objects; of one that was not named before, a change may have been missed."""
        if refs - self._refs:
            self.woken.set()
        for ref in self._refs - refs:
            self._registry[ref].discard(self)
            if not self._registry[ref]:
                del self._registry[ref]
        for ref in refs - self._refs:
            self._registry[ref].add(self)
        self._refs = set(refs)

    async def news(self, seconds: float) -> None:
        """Return when one of them has changed, or after so many seconds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await within(seconds, self.woken.wait())


class Shared:
    """The clusters of one event loop, by connection."""

    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.opening = asyncio.Lock()


_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, Shared] = WeakKeyDictionary()


@asynccontextmanager
async def joined(conn_id: str) -> AsyncIterator[Cluster]:
    """Share the cluster of a connection with all others in this event loop."""
    shared = _SHARED.setdefault(asyncio.get_running_loop(), Shared())
    async with shared.opening:
        # A connection is read once, and not by each of a thousand waits that begin together.
        cluster = shared.clusters.get(conn_id)
        if cluster is None:
            from airflow_pipeops.flux.hook import FluxHook

            cluster = shared.clusters[conn_id] = Cluster(await FluxHook(conn_id).aclient())
    cluster.users += 1
    try:
        yield cluster
    finally:
        cluster.users -= 1
        if not cluster.users:
            task = detached(_close_later(shared.clusters, conn_id, cluster))
            _CLOSING.add(task)
            task.add_done_callback(_CLOSING.discard)


_CLOSING: set[asyncio.Task[None]] = set()


async def _close_later(clusters: dict[str, Cluster], conn_id: str, cluster: Cluster) -> None:
    await asyncio.sleep(LINGER)
    if not cluster.users and clusters.get(conn_id) is cluster:
        del clusters[conn_id]
        await cluster.close()


def _name(item: dict[str, Any]) -> str:
    return text(map_(item.get("metadata")).get("name"))
