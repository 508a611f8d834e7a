"""The index of the ledger: what is asked for often, in SQLite. It can be deleted; it is made anew from the ledger."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from airflow_pipeops.base.documents import map_
from airflow_pipeops.delivery.ledger.entries import Entry, Judged, judged
from airflow_pipeops.delivery.ledger.tree import leaf_hash
from airflow_pipeops.delivery.queries.attention import suspect
from airflow_pipeops.delivery.queries.conditions import sort_of
from airflow_pipeops.delivery.queries.facts import Fact

#: Another one than that of a file means that the file is made anew: also one of records that were judged otherwise.
VERSION = 4

#: Of the file a reader keeps so much in memory, in kB: a question to a large index reads the same pages often.
_CACHE = 32_768

_SCHEMA = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL, kind TEXT NOT NULL, deliverable TEXT NOT NULL, environment TEXT NOT NULL, commit_sha TEXT NOT NULL,
    at TEXT NOT NULL, stored TEXT NOT NULL,
    dag_id TEXT, run_id TEXT, task_id TEXT, map_index INTEGER,
    event_id INTEGER UNIQUE, asset_name TEXT NOT NULL, asset_uri TEXT NOT NULL,
    manual INTEGER NOT NULL, problem TEXT NOT NULL, suspect INTEGER NOT NULL, sort TEXT, leaf BLOB NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX by_place ON records (deliverable, environment, kind, at);
CREATE INDEX by_kind ON records (deliverable, kind, at);
CREATE INDEX by_sort ON records (deliverable, kind, environment, sort, at, seq, suspect)
    WHERE sort IS NOT NULL AND problem = '';
CREATE INDEX by_id ON records (id);
CREATE INDEX by_commit ON records (commit_sha);
CREATE INDEX by_time ON records (at);
CREATE INDEX by_dag ON records (dag_id, deliverable);
CREATE INDEX by_run ON records (dag_id, run_id, task_id);
CREATE TABLE parents (child_id TEXT NOT NULL, parent_id TEXT NOT NULL, PRIMARY KEY (child_id, parent_id)) WITHOUT ROWID;
CREATE INDEX by_parent ON parents (parent_id, child_id);
CREATE TABLE names (name TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (name, seq)) WITHOUT ROWID;
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sorts (
    deliverable TEXT NOT NULL, kind TEXT NOT NULL, environment TEXT NOT NULL, sort TEXT NOT NULL,
    PRIMARY KEY (deliverable, kind, environment, sort)
) WITHOUT ROWID;
CREATE TABLE live (
    deliverable TEXT NOT NULL, environment TEXT NOT NULL, seq INTEGER NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (deliverable, environment)
) WITHOUT ROWID;
"""

_INSERT = f"INSERT INTO records VALUES ({', '.join('?' * 21)})"
#: The newest by the time that it says; of two at the same time, the one that came later.
_LIVE = """
INSERT INTO live VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET seq = excluded.seq, at = excluded.at WHERE (excluded.at, excluded.seq) > (live.at, live.seq)
"""


def reader(path: Path | str) -> sqlite3.Connection:
    """Open an index for reading alone.

    :param path: of its file.
    :return: a connection that may be used by another thread, by one at a time.
    :raises sqlite3.OperationalError: if there is none yet.
    """
    found = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
    )
    found.row_factory = sqlite3.Row
    found.execute(f"PRAGMA cache_size = -{_CACHE}")
    return found


class Index:
    """The index, open for writing; one process at a time writes, others read meanwhile.

    :param connection: to the file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path | str) -> Index:
        """Open the index, and make it, empty, where there is none or one of another version.

        :param path: of its file.
        :return: the index.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # what a power cut takes is read again from the ledger
        index = cls(connection)
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            index.clear()
        return index

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def revision(self) -> int:
        """The number of the last entry; 0 for none."""
        return int(self._connection.execute("SELECT ifnull(max(seq), 0) FROM records").fetchone()[0])

    @property
    def looked_to(self) -> int:
        """The highest id of an event that was looked at, whether or not it is in the ledger; 0 for none."""
        row = self._connection.execute(
            "SELECT max(ifnull((SELECT value FROM state WHERE name = 'looked_to'), 0),"
            " ifnull((SELECT max(event_id) FROM records), 0))"
        ).fetchone()
        return int(row[0])

    def look(self, event: int) -> None:
        """Note to which event Airflow's database was looked at.

        :param event: its id.
        """
        self._connection.execute("INSERT OR REPLACE INTO state VALUES ('looked_to', ?)", (event,))

    def events(self, after: int) -> set[int]:
        """Return the ids of the events that are in it.

        :param after: above this id.
        :return: the ids.
        """
        rows = self._connection.execute("SELECT event_id FROM records WHERE event_id > ?", (after,))
        return {int(row[0]) for row in rows}

    def kept(self, seq: int) -> tuple[str, bytes] | None:
        """Tell what it keeps of an entry.

        :param seq: its number.
        :return: the id of its record, and the hash of its line; none for no such entry.
        """
        row = self._connection.execute("SELECT id, leaf FROM records WHERE seq = ?", (seq,)).fetchone()
        return (str(row[0]), bytes(row[1])) if row else None

    def between(self, start: str, end: str) -> tuple[int, int]:
        """Find the entries that Airflow stored in a span of time.

        :param start: from this time on, in the form of :func:`~airflow_pipeops.delivery.ledger.entries.utc`.
        :param end: before this time.
        :return: the numbers of the first and the last; of none, 0 and 0.
        """
        row = self._connection.execute(
            "SELECT ifnull(min(seq), 0), ifnull(max(seq), 0) FROM records WHERE stored >= ? AND stored < ?",
            (start, end),
        ).fetchone()
        return int(row[0]), int(row[1])

    def problem(self, seq: int) -> str:
        """Say why an entry is not believed.

        :param seq: its number.
        :return: the reason; empty if it is.
        """
        row = self._connection.execute("SELECT problem FROM records WHERE seq = ?", (seq,)).fetchone()
        return str(row[0]) if row else "it is not in the index"

    def record(self, identifier: str) -> Entry | None:
        """Find the entry of a record that is believed.

        :param identifier: id of the record.
        :return: its entry; none where there is none.
        """
        row = self._connection.execute(
            "SELECT * FROM records WHERE id = ? AND problem = '' LIMIT 1", (identifier,)
        ).fetchone()
        if row is None:
            return None
        return Entry(
            row["seq"], row["event_id"], row["asset_name"], row["asset_uri"], row["stored"],
            json.loads(row["content"]), row["dag_id"], row["run_id"], row["task_id"], row["map_index"],
        )  # fmt: skip

    def clear(self) -> None:
        """Take everything out of it."""
        with self._writing():
            tables = self._connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
            for (name,) in tables:
                self._connection.execute(f"DROP TABLE {name}")
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def add(self, entries: Iterable[Entry], accepted: frozenset[str] = frozenset()) -> None:
        """Add entries, all or none of them; those whose number is there already are left out.

        :param entries: numbered, in their order.
        :param accepted: assets on which events may be posted by hand.
        """
        with self._writing():
            there = self.revision
            for entry in entries:
                if entry.seq > there:
                    self._add(entry, judged(entry, accepted))

    def _add(self, entry: Entry, found: Judged) -> None:
        run = self._connection.execute
        twice = run("SELECT seq FROM records WHERE event_id = ?", (entry.event,)).fetchone()
        problem = f"it repeats entry {twice[0]}" if twice else found.problem or self._repeated(found)
        told = None if problem else _fact(entry, found)
        sort = told and sort_of(told)
        run(
            _INSERT,
            (
                entry.seq, found.id, found.kind, found.deliverable, found.environment, found.commit,
                found.at, entry.stored,
                entry.dag, entry.run, entry.task, entry.map_index,
                None if twice else entry.event, entry.name, entry.uri,
                int(entry.manual), problem, bool(told and suspect(told)), sort, leaf_hash(entry.line()),
                json.dumps(dict(entry.extra), sort_keys=True),
            ),
        )  # fmt: skip
        if problem:
            return
        for parent in found.parents:
            run("INSERT OR IGNORE INTO parents VALUES (?, ?)", (found.id, parent))
        for name in found.names:
            run("INSERT OR IGNORE INTO names VALUES (?, ?)", (name, entry.seq))
        if sort is not None:
            run(
                "INSERT OR IGNORE INTO sorts VALUES (?, ?, ?, ?)",
                (found.deliverable, found.kind, found.environment, sort),
            )
        if found.kind == "release" and found.environment:
            run(_LIVE, (found.deliverable, found.environment, entry.seq, found.at))

    def _repeated(self, found: Judged) -> str:
        row = self._connection.execute(
            "SELECT min(seq) FROM records WHERE id = ? AND problem = ''", (found.id,)
        ).fetchone()
        return f"it repeats entry {row[0]}" if row[0] else ""

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _fact(entry: Entry, found: Judged) -> Fact:
    """Return what an entry says, as far as it is judged by itself."""
    return Fact(
        entry.seq, found.id, found.kind, found.deliverable, found.environment, found.commit, found.at,
        entry.dag or "", entry.run or "", entry.task or "", entry.map_index, body=map_(entry.extra.get("body")),
    )  # fmt: skip
