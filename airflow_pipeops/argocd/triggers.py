"""What waits for Argo CD in the triggerer. Only connection ids travel in the arguments; they are stored unencrypted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

# Its home is events.py; DAGs written before that import it from here.
from airflow_pipeops.argocd.events import ArgoCDDriftTrigger as ArgoCDDriftTrigger
from airflow_pipeops.exceptions import PipeOpsError

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
