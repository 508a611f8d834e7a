"""On PostgreSQL ids are given when a transaction writes and seen when it ends, and a lock is the database's."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from airflow_pipeops.delivery.ledger.database import Events
from tests.delivery.ledger.conftest import Database
from tests.delivery.ledger.events import entry, record
from tests.delivery.ledger.test_ingest import kept, opened
from tests.servers import postgres


@pytest.fixture(scope="module")
def url():
    with postgres() as server:
        yield f"postgresql+psycopg2://tester@/postgres?host={server.folder}/socket"


def test_a_transaction_that_ends_late_loses_nothing(tmp_path, url: str) -> None:
    database = Database(url)
    with Session(database.engine) as slow, Session(database.engine) as quick:
        slow.add(database.row(entry(record(body={"n": "slow"}), 0)))
        slow.flush()  # it has its id, and nobody sees it
        quick.add(database.row(entry(record(body={"n": "quick"}), 0)))
        quick.commit()
        ingest = opened(tmp_path, url)
        assert ingest.run(tmp_path / "lock", wait=True) == 1
        slow.commit()
    assert ingest.run(tmp_path / "lock", wait=True) == 1
    ingest.index.close()
    late, first = sorted(kept(tmp_path))
    assert kept(tmp_path) == [first, late]


def test_two_machines_do_not_both_append(tmp_path, url: str) -> None:
    """Each locks a file of its own, as machines do that share nothing but the database."""
    one, other = (Events(Database(url).engine) for _ in range(2))
    with one.alone(tmp_path / "one", wait=False) as first:
        assert first
        with other.alone(tmp_path / "other", wait=False) as second:
            assert not second
    with other.alone(tmp_path / "other", wait=True) as after:
        assert after
