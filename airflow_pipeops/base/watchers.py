"""What all event triggers of an :class:`~airflow.sdk.AssetWatcher` share: recall, keep, key, pause, serialise.

A watcher looks for ever, and tells what is new. What it has told is kept in the state store of its assets, but only once
Airflow has confirmed that the events are in its database: a triggerer that is killed in between tells them again and does
not lose them. Each event has a ``key`` that is the same when it is told again, so that whoever listens can drop it.

Airflow confirms events of *shared streams* only. A watcher therefore is the one subscriber of a stream of its own, whose
items are turns to look. Where nothing confirms (a test, or a loop over :meth:`Watcher.run`), an event counts as taken when
the next one is asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.redaction import cleaned

#: The longest pause between two looks at what does not answer, in seconds.
LONGEST_PAUSE = 300.0


class Watcher(BaseEventTrigger):
    """Looks for ever, and yields an event for each piece of news.

    A subclass gives :attr:`arguments`, :attr:`subject`, ``poll_interval`` and :meth:`look`; :meth:`source` where looks
    share something, such as a client.
    """

    #: Names of the constructor's arguments, which are attributes, too.
    arguments: ClassVar[tuple[str, ...]] = ()

    #: Seconds between two looks.
    poll_interval: float

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self._memory: dict[str, Any] = {}
        self._asked: set[str] = set()
        self._read: set[str] = set()
        self._changed: dict[str, Any] = {}
        self._owed: dict[str, Any] = {}

    # ---- what a subclass gives ---------------------------------------------------------------------------------------

    @property
    def subject(self) -> str:
        """What is looked at, in a log line."""
        raise NotImplementedError

    def source(self) -> AbstractAsyncContextManager[Any]:
        """Return what looks share; it is opened anew after a look that failed."""
        return nullcontext()

    def look(self, source: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Look once for what is new, and :meth:`remember` each piece of it after it was yielded.

        :param source: what :meth:`source` has opened.
        :yield: the payload of each event.
        """
        raise NotImplementedError

    def interval(self) -> float:
        """Return the seconds until the next look."""
        return self.poll_interval

    # ---- memory ------------------------------------------------------------------------------------------------------

    async def recall(self, name: str) -> tuple[Any, bool]:
        """Return what is remembered under a name.

        A store that cannot be read stops nothing, and is asked again at the next look: what it holds then counts.

        :return: the value, ``None`` if there is none; and whether it was not known to this process before.
        """
        first = name not in self._asked
        self._asked.add(name)
        if name in self._read:
            return self._memory.get(name), False
        try:
            stored = await self._stored(name)
        except Exception as error:  # any backend of the store, any error of its own
            if first:
                self.log.warning("What was told (%s) cannot be read: %s", name, type(error).__name__)
            return self._memory.get(name), first
        self._read.add(name)
        if stored is None:
            return self._memory.get(name), first
        self._memory[name] = stored
        self._changed.pop(name, None)
        self._owed.pop(name, None)
        return stored, True

    def remember(self, name: str, value: Any) -> None:
        """Remember a value (JSON), and keep it once the events of this look are stored."""
        value = json.loads(json.dumps(value))
        if self._memory.get(name) != value:
            self._memory[name] = self._changed[name] = value

    def keyed(self, payload: Mapping[str, Any], *identity: Any) -> dict[str, Any]:
        """Give a payload its idempotency key.

        :param identity: what tells the event from all others of this kind of watcher, and is the same when it is repeated.
        :return: the payload with its ``key``.
        """
        said = json.dumps([type(self).__name__, *identity], sort_keys=True)
        return {**payload, "key": hashlib.sha256(said.encode()).hexdigest()[:32]}

    async def _stored(self, name: str) -> Any:
        for store in stores(self.asset_state_store):
            value = await store.aget(name)
            if value is not None:
                return value
        return None

    def _take(self) -> dict[str, Any]:
        changed, self._changed = self._changed, {}
        return changed

    async def keep(self, changed: Mapping[str, Any]) -> None:
        """Store what was told; what cannot be stored now is tried again after the next look."""
        self._owed.update(changed)
        for name in [name for name in self._owed if name in self._read]:
            value = self._owed[name]
            try:
                for store in stores(self.asset_state_store):
                    await store.aset(name, value)
            except Exception as error:
                self.log.warning("What was told (%s) cannot be kept: %s", name, type(error).__name__)
            else:
                self._owed.pop(name, None)

    # ---- Airflow's side ----------------------------------------------------------------------------------------------

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in self.arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the events, for ever."""
        async with aclosing(self._steps()) as steps:
            async for step in steps:
                if isinstance(step, TriggerEvent):
                    yield step
                else:
                    await self.keep(self._take())
                    await asyncio.sleep(step)

    def shared_stream_key(self) -> Hashable | None:
        """Return the name of a stream that is this trigger's alone, so that Airflow confirms what it has stored."""
        return None if self.trigger_id is None else (type(self).__name__, self.trigger_id)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return what gives turns and hears when the events of one are stored."""
        return Turns()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Look once in each turn."""
        async with aclosing(self._steps()) as steps:
            async for turn in shared_stream:
                async for step in steps:
                    if not isinstance(step, TriggerEvent):
                        turn.end(self, self._take(), step)
                        break
                    yield step

    async def _steps(self) -> AsyncGenerator[TriggerEvent | float, None]:
        """Yield events, and after each look the seconds until the next."""
        failures = 0
        while True:
            try:
                async with self.source() as source:
                    while True:
                        async with aclosing(self.look(source)) as told:
                            async for payload in told:
                                yield TriggerEvent(cleaned(payload))  # type: ignore[no-untyped-call]
                        if failures:
                            self.log.info("%s answers again after %d failed looks", self.subject, failures)
                        failures = 0
                        yield self.interval() * random.uniform(0.9, 1.0)
            except Exception as error:  # a watcher that ends would be silent for ever
                known = isinstance(error, PipeOpsError)
                if failures == 0:
                    said = str(error) if known else type(error).__name__
                    self.log.warning("Cannot look at %s; trying on: %s", self.subject, said)
                # What only a person can mend is looked at slowly from the start.
                failures = failures + 1 if not known or error.retryable else max(failures + 1, 3)  # type: ignore[attr-defined]
            yield self.grown(failures)

    def grown(self, failures: int) -> float:
        """Return the pause after so many looks in vain, in seconds."""
        grown = self.poll_interval * 2.0 ** min(failures, 10)
        return min(grown, max(LONGEST_PAUSE, self.poll_interval)) * random.uniform(0.9, 1.0)


class Turn:
    """One look of a watcher: from its beginning until Airflow has stored what it told."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.pause = 0.0
        self.watcher: Watcher | None = None
        self.changed: dict[str, Any] = {}

    def end(self, watcher: Watcher, changed: dict[str, Any], pause: float) -> None:
        """Say that the look is over.

        :param changed: what is to be kept when its events are stored.
        :param pause: seconds until the next one.
        """
        self.watcher, self.changed, self.pause = watcher, changed, pause
        self.over.set()


class Turns(SharedStreamProducer):
    """Gives a watcher its turns, and has it keep what it told in those whose events are stored."""

    async def open_stream(self) -> AsyncIterator[tuple[Turn, Turn]]:
        """Yield a turn when the one before is over, and its pause."""
        while True:
            turn = Turn()
            yield turn, turn
            await turn.over.wait()
            await asyncio.sleep(turn.pause)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Keep what was told in these turns, up to one whose events did not arrive."""
        for item in batch:
            turn: Turn = item.broker_payload
            if not item.outcome.is_clean or turn.watcher is None:
                return
            await turn.watcher.keep(turn.changed)


def told_before(memory: Any) -> int:
    """Return how many events were told of a thing, as its memory counts them: two equal ones differ by it."""
    told = memory.get("told") if isinstance(memory, Mapping) else None
    return told if isinstance(told, int) else 0


def stores(accessor: Any) -> list[Any]:
    """Find the state stores of all assets that a trigger is shared by.

    Two assets with equal watchers share one trigger, whose accessor then refuses to read and to write without the name of
    an asset; and it has no public way to name them.

    :param accessor: what Airflow has given to the trigger; ``None`` outside a triggerer.
    :return: the stores, none where the trigger has no access to them.
    """
    if accessor is None:
        return []
    named = [*getattr(accessor, "_by_name", {}).values(), *getattr(accessor, "_by_uri", {}).values()]
    return named or [accessor]
