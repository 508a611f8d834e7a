"""Walk from one record back through everything it was made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_pipeops.delivery.records import Record, RecordKind


@dataclass(frozen=True)
class Step:
    """One record on the way, and how far it is from the start.

    :param id: the record's id, known even where the record itself is gone.
    :param record: the record, or ``None`` where the ledger does not hold it: a gap.
    :param depth: 0 for the start, 1 for its parents, and so on.
    :param child: id of the record that named it as a parent; ``None`` for the start.
    """

    id: str
    record: Record | None
    depth: int
    child: str | None


@dataclass(frozen=True)
class Trace:
    """The ancestors of a record, breadth first, each once.

    :param steps: the start first.
    """

    steps: tuple[Step, ...]

    @property
    def records(self) -> tuple[Record, ...]:
        """The records that are there."""
        return tuple(step.record for step in self.steps if step.record is not None)

    @property
    def gaps(self) -> tuple[Step, ...]:
        """The links that lead to a record nobody holds."""
        return tuple(step for step in self.steps if step.record is None)

    @property
    def complete(self) -> bool:
        """Whether every named parent was found."""
        return not self.gaps

    def of_kind(self, kind: RecordKind) -> tuple[Record, ...]:
        """Return the ancestors (and the start) of one kind, nearest first."""
        return tuple(record for record in self.records if record.kind == kind)


def trace(start: str, records: Iterable[Record]) -> Trace:
    """Walk from ``start`` to all its ancestors.

    :param start: id of a record.
    :param records: the ledger, in any order.
    :return: the record and its ancestors, with the links that lead nowhere.
    """
    known = {record.id: record for record in records}
    steps: list[Step] = []
    seen = {start}
    frontier: list[tuple[str, str | None]] = [(start, None)]
    depth = 0
    while frontier:
        following: list[tuple[str, str | None]] = []
        for identifier, child in frontier:
            record = known.get(identifier)
            steps.append(Step(identifier, record, depth, child))
            for parent in record.parents if record else ():
                if parent not in seen:
                    seen.add(parent)
                    following.append((parent, identifier))
        frontier, depth = following, depth + 1
    return Trace(tuple(steps))
