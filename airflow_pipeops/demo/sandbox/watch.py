"""Telling watchers what changed, the way Argo CD does it: bounded, and silent about what it drops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_pipeops.base.deadlines import within
from airflow_pipeops.demo.sandbox.runtime.store import EventType
from airflow_pipeops.demo.sandbox.store import Application

Event = dict[str, Any]
Accept = Callable[[Application], bool]
_END = object()


class Subscription:
    """One watcher's queue.

    :param accept: which Applications it is told about.
    :param size: how many events may wait; what comes on top is dropped without a word.
    """

    def __init__(self, accept: Accept, size: int) -> None:
        self.accept = accept
        self.dropped = 0
        self._queue: asyncio.Queue[Any] = asyncio.Queue(size + 1)
        self._size = size
        self._ended = False

    def offer(self, event: Event) -> None:
        """Queue an event, or drop it."""
        if self._queue.qsize() >= self._size:
            self.dropped += 1
        elif not self._ended:
            self._queue.put_nowait(event)

    def end(self) -> None:
        """Let the watcher see the end of the stream, after what is queued."""
        if not self._ended:
            self._ended = True
            self._queue.put_nowait(_END)

    async def next(self, seconds: float) -> Event | None:
        """Return the next event, or ``None`` where none came within ``seconds``.

        :return: the event, or ``None``.
        :raises EOFError: at the end of the stream.
        """
        try:
            event = await within(seconds, self._queue.get())
        except asyncio.TimeoutError:
            return None
        if event is _END:
            raise EOFError
        return event  # type: ignore[no-any-return]


class Broadcaster:
    """Passes each change of an Application on to all watchers.

    :param buffer: events that may wait for one watcher.
    :param lose: asked for each event; where it says yes, nobody hears of it (a fault).
    """

    def __init__(self, buffer: int = 1000, lose: Callable[[Application], bool] | None = None) -> None:
        self.buffer = buffer
        self.closed = False
        self._lose = lose or (lambda application: False)
        self._public: list[Subscription] = []
        self._internal: list[Subscription] = []

    def publish(self, kind: EventType, application: Application) -> None:
        """Tell the watchers; the controller's own waits hear of it even where a fault drops it for the rest."""
        event = {"type": kind, "application": application}
        targets = list(self._internal)
        if any(subscription.accept(application) for subscription in self._public) and not self._lose(
            application
        ):
            targets += self._public
        for subscription in targets:
            if subscription.accept(application):
                subscription.offer(event)

    @contextmanager
    def subscribe(self, accept: Accept, *, internal: bool = False) -> Iterator[Subscription]:
        """Watch until the block ends."""
        subscription = Subscription(accept, self.buffer)
        group = self._internal if internal else self._public
        group.append(subscription)
        if self.closed:
            subscription.end()
        try:
            yield subscription
        finally:
            group.remove(subscription)

    def close(self) -> None:
        """End all streams, and those to come."""
        self.closed = True
        for subscription in [*self._public, *self._internal]:
            subscription.end()
