"""Take up what Airflow's database has that the ledger has not: each event once, whatever ends this process meanwhile.

The ledger itself says how far it is: what is appended by one write of a file is there, and what is not is read again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from airflow_pipeops.delivery.failures import Failures
from airflow_pipeops.delivery.ledger.checkpoints import advance
from airflow_pipeops.delivery.ledger.database import Events
from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.files import Head, Ledger
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.ledger.signatures import Signer
from airflow_pipeops.delivery.ledger.tree import leaf_hash
from airflow_pipeops.delivery.questions import Rejections
from airflow_pipeops.exceptions import InvalidInput

log = logging.getLogger(__name__)

#: Events that are read at once.
_BATCH = 2000
#: An id is given when a transaction writes, and seen when it ends: one that ends late is looked for so far back.
_LATE = 5000


class Unsaid(Protocol):
    """What Airflow's database tells of, and no worker could write an event of."""

    @property
    def pending(self) -> bool:
        """Whether an event is missing."""

    def take_up(self) -> None:
        """Write the events that are missing."""


class Ingest:
    """Fills a ledger and its index.

    :param ledger: that grows.
    :param index: of the ledger.
    :param events: of Airflow.
    :param accepted: assets on which events may be posted by hand.
    :param signer: of checkpoints; without one they are not signed.
    :param origin: name of the ledger, in its checkpoints.
    :param unsaid: what has no event yet, and gets it first.
    """

    def __init__(
        self,
        ledger: Ledger,
        index: Index,
        events: Events,
        accepted: frozenset[str] = frozenset(),
        signer: Signer | None = None,
        origin: str = "airflow-pipeops",
        unsaid: Sequence[Unsaid] = (),
    ) -> None:
        self.ledger = ledger
        self.index = index
        self.events = events
        self.accepted = accepted
        self.signer = signer
        self.origin = origin
        self.unsaid = unsaid
        self._passed: set[int] = set()  # late ones that are not for the ledger

    @classmethod
    def configured(cls) -> Ingest:
        """Open what ``[pipeops]`` names."""
        from airflow_pipeops.base.configuration import accepted_assets, index_path, ledger_path
        from airflow_pipeops.delivery.ledger.hook import configured

        ledger, index, signer = Ledger.open(ledger_path()), Index.open(index_path()), configured()
        origin = signer.name if signer else "airflow-pipeops"
        events = Events.of_airflow()
        unsaid = (Rejections(events.engine), Failures(events.engine))
        return cls(ledger, index, events, accepted_assets(), signer, origin, unsaid)

    def run(self, lock: Path, *, wait: bool = False) -> int | None:
        """Take up all that is new.

        :param lock: file that is locked meanwhile.
        :param wait: for another process that does the same.
        :return: how many entries were appended; none where another process does it.
        :raises InvalidInput: if the ledger is damaged, was made from another database, or contradicts its checkpoint.
        """
        with self.events.alone(lock, wait=wait) as alone:
            if not alone:
                return None
            head = self.ledger.head()
            self._follow(head)
            self._same_database()
            self._say()
            appended = self._append(self._late())
            while found := self.events.after(self.index.looked_to, _BATCH):
                appended += self._append(found)
                self.index.look(found[-1].event)
            if size := self.index.revision:
                advance(self.ledger, size, self.signer, self.origin)
            return appended

    @property
    def behind(self) -> bool:
        """Whether there is something that was not looked at; a cheap question, by which late events are missed."""
        if self.events.newest() > self.index.looked_to:
            return True
        try:
            return any(one.pending for one in self.unsaid)
        except SQLAlchemyError:
            return False  # it is said when they are taken up

    def _say(self) -> None:
        """Let what no worker could tell have its events; where it cannot, the rest goes into the ledger all the same."""
        for one in self.unsaid:
            try:
                one.take_up()
            except SQLAlchemyError as error:
                log.warning("%s cannot be read: %s", type(one).__name__, type(error).__name__)

    def _append(self, found: list[Entry]) -> int:
        belonging = [entry for entry in found if entry.belongs]
        self._passed |= {entry.event for entry in found if not entry.belongs}
        if belonging:
            numbered = self.ledger.append(belonging, self.ledger.head())
            self.index.add(numbered, self.accepted)
        return len(belonging)

    def _follow(self, head: Head) -> None:
        """Let the index have what the ledger has: it may be new, or behind, or of another ledger."""
        there = self.index.revision
        if kept := self.index.kept(there):
            line = next(self.ledger.read(there - 1), b"")
            if there > head.size or kept[1] != leaf_hash(line):
                log.warning("The index is not of this ledger, and is made anew.")
                self.index.clear()
                there = 0
        entries = (Entry.seen(line, seq) for seq, line in enumerate(self.ledger.read(there), there + 1))
        while batch := list(islice(entries, _BATCH)):
            self.index.add(batch, self.accepted)

    def _same_database(self) -> None:
        newest, seen = self.events.newest(), self.index.looked_to
        if 0 < newest < seen:
            raise InvalidInput(
                f"the ledger knows event {seen}, and the newest of Airflow's database is {newest}: it is another database",
                field="ledger_path",
                remedy="Set [pipeops] ledger_path and index_path to new places; the old ledger stays as it is.",
            )

    def _late(self) -> list[Entry]:
        """Read the events whose transaction ended after that of later ids."""
        seen = self.index.looked_to
        start = seen - _LATE
        known = self.index.events(start)
        late = [event for event in self.events.ids(start, seen) if event not in known | self._passed]
        self._passed = {event for event in self._passed if event > start}
        return [entry for at in range(0, len(late), 500) for entry in self.events.these(late[at : at + 500])]
