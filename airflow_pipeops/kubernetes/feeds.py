"""One watch per connection, namespace and kind for all waits of a triggerer, and what it has told.

A thousand waits cost one connection per kind. Nothing that was told outlives the connection that told it; while there is
none, nobody asks on his own account, so a server that is down meets no storm. Where watching is not allowed, each wait
polls for itself. A server may drop an event silently: the list is read again now and then, and what a watch says is never
the last word, since a wait ends on objects that were read for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.retries import jittered
from airflow_pipeops.exceptions import AccessDenied, BadResponse, NotFound, PipeOpsError, Unreachable
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import Kind, name_of, version_of
from airflow_pipeops.kubernetes.watches import WATCH_SECONDS
from airflow_pipeops.waits.controller import Controller
from airflow_pipeops.waits.status import Observed
from airflow_pipeops.waits.streams.listener import GOOD
from airflow_pipeops.waits.streams.pacing import Backoff
from airflow_pipeops.waits.streams.stream import detached
from airflow_pipeops.waits.wait import Wait

log = logging.getLogger(__name__)

#: Waits end one after another: the connection is kept for so long after the last one. Seconds.
LINGER = 30.0
#: A watch has so long to tell of everything that there is.
ARRIVAL = 10.0
#: After so long, what a watch has told is read again: an event may have been dropped.
RELIST = 300.0
#: Pauses before a broken watch is taken up again, and before a forbidden one is tried again.
FIRST_PAUSE, LONGEST_PAUSE, REFUSED_PAUSE = 0.5, 30.0, 300.0
#: Where a watch tells of changes, a wait is judged again after so long all the same: some things are so by lasting.
LONGEST = 15.0
#: Many changes in a row are judged together.
TICK = 0.25
#: Reads at the same time, beside the watches.
_READS = 8

FeedState = Literal["starting", "live", "lost", "refused"]
#: One object: its kind, namespace and name.
Thing = tuple[Kind, str, str]


class Feed:
    """What the watch of one kind in one namespace has told.

    :param kept: what is kept of an object.
    :param tell: is told which object has changed; ``None`` if all was read anew.
    """

    def __init__(
        self,
        client: KubernetesClient,
        kind: Kind,
        namespace: str,
        kept: Callable[[dict[str, Any]], dict[str, Any]],
        tell: Callable[[Thing | None], None],
    ) -> None:
        self.kind, self.namespace = kind, namespace
        #: And why, where it is lost or refused.
        self.state: FeedState = "starting"
        self.why = ""
        self._client, self._kept, self._tell = client, kept, tell
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
                while True:
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
            except Exception as error:
                # Nobody would ever be woken by a watch that is dead: until it is tried again, each wait reads for itself.
                log.exception("The watch of %s in %s failed", self.kind, self.namespace)
                self._end("refused", BadResponse(f"{type(error).__name__}: {error}"))
                pauses = refused
            await asyncio.sleep(pauses.next())

    async def _follow(self) -> None:
        """Read the list, which takes the place of all that was known, and then every change, for a while."""
        found = await self._client.find(self.kind, self.namespace)
        self._objects = {name_of(item)[1]: self._kept(item) for item in found.items}
        self._begin()
        version, end = found.resource_version, time.monotonic() + jittered(RELIST, 0.8)
        while time.monotonic() < end:
            watch = self._client.watch(
                self.kind, self.namespace, resource_version=version, seconds=WATCH_SECONDS
            )
            async for event in watch:
                item = event["object"]
                version = version_of(item) or version
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
        name = name_of(item)[1]
        if event == "DELETED":
            self._objects.pop(name, None)
        else:
            self._objects[name] = self._kept(item)
        self._tell((self.kind, self.namespace, name))

    def _end(self, state: FeedState, error: PipeOpsError) -> None:
        self.state, self.why = state, str(error)
        self._objects.clear()
        self._settled.set()
        log.warning("The watch of %s in %s is %s: %s", self.kind, self.namespace, state, error)
        if state == "refused":
            self._tell(None)


class Feeds:
    """What all waits of one event loop for one connection share.

    :param client: of the cluster; closed with this.
    :param kept: what is kept of an object that was told of: all that a judgement reads, and nothing that is large.
    """

    def __init__(self, client: KubernetesClient, kept: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.kubernetes, self.users = client, 0
        #: Reads at the same time: a thousand waits may end with one change.
        self.reads = asyncio.Semaphore(_READS)
        self._kept = kept
        self._feeds: dict[tuple[Kind, str], Feed] = {}
        self._listeners: defaultdict[Thing, set[Listener]] = defaultdict(set)

    def polled(self, things: Iterable[Thing]) -> bool:
        """Whether any of these objects must be polled, since watching its kind is not allowed there."""
        feeds = (self._feeds.get((kind, namespace)) for kind, namespace, _ in things)
        return any(feed is not None and feed.state == "refused" for feed in feeds)

    def feed(self, kind: Kind, namespace: str) -> Feed:
        """Return the watch of a kind in a namespace; it begins with the first who asks."""
        if (kind, namespace) not in self._feeds:
            self._feeds[kind, namespace] = Feed(self.kubernetes, kind, namespace, self._kept, self._tell)
        return self._feeds[kind, namespace]

    def begun(self, kind: Kind, namespace: str) -> Feed | None:
        """Return the watch of a kind in a namespace, if there is one."""
        return self._feeds.get((kind, namespace))

    async def close(self) -> None:
        """End all watches and the connection."""
        for feed in self._feeds.values():
            await feed.close()
        await self.kubernetes.__aexit__(None, None, None)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        """Return who is told of changes of the objects that it names."""
        listener = Listener(self._listeners)
        try:
            yield listener
        finally:
            listener.concerns(set())

    def _tell(self, thing: Thing | None) -> None:
        """Wake whom a change concerns; everybody if the change is that all was read anew."""
        concerned = self._listeners.values() if thing is None else [self._listeners.get(thing, set())]
        for listeners in list(concerned):
            for listener in listeners:
                listener.woken.set()


class Listener:
    """Is told of changes, also of those between two questions."""

    def __init__(self, registry: defaultdict[Thing, set[Listener]]) -> None:
        self.woken = asyncio.Event()
        self._registry, self._things = registry, set[Thing]()

    def concerns(self, things: set[Thing]) -> None:
        """Name the objects; of one that was not named before, a change may have been missed."""
        if things - self._things:
            self.woken.set()
        for thing in self._things - things:
            self._registry[thing].discard(self)
            if not self._registry[thing]:
                del self._registry[thing]
        for thing in things - self._things:
            self._registry[thing].add(self)
        self._things = set(things)

    async def news(self, seconds: float) -> None:
        """Return when one of them has changed, or after so many seconds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await within(seconds, self.woken.wait())


async def until_decided(
    feeds: Feeds,
    wait: Wait,
    told: Controller,
    read: Controller,
    concerned: Callable[[Observed], tuple[set[Thing], bool]],
    poll_interval: float,
) -> None:
    """Judge a wait at each change that watches tell of, until the verdict is in.

    :param told: looks at what watches told last.
    :param read: looks at what is read for it; a watch may lag behind, so this one ends the wait.
    :param concerned: which objects decide about what was seen, and whether it must be looked at soon all the same.
    :param poll_interval: seconds between two looks, where nothing can be watched.
    """
    things: set[Thing] = set()
    with feeds.listening() as listener:
        while True:
            listener.woken.clear()
            seen, soon = await told.look(wait.ref), True
            if isinstance(seen, Observed):
                things, soon = concerned(seen)
                listener.concerns(things)
            verdict = await wait.judge(seen)
            await told.refresh(wait)
            if verdict.state != "wait":
                verdict = await wait.judge(await read.look(wait.ref))
                await read.refresh(wait)
                if verdict.state != "wait":
                    return
            polling = feeds.polled(things)
            await listener.news(wait.look_again_in(poll_interval if soon or polling else LONGEST))
            if not polling:
                await asyncio.sleep(TICK)


class _Shared:
    """What is shared in one event loop, by its key."""

    def __init__(self) -> None:
        self.feeds: dict[Hashable, Any] = {}
        self.opening = asyncio.Lock()


_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()
_CLOSING: set[asyncio.Task[None]] = set()

Some = TypeVar("Some", bound=Feeds)


@asynccontextmanager
async def joined(key: Hashable, opened: Callable[[], Awaitable[Some]]) -> AsyncIterator[Some]:
    """Share the watches of a connection with all others in this event loop.

    :param key: of the connection, and of what is kept of its objects.
    :param opened: opens them, where nobody has.
    :yield: the watches.
    """
    shared = _SHARED.setdefault(asyncio.get_running_loop(), _Shared())
    async with shared.opening:
        # A connection is read once, and not by each of a thousand waits that begin together.
        feeds = shared.feeds.get(key)
        if feeds is None:
            feeds = shared.feeds[key] = await opened()
    feeds.users += 1
    try:
        yield feeds
    finally:
        feeds.users -= 1
        if not feeds.users:
            task = detached(_close_later(shared.feeds, key, feeds))
            _CLOSING.add(task)
            task.add_done_callback(_CLOSING.discard)


async def _close_later(known: dict[Hashable, Any], key: Hashable, feeds: Feeds) -> None:
    await asyncio.sleep(LINGER)
    if not feeds.users and known.get(key) is feeds:
        del known[key]
        await feeds.close()
