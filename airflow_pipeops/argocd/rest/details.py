"""Calls that look below an Application: its resources, what they say, and where they come from."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from airflow_pipeops.argocd.clients.protocol import AppRef, Resource
from airflow_pipeops.argocd.rest.applications import items_of
from airflow_pipeops.argocd.rest.streams import SILENCE, message_of
from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.http import Http
from airflow_pipeops.exceptions import BadResponse, Unreachable
from airflow_pipeops.kubernetes.kinds import event_time

#: No longer line of a log is of use in a message.
_LONGEST_LINE = 2000


class DetailCalls:
    """See :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each."""

    http: Http

    async def resource_tree(self, app: AppRef) -> dict[str, Any]:
        """Return the objects below an application, with health and images."""
        return await self.http.object(
            "GET", app.path("resource-tree"), params=app.query(), about=f"application {app}"
        )

    async def managed_resources(self, app: AppRef) -> list[dict[str, Any]]:
        """Return desired and live state of each managed object, secrets masked."""
        answer = await self.http.object(
            "GET", app.path("managed-resources"), params=app.query(), about=f"application {app}"
        )
        return items_of(answer, f"the managed resources of {app}")

    async def revision_metadata(
        self, app: AppRef, revision: str, *, source: int | None = None
    ) -> dict[str, Any]:
        """Return author, date and message of a revision."""
        params = {**app.query(), **({"sourceIndex": str(source)} if source is not None else {})}
        path = app.path("revisions", quote(revision, safe=""), "metadata")
        return await self.http.object("GET", path, params=params, about=f"revision {revision} of {app}")

    async def manifests(self, app: AppRef, revision: str = "") -> list[dict[str, Any]]:
        """Return the desired state as it is rendered, of a revision or of the one that is followed."""
        params = {**app.query(), **({"revision": revision} if revision else {})}
        about = f"the manifests of {app}"
        answer = await self.http.object("GET", app.path("manifests"), params=params, about=about)
        found = []
        for text in answer.get("manifests") or []:
            try:
                manifest = json.loads(text)
            except (TypeError, ValueError) as error:
                raise BadResponse(f"{about} hold something that is no JSON") from error
            if isinstance(manifest, dict):
                found.append(manifest)
        return found

    async def sync_windows(self, app: AppRef) -> dict[str, Any]:
        """Return ``{canSync, activeWindows, assignedWindows}``."""
        answer = await self.http.object(
            "GET", app.path("syncwindows"), params=app.query(), about=f"the sync windows of {app}"
        )
        # Protobuf leaves out what is false or empty.
        return {"canSync": False, "activeWindows": [], "assignedWindows": [], **answer}

    async def events(self, app: AppRef, resource: Resource | None = None) -> list[dict[str, Any]]:
        """Return the Kubernetes events about the Application itself, or about one of its resources; the latest last."""
        params = app.query()
        if resource is not None:
            # The server wants all three or none: with a name alone it answers about the Application.
            params |= {
                "resourceName": resource.name,
                "resourceNamespace": resource.namespace,
                "resourceUID": resource.uid,
            }
        about = f"the events of {resource or app}"
        answer = await self.http.object("GET", app.path("events"), params=params, about=about)
        return sorted(items_of(answer, about), key=event_time)

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
        params = {**app.query(), "namespace": resource.namespace, "tailLines": str(tail), "follow": "false"}
        if resource.kind == "Pod":
            path = app.path("pods", quote(resource.name, safe=""), "logs")
        else:
            path = app.path("logs")
            params |= {"kind": resource.kind, "group": resource.group, "resourceName": resource.name}
        if container:
            params["container"] = container
        if previous:
            params["previous"] = "true"
        about = f"the log of {resource}"
        try:
            # Bounded as a whole too: a log may be written faster than it is read.
            return await within(self.http.timeout, self._log(path, params, about, tail))
        except asyncio.TimeoutError as error:
            raise Unreachable(f"{about} does not end") from error

    async def _log(self, path: str, params: Mapping[str, str], about: str, tail: int) -> list[str]:
        kept: deque[str] = deque(maxlen=tail)
        headers = {"Accept": "text/event-stream"}
        stream = self.http.lines(path, about=about, silence=SILENCE, params=params, headers=headers)
        async with aclosing(stream) as lines:
            async for line in lines:
                entry = message_of(line, about, self.http.url)
                if entry is not None and entry.get("last"):
                    break
                if entry is not None:
                    kept.append(str(entry.get("content") or "")[:_LONGEST_LINE])
        return list(kept)
