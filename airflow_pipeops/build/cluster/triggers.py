"""What waits for a Job in the triggerer. Only connection ids travel in the arguments; they are stored unencrypted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.waits.triggers import DWELL, OutcomeTrigger

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.logs import Position
    from airflow_pipeops.waits.verdict import Verdict


class KubernetesJobTrigger(OutcomeTrigger):
    """Waits until a Job has ended or cannot come to anything, and tells its log meanwhile.

    All waits of a triggerer on the same connection and namespace share one watch. The event is
    ``{"job": JSON of a JobRef, "decided": JSON of a Decided, "log": JSON of a Position}``.

    :param kubernetes_conn_id: connection of type ``kubernetes``.
    :param namespace: of the Job.
    :param name: of the Job.
    :param container: whose log is told.
    :param expectation: JSON of :class:`~airflow_pipeops.waits.verdict.Expectation`.
    :param memory: JSON of :class:`~airflow_pipeops.waits.verdict.Memory`.
    :param logged: JSON of how far its log was told.
    :param startup: seconds for which its pod may not run yet.
    :param poll_interval: seconds between two looks, and between two reads of its log.
    :param dwell: seconds before which it does not fire.
    """

    arguments = (
        "kubernetes_conn_id",
        "namespace",
        "name",
        "container",
        "expectation",
        "memory",
        "logged",
        "startup",
        "poll_interval",
    )

    def __init__(
        self,
        *,
        kubernetes_conn_id: str,
        namespace: str,
        name: str,
        container: str,
        expectation: Mapping[str, Any],
        memory: Mapping[str, Any] | None = None,
        logged: Mapping[str, Any] | None = None,
        startup: float = 600.0,
        poll_interval: float = 5.0,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(dwell=dwell)
        self.kubernetes_conn_id, self.namespace, self.name = kubernetes_conn_id, namespace, name
        self.container, self.expectation, self.memory = container, dict(expectation), dict(memory or {})
        self.logged, self.startup, self.poll_interval = (
            dict(logged or {}),
            float(startup),
            float(poll_interval),
        )

    async def outcome(self) -> dict[str, Any]:
        """Wait, and return where the wait stands."""
        from airflow_pipeops.build.cluster.client import JobRef
        from airflow_pipeops.build.cluster.judgement import RULEBOOK
        from airflow_pipeops.build.cluster.stream import watch_of
        from airflow_pipeops.kubernetes.logs import Position
        from airflow_pipeops.waits.streams.seats import Seat
        from airflow_pipeops.waits.verdict import Expectation, Memory
        from airflow_pipeops.waits.wait import Wait

        ref = JobRef(self.namespace, self.name)
        wait = Wait(
            ref,
            Expectation.from_json(self.expectation),
            Memory.from_json(self.memory),
            rulebook=RULEBOOK,
            on_change=self._tell,
        )
        position = [Position.from_json(self.logged)]
        seat = Seat(
            watch_of(self.kubernetes_conn_id, self.namespace, self.startup), [wait], self.poll_interval
        )
        telling = asyncio.ensure_future(self._tell_log(wait, position))
        try:
            await seat.follow()
        finally:
            seat.close()
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        return {"job": ref.to_json(), "decided": wait.state.to_json(), "log": position[0].to_json()}

    async def on_kill(self) -> None:
        """Delete the Job: a person has ended the task, and nobody waits for it any more."""
        from airflow_pipeops.build.cluster.client import JobRef, remove
        from airflow_pipeops.kubernetes.connections import aconnect

        async with await aconnect(self.kubernetes_conn_id, attempts=2, timeout=10.0) as client:
            await remove(client, JobRef(self.namespace, self.name))

    async def _tell_log(self, wait: Any, position: list[Position]) -> None:
        """Write what its main container writes into the task's log; what fails here is read when it has ended."""
        from airflow_pipeops.exceptions import PipeOpsError
        from airflow_pipeops.kubernetes.connections import aconnect
        from airflow_pipeops.kubernetes.logs import read_on

        async with await aconnect(self.kubernetes_conn_id, attempts=1) as client:
            while True:
                pod = str(wait.state.verdict.details.get("pod") or "")
                if pod:
                    try:
                        lines, position[0] = await read_on(
                            client, self.namespace, pod, self.container, position[0]
                        )
                    except PipeOpsError:
                        lines = []
                    for line in lines:
                        self.log.info("%s", line)
                await asyncio.sleep(self.poll_interval)

    def _tell(self, verdict: Verdict) -> None:
        self.log.info("Job %s: %s: %s (%s)", self.name, verdict.state, verdict.reason, verdict.rule)
