"""The cluster: what is live, and the processes that make it true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.sandbox.runtime.key import Key

if TYPE_CHECKING:
    from airflow_pipeops.sandbox.runtime.images import ImageStore

Callback = Callable[[str, dict[str, Any]], None]


class Cluster:
    """Live objects on disk, their workloads as local processes.

    One event loop owns it: ``start``, ``stop``, ``apply``, ``patch``, ``delete`` and ``kill`` are coroutines;
    everything that only reads is an ordinary call, answers from memory, and returns a copy.

    :param state_dir: folder for the database, logs and unpacked images; created where missing.
    :param images: where images come from.
    :param host_images: names of images that run with this Python and are not unpacked.
    """

    def __init__(self, state_dir: Path, images: ImageStore, host_images: tuple[str, ...] = ()) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """End leftovers of a run that died, and start again every workload that is live."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End every process; the live objects stay on disk. Safe to call twice."""
        raise NotImplementedError

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create or update one object; returns it as live (uid, resourceVersion, generation, defaults, status).

        Fields of the previous ``apply`` that the manifest no longer has are removed; fields set by others stay.
        ``metadata.generation`` moves only when the spec changes. Nothing changes, no new resourceVersion.

        :raises InvalidInput: malformed, refused by the sandbox, or an immutable field changed.
        """
        raise NotImplementedError

    async def patch(self, key: Key, patch: dict[str, Any]) -> dict[str, Any]:
        """Change a live object by JSON merge patch, as a person with kubectl would: this makes drift.

        :raises NotFound: no such object. :raises InvalidInput: the result would be malformed.
        """
        raise NotImplementedError

    async def delete(self, key: Key) -> bool:
        """Delete an object and all it owns; returns when their processes have ended. False: was not there."""
        raise NotImplementedError

    async def kill(self, key: Key) -> int:
        """Kill (SIGKILL) the processes of the pods at or under ``key``: a crash on demand. Returns how many."""
        raise NotImplementedError

    def get(self, key: Key) -> dict[str, Any] | None:
        """Return the live object, or None."""
        raise NotImplementedError

    def list(
        self,
        *,
        group: str | None = None,
        kind: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
        labels: dict[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the live objects that match all given filters, in key order."""
        raise NotImplementedError

    def last_applied(self, key: Key) -> dict[str, Any] | None:
        """Return the manifest of the last ``apply`` (for a three-way diff); None where it was never applied."""
        raise NotImplementedError

    def health(self, live: dict[str, Any]) -> tuple[str | None, str]:
        """Return (status, message) by Argo CD's rules; (None, "") for kinds without a health check."""
        raise NotImplementedError

    def children(self, key: Key) -> list[dict[str, Any]]:
        """Return all objects owned by ``key``, parents before children (each has ``ownerReferences``)."""
        raise NotImplementedError

    def logs(self, key: Key, tail: int = 100) -> list[str]:
        """Return the last lines of the pod at ``key``, or of all pods under it (newest pod last)."""
        raise NotImplementedError

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback("ADDED"|"MODIFIED"|"DELETED", live)`` on each change; returns the unsubscription."""
        raise NotImplementedError
