"""What needs somebody, as far as the records tell."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from airflow_pipeops.base.documents import text, whole
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.conditions import (
    EARLIER,
    NEWEST,
    clean,
    deciding,
    drifted,
    healed,
    newest_first,
    newest_of,
    overtakes,
    sort_in_place,
    subject,
    told_since,
)
from airflow_pipeops.delivery.queries.facts import Fact, listed, select
from airflow_pipeops.delivery.queries.failing import made
from airflow_pipeops.delivery.queries.history import LAST, deliverables, history, newest
from airflow_pipeops.delivery.records import ILL, gate_passed

Need = Literal[
    "approval",
    "rejected",
    "failed",
    "gate",
    "degraded",
    "out of sync",
    "drift",
    "late labels",
    "budget",
    "investigate",
]
NEEDS: tuple[Need, ...] = get_args(Need)

#: Whether what is live in its environment came after it, or, where it has none, what is live of its application.
_OVERTAKEN = """EXISTS (
    SELECT 1 FROM live JOIN records AS release ON release.seq = live.seq
    WHERE live.deliverable = found.deliverable AND live.at > found.at AND CASE found.environment
    WHEN '' THEN release.sort = found.sort ELSE live.environment = found.environment END
)"""
#: Of which kinds the newest of each sort is looked at.
_LOOKED = (
    "approval", "decision", "differences", "drift", "evaluation", "failure", "incident", "remediation", "validation",
)  # fmt: skip
#: What is read beside a record that may need somebody, since it may be the answer.
_ANSWERS = {
    "approval": {"release": EARLIER},
    "decision": {"approval": 20},
    "differences": {"release": EARLIER},
    "incident": {"release": EARLIER},
    "remediation": {"release": EARLIER},
}
#: Of each kind that a failed task makes, so many are looked through for a later one of it.
_MADE = 20


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
    facts = {found.seq: found for found in _suspects(connection, names)}
    wanted: dict[tuple[str, int], set[str]] = defaultdict(set)
    for found in facts.values():
        for kind, number in _ANSWERS.get(found.kind, {}).items():
            wanted[kind, number].add(found.deliverable)
        if found.kind == "failure":
            for kind in ("release", *made(found)):  # what the same task has made since then
                wanted[kind, _MADE].add(found.deliverable)
    for (kind, number), of in wanted.items():
        facts |= {found.seq: found for found in newest(connection, sorted(of), (kind,), each=number)}
    given = {"names": json.dumps(list(names))}
    live = "SELECT seq FROM live WHERE deliverable IN (SELECT value FROM json_each(:names))"
    since = told_since(connection, [row[0] for row in connection.execute(live, given)], LAST)
    facts |= {found.seq: found for found in since}
    # What is live answers, however much was released elsewhere meanwhile.
    given["told"] = listed({found.deliverable for found in facts.values()})
    released = select(
        connection,
        f"seq IN ({live}) AND (suspect OR deliverable IN (SELECT value FROM json_each(:told)))",
        given,
    )
    facts |= {found.seq: found for found in released}
    by_name: dict[str, list[Fact]] = defaultdict(list)
    for found in facts.values():
        by_name[found.deliverable].append(found)
    return by_name


def _suspects(connection: sqlite3.Connection, names: Sequence[str]) -> list[Fact]:
    """Read those of the newest records of each sort that may need somebody."""
    return select(
        connection,
        f"""seq IN (
            SELECT found.seq FROM json_each(:names) AS name, json_each(:kinds) AS kind
            JOIN sorts ON sorts.deliverable = name.value AND sorts.kind = kind.value
            JOIN records AS found ON found.seq = {NEWEST.format(where="suspect")}
            WHERE found.kind NOT IN ('differences', 'incident') OR NOT {_OVERTAKEN}
        )""",
        {"names": json.dumps(list(names)), "kinds": json.dumps(_LOOKED), "end": LAST},
    )


def suspect(fact: Fact) -> bool:
    """Judge whether a record needs somebody, as far as it tells by itself: what came later may have answered it. Pure.

    The index keeps it: where this comes to say something else of a record, the index has another version.

    :param fact: of any kind.
    :return: whether it may need somebody; where not, it does not.
    """
    return bool(needs([fact]))


def needs(facts: Iterable[Fact]) -> list[Attention]:
    """Judge the newest records of one deliverable.

    Pure. A record is overtaken by a later one of its own sort: a gate by the same gate, an incident and a difference by
    a release, a question by its answer.

    :param facts: in any order.
    :return: what needs somebody.
    """
    by_kind: dict[str, list[Fact]] = defaultdict(list)
    for fact in newest_first(facts):
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
        for fact in newest_of(facts["decision"], sort_in_place).values()
        if fact.body.get("needs_approval") and not fact.body.get("approved") and fact.id not in answers
    ]


def _rejected(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    """A no is open until the same task was answered with a yes, or a release has come after it where it was asked about."""
    asked = newest_of(facts["approval"], sort_in_place)
    return [
        _item("rejected", fact, _rejection(fact))
        for fact in asked.values()
        if fact.body.get("approved") is False
        and not any(
            (release.at, release.seq) > (fact.at, fact.seq)
            for release in facts["release"]
            if _there(release, fact)
        )
    ]


def _rejection(fact: Fact) -> str:
    who = text(fact.body.get("approved_by")) or "Somebody"
    late = fact.body.get("timed_out") is True
    said = "Nobody answered in time, which counts as a no" if late else f"{who} said no"
    return f"{said}: {text(fact.body.get('subject'), 300)}"


def _failed(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    """A failure is open until the same task has made a record there, or a release has come after it where it happened."""
    tasks = newest_of(facts["failure"], sort_in_place)
    return [
        _item("failed", fact, failed(fact))
        for fact in tasks.values()
        if not any(
            (later.at, later.seq) > (fact.at, fact.seq)
            and (_same_task(later, fact) or (kind == "release" and _there(later, fact)))
            for kind, those in facts.items()
            for later in those
        )
    ]


def failed(fact: Fact) -> str:
    """Say in one sentence which task has failed, and why."""
    does = {"refused": "said no", "failed": "failed"}.get(text(fact.body.get("outcome")), "failed")
    return f"{fact.task} {does}: {text(fact.body.get('reason'), 300)}"


def _same_task(one: Fact, other: Fact) -> bool:
    """Whether a task speaks in both of the same environment; a task may be asked to work in any."""
    there = one.environment == other.environment or "" in (one.environment, other.environment)
    return there and (one.dag, one.task, one.map_index) == (other.dag, other.task, other.map_index)


def _there(release: Fact, fact: Fact) -> bool:
    return release.environment == fact.environment or not fact.environment


def _gates(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    gates = newest_of(facts["validation"], sort_in_place)
    return [_item("gate", fact, _gate(fact)) for fact in gates.values() if passed(fact) is False]


def passed(gate: Fact) -> bool | None:
    """Say whether a gate said yes; none if it does not tell."""
    return gate_passed(gate.body)


def _gate(fact: Fact) -> str:
    what = subject(fact) or "A gate"
    named = text(fact.body.get("batch")) or (fact.commit or text(fact.body.get("commit")))[:7]
    counted = whole(fact.body.get("failed"))
    many = "" if counted is None else f": {counted} failed"
    return f"The gate of {what} said no{f' to {named}' if named else ''}{many}."


def _degraded(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found = [
        _item("degraded", fact, text(fact.body.get("what")) or "A release went bad.")
        for fact in newest_of(facts["incident"], _environment).values()
        if not healed(fact, facts["release"])
    ]
    told = {item.environment for item in found}
    for environment, release in newest_of(facts["release"], _environment).items():
        health = text(release.body.get("health"))
        if health in ILL and environment not in told:
            found.append(_item("degraded", release, f"It was released, and was {health}."))
    return found


def _out_of_sync(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found = []
    for fact in newest_of(facts["differences"], sort_in_place).values():
        if not clean(fact) and not any(overtakes(release, fact) for release in facts["release"]):
            said = text(fact.body.get("reason")) or "what is live is not what Git says"
            found.append(
                _item("out of sync", fact, f"{text(fact.body.get('app')) or fact.deliverable}: {said[:300]}")
            )
    for release in newest_of(facts["release"], _environment).values():
        if text(release.body.get("sync")) == "OutOfSync" and deciding(release, facts["differences"]) is None:
            found.append(_item("out of sync", release, "It was released, and was OutOfSync."))
    return found


def _drift(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found = []
    for fact in newest_of(facts["drift"], sort_in_place).values():
        if drifted(fact):
            batch = text(fact.body.get("batch"))
            columns = whole(fact.body.get("columns_drifted"))
            many = "" if columns is None else f": {columns} columns moved"
            found.append(
                _item(
                    "drift",
                    fact,
                    f"The {subject(fact) or 'data'} drifted{f' in {batch}' if batch else ''}{many}.",
                )
            )
    return found


def _labels(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    measured = [fact for fact in facts["evaluation"] if subject(fact) == "performance"]
    found = [
        _item(
            "late labels",
            fact,
            f"There are too few labels for {text(fact.body.get('batch')) or 'the last batch'}.",
        )
        for fact in newest_of(measured, sort_in_place).values()
        if text(fact.body.get("verdict")) == "too few labels"
    ]
    blind = [
        fact
        for fact in newest_of(facts["decision"], sort_in_place).values()
        if fact.body.get("rule") == "blind"
    ]
    return found or [_item("late labels", fact, _why(fact)) for fact in blind]


def _decisions(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    found = []
    for fact in newest_of(facts["decision"], sort_in_place).values():
        rule = text(fact.body.get("rule"))
        if rule == "budget":
            found.append(_item("budget", fact, _why(fact)))
        elif fact.body.get("action") == "investigate" and rule != "blind":
            found.append(_item("investigate", fact, _why(fact)))
    return found


def _handed_over(facts: Mapping[str, Sequence[Fact]]) -> list[Attention]:
    """What a remediation has left to a person is open until something later was done, or a release has come."""
    done = newest_of((fact for fact in facts["remediation"] if fact.body.get("state")), _environment)
    return [
        _item("investigate", fact, f"A remediation was handed over: {_why(fact)}")
        for environment, fact in done.items()
        if fact.body.get("state") == "handed_over"
        and not any(
            (release.at, release.seq) > (fact.at, fact.seq)
            for release in facts["release"]
            if release.environment == environment
        )
    ]


def _why(fact: Fact) -> str:
    reasons = fact.body.get("reasons")
    said = reasons[0] if isinstance(reasons, list) and reasons else fact.body.get("reason")
    return text(said) or f"The rule {text(fact.body.get('rule')) or 'is not told'}."


def _environment(fact: Fact) -> str:
    return fact.environment


_JUDGES: tuple[Callable[[Mapping[str, Sequence[Fact]]], list[Attention]], ...] = (
    _approvals,
    _rejected,
    _failed,
    _gates,
    _degraded,
    _out_of_sync,
    _drift,
    _labels,
    _decisions,
    _handed_over,
)
