"""Releases of one version in a row: since when it is live without another in between, and until when.

One rule for the passport and the figures. Of the same version is what was released at the same revision, or by a change that
wanted the same values in the same file: a repository has many files, and a commit to another one makes no other version.
Unless that change found other values there: then Git has wanted something else between, and somebody may have had it live.
What was taken away has ended with that, and is live since it came back, which the figures count as no deployment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.documents import map_, parsed
from airflow_pipeops.delivery.queries.facts import Fact, listed, revision_of, select
from airflow_pipeops.delivery.queries.history import LAST, history
from airflow_pipeops.delivery.queries.live import TAKES_AWAY, Cell
from airflow_pipeops.delivery.queries.tracing import held

#: Releases of one version that are looked at to find the first and the last of them.
_LOOKED = 2000
#: The revision of a release, as :func:`~airflow_pipeops.delivery.queries.facts.revision_of` reads it.
_REVISION = "content ->> '$.body.revision'"
#: The file of the change of a release, the values that it wanted there, and those that it found.
_WANTED = """(
    SELECT json_object('file', change.content -> '$.body.file', 'set', change.content -> '$.body.set',
                       'previous', change.content -> '$.body.previous')
    FROM parents JOIN records AS change ON change.id = parents.parent_id
    WHERE parents.child_id = found.id AND change.kind = 'change' AND change.problem = '' ORDER BY change.seq LIMIT 1
)"""


@dataclass(frozen=True)
class Released:
    """What tells the version of a release.

    :param at: when it was, in UTC.
    :param id: of its record.
    :param revision: of the desired state; empty for unknown.
    :param wanted: of its change the ``file``, the values that it ``set`` there, and the ``previous`` ones; none for unknown.
    :param kept: whether it says itself that it has changed nothing.
    """

    at: str
    id: str
    revision: str
    wanted: Mapping[str, Any] | None
    kept: bool


def same(earlier: Released, later: Released) -> bool:
    """Whether a release is of the version that was live before it. Pure.

    :param earlier: the release before.
    :param later: the release.
    :return: whether it is; not where nobody can tell.
    """
    if later.revision and earlier.revision == later.revision:
        return True
    if earlier.wanted is not None and later.wanted is not None:
        alike = all(earlier.wanted.get(key) == later.wanted.get(key) for key in ("file", "set"))
        return alike and not between(earlier.wanted, later.wanted)
    return later.kept


def between(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, str]:
    """Say what Git has wanted between two changes that no change of the ledger has brought. Pure.

    :param earlier: of the change before its ``file`` and what it ``set``.
    :param later: of the change its ``file`` and the ``previous`` values that it found.
    :return: path -> value in words, of what the earlier one had set otherwise.
    """
    if earlier.get("file") != later.get("file"):
        return {}
    wanted, found = map_(earlier.get("set")), map_(later.get("previous"))
    return {
        path: _said(value)
        for path, value in found.items()
        if path in wanted and str(wanted[path]) != str(value)
    }


def _said(value: Any) -> str:
    if value is None:
        return "nothing"
    return str(value) or "an empty text"


def runs(connection: sqlite3.Connection, releases: Iterable[Fact]) -> list[list[Fact]]:
    """Divide the releases of a place by the versions that they brought.

    :param connection: to the index.
    :param releases: the oldest first.
    :return: the releases of each version that was live, in the same order.
    """
    given = list(releases)
    rows = connection.execute(
        f"SELECT id, {_WANTED} FROM records AS found INDEXED BY by_id WHERE id IN (SELECT value FROM json_each(?))",
        (listed(one.id for one in given),),
    )
    wanted = dict(rows.fetchall())
    found: list[list[Fact]] = []
    before: Released | None = None
    for one in given:
        release = Released(
            one.at, one.id, revision_of(one), _wanted(wanted.get(one.id)), one.body.get("changed") is False
        )
        if before is not None and same(before, release):
            found[-1].append(one)
        else:
            found.append([one])
        before = release
    return found


def began(connection: sqlite3.Connection, release: Fact | Cell) -> tuple[str, str]:
    """Find the first release of a version that is live without another in between.

    :param connection: to the index.
    :param release: of the version.
    :return: when, as far as the ledger goes back, and the id of the release.
    """
    those: list[Released] = []
    for one in _released(connection, release, "<=", "DESC"):
        if those and not same(one, those[-1]):
            break
        those.append(one)
    if not those:
        return release.at, ""
    gone = _taken_away(connection, release, those[-1].at, release.at, "DESC")
    first = next((one for one in reversed(those) if one.at > gone), those[0])
    return first.at, first.id


def ended(connection: sqlite3.Connection, release: Fact | Cell) -> str:
    """Find when another version was live after that of a release, or it was taken away.

    :param connection: to the index.
    :param release: of the version.
    :return: when; :data:`~airflow_pipeops.delivery.queries.history.LAST` as long as neither has come.
    """
    last, end = None, LAST
    for one in _released(connection, release, ">=", "ASC"):
        if last is not None and not same(last, one):
            end = one.at
            break
        last = one
    return _taken_away(connection, release, release.at, end, "ASC") or end


def _taken_away(
    connection: sqlite3.Connection, release: Fact | Cell, start: str, end: str, order: Literal["ASC", "DESC"]
) -> str:
    """Find the first or the last time between two at which the place of a release was emptied; empty if it never was."""
    row = connection.execute(
        f"""SELECT at FROM records INDEXED BY by_place
        WHERE deliverable = ? AND environment = ? AND kind = 'change' AND at >= ? AND at < ? AND problem = ''
        AND (at, seq) {"<" if order == "DESC" else ">"} (?, ?) AND {TAKES_AWAY} ORDER BY at {order}, seq {order} LIMIT 1""",
        (release.deliverable, release.environment, start, end, release.at, release.seq),
    ).fetchone()
    return str(row[0]) if row else ""


def _released(
    connection: sqlite3.Connection,
    release: Fact | Cell,
    side: Literal["<=", ">="],
    order: Literal["ASC", "DESC"],
) -> Iterator[Released]:
    """Read the releases of the place of one on one side of it, from that on."""
    rows = connection.execute(
        f"""SELECT at, id, {_REVISION}, {_WANTED}, content -> '$.body.changed' IS 'false'
        FROM records AS found INDEXED BY by_place
        WHERE deliverable = ? AND environment = ? AND kind = 'release' AND (at, seq) {side} (?, ?) AND problem = ''
        ORDER BY at {order}, seq {order} LIMIT {_LOOKED}""",
        (release.deliverable, release.environment, release.at, release.seq),
    )
    for at, ident, revision, wanted, kept in rows:  # one after the other: most are never read
        yield Released(at, ident, str(revision or ""), _wanted(wanted), bool(kept))


def _wanted(told: str | None) -> Mapping[str, Any] | None:
    """Read :data:`_WANTED`; none where it does not say a file and values."""
    found = map_(parsed(told)) if told else {}
    return found if found.get("file") is not None and found.get("set") is not None else None


def change_of(connection: sqlite3.Connection, release: str) -> Fact | None:
    """Find the change that a release was made of.

    :param connection: to the index.
    :param release: its id.
    :return: the change; none where no record names it.
    """
    where = (
        "kind = 'change' AND problem = '' AND id IN (SELECT parent_id FROM parents WHERE child_id = :release)"
    )
    return next(iter(select(connection, f"{where} ORDER BY seq LIMIT 1", {"release": release})), None)


def previous(connection: sqlite3.Connection, release: Fact | Cell, first: str) -> Fact | None:
    """Find what was live before a version: the last release of another one.

    :param connection: to the index.
    :param release: of the version.
    :param first: since when its version is, as :func:`began` says it.
    :return: the release; none where the ledger does not go back so far.
    """
    found = history(
        connection,
        deliverable=release.deliverable,
        environment=release.environment,
        kinds=("release",),
        end=first,
        limit=1,
    )
    return next(iter(found.items), None)


def blamed(connection: sqlite3.Connection, release: Fact, start: str, end: str) -> tuple[Fact, ...]:
    """Read what went wrong while a version was live, unless it names another one, and what names its release later.

    :param connection: to the index.
    :param release: of the version.
    :param start: since when it was live.
    :param end: until when.
    :return: the incidents, ten at most of each, the newest first.
    """
    then = history(
        connection,
        deliverable=release.deliverable,
        environment=release.environment,
        kinds=("incident",),
        start=start,
        end=end,
        limit=10,
    ).items
    named = held(connection, {parent for one in then for parent in one.parents})

    def its(incident: Fact) -> bool:
        releases = [named[one] for one in incident.parents if one in named and named[one].kind == "release"]
        here = [
            one.at
            for one in releases
            if (one.deliverable, one.environment) == (release.deliverable, release.environment)
        ]
        return not here or any(start <= at < end for at in here)

    later = """kind = 'incident' AND deliverable = :deliverable AND environment = :environment AND at >= :end
        AND problem = '' AND id IN (SELECT child_id FROM parents WHERE parent_id = :id)
        ORDER BY at DESC, seq DESC LIMIT 10"""
    given = {
        "deliverable": release.deliverable,
        "environment": release.environment,
        "end": end,
        "id": release.id,
    }
    return (*select(connection, later, given), *filter(its, then))
