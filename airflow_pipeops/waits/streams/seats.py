"""Where the waits sit: woken for their own applications alone, and judged when something may have changed for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.streams.board import Ticket
from airflow_pipeops.waits.streams.source import Ref
from airflow_pipeops.waits.streams.stream import SharedStream

#: An answer that is to be the last word is asked for again after so long, seconds.
_CONFIRM_AGAIN = 5.0
#: An answer to a question that is older than this, seconds, may be about what was before the judgement was due.
_RECENT = 1.0


class Judge(Protocol):
    """Judges what is seen of one application."""

    @property
    def ref(self) -> Ref:
        """Which application."""

    @property
    def over(self) -> bool:
        """Whether the judgement is in, as far as was seen."""

    @property
    def failed(self) -> bool:
        """Whether it is in, and bad."""

    async def judge(self, seen: Observed | Trouble) -> Any:
        """Judge one look."""

    def again_in(self) -> float:
        """Return the seconds after which to judge again though nothing new is seen."""

    def refresh_in(self) -> float | None:
        """Return the seconds after which another comparison is wanted, ``None`` for none."""

    def asked_before(self) -> tuple[float, float | None] | None:
        """Return how many seconds ago this wait asked for a refresh before it came here, if it did.

        :return: and when the application's last operation had ended then, by the server's clock.
        """


class _Place:
    __slots__ = ("asked_at", "due", "ended", "judge", "sure_at", "ticket")

    def __init__(self, judge: Judge, ticket: Ticket) -> None:
        self.judge, self.ticket = judge, ticket
        self.due = 0.0
        #: When the answer was asked for that the last word rests on, and since when the last word has been the same.
        self.asked_at, self.sure_at = 0.0, 0.0
        #: The judgement was in at this moment, and is to be confirmed by an answer to a later question.
        self.ended: float | None = None


class Seat:
    """The place of one trigger, which may wait for several applications.

    :param interval: seconds between two looks, where it comes to looking.
    """

    def __init__(self, stream: SharedStream, judges: Sequence[Judge], interval: float) -> None:
        self._stream = stream
        self._woken: asyncio.Future[None] | None = None
        self._places: dict[Ticket, _Place] = {}
        self._open: dict[Ticket, None] = {}
        stream.enter()
        for judge in judges:
            ticket = stream.join(judge.ref, interval, self._wake)
            self._places[ticket] = _Place(judge, ticket)
            self._open[ticket] = None
            before = judge.asked_before()
            if before is not None:
                stream.asker.refreshed_before(judge.ref, before[1], stream.clock() - before[0])
        self._news: dict[Ticket, None] = dict(self._open)

    def close(self) -> None:
        """Leave."""
        for ticket in self._places:
            self._stream.leave(ticket)
        self._stream.exit()

    async def follow(self, *, fail_fast: bool = False) -> None:
        """Judge until everything is decided, or with ``fail_fast`` until the first judgement is bad.

        :raises PipeOpsError: where waiting makes no sense.
        """
        while self._open:
            await self._pause()
            now = self._stream.clock()
            news, self._news = self._news, {}
            for ticket in [t for t in self._open if t in news or self._places[t].due <= now]:
                place = self._places[ticket]
                if await self._look(place):
                    del self._open[ticket]
                    if fail_fast and place.judge.failed:
                        return
                    if not self._open:
                        self._look_again()

    async def _look(self, place: _Place) -> bool:
        """Judge one application; whether it is decided for good."""
        ticket, judge, stream = place.ticket, place.judge, self._stream
        ticket.refresh_at = None
        sight = stream.sight(ticket)
        if sight is None:
            place.due = stream.clock() + stream.pace.blind
            return False
        seen = sight.seen
        if sight.refreshed and isinstance(seen, Observed):
            seen = replace(seen, refreshed=True)
        await judge.judge(seen)
        if not judge.over:
            place.ended, place.sure_at = None, 0.0
            place.due = stream.clock() + judge.again_in()
            self._want_refresh(ticket, judge)
            return False
        return self._last_word(place, sight.asked_at)

    def _last_word(self, place: _Place, asked_at: float | None) -> bool:
        """Whether a judgement was reached on an answer that was asked for late enough, and not on hearsay."""
        now = self._stream.clock()
        if asked_at is not None and asked_at >= (now - _RECENT if place.ended is None else place.ended):
            place.asked_at, place.sure_at = asked_at, place.sure_at or now
            return True
        if place.ended is None:
            place.ended = now
        place.due = now + _CONFIRM_AGAIN
        self._stream.asker.ask(place.ticket.ref)
        return False

    def _look_again(self) -> None:
        """Open again what was decided on an answer from before the last one was: all must have been so at one moment."""
        last = max(self._places.values(), key=lambda place: place.sure_at)
        if any(place.judge.failed for place in self._places.values()):
            return
        for ticket, place in self._places.items():
            if place is not last and place.asked_at < last.sure_at:
                self._open[ticket] = None
                place.ended, place.due = last.sure_at, self._stream.clock() + _CONFIRM_AGAIN
                self._stream.asker.ask(ticket.ref)

    def _want_refresh(self, ticket: Ticket, judge: Judge) -> None:
        wanted = judge.refresh_in()
        if wanted is None:
            ticket.refresh_at = None
        else:
            self._stream.asker.want_refresh(ticket, self._stream.clock() + wanted)

    def _wake(self, ticket: Ticket) -> None:
        self._news[ticket] = None
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _pause(self) -> None:
        """Return when there is news, or when something is due."""
        if any(ticket in self._open for ticket in self._news):
            return
        due = min(self._places[ticket].due for ticket in self._open)
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        timer = loop.call_later(max(0.0, due - self._stream.clock()), self._time_is_up, self._woken)
        try:
            await self._woken
        finally:
            timer.cancel()
            self._woken = None

    @staticmethod
    def _time_is_up(woken: asyncio.Future[None]) -> None:
        if not woken.done():
            woken.set_result(None)
