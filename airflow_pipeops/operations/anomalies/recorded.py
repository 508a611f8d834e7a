"""Records of deliveries as series: rows, seconds of a training, lead times, waits for people, costs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import Json, number, text
from airflow_pipeops.delivery.records import Record, RecordKind
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.anomalies.runs import moment
from airflow_pipeops.operations.anomalies.series import SHAPES, Name, Point

#: Kinds of record that have something to measure.
READ: tuple[RecordKind, ...] = (
    "commit",
    "batch",
    "dataset",
    "scores",
    "training",
    "evaluation",
    "change",
    "release",
    "approval",
)
#: Field of a body -> what it measures.
_FIELDS = {"rows": "rows", "seconds": "duration", "cost": "cost"}


def values_of(records: Iterable[Record], owner: str) -> list[tuple[Name, Point]]:
    """Make values of records, each at the time that it says.

    :param records: of deliverables.
    :param owner: in whose budget they are counted.
    :return: the values.
    """
    known = {record.id: record for record in records}
    found = []
    for record in known.values():
        at = moment(record.at)
        if at is None:
            continue
        variant = record.environment or record.kind

        def add(
            kind: str, value: float | None, variant: str = variant, record: Record = record, at: float = at
        ) -> None:
            if value is not None and value >= 0:
                name = Name(record.deliverable, kind, variant, owner)
                found.append((name, Point(at, value, run=record.id)))

        for field, kind in _FIELDS.items():
            add(kind, number(record.body.get(field)))
        # What came back was committed long ago: it took no lead time.
        if record.kind == "release" and not any(_undoes(one) for one in _above(record, known, 1)):
            commits = [moment(one.body.get("time")) for one in _above(record, known) if one.kind == "commit"]
            first = min((time for time in commits if time is not None), default=None)
            add("lead", None if first is None else at - first)
        if record.kind == "approval":
            answered = moment(record.body.get("answered_at"))
            asked = [moment(one.at) for one in _above(record, known, 1)]
            since = max((time for time in asked if time is not None), default=None)
            add("wait", None if answered is None or since is None else answered - since)
    return found


def given(series: Any, owner: str) -> list[tuple[Name, Point]]:
    """Read series that somebody measured.

    :param series: ``{"name", "kind", "values": [[ISO time, number], ...]}`` for each.
    :param owner: in whose budget they are counted.
    :return: the values.
    :raises InvalidInput: for what is not of that form.
    """
    found: list[tuple[Name, Point]] = []
    for one in series or ():
        name, kind = (
            (text(one.get(part)) for part in ("name", "kind")) if isinstance(one, Mapping) else ("", "")
        )
        values = one.get("values") if name and kind in SHAPES else None
        if not isinstance(values, (list, tuple)):
            raise _bad(f"{name or one!r} is no series")
        found += [(Name(name, kind, "", owner), _point(name, value)) for value in values]
    return found


def _point(name: str, value: Any) -> Point:
    pair: Sequence[Any] = value if isinstance(value, (list, tuple)) and len(value) == 2 else (None, None)
    at, found = moment(pair[0]), number(pair[1])
    if at is None or found is None:
        raise _bad(f"{value!r} is no value of series {name!r}")
    return Point(at, found)


def _bad(what: str) -> InvalidInput:
    return InvalidInput(
        what,
        field="series",
        remedy='Give {"name", "kind", "values": [[ISO-8601 time with its zone, number], ...]}; '
        f"kind is one of {', '.join(SHAPES)}.",
    )


def _undoes(record: Record) -> bool:
    return record.kind == "rollback" or bool(record.body.get("reverts") or record.body.get("order"))


def _above(record: Record, known: Mapping[str, Record], most: int = 20) -> list[Record]:
    """Return what a record was made from, so many steps up."""
    found: dict[str, Record] = {}
    level = [record]
    for _ in range(most):
        level = [
            known[parent]
            for one in level
            for parent in one.parents
            if parent in known and parent not in found
        ]
        found |= {one.id: one for one in level}
    return list(found.values())


def told_by(records: Iterable[Record]) -> tuple[float | None, frozenset[str]]:
    """Find what earlier looks told of.

    :param records: of kind *anomaly*.
    :return: up to when they looked; and the runs of which they told while those were running.
    """
    until: float | None = None
    told: set[str] = set()
    for record in records:
        time = moment(record.body.get("until"))
        until = time if until is None else max(until, time or until)
        told.update(key for key in _list(record.body.get("open")) if isinstance(key, str))
    return until, frozenset(told)


def _list(value: Any) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, (list, tuple)) else ()


def key_of(verdict: Json) -> str:
    """Return what tells an alarm about something that still grows from all others, and is the same at the next look."""
    return "/".join(text(verdict.get(part)) for part in ("subject", "kind", "variant", "at"))
