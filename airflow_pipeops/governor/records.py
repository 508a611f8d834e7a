"""Read a governor's history back from records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from airflow_pipeops.base.arguments import mapping
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.delivery.trace import trace
from airflow_pipeops.exceptions import InvalidInput
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
    """Like :func:`read_history`, without what is left out."""
    return read_history(records)[0]


def read_history(records: Sequence[Record]) -> tuple[list[Observation], list[str]]:
    """Read what was observed and decided.

    The outcome of a retrain is that of the newest evaluation of a challenger that was made from its decision. A proposal
    that nobody started counts as declined. What cannot be read, for example since a later version wrote it, is left out.

    :param records: in the order of time: decisions, and what leads from them to evaluations.
    :return: the observations, oldest first, one for each batch; and what is left out, with the reasons.
    """
    found: list[Observation] = []
    left_out: list[str] = []

    def read(data: Any, of: str) -> Observation | None:
        try:
            return Observation.from_json(mapping("observation", data, ""))
        except InvalidInput as error:
            left_out.append(f"{of}: {error.message[:200]}")
        return None

    outcomes = _outcomes(records)
    decisions = [record for record in records if record.kind == "decision"]
    read_ones = [(record, read(record.body.get("observation"), _named(record))) for record in decisions]
    started = {item.batch for record, item in read_ones if item and record.body.get("approved")}
    for record, item in read_ones:
        late = record.body.get("late") or []
        for given in late if isinstance(late, list) else [late]:
            found.extend(filter(None, [read(given, f"labels that arrived late, in {_named(record)}")]))
        if item is None:
            continue
        if item.action == RETRAIN and record.id in outcomes:
            item = replace(item, outcome=outcomes[record.id])
        elif record.body.get("needs_approval") and item.batch not in started:
            item = replace(item, outcome=DECLINED)
        found.append(item)
    return deduplicated(found), left_out


def _named(record: Record) -> str:
    return f"decision record {record.id[:12]}"


def _outcomes(records: Sequence[Record]) -> dict[str, RetrainOutcome]:
    """Return the outcome of each decision that a challenger was made from, by the decision's id."""
    found: dict[str, RetrainOutcome] = {}
    for record in records:
        if record.kind == "evaluation" and isinstance(record.body.get("promote"), bool):
            outcome: RetrainOutcome = PROMOTED if record.body["promote"] else REJECTED
            for decision in trace(record.id, records).of_kind("decision")[:1]:
                found[decision.id] = outcome
    return found
