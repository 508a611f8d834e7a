"""What waits for Flux in the triggerer. Only connection ids travel in the arguments; they are stored unencrypted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

# Their home is watchers.py; whoever writes an AssetWatcher looks here first.
from airflow_pipeops.flux.watchers import FluxDriftTrigger as FluxDriftTrigger
from airflow_pipeops.flux.watchers import FluxFailedTrigger as FluxFailedTrigger
from airflow_pipeops.flux.watchers import FluxReadyTrigger as FluxReadyTrigger
from airflow_pipeops.waits.triggers import DWELL, OutcomeTrigger

if TYPE_CHECKING:
    from airflow_pipeops.flux.stream import Cluster
    from airflow_pipeops.flux.waits import Asking
    from airflow_pipeops.waits.status import Observed
    from airflow_pipeops.waits.verdict import Verdict
    from airflow_pipeops.waits.wait import Wait


class _ObjectTrigger(OutcomeTrigger):
    """Looks at a Kustomization or a HelmRelease, and goes on where an earlier part of the task has ended.

    :param flux_conn_id: the connection.
    :param kind: ``Kustomization`` or ``HelmRelease``, with its ``namespace`` and ``name``.
    :param memory: JSON of what that part remembers.
    :param poll_interval: seconds between two looks.
    :param dwell: seconds before which it does not fire.
    """

    arguments: ClassVar[tuple[str, ...]] = (
        "flux_conn_id", "kind", "namespace", "name", "memory", "poll_interval",
    )  # fmt: skip

    def __init__(
        self,
        *,
        flux_conn_id: str,
        kind: str,
        namespace: str,
        name: str,
        memory: Mapping[str, Any] | None = None,
        poll_interval: float = 5.0,
        dwell: float = DWELL,
    ) -> None:
        super().__init__(dwell=dwell)
        self.flux_conn_id = flux_conn_id
        self.kind, self.namespace, self.name = kind, namespace, name
        self.memory, self.poll_interval = dict(memory or {}), float(poll_interval)


class FluxWaitTrigger(_ObjectTrigger):
    """Waits until an expectation about a Kustomization or a HelmRelease is met or cannot be met.

    All waits of a triggerer share one watch per connection, namespace and kind; see :mod:`~airflow_pipeops.flux.stream`.
    The event is the JSON of a :class:`~airflow_pipeops.waits.wait.Decided`.

    :param expectation: JSON of :class:`~airflow_pipeops.waits.verdict.Expectation`.
    :param memory: JSON of :class:`~airflow_pipeops.waits.verdict.Memory`.
    :param git_conn_id: repository that says which commit contains which.
    :param requests: what this task's requests to reconcile begin with; empty: it asks for none.
    :param poll_interval: seconds between two looks, where watching is not allowed.
    """

    arguments = (*_ObjectTrigger.arguments, "expectation", "git_conn_id", "requests")

    def __init__(
        self,
        *,
        expectation: Mapping[str, Any],
        git_conn_id: str | None = None,
        requests: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.expectation, self.git_conn_id, self.requests = dict(expectation), git_conn_id, requests

    async def outcome(self) -> dict[str, Any]:
        """Wait, and return where the wait stands."""
        from airflow_pipeops.flux.kinds import Ref
        from airflow_pipeops.flux.rules import RULEBOOK
        from airflow_pipeops.flux.stream import joined
        from airflow_pipeops.flux.waits import Asking
        from airflow_pipeops.git.ancestry import git_oracle
        from airflow_pipeops.waits.verdict import Expectation, Memory
        from airflow_pipeops.waits.wait import Wait

        wait = Wait(
            Ref(self.kind, self.namespace, self.name),
            Expectation.from_json(self.expectation),
            Memory.from_json(self.memory),
            rulebook=RULEBOOK,
            oracle=git_oracle(self.git_conn_id),
            on_change=self._tell,
        )
        async with joined(self.flux_conn_id) as cluster:
            await self._decide(cluster, wait, Asking(cluster.request, self.requests))
        return wait.state.to_json()

    async def _decide(self, cluster: Cluster, wait: Wait, asking: Asking) -> None:
        from airflow_pipeops.flux.stream import thing
        from airflow_pipeops.flux.waits import FluxController
        from airflow_pipeops.git.ancestry import chart_history
        from airflow_pipeops.kubernetes.feeds import Thing, until_decided

        charts = chart_history(self.git_conn_id)
        told = FluxController(cluster.gather, cluster.all, asking, charts=charts)
        read = FluxController(cluster.confirm, cluster.all, asking, charts=charts)

        def concerned(seen: Observed) -> tuple[set[Thing], bool]:
            return {thing(ref) for ref in {wait.ref, *_refs(seen)}}, seen.reconciled.main.missing

        await until_decided(cluster, wait, told, read, concerned, self.poll_interval)

    def _tell(self, verdict: Verdict) -> None:
        self.log.info("%s %s: %s: %s (%s)", self.kind, self.name, verdict.state, verdict.reason, verdict.rule)


class FluxSteadyTrigger(_ObjectTrigger):
    """Watches a Kustomization or a HelmRelease until it has proven steady, or degraded.

    :param watch: JSON of :class:`~airflow_pipeops.waits.steadiness.Watch`.
    :param memory: JSON of :class:`~airflow_pipeops.waits.steadiness.SteadyMemory`.
    """

    arguments = (*_ObjectTrigger.arguments, "watch")

    def __init__(self, *, watch: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.watch = dict(watch)

    async def outcome(self) -> dict[str, Any]:
        """Watch, and return the outcome."""
        from airflow_pipeops.flux.kinds import Ref
        from airflow_pipeops.flux.stream import joined
        from airflow_pipeops.flux.waits import Asking, FluxController
        from airflow_pipeops.waits.steadiness import steady_watch, watch_until_over

        watch = steady_watch(Ref(self.kind, self.namespace, self.name), self.watch, self.memory)
        async with joined(self.flux_conn_id) as cluster:
            # By what the shared watches told last: one triggerer may watch hundreds.
            controller = FluxController(cluster.gather, cluster.all, Asking(cluster.request, ""))
            return await watch_until_over(controller, watch, self.poll_interval)


def _refs(seen: Any) -> set[Any]:
    from airflow_pipeops.flux.kinds import Ref

    chain = seen.reconciled
    single = (chain.main, chain.source, chain.owner, chain.chart, chain.chart_source)
    return {Ref(*one.key) for one in (*single, *chain.above, *chain.sources) if one is not None}
