"""The cluster: what is live, and the processes that make it true."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_pipeops.demo.sandbox.runtime import health as health_rules
from airflow_pipeops.demo.sandbox.runtime import manifest as manifests
from airflow_pipeops.demo.sandbox.runtime.deployment import reconcile_deployment, reconcile_replica_set
from airflow_pipeops.demo.sandbox.runtime.job import reconcile_job
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.runtime.merge import apply_merge, merge_patch
from airflow_pipeops.demo.sandbox.runtime.network import Network
from airflow_pipeops.demo.sandbox.runtime.pod import Node, PodRunner
from airflow_pipeops.demo.sandbox.runtime.process import ProcessTable
from airflow_pipeops.demo.sandbox.runtime.process import tail as tail_of
from airflow_pipeops.demo.sandbox.runtime.service import Connections
from airflow_pipeops.demo.sandbox.runtime.store import Callback, ObjectStore, now
from airflow_pipeops.exceptions import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_pipeops.demo.sandbox.runtime.images import ImageStore

#: Longest time (seconds) that a pod gets to end itself when the whole cluster stops.
STOP_GRACE = 3.0
_DEPLOYMENT, _REPLICA_SET, _JOB, _POD = (
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("batch", "Job"),
    ("", "Pod"),
)
_log = logging.getLogger(__name__)

# Inside the class the name "list" is its method.
_Objects = list[dict[str, Any]]
_Keys = list[Key]
_Lines = list[str]


class Cluster:
    """Live objects on disk, their workloads as local processes.

    One event loop owns it: ``start``, ``stop``, ``apply``, ``patch``, ``delete`` and ``kill`` are coroutines;
    everything that only reads is an ordinary call, answers from memory, and returns a copy.

    :param state_dir: folder for the database, logs and unpacked images; created where missing.
    :param images: where images come from.
    :param host_images: names of images that run with this Python and are not unpacked.
    """

    def __init__(self, state_dir: Path, images: ImageStore, host_images: tuple[str, ...] = ()) -> None:
        folder = Path(state_dir).absolute()
        for sub in ("logs", "pods"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        self._store = ObjectStore(folder / "live.db")
        self._processes = ProcessTable(folder)
        self._runners: dict[Key, PodRunner] = {}
        connections = Connections()
        self._node = Node(self._store, self._processes, images, tuple(host_images), connections, folder)
        self._network = Network(self._store, self._runners, connections)
        self._dirty: set[Key] = set()
        self._wake = asyncio.Event()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._ending: dict[Key, asyncio.Task[None]] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._running = False

    async def start(self) -> None:
        """End leftovers of a run that died, and start again every workload that is live."""
        self._processes.start()
        self._running = True
        self._store.subscribe(self._changed)
        for key in self._store.snapshot():
            live = self._store.peek(key)
            if live is not None:
                self._revive(key, live)
        await self._network.start()
        self._loop_task = asyncio.create_task(self._work(), name="sandbox cluster")

    async def stop(self) -> None:
        """End every process; the live objects stay on disk. Safe to call twice."""
        if not self._running:
            return
        self._running = False
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        for timer in self._timers.values():
            timer.cancel()
        await self._network.stop()
        for task in self._ending.values():
            task.cancel()
        await asyncio.gather(*self._ending.values(), return_exceptions=True)
        await asyncio.gather(
            *(r.stop(STOP_GRACE, drain=0) for r in self._runners.values()), return_exceptions=True
        )
        self._runners.clear()
        await asyncio.to_thread(self._processes.stop)
        self._store.close()

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create or update one object; returns it as live (uid, resourceVersion, generation, defaults, status).

        Fields of the previous ``apply`` that the manifest no longer has are removed; fields set by others stay.
        ``metadata.generation`` moves only when the spec changes. Nothing changes, no new resourceVersion.

        :return: the live object.
        :raises InvalidInput: malformed, refused by the sandbox, or an immutable field changed.
        """
        key = Key.of(manifests.check(manifest))
        await self._gone(key)
        wanted = {k: v for k, v in manifest.items() if k != "status"}
        live = self._store.read(key) or {}
        return await self._admit(apply_merge(live, self._store.applied(key), wanted), applied=wanted)

    async def patch(self, key: Key, patch: dict[str, Any]) -> dict[str, Any]:
        """Change a live object by JSON merge patch, as a person with kubectl would: it differs from Git then.

        :return: the live object.
        :raises NotFound: no such object. :raises InvalidInput: the result would be malformed.
        """
        live = self._store.read(key)
        if live is None:
            raise NotFound(f"{key} not found")
        fixed = {"apiVersion": live["apiVersion"], "kind": live["kind"]}
        changed = merge_patch(live, patch) | fixed
        changed["metadata"] = (changed.get("metadata") or {}) | {"name": key.name}
        if key.namespace:
            changed["metadata"]["namespace"] = key.namespace
        return await self._admit(changed, applied=None)

    async def delete(self, key: Key) -> bool:
        """Delete an object and all it owns; returns when their processes have ended. False: was not there."""
        if self._store.peek(key) is None:
            return False
        await asyncio.shield(self._retire(key))
        return True

    async def kill(self, key: Key) -> int:
        """Kill (SIGKILL) the processes of the pods at or under ``key``: a crash on demand. Returns how many."""
        return sum(self._runners[pod].kill() for pod in self._pods(key) if pod in self._runners)

    def get(self, key: Key) -> dict[str, Any] | None:
        """Return the live object, or None."""
        return self._store.read(key)

    def list(
        self,
        *,
        group: str | None = None,
        kind: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        where: Callable[[dict[str, Any]], bool] | None = None,
    ) -> _Objects:
        """Return the live objects that match all given filters, in key order.

        :param where: looks at an object, without changing it; only what it chooses is copied.
        :return: copies of them.
        """
        found = []
        for key in self._store.snapshot():
            wanted = zip((group, kind, namespace, name), key, strict=True)
            live = self._store.peek(key)
            if live is None or any(want is not None and want != have for want, have in wanted):
                continue
            if where is not None and not where(live):
                continue
            if (labels or {}).items() <= (live["metadata"].get("labels") or {}).items():
                found.append(self._store.read(key) or {})
        return found

    def last_applied(self, key: Key) -> dict[str, Any] | None:
        """Return the manifest of the last ``apply`` (for a three-way diff); None where it was never applied."""
        return self._store.applied(key)

    def health(self, live: dict[str, Any]) -> tuple[str | None, str]:
        """Return (status, message) by Argo CD's rules; (None, "") for kinds without a health check."""
        return health_rules.health(live)

    def children(self, key: Key) -> _Objects:
        """Return all objects owned by ``key``, parents before children (each has ``ownerReferences``)."""
        return [live for k in self._descendants(key) if (live := self._store.read(k)) is not None]

    def logs(self, key: Key, tail: int = 100) -> _Lines:
        """Return the last lines of the pod at ``key``, or of all pods under it (newest pod last)."""
        pods = [live for k in self._pods(key) if (live := self._store.peek(k)) is not None]
        pods.sort(key=lambda p: (p["metadata"]["creationTimestamp"], int(p["metadata"]["resourceVersion"])))
        return [line for pod in pods for line in tail_of(self._node.log(pod), tail)][-tail:]

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback("ADDED"|"MODIFIED"|"DELETED", live)`` on each change; returns the unsubscription."""
        return self._store.subscribe(callback)

    async def _admit(self, obj: dict[str, Any], applied: dict[str, Any] | None) -> dict[str, Any]:
        """Check an object, open its ports, and store it."""
        obj = manifests.check(obj)
        key = Key.of(obj)
        old = self._store.read(key)
        if old is not None:
            manifests.check_immutable(old, obj)
        if key[:2] == ("", "Service"):
            await self._network.admit(obj, old)
        live = self._store.write(obj, applied=applied)
        if key[:2] == ("", "Service"):
            await self._network.settle(key)
        return live

    def _revive(self, key: Key, live: dict[str, Any]) -> None:
        """At the start: pods of the last run are gone, their owners make new ones."""
        if live["metadata"].get("deletionTimestamp"):
            self._retire(key)
        elif key[:2] != _POD:
            self._dirty.add(key)
        elif live.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            if live["metadata"].get("ownerReferences"):
                self._forget_pod(live)
                self._store.remove(key)
            else:
                self._run_pod(key)
        self._wake.set()

    def _changed(self, event: str, live: dict[str, Any]) -> None:
        key = Key.of(live)
        if event == "ADDED" and key[:2] == _POD and self._running:
            self._run_pod(key)
        self._dirty.add(key)
        # Up the owners: a Deployment looks at the pods of its ReplicaSets too.
        owners = live["metadata"].get("ownerReferences", [])
        while owners:
            one = owners[0]
            owner = Key(one["apiVersion"].rpartition("/")[0], one["kind"], key.namespace, one["name"])
            self._dirty.add(owner)
            owners = (self._store.peek(owner) or {"metadata": {}})["metadata"].get("ownerReferences", [])
        self._wake.set()

    async def _work(self) -> None:
        """Reconcile what changed, for as long as the cluster runs."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            # ReplicaSets before their Deployments, which read their status.
            batch = sorted(self._dirty, key=lambda k: (k[:2] == _DEPLOYMENT, k))
            self._dirty.clear()
            for key in batch:
                try:
                    again = self._reconcile(key)
                except Exception:
                    _log.exception("cannot reconcile %s; will try again", key)
                    again = 1.0
                if again is not None:
                    self._look_again(key, again)
            await asyncio.sleep(0)

    def _starved(self, pod: Key) -> float:
        runner = self._runners.get(pod)
        return runner.starved() if runner is not None else 0.0

    def _reconcile(self, key: Key) -> float | None:
        if key[:2] == _DEPLOYMENT:
            return reconcile_deployment(self._store, key, self._starved)
        if key[:2] == _REPLICA_SET:
            return reconcile_replica_set(self._store, key, self._retire)
        if key[:2] == _JOB:
            return reconcile_job(self._store, key, self._retire)
        return None

    def _look_again(self, key: Key, after: float) -> None:
        def due() -> None:
            self._timers.pop(key, None)
            self._dirty.add(key)
            self._wake.set()

        if old := self._timers.pop(key, None):
            old.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(after, due)

    def _run_pod(self, key: Key) -> None:
        runner = PodRunner(self._node, key)
        self._runners[key] = runner
        runner.start()

    def _forget_pod(self, live: dict[str, Any]) -> None:
        PodRunner(self._node, Key.of(live)).clean()

    def _retire(self, key: Key) -> asyncio.Task[None]:
        """Mark an object as being deleted and let it end in the background."""
        if key not in self._ending:
            live = self._store.read(key)
            if live is not None and not live["metadata"].get("deletionTimestamp"):
                live["metadata"]["deletionTimestamp"] = now()
                self._store.write(live)
            task = asyncio.create_task(self._end(key), name=f"end of {key}")
            self._ending[key] = task
            task.add_done_callback(lambda _: self._ending.pop(key, None))
        return self._ending[key]

    async def _end(self, key: Key) -> None:
        if key[:2] == _POD:
            live = self._store.peek(key)
            runner = self._runners.get(key)
            if runner is not None and live is not None:
                grace = live["spec"].get("terminationGracePeriodSeconds")
                await runner.stop(30.0 if grace is None else float(grace))
                runner.clean()
                self._runners.pop(key, None)
        below = [self._retire(child) for child in self._descendants(key)]
        await asyncio.gather(*below)
        self._store.remove(key)
        if key[:2] == ("", "Service"):
            await self._network.settle(key)

    async def _gone(self, key: Key) -> None:
        """Wait for the end of an object that is being deleted: a new one of that name comes after it."""
        if key in self._ending:
            await asyncio.shield(self._ending[key])

    def _descendants(self, key: Key) -> _Keys:
        live = self._store.peek(key)
        found: _Keys = []
        for child in self._store.owned(live["metadata"]["uid"]) if live is not None else ():
            found += [child, *self._descendants(child)]
        return found

    def _pods(self, key: Key) -> _Keys:
        return [k for k in (key, *self._descendants(key)) if k[:2] == _POD]
