"""The live objects: in memory, written through to SQLite."""

from __future__ import annotations

import copy
import json
import sqlite3
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from airflow_pipeops.demo.sandbox.runtime.key import Key

EventType = Literal["ADDED", "MODIFIED", "DELETED"]
Callback = Callable[[EventType, dict[str, Any]], None]


def now() -> str:
    """Return the time as Kubernetes writes it: UTC, whole seconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class ObjectStore:
    """Objects by key, with uid, resourceVersion and generation as an API server keeps them.

    :param path: the SQLite file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS objects (grp TEXT, kind TEXT, namespace TEXT, name TEXT, live TEXT NOT NULL,"
            " applied TEXT, PRIMARY KEY (grp, kind, namespace, name))"
        )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
        )
        self._objects: dict[Key, dict[str, Any]] = {}
        self._applied: dict[Key, dict[str, Any]] = {}
        self._by_owner: dict[str, set[Key]] = {}
        self._callbacks: list[Callback] = []
        for *parts, live, applied in self._db.execute(
            "SELECT grp, kind, namespace, name, live, applied FROM objects"
        ):
            key = Key(*parts)
            self._objects[key] = json.loads(live)
            self._index(key, self._objects[key])
            if applied:
                self._applied[key] = json.loads(applied)
        row = self._db.execute("SELECT value FROM counters WHERE name = 'resourceVersion'").fetchone()
        self._version = row[0] if row else 0

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def read(self, key: Key) -> dict[str, Any] | None:
        """Return a copy of the live object, or None."""
        found = self._objects.get(key)
        return copy.deepcopy(found) if found is not None else None

    def peek(self, key: Key) -> dict[str, Any] | None:
        """Return the live object itself, not to be changed; cheap."""
        return self._objects.get(key)

    def snapshot(self) -> list[Key]:
        """Return all keys, in order."""
        return sorted(self._objects)

    def owned(self, uid: str) -> list[Key]:
        """Return the keys of the objects whose owner has this uid, in key order."""
        return sorted(self._by_owner.get(uid, ()))

    def applied(self, key: Key) -> dict[str, Any] | None:
        """Return a copy of the last applied manifest, or None."""
        found = self._applied.get(key)
        return copy.deepcopy(found) if found is not None else None

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Register a callback; returns what removes it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def write(self, obj: dict[str, Any], *, applied: dict[str, Any] | None = None) -> dict[str, Any]:
        """Create or replace an object; returns a copy as stored. An unchanged object is left as it is.

        The identity (uid, creationTimestamp) of an existing object is kept, and ``generation`` moves with the spec.

        :return: a copy, as stored.
        """
        obj = copy.deepcopy(obj)
        key = Key.of(obj)
        old = self._objects.get(key)
        meta = obj["metadata"]
        if key.namespace:
            meta["namespace"] = key.namespace
        if old is None:
            meta.update(uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
        else:
            kept = old["metadata"]
            meta.update({f: kept[f] for f in ("uid", "creationTimestamp", "resourceVersion")})
            meta["generation"] = kept["generation"] + (_desired(obj) != _desired(old))
            if obj == old:
                if applied is not None and applied != self._applied.get(key):
                    self._save(key, old, applied)
                return copy.deepcopy(old)
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        self._objects[key] = obj
        self._index(key, obj)
        self._save(key, obj, applied)
        self._tell("ADDED" if old is None else "MODIFIED", obj)
        return copy.deepcopy(obj)

    def remove(self, key: Key) -> bool:
        """Remove an object at once; False where it was not there."""
        old = self._objects.pop(key, None)
        if old is None:
            return False
        self._applied.pop(key, None)
        for owner in old["metadata"].get("ownerReferences", []):
            self._by_owner.get(owner["uid"], set()).discard(key)
        self._version += 1
        with self._db:
            self._db.execute("DELETE FROM objects WHERE grp=? AND kind=? AND namespace=? AND name=?", key)
            self._save_version()
        self._tell("DELETED", old)
        return True

    def _index(self, key: Key, obj: dict[str, Any]) -> None:
        for owner in obj["metadata"].get("ownerReferences", []):
            self._by_owner.setdefault(owner["uid"], set()).add(key)

    def _save(self, key: Key, obj: dict[str, Any], applied: dict[str, Any] | None) -> None:
        if applied is not None:
            self._applied[key] = copy.deepcopy(applied)
        kept = self._applied.get(key)
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?,?)",
                (*key, json.dumps(obj), json.dumps(kept) if kept is not None else None),
            )
            self._save_version()

    def _save_version(self) -> None:
        self._db.execute("INSERT OR REPLACE INTO counters VALUES ('resourceVersion', ?)", (self._version,))

    def _tell(self, event: EventType, obj: dict[str, Any]) -> None:
        for callback in list(self._callbacks):
            callback(event, copy.deepcopy(obj))


def _desired(obj: dict[str, Any]) -> dict[str, Any]:
    # As for Kubernetes' own kinds: what is neither metadata nor status is the spec.
    return {k: v for k, v in obj.items() if k not in ("metadata", "status")}
