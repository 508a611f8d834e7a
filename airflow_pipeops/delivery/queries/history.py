"""What happened, in the order of time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from airflow_pipeops.delivery.queries.facts import (
    Fact,
    Page,
    key_of,
    listed,
    may_see,
    paged,
    scope,
    seen,
    select,
)

#: Records that are looked at for one page, where no index leads to those that are wanted.
_READ = 20_000
#: Before every time that a record can have, and after.
FIRST, LAST = "", "~"


def history(
    connection: sqlite3.Connection,
    *,
    deliverable: str = "",
    environment: str = "",
    nowhere: bool = False,
    kinds: Collection[str] = (),
    start: str = FIRST,
    end: str = LAST,
    believed: bool = True,
    allowed: Collection[str] | None = None,
    limit: int = 50,
    after: str = "",
) -> Page[Fact]:
    """Read what happened, the newest first.

    :param connection: to the index.
    :param deliverable: of this one alone.
    :param environment: in this one alone.
    :param nowhere: with what happens in no environment, such as a retrain, which counts for each.
    :param kinds: of these alone; none means all.
    :param start: not before this time.
    :param end: before this time.
    :param believed: leave out what is not believed.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: facts of a page.
    :param after: what the page before said.
    :return: a page. Without a deliverable it may hold fewer than the limit, and yet not be the last.
    """
    if deliverable and not may_see(deliverable, allowed):
        return Page(())
    before = key_of(after)
    places = {environment, ""} if nowhere else {environment}
    given: dict[str, Any] = {
        "deliverable": deliverable, "places": listed(places), "start": start, "end": end, "limit": limit + 1, **before,
    }  # fmt: skip
    only = " AND problem = ''" if believed else ""
    bounds = f"at >= :start AND at < :end AND (at, seq) < (:at, :seq){only}"
    if deliverable:
        given["kinds"] = listed(kinds or kinds_of(connection, deliverable))
        where, place, by = "", "", "by_kind"
        if environment:
            where, place, by = ", json_each(:places) AS place", " AND environment = place.value", "by_place"
        found = select(
            connection,
            f"""seq IN (
                SELECT found.seq FROM json_each(:kinds) AS wanted{where} JOIN records AS found ON found.seq IN (
                    SELECT seq FROM records INDEXED BY {by}
                    WHERE deliverable = :deliverable{place} AND kind = wanted.value AND {bounds}
                    ORDER BY at DESC, seq DESC LIMIT :limit
                )
            ) ORDER BY at DESC, seq DESC LIMIT :limit""",
            given,
        )
        return paged(found, limit)
    wanted = " AND environment IN (SELECT value FROM json_each(:places))" if environment else ""
    if kinds:
        wanted += " AND kind IN (SELECT value FROM json_each(:kinds))"
        given["kinds"] = listed(kinds)
    passed = """
        SELECT seq, at, kind, deliverable, environment, problem FROM records INDEXED BY by_time
        WHERE at >= :start AND at < :end AND (at, seq) < (:at, :seq) ORDER BY at DESC, seq DESC LIMIT :read
    """
    given["read"] = _READ
    found = select(
        connection,
        f"""seq IN (
            SELECT seq FROM ({passed}) WHERE 1{wanted}{only}{seen(allowed)} LIMIT :limit
        ) ORDER BY at DESC, seq DESC""",
        {**given, **scope(allowed)},
    )
    page = paged(found, limit)
    if page.after:
        return page
    last = connection.execute(f"SELECT at, seq FROM ({passed}) LIMIT 1 OFFSET :read - 1", given).fetchone()
    return Page(page.items, f"{last[0]}~{last[1]}" if last else "")


def before(
    connection: sqlite3.Connection,
    moment: str,
    *,
    deliverable: str = "",
    environment: str = "",
    allowed: Collection[str] | None = None,
    limit: int = 20,
    after: str = "",
) -> Page[Fact]:
    """Read what could have caused what was seen at a moment: the last changes, releases, models and decisions before it.

    Without a deliverable, it may hold fewer than the limit, and yet not be all: see :func:`history`.

    :param connection: to the index.
    :param moment: the time.
    :param deliverable: of this one alone.
    :param environment: where what happens somewhere has happened; what happens nowhere is told, too.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: facts of a page.
    :param after: what the page before said.
    :return: the facts, the newest first.
    """
    return history(
        connection,
        deliverable=deliverable,
        environment=environment,
        nowhere=True,
        kinds=CAUSES,
        end=moment,
        allowed=allowed,
        limit=limit,
        after=after,
    )


#: What can be the cause of a change in how something behaves.
CAUSES = ("change", "release", "rollback", "model", "decision", "differences", "incident", "approval")


def deliverables(
    connection: sqlite3.Connection,
    *,
    allowed: Collection[str] | None = None,
    limit: int = 1000,
    after: str = "",
) -> tuple[str, ...]:
    """Name the deliverables that the ledger knows, in the order of the alphabet.

    :param connection: to the index.
    :param allowed: those that the reader may see; none means all.
    :param limit: names at most.
    :param after: only what comes after this name.
    :return: the names.
    """
    rows = connection.execute(
        f"""
        WITH RECURSIVE each_(name) AS (
            SELECT min(deliverable) FROM records WHERE deliverable > :after
            UNION ALL
            SELECT (SELECT min(deliverable) FROM records WHERE deliverable > each_.name) FROM each_
            WHERE each_.name IS NOT NULL
        )
        SELECT name FROM each_ WHERE name IS NOT NULL{seen(allowed, "name")} LIMIT :limit
        """,
        {"after": after, "limit": limit, **scope(allowed)},
    )
    return tuple(row[0] for row in rows)


def kinds_of(connection: sqlite3.Connection, deliverable: str) -> tuple[str, ...]:
    """Name the kinds of record that there are of a deliverable."""
    rows = connection.execute(
        """
        WITH RECURSIVE each_(name) AS (
            SELECT min(kind) FROM records WHERE deliverable = :deliverable
            UNION ALL
            SELECT (SELECT min(kind) FROM records WHERE deliverable = :deliverable AND kind > each_.name) FROM each_
            WHERE each_.name IS NOT NULL
        )
        SELECT name FROM each_ WHERE name IS NOT NULL
        """,
        {"deliverable": deliverable},
    )
    return tuple(row[0] for row in rows)


def newest(
    connection: sqlite3.Connection,
    names: Sequence[str],
    kinds: Sequence[str],
    *,
    each: int = 1,
    end: str = LAST,
) -> list[Fact]:
    """Read the newest of each kind of each deliverable.

    :param connection: to the index.
    :param names: of the deliverables.
    :param kinds: of the records.
    :param each: so many of each kind of each deliverable.
    :param end: before this time.
    :return: the facts, by deliverable, the newest first.
    """
    return select(
        connection,
        """seq IN (
            SELECT found.seq FROM json_each(:names) AS name, json_each(:kinds) AS kind JOIN records AS found
            ON found.seq IN (
                SELECT seq FROM records INDEXED BY by_kind
                WHERE deliverable = name.value AND kind = kind.value AND at < :end AND problem = ''
                ORDER BY at DESC, seq DESC LIMIT :each
            )
        ) ORDER BY deliverable, at DESC, seq DESC""",
        {"names": json.dumps(list(names)), "kinds": json.dumps(list(kinds)), "each": each, "end": end},
    )
