"""No question reads a table from end to end: what a question costs does not grow with the ledger."""

from __future__ import annotations

import random
import re
from pathlib import Path

from airflow_pipeops.delivery.ledger.index import reader
from tests.benchmarks.ledger_queries import plans, questions, seed

RECORDS, DELIVERABLES = 2400, 20


def test_each_question_is_answered_by_an_index(tmp_path: Path) -> None:
    seed(tmp_path / "index.db", RECORDS, DELIVERABLES)
    connection = reader(tmp_path / "index.db")
    asked = questions(RECORDS, DELIVERABLES)
    for name, ask in asked.items():
        found = plans(connection, lambda ask=ask: ask(connection, random.Random(1)))  # type: ignore[misc]
        assert found, name
        for line in found:
            assert not re.match(
                r"SCAN (records|parents|names|live|found|past|later|known|other|release)\b", line
            ), (
                name,
                line,
            )


def test_a_plan_that_reads_all_is_seen(tmp_path: Path) -> None:
    seed(tmp_path / "index.db", 240, 20)
    connection = reader(tmp_path / "index.db")
    found = plans(connection, lambda: connection.execute("SELECT * FROM records WHERE manual = 1").fetchall())
    assert found == ["SCAN records"]
