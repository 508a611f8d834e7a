"""The passport of what is live: what it is, since when, made from what, deployed by which commit, approved by whom."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.attention import passed
from airflow_pipeops.delivery.queries.facts import Fact, may_see
from airflow_pipeops.delivery.queries.history import LAST
from airflow_pipeops.delivery.queries.live import Cell, cell_of, live
from airflow_pipeops.delivery.queries.restored import restored
from airflow_pipeops.delivery.queries.runs import began, between, blamed, change_of, ended, previous
from airflow_pipeops.delivery.queries.tracing import Step, Walk, up

#: Which fact of a record tells the most in one line.
_TELLS = {
    "commit": ("subject", "author"),
    "validation": ("subject", "batch", "passed"),
    "dataset": ("batch", "rows", "digest"),
    "batch": ("batch", "rows", "digest"),
    "workflow": ("namespace", "name", "progress"),
    "image": ("reference", "builder"),
    "training": ("name", "trainer", "train_rows"),
    "model": ("name", "version", "sha256"),
    "alias": ("name", "alias", "version"),
    "prompt": ("name", "model", "sha256"),
    "scores": ("partition", "version", "rows"),
    "evaluation": ("reason", "metric", "value"),
    "drift": ("batch", "share", "drifted"),
    "differences": ("app", "revision", "reason"),
    "decision": ("action", "reasons"),
    "approval": ("subject", "answer", "approved_by"),
    "change": ("commit", "file"),
    "release": ("app", "revision", "health"),
    "rollback": ("app", "how", "reason"),
    "incident": ("what",),
    "explanation": ("outcome", "reason"),
    "remediation": ("action", "state", "reason"),
    "failure": ("outcome", "error", "reason"),
}
#: Of an unknown kind, so many facts are told.
_UNKNOWN_TELLS = 3


@dataclass(frozen=True)
class Answer(JsonForm):
    """What a passport says to one question.

    :param question: in plain words.
    :param answer: in plain words; ``unknown`` where the ledger does not tell.
    :param records: ids of the records that say so.
    """

    question: str
    answer: str
    records: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passport(JsonForm):
    """What a record was made from; of a release, with what a person asks about it.

    :param fact: the record, usually a release.
    :param cell: of a release: what it brought; of the version that is live, as it is now, else as it was right after it.
    :param live: of a release: whether its version is what is live now.
    :param since: of a release: since when its version is, or was, live without another in between.
    :param before: of a release: what was live before that.
    :param incidents: of a release: what went wrong from then until the next version, the newest first.
    :param answers: to what a person asks.
    :param walk: all that it was made from.
    :param until: of a release: when another version was live after its own, or its own was taken away; empty until then.
    """

    fact: Fact
    cell: Cell | None
    live: bool
    since: str
    before: Cell | None
    incidents: tuple[Fact, ...]
    answers: tuple[Answer, ...]
    walk: Walk
    until: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with whether it is complete."""
        return {**super().to_json(), "complete": self.walk.complete}


def passport(
    connection: sqlite3.Connection, fact: Fact, *, allowed: Collection[str] | None = None
) -> Passport:
    """Put together the passport of a record.

    :param connection: to the index of the ledger.
    :param fact: the record.
    :param allowed: the deliverables that the reader may see; none means all.
    :return: the passport.
    """
    walk = up(connection, fact.id, allowed=allowed)
    if fact.kind != "release" or not fact.environment or fact.problem:
        return Passport(fact, None, False, "", None, (), _answers(walk, walk, None, "", None, ()), walk)
    source, back = walk, restored(connection, [fact])
    if fact.id in back:  # where nobody can tell what was restored, nobody can tell what it was made from
        origin = back[fact.id]
        source = up(connection, origin.id, allowed=allowed) if origin else Walk("up", walk.steps[:1])
    now, until = (
        live(connection, fact.deliverable, fact.environment, allowed=allowed),
        ended(connection, fact),
    )
    cell = now if now is not None and now.at < until else cell_of(connection, fact)
    first, release = began(connection, fact)
    change = _seen(change_of(connection, release), allowed)
    earlier = previous(connection, fact, first)
    brought = _seen(change_of(connection, earlier.id), allowed) if earlier else None
    unnamed = between(brought.body, change.body) if brought and change else {}
    incidents = blamed(connection, fact, first, until)
    until = "" if until == LAST else until
    before = cell_of(connection, earlier) if earlier else None
    return Passport(
        fact,
        cell,
        cell is now and cell.state == "live",
        first,
        before,
        incidents,
        _answers(walk, source, cell, first, before, incidents, change, until, unnamed),
        walk,
        until,
    )


def _seen(fact: Fact | None, allowed: Collection[str] | None) -> Fact | None:
    return fact if fact is not None and may_see(fact.deliverable, allowed) else None


def _answers(
    walk: Walk,
    source: Walk,
    cell: Cell | None,
    first: str,
    before: Cell | None,
    incidents: Sequence[Fact],
    change: Fact | None = None,
    until: str = "",
    unnamed: Mapping[str, str] | None = None,
) -> tuple[Answer, ...]:
    """Answer what a person asks first, of what was restored by what its release was made from. Pure."""
    found = []
    if cell is not None:
        alias = f", {cell.alias}" if cell.alias else ""
        named = f"{cell.version} ({cell.version_of}{alias})" if cell.version else "unknown"
        origin = source.steps[0].fact
        if origin is not None and origin.id != walk.steps[0].id:
            named += f", restored as it was released {_time(origin.at)}"
        found.append(Answer("What is it?", named, (cell.release,)))
        ended_ = f" until {_time(until)}" if until else ""
        found.append(Answer("Since when?", _time(first) + ended_, (cell.release,)))
    found.append(_answer("Made from which data?", source.made_from(), _data))
    commits = source.of_kind("commit")
    own = [one for one in commits if cell is None or one.deliverable == cell.deliverable]
    found.append(_answer("From which commit?", (own or commits)[:1], _commit))
    if cell is not None:
        changes = [change] if change is not None else walk.of_kind("change")[:1]
        found.append(_answer("Deployed by which commit?", changes, _change))
        approved = Answer(
            "Approved by whom?", cell.approved_by or "unknown", tuple(filter(None, [cell.approval]))
        )
        found.append(approved)
    gates = [
        one
        for one in source.of_kind("validation", "evaluation")
        if one.kind == "validation" or passed(one) is not None
    ]
    found.append(_answer("Which gates has it passed?", gates, _gate))
    if cell is not None:
        was = (
            f"{before.version} ({before.version_of}), released {_time(before.at)}"
            if before
            else "nothing, as far as the ledger goes back"
        )
        if unnamed:
            path = min(unnamed, key=lambda one: len(unnamed[one]))
            was += f"; then Git wanted {unnamed[path][:100]} ({path}), whose release no record names"
        found.append(Answer("What was live before?", was, (before.release,) if before else ()))
        went = (
            "; ".join(text(one.body.get("what"), 200) or "an incident" for one in incidents)
            or "no incident was recorded"
        )
        found.append(Answer("What went wrong since?", went, tuple(one.id for one in incidents)))
    return tuple(found)


def _answer(question: str, facts: Sequence[Fact], said: Any) -> Answer:
    told = list(dict.fromkeys(filter(None, map(said, facts))))
    return Answer(question, "; ".join(told) or "unknown", tuple(one.id for one in facts))


def _data(fact: Fact) -> str:
    name = text(fact.body.get("batch")) or text(fact.body.get("subject")) or fact.deliverable
    rows = fact.body.get("rows")
    rows = map_(rows).get("") if isinstance(rows, Mapping) else rows
    digest = text(fact.body.get("digest"))
    return f"{name}{f', {rows} rows' if isinstance(rows, int) else ''}{f', digest {digest[:12]}' if digest else ''}"


def _commit(fact: Fact) -> str:
    commit = fact.commit or text(fact.body.get("commit"))
    subject, author = text(fact.body.get("subject"), 100), text(fact.body.get("author"))
    return f"{commit[:12]}{f' {subject!r}' if subject else ''}{f' by {author}' if author else ''}"


def _change(fact: Fact) -> str:
    commit, repository = text(fact.body.get("commit")), text(fact.body.get("repository"))
    where = f" in {repository}" if repository else ""
    if commit and fact.body.get("changed") is False:
        return f"one before {commit[:12]}{where}, which had it already; no record names it"
    return f"{commit[:12]}{where}"


def _gate(fact: Fact) -> str:
    said = {True: "yes", False: "no", None: "cannot tell"}[passed(fact)]
    return f"{text(fact.body.get('subject')) or 'challenger'}: {said}"


def lines(walk: Walk) -> list[str]:
    """Return a walk as lines: one record each, indented by its distance, gaps included."""
    return [f"{'  ' * step.depth}{line(step)}" for step in walk.steps]


def line(step: Step) -> str:
    """Say in one line what a step of a walk is."""
    fact = step.fact
    if step.hidden:
        return f"- {step.id[:12]}  (you may not see this record)"
    if fact is None:
        return f"? {step.id[:12]}  (nobody holds this record any more)"
    where = f" ({flat(fact.environment)})" if fact.environment else ""
    doubt = f"  (not believed: {flat(fact.problem)})" if fact.problem else ""
    return f"{flat(fact.kind)}{where} {step.id[:12]}  {told(fact)}{doubt}"


def told(fact: Fact) -> str:
    """Say in a few words what a record tells."""
    keys: Iterable[str] = _TELLS.get(fact.kind) or list(fact.body)[:_UNKNOWN_TELLS]
    return ", ".join(f"{flat(key)}={_short(fact.body[key])}" for key in keys if key in fact.body)


def _time(at: str) -> str:
    return f"{at[:10]} {at[11:19]} UTC"


def _short(value: Any) -> str:
    said = flat("; ".join(map(str, value)) if isinstance(value, list) else value)
    return said if len(said) <= 90 else said[:87] + "..."


def flat(value: Any) -> str:
    """Return a value as one line without what moves the cursor of a terminal."""
    said = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in said)
