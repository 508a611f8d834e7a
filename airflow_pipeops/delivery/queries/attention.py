"""What needs somebody, as far as the records tell."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.facts import Fact, select
from airflow_pipeops.delivery.queries.history import deliverables, history, newest

Need = Literal["approval", "gate", "degraded", "out of sync", "drift", "late labels", "budget", "investigate"]
NEEDS: tuple[Need, ...] = get_args(Need)

#: Of which kinds the newest are looked at, how many of each deliverable, and what makes one of them worth reading.
_SUSPECT = {
    "decision": (
        1,
        "content ->> '$.body.needs_approval' OR content ->> '$.body.rule' IN ('budget', 'blind')"
        " OR content ->> '$.body.action' = 'investigate'",
    ),
    "differences": (3, "content ->> '$.body.verdict' IS NOT 'clean'"),
    "drift": (3, "content ->> '$.body.drifted' = 1 OR content ->> '$.body.verdict' = 'drift'"),
    "evaluation": (3, "content ->> '$.body.verdict' = 'too few labels'"),
    "incident": (3, "1"),
    "validation": (
        6,
        "content ->> '$.body.passed' = 0 OR content ->> '$.body.\"test-result\".result' = 'FAILED'",
    ),
}
#: What is read beside a record that may need somebody, since it may be the answer.
_ANSWERS = {"decision": {"approval": 20}, "differences": {"release": 8}, "incident": {"release": 8}}


@dataclass(frozen=True)
class Attention(JsonForm):
    """Something that needs somebody.

    :param need: what it is: one of :data:`NEEDS`.
    :param deliverable: whose.
    :param environment: where; empty for what happens nowhere.
    :param at: since when, in UTC.
    :param what: in one sentence.
    :param fact: the record that says so.
    """

    need: Need
    deliverable: str
    environment: str
    at: str
    what: str
    fact: Fact


@dataclass(frozen=True)
class Agenda(JsonForm):
    """All that needs somebody.

    :param items: what is longest so first.
    :param last: when the last record was made that was looked at; empty without any.
    :param after: what to ask with for the next deliverables; empty if these are all.
    """

    items: tuple[Attention, ...]
    last: str = ""
    after: str = ""


def agenda(
    connection: sqlite3.Connection,
    *,
    names: Sequence[str] = (),
    allowed: Collection[str] | None = None,
    limit: int = 1000,
    after: str = "",
) -> Agenda:
    """Say what needs somebody.

    :param connection: to the index.
    :param names: of these deliverables alone.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: deliverables that are looked at.
    :param after: what was said before.
    :return: the agenda.
    """
    if names:
        known = [name for name in sorted(set(names)) if allowed is None or name in allowed]
    else:
        known = list(deliverables(connection, allowed=allowed, limit=limit + 1, after=after))
    more, known = len(known) > limit, known[:limit]
    facts = _read(connection, known)
    items = [item for name, found in facts.items() for item in needs(found)]
    if len(known) == 1:
        last = history(connection, deliverable=known[0], limit=1)
    else:
        last = history(connection, allowed=known if names else allowed, limit=1)
    ended = last.items[0].at if last.items else ""
    return Agenda(tuple(sorted(items, key=lambda item: item.at)), ended, known[-1] if more else "")


def _read(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, list[Fact]]:
    """Read what may need somebody, and what may answer it; of a deliverable with which all is well, nothing."""
    wanted: dict[tuple[str, int], set[str]] = defaultdict(set)
    for kind, (each, suspect) in _SUSPECT.items():
        rows = connection.execute(
            f"""
            SELECT DISTINCT name.value FROM json_each(:names) AS name JOIN records AS found ON found.seq IN (
                SELECT seq FROM records INDEXED BY by_kind WHERE deliverable = name.value AND kind = :kind
                AND problem = '' ORDER BY at DESC, seq DESC LIMIT :each
            ) WHERE {suspect}
            """,
            {"names": json.dumps(list(names)), "kind": kind, "each": each},
        )
        suspects = {row[0] for row in rows}
        for other, number in {kind: each, **_ANSWERS.get(kind, {})}.items():
            wanted[other, number] |= suspects
    facts: dict[int, Fact] = {}
    for (kind, each), of in wanted.items():
        facts |= (
            {found.seq: found for found in newest(connection, sorted(of), (kind,), each=each)} if of else {}
        )
    ill = select(
        connection,
        """seq IN (SELECT seq FROM live WHERE deliverable IN (SELECT value FROM json_each(:names)))
        AND (content ->> '$.body.health' IN ('Degraded', 'Missing') OR content ->> '$.body.sync' = 'OutOfSync')""",
        {"names": json.dumps(list(names))},
    )
    facts |= {found.seq: found for found in ill}
    by_name: dict[str, list[Fact]] = defaultdict(list)
    for found in facts.values():
        by_name[found.deliverable].append(found)
    return by_name


def needs(facts: Iterable[Fact]) -> list[Attention]:
    """Judge the newest records of one deliverable.

    Pure. A record is overtaken by a later one of its own sort: a gate by the same gate, an incident and a difference by
    a release, a question by its answer.

    :param facts: in any order.
    :return: what needs somebody.
    """
    ordered = sorted(facts, key=lambda fact: (fact.at, fact.seq), reverse=True)
    by_kind: dict[str, list[Fact]] = defaultdict(list)
    for fact in ordered:
        by_kind[fact.kind].append(fact)
    found: list[Attention] = []
    for judge in _JUDGES:
        found += judge(by_kind)
    return found


def _item(need: Need, fact: Fact, what: str) -> Attention:
    return Attention(need, fact.deliverable, fact.environment, fact.at, what, fact)


def _approvals(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    """A proposal to retrain is open until it was started, was answered, or the next decision was taken."""
    answers = {parent for fact in facts["approval"] for parent in fact.parents}
    return [
        _item(
            "approval",
            fact,
            f"A person must agree to {text(fact.body.get('action')) or 'act'}: {_why(fact)}",
        )
        for fact in facts["decision"][:1]
        if fact.body.get("needs_approval") and not fact.body.get("approved") and fact.id not in answers
    ]


def _gates(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found, looked_at = [], set()
    for fact in facts["validation"]:
        gate = (text(fact.body.get("subject")), fact.dag, fact.task, str(fact.body.get("shard") or ""))
        if gate in looked_at:
            continue
        looked_at.add(gate)
        if passed(fact) is False:
            found.append(_item("gate", fact, _gate(fact)))
    return found


def passed(gate: Fact) -> bool | None:
    """Say whether a gate said yes; none if it does not tell. Of tests, ``passed`` is how many did."""
    result = map_(gate.body.get("test-result")).get("result")
    if result:
        return bool(result != "FAILED")
    said = gate.body.get("passed", gate.body.get("promote"))
    return said if isinstance(said, bool) else None


def _gate(fact: Fact) -> str:
    subject = text(fact.body.get("subject")) or "A gate"
    named = text(fact.body.get("batch")) or (fact.commit or text(fact.body.get("commit")))[:7]
    counted = fact.body.get("failed")
    many = f": {counted} failed" if isinstance(counted, int) and not isinstance(counted, bool) else ""
    return f"The gate of {subject} said no{f' to {named}' if named else ''}{many}."


def _degraded(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found, looked_at = [], set()
    for fact in facts["incident"]:
        if fact.environment in looked_at:
            continue
        looked_at.add(fact.environment)
        if not healed(fact, facts["release"]):
            found.append(_item("degraded", fact, text(fact.body.get("what")) or "A release went bad."))
    for release in _newest_of_place(facts["release"]):
        health = text(release.body.get("health"))
        if health in ("Degraded", "Missing") and release.environment not in looked_at:
            found.append(_item("degraded", release, f"It was released, and was {health}."))
    return found


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


def _out_of_sync(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found, looked_at = [], set()
    for fact in facts["differences"]:
        place = (fact.environment, text(fact.body.get("app")))
        if place in looked_at or text(fact.body.get("verdict")) == "clean":
            looked_at.add(place)
            continue
        looked_at.add(place)
        if not any(_overtakes(release, fact) for release in facts["release"]):
            said = text(fact.body.get("reason")) or "what is live is not what Git says"
            found.append(_item("out of sync", fact, f"{place[1] or fact.deliverable}: {said[:300]}"))
    for release in _newest_of_place(facts["release"]):
        if (
            text(release.body.get("sync")) == "OutOfSync"
            and (release.environment, text(release.body.get("app"))) not in looked_at
        ):
            found.append(_item("out of sync", release, "It was released, and was OutOfSync."))
    return found


def _overtakes(release: Fact, difference: Fact) -> bool:
    if (release.at, release.seq) <= (difference.at, difference.seq):
        return False
    if difference.environment:
        return release.environment == difference.environment
    return text(release.body.get("app")) == text(difference.body.get("app"))


def _drift(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found, looked_at = [], set()
    for fact in facts["drift"]:
        subject = text(fact.body.get("subject"))
        if subject in looked_at:
            continue
        looked_at.add(subject)
        if fact.body.get("drifted") is True or text(fact.body.get("verdict")) == "drift":
            batch = text(fact.body.get("batch"))
            columns = fact.body.get("columns_drifted")
            many = f": {columns} columns moved" if isinstance(columns, int) else ""
            found.append(
                _item(
                    "drift", fact, f"The {subject or 'data'} drifted{f' in {batch}' if batch else ''}{many}."
                )
            )
    return found


def _labels(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    measured = [fact for fact in facts["evaluation"] if text(fact.body.get("subject")) == "performance"]
    found = [
        _item(
            "late labels",
            fact,
            f"There are too few labels for {text(fact.body.get('batch')) or 'the last batch'}.",
        )
        for fact in measured[:1]
        if text(fact.body.get("verdict")) == "too few labels"
    ]
    blind = [fact for fact in facts["decision"][:1] if fact.body.get("rule") == "blind"]
    return found or [_item("late labels", fact, _why(fact)) for fact in blind]


def _decisions(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found = []
    for fact in facts["decision"][:1]:
        rule = text(fact.body.get("rule"))
        if rule == "budget":
            found.append(_item("budget", fact, _why(fact)))
        elif fact.body.get("action") == "investigate" and rule != "blind":
            found.append(_item("investigate", fact, _why(fact)))
    return found


def _why(fact: Fact) -> str:
    reasons = fact.body.get("reasons")
    said = reasons[0] if isinstance(reasons, list) and reasons else fact.body.get("reason")
    return text(said) or f"The rule {text(map_(fact.body).get('rule')) or 'is not told'}."


def _newest_of_place(releases: Iterable[Fact]) -> list[Fact]:
    found: dict[str, Fact] = {}
    for release in releases:
        found.setdefault(release.environment, release)
    return list(found.values())


_JUDGES: tuple[Callable[[Mapping[str, Sequence[Fact]]], list[Attention]], ...] = (
    _approvals,
    _gates,
    _degraded,
    _out_of_sync,
    _drift,
    _labels,
    _decisions,
)
