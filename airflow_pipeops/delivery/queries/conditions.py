"""How a release is now: by the newest record that tells, with its own time. One rule for all that show it."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from airflow_pipeops.base.documents import text
from airflow_pipeops.delivery.queries.facts import Fact, select

Sort = TypeVar("Sort")

#: Releases of a place, the newest, among which the one is looked for that has ended an incident.
EARLIER = 8
#: The number of the newest record of a row of ``sorts``, if it also has what is asked of it; among however many others.
NEWEST = """(SELECT seq FROM (
    SELECT seq, at, suspect FROM records INDEXED BY by_sort WHERE deliverable = sorts.deliverable AND kind = sorts.kind
    AND environment = sorts.environment AND sort = sorts.sort AND problem = '' AND at < :end
    ORDER BY at DESC, seq DESC LIMIT 1
) WHERE {where})"""


@dataclass(frozen=True)
class Condition:
    """How a release is.

    :param health: empty for unknown.
    :param health_at: when that was told.
    :param sync: empty for unknown.
    :param sync_at: when that was told.
    """

    health: str
    health_at: str
    sync: str
    sync_at: str


def condition(release: Fact, facts: Iterable[Fact], releases: Iterable[Fact] = ()) -> Condition:
    """Judge how a release is. Pure.

    :param release: that is live, or was.
    :param facts: incidents and differences, also of other deliverables, in any order.
    :param releases: others of the place, which may have ended an incident.
    :return: what an incident or a comparison since the release says, else what the release said itself.
    """
    told = [one for one in newest_first(facts) if one.deliverable == release.deliverable]
    found = Condition(
        text(release.body.get("health")), release.at, text(release.body.get("sync")), release.at
    )
    here = (one for one in told if one.kind == "incident" and one.environment == release.environment)
    incident = next(here, None)
    if incident is not None and not healed(incident, [release, *releases]):
        found = replace(found, health="Degraded", health_at=incident.at)
    compared = deciding(release, told)
    if compared is not None:
        found = replace(found, sync=_word(compared), sync_at=compared.at)
    return found


def deciding(release: Fact, facts: Iterable[Fact]) -> Fact | None:
    """Return the comparison since a release that says whether it is as it should be; none if none does. Pure.

    :param release: that is live, or was.
    :param facts: of its deliverable, the newest first.
    :return: of the newest of each application one that is not clean, a difference before what nobody can tell; where all
        are clean, that of the release's own application.
    """
    mine = (
        one
        for one in facts
        if one.kind == "differences" and about(release, one) and not overtakes(release, one)
    )
    compared = list(newest_of(mine, sort_in_place).values())
    unclean = sorted((one for one in compared if not clean(one)), key=lambda one: _word(one) == "Unknown")
    own = (one for one in compared if text(one.body.get("app")) == text(release.body.get("app")))
    return next(iter(unclean), next(own, None))


def _word(difference: Fact) -> str:
    """Say what a comparison has found as a controller says it."""
    verdict = text(difference.body.get("verdict"))
    return {"clean": "Synced", "unknown": "Unknown", "": "Unknown"}.get(verdict, "OutOfSync")


def clean(difference: Fact) -> bool:
    """Whether a comparison has found no difference."""
    return text(difference.body.get("verdict")) == "clean"


def healed(incident: Fact, releases: Iterable[Fact]) -> bool:
    """Whether a release has come after an incident, or is the one that the incident itself says has ended it."""
    for release in releases:
        if release.environment != incident.environment or release.id in incident.parents:
            continue
        if (release.at, release.seq) > (incident.at, incident.seq):
            return True
        restored = text(incident.body.get("restored_by"))
        if restored and restored in (str(release.body.get("revision")), release.commit, release.id):
            return True
        if set(release.parents) & set(incident.parents):
            return True  # made of the change that the incident was answered with
    return False


def overtakes(release: Fact, difference: Fact) -> bool:
    """Whether a release has come after a comparison of what it has released."""
    return about(release, difference) and (release.at, release.seq) > (difference.at, difference.seq)


def about(release: Fact, difference: Fact) -> bool:
    """Whether a comparison is of what was released: of its environment; where it names none, of its application."""
    if difference.environment:
        return release.environment == difference.environment
    return text(release.body.get("app")) == text(difference.body.get("app"))


def newest_first(facts: Iterable[Fact]) -> list[Fact]:
    """Order facts by time."""
    return sorted(facts, key=lambda fact: (fact.at, fact.seq), reverse=True)


def newest_of(facts: Iterable[Fact], sort: Callable[[Fact], Sort]) -> dict[Sort, Fact]:
    """Return the newest fact of each sort: the first, since the newest come first."""
    found: dict[Sort, Fact] = {}
    for fact in facts:
        found.setdefault(sort(fact), fact)
    return found


def subject(fact: Fact) -> str:
    """Return what a judgement is about."""
    return text(fact.body.get("subject"))


def sort_of(fact: Fact) -> str | None:
    """Return by what facts of its kind are told apart, beside their environment: only the newest of a sort counts. Pure.

    :param fact: of any kind.
    :return: as JSON: of a comparison of data and an evaluation its subject; of a gate its subject and task, of a test also
        which of its parts; of an answer and a failure its task; of a comparison with the desired state and a release
        its application; of a remediation whether something was done; nothing of a decision and an incident. None for
        other kinds.
    """
    found: Any
    match fact.kind:
        case "drift" | "evaluation":
            found = subject(fact)
        case "validation":
            found = subject(fact), fact.dag, fact.task, str(fact.body.get("shard") or "")
        case "approval" | "failure":
            found = fact.dag, fact.task, fact.map_index
        case "differences" | "release":
            found = text(fact.body.get("app"))
        case "remediation":
            found = bool(fact.body.get("state"))
        case "decision" | "incident":
            found = ""
        case _:
            return None
    return json.dumps(found)


def sort_in_place(fact: Fact) -> tuple[str, str | None]:
    """Return by what facts of its kind are told apart: a yes in one environment answers no no in another."""
    return fact.environment, sort_of(fact)


def drifted(comparison: Fact) -> bool:
    """Whether a comparison of data has found drift."""
    return comparison.body.get("drifted") is True or text(comparison.body.get("verdict")) == "drift"


def drift(comparisons: Iterable[Fact]) -> Fact | None:
    """Return the comparison that says how the data of a deliverable are. Pure.

    :param comparisons: of its data, the newest first.
    :return: of the newest of each subject and environment one that has found drift, else one that cannot tell, else the
        newest; none without any.
    """
    of_each = newest_of(comparisons, sort_in_place).values()
    return min(
        of_each,
        key=lambda one: 0 if drifted(one) else 2 if one.body.get("drifted") is False else 1,
        default=None,
    )


def told_since(connection: sqlite3.Connection, releases: Sequence[int], end: str) -> list[Fact]:
    """Read what may tell how releases are: of each place the newest incident, unless the release came after it, and the
    newest comparison of each application since the release.

    :param connection: to the index.
    :param releases: their numbers in the ledger.
    :param end: before this time.
    :return: incidents and differences.
    """
    rows = connection.execute(
        f"""
        SELECT found.seq FROM json_each(:releases) AS wanted JOIN records AS release ON release.seq = wanted.value
        JOIN sorts ON sorts.deliverable = release.deliverable AND sorts.kind = 'incident'
        AND sorts.environment = release.environment JOIN records AS found ON found.seq = {NEWEST.format(where="1")}
        WHERE (found.at, found.seq) > (release.at, release.seq)
        OR EXISTS (SELECT 1 FROM parents WHERE child_id = found.id AND parent_id = release.id)
        UNION
        SELECT found.seq FROM json_each(:releases) AS wanted JOIN records AS release ON release.seq = wanted.value
        JOIN sorts ON sorts.deliverable = release.deliverable AND sorts.kind = 'differences'
        AND sorts.environment IN (release.environment, '') JOIN records AS found ON found.seq = {NEWEST.format(where="1")}
        WHERE found.at >= release.at
        """,
        {"releases": json.dumps(list(releases)), "end": end},
    )
    numbers = [row[0] for row in rows]
    if not numbers:
        return []
    return select(connection, "seq IN (SELECT value FROM json_each(:seqs))", {"seqs": json.dumps(numbers)})


def conditions(connection: sqlite3.Connection, releases: Sequence[Fact], end: str) -> dict[str, Condition]:
    """Say how releases are.

    :param connection: to the index.
    :param releases: that are live, or were.
    :param end: as it was before this time.
    :return: by the id of the release.
    """
    told: dict[str, list[Fact]] = defaultdict(list)
    for found in told_since(connection, [one.seq for one in releases], end):
        told[found.deliverable].append(found)
    open_ = [
        (one.deliverable, one.environment)
        for one in releases
        for other in told[one.deliverable]
        if other.kind == "incident" and other.environment == one.environment and not healed(other, [one])
    ]
    earlier: dict[str, list[Fact]] = defaultdict(list)
    for found in _earlier(connection, open_, end):
        earlier[found.deliverable].append(found)
    return {one.id: condition(one, told[one.deliverable], earlier[one.deliverable]) for one in releases}


def _earlier(connection: sqlite3.Connection, places: Sequence[tuple[str, str]], end: str) -> list[Fact]:
    """Read the newest releases of places."""
    if not places:
        return []
    return select(
        connection,
        """seq IN (
            SELECT found.seq FROM json_each(:places) AS place JOIN records AS found ON found.seq IN (
                SELECT seq FROM records INDEXED BY by_place WHERE deliverable = place.value ->> 0
                AND environment = place.value ->> 1 AND kind = 'release' AND at < :end AND problem = ''
                ORDER BY at DESC, seq DESC LIMIT :each
            )
        )""",
        {"places": json.dumps(places), "end": end, "each": EARLIER},
    )
