"""Walk from a record up to what it was made from, and down to what was made of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.facts import COLUMNS, Fact, fact, listed, may_see, scope, seen, select
from airflow_pipeops.delivery.queries.history import kinds_of

Direction = Literal["up", "down"]

#: Records of one walk; a passport has a few dozen.
LIMIT = 1000


@dataclass(frozen=True)
class Step(JsonForm):
    """One record on the way.

    :param id: of the record, known even where the record itself is gone.
    :param fact: the record; none where nobody holds it, or the reader may not see it.
    :param depth: 0 for the start, 1 for what is next to it, and so on.
    :param by: id of the record from which the walk came; empty for the start.
    :param hidden: whether it is there, and the reader may not see it.
    """

    id: str
    fact: Fact | None
    depth: int
    by: str = ""
    hidden: bool = False

    @property
    def gap(self) -> bool:
        """Whether nobody holds the record, or what is held is not believed."""
        return not self.hidden and (self.fact is None or bool(self.fact.problem))


@dataclass(frozen=True)
class Walk(JsonForm):
    """What a walk met, breadth first, each record once.

    :param direction: ``up`` to what the start was made from, or ``down`` to what was made of it.
    :param steps: the start first.
    :param edges: child and parent, for each link between two records of the walk.
    :param cut: whether there is more than the limit let through.
    """

    direction: Direction
    steps: tuple[Step, ...]
    edges: tuple[tuple[str, str], ...] = ()
    cut: bool = False

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The records that are there and believed, nearest first."""
        return tuple(step.fact for step in self.steps if step.fact is not None and not step.gap)

    @property
    def gaps(self) -> tuple[Step, ...]:
        """The steps at which nobody holds a record, or what is held is not believed."""
        return tuple(step for step in self.steps if step.gap)

    @property
    def complete(self) -> bool:
        """Whether every record that is named was found, and is believed."""
        return not self.gaps and not self.cut

    def of_kind(self, *kinds: str) -> tuple[Fact, ...]:
        """Return the records of these kinds, nearest first."""
        return tuple(found for found in self.facts if found.kind in kinds)

    def made_from(self) -> tuple[Fact, ...]:
        """Return the data that a model was made from, or else what is there was; not those that led to a decision."""
        facts = {step.id: step.fact for step in self.steps if step.fact is not None}
        models = self.of_kind("model")
        found: set[str] = set()
        left = [models[0].id if models else self.steps[0].id]
        while left:
            one = facts.get(left.pop())
            if one is None or one.id in found or (models and one.kind == "decision"):
                continue
            found.add(one.id)
            left += one.parents if one.kind not in ("dataset", "batch") else ()
        return tuple(one for one in self.of_kind("dataset", "batch") if one.id in found)


@dataclass(frozen=True)
class Gap(JsonForm):
    """A record that names a parent which nobody holds, or which is not believed.

    :param child: the record.
    :param parent: id of what it names.
    """

    child: Fact
    parent: str


def up(
    connection: sqlite3.Connection, start: str, *, allowed: Collection[str] | None = None, limit: int = LIMIT
) -> Walk:
    """Walk from a record to everything that it was made from.

    :param connection: to the index.
    :param start: id of the record.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: records at most.
    :return: the walk.
    """
    return _walk(connection, start, "up", allowed, limit)


def down(
    connection: sqlite3.Connection, start: str, *, allowed: Collection[str] | None = None, limit: int = LIMIT
) -> Walk:
    """Walk from a record to everything that was made of it. Arguments and result are those of :func:`up`."""
    return _walk(connection, start, "down", allowed, limit)


def gaps(
    connection: sqlite3.Connection,
    start: str,
    end: str,
    *,
    deliverable: str = "",
    allowed: Collection[str] | None = None,
    limit: int = 100,
    read: int = 10_000,
) -> tuple[Gap, ...]:
    """Find records that name a parent which nobody holds.

    :param connection: to the index.
    :param start: of the time that the records are of.
    :param end: of that time.
    :param deliverable: of this one alone.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: gaps at most.
    :param read: records that are looked at, the newest first.
    :return: the gaps, the newest first.
    """
    mine, by = "", "by_time"
    if deliverable:  # with its kinds, so that the index by deliverable, kind and time is used
        mine = " AND deliverable = :deliverable AND kind IN (SELECT value FROM json_each(:kinds))"
        by = "by_kind"
    rows = connection.execute(
        f"""
        SELECT {COLUMNS}, missing.parent_id FROM (
            SELECT looked.seq, looked.at, parents.parent_id FROM (
                SELECT seq, id, at FROM records INDEXED BY {by}
                WHERE at >= :start AND at < :end AND problem = ''{mine}{seen(allowed)} ORDER BY at DESC LIMIT :read
            ) AS looked JOIN parents ON parents.child_id = looked.id
            WHERE NOT EXISTS (SELECT 1 FROM records AS other WHERE other.id = parents.parent_id AND other.problem = '')
            ORDER BY looked.at DESC, looked.seq DESC LIMIT :limit
        ) AS missing JOIN records ON records.seq = missing.seq ORDER BY missing.at DESC, missing.seq DESC
        """,
        {
            "start": start,
            "end": end,
            "deliverable": deliverable,
            "kinds": listed(kinds_of(connection, deliverable) if deliverable else ()),
            "read": read,
            "limit": limit,
            **scope(allowed),
        },
    )
    return tuple(Gap(fact(row), row[14]) for row in rows)


def held(connection: sqlite3.Connection, ids: Collection[str]) -> dict[str, Fact]:
    """Read records by their ids; of one that was stored several times, what is believed, else the first.

    :param connection: to the index.
    :param ids: of the records.
    :return: the records by id.
    """
    rows = select(
        connection,
        "id IN (SELECT value FROM json_each(:ids)) ORDER BY problem <> '', seq",
        {"ids": listed(ids)},
    )
    found: dict[str, Fact] = {}
    for row in rows:
        found.setdefault(row.id, row)
    return found


def _walk(
    connection: sqlite3.Connection,
    start: str,
    direction: Direction,
    allowed: Collection[str] | None,
    limit: int,
) -> Walk:
    here, there = ("child_id", "parent_id") if direction == "up" else ("parent_id", "child_id")
    query = f"SELECT {here}, {there} FROM parents WHERE {here} IN (SELECT value FROM json_each(?)) ORDER BY 1, 2 LIMIT ?"
    steps: list[Step] = []
    links: dict[tuple[str, str], None] = {}
    known = {start}
    ahead: list[tuple[str, str]] = [(start, "")]
    depth, cut = 0, False
    while ahead:
        cut = cut or len(steps) + len(ahead) > limit
        ahead = ahead[: limit - len(steps)]
        facts = held(connection, [ident for ident, _ in ahead])
        open_ = []
        for ident, by in ahead:
            found = facts.get(ident)
            hidden = found is not None and not may_see(found.deliverable, allowed)
            steps.append(Step(ident, None if hidden else found, depth, by, hidden))
            if not hidden:
                open_.append(ident)
        following: dict[str, str] = {}
        most = 20 * limit  # links, of which several may lead to one record
        rows = connection.execute(query, (listed(open_), most)).fetchall()
        cut = cut or len(rows) == most
        for near, far in rows:
            links[(near, far) if direction == "up" else (far, near)] = None
            if far not in known:
                known.add(far)
                following[far] = near
        ahead, depth = list(following.items()), depth + 1
        if len(steps) >= limit:
            cut = cut or bool(ahead)
            break
    met = {step.id for step in steps}
    edges = tuple(link for link in links if met.issuperset(link))
    return Walk(direction, tuple(steps), edges, cut)
