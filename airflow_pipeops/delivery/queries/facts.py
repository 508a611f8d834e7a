"""What a query reads: facts, whose they are, and pages of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

from airflow_pipeops.base.documents import map_, maps, parsed, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.versions import VERSIONS
from airflow_pipeops.exceptions import InvalidInput

Item = TypeVar("Item")

#: The columns that :func:`fact` reads, of the table ``records``.
COLUMNS = (
    "records.seq, records.id, records.kind, records.deliverable, records.environment, records.commit_sha, records.at,"
    " records.dag_id, records.run_id, records.task_id, records.map_index, records.manual, records.problem, records.content"
)


@dataclass(frozen=True)
class Fact(JsonForm):
    """One record of the ledger, of whatever kind, also one that is not believed.

    :param seq: its number in the ledger.
    :param id: of the record.
    :param kind: of the record, perhaps one that only later versions know.
    :param deliverable: that it is about.
    :param environment: where it happened; empty for what happens nowhere.
    :param commit: that it was born from; empty if none.
    :param at: when, as an ISO-8601 UTC time.
    :param dag: that emitted it.
    :param run: of that DAG.
    :param task: of that DAG.
    :param map_index: of that task.
    :param manual: whether it was posted by hand, in place of a task that emitted it.
    :param problem: why it is not believed; empty if it is.
    :param parents: ids of the records that it was made from.
    :param body: the fact itself.
    :param evidence: the stored files that back it.
    :param versions: of what ran the task, as far as the record says so.
    """

    seq: int
    id: str
    kind: str
    deliverable: str
    environment: str = ""
    commit: str = ""
    at: str = ""
    dag: str = ""
    run: str = ""
    task: str = ""
    map_index: int | None = None
    manual: bool = False
    problem: str = ""
    parents: tuple[str, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A part of a list.

    :param items: of this part.
    :param after: what to ask with for the next part; empty if this is the last.
    """

    items: tuple[Item, ...]
    after: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "items": [item.to_json() if isinstance(item, JsonForm) else item for item in self.items],
            "after": self.after,
        }


def fact(row: sqlite3.Row) -> Fact:
    """Read a row that has :data:`COLUMNS` first."""
    content = _object(row[13])
    parents, source = content.get("parents"), map_(content.get("source"))
    return Fact(
        seq=row[0],
        id=row[1],
        kind=row[2],
        deliverable=row[3],
        environment=row[4],
        commit=row[5],
        at=row[6],
        dag=row[7] or "",
        run=row[8] or "",
        task=row[9] or "",
        map_index=row[10],
        manual=bool(row[11]),
        problem=row[12],
        parents=tuple(filter(_is_text, parents)) if isinstance(parents, list) else (),
        body=map_(content.get("body")),
        evidence=tuple(maps(content.get("evidence"))),
        versions={name: said for name in VERSIONS if (said := text(source.get(name), 100))},
    )


def select(
    connection: sqlite3.Connection, where: str, given: Mapping[str, Any], *, joined: str = ""
) -> list[Fact]:
    """Read facts.

    :param where: what follows ``WHERE``, with its order and its limit.
    :param given: the values of the names in it.
    :param joined: what follows ``FROM records``.
    :return: the facts.
    """
    return [
        fact(row)
        for row in connection.execute(f"SELECT {COLUMNS} FROM records {joined} WHERE {where}", given)
    ]


def seen(allowed: Collection[str] | None, column: str = "deliverable") -> str:
    """Return the condition that leaves out what the reader may not see; its value is that of :func:`scope`."""
    return "" if allowed is None else f" AND {column} IN (SELECT value FROM json_each(:allowed))"


def scope(allowed: Collection[str] | None) -> dict[str, str]:
    """Return the value for the condition of :func:`seen`."""
    return {} if allowed is None else {"allowed": listed(allowed)}


def listed(values: Iterable[str]) -> str:
    """Return values as ``json_each`` reads them."""
    return json.dumps(sorted(values))


def may_see(deliverable: str, allowed: Collection[str] | None) -> bool:
    """Whether the reader may see what is about a deliverable."""
    return allowed is None or deliverable in allowed


def moment(given: str, field: str = "at") -> str:
    """Read a time that a person gives; without a zone it is in UTC, and a date alone is its first moment.

    :param given: an ISO-8601 date or time.
    :param field: how the error names it.
    :return: the time in the form in which the index has it.
    :raises InvalidInput: for anything else.
    """
    try:
        found = datetime.fromisoformat(given.strip().replace("Z", "+00:00"))
        if found.tzinfo is None:
            found = found.replace(tzinfo=timezone.utc)
        return found.astimezone(timezone.utc).isoformat(timespec="microseconds")
    except (ValueError, OverflowError) as error:  # the first moment of all may have none in UTC
        raise InvalidInput(
            f"{field} is {given!r}, which is no date and no time",
            field=field,
            value=given,
            remedy="Write 2026-03-01, or 2026-03-01T12:00:00Z.",
        ) from error


def revision_of(release: Fact) -> str:
    """Return the revision of the desired state that a release is of; of several sources, as JSON."""
    given = release.body.get("revision")
    if isinstance(given, (Mapping, list)):
        return json.dumps(given, separators=(",", ":"))
    return "" if given is None else str(given)


def paged(items: Sequence[Fact], limit: int) -> Page[Fact]:
    """Make a page of facts that were read the newest first, and one more than the limit.

    :return: the page; what follows it is found by :func:`key_of`.
    """
    kept = tuple(items[:limit])
    return Page(kept, f"{kept[-1].at}~{kept[-1].seq}" if len(items) > limit and kept else "")


def key_of(after: str) -> dict[str, Any]:
    """Read where a page of facts begins.

    :return: the values of ``:at`` and ``:seq``: of all facts, those before them in the order of time come.
    :raises InvalidInput: if no page says so.
    """
    if not after:
        return {"at": "~", "seq": 0}
    at, _, seq = after.rpartition("~")
    if not at or not (seq.isascii() and seq.isdecimal() and len(seq) < 19):  # what SQLite holds
        raise InvalidInput(
            f"after is {after[:80]!r}, which no page has given",
            field="after",
            value=after[:80],
            remedy="Pass what the page before returned as after, or nothing.",
        )
    return {"at": at, "seq": int(seq)}


def _object(content: str) -> Mapping[str, Any]:
    try:
        return map_(parsed(content))
    except ValueError:
        return {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
