"""What a rollback has made live again: an earlier release, and not the one that it took back, which it was made of, too."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import dropwhile

from airflow_pipeops.base.documents import text
from airflow_pipeops.delivery.queries.facts import COLUMNS, Fact, fact, revision_of
from airflow_pipeops.delivery.queries.history import history

#: Releases of a place before a rollback, the newest, among which the one is looked for that it has restored.
_EARLIER = 100
#: Rollbacks of rollbacks that are followed.
_DEPTH = 10


def restored(connection: sqlite3.Connection, releases: Iterable[Fact]) -> dict[str, Fact | None]:
    """Find the releases whose version is that of an earlier one.

    A model that is rolled back names itself among what its change was made from, and is left out.

    :param connection: to the index.
    :param releases: in any order.
    :return: of each that a rollback has led to, by its id, the release that is live again; none where nobody can tell.
    """
    found: dict[str, Fact | None] = {}
    for release, rollback in _rollbacks(connection, list(releases)):
        origin, by = _before(connection, release, rollback), 1
        while origin and (earlier := _rollbacks(connection, [origin])):
            origin, by = _before(connection, *earlier[0]) if by < _DEPTH else None, by + 1
        found[release.id] = origin
    return found


def again(rollback: Fact, earlier: Sequence[Fact]) -> Fact | None:
    """Say which release a rollback has restored. Pure.

    :param rollback: that names the revision that is wanted now, or the one that it has taken back.
    :param earlier: releases of the place before it, the newest first.
    :return: the one of the revision that is wanted; else the one before what was taken back; none where nobody can tell.
    """
    wanted, undone = revision_of(rollback), text(rollback.body.get("reverts"))
    for one in earlier if wanted else ():
        if revision_of(one) == wanted:
            return one
    if (
        wanted and text(rollback.body.get("how")) != "revert"
    ):  # a revert is a commit of its own, which is wanted now
        return None

    def bad(one: Fact) -> bool:
        return one.id in rollback.parents or bool(undone and revision_of(one) == undone)

    since = dropwhile(lambda one: not bad(one), earlier)
    return next((one for one in since if not bad(one)), None)


def _before(connection: sqlite3.Connection, release: Fact, rollback: Fact) -> Fact | None:
    page = history(
        connection,
        deliverable=release.deliverable,
        environment=release.environment,
        kinds=("release",),
        end=release.at,
        limit=_EARLIER,
    )
    return again(rollback, page.items)


def _rollbacks(connection: sqlite3.Connection, releases: Sequence[Fact]) -> list[tuple[Fact, Fact]]:
    """Read the rollback that each of these releases was made of: by itself, or by its change."""
    places = [
        {"id": one.id, "deliverable": one.deliverable, "environment": one.environment, "at": one.at}
        for one in releases
    ]
    rows = connection.execute(
        f"""
        SELECT {COLUMNS}, release.value ->> 'id' FROM json_each(?) AS release JOIN records ON seq = (
            SELECT seq FROM records INDEXED BY by_place
            WHERE deliverable = release.value ->> 'deliverable' AND environment = release.value ->> 'environment'
            AND kind = 'rollback' AND at <= release.value ->> 'at' AND problem = '' ORDER BY at DESC, seq DESC LIMIT 1
        ) WHERE content ->> '$.body.order' IS NULL AND EXISTS (
            SELECT 1 FROM parents AS near WHERE near.child_id = release.value ->> 'id' AND (
                near.parent_id = records.id OR EXISTS (
                    SELECT 1 FROM parents AS far JOIN records AS change ON change.id = far.child_id
                    WHERE far.child_id = near.parent_id AND far.parent_id = records.id AND change.kind = 'change'
                )
            )
        )
        """,
        (json.dumps(places),),
    )
    by_id = {one.id: one for one in releases}
    return [(by_id[row[14]], fact(row)) for row in rows]
