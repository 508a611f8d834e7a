"""Ask by name for what the stream does not tell: the unknown, the long unheard of, the last word, and refreshes.

One question at a time about an application, whoever waits for it; few at the same time; so many per second.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_pipeops.exceptions import PipeOpsError, Unreachable
from airflow_pipeops.waits.status import Trouble
from airflow_pipeops.waits.streams.board import Board, Ticket
from airflow_pipeops.waits.streams.listener import Listener
from airflow_pipeops.waits.streams.pacing import Backoff, Budget, Pace, RefreshGate
from airflow_pipeops.waits.streams.snapshot import Reading
from airflow_pipeops.waits.streams.source import Source, problem_of

log = logging.getLogger(__name__)

#: Something missing or forbidden is asked for again after so long, seconds: twice is an answer.
_AGAIN = 2.0
#: All that is waited for is looked through this often for what is due, seconds.
_ROUND = 1.0


class Asker:
    """The questions of one shared stream."""

    def __init__(self, board: Board, pace: Pace, clock: Callable[[], float], requests: Counter[str]) -> None:
        self.listener: Listener | None = None
        self._board, self._pace, self._clock, self._requests = board, pace, clock, requests
        self._gate = RefreshGate(pace.refresh_pause, pace.refresh_most)
        self._resyncs, self._polls = Budget(pace.resyncs), Budget(pace.polls)
        self._backoff, self._hold_until = Backoff(1.0, pace.pause_most), 0.0
        self._urgent: dict[Any, None] = {}
        self._wanted: dict[Any, None] = {}
        self._reading: dict[Any, asyncio.Task[None]] = {}
        self._refreshing: dict[Any, asyncio.Task[None]] = {}
        self._next_round = 0.0

    def ask(self, ref: Any) -> None:
        """Read an application as soon as possible."""
        self._urgent[ref] = None
        listener, now = self._listening(), self._clock()
        if listener.source is not None and now >= self._hold_until:
            self._read_urgent(listener.source)

    def want_refresh(self, ticket: Ticket, at: float) -> None:
        """Have an application compared anew, not before a moment, and not more often than it should be."""
        ticket.refresh_at = at if ticket.refresh_at is None else min(ticket.refresh_at, at)
        self._wanted[ticket.ref] = None

    def refreshed_before(self, ref: Any, ended_at: float | None, at: float) -> None:
        """Note a refresh that somebody else has asked for, a worker for example."""
        if not self._gate.opens(ref, ended_at):
            self._gate.ask(ref, ended_at, at)

    def forget(self, ref: Any) -> None:
        """Nobody waits for an application any more."""
        self._gate.forget(ref)
        self._urgent.pop(ref, None)

    def step(self) -> None:
        """Ask what is due now."""
        listener = self._listening()
        source, now = listener.source, self._clock()
        if source is None or now < self._hold_until:
            return
        self._read_urgent(source)
        if now >= self._next_round:
            self._next_round = now + _ROUND
            self._round(listener, source, now)
        self._refresh(source, now)

    async def close(self) -> None:
        """End all questions that are under way."""
        tasks = [*self._reading.values(), *self._refreshing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- reads -------------------------------------------------------------------------------------------------------

    def _read_urgent(self, source: Source) -> None:
        for ref in [ref for ref in self._urgent if ref not in self._reading]:
            if len(self._reading) >= self._pace.reads:
                return
            del self._urgent[ref]
            self._start_reading(source, ref)

    def _round(self, listener: Listener, source: Source, now: float) -> None:
        polled: list[tuple[float, Any]] = []
        old: list[tuple[float, Any]] = []
        for ref in self._board.refs:
            entry = self._board.entry(ref)
            if entry is not None and listener.proven and entry.told and self._board.failure(ref) is None:
                if now - entry.heard_at >= self._pace.resync:
                    old.append((entry.heard_at, ref))
            elif ref not in self._reading:
                since, due = self._unheard(listener, ref)
                if now >= due:
                    polled.append((since, ref))
        if len(old) > self._pace.renewal:
            log.info("nothing was heard of %d applications for long: opening the stream anew", len(old))
            listener.renew()
            return
        self._start(source, polled, self._polls, now)
        self._start(source, [one for one in old if one[1] not in self._reading], self._resyncs, now)

    def _unheard(self, listener: Listener, ref: Any) -> tuple[float, float]:
        """Return since when, and from when on it is time to read an application that no stream tells of."""
        interval = min((ticket.interval for ticket in self._board.tickets(ref)), default=_AGAIN)
        failure, entry = self._board.failure(ref), self._board.entry(ref)
        if failure is not None:
            return failure.at, failure.at + (_AGAIN if _settled(failure.problem) else max(_AGAIN, interval))
        if entry is not None:
            seen_else = listener.arrived or listener.polling
            return entry.heard_at, entry.heard_at + interval if seen_else else math.inf
        # The first answer also says which namespace is meant by none.
        first = self._board.home is None and not ref.namespace
        return 0.0, 0.0 if first or listener.arrived or listener.polling else math.inf

    def _start(self, source: Source, due: list[tuple[float, Any]], budget: Budget, now: float) -> None:
        for _, ref in sorted(due, key=lambda item: item[0]):
            if len(self._reading) >= self._pace.reads or not budget.take(now):
                self._next_round = now
                return
            self._start_reading(source, ref)

    def _start_reading(self, source: Source, ref: Any) -> None:
        self._requests["reads"] += 1
        self._run(self._reading, ref, self._ask(source, ref, source.read(ref)))

    async def _ask(
        self, source: Source, ref: Any, question: Awaitable[Reading | None], *, refresh: bool = False
    ) -> None:
        asked_at = self._clock()
        try:
            reading = await question
        except PipeOpsError as error:
            self._failed(source, ref, error)
            return
        self._backoff.reset()
        self._listening().accepted(source)
        if reading is not None:
            self._board.answered(ref, reading, asked_at, refreshed=refresh)

    def _failed(self, source: Source, ref: Any, error: PipeOpsError) -> None:
        if source.refused(error):
            self._urgent[ref] = None
            self._listening().refuse(source, error)
            return
        if isinstance(error, Unreachable):
            self._hold_until = self._clock() + self._backoff.next()
        self._board.failed(ref, problem_of(error))

    # ---- refreshes ---------------------------------------------------------------------------------------------------

    def _refresh(self, source: Source, now: float) -> None:
        due: list[tuple[float, Any]] = []
        for ref in list(self._wanted):
            entry = self._board.entry(ref)
            news = entry.number if entry else 0
            # What was wanted before the news that is not judged yet may not be wanted any more.
            wanted = [
                t.refresh_at for t in self._board.tickets(ref) if t.refresh_at is not None and t.heard >= news
            ]
            if not wanted:
                del self._wanted[ref]
            elif ref not in self._refreshing:
                moment = max(min(wanted), self._gate.opens(ref, self._ended(ref)))
                if moment <= now:
                    due.append((moment, ref))
        for _, ref in sorted(due, key=lambda item: item[0]):
            if len(self._refreshing) >= self._pace.refreshes:
                return
            del self._wanted[ref]
            self._gate.ask(ref, self._ended(ref), now)
            for ticket in self._board.tickets(ref):
                ticket.refresh_at = None
            self._requests["refreshes"] += 1
            self._run(self._refreshing, ref, self._ask(source, ref, source.refresh(ref), refresh=True))

    def _ended(self, ref: Any) -> float | None:
        entry = self._board.entry(ref)
        operation = entry.observed.operation if entry else None
        return operation.finished_at if operation else None

    # ---- plumbing ----------------------------------------------------------------------------------------------------

    def _run(self, tasks: dict[Any, asyncio.Task[None]], ref: Any, work: Any) -> None:
        task = tasks[ref] = asyncio.ensure_future(work)

        def ended(done: asyncio.Task[None]) -> None:
            tasks.pop(ref, None)
            if done.cancelled():
                return
            if done.exception() is not None:
                log.error("asking about %s failed", ref, exc_info=done.exception())
                self._board.failed(
                    ref, Trouble("nonsense", f"asking failed: {type(done.exception()).__name__}")
                )
            self.step()  # a place is free: the next question does not wait for the next beat

        task.add_done_callback(ended)

    def _listening(self) -> Listener:
        assert self.listener is not None
        return self.listener


def _settled(problem: Trouble | PipeOpsError) -> bool:
    return isinstance(problem, Trouble) and problem.kind in ("missing", "denied")
