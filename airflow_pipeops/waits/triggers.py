"""What waits in the triggerer, whatever the controller.

Only connection ids travel in the arguments; they are stored unencrypted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_pipeops.exceptions import PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.waits.expectation import Verdict
    from airflow_pipeops.waits.streams.stream import SharedStream

#: A trigger that fires right after the deferral can fail its task (Airflow 3.3.2), so none fires sooner. Seconds.
DWELL = 5.0


class OutcomeTrigger(BaseEventTrigger):
    """Looks until there is something to tell the task, and tells it in one event: the outcome, or the error.

    A subclass gives :attr:`arguments` and :meth:`outcome`.

    :param dwell: seconds before which it does not fire.
    """

    #: Names of the constructor's arguments, which are attributes, too; ``dwell`` is one of all.
    arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, dwell: float = DWELL) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.dwell = float(dwell)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        named = {name: getattr(self, name) for name in (*self.arguments, "dwell")}
        return f"{type(self).__module__}.{type(self).__qualname__}", named

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        async for event in self.fire(self.outcome()):
            yield event

    async def outcome(self) -> dict[str, Any]:
        """Look until there is something to tell, and return the event's payload."""
        raise NotImplementedError

    async def fire(self, finding: Awaitable[dict[str, Any]]) -> AsyncIterator[TriggerEvent]:
        """Yield the one event that is found, not before ``dwell`` has passed."""
        started = time.monotonic()
        try:
            payload = await finding
        except PipeOpsError as error:
            payload = {"error": str(error), "type": type(error).__name__}
        await asyncio.sleep(max(0.0, self.dwell - (time.monotonic() - started)))
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]


class VerdictTrigger(OutcomeTrigger):
    """Goes on with the looks of a :class:`~airflow_pipeops.waits.operators.VerdictWaitOperator`.

    The event is ``{"verdict": JSON of a Verdict, "facts": what the task has said}``.

    :param facts: what the task has to say.
    :param poll_interval: seconds between two looks.
    """

    def __init__(self, *, facts: Mapping[str, Any], poll_interval: float, dwell: float = DWELL) -> None:
        super().__init__(dwell=dwell)
        self.facts, self.poll_interval = dict(facts), float(poll_interval)

    async def until_told(self, look: Callable[[], Verdict]) -> dict[str, Any]:
        """Look until the verdict is in.

        :param look: looks once; it may block.
        :return: the event's payload.
        """
        while (verdict := await asyncio.to_thread(look)).state == "wait":
            await asyncio.sleep(self.poll_interval)
        return {"verdict": verdict.to_json(), "facts": self.facts}


class StreamTrigger(OutcomeTrigger):
    """Looks by a stream that all triggers of one key share (see :mod:`~airflow_pipeops.waits.streams`).

    Airflow hands everything that a shared stream yields to all of its triggers, so a change of one application would wake a
    thousand. Ours yields nothing: it lives as long as the group of triggers does, and each is woken for its own alone.
    A subclass gives :meth:`shared_stream_key`, :meth:`watch_stream` and :meth:`follow`.
    """

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Keep the stream for as long as anybody is in the group."""
        # Only what the key says may be used of the arguments; they are those of any trigger of the group.
        watch = cls(**kwargs).watch_stream()
        watch.enter()
        try:
            await asyncio.Event().wait()
            yield None  # never reached; an iterator it must be
        finally:
            watch.exit()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Yield the one event, found by the shared stream."""
        async for event in self.fire(self.follow(self.watch_stream())):
            yield event

    def watch_stream(self) -> SharedStream:
        """Return the stream of the key."""
        raise NotImplementedError

    async def follow(self, watch: SharedStream) -> dict[str, Any]:
        """Find what there is to tell, as :meth:`outcome` does, by the shared stream."""
        raise NotImplementedError
