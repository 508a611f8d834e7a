"""What waits for Argo CD in the triggerer. Only connection ids travel in the arguments; they are stored unencrypted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.argocd.client import ArgoCDClient
    from airflow_pipeops.argocd.hook import ArgoCDHook

#: A trigger that fires right after the deferral can fail its task (Airflow 3.3.2), so none fires sooner. Seconds.
DWELL = 5.0


class _AppTrigger(BaseTrigger):
    """Watches one application until there is something to tell the task."""

    def __init__(
        self, *, argocd_conn_id: str, app: str, project: str = "", app_namespace: str = "", **more: Any
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.argocd_conn_id, self.app = argocd_conn_id, app
        self.project, self.app_namespace = project, app_namespace
        self.more = more

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        named = ("argocd_conn_id", "app", "project", "app_namespace")
        return path, {**{name: getattr(self, name) for name in named}, **self.more}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event, not before :data:`DWELL` has passed."""
        from airflow_pipeops.argocd.hook import ArgoCDHook

        started = time.monotonic()
        try:
            hook = ArgoCDHook(self.argocd_conn_id, project=self.project, app_namespace=self.app_namespace)
            async with await hook.aclient() as client:
                payload = await self.outcome(client, hook)
        except PipeOpsError as error:
            payload = {"error": str(error), "type": type(error).__name__}
        dwell = float(self.more.get("dwell", DWELL))
        await asyncio.sleep(max(0.0, dwell - (time.monotonic() - started)))
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    async def outcome(self, client: ArgoCDClient, hook: ArgoCDHook) -> dict[str, Any]:
        """Watch, and return the event's payload."""
        raise NotImplementedError


class ArgoCDWaitTrigger(_AppTrigger):
    """Waits until an expectation is met or cannot be met.

    :param argocd_conn_id: the Argo CD connection.
    :param app: name of the application; ``project`` and ``app_namespace`` where they are needed.
    :param expectation: JSON of :class:`~airflow_pipeops.gitops.verdict.Expectation`.
    :param memory: JSON of :class:`~airflow_pipeops.gitops.verdict.Memory`.
    :param git_conn_id: repository that says which commit contains which.
    :param poll_interval: seconds between two looks.
    """

    async def outcome(self, client: ArgoCDClient, hook: ArgoCDHook) -> dict[str, Any]:
        """Wait, and return where the wait stands."""
        from airflow_pipeops.argocd.ancestry import git_oracle
        from airflow_pipeops.argocd.wait import Wait
        from airflow_pipeops.gitops.verdict import Expectation, Memory

        wait = Wait(
            client,
            hook.ref(self.app),
            Expectation.from_json(self.more["expectation"]),
            Memory.from_json(self.more.get("memory") or {}),
            oracle=git_oracle(self.more.get("git_conn_id")),
            poll_interval=float(self.more.get("poll_interval", 5.0)),
            on_change=lambda verdict: self.log.info(
                "%s: %s (%s)", verdict.state, verdict.reason, verdict.rule
            ),
        )
        return (await wait.until_decided()).to_json()


class ArgoCDSteadyTrigger(_AppTrigger):
    """Watches a live application until it has proven steady, or degraded.

    :param argocd_conn_id: the Argo CD connection.
    :param app: name of the application; ``project`` and ``app_namespace`` where they are needed.
    :param watch: JSON of :class:`~airflow_pipeops.gitops.steady.Watch`.
    :param memory: JSON of :class:`~airflow_pipeops.gitops.steady.SteadyMemory`.
    :param poll_interval: seconds between two looks.
    """

    async def outcome(self, client: ArgoCDClient, hook: ArgoCDHook) -> dict[str, Any]:
        """Watch, and return the outcome."""
        from airflow_pipeops.argocd.watching import watch_app

        interval = float(self.more.get("poll_interval", 5.0))
        return await watch_app(
            client, hook.ref(self.app), self.more["watch"], self.more.get("memory"), interval
        )


class ArgoCDDriftTrigger(BaseEventTrigger):
    """Fires when live state differs from Git at an unchanged desired revision; once for each new difference.

    For an :class:`~airflow.sdk.AssetWatcher`. The payload is ``{app, revision, sync, resources, more, fingerprint}``; it
    names fields and never their values. Where self-heal is on, the difference must outlast one poll. What was reported
    is kept in the asset's state store, so a restart of the triggerer reports nothing twice.

    :param argocd_conn_id: the Argo CD connection.
    :param apps: names of the applications; or
    :param selector: a label selector; or
    :param project: all applications of a project.
    :param poll_interval: seconds between two looks.
    """

    def __init__(
        self,
        *,
        argocd_conn_id: str = "argocd_default",
        apps: Sequence[str] = (),
        selector: str = "",
        project: str = "",
        app_namespace: str = "",
        poll_interval: float = 15.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        if not apps and not selector and not project:
            raise InvalidInput(
                "no application is named", field="apps", remedy="Give apps, a selector or a project."
            )
        if isinstance(apps, str):
            raise InvalidInput(
                f"apps is the text {apps!r}", field="apps", value=apps, remedy="Give a list of names."
            )
        if poll_interval <= 0:
            raise InvalidInput("poll_interval is not positive", field="poll_interval", value=poll_interval)
        self.argocd_conn_id, self.apps, self.selector = argocd_conn_id, list(apps), selector
        self.project, self.app_namespace, self.poll_interval = project, app_namespace, poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        named = ("argocd_conn_id", "apps", "selector", "project", "app_namespace", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in named
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each new difference, for ever."""
        from airflow_pipeops.argocd.drift import DriftMemory
        from airflow_pipeops.argocd.hook import ArgoCDHook

        memories: dict[str, DriftMemory] = {}
        while True:
            try:
                hook = ArgoCDHook(self.argocd_conn_id, project=self.project, app_namespace=self.app_namespace)
                async with await hook.aclient() as client:
                    while True:
                        for app in await self._names(client):
                            async for payload in self._look(client, hook, app, memories):
                                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                        await self._pause()
            except PipeOpsError as error:
                # A watcher has nobody to fail: it says so and goes on, slowly where only a person can mend it.
                self.log.warning("Looking for drift failed, and will be tried again: %s", error)
                await self._pause(1.0 if error.retryable else 8.0)

    async def _names(self, client: ArgoCDClient) -> list[str]:
        if self.apps:
            return self.apps
        listed = await client.applications(project=self.project, selector=self.selector)
        return sorted(str(item.get("metadata", {}).get("name") or "") for item in listed)

    async def _look(
        self, client: ArgoCDClient, hook: ArgoCDHook, app: str, memories: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        from airflow_pipeops.argocd.drift import differences, news, payload, suspicious
        from airflow_pipeops.argocd.observe import observe

        before = memories[app] if app in memories else await self._recall(app)
        try:
            observed = observe(await client.get(hook.ref(app)))
            drifted, memory = suspicious(observed, before)
            found = differences(await client.managed_resources(hook.ref(app))) if drifted else []
        except PipeOpsError as error:
            if len(self.apps) == 1:
                raise
            self.log.warning("Looking at %s failed: %s", app, error)
            return
        if drifted and found:
            new, memory = news(found, memory)
            if new:
                yield payload(observed, found)
        memories[app] = memory
        if memory != before:
            await self._keep(app, memory.to_json())

    async def _recall(self, app: str) -> Any:
        from airflow_pipeops.argocd.drift import DriftMemory

        if self.asset_state_store is None:
            return DriftMemory()
        try:
            return DriftMemory.from_json(await self.asset_state_store.aget(self._key(app)))
        except Exception as error:  # the store is a convenience: without it, a restart may repeat one event
            self.log.warning("What was reported about %s cannot be read: %s", app, error)
            return DriftMemory()

    async def _keep(self, app: str, memory: Mapping[str, Any]) -> None:
        if self.asset_state_store is None:
            return
        try:
            await self.asset_state_store.aset(self._key(app), dict(memory))
        except Exception as error:
            self.log.warning("What was reported about %s cannot be kept: %s", app, error)

    @staticmethod
    def _key(app: str) -> str:
        return f"argocd-drift.{app}"

    async def _pause(self, factor: float = 1.0) -> None:
        await asyncio.sleep(self.poll_interval * factor * random.uniform(0.9, 1.1))
