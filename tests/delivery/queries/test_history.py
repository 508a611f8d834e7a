"""What changed before a moment is looked for where it is asked for, however much happened elsewhere."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from airflow_pipeops.delivery.queries.differences import change
from airflow_pipeops.delivery.queries.history import before
from tests.ledgers import at, entries, indexed, record


def test_much_that_changed_elsewhere_hides_nothing(tmp_path: Path) -> None:
    here = record("release", {"revision": "r"}, environment="production", minutes=1)
    nowhere = record("decision", {"action": "retrain"}, minutes=2)
    there = [
        record("change", {"commit": f"{number}"}, environment="staging", minutes=3 + number)
        for number in range(250)
    ]
    with closing(indexed(tmp_path / "index.db", entries([here, nowhere, *there]))) as connection:
        asked = {"deliverable": "delay-api", "environment": "production"}
        found = before(connection, at(500), **asked)
        assert [one.id for one in found.items] == [nowhere.id, here.id]
        first = before(connection, at(500), **asked, limit=1)
        assert [one.id for one in first.items] == [nowhere.id]
        second = before(connection, at(500), **asked, limit=1, after=first.after)
        assert [one.id for one in second.items] == [here.id]
        meanwhile = change(connection, "delay-api", "production", at(0), at(500))
        assert ([one.id for one in meanwhile.between], meanwhile.more) == ([nowhere.id, here.id], False)
