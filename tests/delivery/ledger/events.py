"""Events as Airflow stores them, for tests of the ledger."""

from __future__ import annotations

from typing import Any

from airflow_pipeops.delivery.ledger.entries import Entry, utc
from airflow_pipeops.delivery.records import PER_ENVIRONMENT, Record

AT = "2026-01-02T03:04:05+00:00"
SOURCE = {"dag": "deploy", "run": "run-1", "task": "wait", "map_index": -1}


def record(kind: Any = "release", deliverable: str = "svc", **given: Any) -> Record:
    """Make a record as a task would."""
    given = {"body": {}, "at": AT, "source": SOURCE, **given}
    if kind in PER_ENVIRONMENT:
        given.setdefault("environment", "production")
    return Record(kind, deliverable, **given)


def entry(of: Record, event: int, seq: int = 0, **given: Any) -> Entry:
    """Make the event that carries a record."""
    path = [of.deliverable, of.kind, *([of.environment] if of.environment else [])]
    usual = {
        "name": ".".join(path),
        "uri": f"pipeops://{'/'.join(path)}",
        "stored": utc(of.at or AT),
        "extra": of.to_extra(),
        **SOURCE,
    }
    return Entry(seq=seq, event=event, **{**usual, **given})
