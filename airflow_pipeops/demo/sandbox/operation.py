"""Carrying an operation out: phases, waves, hooks, retries, termination; and again after a restart."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, Literal

from airflow_pipeops.base.deadlines import within
from airflow_pipeops.demo.sandbox import progress, spec
from airflow_pipeops.demo.sandbox.faults import Faults
from airflow_pipeops.demo.sandbox.manifests import images
from airflow_pipeops.demo.sandbox.plan import Task, groups, plan
from airflow_pipeops.demo.sandbox.reconciler import Comparison, Reconciler
from airflow_pipeops.demo.sandbox.retry import retry_at, seconds_until, wants_retry
from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.store import Application, ApplicationStore
from airflow_pipeops.demo.sandbox.wire import now
from airflow_pipeops.exceptions import PipeOpsError

#: Longest time between two looks at what an operation waits for; a live change ends it earlier.
_POLL = 0.5
_FAILED = "one or more synchronization tasks completed unsuccessfully"


class _Failed(Exception):
    """The operation ends with this message."""


class _Terminated(Exception):
    """Somebody asked for the end of the operation."""


class _Unready(Exception):
    """The operation cannot begin: the desired state cannot be had."""


class OperationRunner:
    """Carries operations out, one at a time for each Application.

    All progress is written to ``status.operationState`` as it happens, so that a new process can go on from there.
    """

    def __init__(
        self, store: ApplicationStore, reconciler: Reconciler, cluster: Cluster, faults: Faults
    ) -> None:
        self._store = store
        self._reconciler = reconciler
        self._cluster = cluster
        self._faults = faults
        self._changed = asyncio.Event()

    def live_changed(self) -> None:
        """Wake what waits for live objects."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def run(self, name: str) -> None:
        """Carry the pending operation out, with its retries, until it is over."""
        while True:
            application = self._store.get(name)
            if application is None or not application.get("operation"):
                return
            state = application["status"].get("operationState") or {}
            if state.get("phase") == "Running" and state.get("finishedAt"):
                # Waiting for the next attempt, in this process or in one before it.
                if not await self._wait_for_retry(name):
                    self._finish(name, "Failed", "Operation terminated", retry=False)
                    return
                self._store.update(name, progress.begin_attempt)
            elif not state:
                self._store.update(name, progress.begin)
            self._faults.crash_point("operation-started", name)
            await self._attempt(name)

    async def _attempt(self, name: str) -> None:
        try:
            await self._held(name)
            message = await self._sync(name)
            self._faults.crash_point("before-finish", name)
            self._finish(name, "Succeeded", message)
        except _Terminated:
            await self._faults.hold("stuck_operation", name)
            await self._end_hooks(name)
            self._finish(name, "Failed", "Operation terminated", retry=False)
        except _Failed as error:
            self._finish(name, "Failed", str(error))
        except _Unready as error:
            self._finish(name, "Error", str(error))

    async def _held(self, name: str) -> None:
        holding = asyncio.ensure_future(self._faults.hold("stuck_operation", name))
        try:
            while not holding.done():
                self._check(name)
                await asyncio.wait({holding}, timeout=_POLL)
        finally:
            holding.cancel()

    async def _sync(self, name: str) -> str:
        application = self._check(name)
        sync = application["operation"].get("sync") or {}
        found = await self._target(application, sync)
        self._store.update(name, lambda document: progress.begin_result(document, found.revision, sync))
        stamp = f"{found.revision[:7]}-{int(time.time())}"
        tasks = plan(name, spec.namespace(application), found.targets, found.states, sync, stamp)
        if sync.get("dryRun"):
            for task in tasks:
                self._record(name, task, status="PruneSkipped" if task.prune else "Synced", message="dry run")
            return "successfully synced (all tasks run)"
        self._forget_stamped_hooks(name, tasks)
        try:
            await self._phases(name, tasks)
        except _Failed:
            for wave in groups(tasks, "SyncFail"):
                await self._start(name, wave)
                await self._await_all(name, wave)
            raise
        return "successfully synced (all tasks run)" if tasks else "successfully synced (no more tasks)"

    async def _target(self, application: Application, sync: dict[str, Any]) -> Comparison:
        wrong = spec.problem(application)
        if wrong:
            raise _Unready(f"InvalidSpecError: {wrong}")
        if sync.get("source"):
            application["spec"]["source"] = sync["source"]
        found = await self._reconciler.compare(application, sync.get("revision"))
        if found.error:
            raise _Unready(f"ComparisonError: {found.error}")
        return found

    async def _phases(self, name: str, tasks: list[Task]) -> None:
        steps = [wave for phase in ("PreSync", "Sync", "PostSync") for wave in groups(tasks, phase)]
        for index, wave in enumerate(steps):
            await self._start(name, wave)
            # The last wave's resources are not waited for: the operation is over when they are applied.
            last = index == len(steps) - 1
            await self._await_all(name, [task for task in wave if task.hook] if last else wave)

    async def _start(self, name: str, wave: list[Task]) -> None:
        failures = []
        for task in wave:
            self._check(name)
            if self._done(name, task):
                continue
            failure = await self._prune(name, task) if task.prune else await self._apply(name, task)
            failures += [failure] if failure else []
            self._faults.crash_point("after-apply", name)
        if failures:
            raise _Failed(f"one or more objects failed to apply, reason: {'; '.join(failures)}")

    async def _apply(self, name: str, task: Task) -> str:
        try:
            if task.hook and "BeforeHookCreation" in task.delete_policies:
                await self._cluster.delete(task.key)
            before = self._cluster.get(task.key)
            live = await self._cluster.apply(task.manifest)
        except (PipeOpsError, ValueError) as error:
            self._record(
                name, task, status="" if task.hook else "SyncFailed", hook="Failed", message=str(error)
            )
            return str(error)
        verb = "created" if before is None else "unchanged" if before == live else "configured"
        lower = (
            f"{task.key.kind.lower()}{'.' + task.key.group if task.key.group else ''}/{task.key.name} {verb}"
        )
        self._record(name, task, status="" if task.hook else "Synced", hook="Running", message=lower)
        return ""

    async def _prune(self, name: str, task: Task) -> str:
        if not task.allowed:
            self._record(name, task, status="PruneSkipped", message="ignored (requires pruning)")
            return ""
        try:
            await self._cluster.delete(task.key)
        except PipeOpsError as error:
            self._record(name, task, status="SyncFailed", message=str(error))
            return str(error)
        self._record(name, task, status="Pruned", message="pruned")
        return ""

    async def _await_all(self, name: str, tasks: list[Task]) -> None:
        pending = [task for task in tasks if not task.prune]
        while pending:
            changed = self._changed
            self._check(name)
            pending = [task for task in pending if not await self._settled(name, task)]
            if not pending:
                return
            first = pending[0]
            what = "completion of hook" if first.hook else "healthy state of"
            text = f"waiting for {what} {first.key.group + '/' if first.key.group else ''}{first.key.kind}/{first.key.name}"
            more = (
                f" and {len(pending) - 1} more {'hooks' if first.hook else 'resources'}"
                if len(pending) > 1
                else ""
            )
            self._store.update(name, partial(progress.set_message, text=text + more))
            try:
                await within(_POLL, changed.wait())
            except asyncio.TimeoutError:
                continue

    async def _settled(self, name: str, task: Task) -> bool:
        """Say whether a task's object is healthy, or the hook complete; a bad end raises."""
        if self._hook_phase(name, task) == "Succeeded":
            return True
        live = self._cluster.get(task.key)
        if live is None:
            status: str | None = "Degraded" if task.hook else "Missing"
            text = "the object is gone while the operation waits for it"
        else:
            status, text = self._cluster.health(live)
        if status == "Degraded":
            if task.hook:
                self._record(name, task, status="", hook="Failed", message=text)
                await self._remove_hook(task, "HookFailed")
            raise _Failed(f"{_FAILED}, reason: {task.key}: {text or 'Degraded'}")
        if status not in (None, "Healthy", "Suspended"):
            return False
        if task.hook:
            self._record(name, task, status="", hook="Succeeded", message=text)
            await self._remove_hook(task, "HookSucceeded")
        return True

    async def _remove_hook(self, task: Task, policy: str) -> None:
        if policy in task.delete_policies:
            await self._cluster.delete(task.key)

    async def _end_hooks(self, name: str) -> None:
        application = self._store.get(name)
        result = ((application or {}).get("status", {}).get("operationState") or {}).get("syncResult") or {}
        for entry in result.get("resources", []):
            if entry.get("hookPhase") == "Running":
                await self._cluster.delete(
                    Key(entry["group"], entry["kind"], entry["namespace"], entry["name"])
                )
                self._store.update(name, partial(progress.fail_hook, entry=dict(entry)))

    def _check(self, name: str) -> Application:
        application = self._store.get(name)
        if application is None or not application.get("operation"):
            raise _Terminated
        if (application["status"].get("operationState") or {}).get("phase") == "Terminating":
            raise _Terminated
        return application

    async def _wait_for_retry(self, name: str) -> bool:
        while True:
            try:
                application = self._check(name)
            except _Terminated:
                return False
            left = seconds_until(retry_at(application["status"]["operationState"]))
            if left <= 0:
                return True
            await asyncio.sleep(min(left, _POLL))

    def _entries(self, name: str) -> list[dict[str, Any]]:
        application = self._store.get(name) or {}
        result = (application.get("status", {}).get("operationState") or {}).get("syncResult") or {}
        return list(result.get("resources", []))

    def _done(self, name: str, task: Task) -> bool:
        """Say whether a task was begun by this attempt already, in a process that ended before this one."""
        entry = next((item for item in self._entries(name) if task.is_result(item)), None)
        if entry is None:
            return False
        return (
            entry.get("hookPhase") in ("Running", "Succeeded")
            if task.hook
            else entry.get("status") == "Synced"
        )

    def _hook_phase(self, name: str, task: Task) -> str:
        return next((item.get("hookPhase", "") for item in self._entries(name) if task.is_result(item)), "")

    def _forget_stamped_hooks(self, name: str, tasks: list[Task]) -> None:
        """Hooks with a generated name get a new one after a restart: what the old ones did is not known."""

        def change(document: Application) -> None:
            result = document["status"]["operationState"]["syncResult"]
            result["resources"] = [
                entry
                for entry in result["resources"]
                if not entry.get("hookType") or any(task.is_result(entry) for task in tasks)
            ]

        self._store.update(name, change)

    def _record(self, name: str, task: Task, *, status: str, message: str, hook: str = "") -> None:
        entry = {**task.result(), "message": message}
        if status:
            entry["status"] = status
        if task.hook and hook:
            entry["hookPhase"] = hook
        elif status in ("Synced", "Pruned", "SyncFailed"):
            entry["hookPhase"] = {"Synced": "Running", "Pruned": "Succeeded", "SyncFailed": "Failed"}[status]
        named = images(task.manifest)
        if named:
            entry["images"] = named

        def change(document: Application) -> None:
            result = document["status"]["operationState"]["syncResult"]
            others = [item for item in result["resources"] if not task.is_result(item)]
            result["resources"] = [*others, entry]

        self._store.update(name, change)

    def _finish(
        self, name: str, phase: Literal["Succeeded", "Failed", "Error"], message: str, *, retry: bool = True
    ) -> None:
        def change(document: Application) -> None:
            state = document["status"]["operationState"]
            state["finishedAt"] = now()
            if phase != "Succeeded" and retry and wants_retry(state):
                state["retryCount"] = int(state.get("retryCount", 0)) + 1
                moment = retry_at(state).strftime("%I:%M%p").lstrip("0")
                state["phase"] = "Running"
                state["message"] = f"{message}. Retrying attempt #{state['retryCount']} at {moment}."
                return
            state["phase"], state["message"] = phase, message
            document.pop("operation", None)
            if phase == "Succeeded":
                progress.remember(document, state)

        self._store.update(name, change)
