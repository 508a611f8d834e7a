"""The loops that keep Applications true: one for looking and one for operating, for each of them."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from airflow_pipeops.base.deadlines import within
from airflow_pipeops.demo.sandbox.manifests import SYNC_OPTIONS, owner, words
from airflow_pipeops.demo.sandbox.operation import OperationRunner
from airflow_pipeops.demo.sandbox.reconciler import Level, Reconciler
from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.runtime.store import EventType
from airflow_pipeops.demo.sandbox.store import Application, ApplicationStore
from airflow_pipeops.demo.sandbox.wire import REFRESH_ANNOTATION, now
from airflow_pipeops.exceptions import PipeOpsError

log = logging.getLogger(__name__)
#: Live changes come in bursts: they are looked at together, after this many seconds.
_BATCH = 0.2


class Controller:
    """Runs reconciles and operations, which are queues of their own as in Argo CD.

    :param interval: seconds between two looks at an Application that nothing happens to.
    """

    def __init__(
        self,
        store: ApplicationStore,
        reconciler: Reconciler,
        runner: OperationRunner,
        cluster: Cluster,
        *,
        interval: float,
    ) -> None:
        self._store = store
        self._reconciler = reconciler
        self._runner = runner
        self._cluster = cluster
        self._interval = interval
        self._wanted: dict[str, Level] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._operate: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._generation: dict[str, int] = {}
        self._unsubscribe: Any = None

    def start(self) -> None:
        """Take up all Applications of the store, and all that come."""
        self._unsubscribe = self._cluster.subscribe(self._live_changed)
        self._store.listen(self._application_changed)
        for name in self._store.names():
            self._adopt(name)

    async def stop(self) -> None:
        """End all loops; what was going on is taken up at the next start."""
        if self._unsubscribe:
            self._unsubscribe()
        tasks = [task for pair in self._tasks.values() for task in pair]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def request(self, name: str, level: Level) -> None:
        """Ask for a look at an Application."""
        if name in self._wake:
            self._wanted[name] = max(level, self._wanted.get(name, level))
            self._wake[name].set()

    def _adopt(self, name: str) -> None:
        self._wake[name], self._operate[name] = asyncio.Event(), asyncio.Event()
        self._generation[name] = (self._store.get(name) or {})["metadata"]["generation"]
        self._operate[name].set()
        self._tasks[name] = [
            asyncio.create_task(self._look_loop(name), name=f"look {name}"),
            asyncio.create_task(self._operate_loop(name), name=f"operate {name}"),
        ]

    def _application_changed(self, kind: EventType, application: Application) -> None:
        name = application["metadata"]["name"]
        if kind == "ADDED":
            self._adopt(name)
        elif kind == "DELETED":
            self._wake.pop(name, None)
            self._operate.pop(name, None)
            self._generation.pop(name, None)
            for task in self._tasks.pop(name, []):
                if task is not asyncio.current_task():
                    task.cancel()
        else:
            if REFRESH_ANNOTATION in (application["metadata"].get("annotations") or {}):
                self.request(name, Level.FORCE)
            if application["metadata"].get("deletionTimestamp") or self._spec_is_new(application):
                self.request(name, Level.COMPARE)
            if application.get("operation"):
                self._operate[name].set()

    def _spec_is_new(self, application: Application) -> bool:
        name, generation = application["metadata"]["name"], application["metadata"]["generation"]
        before, self._generation[name] = self._generation.get(name), generation
        return before is not None and generation > before

    def _live_changed(self, _: str, live: dict[str, Any]) -> None:
        self._runner.live_changed()
        # What no Application tracks may be a child of something that one does.
        tracker = owner(live)
        for name in [tracker] if tracker in self._wake else list(self._wake):
            self.request(name, Level.LIVE)

    async def _look_loop(self, name: str) -> None:
        level, later = Level.COMPARE, None
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            try:
                if await self._finalize(name):
                    return
                later = await self._reconciler.reconcile(name, level)
            except Exception:
                log.exception("reconciling %s failed", name)
            if level is not Level.LIVE:
                due = loop.time() + self._interval * random.uniform(0.9, 1.1)
            level = await self._next(name, max(0.0, due - loop.time()), later)

    async def _next(self, name: str, rest: float, later: float | None) -> Level:
        wait = rest if later is None else min(rest, later)
        try:
            await within(wait, self._wake[name].wait())
        except asyncio.TimeoutError:
            return Level.COMPARE if wait == rest else Level.LIVE
        if self._wanted.get(name) is Level.LIVE:
            await asyncio.sleep(_BATCH)
        self._wake[name].clear()
        return self._wanted.pop(name, Level.LIVE)

    async def _operate_loop(self, name: str) -> None:
        while True:
            await self._operate[name].wait()
            self._operate[name].clear()
            application = self._store.get(name)
            if application is None or not application.get("operation"):
                continue
            automated = bool((application["operation"].get("initiatedBy") or {}).get("automated"))
            try:
                await self._runner.run(name)
            except Exception as error:
                log.exception("the operation of %s failed", name)
                self._give_up(name, error)
            # Until this look is over, sync and health are those from before the operation.
            self.request(name, Level.COMPARE if automated else Level.FORCE)

    def _give_up(self, name: str, error: Exception) -> None:
        def change(document: Application) -> None:
            document.pop("operation", None)
            state = document["status"].get("operationState")
            if state:
                state.update(phase="Error", finishedAt=now(), message=f"internal error: {error!r}")

        self._store.update(name, change)

    async def _finalize(self, name: str) -> bool:
        """Remove an Application that is being deleted, and its resources where it has the finalizer."""
        application = self._store.get(name)
        if application is None:
            return True
        if not application["metadata"].get("deletionTimestamp"):
            return False
        for task in self._tasks.get(name, [])[1:]:
            task.cancel()
        if application["metadata"].get("finalizers"):
            try:
                await self._delete_resources(name)
            except PipeOpsError as error:
                message = str(error)
                self._store.update(name, lambda document: _deletion_error(document, message))
                return False
        self._store.remove(name)
        return True

    async def _delete_resources(self, name: str) -> None:
        for live in reversed(self._cluster.list()):
            if owner(live) == name and "Delete=false" not in words(live, SYNC_OPTIONS):
                await self._cluster.delete(Key.of(live))


def _deletion_error(document: Application, message: str) -> None:
    conditions = [c for c in document["status"].get("conditions") or [] if c["type"] != "DeletionError"]
    document["status"]["conditions"] = [
        *conditions,
        {"type": "DeletionError", "message": message, "lastTransitionTime": now()},
    ]
