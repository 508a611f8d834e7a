"""A running API server keeps the ledger by itself."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from airflow_pipeops.delivery.ledger.index import reader
from tests.delivery.ledger.conftest import Database
from tests.delivery.ledger.events import entry, record
from tests.ui.conftest import Server


def test_what_is_emitted_and_what_is_posted_is_in_the_ledger_at_once(server: Server) -> None:
    home = Path(urlsplit(server.evidence).path).parent
    database = Database(f"sqlite:///{home / 'airflow.db'}")
    emitted = record(deliverable="of-a-task")
    database.add(entry(emitted, 0))
    asset = database.asset("by-hand.release.production", "pipeops://by-hand/release/production")
    answer = httpx.post(
        f"{server.url}/api/v2/assets/events",
        json={"asset_id": asset, "extra": record(deliverable="by-hand").to_extra()},
        headers={"Authorization": f"Bearer {server.token('admin')}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    query = "SELECT deliverable, manual, problem FROM records WHERE deliverable IN ('of-a-task', 'by-hand') ORDER BY 1"
    found: list[tuple] = []
    pause = threading.Event()
    for _ in range(300):
        try:
            connection = reader(home / "pipeops" / "index.db")
            found = [tuple(row) for row in connection.execute(query)]
            connection.close()
        except sqlite3.OperationalError:
            pass  # it is not made yet
        if len(found) == 2:
            break
        pause.wait(0.2)
    assert found == [("by-hand", 1, "it was posted through Airflow's API"), ("of-a-task", 0, "")]
    assert (home / "pipeops" / "ledger" / "entries" / "000" / "000.jsonl").is_file()
