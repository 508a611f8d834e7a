"""Calls that read and change Applications, and their operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.argocd.clients.protocol import AppRef
from airflow_pipeops.base.http import Http
from airflow_pipeops.exceptions import BadResponse, Unreachable

_ALL = "/api/v1/applications"


class ApplicationCalls:
    """See :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each."""

    http: Http

    async def get(self, app: AppRef) -> dict[str, Any]:
        """Return an Application as it is known now."""
        return await self.http.object("GET", app.path(), params=app.query(), about=f"application {app}")

    async def refresh(
        self, app: AppRef, *, hard: bool = False, timeout: float = 10.0
    ) -> dict[str, Any] | None:
        """Ask the controller to compare again, and return the Application once it has.

        :param timeout: seconds; the server itself sets no end to this call.
        """
        params = {**app.query(), "refresh": "hard" if hard else "normal"}
        about = f"application {app}"
        try:
            return await self.http.object(
                "GET", app.path(), params=params, about=about, attempts=1, timeout=timeout
            )
        except Unreachable:
            return None

    async def applications(
        self, *, project: str = "", selector: str = "", name: str = ""
    ) -> list[dict[str, Any]]:
        """Return the Applications of a project, or with a label selector, or of a name. Good for names, not for verdicts."""
        given = {"projects": project, "selector": selector, "name": name}
        params = {key: value for key, value in given.items() if value}
        answer = await self.http.object("GET", _ALL, params=params, about="the list of applications")
        return items_of(answer, "the list of applications")

    async def create(self, application: Mapping[str, Any], *, upsert: bool = False) -> dict[str, Any]:
        """Create an Application; with ``upsert`` also change the spec of one that exists."""
        params = {"upsert": "true"} if upsert else {}
        return await self.http.object(
            "POST", _ALL, params=params, json=dict(application), about="the application"
        )

    async def update(self, application: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an Application; its resourceVersion must be the current one."""
        name = str(application.get("metadata", {}).get("name", ""))
        about = f"application {name}"
        return await self.http.object("PUT", AppRef(name).path(), json=dict(application), about=about)

    async def set_spec(self, app: AppRef, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the whole spec of an Application, and return that spec."""
        return await self.http.object(
            "PUT", app.path("spec"), params=app.query(), json=dict(spec), about=f"application {app}"
        )

    async def patch(self, app: AppRef, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a patch into an Application (JSON merge patch)."""
        import json

        body = named(app, {"patch": json.dumps(dict(patch)), "patchType": "merge"})
        return await self.http.object("PATCH", app.path(), json=body, about=f"application {app}")

    async def delete(self, app: AppRef, *, cascade: bool = True) -> None:
        """Delete an Application, and with ``cascade`` what it manages."""
        params = {**app.query(), "cascade": str(cascade).lower()}
        await self.http.object("DELETE", app.path(), params=params, about=f"application {app}")

    async def sync(self, app: AppRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a synchronisation.

        :param body: the request's fields besides name, project and namespace.
        """
        return await self.http.object(
            "POST", app.path("sync"), json=named(app, body), about=f"application {app}"
        )

    async def terminate(self, app: AppRef) -> None:
        """Stop the operation in progress."""
        await self.http.object(
            "DELETE", app.path("operation"), params=app.query(), about=f"application {app}"
        )

    async def rollback(self, app: AppRef, history_id: int, *, prune: bool = False) -> dict[str, Any]:
        """Go back to an entry of the history; refused while auto-sync is on."""
        body = named(app, {"id": history_id, "prune": prune})
        return await self.http.object("POST", app.path("rollback"), json=body, about=f"application {app}")


def named(app: AppRef, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's body with the application that it is about."""
    given = {"name": app.name, "project": app.project, "appNamespace": app.namespace}
    return {**body, **{key: value for key, value in given.items() if value}}


def items_of(answer: Mapping[str, Any], about: str) -> list[dict[str, Any]]:
    """Return the items of a list."""
    items = answer.get("items") or []
    if not isinstance(items, list):
        raise BadResponse(f"{about} is no list")
    return [item for item in items if isinstance(item, dict)]
