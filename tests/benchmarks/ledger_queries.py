"""Questions to an index of a million records of a thousand deliverables: how long each takes, and by which plan.

Run: python tests/benchmarks/ledger_queries.py [--records 1000000] [--deliverables 1000] [--index FILE] [--plans]

The records are written into the tables as the index itself writes them, without being judged one by one: a delivery after
another of each deliverable, from a commit by gates, image and staging to production, with a batch, its drift, performance
and decision beside it; of each tenth, an incident and a difference from Git after it. An index that is there already is used
again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import re
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from airflow_pipeops.delivery.ledger.index import Index, reader
from airflow_pipeops.delivery.passport import passport
from airflow_pipeops.delivery.queries import (
    attention,
    differences,
    gathering,
    history,
    live,
    timeline,
    tracing,
)
from airflow_pipeops.delivery.queries.conditions import sort_of
from airflow_pipeops.delivery.queries.facts import Fact
from airflow_pipeops.delivery.queries.references import reference, resolve

START = datetime(2025, 1, 1, tzinfo=timezone.utc)
#: One delivery: kind, environment, and which earlier records of it a record is made from.
CYCLE: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("commit", "", ()),
    ("dataset", "", ()),
    ("validation", "", (0, 1)),
    ("image", "", (0, 2)),
    ("model", "", (1, 2)),
    ("change", "staging", (3, 4)),
    ("release", "staging", (5,)),
    ("change", "production", (6,)),
    ("release", "production", (7,)),
    ("drift", "", (1,)),
    ("evaluation", "", (1,)),
    ("decision", "", (9, 10)),
    ("incident", "production", (8,)),
    ("differences", "", ()),
)
#: Of these kinds, each tenth deliverable has one in a cycle.
SELDOM = ("incident", "differences")


def sha(*of: Any) -> str:
    """A digest of anything."""
    return hashlib.sha256(repr(of).encode()).hexdigest()


def body(kind: str, number: int, cycle: int) -> dict[str, Any]:
    """Facts as large as those of real records."""
    commit = sha("commit", number, cycle)[:40]
    digest = f"sha256:{sha('image', number, cycle)}"
    columns = [
        {"column": f"c{at}", "verdict": "no drift", "score": 0.1, "threshold": 0.2, "noise": 0.05}
        for at in range(6)
    ]
    return {
        "commit": {"commit": commit, "subject": "Change a thing", "author": "Ada", "time": ""},
        "dataset": {"batch": f"b{cycle}", "rows": 9000, "digest": sha("data", number, cycle)},
        "validation": {"subject": "tests", "passed": (cycle + number) % 9 != 0, "failed": 0, "commit": commit},
        "image": {"reference": f"registry.example.com/d{number}:1.{cycle}@{digest}", "digest": digest},
        "model": {"name": f"d{number:04}", "version": cycle, "sha256": sha("model", number, cycle)},
        "change": {"commit": sha("gitops", number, cycle)[:40], "repository": "https://git.example.com/deploy.git"},
        "release": {
            "app": f"d{number}", "revision": sha("gitops", number, cycle)[:40], "health": "Healthy", "sync": "Synced",
            "images": [f"registry.example.com/d{number}@{digest}"], "url": "https://argocd.example.com/applications/d",
        },
        "drift": {
            "subject": "data", "verdict": "no drift", "drifted": (cycle + number) % 7 == 0, "share": 0.1, "columns": columns,
        },
        "evaluation": {"subject": "performance", "metric": "roc_auc", "value": 0.7, "low": 0.6, "high": 0.8},
        "incident": {"what": "3 of 4 pods restart", "app": f"d{number}"},
        "differences": {"app": f"d{number}", "verdict": "different", "reason": "replicas 2, Git says 4"},
        "decision": {"action": "hold", "rule": "steady", "reasons": ["The metric is what it should be."], "acts": False},
    }[kind]  # fmt: skip


def rows(records: int, deliverables: int) -> Iterator[dict[str, Any]]:
    """The records, in the order of time."""
    each = len(CYCLE) - 0.9 * len(SELDOM)
    cycles = int(records / (deliverables * each)) + 1
    pause = timedelta(days=365 * 2) / records
    seq = 0
    for cycle in range(cycles):
        for place, (kind, environment, parents) in enumerate(CYCLE):
            for number in range(deliverables):
                if kind in SELDOM and (number + cycle) % 10:
                    continue
                seq += 1
                if seq > records:
                    return
                yield {
                    "seq": seq, "cycle": cycle, "number": number, "place": place, "kind": kind, "environment": environment,
                    "parents": [sha(number, cycle, parent) for parent in parents],
                    "at": (START + pause * seq).isoformat(timespec="microseconds"),
                }  # fmt: skip


def seed(path: Path, records: int, deliverables: int) -> None:
    """Write an index."""
    Index.open(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(records)")]
    insert = (
        f"INSERT INTO records ({', '.join(columns)}) VALUES ({', '.join(':' + name for name in columns)})"
    )
    connection.execute("PRAGMA journal_mode = OFF")  # else all would be written twice
    connection.execute("PRAGMA cache_size = -200000")
    made = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    for index, _ in made:
        connection.execute(f"DROP INDEX {index}")
    connection.execute("BEGIN")
    for row in rows(records, deliverables):
        ident = sha(row["number"], row["cycle"], row["place"])
        name, facts = f"d{row['number']:04}", body(row["kind"], row["number"], row["cycle"])
        commit = facts.get("commit", "") if row["kind"] in ("commit", "image") else ""
        path_ = "/".join(filter(None, (name, row["kind"], row["environment"])))
        extra = {
            "schema": "pipeops/v1", "kind": row["kind"], "deliverable": name, "environment": row["environment"] or None,
            "commit": commit or None, "at": row["at"], "source": {"dag": "d", "run": "r", "task": "t", "map_index": -1},
            "body": facts, "parents": row["parents"], "evidence": [], "id": ident,
        }  # fmt: skip
        told = Fact(
            row["seq"], ident, row["kind"], name, row["environment"], commit, row["at"], "d", "r", "t", -1, body=facts
        )  # fmt: skip
        connection.execute(
            insert,
            {
                **dict.fromkeys(columns), "seq": row["seq"], "id": ident, "kind": row["kind"], "deliverable": name,
                "environment": row["environment"], "commit_sha": commit, "at": row["at"], "stored": row["at"], "dag_id": "d",
                "run_id": "r", "task_id": "t", "map_index": -1, "event_id": row["seq"],
                "asset_name": path_.replace("/", "."),
                "asset_uri": f"pipeops://{path_}", "manual": 0, "problem": "",
                "suspect": attention.suspect(told), "sort": sort_of(told), "leaf": b"", "content": json.dumps(extra),
            },
        )  # fmt: skip
        if (sort := sort_of(told)) is not None:
            kept = (name, row["kind"], row["environment"], sort)
            connection.execute("INSERT OR IGNORE INTO sorts VALUES (?, ?, ?, ?)", kept)
        for parent in row["parents"]:
            connection.execute("INSERT INTO parents VALUES (?, ?)", (ident, parent))
        named = {ident, commit, facts.get("digest", ""), facts.get("commit", ""), facts.get("revision", "")}
        if row["kind"] == "model":
            named.add(f"{name}/{row['cycle']}")
        for one in filter(None, named):
            connection.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (one, row["seq"]))
        if row["kind"] == "release":
            connection.execute(
                "INSERT OR REPLACE INTO live VALUES (?, ?, ?, ?)",
                (name, row["environment"], row["seq"], row["at"]),
            )
    connection.execute("COMMIT")
    for _, statement in made:
        connection.execute(statement)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def questions(
    records: int, deliverables: int
) -> dict[str, Callable[[sqlite3.Connection, random.Random], Any]]:
    """What is asked, each with names and times drawn anew."""
    cycles = records // (deliverables * len(CYCLE))
    end = START + timedelta(days=365 * 2)

    def name(draw: random.Random) -> str:
        return f"d{draw.randrange(deliverables):04}"

    def when(draw: random.Random, days: float = 0) -> str:
        return (START + timedelta(days=draw.uniform(100, 700) + days)).isoformat(timespec="microseconds")

    def month(draw: random.Random) -> tuple[str, str]:
        first = draw.uniform(100, 690)
        return tuple(
            (START + timedelta(days=first + more)).isoformat(timespec="microseconds") for more in (0, 30)
        )  # type: ignore[return-value]

    def release(draw: random.Random) -> str:
        return sha(draw.randrange(deliverables), draw.randrange(cycles), 8)

    def commit(draw: random.Random) -> str:
        return sha("commit", draw.randrange(deliverables), draw.randrange(cycles))[:40]

    def whole(connection: sqlite3.Connection, at: str = "") -> int:
        after, seen = "", 0
        while True:
            page = live.matrix(connection, at=at, limit=500, after=after)
            seen, after = seen + len(page.items), page.after
            if not after:
                return seen

    return {
        "live: one cell": lambda c, d: live.live(c, name(d), "production"),
        "live: one cell at a time": lambda c, d: live.live(c, name(d), "production", at=when(d)),
        "live: a page of 100 deliverables": lambda c, d: live.matrix(c, limit=100, after=name(d)),
        "live: a page of 100 at a time": lambda c, d: live.matrix(c, limit=100, after=name(d), at=when(d)),
        "live: every deliverable": lambda c, d: whole(c),
        "needs: every deliverable": lambda c, d: attention.agenda(c, limit=deliverables),
        "needs: one deliverable": lambda c, d: attention.agenda(c, names=[name(d)]),
        "history: a page of one deliverable": lambda c, d: history.history(c, deliverable=name(d), end=when(d)),
        "history: a page of one environment": lambda c, d: history.history(c, deliverable=name(d), environment="production"),
        "history: a page of everything": lambda c, d: history.history(c, end=when(d)),
        "history: a page of all releases": lambda c, d: history.history(c, kinds=("release",), end=when(d)),
        "history: a kind that is not there": lambda c, d: history.history(c, kinds=("rollback",), end=when(d)),
        "before: what changed before a moment": lambda c, d: history.before(c, when(d), deliverable=name(d)),
        "reference: a commit": lambda c, d: resolve(c, reference(commit(d))),
        "reference: seven digits": lambda c, d: resolve(c, reference(release(d)[:9])),
        "reference: a model's version": lambda c, d: resolve(c, reference(f"{name(d)}/{d.randrange(1, cycles)}")),
        "trace up": lambda c, d: tracing.up(c, release(d)),
        "trace down": lambda c, d: tracing.down(c, sha(d.randrange(deliverables), d.randrange(cycles), 0)),
        "passport": lambda c, d: passport(c, tracing.held(c, [found := release(d)])[found]),
        "gaps: a month": lambda c, d: tracing.gaps(c, *month(d)),
        "changes: one cell in a month": lambda c, d: differences.change(c, name(d), "production", *month(d)),
        "changes: 100 deliverables in a month": lambda c, d: differences.changed(c, *month(d), after=name(d)),
        "series: drift": lambda c, d: timeline.drift(c, name(d)),
        "series: performance": lambda c, d: timeline.performance(c, name(d)),
        "series: decisions": lambda c, d: timeline.decisions(c, name(d)),
        "figures: 90 days": lambda c, d: gathering.figures(
            c, name(d), "production", (end - timedelta(days=90)).isoformat(), end.isoformat()
        ),
    }  # fmt: skip


def p95(figures: list[float]) -> float:
    """The figure that 95 of 100 do not exceed."""
    return sorted(figures)[math.ceil(0.95 * len(figures)) - 1]


def plans(connection: sqlite3.Connection, ask: Callable[[], Any]) -> list[str]:
    """The plans of all statements of a question, each once, without what repeats."""
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    ask()
    connection.set_trace_callback(None)
    found: dict[str, None] = {}
    for statement in dict.fromkeys(re.sub(r"'[^']*'", "''", one) for one in statements):
        if not statement.lstrip().startswith(("SELECT", "WITH")):
            continue
        for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
            if re.match(r"(SCAN|SEARCH) (?!.*json_each|.*VIRTUAL)", row[3]):
                found[row[3]] = None
    return list(found)


def main() -> None:
    """Seed, ask, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--deliverables", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--plans", action="store_true", help="print by which plan each is answered")
    given = parser.parse_args()
    path = given.index or Path(tempfile.mkdtemp()) / "index.db"
    if not path.exists():
        began = time.perf_counter()
        seed(path, given.records, given.deliverables)
        print(
            f"seeded {given.records:,} records in {time.perf_counter() - began:.0f} s:"
            f" {os.stat(path).st_size / 2**20:,.0f} MB"
        )
    connection = reader(path)
    print("| question | median ms | p95 ms | p95 CPU ms |\n|---|---|---|---|")
    asked = questions(given.records, given.deliverables)
    for name, ask in asked.items():
        draw, took, worked = random.Random(1), [], []
        for _ in range(given.times):
            began, busy = time.perf_counter(), time.process_time()
            ask(connection, draw)
            worked.append((time.process_time() - busy) * 1000)
            took.append((time.perf_counter() - began) * 1000)
        figures = (statistics.median(took), p95(took), p95(worked))
        print(f"| {name} | {' | '.join(f'{figure:.1f}' for figure in figures)} |", flush=True)
    if given.plans:
        for name, ask in asked.items():
            print(f"\n{name}")
            for line in plans(connection, lambda ask=ask: ask(connection, random.Random(1))):
                print(f"  {line}")


if __name__ == "__main__":
    main()
