"""What waits for Argo Workflows in the triggerer.

Only connection ids travel in the arguments; they are stored unencrypted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.waits.triggers import DWELL, OutcomeTrigger, StreamTrigger

if TYPE_CHECKING:
    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
    from airflow_pipeops.argo_workflows.logs import Follower
    from airflow_pipeops.argo_workflows.status import WorkflowStatus
    from airflow_pipeops.argo_workflows.waits import WorkflowWait
    from airflow_pipeops.waits.streams.stream import SharedStream
    from airflow_pipeops.waits.verdict import Verdict

#: After so many times the pause between two looks (each five seconds: a minute), a workflow is read with its nodes.
WHOLE_AFTER = 12


class ArgoWorkflowTrigger(StreamTrigger):
    """Waits for one workflow.

    All that wait on the same connection and namespace share one stream (see :mod:`~airflow_pipeops.waits.streams`).
    The event is ``{"decided": JSON of a Decided, "said": {pod: lines of its log that were said}, "complete": whether that
    is all, "note": ...}``.

    :param argo_workflows_conn_id: the connection.
    :param namespace: of the workflow.
    :param wait: JSON of a :class:`~airflow_pipeops.argo_workflows.waits.WorkflowWait`.
    :param poll_interval: seconds between two looks, where it comes to looking.
    :param follow_logs: write the log of its nodes into that of the task.
    :param if_killed: what becomes of the workflow when somebody ends the task: ``stop``, ``terminate`` or ``leave``.
    :param note: comes back with the event.
    :param dwell: seconds before which it does not fire.
    """

    arguments = (
        "argo_workflows_conn_id",
        "namespace",
        "wait",
        "poll_interval",
        "follow_logs",
        "if_killed",
        "note",
    )

    def __init__(
        self,
        *,
        argo_workflows_conn_id: str,
        namespace: str,
        wait: Mapping[str, Any],
        poll_interval: float = 5.0,
        follow_logs: bool = False,
        if_killed: str = "leave",
        note: Mapping[str, Any] | None = None,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(dwell=dwell)
        self.argo_workflows_conn_id, self.namespace, self.wait = argo_workflows_conn_id, namespace, dict(wait)
        self.poll_interval, self.follow_logs = float(poll_interval), bool(follow_logs)
        self.if_killed, self.note = if_killed, dict(note or {})

    def shared_stream_key(self) -> tuple[str, ...] | None:
        """Return what the shared stream is known by: the connection and the namespace."""
        return ("argo_workflows", self.argo_workflows_conn_id, self.namespace)

    def watch_stream(self) -> SharedStream:
        """Return the stream of the key."""
        from airflow_pipeops.argo_workflows.stream import watch_of

        return watch_of(self.argo_workflows_conn_id, self.namespace)

    async def outcome(self) -> dict[str, Any]:
        """Wait by looking, and return where the wait stands."""
        from airflow_pipeops.argo_workflows.logs import followed
        from airflow_pipeops.argo_workflows.waits import WorkflowController
        from airflow_pipeops.waits.controller import until_decided

        wait = self._waiting()
        async with await self._client() as client:
            follower = self._follower(client, wait)
            looking = until_decided(WorkflowController(client), [wait], self.poll_interval)
            await followed(follower, looking)
        return self._told(wait, follower)

    async def follow(self, watch: SharedStream) -> dict[str, Any]:
        """Wait by the shared stream, and return where the wait stands."""
        from airflow_pipeops.argo_workflows.logs import followed
        from airflow_pipeops.waits.streams.seats import Seat

        wait = self._waiting()
        seat = Seat(watch, [wait], self.poll_interval)
        follower = None
        closer = asyncio.ensure_future(self._look_closer(watch, wait.ref))
        try:
            if not self.follow_logs:
                await seat.follow()
            else:
                async with await self._client() as client:
                    follower = self._follower(client, wait)
                    await followed(follower, seat.follow())
        finally:
            closer.cancel()
            seat.close()
        return self._told(wait, follower)

    async def _look_closer(self, watch: SharedStream, ref: WorkflowRef) -> None:
        """Have the whole workflow read now and then: the stream leaves the nodes out, which may wait for somebody."""
        while True:
            await asyncio.sleep(WHOLE_AFTER * self.poll_interval * random.uniform(0.8, 1.2))
            watch.asker.ask(ref)

    async def on_kill(self) -> None:
        """Stop the workflow, or leave it, where somebody ended the task."""
        from airflow_pipeops.argo_workflows.clients.errors import Ended

        if self.if_killed == "leave":
            return
        ref = self._waiting().ref
        try:
            async with await self._client() as client:
                await client.act(ref, "terminate" if self.if_killed == "terminate" else "stop")
        except Ended:
            pass
        self.log.info("The task was ended: %s %s", self.if_killed, ref)

    async def _client(self) -> ArgoWorkflows:
        from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook

        return await ArgoWorkflowsHook(self.argo_workflows_conn_id, namespace=self.namespace).aclient()

    def _waiting(self) -> WorkflowWait:
        from airflow_pipeops.argo_workflows.waits import WorkflowWait

        return WorkflowWait.from_json(self.wait, self._tell, self._progress)

    def _follower(self, client: ArgoWorkflows, wait: WorkflowWait) -> Follower | None:
        from airflow_pipeops.argo_workflows.logs import Follower

        return Follower(client, wait.ref, self.log.info) if self.follow_logs else None

    def _told(self, wait: WorkflowWait, follower: Follower | None) -> dict[str, Any]:
        said = dict(follower.said) if follower is not None else {}
        complete = follower is not None and follower.complete
        return {"decided": wait.state.to_json(), "said": said, "complete": complete, "note": self.note}

    def _tell(self, verdict: Verdict) -> None:
        self.log.info("%s: %s: %s (%s)", self.wait["name"], verdict.state, verdict.reason, verdict.rule)

    def _progress(self, status: WorkflowStatus) -> None:
        self.log.info("%s: %s", status.name, status.progress)


class ArgoWorkflowSearchTrigger(OutcomeTrigger):
    """Looks for a workflow that somebody else submits; its event names it: ``{"name": ..., "uid": ...}``.

    :param argo_workflows_conn_id: the connection.
    :param namespace: of the workflow.
    :param name: of the workflow; or
    :param labels: a label selector, of which the newest is meant.
    :param timeout: seconds after which the search is over.
    :param poll_interval: seconds between two looks.
    :param dwell: seconds before which it does not fire.
    """

    arguments = ("argo_workflows_conn_id", "namespace", "name", "labels", "timeout", "poll_interval")

    def __init__(
        self,
        *,
        argo_workflows_conn_id: str,
        namespace: str,
        name: str = "",
        labels: str = "",
        timeout: float = 3600.0,
        poll_interval: float = 5.0,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(dwell=dwell)
        self.argo_workflows_conn_id, self.namespace = argo_workflows_conn_id, namespace
        self.name, self.labels = name, labels
        self.timeout, self.poll_interval = float(timeout), float(poll_interval)

    async def outcome(self) -> dict[str, Any]:
        """Look until it is there, and name it."""
        from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
        from airflow_pipeops.argo_workflows.search import Search, until_found

        hook = ArgoWorkflowsHook(self.argo_workflows_conn_id, namespace=self.namespace)
        async with await hook.aclient() as client:
            search = Search(hook.namespace, self.name, self.labels)
            found = await until_found(client, search, self.timeout, self.poll_interval)
        return {"name": found.name, "uid": found.uid}
