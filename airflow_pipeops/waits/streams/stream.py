"""The one stream of a key in this event loop: found or made when somebody joins, and kept a while when the last leaves."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from airflow_pipeops.exceptions import PipeOpsError, SystemFailure
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.streams.board import Board, Ticket
from airflow_pipeops.waits.streams.listener import Listener
from airflow_pipeops.waits.streams.pacing import Pace
from airflow_pipeops.waits.streams.questions import Asker
from airflow_pipeops.waits.streams.source import Ref, Source

log = logging.getLogger(__name__)

#: Whoever comes within so many seconds after the end of a stream learns of its error, and asks nothing of the server.
_DEAD = 5.0

Connect = Callable[[], Awaitable[AbstractAsyncContextManager[Source]]]

#: The limits of streams that are yet to be made.
PACE = Pace()

_streams: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, SharedStream]] = WeakKeyDictionary()


class Sight(NamedTuple):
    """What a wait may judge now.

    :param asked_at: when this was asked for, if it is an answer that was not judged yet; the last word must be one.
    :param refreshed: it reflects a refresh that counts for this wait and was not counted yet.
    """

    seen: Observed | Trouble
    asked_at: float | None
    refreshed: bool = False


class SharedStream:
    """A stream and all that hangs on it. Made by :func:`shared_stream`.

    :param name: what it is a stream of, for messages.
    :param connect: makes a source; reads the connection's settings each time.
    """

    def __init__(self, name: str, connect: Connect, pace: Pace) -> None:
        self.name, self.pace = name, pace
        #: What was asked of the server: ``streams``, ``reads``, ``refreshes``.
        self.requests: Counter[str] = Counter()
        #: Why it has ended, if it has.
        self.error: PipeOpsError | None = None
        self._ended_at: float | None = None
        self.users = 0
        self.board = Board(self.clock)
        self.asker = Asker(self.board, pace, self.clock, self.requests)
        self.listener = Listener(name, self.board, pace, self.clock, connect, self.asker.close, self.requests)
        self.asker.listener = self.listener
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.TimerHandle | None = None

    @staticmethod
    def clock() -> float:
        """Return the time; seconds."""
        return time.monotonic()

    # ---- life --------------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """One more uses it."""
        self.users += 1
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if not self._tasks:
            self._tasks = [detached(self._listen()), detached(self._beat())]

    def exit(self) -> None:
        """One less uses it; when nobody does any more, it ends after a while."""
        self.users -= 1
        if self.users == 0:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(self.pace.linger, self.close)

    def close(self) -> None:
        """End it."""
        loop = asyncio.get_running_loop()
        known = _streams.get(loop, {})
        for key in [key for key, stream in known.items() if stream is self]:
            del known[key]
        for task in self._tasks:
            task.cancel()

    async def _listen(self) -> None:
        try:
            await self.listener.run()
        except PipeOpsError as error:
            self._end(error)
        except Exception as error:
            log.exception("%s: the stream failed", self.name)
            self._end(SystemFailure(f"the stream of {self.name} failed: {type(error).__name__}: {error}"))

    async def _beat(self) -> None:
        while self.error is None:
            await asyncio.sleep(self.pace.tick)
            try:
                self.board.flush()
                self.asker.step()
            except Exception:  # the next beat may go well, and without beats nobody would ever be woken
                log.exception("%s: a beat failed", self.name)

    @property
    def dead(self) -> bool:
        """It has ended, and not just now: what ended it may have been mended."""
        return self._ended_at is not None and self.clock() - self._ended_at > _DEAD

    def _end(self, error: PipeOpsError) -> None:
        log.error("%s: ending all waits: %s", self.name, error)
        self.error, self._ended_at = error, self.clock()
        self.board.forget()
        self.board.wake_all()

    # ---- for those who wait ------------------------------------------------------------------------------------------

    def join(self, ref: Ref, interval: float, wake: Callable[[Ticket], None]) -> Ticket:
        """Begin to wait for an application."""
        ticket = Ticket(ref, interval, wake, self.clock())
        self.board.join(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """End a wait."""
        if self.board.leave(ticket):
            self.asker.forget(ticket.ref)

    def sight(self, ticket: Ticket) -> Sight | None:
        """Return what may be judged now; ``None`` where nothing can be said for the moment.

        :return: what is seen, or that nothing has been seen for too long.
        :raises PipeOpsError: where waiting makes no sense.
        """
        if self.error is not None:
            raise self.error
        now, ref = self.clock(), ticket.ref
        failure, entry = self.board.failure(ref), self.board.entry(ref)
        if failure is not None and failure.number > ticket.heard:
            if isinstance(failure.problem, PipeOpsError):
                raise failure.problem
            ticket.heard, ticket.seen_at = failure.number, now
            return Sight(failure.problem, failure.at)
        news = entry is not None and entry.number > ticket.heard
        if entry is not None and (news or (self.listener.proven and entry.told)):
            # A refresh that was asked for before the wait began may show what was before it.
            counts = entry.refresh > ticket.refreshed and entry.refresh_asked_at >= ticket.joined
            ticket.heard, ticket.seen_at = entry.number, now
            ticket.refreshed = max(ticket.refreshed, entry.refresh)
            return Sight(entry.observed, entry.asked_at if news else None, counts)
        patience = self.pace.blind + (2 * ticket.interval if self.listener.polling else 0.0)
        if now - max(ticket.seen_at, self.listener.lost_at or 0.0) < patience:
            return None
        return Sight(Trouble("unreachable", self.listener.why), now)


def shared_stream(key: Hashable, name: str, connect: Connect) -> SharedStream:
    """Return the stream of a key in this event loop; it is made where there is none.

    Whoever uses it calls :meth:`SharedStream.enter` at once, and :meth:`SharedStream.exit` in the end.

    :return: the stream, which may be used by others, too.
    """
    known = _streams.setdefault(asyncio.get_running_loop(), {})
    found = known.get(key)
    if found is None or found.dead:
        found = known[key] = SharedStream(name, connect, PACE)
    return found


def detached(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task outside the context of whoever happens to be first: its log lines are not that trigger's."""
    return contextvars.Context().run(asyncio.ensure_future, work)
