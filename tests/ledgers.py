"""Ledgers for tests: records as Airflow would have stored them, in an index."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_pipeops.delivery.ledger.checkpoints import TRAILER, advance, trailer
from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.files import Ledger
from airflow_pipeops.delivery.ledger.index import Index, reader
from airflow_pipeops.delivery.records import PER_ENVIRONMENT, Record

START = datetime(2026, 3, 1, tzinfo=timezone.utc)


def at(minutes: float) -> str:
    """The time so many minutes after :data:`START`."""
    return (START + timedelta(minutes=minutes)).isoformat(timespec="microseconds")


def sha(name: str) -> str:
    """A commit by a name."""
    return hashlib.sha1(name.encode()).hexdigest()


def record(
    kind: str,
    body: Mapping[str, Any] | None = None,
    *parents: Record | str,
    deliverable: str = "delay-api",
    environment: str | None = None,
    commit: str | None = None,
    minutes: float = 0,
    task: str = "task",
) -> Record:
    """A record of a task."""
    return Record(
        kind=kind,  # type: ignore[arg-type]
        deliverable=deliverable,
        environment=environment,
        commit=commit,
        body=body or {},
        parents=tuple(parent if isinstance(parent, str) else parent.id for parent in parents),
        at=at(minutes),
        source={"dag": "dag", "run": "run", "task": task, "map_index": -1},
    )


def event(extra: Mapping[str, Any], at: Any, asset: Any = None, **source: Any) -> SimpleNamespace:
    """An event as Airflow gives it to a task: by the task that its record names, unless no task has emitted it."""
    named = extra.get("source") or {}
    known = {part: named.get(part) for part in ("dag", "run", "map_index")} | {
        "task": named.get("task") or "task"
    }
    if extra.get("from_rest_api") or extra.get("from_trigger"):
        known = dict.fromkeys(known)
    known |= source
    return SimpleNamespace(
        extra=dict(extra),
        timestamp=at,
        source_dag_id=known["dag"],
        source_run_id=known["run"],
        source_task_id=known["task"],
        source_map_index=known["map_index"],
        **({"asset": asset} if asset is not None else {}),
    )


def entry(seq: int, found: Record, **changes: Any) -> Entry:
    """The entry of the ledger that Airflow's event of a record becomes."""
    path = [found.deliverable, found.kind]
    if found.kind in PER_ENVIRONMENT and found.environment:
        path.append(found.environment)
    given: dict[str, Any] = {
        "seq": seq, "event": seq, "name": ".".join(path), "uri": f"pipeops://{'/'.join(path)}", "stored": found.at,
        "extra": found.to_extra(), "dag": found.source["dag"], "run": found.source["run"],
        "task": found.source["task"], "map_index": found.source["map_index"],
    }  # fmt: skip
    return Entry(**{**given, **changes})


def entries(records: Iterable[Record]) -> list[Entry]:
    """Number records in the order in which they came."""
    return [entry(seq, found) for seq, found in enumerate(records, 1)]


def checkpointed(folder: Path) -> tuple[str, str]:
    """Make a ledger of one entry, with a checkpoint.

    :return: its address, and the line by which a commit carries the checkpoint.
    """
    ledger = Ledger.open(folder.as_uri())
    ledger.append([entry(0, record("dataset"), event=1)], ledger.head())
    return folder.as_uri(), f"{TRAILER}: {trailer(advance(ledger, 1, None, 'pipeops.example.com'))}"


def indexed(path: Path, given: Iterable[Entry]) -> sqlite3.Connection:
    """Make an index of entries.

    :return: a connection that reads it.
    """
    index = Index.open(path)
    index.add(given)
    index.close()
    return reader(path)
