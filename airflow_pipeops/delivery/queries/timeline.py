"""What was measured, as series; and what was decided."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.delivery.queries.conditions import subject
from airflow_pipeops.delivery.queries.facts import Fact
from airflow_pipeops.delivery.queries.history import FIRST, LAST, history


@dataclass(frozen=True)
class Point(JsonForm):
    """One measurement.

    :param at: when, in UTC.
    :param value: what was measured; none if nothing could be.
    :param record: id of the record.
    :param batch: of which data.
    :param verdict: what was judged of it.
    :param threshold: what the value was held against; for a performance, the level that was agreed, else the reference of
        the measurement itself.
    :param noise: what chance alone gives.
    :param low: lower end of the interval.
    :param high: upper end of the interval.
    """

    at: str
    value: float | None
    record: str
    batch: str = ""
    verdict: str = ""
    threshold: float | None = None
    noise: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series(JsonForm):
    """Measurements of one thing.

    :param name: of the column, or of the metric.
    :param points: the oldest first.
    :param subject: of which data, of drift: the predictions are others than what they were made from.
    """

    name: str
    points: tuple[Point, ...]
    subject: str = ""


def drift(
    connection: sqlite3.Connection,
    deliverable: str,
    *,
    start: str = FIRST,
    end: str = LAST,
    allowed: Collection[str] | None = None,
    limit: int = 200,
) -> tuple[Series, ...]:
    """Read how far each column was from its reference, comparison by comparison.

    :param connection: to the index.
    :param deliverable: its name.
    :param start: of the time.
    :param end: of the time.
    :param allowed: the deliverables that the reader may see; none means all.
    :param limit: comparisons at most, the newest of them.
    :return: of each subject a series for each column, and one for the share of columns that drifted, which has the empty
        name.
    """
    found: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for fact in _oldest_first(connection, deliverable, "drift", start, end, allowed, limit):
        batch, body, what = text(fact.body.get("batch")), fact.body, subject(fact)
        found[what, ""].append(
            Point(
                fact.at,
                _number(body.get("share")),
                fact.id,
                batch,
                text(body.get("verdict")),
                _number(body.get("drift_share")),
            )
        )
        for column in maps(body.get("columns")):
            found[what, text(column.get("column"))].append(
                Point(
                    fact.at,
                    _number(column.get("score")),
                    fact.id,
                    batch,
                    text(column.get("verdict")),
                    _number(column.get("threshold")),
                    _number(column.get("noise")),
                    _number(column.get("low")),
                    _number(column.get("high")),
                )
            )
    return tuple(Series(name, tuple(points), what) for (what, name), points in found.items())


def performance(
    connection: sqlite3.Connection,
    deliverable: str,
    *,
    start: str = FIRST,
    end: str = LAST,
    allowed: Collection[str] | None = None,
    limit: int = 200,
) -> tuple[Series, ...]:
    """Read how good the model was on what arrived, by metric. Arguments are those of :func:`drift`.

    :return: a series for each metric; what was estimated without labels is a series of its own. What judges a release
        instead, as a guard does, is in none.
    """
    agreed = {
        parent: target
        for one in _oldest_first(connection, deliverable, "decision", start, end, allowed, limit)
        if (target := _number(map_(one.body.get("policy")).get("target"))) is not None
        for parent in one.parents
    }
    found: dict[str, list[Point]] = defaultdict(list)
    for fact in _oldest_first(connection, deliverable, "evaluation", start, end, allowed, limit):
        body = fact.body
        if "value" not in body or "promote" in body or subject(fact) not in ("", "performance"):
            continue
        name = text(body.get("metric")) + (" (estimated)" if body.get("estimated") else "")
        found[name].append(
            Point(
                fact.at,
                _number(body.get("value")),
                fact.id,
                text(body.get("batch")),
                text(body.get("verdict")),
                agreed.get(fact.id, _number(body.get("reference"))),
                None,
                _number(body.get("low")),
                _number(body.get("high")),
            )
        )
    return tuple(Series(name, tuple(points)) for name, points in found.items())


@dataclass(frozen=True)
class Decided(JsonForm):
    """What a governor decided.

    :param at: when, in UTC.
    :param record: id of the record.
    :param action: what to do.
    :param rule: that decided.
    :param reasons: in plain words, the deciding one first.
    :param batch: about which data.
    :param mode: ``observe``, ``propose`` or ``act``.
    :param waits: whether a person had to agree.
    """

    at: str
    record: str
    action: str
    rule: str
    reasons: tuple[str, ...]
    batch: str
    mode: str
    waits: bool


def decisions(
    connection: sqlite3.Connection,
    deliverable: str,
    *,
    start: str = FIRST,
    end: str = LAST,
    allowed: Collection[str] | None = None,
    limit: int = 200,
) -> tuple[Decided, ...]:
    """Read what the governor decided, the oldest first. Arguments are those of :func:`drift`."""
    return tuple(
        Decided(
            fact.at,
            fact.id,
            text(fact.body.get("action")),
            text(fact.body.get("rule")),
            _texts(fact.body.get("reasons")),
            text(map_(fact.body.get("observation")).get("batch")),
            text(fact.body.get("mode")),
            fact.body.get("needs_approval") is True,
        )
        for fact in _oldest_first(connection, deliverable, "decision", start, end, allowed, limit)
    )


def _oldest_first(
    connection: sqlite3.Connection,
    deliverable: str,
    kind: str,
    start: str,
    end: str,
    allowed: Collection[str] | None,
    limit: int,
) -> list[Fact]:
    page = history(
        connection, deliverable=deliverable, kinds=(kind,), start=start, end=end, allowed=allowed, limit=limit
    )
    return list(reversed(page.items))


def _number(value: Any) -> float | None:
    """Return a number; none in place of anything else."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(text, value))) if isinstance(value, list) else ()
