"""What an :class:`~airflow.sdk.AssetWatcher` can be told by Flux: an object became ready, failed, or drifted.

Each is told once, and has a ``key`` in its payload. What was told is kept in the asset's state store, so a restart of the
triggerer repeats nothing. The judgements are pure; they are in :mod:`~airflow_pipeops.flux.novelty`. All watchers of a
triggerer share the watches of :mod:`~airflow_pipeops.flux.stream`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.watchers import Watcher, told_before
from airflow_pipeops.exceptions import InvalidInput, NotFound, PipeOpsError
from airflow_pipeops.flux.kinds import Ref, waitable

if TYPE_CHECKING:
    from airflow_pipeops.flux.novelty import NewsMemory
    from airflow_pipeops.flux.stream import Cluster
    from airflow_pipeops.waits.status import Observed


class FluxEventTrigger(Watcher):
    """Looks at objects for ever, and yields an event for each piece of news about one of them.

    :param kind: ``Kustomization`` or ``HelmRelease``.
    :param names: of the objects.
    :param namespace: of the objects.
    :param flux_conn_id: the connection.
    :param poll_interval: seconds between two looks; with a watch they cost the cluster nothing.
    """

    #: Under which name the state store keeps what was told about an object.
    kept_as: ClassVar[str] = ""
    arguments: ClassVar[tuple[str, ...]] = ("kind", "names", "namespace", "flux_conn_id", "poll_interval")

    def __init__(
        self,
        *,
        kind: str = "Kustomization",
        names: Sequence[str] = (),
        namespace: str = "flux-system",
        flux_conn_id: str = "kubernetes_default",
        poll_interval: float = 15.0,
    ) -> None:
        super().__init__()
        if isinstance(names, str) or not names or not all(isinstance(name, str) and name for name in names):
            raise InvalidInput(
                f"names is {names!r}", field="names", value=names, remedy="Give a list of names."
            )
        if (
            isinstance(poll_interval, bool)
            or not isinstance(poll_interval, (int, float))
            or poll_interval <= 0
        ):
            raise InvalidInput(
                f"poll_interval is {poll_interval!r}",
                field="poll_interval",
                value=poll_interval,
                remedy="Give a positive number of seconds.",
            )
        self.kind, self.names, self.namespace = waitable(kind), list(names), namespace
        self.flux_conn_id, self.poll_interval = flux_conn_id, float(poll_interval)

    @property
    def subject(self) -> str:
        """The kind of object, and the connection."""
        return f"{self.kind} through {self.flux_conn_id}"

    def source(self) -> AbstractAsyncContextManager[Cluster]:
        """Join the watches of the connection."""
        from airflow_pipeops.flux.stream import joined

        return joined(self.flux_conn_id)

    async def look(self, source: Cluster) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what is new about the objects."""
        from airflow_pipeops.flux.novelty import NewsMemory
        from airflow_pipeops.flux.objects import observe

        for name in self.names:
            kept = f"{self.kept_as}.{self.kind.lower()}.{self.namespace}.{name}"
            data, _ = await self.recall(kept)
            before = NewsMemory.from_json(data)
            try:
                ref = Ref(self.kind, self.namespace, name)
                found = await source.gather(ref)
                payload, memory = await self.judge(source, observe(found, found.missing), before)
                if payload is not None:
                    # Watches of several kinds lag behind each other; what is told was read for it.
                    found = await source.confirm(ref)
                    payload, memory = await self.judge(source, observe(found, found.missing), before)
            except NotFound as error:
                self.log.info("%s", error)
                continue
            except PipeOpsError as error:
                if len(self.names) == 1:
                    raise
                self.log.warning("Looking at %s failed: %s", name, error)
                continue
            told = told_before(data)
            if payload is not None:
                yield self.keyed(payload, self.flux_conn_id, kept, told, payload["fingerprint"])
                told += 1
            if payload is not None or memory != before:
                self.remember(kept, {**memory.to_json(), "told": told})

    async def judge(
        self, cluster: Cluster, observed: Observed, memory: NewsMemory
    ) -> tuple[dict[str, Any] | None, NewsMemory]:
        """Say what a look shows that was not told yet, if anything, and what to remember."""
        raise NotImplementedError


class FluxReadyTrigger(FluxEventTrigger):
    """Fires when an object became ready at another revision, or a Helm release at another release.

    The payload is ``{kind, name, namespace, revision, fingerprint}``, and ``chart`` for a Helm release. What is ready
    already when the watch begins is not reported.
    """

    kept_as = "flux-ready"

    async def judge(
        self, cluster: Cluster, observed: Observed, memory: NewsMemory
    ) -> tuple[dict[str, Any] | None, NewsMemory]:
        """Look for readiness."""
        from airflow_pipeops.flux.novelty import ready

        return ready(observed, memory)


class FluxFailedTrigger(FluxEventTrigger):
    """Fires when a controller has given up, or so many different attempts at the same have failed; once, until it is ready.

    The payload is ``{kind, name, namespace, revision, tried, reason, message, stalled, attempts, resources, fingerprint}``.

    :param attempts: how many attempts must have failed; a failed build counts at once.
    """

    kept_as = "flux-failed"
    arguments = (*FluxEventTrigger.arguments, "attempts")

    def __init__(self, *, attempts: int = 2, **more: Any) -> None:
        super().__init__(**more)
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise InvalidInput(
                f"attempts is {attempts!r}", field="attempts", value=attempts, remedy="Give a number from 1."
            )
        self.attempts = attempts

    async def judge(
        self, cluster: Cluster, observed: Observed, memory: NewsMemory
    ) -> tuple[dict[str, Any] | None, NewsMemory]:
        """Look for a failure."""
        from airflow_pipeops.flux.novelty import failed

        return failed(observed, memory, attempts=self.attempts)


class FluxDriftTrigger(FluxEventTrigger):
    """Fires when the cluster differs from a Helm release, or a Kustomization has put something right; once for each.

    The payload is ``{kind, name, namespace, revision, mode, corrected, resources, more, message, fingerprint}``; it names
    objects and never their values. A Helm release with drift detection off has none, and the log says so; so too where the
    events that a cluster keeps cannot tell corrections from releases.
    """

    kept_as = "flux-drift"

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._warned: set[str] = set()

    async def judge(
        self, cluster: Cluster, observed: Observed, memory: NewsMemory
    ) -> tuple[dict[str, Any] | None, NewsMemory]:
        """Look for drift."""
        from airflow_pipeops.flux.differences import Told, corrections, released_corrections
        from airflow_pipeops.flux.novelty import drifted

        ref = Ref(self.kind, self.namespace, observed.name)
        release = observed.reconciled.release if observed.reconciled else None
        told = Told()
        if release is None:
            told = corrections(*await cluster.client.with_events(ref), memory.at)
        elif release.drift_mode == "enabled":
            told = released_corrections(await cluster.client.events(ref), memory.at)
        elif release.drift_mode == "disabled":
            told = Told(unclear="drift detection is off (spec.driftDetection.mode), so none will be found")
        if told.unclear and observed.name not in self._warned:
            self._warned.add(observed.name)
            self.log.warning("%s: what was put right may be more than what is told: %s", ref, told.unclear)
        return drifted(observed, list(told.corrections), memory)
