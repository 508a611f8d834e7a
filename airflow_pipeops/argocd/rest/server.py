"""Calls about the server itself and what the token may do; and ApplicationSets."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow_pipeops.argocd.clients.protocol import Trial
from airflow_pipeops.base.http import Http

#: (resource, action) -> what the permission is needed for.
PERMISSIONS = {
    ("applications", "get"): "to wait and to watch",
    ("applications", "sync"): "for ArgoCDSyncOperator",
}
OPTIONAL = {
    ("applications", "override"): "to synchronise to a commit, where the server demands it for that",
    ("logs", "get"): "for log lines in failure messages",
}


class ServerCalls:
    """See :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each."""

    http: Http

    async def version(self) -> str:
        """Return the server's version; needs no token."""
        answer = await self.http.object("GET", "/api/version", about="the server's version")
        return str(answer.get("Version") or "unknown")

    async def userinfo(self) -> dict[str, Any]:
        """Return who the token stands for."""
        return await self.http.object("GET", "/api/v1/session/userinfo", about="the user of the token")

    async def can_i(
        self, action: str, *, project: str = "*", app: str = "*", resource: str = "applications"
    ) -> bool:
        """Whether the token has a permission."""
        target = f"{quote(project, safe='*')}/{quote(app, safe='*')}"
        path = f"/api/v1/account/can-i/{resource}/{action}/{target}"
        answer = await self.http.object("GET", path, about="a permission")
        return answer.get("value") == "yes"

    async def trial(self, project: str = "*") -> Trial:
        """Reach the server, ask who the token is, and which of the permissions it has."""
        version = await self.version()
        who = await self.userinfo()
        if not who.get("loggedIn"):
            return Trial(f"Argo CD {version} answers", accepted=False, usable=False)
        lacking, optional = [
            [key for key in wanted if not await self.can_i(key[1], project=project, resource=key[0])]
            for wanted in (PERMISSIONS, OPTIONAL)
        ]
        return Trial(
            f"Argo CD {version}, logged in as {who.get('username') or 'somebody'}",
            lacking=tuple(f"'{key[0]}, {key[1]}' on {project}/* ({PERMISSIONS[key]})" for key in lacking),
            optional=tuple(f"'{key[0]}, {key[1]}' on {project}/* ({OPTIONAL[key]})" for key in optional),
            usable=("applications", "get") not in lacking,
        )

    async def application_set(self, name: str, *, namespace: str = "") -> dict[str, Any]:
        """Return an ApplicationSet."""
        params = {"appsetNamespace": namespace} if namespace else {}
        path = f"/api/v1/applicationsets/{quote(name, safe='')}"
        return await self.http.object("GET", path, params=params, about=f"application set {name}")
