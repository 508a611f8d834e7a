"""Read from the ledger's index what went wrong, and what had changed before; bounded, however long the ledger is."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import replace

from airflow_pipeops.delivery.queries.facts import may_see
from airflow_pipeops.delivery.queries.history import newest
from airflow_pipeops.delivery.queries.live import live
from airflow_pipeops.delivery.queries.tracing import Walk, up
from airflow_pipeops.operations.changes.candidates import Ancestry, candidates_of
from airflow_pipeops.operations.changes.checks import check_of
from airflow_pipeops.operations.changes.questions import EACH, WALKED, after, symptom_at
from airflow_pipeops.operations.changes.scoring import rank
from airflow_pipeops.operations.changes.settings import DEFAULT, Settings
from airflow_pipeops.operations.changes.suspects import Explanation, Symptom
from airflow_pipeops.operations.changes.symptoms import hours_before

#: Deliverables that are read at most.
NAMES = 20
#: Suspects that are told at most, and of how many the check is.
TOLD, CHECKED = 20, 3
#: What can be the cause, says something of it, or leads from one to the other.
_CAUSES = (
    "commit",
    "image",
    "training",
    "model",
    "prompt",
    "change",
    "release",
    "rollback",
    "incident",
    "batch",
    "dataset",
    "validation",
    "evaluation",
    "drift",
    "differences",
    "workflow",
    "decision",
    "approval",
    "tuning",
    "remediation",
)  # fmt: skip


def why(
    connection: sqlite3.Connection,
    ref: str,
    *,
    allowed: Collection[str] | None = None,
    settings: Settings = DEFAULT,
    symptom: Symptom | None = None,
) -> Explanation:
    """Say what changed before something went wrong, and what of it is to be suspected.

    :param connection: to the index.
    :param ref: a record, ``DELIVERABLE[@ENVIRONMENT[@TIME]]``, or ``[DAG/]RUN``.
    :param allowed: the deliverables that the reader may see; none means all.
    :param settings: the numbers.
    :param symptom: what went wrong, where it is known already.
    :return: the suspects.
    :raises NotFound: if there is nothing by that name.
    :raises InvalidInput: if it is none, or a record that says of nothing that it went wrong.
    """
    asked = symptom or symptom_at(connection, ref, allowed=allowed)
    return explain(connection, asked, allowed=allowed, settings=settings)


def explain(
    connection: sqlite3.Connection,
    symptom: Symptom,
    *,
    allowed: Collection[str] | None = None,
    settings: Settings = DEFAULT,
) -> Explanation:
    """Rank what changed before a symptom. Arguments are those of :func:`why`."""
    ancestry, cut = _ancestry(connection, symptom, allowed)
    names = sorted(ancestry.borders, key=lambda name: (ancestry.borders[name], name))[:NAMES]
    facts = newest(connection, names, _CAUSES, each=EACH, end=after(symptom.end))
    whole = {
        name: sum(f.deliverable == name and f.kind in ("change", "release") for f in facts) for name in names
    }
    start = hours_before(symptom.start, 24 * settings.window)
    full = {
        (one.deliverable, one.kind): one.at
        for one in facts
        if one.kind in ("change", "commit", "batch", "model")
    }  # the oldest of each, as they come the newest first
    counts: dict[tuple[str, str], int] = {}
    for one in facts:
        counts[one.deliverable, one.kind] = counts.get((one.deliverable, one.kind), 0) + 1
    cut = cut or any(counts[of] == EACH and at > start for of, at in full.items())
    found = candidates_of(
        facts, symptom, ancestry, whole=frozenset(name for name, count in whole.items() if count < EACH)
    )
    ranked = rank((one for one in found if one.at >= start), symptom, settings, cut=cut)
    told = tuple(
        replace(one, check=check_of(one.candidate, symptom)) if place < CHECKED else one
        for place, one in enumerate(ranked.suspects[:TOLD])
    )
    return replace(ranked, suspects=told)


def _ancestry(
    connection: sqlite3.Connection, symptom: Symptom, allowed: Collection[str] | None
) -> tuple[Ancestry, bool]:
    """How far each deliverable is from which lineage leads to the symptom, or to what was live there."""
    borders = {symptom.deliverable: 0} if may_see(symptom.deliverable, allowed) else {}
    above: frozenset[str] = frozenset()
    starts = []
    if symptom.record:
        starts.append(symptom.record)
    if symptom.environment and borders:
        cell = live(
            connection, symptom.deliverable, symptom.environment, at=after(symptom.end), allowed=allowed
        )
        starts += [cell.release] if cell else []
    cut = False
    for start in starts:
        walk = up(connection, start, allowed=allowed, limit=WALKED)
        cut = cut or walk.cut
        for name, count in _borders(walk).items():
            borders[name] = min(count, borders.get(name, count))
        if start == symptom.record and len(walk.steps) > 1:
            above = frozenset(step.id for step in walk.steps)
    return Ancestry(borders, above), cut


def _borders(walk: Walk) -> dict[str, int]:
    crossed: dict[str, tuple[int, str]] = {}
    found: dict[str, int] = {}
    for step in walk.steps:
        if step.fact is None:
            continue
        name = step.fact.deliverable
        count, before = crossed.get(step.by, (0, name))
        count += name != before
        crossed[step.id] = (count, name)
        found[name] = min(count, found.get(name, count))
    return found
