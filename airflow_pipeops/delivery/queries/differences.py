"""What changed between two times."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.facts import Fact, may_see
from airflow_pipeops.delivery.queries.history import history
from airflow_pipeops.delivery.queries.live import Cell, live, matrix
from airflow_pipeops.delivery.queries.tracing import LIMIT, up


@dataclass(frozen=True)
class Change(JsonForm):
    """What changed of a deliverable in an environment.

    :param deliverable: its name.
    :param environment: its name.
    :param before: what was live at the earlier time; none for nothing.
    :param after: what was live at the later time; none for nothing.
    :param added: what the later one was made from, and the earlier one was not; the newest first.
    :param dropped: what the earlier one was made from, and the later one is not; the newest first.
    :param between: what happened in the environment meanwhile, and to the deliverable's data; the newest first.
    :param more: whether more happened than is told.
    """

    deliverable: str
    environment: str
    before: Cell | None
    after: Cell | None
    added: tuple[Fact, ...] = ()
    dropped: tuple[Fact, ...] = ()
    between: tuple[Fact, ...] = ()
    more: bool = False

    @property
    def changed(self) -> bool:
        """Whether another release is live."""
        return _release(self.before) != _release(self.after)


def change(
    connection: sqlite3.Connection,
    deliverable: str,
    environment: str,
    start: str,
    end: str,
    *,
    allowed: Collection[str] | None = None,
    limit: int = 100,
) -> Change:
    """Say what changed of a deliverable in an environment between two times.

    :param connection: to the index.
    :param deliverable: its name.
    :param environment: its name.
    :param start: the earlier time.
    :param end: the later time.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: facts of each list at most.
    :return: the change.
    """
    if not may_see(deliverable, allowed):
        return Change(deliverable, environment, None, None)
    before = live(connection, deliverable, environment, at=start, allowed=allowed)
    after = live(connection, deliverable, environment, at=end, allowed=allowed)
    old, new = (_above(connection, cell, allowed) for cell in (before, after))
    page = history(
        connection,
        deliverable=deliverable,
        environment=environment,
        nowhere=True,
        start=start,
        end=end,
        allowed=allowed,
        limit=limit,
    )
    return Change(
        deliverable,
        environment,
        before,
        after,
        _only(new, old)[:limit],
        _only(old, new)[:limit],
        page.items,
        bool(page.after),
    )


def changed(
    connection: sqlite3.Connection,
    start: str,
    end: str,
    *,
    names: Sequence[str] = (),
    allowed: Collection[str] | None = None,
    limit: int = 100,
    after: str = "",
) -> tuple[tuple[Change, ...], str]:
    """Say where another release is live at the later time than at the earlier one.

    :param connection: to the index.
    :param start: the earlier time.
    :param end: the later time.
    :param names: of these deliverables alone.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: deliverables that are looked at.
    :param after: what the part before said.
    :return: the changes, without what lies between; and with what to ask for the next part, empty if there is none.
    """
    old = matrix(connection, names=names, at=start, allowed=allowed, limit=limit, after=after)
    new = matrix(connection, names=names, at=end, allowed=allowed, limit=limit, after=after)
    befores = {(cell.deliverable, cell.environment): cell for row in old.items for cell in row.cells}
    afters = {(cell.deliverable, cell.environment): cell for row in new.items for cell in row.cells}
    found = (Change(*place, befores.get(place), afters.get(place)) for place in sorted({*befores, *afters}))
    return tuple(one for one in found if one.changed), new.after


def _above(
    connection: sqlite3.Connection, cell: Cell | None, allowed: Collection[str] | None
) -> dict[str, Fact]:
    if cell is None:
        return {}
    return {found.id: found for found in up(connection, cell.release, allowed=allowed, limit=LIMIT).facts}


def _only(these: dict[str, Fact], others: dict[str, Fact]) -> tuple[Fact, ...]:
    found = [fact for ident, fact in these.items() if ident not in others]
    return tuple(sorted(found, key=lambda fact: (fact.at, fact.seq), reverse=True))


def _release(cell: Cell | None) -> tuple[str, str]:
    return (cell.release, cell.state) if cell else ("", "")
