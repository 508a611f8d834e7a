"""What an :class:`~airflow.sdk.AssetWatcher` can be told by Flux: an object became ready, failed, or drifted.

Each is told once. What was told is kept in the asset's state store, so a restart of the triggerer repeats nothing. The
judgements are pure; they are in :mod:`~airflow_pipeops.flux.novelty`. All watchers of a triggerer share the watches of
:mod:`~airflow_pipeops.flux.stream`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_pipeops.exceptions import InvalidInput, NotFound, PipeOpsError
from airflow_pipeops.flux.kinds import Ref, waitable

if TYPE_CHECKING:
    from airflow_pipeops.flux.novelty import NewsMemory
    from airflow_pipeops.flux.stream import Cluster
    from airflow_pipeops.waits.status import Observed


class FluxEventTrigger(BaseEventTrigger):
    """Looks at objects for ever, and yields an event for each piece of news about one of them.

    :param kind: ``Kustomization`` or ``HelmRelease``.
    :param names: of the objects.
    :param namespace: of the objects.
    :param flux_conn_id: the connection.
    :param poll_interval: seconds between two looks; with a watch they cost the cluster nothing.
    """

    #: Under which name the state store keeps what was told about an object.
    kept_as: ClassVar[str] = ""

    def __init__(
        self,
        *,
        kind: str = "Kustomization",
        names: Sequence[str] = (),
        namespace: str = "flux-system",
        flux_conn_id: str = "kubernetes_default",
        poll_interval: float = 15.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        named = ("kind", "names", "namespace", "flux_conn_id", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in named
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the events, for ever."""
        from airflow_pipeops.flux.stream import joined

        memories: dict[str, NewsMemory] = {}
        while True:
            try:
                async with joined(self.flux_conn_id) as cluster:
                    while True:
                        for name in self.names:
                            async for payload in self._look(cluster, name, memories):
                                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                        await self._pause()
            except PipeOpsError as error:
                # A watcher has nobody to fail: it says so and goes on, slowly where only a person can mend it.
                self.log.warning("Looking at %s failed, and will be tried again: %s", self.kind, error)
                await self._pause(1.0 if error.retryable else 8.0)

    async def judge(
        self, cluster: Cluster, observed: Observed, memory: NewsMemory
    ) -> tuple[dict[str, Any] | None, NewsMemory]:
        """Say what a look shows that was not told yet, if anything, and what to remember."""
        raise NotImplementedError

    async def _look(
        self, cluster: Cluster, name: str, memories: dict[str, NewsMemory]
    ) -> AsyncIterator[dict[str, Any]]:
        from airflow_pipeops.flux.objects import observe

        before = memories[name] if name in memories else await self._recall(name)
        try:
            found = await cluster.gather(Ref(self.kind, self.namespace, name))
            payload, memory = await self.judge(cluster, observe(found, found.missing), before)
        except NotFound as error:
            self.log.info("%s", error)
            return
        except PipeOpsError as error:
            if len(self.names) == 1:
                raise
            self.log.warning("Looking at %s failed: %s", name, error)
            return
        if payload is not None:
            yield payload
        # Kept only after it was told: a triggerer that dies in between tells it again rather than never.
        memories[name] = memory
        if memory != before:
            await self._keep(name, memory.to_json())

    async def _recall(self, name: str) -> NewsMemory:
        from airflow_pipeops.flux.novelty import NewsMemory

        if self.asset_state_store is None:
            return NewsMemory()
        try:
            return NewsMemory.from_json(await self.asset_state_store.aget(self._key(name)))
        except Exception as error:  # the store is a convenience: without it, a restart may repeat one event
            self.log.warning("What was reported about %s cannot be read: %s", name, error)
            return NewsMemory()

    async def _keep(self, name: str, memory: Mapping[str, Any]) -> None:
        if self.asset_state_store is None:
            return
        try:
            await self.asset_state_store.aset(self._key(name), dict(memory))
        except Exception as error:
            self.log.warning("What was reported about %s cannot be kept: %s", name, error)

    def _key(self, name: str) -> str:
        return f"{self.kept_as}.{self.kind.lower()}.{self.namespace}.{name}"

    async def _pause(self, factor: float = 1.0) -> None:
        await asyncio.sleep(self.poll_interval * factor * random.uniform(0.9, 1.1))


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

    def __init__(self, *, attempts: int = 2, **more: Any) -> None:
        super().__init__(**more)
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise InvalidInput(
                f"attempts is {attempts!r}", field="attempts", value=attempts, remedy="Give a number from 1."
            )
        self.attempts = attempts

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        path, arguments = super().serialize()
        return path, {**arguments, "attempts": self.attempts}

    async def judge(
        self, cluster: Cluster, observed: Observed, memory: NewsMemory
    ) -> tuple[dict[str, Any] | None, NewsMemory]:
        """Look for a failure."""
        from airflow_pipeops.flux.novelty import failed

        return failed(observed, memory, attempts=self.attempts)


class FluxDriftTrigger(FluxEventTrigger):
    """Fires when the cluster differs from a Helm release, or a Kustomization has put something right; once for each.

    The payload is ``{kind, name, namespace, revision, mode, corrected, resources, more, message, fingerprint}``; it names
    objects and never their values. A Helm release with drift detection off has none, and the log says so.
    """

    kept_as = "flux-drift"

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._warned: set[str] = set()

    async def judge(
        self, cluster: Cluster, observed: Observed, memory: NewsMemory
    ) -> tuple[dict[str, Any] | None, NewsMemory]:
        """Look for drift."""
        from airflow_pipeops.flux.differences import corrections
        from airflow_pipeops.flux.novelty import drifted

        ref = Ref(self.kind, self.namespace, observed.name)
        release = observed.reconciled.release if observed.reconciled else None
        if release is not None:
            if release.drift_mode == "disabled" and observed.name not in self._warned:
                self._warned.add(observed.name)
                self.log.warning(
                    "%s has drift detection off (spec.driftDetection.mode), so none will be found", ref
                )
            return drifted(observed, [], memory)
        found = corrections(await cluster.get(ref), await cluster.client.events(ref), memory.at)
        return drifted(observed, found, memory)
