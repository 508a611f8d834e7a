"""What an :class:`~airflow.sdk.AssetWatcher` can be told by Argo CD: an application was released, degraded, or drifted.

Each is told once, and has a ``key`` in its payload. What was told is kept in the asset's state store, so a restart of the
triggerer repeats nothing, and what happened meanwhile is found by comparing with what was kept. The judgements are pure;
they are in :mod:`~airflow_pipeops.argocd.novelty` and :mod:`~airflow_pipeops.argocd.differences`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.argocd.application import observe, with_managed
from airflow_pipeops.base.watchers import Watcher, told_before
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError, Unreachable, Unsupported

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.protocol import AppRef, ArgoCD
    from airflow_pipeops.argocd.hook import ArgoCDHook
    from airflow_pipeops.argocd.stream import Lookout
    from airflow_pipeops.waits.status import Observed

#: Seconds after which the applications of a project or selector are listed anew: listing is dear for the server.
RELIST = 60.0


class ArgoCDEventTrigger(Watcher):
    """Watches applications for ever, and yields an event for each piece of news about one of them.

    All watchers and waits of a triggerer that concern the same connection and project share one stream.

    :param argocd_conn_id: the Argo CD connection.
    :param apps: names of the applications; or
    :param selector: a label selector; or
    :param project: all applications of a project. With ``apps`` or ``selector``, the project that they are in.
    :param app_namespace: their namespace, where that is not Argo CD's own.
    :param poll_interval: seconds between two looks.
    """

    #: Under which name the state store keeps what was told about an application.
    kept_as: ClassVar[str] = ""
    #: What is looked for, in a log line.
    news: ClassVar[str] = ""
    arguments: ClassVar[tuple[str, ...]] = (
        "argocd_conn_id",
        "apps",
        "selector",
        "project",
        "app_namespace",
        "poll_interval",
    )

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
        super().__init__()
        if not apps and not selector and not project:
            raise InvalidInput(
                "no application is named", field="apps", remedy="Give apps, a selector or a project."
            )
        if isinstance(apps, str):
            raise InvalidInput(
                f"apps is the text {apps!r}", field="apps", value=apps, remedy="Give a list of names."
            )
        if apps and selector:
            raise InvalidInput(
                "both apps and a selector are given", field="selector", value=selector, remedy="Give one."
            )
        self.argocd_conn_id, self.apps, self.selector = argocd_conn_id, list(apps), selector
        self.project, self.app_namespace = project, app_namespace
        self.poll_interval = _seconds("poll_interval", poll_interval)
        self._listed: tuple[float, list[str]] | None = None

    @property
    def subject(self) -> str:
        """What is looked for, and where."""
        return f"{self.news} through {self.argocd_conn_id}"

    @asynccontextmanager
    async def source(self) -> AsyncIterator[tuple[ArgoCDHook, ArgoCD, Lookout]]:
        """Open a client, and join the stream of its connection."""
        from airflow_pipeops.argocd.hook import ArgoCDHook
        from airflow_pipeops.argocd.stream import Lookout

        hook = ArgoCDHook(self.argocd_conn_id, project=self.project, app_namespace=self.app_namespace)
        async with await self._client(hook) as client:
            with Lookout(self.argocd_conn_id, self.project, self.poll_interval) as lookout:
                yield hook, client, lookout

    async def look(self, source: tuple[ArgoCDHook, ArgoCD, Lookout]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what is new about the applications."""
        hook, client, lookout = source
        for ref in await self._refs(client, hook):
            observed = lookout.look(ref)
            if observed is None:
                continue
            name = f"{self.kept_as}.{ref.name}"
            data, resumed = await self.recall(name)
            before = self.remembered(data)
            try:
                payload, memory = await self.judge(client, ref, observed, before, resumed=resumed)
                if payload is not None:
                    # What a stream told may be behind: news are confirmed by a question before anybody hears of them.
                    sure = observe(await client.get(ref))
                    payload, memory = await self.judge(client, ref, sure, before, resumed=resumed)
            except PipeOpsError as error:
                self.log.warning("Looking at %s failed: %s", ref.name, error)
                continue
            told = told_before(data)
            if payload is not None:
                yield self.keyed(payload, self.argocd_conn_id, name, told, payload["fingerprint"])
                told += 1
            if payload is not None or memory != before:
                self.remember(name, {**memory.to_json(), "told": told})

    async def _client(self, hook: ArgoCDHook) -> ArgoCD:
        try:
            return await hook.aclient()
        except PipeOpsError:
            raise
        except (
            Exception
        ) as error:  # Airflow's own: the connection is not there, or its API is down for a moment
            said = f"the connection {self.argocd_conn_id} cannot be read: {type(error).__name__}"
            raise Unreachable(said) from error

    def remembered(self, data: Any) -> Any:
        """Read what was kept about an application; an empty memory of anything else."""
        raise NotImplementedError

    async def judge(
        self, client: ArgoCD, ref: AppRef, observed: Observed, memory: Any, *, resumed: bool
    ) -> tuple[dict[str, Any] | None, Any]:
        """Judge one look at one application.

        :param resumed: the memory was kept by an earlier triggerer.
        :return: what to report, if anything, and the memory for the next look.
        """
        raise NotImplementedError

    async def _refs(self, client: ArgoCD, hook: ArgoCDHook) -> list[AppRef]:
        """Return the applications that are meant; what a selector or a project has is listed once a minute at most."""
        if self.apps:
            return [hook.ref(app) for app in self.apps]
        now = time.monotonic()
        if self._listed is None or now - self._listed[0] >= RELIST:
            items = await client.applications(project=hook.ref("any").project, selector=self.selector)
            names = sorted({str((item.get("metadata") or {}).get("name") or "") for item in items} - {""})
            self._listed = now, names
        return [hook.ref(name) for name in self._listed[1]]


class ArgoCDReleasedTrigger(ArgoCDEventTrigger):
    """Fires when an application was released: a new entry in its history, and healthy afterwards on two looks in a row.

    The payload is ``{app, namespace, project, sync, health, revision, number, skipped, images, fingerprint}``; ``skipped``
    names revisions that were released and replaced unseen, for example while the triggerer was down. What is live already
    when the watch begins is not reported.
    """

    kept_as = "argocd-release"
    news = "releases"

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        #: When the last operation of an application ended, and whether a comparison was asked for since.
        self._ends: dict[AppRef, tuple[float | None, bool]] = {}

    def remembered(self, data: Any) -> Any:
        """Read what was kept about an application."""
        from airflow_pipeops.argocd.novelty import ReleaseMemory

        return ReleaseMemory.from_json(data)

    async def judge(
        self, client: ArgoCD, ref: AppRef, observed: Observed, memory: Any, *, resumed: bool
    ) -> tuple[dict[str, Any] | None, Any]:
        """Look for a new release."""
        from airflow_pipeops.argocd.novelty import needs_comparison, released

        if needs_comparison(observed, memory):
            await self._compare(client, ref, observed)
        return released(observed, memory)

    async def _compare(self, client: ArgoCD, ref: AppRef, observed: Observed) -> None:
        """Have an application compared, once after each of its operations, and not in the look that first shows its end."""
        ended = observed.operation.finished_at if observed.operation else None
        before, asked = self._ends.get(ref, (None, False))
        self._ends[ref] = (ended, before == ended)
        if before == ended and not asked:
            await client.refresh(ref)


class ArgoCDDegradedTrigger(ArgoCDEventTrigger):
    """Fires when an application has been Degraded for a time; once, until it was Healthy or another release came.

    The payload is ``{app, namespace, project, sync, health, revision, lasted, resources, more, fingerprint}``. A
    degradation that began and ended while the triggerer was down is not found: Argo CD keeps no history of health.

    Argo CD says Progressing, and not Degraded, of pods that crash again and again after a rollout that had ended well, and
    of whatever a Deployment waits for within its ``progressDeadlineSeconds``. ``unhealthy_grace`` finds those too.

    :param grace: seconds for which it must have been Degraded.
    :param unhealthy_grace: seconds for which it must have been anything but Healthy or Suspended; ``None`` for never. Give
        more than a rollout takes.
    """

    kept_as = "argocd-degraded"
    news = "degraded applications"
    arguments = (*ArgoCDEventTrigger.arguments, "grace", "unhealthy_grace")

    def __init__(self, *, grace: float = 60.0, unhealthy_grace: float | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.grace = _seconds("grace", grace, zero=True)
        self.unhealthy_grace = (
            None if unhealthy_grace is None else _seconds("unhealthy_grace", unhealthy_grace)
        )

    def remembered(self, data: Any) -> Any:
        """Read what was kept about an application."""
        from airflow_pipeops.argocd.novelty import DegradedMemory

        return DegradedMemory.from_json(data)

    async def judge(
        self, client: ArgoCD, ref: AppRef, observed: Observed, memory: Any, *, resumed: bool
    ) -> tuple[dict[str, Any] | None, Any]:
        """Look for a degradation."""
        from airflow_pipeops.argocd.novelty import degraded

        return degraded(
            observed,
            memory,
            time.time(),
            grace=self.grace,
            unhealthy_grace=self.unhealthy_grace,
            resumed=resumed,
        )


class ArgoCDDriftTrigger(ArgoCDEventTrigger):
    """Fires when live state differs from Git at an unchanged desired revision; once for each new difference.

    The payload is ``{app, revision, sync, resources, more, fingerprint}``; it names fields and never their values. Where
    self-heal is on, the difference must outlast one poll. Through the Kubernetes API (a connection of type ``kubernetes``)
    nobody computes the fields: there a difference is which objects are out of sync, and another change of an object that is
    so already is no news.
    """

    kept_as = "argocd-differences"
    news = "differences"

    def remembered(self, data: Any) -> Any:
        """Read what was kept about an application."""
        from airflow_pipeops.argocd.differences import DifferencesMemory

        return DifferencesMemory.from_json(data)

    async def judge(
        self, client: ArgoCD, ref: AppRef, observed: Observed, memory: Any, *, resumed: bool
    ) -> tuple[dict[str, Any] | None, Any]:
        """Look for differences."""
        from airflow_pipeops.argocd.differences import differences, news, out_of_sync, payload, suspicious

        before = memory
        suspect, memory = suspicious(observed, before)
        if not suspect:
            return None, memory
        try:
            found = differences(await client.managed_resources(ref))
        except Unsupported:
            found = out_of_sync(observed)
        else:
            # What was told already costs one question a look; only for news are both read as they were at one moment.
            if found and news(found, memory)[0]:
                application, managed = await with_managed(client, ref)
                observed = observe(application)
                suspect, memory = suspicious(observed, before)
                found = differences(managed) if suspect else []
        if not found:
            return None, memory
        new, memory = news(found, memory)
        return payload(observed, found) if new else None, memory


def _seconds(field: str, value: float, *, zero: bool = False) -> float:
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (value > 0 or (zero and value == 0))
    ):
        return float(value)
    raise InvalidInput(
        f"{field} is {value!r}", field=field, value=value, remedy="Give a positive number of seconds."
    )
