"""Who waits for which application, what is known of it, and whom a change concerns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.waits.status import Trouble
from airflow_pipeops.waits.streams.snapshot import Entry, Key, Reading, Snapshot
from airflow_pipeops.waits.streams.source import Ref


class Ticket:
    """One wait's interest in one application.

    :param interval: seconds between two looks, where it is polled.
    :param wake: called when there is news of it.
    """

    __slots__ = ("heard", "interval", "joined", "ref", "refresh_at", "refreshed", "seen_at", "wake")

    def __init__(self, ref: Ref, interval: float, wake: Callable[[Ticket], None], now: float) -> None:
        self.ref, self.interval, self.wake, self.joined = ref, interval, wake, now
        #: Number of the news judged last, and of the refresh counted last.
        self.heard, self.refreshed = 0, 0
        #: When anything could be seen last.
        self.seen_at = now
        #: When a refresh is wanted; ``None`` for not at all.
        self.refresh_at: float | None = None


class Failure(NamedTuple):
    """A question that was answered with an error, or not at all."""

    problem: Trouble | PipeOpsError
    number: int
    at: float


class Board:
    """The snapshot, and those who read it.

    :param clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.snapshot = Snapshot()
        #: The namespace that a reference without one means, once it is known.
        self.home: str | None = None
        self._clock = clock
        self._tickets: dict[Any, list[Ticket]] = {}
        self._named: dict[str, list[Any]] = {}
        self._failures: dict[Any, Failure] = {}
        self._changed: dict[Any, None] = {}

    @property
    def refs(self) -> list[Any]:
        """All applications that somebody waits for."""
        return list(self._tickets)

    def tickets(self, ref: Any) -> list[Ticket]:
        """Return who waits for an application."""
        return self._tickets.get(ref, [])

    def join(self, ticket: Ticket) -> None:
        """Begin to wait."""
        if ticket.ref not in self._tickets:
            self._tickets[ticket.ref] = []
            self._named.setdefault(ticket.ref.name, []).append(ticket.ref)
        self._tickets[ticket.ref].append(ticket)

    def leave(self, ticket: Ticket) -> bool:
        """End a wait; whether it was the last one for its application."""
        ref, waiting = ticket.ref, self._tickets.get(ticket.ref, [])
        if ticket in waiting:
            waiting.remove(ticket)
        if waiting or ref not in self._tickets:
            return False
        del self._tickets[ref]
        self._failures.pop(ref, None)
        self._changed.pop(ref, None)
        alike = self._named[ref.name]
        alike.remove(ref)
        if not alike:
            del self._named[ref.name]
        return True

    def entry(self, ref: Any) -> Entry | None:
        """Return what is known of an application."""
        namespace = ref.namespace or self.home
        found = self.snapshot.get((namespace, ref.name)) if namespace is not None else None
        if found is not None and ref.project and found.observed.project not in ("", ref.project):
            return None
        return found

    def failure(self, ref: Any) -> Failure | None:
        """Return how the last question about an application failed, if it did."""
        return self._failures.get(ref)

    def told(self, reading: Reading) -> bool:
        """Take in what the stream says; whether it tells of this application for the first time."""
        gone = reading.observed is None
        known = self.snapshot.get(reading.key)
        first = not gone and (known is None or not known.told)
        if self.snapshot.told(reading, self._clock()):
            for ref in self._refs_of(reading.key):
                if not gone:
                    self._failures.pop(ref, None)
                self._changed[ref] = None
        return first

    def answered(self, ref: Any, reading: Reading, asked_at: float, *, refreshed: bool = False) -> None:
        """Take in an answer."""
        if self.home is None and not ref.namespace:
            self.home = reading.namespace
            # What the stream told before is found only now.
            self._changed.update(dict.fromkeys(self._tickets))
        self.snapshot.answered(reading, self._clock(), asked_at=asked_at, refreshed=refreshed)
        self._failures.pop(ref, None)
        # Somebody is waiting for just this: it is told at once, and not with the next beat.
        for concerned in {ref, *self._refs_of(reading.key)}:
            self._changed.pop(concerned, None)
            self._wake(concerned)

    def failed(self, ref: Any, problem: Trouble | PipeOpsError) -> None:
        """Take in that a question failed."""
        if ref in self._tickets:
            self._failures[ref] = Failure(problem, self.snapshot.next_number(), self._clock())
            self._changed[ref] = None

    def forget(self) -> None:
        """Drop what is known: the connection is gone."""
        self.snapshot.drop()
        self._failures.clear()

    def flush(self) -> None:
        """Wake those whom the changes since the last time concern."""
        changed, self._changed = self._changed, {}
        for ref in changed:
            self._wake(ref)

    def _wake(self, ref: Any) -> None:
        for ticket in self._tickets.get(ref, ()):
            ticket.wake(ticket)

    def wake_all(self) -> None:
        """Wake everybody."""
        for waiting in self._tickets.values():
            for ticket in waiting:
                ticket.wake(ticket)

    def _refs_of(self, key: Key) -> Iterator[Any]:
        namespace, name = key
        for ref in self._named.get(name, ()):
            if (ref.namespace or self.home) == namespace:
                yield ref
