"""From an Airflow connection to Flux in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_pipeops.base.arguments import object_name
from airflow_pipeops.base.connections import without_id, work_with
from airflow_pipeops.exceptions import PipeOpsError
from airflow_pipeops.flux.kinds import KINDS, Ref, waitable

if TYPE_CHECKING:
    from airflow_pipeops.flux.client import FluxClient

Result = TypeVar("Result")

#: What is read, and what each further permission is needed for.
_READ = ("Kustomization", "HelmRelease", "GitRepository", "OCIRepository", "HelmChart", "HelmRepository")
_WRITE = ("Kustomization", "HelmRelease", "GitRepository", "OCIRepository")
_ASKED = ("HelmChart", "HelmRepository")


class FluxHook(BaseHook):
    """Reaches Flux through a connection of type ``kubernetes``, as Airflow's own provider defines it.

    :param flux_conn_id: the connection.
    :param namespace: of the objects; by default that of the connection, else ``flux-system``.
    """

    conn_name_attr = "flux_conn_id"
    default_conn_name = "kubernetes_default"
    conn_type = "kubernetes"
    hook_name = "Flux"

    def __init__(self, flux_conn_id: str = default_conn_name, *, namespace: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.flux_conn_id = flux_conn_id
        self._namespace = namespace

    def client(self, **options: Any) -> FluxClient:
        """Return a client, for use in ``async with``.

        :param options: arguments of the Kubernetes client, for example ``timeout`` and ``attempts``.
        :return: the client, not opened yet.
        """
        from airflow_pipeops.flux.client import FluxClient
        from airflow_pipeops.kubernetes.connections import connect

        return self._with(FluxClient(connect(self.flux_conn_id, **options)))

    async def aclient(self, **options: Any) -> FluxClient:
        """Return a client where an event loop runs (a triggerer).

        :param options: as for :meth:`client`.
        :return: the client, not opened yet.
        """
        from airflow_pipeops.flux.client import FluxClient
        from airflow_pipeops.kubernetes.connections import aconnect

        return self._with(FluxClient(await aconnect(self.flux_conn_id, **options)))

    def _with(self, client: FluxClient) -> FluxClient:
        self._namespace = self._namespace or client.kubernetes.namespace or "flux-system"
        return client

    @property
    def namespace(self) -> str:
        """The namespace of the objects; known once a client was made."""
        return self._namespace

    def ref(self, kind: str, name: str) -> Ref:
        """Return which object is meant; call it after a client was made, since the connection may name the namespace.

        :param kind: ``Kustomization`` or ``HelmRelease``.
        :param name: of the object.
        :return: the reference that a client takes.
        :raises InvalidInput: for a kind that nobody can wait for, or no name.
        """
        return Ref(waitable(kind), self._namespace, object_name(name))

    def run(self, work: Callable[[FluxClient], Awaitable[Result]], **options: Any) -> Result:
        """Do something with a client, from code that is not asynchronous.

        :param work: is called with an open client.
        :param options: as for :meth:`client`.
        :return: what ``work`` returned.
        """
        return work_with(self.client(**options), work)

    def test_connection(self) -> tuple[bool, str]:
        """Reach the cluster, and name the permissions that the credential lacks in the namespace."""
        try:
            return self.run(self._test)
        except PipeOpsError as error:
            return False, without_id(self.flux_conn_id, error)

    async def _test(self, client: FluxClient) -> tuple[bool, str]:
        from airflow_pipeops.flux.client import kind_of
        from airflow_pipeops.kubernetes.kinds import EVENTS

        version, namespace = await client.kubernetes.version(), self._namespace

        async def lacking(verb: str, kinds: tuple[str, ...]) -> list[str]:
            answers = await asyncio.gather(
                *(client.kubernetes.allowed(verb, kind_of(kind), namespace) for kind in kinds)
            )
            return [KINDS[kind][2] for kind, allowed in zip(kinds, answers, strict=True) if not allowed]

        asked = (("get", _READ), ("list", _READ), ("watch", _READ), ("patch", _WRITE), ("patch", _ASKED))
        reads, lists, watches, writes, charts = [await lacking(verb, kinds) for verb, kinds in asked]
        events = [] if await client.kubernetes.allowed("list", EVENTS, namespace) else ["events"]
        said = [
            f"{verb} {', '.join(names)} ({purpose})"
            for verb, names, purpose in (
                ("get", reads, "to wait"),
                (
                    "list",
                    lists,
                    "for one shared stream in place of polling, and to find what brings an absent object",
                ),
                ("watch", watches, "for one shared stream in place of polling"),
                ("list", events, "for messages and drift"),
                ("patch", writes, "to reconcile, suspend and resume"),
                ("patch", charts, "to have charts fetched at once"),
            )
            if names
        ]
        begin = f"Kubernetes {version}, namespace {namespace}; the credential"
        # To look is all that the sensor needs, so a credential without more is a good one for it.
        works = not {"kustomizations", "helmreleases"}.intersection(reads)
        return (
            works,
            f"{begin} lacks: {'; '.join(said)}" if said else f"{begin} can look, watch and reconcile",
        )
