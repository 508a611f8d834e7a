"""Notice new batches of data in a folder or an object store."""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_pipeops.base.arguments import interval
from airflow_pipeops.base.deadlines import within
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

#: A look may take so long, and a failing one is repeated after at most so long. Seconds.
_LOOK_TIMEOUT = 120.0
_LONGEST_PAUSE = 300.0

#: A file must have kept its size and time for so long before it counts as complete. Seconds.
_STILL = 2.0

#: Names by which writers mark what is not complete.
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".inprogress")

#: Name, size, and a mark that changes when the file does.
Seen = dict[str, tuple[int, str]]


class DataBatchTrigger(BaseEventTrigger):
    """Fires once for each new file of a folder, in the order of their names.

    For an :class:`~airflow.sdk.AssetWatcher`. The payload is ``{uri, name, size}``. A file whose size or time still
    changes between two looks is not reported yet, nor is one whose name starts with ``.`` or ``_`` or ends in ``.tmp``,
    ``.part`` or the like: write to such a name and rename when complete. What was reported is kept, by name, in the
    asset's state store, so that a restart of the triggerer reports nothing twice and loses nothing; a file that is
    replaced under the same name is not reported again.

    :param storage_conn_id: connection of type ``pipeops_storage``.
    :param pattern: glob over the names.
    :param poll_interval: time between two looks.
    """

    def __init__(
        self,
        *,
        storage_conn_id: str = "pipeops_data",
        pattern: str = "*.parquet",
        poll_interval: timedelta | float = timedelta(seconds=10),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not pattern or "/" in pattern:
            raise InvalidInput(
                f"pattern {pattern!r} is not a pattern of file names",
                field="pattern",
                value=pattern,
                remedy="Name the folder in the connection; give a glob such as *.parquet here.",
            )
        self.storage_conn_id = storage_conn_id
        self.pattern = pattern
        self.poll_interval = interval("poll_interval", poll_interval)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        named = ("storage_conn_id", "pattern", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in named
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each new file, for ever."""
        reported = await self._remembered()
        before: Seen = {}
        failures = 0
        while True:
            try:
                root = await self._root()
                now = await within(_LOOK_TIMEOUT, asyncio.to_thread(look, root, self.pattern))
            except Exception as error:  # any store, any library: a watcher must outlive them all
                failures += 1
                self.log.warning(
                    "Cannot look for batches in %s: %s", self.storage_conn_id, type(error).__name__
                )
                await asyncio.sleep(min(self.poll_interval * 2**failures, _LONGEST_PAUSE))
                continue
            failures = 0
            fresh = [name for name in sorted(now) if _mark(name) not in reported]
            for name in fresh:
                if now[name] == before.get(name):
                    payload = {"uri": str(root / name), "name": name, "size": now[name][0]}
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                    # After the event, so that a crash in between repeats it rather than loses it.
                    reported.add(_mark(name))
                    await self._remember(reported & {_mark(known) for known in now})
            waiting = any(_mark(name) not in reported for name in fresh)
            before = now
            await asyncio.sleep(min(self.poll_interval, _STILL) if waiting else self.poll_interval)

    async def _root(self) -> ObjectStoragePath:
        from airflow_pipeops.base.storage import StorageHook, root

        return root(self.storage_conn_id, await StorageHook.aget_connection(self.storage_conn_id))

    @property
    def _key(self) -> str:
        where = f"{self.storage_conn_id}\n{self.pattern}"
        return f"batches-{hashlib.sha256(where.encode()).hexdigest()[:16]}"

    async def _remembered(self) -> set[str]:
        if self.asset_state_store is None:
            return set()
        stored = await self.asset_state_store.aget(self._key, [])
        return {item for item in stored if isinstance(item, str)} if isinstance(stored, list) else set()

    async def _remember(self, reported: set[str]) -> None:
        if self.asset_state_store is not None:
            await self.asset_state_store.aset(self._key, list[Any](sorted(reported)))


def look(root: ObjectStoragePath, pattern: str) -> Seen:
    """Return the files of a folder that match and are not marked as unfinished."""
    seen: Seen = {}
    for path in root.iterdir():
        name = path.name
        if name.startswith((".", "_")) or name.lower().endswith(_UNFINISHED):
            continue
        if not fnmatch.fnmatchcase(name, pattern) or not path.is_file():
            continue
        details = path.fs.info(path.path)
        size = int(details.get("size") or 0)
        if size:
            changed = details.get("mtime") or details.get("LastModified") or details.get("updated") or ""
            seen[name] = (size, str(details.get("ETag") or changed))
    return seen


def _mark(name: str) -> str:
    """Return a short, fixed-length stand-in for a name: the state store holds at most 64 KB."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
