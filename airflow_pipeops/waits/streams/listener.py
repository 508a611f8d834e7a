"""Hold the connection: listen, come back with growing pauses, read the credential anew when it is refused."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing

from airflow_pipeops.exceptions import PipeOpsError, Unreachable
from airflow_pipeops.waits.streams.board import Board
from airflow_pipeops.waits.streams.pacing import Backoff, Pace
from airflow_pipeops.waits.streams.source import Source

log = logging.getLogger(__name__)

#: After so many failures in a row a stream does not work here, and the server is polled.
POLL_AFTER = 3
#: A session that held for so long was a good one; seconds.
GOOD = 30.0
#: Where a stream works but is cut again and again, it is taken up after so long at most.
_CUT = 5.0
#: No application that was not told of before for so long, and all that a new stream tells first has been told.
_QUIET = 1.0


class Listener:
    """The connection of one shared stream.

    :param connect: makes a source; reads the connection's settings each time.
    :param ending: called with the source before it is closed; nothing may use it afterwards.
    """

    def __init__(
        self,
        name: str,
        board: Board,
        pace: Pace,
        clock: Callable[[], float],
        connect: Callable[[], Awaitable[AbstractAsyncContextManager[Source]]],
        ending: Callable[[], Awaitable[None]],
        requests: Counter[str],
    ) -> None:
        self.source: Source | None = None
        #: The open stream has told of something, so it works.
        self.proven = False
        #: When the open stream was opened, and since when nothing can be seen.
        self.opened_at: float | None = None
        self.lost_at: float | None = clock()
        #: Why nothing can be seen.
        self.why = "nothing was heard yet"
        self.failures = 0
        self._name, self._board, self._pace, self._clock = name, board, pace, clock
        self._connect, self._ending, self._requests = connect, ending, requests
        self._interrupted = asyncio.Event()
        self._refusal: PipeOpsError | None = None
        self._doubted = False
        self._heard_at = clock()

    @property
    def polling(self) -> bool:
        """Whether applications are read at intervals, since no stream tells of them."""
        source = self.source
        if source is None or not source.polls:
            return False
        return not source.streams or (self.failures >= POLL_AFTER and not self._lasting) or self._mute

    @property
    def _lasting(self) -> bool:
        """The open stream has told of something, and has held for long enough to be of use."""
        late = self.opened_at is not None and self._clock() - self.opened_at >= self._pace.arrival
        return late and self.proven

    @property
    def _mute(self) -> bool:
        """A stream is open and has told of nothing: a proxy may be keeping it back."""
        late = self.opened_at is not None and self._clock() - self.opened_at >= self._pace.arrival
        return late and not self.proven

    @property
    def arrived(self) -> bool:
        """Whether the open stream has had the time to tell of everything."""
        now, opened = self._clock(), self.opened_at
        if opened is None or now - opened < self._pace.arrival:
            return False
        return now - self._heard_at >= _QUIET or now - opened >= GOOD

    def renew(self) -> None:
        """Open the stream anew."""
        self._interrupted.set()

    def refuse(self, source: Source, error: PipeOpsError) -> None:
        """A question was refused for its credential; the next connection shows if that is so for all."""
        if source is self.source and self._refusal is None:
            self._refusal = error
            self._interrupted.set()

    def accepted(self, source: Source) -> None:
        """A question was answered: the credential is good."""
        if source is self.source and self._refusal is None:
            self._doubted = False

    async def run(self) -> None:
        """Listen for ever.

        :raises PipeOpsError: where only a person can mend it: a credential that was refused twice, a connection that
            makes no sense.
        """
        backoff = Backoff(self._pace.pause, self._pace.pause_most)
        while True:
            try:
                async with await self._connect() as source:
                    self.source, self._refusal = source, None
                    self._board.home = source.home or self._board.home
                    try:
                        await self._sessions(source, backoff)
                    finally:
                        await self._ending()
                        self.source = None
            except PipeOpsError as error:
                if not error.retryable:
                    raise
                self._lose(str(error))
            await asyncio.sleep(backoff.next())

    async def _sessions(self, source: Source, backoff: Backoff) -> None:
        """Listen again and again; return where the source should be made anew."""
        tries = 0
        while tries < POLL_AFTER:
            self._interrupted.clear()
            began = self._clock()
            error = await self._session(source)
            refusal = self._refusal or (error if error and source.refused(error) else None)
            if refusal is not None:
                if self._doubted:
                    raise refusal
                self._doubted = True
                self._board.forget()
                self._lose(str(refusal))
                return
            if self.proven:
                # What it told says nothing any more.
                self._board.forget()
            if error is None:
                continue
            pause, lasted = backoff.next(), self._clock() - began
            if self.proven:
                tries, pause = 0, min(pause, _CUT)
                # One that tells what there is and ends at once is of no use: what it told is forgotten with it.
                self.failures = self.failures + 1 if lasted < self._pace.arrival else 0
                if lasted >= GOOD:
                    backoff.reset()
            else:
                tries, self.failures = tries + 1, self.failures + 1
            self._lose(str(error))
            await asyncio.sleep(pause)

    async def _session(self, source: Source) -> PipeOpsError | None:
        """Listen once; return why it ended, ``None`` where it was interrupted."""
        listening = asyncio.ensure_future(self._listen(source) if source.streams else asyncio.Event().wait())
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait({listening, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, interrupted):
                task.cancel()
            results = await asyncio.gather(listening, interrupted, return_exceptions=True)
            self.opened_at = None
        error = results[0]
        if isinstance(error, PipeOpsError):
            return error
        if isinstance(error, Exception):
            log.warning("%s: listening failed", self._name, exc_info=error)
            return Unreachable(f"listening failed: {type(error).__name__}")
        return None

    async def _listen(self, source: Source) -> None:
        self.proven, self.opened_at = False, self._clock()
        self._requests["streams"] += 1
        async with aclosing(source.events()) as events:
            async for reading in events:
                if not self.proven:
                    self.proven, self.lost_at = True, None
                    self.accepted(source)
                    log.info("%s: listening", self._name)
                if self._board.told(reading):
                    self._heard_at = self._clock()
                # Many events may lie in a buffer already: others come to their turn in between.
                await asyncio.sleep(0)
        raise Unreachable("the stream ended")

    def _lose(self, why: str) -> None:
        self.proven, self.why = False, why
        if self.lost_at is None:
            self.lost_at = self._clock()
        log.warning("%s: not listening, and coming back: %s", self._name, why)
