"""From Airflow's tables into the ledger: each event once, whatever is killed, and whoever is late."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from airflow_pipeops.delivery.ledger import ingest as ingest_module
from airflow_pipeops.delivery.ledger.database import Events
from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.feeder import Feeder
from airflow_pipeops.delivery.ledger.files import Ledger
from airflow_pipeops.delivery.ledger.index import Index, reader
from airflow_pipeops.delivery.ledger.ingest import Ingest
from airflow_pipeops.exceptions import InvalidInput
from tests.delivery.ledger.conftest import Database
from tests.delivery.ledger.events import AT, entry, record


def opened(tmp_path: Path, url: str = "", name: str = "index.db") -> Ingest:
    ledger = Ledger.open((tmp_path / "ledger").as_uri())
    database = Database(url or f"sqlite:///{tmp_path / 'airflow.db'}")
    return Ingest(ledger, Index.open(tmp_path / name), Events(database.engine))


def ingest(tmp_path: Path, *, wait: bool = True) -> int | None:
    found = opened(tmp_path)
    try:
        return found.run(tmp_path / "lock", wait=wait)
    finally:
        found.index.close()


def signal_of(event: int) -> Entry:
    extra = {"from_trigger": True, "payload": {"commit": "a" * 40}}
    return Entry(0, event, "svc.push", "pipeops://svc/signal/push", AT, extra)


def kept(tmp_path: Path) -> list[int]:
    ledger = Ledger.open((tmp_path / "ledger").as_uri())
    return [Entry.read(line).event for line in ledger.read()]


def rows(tmp_path: Path, sql: str) -> list[tuple]:
    connection = reader(tmp_path / "index.db")
    try:
        return [tuple(row) for row in connection.execute(sql)]
    finally:
        connection.close()


def test_records_are_taken_up_as_airflow_stored_them(tmp_path, database: Database) -> None:
    first, second = entry(record(body={"n": 1.5}), 4), entry(record("commit", commit="c" * 40), 6)
    database.add(first, signal_of(5), replace(second, partition="c" * 40))
    assert ingest(tmp_path) == 2
    assert ingest(tmp_path) == 0
    ledger = Ledger.open((tmp_path / "ledger").as_uri())
    utc = "2026-01-02T03:04:05.000000+00:00"
    assert [Entry.read(line) for line in ledger.read()] == [
        replace(first, seq=1, stored=utc),
        replace(second, seq=2, stored=utc, partition="c" * 40),
    ]
    assert rows(tmp_path, "SELECT problem, manual FROM records") == [("", 0)] * 2


def test_what_was_posted_by_hand_on_an_asset_of_ours_is_kept_as_such(tmp_path, database: Database) -> None:
    nobody = {"dag": None, "run": None, "task": None, "map_index": None}
    posted = {"from_rest_api": True}
    database.add(
        replace(entry(record(), 1, **nobody), extra={**record().to_extra(), **posted}),
        replace(signal_of(2), extra={**posted, "payload": {}}),
        Entry(0, 3, "other", "s3://other", AT, posted),
    )
    assert ingest(tmp_path) == 2
    found = rows(tmp_path, "SELECT event_id, manual, problem, deliverable FROM records")
    assert found == [
        (1, 1, "it was posted through Airflow's API", "svc"),
        (2, 1, "it is no record", "svc"),
    ]


def test_an_event_whose_transaction_ends_late_is_not_lost(tmp_path, database: Database) -> None:
    database.add(*(entry(record(body={"n": n}), n) for n in (1, 2, 5)), signal_of(6))
    assert ingest(tmp_path) == 3
    database.add(entry(record(body={"n": 4}), 4), signal_of(3))
    assert ingest(tmp_path) == 1
    assert kept(tmp_path) == [1, 2, 5, 4]
    assert ingest(tmp_path) == 0


def test_an_index_that_is_lost_or_of_another_ledger_is_made_anew(tmp_path, database: Database) -> None:
    database.add(*(entry(record(body={"n": n}), n) for n in range(1, 400)))
    ingest(tmp_path)
    everything = "SELECT * FROM records"
    before = rows(tmp_path, everything)
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert ingest(tmp_path) == 0
    assert rows(tmp_path, everything) == before
    index = Index.open(tmp_path / "index.db")
    index.clear()
    index.add(entry(record(body={"other": n}), n, n) for n in range(1, 500))
    index.close()
    assert ingest(tmp_path) == 0
    assert rows(tmp_path, everything) == before


def test_another_database_is_refused(tmp_path, database: Database) -> None:
    database.add(entry(record(), 70))
    ingest(tmp_path)
    (tmp_path / "airflow.db").unlink()
    Database(f"sqlite:///{tmp_path / 'airflow.db'}").add(entry(record(body={"n": 1}), 1))
    with pytest.raises(InvalidInput, match="it is another database") as caught:
        ingest(tmp_path)
    assert caught.value.field == "ledger_path"


def test_cleaned_events_stay_in_the_ledger(tmp_path, database: Database) -> None:
    database.add(*(entry(record(body={"n": n}), n) for n in range(1, 10)))
    ingest(tmp_path)
    with sqlite3.connect(tmp_path / "airflow.db") as connection:
        connection.execute("DELETE FROM asset_event")
    assert ingest(tmp_path) == 0
    assert len(kept(tmp_path)) == 9


def test_while_one_appends_another_does_not(tmp_path, database: Database) -> None:
    database.add(entry(record(), 1))
    events = Events(database.engine)
    with events.alone(tmp_path / "lock", wait=True) as alone:
        assert alone
        assert ingest(tmp_path, wait=False) is None
    assert ingest(tmp_path, wait=False) == 1


def test_two_servers_with_an_index_each_append_once(tmp_path, database: Database) -> None:
    """Each has its own index, as two machines have; both fill all the time."""
    feeders = [
        Feeder(lambda name=name: opened(tmp_path, name=name), tmp_path / "lock") for name in ("a.db", "b.db")
    ]
    for feeder in feeders:
        feeder.start()
    for start in range(1, 601, 60):
        database.add(*(entry(record(body={"n": n}), n) for n in range(start, start + 60)))
    for name in ("a.db", "b.db"):
        assert wait_for(lambda name=name: count(tmp_path / name) == 600)
    for feeder in feeders:
        feeder.stop()
        assert not feeder.is_alive()
    assert kept(tmp_path) == list(range(1, 601))


def count(path: Path) -> int:
    try:
        return int(reader(path).execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.OperationalError:
        return -1


def wait_for(holds: Any) -> bool:
    done = threading.Event()
    for _ in range(600):
        if holds():
            return True
        done.wait(0.2)
    return False


OURS = str(Path(ingest_module.__file__).parent)
STORAGE = "base/files.py"


def killed_after(tmp_path: Path, steps: int) -> bool:
    """Fill the ledger in a process that is killed after so many of its steps; tell whether it was."""
    child = os.fork()
    if child == 0:
        left = steps

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            file = frame.f_code.co_filename
            if not (file.startswith(OURS) or file.endswith(STORAGE)):
                return None
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step

        try:
            found = opened(tmp_path)
            sys.settrace(step)
            found.run(tmp_path / "lock", wait=True)
            sys.settrace(None)
            os._exit(0)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), "the process failed by itself"
    return status == signal.SIGKILL


def killed_again_and_again(tmp_path: Path, database: Database, rounds: int, seed: int) -> None:
    generator, event, kills = random.Random(seed), 0, 0
    belonging: list[int] = []
    for _ in range(rounds):
        new = range(event + 1, event + 1 + generator.choice((0, 1, 3, 40, 300)))
        ours = [number for number in new if generator.random() < 0.8]
        database.add(*(entry(record(body={"n": n}), n) if n in ours else signal_of(n) for n in new))
        belonging, event = belonging + ours, new.stop - 1
        kills += killed_after(tmp_path, int(generator.lognormvariate(6, 2)) + 1)
    assert kills > rounds // 4
    ingest(tmp_path)
    assert kept(tmp_path) == belonging
    assert rows(tmp_path, "SELECT event_id, problem FROM records ORDER BY seq") == [
        (n, "") for n in belonging
    ]
    ledger = Ledger.open((tmp_path / "ledger").as_uri())
    assert len(ledger.tile(1, 0)) == len(belonging) // 256


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_step_nothing_is_lost_and_nothing_is_there_twice(tmp_path, database, seed) -> None:
    killed_again_and_again(tmp_path, database, 12, seed)


@pytest.mark.nightly
@pytest.mark.timeout(3600)  # seventy processes, one after the other, each traced line by line
@pytest.mark.parametrize("seed", range(100, 104))
def test_killed_two_hundred_times(tmp_path, database, seed) -> None:
    killed_again_and_again(tmp_path, database, 70, seed)
