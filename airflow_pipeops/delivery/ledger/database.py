"""The asset events in Airflow's metadata database, read by their ids alone: of a million, nothing else is read fast."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.delivery.ledger.entries import Entry

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, RowMapping, Select

_LOCK = "airflow_pipeops ledger"
#: The same as a number, for the lock of PostgreSQL.
_KEY = int.from_bytes(hashlib.sha256(_LOCK.encode()).digest()[:8], "big", signed=True)
#: PostgreSQL, MySQL: to wait for the lock, to try it, to give it back.
_LOCKS = {
    "postgresql": (
        f"SELECT pg_advisory_lock({_KEY}) IS NOT NULL",
        f"SELECT pg_try_advisory_lock({_KEY})",
        f"SELECT pg_advisory_unlock({_KEY})",
    ),
    "mysql": (
        f"SELECT GET_LOCK('{_LOCK}', -1)",
        f"SELECT GET_LOCK('{_LOCK}', 0)",
        f"SELECT RELEASE_LOCK('{_LOCK}')",
    ),
}


class Events:
    """Airflow's asset events.

    :param engine: of the metadata database.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def of_airflow(cls) -> Events:
        """Open Airflow's own database; only its servers and its command line may."""
        from airflow.utils.session import create_session

        with create_session() as session:
            return cls(session.get_bind().engine)

    def newest(self) -> int:
        """Return the highest id; 0 for none."""
        from airflow.models.asset import AssetEvent
        from sqlalchemy import func, select

        with self.engine.connect() as connection:
            return int(connection.scalar(select(func.max(AssetEvent.id))) or 0)

    def ids(self, after: int, upto: int) -> list[int]:
        """Return the ids of the events that are there.

        :param after: above this id.
        :param upto: and not above this one.
        :return: the ids in their order.
        """
        from airflow.models.asset import AssetEvent
        from sqlalchemy import select

        query = select(AssetEvent.id).where(AssetEvent.id > after, AssetEvent.id <= upto)
        with self.engine.connect() as connection:
            return list(connection.scalars(query.order_by(AssetEvent.id)))

    def after(self, event: int, limit: int) -> list[Entry]:
        """Read events in the order of their ids.

        :param event: above this id.
        :param limit: at most so many.
        :return: the events.
        """
        from airflow.models.asset import AssetEvent

        return self._read(_query().where(AssetEvent.id > event).order_by(AssetEvent.id).limit(limit))

    def these(self, events: Collection[int]) -> list[Entry]:
        """Read some events.

        :param events: their ids.
        :return: those that are there, in the order of their ids.
        """
        from airflow.models.asset import AssetEvent

        return self._read(_query().where(AssetEvent.id.in_(events)).order_by(AssetEvent.id))

    @contextmanager
    def alone(self, file: Path, *, wait: bool) -> Iterator[bool]:
        """Let nobody else append: of the processes of this machine by a lock on a file, of others by one in the database.

        :param file: that is locked.
        :param wait: for another one that appends.
        :return: whether this process may; only without waiting it may not.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            with self.engine.connect() as connection:
                yield from _locked(connection, wait)

    def _read(self, query: Select[Any]) -> list[Entry]:
        with self.engine.connect() as connection:
            return [_entry(row._mapping) for row in connection.execute(query)]


def _locked(connection: Connection, wait: bool) -> Iterator[bool]:
    from sqlalchemy import text

    waiting, trying, giving = _LOCKS.get(connection.dialect.name, ("", "", ""))
    if not waiting:  # SQLite, whose file is on one machine
        yield True
        return
    got = bool(connection.scalar(text(waiting if wait else trying)))
    connection.commit()  # the lock is the connection's, and no transaction stays open meanwhile
    try:
        yield got
    finally:
        if got:
            connection.scalar(text(giving))
            connection.commit()


def _query() -> Select[Any]:
    from airflow.models.asset import AssetEvent, AssetModel
    from sqlalchemy import select

    return select(
        AssetEvent.id, AssetEvent.extra, AssetEvent.timestamp, AssetEvent.partition_key,
        AssetEvent.source_dag_id, AssetEvent.source_run_id, AssetEvent.source_task_id, AssetEvent.source_map_index,
        AssetModel.name, AssetModel.uri,
    ).join(AssetModel, AssetModel.id == AssetEvent.asset_id, isouter=True)  # fmt: skip


def _entry(row: RowMapping) -> Entry:
    extra = row["extra"]
    return Entry(
        seq=0,
        event=row["id"],
        name=row["name"] or "",
        uri=row["uri"] or "",
        stored=row["timestamp"].astimezone(timezone.utc).isoformat(timespec="microseconds"),
        extra=extra if isinstance(extra, Mapping) else {},
        dag=row["source_dag_id"],
        run=row["source_run_id"],
        task=row["source_task_id"],
        map_index=row["source_map_index"],
        partition=row["partition_key"],
    )
