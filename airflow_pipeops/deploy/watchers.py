"""What an :class:`~airflow.sdk.AssetWatcher` can be told of what was pushed: the cluster is not what it was made to be.

Each difference is told once, and has a ``key`` in its payload. What was told is kept in the asset's state store, so a
restart of the triggerer repeats nothing. The judgement is pure; it is in :mod:`~airflow_pipeops.deploy.differences.fields`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_pipeops.base.arguments import interval
from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.watchers import Watcher, told_before
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

if TYPE_CHECKING:
    from airflow_pipeops.deploy.differences.desired import Desired
    from airflow_pipeops.kubernetes.client import KubernetesClient


class LiveDriftTrigger(Watcher):
    """Compares the cluster with what was pushed for ever, and yields an event for each new difference.

    The payload is ``{app, revision, resources, more, fingerprint}``; it names fields and never their values. A look costs
    one list for each kind and namespace. Before anybody hears of a difference, it is looked at again, and the server is
    asked by a dry run where the credential may. While a release is under way, or where nobody can tell, nothing is told.

    :param names: of what was pushed.
    :param namespace: it is in.
    :param kubernetes_conn_id: connection of type ``kubernetes``.
    :param ignore_managers: managers that may hold fields that were pushed; by default what runs the autoscalers.
    :param poll_interval: seconds between two looks.
    """

    #: Under which name the state store keeps what was told.
    kept_as: ClassVar[str] = ""
    arguments: ClassVar[tuple[str, ...]] = (
        "names", "namespace", "kubernetes_conn_id", "ignore_managers", "poll_interval",
    )  # fmt: skip

    def __init__(
        self,
        *,
        names: Sequence[str] = (),
        namespace: str = "default",
        kubernetes_conn_id: str = "kubernetes_default",
        ignore_managers: Sequence[str] = ("kube-controller-manager",),
        poll_interval: float = 60.0,
    ) -> None:
        super().__init__()
        if isinstance(names, str) or not names or not all(isinstance(name, str) and name for name in names):
            raise InvalidInput(
                f"names is {names!r}", field="names", value=names, remedy="Give a list of names."
            )
        self.names, self.namespace = list(names), namespace
        self.kubernetes_conn_id, self.ignore_managers = kubernetes_conn_id, list(ignore_managers)
        self.poll_interval = interval("poll_interval", poll_interval)

    @property
    def subject(self) -> str:
        """What is looked at, and through which connection."""
        return f"{', '.join(self.names)} in {self.namespace} through {self.kubernetes_conn_id}"

    @asynccontextmanager
    async def source(self) -> AsyncIterator[KubernetesClient]:
        """Open a client."""
        from airflow_pipeops.kubernetes.connections import aconnect

        async with await aconnect(self.kubernetes_conn_id) as client:
            yield client

    async def look(self, source: KubernetesClient) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what is new."""
        from airflow_pipeops.delivery.differences import fingerprint, told
        from airflow_pipeops.deploy.differences.look import look

        for name in self.names:
            kept = f"{self.kept_as}.{self.namespace}.{name}"
            data, _ = await self.recall(kept)
            before = map_(data)
            wanting = partial(self.desired, name=name)
            try:
                found = await look(source, wanting, self.ignore_managers, sure=False)
                seen = reported = fingerprint(found.differences)
                if found.unclear:
                    self.log.info("%s: %s", name, found.unclear)
                    continue
                if seen == before.get("seen", ""):
                    continue
                if seen:
                    found = await look(source, wanting, self.ignore_managers)
                    if found.unclear:
                        continue
                    reported = fingerprint(found.differences)
            except PipeOpsError as error:
                if len(self.names) == 1:
                    raise
                self.log.warning("Looking at %s failed: %s", name, error)
                continue
            number = told_before(data)
            if reported and reported != before.get("reported", ""):
                payload = {
                    "app": found.desired.app,
                    "revision": found.desired.revision,
                    **told(found.differences),
                }
                yield self.keyed(payload, self.kubernetes_conn_id, kept, number, reported)
                number += 1
            self.remember(kept, {"seen": seen, "reported": reported, "told": number})

    async def desired(self, client: KubernetesClient, *, name: str) -> Desired:
        """Say what is to be there."""
        raise NotImplementedError


class HelmDriftTrigger(LiveDriftTrigger):
    """Fires when live objects are not what the newest revision of a Helm release rendered; once for each new difference."""

    kept_as = "helm-differences"

    async def desired(self, client: KubernetesClient, *, name: str) -> Desired:
        """Read what Helm keeps of the release."""
        from airflow_pipeops.deploy.differences.desired import of_release
        from airflow_pipeops.deploy.reading import history_in

        return of_release(await history_in(client, name, self.namespace), name, self.namespace)


class ManifestsDriftTrigger(LiveDriftTrigger):
    """Fires when live objects are not what was applied last as a set; once for each new difference.

    The triggerer must reach where evidence is kept (``[pipeops] evidence_uri``).
    """

    kept_as = "manifests-differences"

    async def desired(self, client: KubernetesClient, *, name: str) -> Desired:
        """Read what was kept of the last release."""
        from airflow_pipeops.deploy.differences.desired import of_set

        return await of_set(client, name, self.namespace)
