"""Argo CD through the Kubernetes API that holds its objects: the only way to Argo CD Core, which has no API server.

Same calls as :class:`~airflow_pipeops.argocd.clients.rest.ArgoCDClient`. What that server checks, and the controller
does not, is checked here (:mod:`airflow_pipeops.argocd.clients.requests`); what it alone computes is refused as
``Unsupported``.
"""

from __future__ import annotations

from airflow_pipeops.argocd.core.applications import ApplicationCalls
from airflow_pipeops.argocd.core.details import DetailCalls
from airflow_pipeops.argocd.core.server import ServerCalls
from airflow_pipeops.kubernetes.client import KubernetesClient

#: Namespace in which Argo CD is installed by its own manifests.
NAMESPACE = "argocd"


class ArgoCDCoreClient(ApplicationCalls, DetailCalls, ServerCalls):
    """One Argo CD in one cluster. Use it as ``async with``.

    :param kubernetes: client of the cluster that holds the Applications; it is opened and closed with this one.
    :param namespace: in which Argo CD runs.
    :param everywhere: look for Applications in all namespaces, where no other is named; that takes a ClusterRole.
    :param url: base URL of a web interface, for links; empty for none.
    :param user: name under which operations are started.
    :param timeout: seconds for one call, as the client of the cluster was made with.
    """

    def __init__(
        self,
        kubernetes: KubernetesClient,
        *,
        namespace: str = NAMESPACE,
        everywhere: bool = False,
        url: str = "",
        user: str = "airflow",
        timeout: float = 20.0,
    ) -> None:
        self.kubernetes = kubernetes
        self.namespace = namespace
        self.everywhere = everywhere
        self.url = url.rstrip("/")
        self.user = user
        self.timeout = timeout

    async def __aenter__(self) -> ArgoCDCoreClient:
        await self.kubernetes.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.kubernetes.__aexit__(*error)
