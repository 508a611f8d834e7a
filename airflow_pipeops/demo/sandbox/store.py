"""Where Applications, with their operations and history, live: in SQLite, and copied in memory for reading."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_pipeops.demo.sandbox.runtime.store import EventType
from airflow_pipeops.demo.sandbox.wire import CONTROL_PLANE_NAMESPACE, clone, now

Application = dict[str, Any]
#: Called with ADDED, MODIFIED or DELETED, and a copy of the Application.
Listener = Callable[[EventType, Application], None]


def copy(application: Application) -> Application:
    """Return a deep copy."""
    return dict(clone(application))


_SCHEMA = """
CREATE TABLE IF NOT EXISTS application (name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class ApplicationStore:
    """All Applications, each change given a new ``resourceVersion``, written to disk, and told to listeners.

    To be used from one thread only (the event loop's), so that a read-modify-write is never torn.

    :param path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False)
        # A write-ahead log survives the death of the process, which is what the crash fault does.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_SCHEMA)
        self._listeners: list[Listener] = []
        self._applications: dict[str, Application] = {
            name: json.loads(document)
            for name, document in self._database.execute("SELECT name, document FROM application")
        }
        row = self._database.execute("SELECT value FROM counter WHERE name = 'resourceVersion'").fetchone()
        self._version = row[0] if row else 1000

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` after each change."""
        self._listeners.append(listener)

    def get(self, name: str) -> Application | None:
        """Return a copy of an Application, or ``None``."""
        found = self._applications.get(name)
        return copy(found) if found is not None else None

    def all(self) -> list[Application]:
        """Return copies of all Applications, by name."""
        return [copy(self._applications[name]) for name in sorted(self._applications)]

    def names(self) -> list[str]:
        """Return the names of all Applications."""
        return sorted(self._applications)

    @property
    def version(self) -> str:
        """The ``resourceVersion`` given last."""
        return str(self._version)

    def create(self, application: Application) -> Application:
        """Add an Application; its uid, creation time and generation are set here."""
        fresh = copy(application)
        fresh["apiVersion"], fresh["kind"] = "argoproj.io/v1alpha1", "Application"
        metadata = fresh["metadata"]
        metadata.update(
            namespace=CONTROL_PLANE_NAMESPACE,
            uid=str(uuid.uuid4()),
            creationTimestamp=now(),
            generation=1,
        )
        fresh.setdefault("status", {})
        self._save(fresh)
        self._tell("ADDED", fresh)
        return copy(fresh)

    def update(self, name: str, change: Callable[[Application], None]) -> Application | None:
        """Apply ``change`` to the current document; nothing is written where nothing changed.

        :return: a copy of the document as it is now, or ``None`` where there is no such Application.
        """
        current = self._applications.get(name)
        if current is None:
            return None
        changed = copy(current)
        change(changed)
        if changed == current:
            return changed
        if changed["spec"] != current["spec"]:
            changed["metadata"]["generation"] = current["metadata"]["generation"] + 1
        self._save(changed)
        self._tell("MODIFIED", changed)
        return copy(changed)

    def remove(self, name: str) -> None:
        """Remove an Application; removing one that is not there does nothing."""
        gone = self._applications.pop(name, None)
        if gone is None:
            return
        with self._database:
            self._database.execute("DELETE FROM application WHERE name = ?", (name,))
        self._stamp(gone)
        self._tell("DELETED", gone)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _save(self, application: Application) -> None:
        self._stamp(application)
        name = application["metadata"]["name"]
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO application VALUES (?, ?)", (name, json.dumps(application))
            )
        self._applications[name] = application

    def _stamp(self, application: Application) -> None:
        self._version += 1
        application["metadata"]["resourceVersion"] = str(self._version)
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO counter VALUES ('resourceVersion', ?)", (self._version,)
            )

    def _tell(self, kind: EventType, application: Application) -> None:
        for listener in list(self._listeners):
            listener(kind, copy(application))
