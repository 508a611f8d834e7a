"""Where outcomes and interlocks come from: tables, lists, and the records of a deliverable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.tuning.evidence import Outcome
from airflow_pipeops.operations.tuning.knob import moment

if TYPE_CHECKING:
    from airflow_pipeops.delivery.records import Record

#: Kinds of record that say that something acts on a deliverable.
ACTING = ("decision", "rollback", "incident", "remediation")
_COLUMNS = ("at", "hit", "loss", "labelled_at")


def read_outcomes(given: Any, storage_conn_id: str | None = None) -> list[Outcome]:
    """Read outcomes.

    :param given: a list of mappings with ``at``, ``hit`` and perhaps ``loss`` and ``labelled_at``; or the URIs of Parquet or
        CSV files with these columns.
    :param storage_conn_id: connection of type ``pipeops_storage``; relative names are below its root.
    :return: the outcomes, oldest first.
    :raises InvalidInput: for anything else, naming the entry.
    """
    if isinstance(given, str) or (isinstance(given, (list, tuple)) and given and isinstance(given[0], str)):
        given = _rows(given, storage_conn_id)
    if not isinstance(given, (list, tuple)):
        raise InvalidInput(
            f"outcomes are of type {type(given).__name__}",
            field="outcomes",
            remedy="Give a list of mappings with at and hit, or the URI of a table with these columns.",
        )
    return sorted((_outcome(item, number) for number, item in enumerate(given, 1)), key=lambda one: one.at)


def _rows(names: str | Sequence[str], storage_conn_id: str | None) -> list[dict[str, Any]]:
    from airflow_pipeops.base.tables import read

    frame = read(names, field="outcomes", storage_conn_id=storage_conn_id).frame
    has_columns("table of outcomes", frame.columns, _COLUMNS[:2])
    kept = frame[[name for name in _COLUMNS if name in frame.columns]].astype(object)
    return list(kept.where(kept.notna(), None).to_dict("records"))


def _outcome(item: Any, number: int) -> Outcome:
    def bad(what: str) -> InvalidInput:
        remedy = "Give at as a time with a zone, hit as true or false (or nothing yet), loss as a number."
        return InvalidInput(f"outcome {number} {what}", field="outcomes", value=number, remedy=remedy)

    if not isinstance(item, Mapping) or not item.get("at"):
        raise bad("has no time at")
    hit, loss = item.get("hit"), item.get("loss")
    if hit is not None and hit not in (True, False):
        raise bad(f"has {hit!r} as hit")
    if loss is not None and (
        isinstance(loss, bool) or not isinstance(loss, (int, float)) or loss - loss != 0
    ):
        raise bad(f"has {loss!r} as loss")
    labelled = item.get("labelled_at")
    return Outcome(
        _time(item["at"]),
        None if hit is None else bool(hit),
        None if loss is None else float(loss),
        _time(labelled) if labelled else None,
    )


def _time(value: Any) -> datetime:
    """Read a time of a table or a list."""
    return moment(value.to_pydatetime() if hasattr(value, "to_pydatetime") else value, "outcomes")


def of_retrains(records: Sequence[Record]) -> list[Outcome]:
    """Read what came of the retrains that a governor decided: a hit is one that did not help.

    :param records: of the deliverable, in the order of time: decisions, evaluations and validations.
    :return: the outcomes, oldest first.
    """
    from airflow_pipeops.governor.forecast import helped
    from airflow_pipeops.governor.history import DECLINED, RETRAIN
    from airflow_pipeops.governor.policy import RetrainPolicy
    from airflow_pipeops.governor.records import observations

    past = observations(records)
    known = dict(helped(past, RetrainPolicy()))
    return [
        Outcome(item.when, None if number not in known else not known[number])
        for number, item in enumerate(past)
        if item.action == RETRAIN and item.outcome != DECLINED
    ]


def busy_with(records: Sequence[Record], now: datetime, within: timedelta) -> str:
    """Say what else acts on the deliverable.

    :param records: of the deliverable.
    :param now: with a zone.
    :param within: how long an act is under way.
    :return: in words, what was last started; empty if nothing was.
    """
    for record in reversed(records):
        if record.kind not in ACTING or (record.kind == "decision" and not record.body.get("acts")):
            continue
        if record.at and now - moment(record.at, "at") < within:
            return f"what the {record.kind} record {record.id[:12]} of {record.at} tells is under way"
    return ""
