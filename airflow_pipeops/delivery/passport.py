"""The passport of what is live: a release, and everything it was made from, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_pipeops.delivery.events import misplaced
from airflow_pipeops.delivery.records import Record, readable
from airflow_pipeops.delivery.trace import Trace, trace

#: Which fact of a record tells the most in one line.
_TELLS = {
    "commit": ("subject", "author"),
    "validation": ("subject", "passed"),
    "dataset": ("rows", "digest"),
    "workflow": ("namespace", "name", "progress"),
    "image": ("reference", "builder"),
    "model": ("name", "version", "sha256"),
    "evaluation": ("reason",),
    "drift": ("share", "drifted"),
    "differences": ("app", "revision", "reason"),
    "decision": ("action", "reasons"),
    "change": ("commit", "file"),
    "release": ("app", "revision", "health"),
    "incident": ("what",),
}


def ledger(events: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Pick the records out of asset events as Airflow's API returns them.

    Only events that a task emitted count; one posted by hand is not a fact that anything here found, and a record about
    something else than its asset is none of this asset.

    :return: the records, oldest first.
    """
    ordered = sorted(events, key=lambda event: (event["timestamp"], event["id"]))
    emitted = [event for event in ordered if event.get("source_task_id")]
    return [
        record
        for event in emitted
        for record in readable([event["extra"] or {}])
        if not misplaced(record, str(event.get("uri") or ""))
    ]


def latest_release(
    records: Iterable[Record], deliverable: str, environment: str = "production"
) -> Record | None:
    """Return the newest release of a deliverable in an environment."""
    found = [
        r for r in records if (r.kind, r.deliverable, r.environment) == ("release", deliverable, environment)
    ]
    return found[-1] if found else None


def passport(records: list[Record], release: Record) -> Trace:
    """Walk from a release to everything it was made from."""
    return trace(release.id, records)


def lines(found: Trace) -> list[str]:
    """Return the passport as lines: one record each, indented by its distance, gaps included."""
    return [f"{'  ' * step.depth}{_line(step.id, step.record)}" for step in found.steps]


def _line(identifier: str, record: Record | None) -> str:
    if record is None:
        return f"? {identifier[:12]}  (nobody holds this record any more)"
    where = f" ({record.environment})" if record.environment else ""
    facts = ", ".join(
        f"{key}={_short(record.body[key])}" for key in _TELLS[record.kind] if key in record.body
    )
    return f"{record.kind}{where} {identifier[:12]}  {facts}"


def _short(value: Any) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 90 else text[:87] + "..."
