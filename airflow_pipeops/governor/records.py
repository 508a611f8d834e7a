"""Read a governor's history back from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_pipeops.delivery.records import Record
from airflow_pipeops.delivery.trace import trace
from airflow_pipeops.governor.history import (
    DECLINED,
    PROMOTED,
    REJECTED,
    RETRAIN,
    Observation,
    RetrainOutcome,
    deduplicated,
)


def observations(records: Sequence[Record]) -> list[Observation]:
    """Read what was observed and decided.

    The outcome of a retrain is that of the newest evaluation of a challenger that was made from its decision. A proposal
    that nobody started counts as declined.

    :param records: in the order of time: decisions, and what leads from them to evaluations.
    :return: the observations, oldest first, one for each batch.
    """
    found: list[Observation] = []
    outcomes = _outcomes(records)
    started = {_batch(record) for record in records if record.body.get("approved")}
    for record in records:
        observation = record.body.get("observation")
        if record.kind != "decision" or not isinstance(observation, Mapping):
            continue
        item = Observation.from_json(observation)
        found.extend(Observation.from_json(late) for late in record.body.get("late") or ())
        if item.action == RETRAIN and record.id in outcomes:
            item = replace(item, outcome=outcomes[record.id])
        elif record.body.get("needs_approval") and item.batch not in started:
            item = replace(item, outcome=DECLINED)
        found.append(item)
    return deduplicated(found)


def _batch(record: Record) -> Any:
    observation = record.body.get("observation")
    return observation.get("batch") if isinstance(observation, Mapping) else None


def _outcomes(records: Sequence[Record]) -> dict[str, RetrainOutcome]:
    """Return the outcome of each decision that a challenger was made from, by the decision's id."""
    found: dict[str, RetrainOutcome] = {}
    for record in records:
        if record.kind == "evaluation" and isinstance(record.body.get("promote"), bool):
            outcome: RetrainOutcome = PROMOTED if record.body["promote"] else REJECTED
            for decision in trace(record.id, records).of_kind("decision")[:1]:
                found[decision.id] = outcome
    return found
