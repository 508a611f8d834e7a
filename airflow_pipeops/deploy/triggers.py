"""What waits for applied objects in the triggerer. Only connection ids travel in the arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.waits.triggers import DWELL, OutcomeTrigger

if TYPE_CHECKING:
    from airflow_pipeops.waits.verdict import Verdict


class ClusterTrigger(OutcomeTrigger):
    """Looks at a cluster, and goes on where an earlier part of the task has ended.

    :param kubernetes_conn_id: connection of type ``kubernetes``.
    :param memory: JSON of what that part remembers.
    :param poll_interval: seconds between two looks.
    :param dwell: seconds before which it does not fire.
    """

    arguments: ClassVar[tuple[str, ...]] = ("kubernetes_conn_id", "memory", "poll_interval")

    def __init__(
        self,
        *,
        kubernetes_conn_id: str,
        memory: Mapping[str, Any] | None = None,
        poll_interval: float = 5.0,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(dwell=dwell)
        self.kubernetes_conn_id, self.poll_interval = kubernetes_conn_id, float(poll_interval)
        self.memory = dict(memory or {})


class AppliedTrigger(ClusterTrigger):
    """Waits until objects that were applied are ready, or will not be.

    All waits of a triggerer share one watch per connection, namespace and kind (:mod:`~airflow_pipeops.kubernetes.feeds`).
    The event is ``{"applied": JSON of an AppliedSet, "decided": JSON of a Decided}``.

    :param applied: JSON of :class:`~airflow_pipeops.deploy.targets.AppliedSet`.
    :param expectation: JSON of :class:`~airflow_pipeops.waits.verdict.Expectation`.
    :param memory: JSON of :class:`~airflow_pipeops.waits.verdict.Memory`.
    :param poll_interval: seconds between two looks, where watching is not allowed.
    """

    arguments = (*ClusterTrigger.arguments, "applied", "expectation")

    def __init__(self, *, applied: Mapping[str, Any], expectation: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.applied, self.expectation = dict(applied), dict(expectation)

    async def outcome(self) -> dict[str, Any]:
        """Wait, and return where the wait stands."""
        from airflow_pipeops.deploy.stream import Read, Told, joined
        from airflow_pipeops.deploy.targets import AppliedSet
        from airflow_pipeops.kubernetes.feeds import until_decided
        from airflow_pipeops.waits.verdict import Expectation, Memory
        from airflow_pipeops.waits.wait import Wait

        applied = AppliedSet.from_json(self.applied)
        things = {(one.served, one.namespace, one.name) for one in applied.targets}
        async with joined(self.kubernetes_conn_id) as cluster:
            told = Told(cluster)
            wait = Wait(
                applied,
                Expectation.from_json(self.expectation),
                Memory.from_json(self.memory),
                rulebook=told.rulebook,
                on_change=self._tell,
            )
            # What is so of pods shows in what runs them; what does not is found with the next look.
            await until_decided(
                cluster, wait, told, Read(cluster), lambda seen: (things, False), self.poll_interval
            )
        return {"applied": self.applied, "decided": wait.state.to_json()}

    def _tell(self, verdict: Verdict) -> None:
        self.log.info("%s: %s (%s)", verdict.state, verdict.reason, verdict.rule)


class ReleaseTrigger(AppliedTrigger):
    """Waits as :class:`AppliedTrigger` does; its event also has the facts: ``{"applied", "decided", "facts"}``.

    :param facts: what the task has to say of what it applied: names and digests, never values.
    """

    arguments = (*AppliedTrigger.arguments, "facts")

    def __init__(self, *, facts: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.facts = dict(facts)

    async def outcome(self) -> dict[str, Any]:
        """Wait, and return where the wait stands, with the facts."""
        return {**await super().outcome(), "facts": self.facts}


class PushedSteadyTrigger(ClusterTrigger):
    """Watches a release that was pushed until it has proven steady, or degraded.

    :param watched: JSON of :class:`~airflow_pipeops.deploy.pushed.Watched`.
    :param watch: JSON of :class:`~airflow_pipeops.waits.steadiness.Watch`.
    :param memory: JSON of :class:`~airflow_pipeops.waits.steadiness.SteadyMemory`.
    """

    arguments = (*ClusterTrigger.arguments, "watched", "watch")

    def __init__(self, *, watched: Mapping[str, Any], watch: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.watched, self.watch = dict(watched), dict(watch)

    async def outcome(self) -> dict[str, Any]:
        """Watch, and return the outcome."""
        from airflow_pipeops.deploy.pushed import Watched
        from airflow_pipeops.deploy.watches import PushedController
        from airflow_pipeops.kubernetes.connections import aconnect
        from airflow_pipeops.waits.steadiness import steady_watch, watch_until_over

        async with await aconnect(self.kubernetes_conn_id) as client:
            watch = steady_watch(Watched.from_json(self.watched), self.watch, self.memory)
            return await watch_until_over(PushedController(client), watch, self.poll_interval)
