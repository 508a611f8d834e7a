"""Notice new batches of data in a folder or an object store."""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import logging
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import interval
from airflow_pipeops.base.connections import aread
from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.watchers import Watcher
from airflow_pipeops.exceptions import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

log = logging.getLogger(__name__)

#: A look may take so long. Seconds.
_LOOK_TIMEOUT = 120.0

#: A file must have kept its size and time for so long before it counts as complete. Seconds.
_STILL = 2.0

#: Names by which writers mark what is not complete.
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".inprogress")

#: Name, size, and a mark that changes when the file does.
Seen = dict[str, tuple[int, str]]


class DataBatchTrigger(Watcher):
    """Fires once for each new file of a folder, in the order of their names.

    For an :class:`~airflow.sdk.AssetWatcher`. The payload is ``{uri, name, size, key}``. A file whose size or time still
    changes between two looks is not reported yet, nor is one whose name starts with ``.`` or ``_`` or ends in ``.tmp``,
    ``.part`` or the like: write to such a name and rename when complete. What was reported is kept, by name, in the
    asset's state store, so that a restart of the triggerer reports nothing twice and loses nothing; a file that is
    replaced under the same name is not reported again.

    :param storage_conn_id: connection of type ``pipeops_storage``.
    :param pattern: glob over the names.
    :param poll_interval: time between two looks.
    """

    arguments = ("storage_conn_id", "pattern", "poll_interval")

    def __init__(
        self,
        *,
        storage_conn_id: str = "pipeops_data",
        pattern: str = "*.parquet",
        poll_interval: timedelta | float = timedelta(seconds=10),
    ) -> None:
        super().__init__()
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
        self._before: Seen = {}
        self._waiting = False

    @property
    def subject(self) -> str:
        """The connection."""
        return self.storage_conn_id

    async def look(self, source: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the new files that have not changed since the look before."""
        root = await self._root()
        now = await within(_LOOK_TIMEOUT, asyncio.to_thread(look, root, self.pattern))
        stored, _ = await self.recall(self._key)
        reported = {item for item in stored if isinstance(item, str)} if isinstance(stored, list) else set()
        fresh = [name for name in sorted(now) if _mark(name) not in reported]
        for name in fresh:
            if now[name] == self._before.get(name):
                uri = str(root / name)
                # One that is removed and comes again is another one, which its mark tells.
                yield self.keyed({"uri": uri, "name": name, "size": now[name][0]}, uri, *now[name])
                reported.add(_mark(name))
                self.remember(self._key, sorted(reported & {_mark(known) for known in now}))
        self._waiting = any(_mark(name) not in reported for name in fresh)
        self._before = now

    def interval(self) -> float:
        """Return the seconds until the next look: few while a file must prove that it is complete."""
        return min(self.poll_interval, _STILL) if self._waiting else self.poll_interval

    async def _root(self) -> ObjectStoragePath:
        from airflow_pipeops.base.storage import StorageHook, root

        return root(self.storage_conn_id, await aread(self.storage_conn_id, StorageHook.conn_type))

    @property
    def _key(self) -> str:
        where = f"{self.storage_conn_id}\n{self.pattern}"
        return f"batches-{hashlib.sha256(where.encode()).hexdigest()[:16]}"


def arrived(context: Context, storage_conn_id: str = "pipeops_data") -> list[str]:
    """Return the batches whose arrival started this run, oldest first, each once.

    What an event names is read only if it lies in the folder of the connection.

    :param context: of the running task.
    :param storage_conn_id: the connection that :class:`DataBatchTrigger` watches.
    :return: their URIs.
    """
    from airflow_pipeops.base.storage import StorageHook
    from airflow_pipeops.delivery.events import triggering_signals

    hook = StorageHook(storage_conn_id)
    found: dict[str, None] = {}
    for uri in [signal["uri"] for signal in triggering_signals(context) if "uri" in signal]:
        if hook.below(uri):
            found[uri] = None
        else:
            log.warning("A batch is left out: %.200r is not in the folder of %s", uri, storage_conn_id)
    return list(found)


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
