"""How fast the ledger takes up a million records, and what stays fast when it has them.

Airflow's own tables of assets in SQLite or a real PostgreSQL, filled with records of a thousand deliverables; then all are
ingested, as the first start of an API server does; then a few new ones, as every two seconds; then a proof, a checkpoint
and a verification.

Run: python -m tests.benchmarks.ledger [RECORDS [sqlite | postgres]]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from airflow_pipeops.delivery.ledger.checkpoints import newest, proof
from airflow_pipeops.delivery.ledger.database import Events
from airflow_pipeops.delivery.ledger.files import Ledger
from airflow_pipeops.delivery.ledger.index import Index
from airflow_pipeops.delivery.ledger.ingest import Ingest
from airflow_pipeops.delivery.ledger.verify import verify
from tests.delivery.ledger.conftest import Database
from tests.delivery.ledger.events import SOURCE, entry, record
from tests.servers import postgres

DELIVERABLES = 1000
CHAIN = ("commit", "validation", "image", "change", "release")


def fill(database: Database, first: int, count: int) -> None:
    """Store events: for each deliverable in turn a chain from a commit to a release."""
    parent: dict[int, str] = {}
    batch = []
    for number in range(first, first + count):
        which, step = number // len(CHAIN) % DELIVERABLES, number % len(CHAIN)
        before = (parent[which],) if step and which in parent else ()
        minute = number // 60 % 1440
        made = record(
            CHAIN[step], f"svc-{which}", body={"n": number, "reason": "x" * 200}, parents=before, commit=f"{number:040x}",
            at=f"2026-{number // 86400 % 12 + 1:02d}-02T{minute // 60:02d}:{minute % 60:02d}:{number % 60:02d}+00:00",
        )  # fmt: skip
        parent[which] = made.id
        batch.append(entry(made, number, **SOURCE))
        if len(batch) == 5000:
            database.add(*batch)
            batch = []
    database.add(*batch)


def timed(what: str, act, unit: str = "s", times: int = 1):
    """Print how long something took."""
    begun, busy = time.perf_counter(), time.process_time()
    found = act()
    took, worked = (
        (now - then) / times for now, then in ((time.perf_counter(), begun), (time.process_time(), busy))
    )
    scale = 1000 if unit == "ms" else 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{what:35} {took * scale:10.2f} {unit} on the clock {worked * scale:10.2f} {unit} of CPU"
        f"  {memory:6.0f} MB at most so far  load {os.getloadavg()[0]:.0f}",
        flush=True,
    )
    return found, took, worked


def main(records: int, kind: str) -> None:
    """Measure."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{home / 'airflow.db'}"
        if kind == "postgres":
            server = stack.enter_context(postgres())
            url = f"postgresql+psycopg2://tester@/postgres?host={server.folder}/socket"
        database = Database(url)
        timed(f"{records:,} events stored", lambda: fill(database, 1, records))
        ledger, index = Ledger.open((home / "ledger").as_uri()), Index.open(home / "index.db")
        ingest = Ingest(ledger, index, Events(database.engine))
        appended, took, worked = timed("ingested at the first start", lambda: ingest.run(home / "lock"))
        print(f"{'':35} {appended / took:10.0f} records/s on the clock, {appended / worked:.0f} of CPU")
        fill(database, records + 1, 20)
        timed("20 new ones", lambda: ingest.run(home / "lock"), "ms")
        timed("is there something new?", lambda: [ingest.behind for _ in range(100)], "ms", 100)
        note = newest(ledger)
        text, *_ = timed("a proof", lambda: proof(ledger, records // 2, note), "ms")
        timed("the index made anew", lambda: (index.clear(), ingest.run(home / "lock")))
        found, *_ = timed("verified", lambda: verify(ledger, checkpoints=[("own", note)], kept=index.kept))
        assert found.good, found.findings[:3]
        sizes = {
            "ledger": sum(path.stat().st_size for path in (home / "ledger").rglob("*") if path.is_file()),
            "index": (home / "index.db").stat().st_size,
        }
        print(
            json.dumps({name: f"{size / 1e6:.0f} MB" for name, size in sizes.items()}),
            len(text),
            "bytes of proof",
        )
        index.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=int, nargs="?", default=1_000_000)
    parser.add_argument("database", choices=("sqlite", "postgres"), nargs="?", default="sqlite")
    given = parser.parse_args()
    main(given.records, given.database)
