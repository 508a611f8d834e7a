"""Airflow's own tables of assets, really, in SQLite; and a ledger in a folder."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_pipeops.delivery.ledger.entries import Entry
from airflow_pipeops.delivery.ledger.files import Ledger


class Database:
    """Airflow's tables of assets and their events."""

    def __init__(self, url: str) -> None:
        from airflow.models.asset import AssetEvent, AssetModel
        from sqlalchemy import create_engine

        self.engine = create_engine(url)
        AssetModel.metadata.create_all(
            self.engine, tables=[AssetModel.__table__, AssetEvent.__table__], checkfirst=True
        )
        self.assets: dict[str, int] = {}

    def asset(self, name: str, uri: str) -> int:
        """Return the id of an asset, which is made where it is not there."""
        from airflow.models.asset import AssetModel
        from sqlalchemy.orm import Session

        if uri not in self.assets:
            with Session(self.engine) as session:
                made = AssetModel(name=name, uri=uri, group="pipeops", extra={})
                session.add(made)
                session.commit()
                self.assets[uri] = made.id
        return self.assets[uri]

    def add(self, *entries: Entry) -> None:
        """Store events; an id of 0 is given by the database."""
        from sqlalchemy.orm import Session

        rows = [self.row(entry) for entry in entries]
        with Session(self.engine) as session:
            session.add_all(rows)
            session.commit()

    def row(self, entry: Entry) -> Any:
        """Return the row of an event."""
        from airflow.models.asset import AssetEvent

        return AssetEvent(
            **({"id": entry.event} if entry.event else {}),
            asset_id=self.asset(entry.name, entry.uri),
            extra=entry.extra,
            source_dag_id=entry.dag,
            source_run_id=entry.run,
            source_task_id=entry.task,
            source_map_index=entry.map_index,
            partition_key=entry.partition,
            timestamp=datetime.fromisoformat(entry.stored).astimezone(timezone.utc),
        )


@pytest.fixture
def database(tmp_path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'airflow.db'}")


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger.open((tmp_path / "ledger").as_uri())
