"""What a stream has told of applications, shared by all who wait for them. Pure: times are the caller's.

Nothing in it outlives the connection that told it: a "Healthy" from before a disconnection says nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from airflow_pipeops.waits.status import Observed, Operation, Resource

#: Namespace and name.
Key = tuple[str, str]


@dataclass(frozen=True)
class Reading:
    """One answer about one application, told by a stream or given to a question.

    :param namespace: of the application.
    :param name: of the application.
    :param version: number that grows with each change, where the system has one.
    :param observed: ``None`` where it is gone, or was told of in a way that cannot be read.
    """

    namespace: str
    name: str
    version: int | None
    observed: Observed | None

    @property
    def key(self) -> Key:
        """Which application this is."""
        return self.namespace, self.name


class Entry:
    """The newest state of one application.

    :param number: grows with every piece of news, over all applications.
    :param heard_at: when something was last heard of it, even if nothing had changed.
    :param told: the stream that is open now has told of it.
    :param asked_at: when the question was put to which this is the answer; ``None`` where nobody asked.
    :param refresh: number of the refreshes acknowledged so far, and ``refresh_asked_at``: when the last was asked for.
    """

    __slots__ = (
        "asked_at",
        "heard_at",
        "number",
        "observed",
        "refresh",
        "refresh_asked_at",
        "told",
        "version",
    )

    def __init__(self, observed: Observed, version: int | None, number: int, now: float) -> None:
        self.observed, self.version, self.number = observed, version, number
        self.heard_at = now
        self.told = False
        self.asked_at: float | None = None
        self.refresh, self.refresh_asked_at = 0, now


class Snapshot:
    """The newest state of every application that was told of."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def get(self, key: Key) -> Entry | None:
        """Return what is known of an application."""
        return self._entries.get(key)

    def next_number(self) -> int:
        """Return a new number for a piece of news."""
        self._number += 1
        return self._number

    def told(self, reading: Reading, now: float) -> bool:
        """Take in what the stream says; whether that is news."""
        if reading.observed is None:
            return self._entries.pop(reading.key, None) is not None
        entry, news = self._put(reading, now, told=True)
        entry.told = True
        if news:
            entry.asked_at = None
        return news

    def answered(
        self, reading: Reading, now: float, *, asked_at: float, refreshed: bool = False
    ) -> Entry | None:
        """Take in the answer to a question; ``None`` where the application is gone.

        :param asked_at: when it was asked.
        :param refreshed: the controller compared anew before it was answered.
        :return: what is known now.
        """
        if reading.observed is None:
            self._entries.pop(reading.key, None)
            return None
        entry, _ = self._put(reading, now, told=False)
        # Also where nothing has changed it is news: that it still is so was not certain before.
        entry.number = self.next_number()
        entry.asked_at = asked_at
        if refreshed:
            entry.refresh, entry.refresh_asked_at = entry.number, asked_at
        return entry

    def drop(self) -> None:
        """Forget everything: the connection is gone."""
        self._entries.clear()

    def _put(self, reading: Reading, now: float, *, told: bool) -> tuple[Entry, bool]:
        observed = slim(reading.observed) if reading.observed else None
        assert observed is not None
        entry = self._entries.get(reading.key)
        if entry is None:
            entry = Entry(observed, reading.version, self.next_number(), now)
            self._entries[reading.key] = entry
            return entry, True
        entry.heard_at = now
        if told:
            observed = _as_asked(observed, entry.observed)
        age = _age(reading, entry)
        # An answer may say more than the stream does of the same version: whoever asks may look further.
        if age < 0 or (age == 0 and told) or observed == entry.observed:
            return entry, False
        entry.observed, entry.version, entry.number = observed, reading.version, self.next_number()
        return entry, True


def _age(reading: Reading, entry: Entry) -> int:
    """Compare versions: 0 for what is known, below for older, since replicas of a server lag behind each other."""
    assert reading.observed is not None
    if reading.observed.uid != entry.observed.uid or reading.version is None or entry.version is None:
        return 1
    return (reading.version > entry.version) - (reading.version < entry.version)


def _as_asked(told: Observed, known: Observed) -> Observed:
    """Return what was told, with what only a question finds out as it was found last: windows and steps."""
    if told.uid != known.uid or told.sync == "Synced":
        return told
    return replace(told, blocked=known.blocked, owner_seen=known.owner_seen, rollout=known.rollout)


def slim(observed: Observed) -> Observed:
    """Return an observation without the resources that say nothing: those that are in order.

    No judgement changes by that; most of the memory goes.

    :return: the same observation, with fewer resources.
    """
    operation = observed.operation
    if operation is not None:
        operation = _slim_operation(operation)
    resources = tuple(
        item for item in observed.resources if item.sync not in ("", "Synced") or not _well(item)
    )
    return replace(observed, resources=resources, operation=operation, refreshed=False)


def _slim_operation(operation: Operation) -> Operation:
    kept = tuple(
        item
        for item in operation.resources
        if item.sync == "SyncFailed"
        or item.phase in ("Failed", "Error", "Running")
        or item.health in ("Progressing", "Missing")
    )
    return replace(operation, resources=kept)


def _well(resource: Resource) -> bool:
    return resource.health in ("", "Healthy") and not resource.prune
