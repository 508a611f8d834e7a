"""Calls about the cluster that Argo CD lives in, and what the credential may do there."""

from __future__ import annotations

from airflow_pipeops.argocd.clients.protocol import Trial
from airflow_pipeops.argocd.core.base import APPLICATIONS, CoreCalls
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.kubernetes.kinds import ALL_NAMESPACES, EVENTS, PODS, Kind

#: Argo CD's name of a permission -> the verbs on Applications that it takes here.
_VERBS = {
    "get": ("get", "list", "watch"),
    "create": ("create",),
    "update": ("update",),
    "delete": ("delete",),
    "sync": ("patch",),
    "override": ("patch",),
}
_NEEDED = {
    "get": "to look",
    "list": "to find applications",
    "watch": "to wait, and to see a refresh acknowledged",
    "patch": "to refresh and to synchronise",
}
_OPTIONAL: tuple[tuple[str, Kind, str, str], ...] = (
    ("list", EVENTS, "", "for events in failure messages"),
    ("get", PODS, "log", "for log lines in failure messages"),
)


class ServerCalls(CoreCalls):
    """See :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each."""

    async def version(self) -> str:
        """Return the version of Kubernetes: no object says that of Argo CD."""
        return f"(Kubernetes {await self.kubernetes.version()})"

    async def can_i(
        self, action: str, *, project: str = "*", app: str = "*", resource: str = "applications"
    ) -> bool:
        """Whether the credential has a permission. Kubernetes knows no projects."""
        if resource == "logs":
            return await self.kubernetes.allowed("get", PODS, ALL_NAMESPACES, subresource="log")
        verbs = _VERBS.get(action)
        if resource != "applications" or verbs is None:
            raise InvalidInput(
                f"'{resource}, {action}' is no permission that is known here",
                field="action",
                value=action,
                remedy=f"Use one of {', '.join(_VERBS)} on applications, or get on logs.",
            )
        name = "" if app == "*" else app
        answers = [
            await self.kubernetes.allowed(verb, APPLICATIONS, self.namespace, name=name) for verb in verbs
        ]
        return all(answers)

    async def trial(self, project: str = "*") -> Trial:
        """Reach the cluster, look whether Argo CD's kinds are there, and which permissions the credential has."""
        version = await self.kubernetes.version()
        place = "all namespaces" if self.everywhere else self.namespace
        lacking = [
            verb for verb in _NEEDED if not await self.kubernetes.allowed(verb, APPLICATIONS, self.among(""))
        ]
        if "list" not in lacking:
            # Says so if the CRD is not installed; a permission can be had on what does not exist.
            await self.kubernetes.find(APPLICATIONS, self.among(""), fields="metadata.name=pipeops-trial")
        optional = [
            f"'{verb} {kind}{'/' + sub if sub else ''}' in all namespaces ({purpose})"
            for verb, kind, sub, purpose in _OPTIONAL
            if not await self.kubernetes.allowed(verb, kind, ALL_NAMESPACES, subresource=sub)
        ]
        return Trial(
            f"Kubernetes {version} at {self.kubernetes.url}, Argo CD in namespace {self.namespace}",
            lacking=tuple(f"'{verb} {APPLICATIONS}' in {place} ({_NEEDED[verb]})" for verb in lacking),
            optional=tuple(optional),
            usable="get" not in lacking,
        )
