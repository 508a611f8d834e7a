"""Calls that look below an Application, through the Kubernetes API: events and logs, where it is the destination's too.

The rest is computed by Argo CD's API server, and so cannot be had here.
"""

from __future__ import annotations

from typing import Any

from airflow_pipeops.argocd.clients.protocol import AppRef, Resource
from airflow_pipeops.argocd.core.base import APPLICATION_SETS, CoreCalls, Json, unsupported
from airflow_pipeops.exceptions import NotFound, PipeOpsError, Unsupported
from airflow_pipeops.kubernetes.kinds import PODS, Kind, name_of

#: How Argo CD calls the cluster in which it runs itself.
IN_CLUSTER = ("https://kubernetes.default.svc", "in-cluster")
#: Kinds that own pods, and say which by ``spec.selector``.
_OWNERS = {
    ("batch", "Job"): Kind("batch", "v1", "jobs"),
    ("apps", "Deployment"): Kind("apps", "v1", "deployments"),
    ("apps", "StatefulSet"): Kind("apps", "v1", "statefulsets"),
    ("apps", "DaemonSet"): Kind("apps", "v1", "daemonsets"),
    ("apps", "ReplicaSet"): Kind("apps", "v1", "replicasets"),
    ("argoproj.io", "Rollout"): Kind("argoproj.io", "v1alpha1", "rollouts"),
}
#: More pods say the same again.
_MOST_PODS = 5
_LONGEST_LINE = 2000


class DetailCalls(CoreCalls):
    """See :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each."""

    async def events(self, app: AppRef, resource: Resource | None = None) -> list[Json]:
        """Return the Kubernetes events about the Application itself, or about one of its resources; the latest last."""
        if resource is None:
            return await self.kubernetes.events(self.at(app.namespace), name=app.name, kind="Application")
        await self._same_cluster(app, f"the events of {resource}")
        return await self.kubernetes.events(
            resource.namespace or "default", name=resource.name, uid=resource.uid, kind=resource.kind
        )

    async def logs(
        self,
        app: AppRef,
        resource: Resource,
        *,
        container: str = "",
        tail: int = 50,
        previous: bool = False,
    ) -> list[str]:
        """Return the last lines of the log of a pod, or of all pods of a resource (a hook's Job, a Deployment)."""
        await self._same_cluster(app, f"the log of {resource}")
        pods = [resource.name] if resource.kind == "Pod" else await self._pods(resource)
        lines: list[str] = []
        for pod in pods:
            try:
                lines += await self.kubernetes.logs(
                    resource.namespace, pod, container=container, tail=tail, previous=previous
                )
            except PipeOpsError:
                # One that has not started yet has no log; the others may say enough.
                if pod == pods[-1] and not lines:
                    raise
        return [line[:_LONGEST_LINE] for line in lines[-tail:]]

    async def _pods(self, resource: Resource) -> list[str]:
        """Return the names of a resource's pods, the youngest last."""
        kind = _OWNERS.get((resource.group, resource.kind))
        if kind is None:
            raise Unsupported(
                f"which pods belong to {resource} is not known",
                field="resource",
                value=str(resource),
                remedy="Give a pod.",
            )
        owner = await self.kubernetes.get(kind, resource.name, resource.namespace)
        labels = ((owner.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        if not labels:
            raise NotFound(f"{resource} selects no pods by labels")
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = await self.kubernetes.find(PODS, resource.namespace, labels=selector)
        young = sorted(found.items, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))
        return [name_of(pod)[1] for pod in young[-_MOST_PODS:]]

    async def _same_cluster(self, app: AppRef, what: str) -> None:
        application = await self.get(app)
        destination = (application.get("spec") or {}).get("destination") or {}
        there = str(destination.get("server") or destination.get("name") or "").rstrip("/")
        if there not in (*IN_CLUSTER, self.kubernetes.url):
            raise Unsupported(
                f"{what} is in another cluster ({there}) than the Application {app}",
                field="argocd_conn_id",
                remedy="Use a connection of type 'argocd', whose server reaches both.",
            )

    async def resource_tree(self, app: AppRef) -> Json:
        """Not on this way.

        :raises Unsupported: always.
        """
        raise unsupported("the resource tree")

    async def managed_resources(self, app: AppRef) -> list[Json]:
        """Not on this way.

        :raises Unsupported: always.
        """
        raise unsupported("the difference between desired and live state")

    async def revision_metadata(self, app: AppRef, revision: str, *, source: int | None = None) -> Json:
        """Not on this way.

        :raises Unsupported: always.
        """
        raise unsupported("author and message of a revision")

    async def manifests(self, app: AppRef, revision: str = "") -> list[Json]:
        """Not on this way.

        :raises Unsupported: always.
        """
        raise unsupported("rendered manifests")

    async def sync_windows(self, app: AppRef) -> dict[str, Any]:
        """Not on this way: whether a window is open is computed, and not written down.

        :raises Unsupported: always.
        """
        raise unsupported("whether a sync window is open")

    async def application_set(self, name: str, *, namespace: str = "") -> Json:
        """Return an ApplicationSet."""
        return await self.kubernetes.get(APPLICATION_SETS, name, self.at(namespace))
