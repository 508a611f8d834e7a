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

#: Comparisons with the desired state since a release, the newest, among which those of its applications are looked for.
_COMPARED = 20
#: Comparisons of data, the newest, among which those of each subject (data, predictions, a provider) are looked for.
DRIFTS = 4
#: Releases of a place, the newest, among which the one is looked for that has ended an incident.
EARLIER = 8


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
    compared = list(newest_of(mine, application).values())
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


def application(fact: Fact) -> tuple[str, str]:
    """Return what a comparison is of: the environment, and the application."""
    return fact.environment, text(fact.body.get("app"))


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


def gate(fact: Fact) -> tuple[str, str, str, str]:
    """Return by what gates are told apart: what is judged, and by which task; of a test, by which of its parts."""
    return subject(fact), fact.dag, fact.task, str(fact.body.get("shard") or "")


def sort_of(fact: Fact) -> str | None:
    """Return by what facts of its kind are told apart, beside their environment, as the index keeps it. Pure.

    :param fact: of any kind.
    :return: of a comparison of data its subject, of a gate :func:`gate`, of what happens to an application its name, as
        JSON; none where it has none, and of other kinds.
    """
    found: Any = None
    if fact.kind == "drift":
        found = subject(fact)
    elif fact.kind == "validation":
        found = gate(fact)
    elif fact.kind in ("release", "incident", "differences"):
        found = text(fact.body.get("app")) or None
    return None if found is None else json.dumps(found)


def drifted(comparison: Fact) -> bool:
    """Whether a comparison of data has found drift."""
    return comparison.body.get("drifted") is True or text(comparison.body.get("verdict")) == "drift"


def drift(comparisons: Iterable[Fact]) -> Fact | None:
    """Return the comparison that says how the data of a deliverable are. Pure.

    :param comparisons: of its data, the newest first.
    :return: of the newest of each subject one that has found drift, else one that cannot tell, else the newest; none
        without any.
    """
    of_each = newest_of(comparisons, subject).values()
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
    given = {"releases": json.dumps(list(releases)), "end": end, "each": _COMPARED}
    compared = """
        SELECT found.seq, found.at, found.deliverable, found.environment, found.sort AS app
        FROM json_each(:releases) AS wanted JOIN records AS release ON release.seq = wanted.value
        JOIN records AS found ON found.seq IN (
            SELECT seq FROM records INDEXED BY by_place WHERE deliverable = release.deliverable AND environment = {place}
            AND kind = 'differences' AND at >= release.at AND at < :end AND problem = ''
            ORDER BY at DESC, seq DESC LIMIT :each
        )
    """
    rows = connection.execute(
        f"""
        SELECT found.seq FROM json_each(:releases) AS wanted JOIN records AS release ON release.seq = wanted.value
        JOIN records AS found ON found.seq = (
            SELECT seq FROM records INDEXED BY by_place
            WHERE deliverable = release.deliverable AND environment = release.environment
            AND kind = 'incident' AND at < :end AND problem = '' ORDER BY at DESC, seq DESC LIMIT 1
        ) WHERE (found.at, found.seq) > (release.at, release.seq)
        OR EXISTS (SELECT 1 FROM parents WHERE child_id = found.id AND parent_id = release.id)
        UNION
        SELECT seq FROM (
            SELECT seq, row_number() OVER (PARTITION BY deliverable, environment, app ORDER BY at DESC, seq DESC) AS place
            FROM ({compared.format(place="release.environment")} UNION {compared.format(place="''")})
        ) WHERE place = 1
        """,
        given,
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
