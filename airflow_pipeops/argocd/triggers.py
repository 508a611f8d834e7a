"""What waits for Argo CD in the triggerer. Only connection ids travel in the arguments; they are stored unencrypted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

# Its home is watchers.py; whoever writes an AssetWatcher looks here first.
from airflow_pipeops.argocd.watchers import ArgoCDDriftTrigger as ArgoCDDriftTrigger
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.waits.triggers import DWELL, StreamTrigger

if TYPE_CHECKING:
    from airflow_pipeops.argocd.waits import Wait
    from airflow_pipeops.waits.streams.stream import SharedStream
    from airflow_pipeops.waits.verdict import Verdict


class _AppTrigger(StreamTrigger):
    """Watches until there is something to tell the task, on the stream of its connection and project."""

    argocd_conn_id: str

    def shared_stream_key(self) -> tuple[str, ...] | None:
        """Return what the shared stream is known by: the connection and the project."""
        return ("argocd", self.argocd_conn_id, self.watched_project())

    def watched_project(self) -> str:
        """Return the project that is watched; empty for the connection's own, or all."""
        raise NotImplementedError

    def watch_stream(self) -> SharedStream:
        """Return the stream of the key."""
        from airflow_pipeops.argocd.stream import watch_of

        return watch_of(self.argocd_conn_id, self.watched_project())


class ArgoCDWaitTrigger(_AppTrigger):
    """Waits until expectations are met or cannot be met; one event tells of all of them.

    The event is ``{"decided": {app: JSON of a Decided}}``. With ``fail_fast`` it comes when the first wait has failed,
    and the others then stand where they stand.

    :param argocd_conn_id: the Argo CD connection.
    :param waits: each ``{app, project, app_namespace, expectation, memory}``, the last two as JSON of
        :class:`~airflow_pipeops.waits.verdict.Expectation` and :class:`~airflow_pipeops.waits.verdict.Memory`.
    :param git_conn_id: repository that says which commit contains which.
    :param poll_interval: seconds between two looks, where it comes to looking.
    :param fail_fast: end when the first wait has failed.
    :param dwell: seconds before which it does not fire.
    """

    arguments = ("argocd_conn_id", "waits", "git_conn_id", "poll_interval", "fail_fast")

    def __init__(
        self,
        *,
        argocd_conn_id: str,
        waits: Sequence[Mapping[str, Any]] = (),
        git_conn_id: str | None = None,
        poll_interval: float = 5.0,
        fail_fast: bool = True,
        dwell: float = DWELL,
        **single: Any,
    ) -> None:
        super().__init__(dwell=dwell)
        # Triggers of earlier versions are in databases still: they name one application among their arguments.
        self.waits = [dict(wait) for wait in waits] or [single]
        if waits and single:
            raise TypeError(f"there is no argument {next(iter(single))!r}")
        self.argocd_conn_id, self.git_conn_id = argocd_conn_id, git_conn_id
        self.poll_interval, self.fail_fast = float(poll_interval), bool(fail_fast)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments.

        :return: what Airflow stores of the trigger.
        :raises InvalidInput: where no application is named, or one twice. Not the constructor: in a triggerer, an error
            there would end all triggers.
        """
        names = [wait.get("app") for wait in self.waits]
        if not all(names) or len(set(names)) < len(names):
            raise InvalidInput(
                f"the waits are for {names}",
                field="waits",
                value=names,
                remedy="Name at least one application, and none twice.",
            )
        return super().serialize()

    def watched_project(self) -> str:
        """Return the project of all waits; empty where they differ: then all that the token may see is watched."""
        projects = {str(wait.get("project") or "") for wait in self.waits}
        return projects.pop() if len(projects) == 1 else ""

    async def outcome(self) -> dict[str, Any]:
        """Wait, and return where each wait stands."""
        from airflow_pipeops.argocd.hook import ArgoCDHook
        from airflow_pipeops.argocd.waits import ArgoCDController
        from airflow_pipeops.waits.controller import until_decided

        hook = ArgoCDHook(self.argocd_conn_id)
        async with await hook.aclient() as client:
            waits = self._waits(hook.ref("any").project)
            controller = ArgoCDController(client)
            await until_decided(controller, waits, self.poll_interval, fail_fast=self.fail_fast)
        return _decided(waits)

    async def follow(self, watch: SharedStream) -> dict[str, Any]:
        """Wait by the shared stream."""
        from airflow_pipeops.waits.streams.seats import Seat

        waits = self._waits("")
        seat = Seat(watch, waits, self.poll_interval)
        try:
            await seat.follow(fail_fast=self.fail_fast)
        finally:
            seat.close()
        return _decided(waits)

    def _waits(self, project: str) -> list[Wait]:
        from airflow_pipeops.argocd.waits import wait_from_json
        from airflow_pipeops.git.ancestry import git_oracle

        oracle = git_oracle(self.git_conn_id)
        return [wait_from_json(wait, project, oracle, self._tell) for wait in self.waits]

    def _tell(self, app: str, verdict: Verdict) -> None:
        self.log.info("%s: %s: %s (%s)", app, verdict.state, verdict.reason, verdict.rule)


def _decided(waits: Sequence[Wait]) -> dict[str, Any]:
    return {"decided": {wait.ref.name: wait.state.to_json() for wait in waits}}


class ArgoCDSteadyTrigger(_AppTrigger):
    """Watches a live application until it has proven steady, or degraded.

    :param argocd_conn_id: the Argo CD connection.
    :param app: name of the application; ``project`` and ``app_namespace`` where they are needed.
    :param watch: JSON of :class:`~airflow_pipeops.waits.steadiness.Watch`.
    :param memory: JSON of :class:`~airflow_pipeops.waits.steadiness.SteadyMemory`.
    :param poll_interval: seconds between two looks.
    :param dwell: seconds before which it does not fire.
    """

    arguments = ("argocd_conn_id", "app", "project", "app_namespace", "watch", "memory", "poll_interval")

    def __init__(
        self,
        *,
        argocd_conn_id: str,
        app: str,
        watch: Mapping[str, Any],
        project: str = "",
        app_namespace: str = "",
        memory: Mapping[str, Any] | None = None,
        poll_interval: float = 5.0,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(dwell=dwell)
        self.argocd_conn_id, self.app, self.watch = argocd_conn_id, app, dict(watch)
        self.project, self.app_namespace = project, app_namespace
        self.memory, self.poll_interval = memory, float(poll_interval)

    def watched_project(self) -> str:
        """Return the application's project."""
        return self.project

    async def outcome(self) -> dict[str, Any]:
        """Watch, and return the outcome."""
        from airflow_pipeops.argocd.hook import ArgoCDHook
        from airflow_pipeops.argocd.waits import ArgoCDController
        from airflow_pipeops.waits.steadiness import steady_watch, watch_until_over

        hook = ArgoCDHook(self.argocd_conn_id, project=self.project, app_namespace=self.app_namespace)
        async with await hook.aclient() as client:
            watch = steady_watch(hook.ref(self.app), self.watch, self.memory)
            return await watch_until_over(ArgoCDController(client), watch, self.poll_interval)

    async def follow(self, watch: SharedStream) -> dict[str, Any]:
        """Watch by the shared stream."""
        from airflow_pipeops.argocd.clients.rest import AppRef
        from airflow_pipeops.waits.steadiness import steady_watch
        from airflow_pipeops.waits.streams.seats import Seat

        ref = AppRef(self.app, self.project, self.app_namespace)
        watched = steady_watch(ref, self.watch, self.memory)
        seat = Seat(watch, [watched], self.poll_interval)
        try:
            await seat.follow()
        finally:
            seat.close()
        return watched.to_json()
