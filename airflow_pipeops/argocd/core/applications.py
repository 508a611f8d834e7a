"""Calls that read and change Applications, and their operations, through the Kubernetes API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from airflow_pipeops.argocd.application import REFRESH
from airflow_pipeops.argocd.clients.errors import INVALID_ARGUMENT, refusal
from airflow_pipeops.argocd.clients.protocol import AppRef
from airflow_pipeops.argocd.clients.requests import (
    begin_patch,
    cascading,
    rollback_operation,
    sync_operation,
    terminate_patch,
)
from airflow_pipeops.argocd.core.base import APPLICATIONS, CoreCalls, Json
from airflow_pipeops.base.deadlines import within
from airflow_pipeops.exceptions import Conflict, NotFound, Unreachable
from airflow_pipeops.kubernetes.kinds import name_of, version_of


class ApplicationCalls(CoreCalls):
    """See :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each."""

    async def refresh(self, app: AppRef, *, hard: bool = False, timeout: float = 10.0) -> Json | None:
        """Ask the controller to compare again, and return the Application once it has.

        The controller takes the annotation away when it has; only then is the answer one to the question.
        """
        if app.project:
            await self.get(app)
        patch = {"metadata": {"annotations": {REFRESH: "hard" if hard else "normal"}}}
        namespace = self.at(app.namespace)
        try:
            asked = await self.kubernetes.patch(APPLICATIONS, app.name, patch, namespace)
            if not _pending(asked):
                # Somebody between, such as an admission policy, does not let the annotation through.
                return None
            return await within(timeout, self._acknowledged(app, version_of(asked)))
        except (Unreachable, asyncio.TimeoutError):
            return None

    async def _acknowledged(self, app: AppRef, version: str) -> Json | None:
        namespace, fields = self.at(app.namespace), f"metadata.name={app.name}"
        watch = self.kubernetes.watch(APPLICATIONS, namespace, resource_version=version, fields=fields)
        try:
            async with aclosing(watch) as events:
                async for event in events:
                    if event["type"] == "DELETED":
                        raise NotFound(f"application {app} was deleted")
                    if event["type"] in ("ADDED", "MODIFIED") and not _pending(event["object"]):
                        return dict(event["object"])
        except Unreachable:
            # The stream broke, or the history of it is lost: the object itself still knows.
            pass
        found = await self.kubernetes.get(APPLICATIONS, app.name, namespace)
        return None if _pending(found) else found

    async def applications(self, *, project: str = "", selector: str = "", name: str = "") -> list[Json]:
        """Return the Applications of a project, or with a label selector, or of a name."""
        found = await self.kubernetes.find(
            APPLICATIONS, self.among(""), labels=selector, fields=_fields(name)
        )
        return [item for item in found.items if _in_project(item, project)]

    async def create(self, application: Mapping[str, Any], *, upsert: bool = False) -> Json:
        """Create an Application; with ``upsert`` also change the spec of one that exists."""
        metadata = dict(application.get("metadata") or {})
        namespace = self.at(str(metadata.get("namespace") or ""))
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            **application,
            "metadata": {**metadata, "namespace": namespace},
        }
        app = AppRef(name_of(body)[1], namespace=namespace)
        try:
            return await self.kubernetes.create(APPLICATIONS, body, namespace)
        except Conflict:
            existing = await self.get(app)
        if existing.get("spec") == body.get("spec"):
            return existing
        if not upsert:
            text = "existing application spec is different, use upsert flag to force update"
            raise refusal(400, INVALID_ARGUMENT, text, f"application {app.name}")
        return await self.changed(app, lambda found: self._put(found, body))

    async def update(self, application: Mapping[str, Any]) -> Json:
        """Replace an Application; its resourceVersion must be the current one."""
        namespace, name = name_of(application)
        existing = await self.get(AppRef(name, namespace=namespace))
        wanted = version_of(application)
        if wanted and wanted != version_of(existing):
            raise Conflict(f"application {name} was changed by somebody else since it was read")
        return await self._put(existing, application)

    async def _put(self, existing: Json, wanted: Mapping[str, Any]) -> Json:
        # There is no status subresource: a body without the status would delete it. So the rest is put into what is there.
        metadata, given = dict(existing.get("metadata") or {}), wanted.get("metadata") or {}
        for field in ("labels", "annotations"):
            if given.get(field):
                metadata[field] = {**(metadata.get(field) or {}), **given[field]}
        if "finalizers" in given:
            metadata["finalizers"] = given["finalizers"]
        body = {**existing, "metadata": metadata, "spec": wanted.get("spec") or {}}
        return await self.put(body)

    async def set_spec(self, app: AppRef, spec: Mapping[str, Any]) -> Json:
        """Replace the whole spec of an Application, and return that spec."""
        after = await self.changed(app, lambda found: self._put(found, {"spec": dict(spec)}))
        return dict(after.get("spec") or {})

    async def patch(self, app: AppRef, patch: Mapping[str, Any]) -> Json:
        """Merge a patch into an Application (JSON merge patch)."""
        return await self.changed(app, lambda found: self.merge(app, found, patch))

    async def delete(self, app: AppRef, *, cascade: bool = True) -> None:
        """Delete an Application, and with ``cascade`` what it manages."""

        async def finalize(found: Json) -> Json:
            before = list((found.get("metadata") or {}).get("finalizers") or [])
            after = cascading(before, cascade)
            if after == before:
                return found
            return await self.merge(app, found, {"metadata": {"finalizers": after}})

        found = await self.changed(app, finalize)
        uid = str((found.get("metadata") or {}).get("uid") or "")
        await self.kubernetes.delete(APPLICATIONS, app.name, self.at(app.namespace), uid=uid)

    async def sync(self, app: AppRef, body: Mapping[str, Any]) -> Json:
        """Start a synchronisation; only on an Application that has no operation, and that nobody changes meanwhile."""

        async def begin(found: Json) -> Json:
            return await self.merge(app, found, begin_patch(sync_operation(found, body, self.user)))

        return await self.changed(app, begin)

    async def rollback(self, app: AppRef, history_id: int, *, prune: bool = False) -> Json:
        """Go back to an entry of the history; refused while auto-sync is on."""

        async def begin(found: Json) -> Json:
            operation = rollback_operation(found, history_id, prune, self.user)
            return await self.merge(app, found, begin_patch(operation))

        return await self.changed(app, begin)

    async def terminate(self, app: AppRef) -> None:
        """Stop the operation in progress."""
        await self.changed(app, lambda found: self.merge(app, found, terminate_patch(found)))

    async def watch(
        self,
        *,
        name: str = "",
        project: str = "",
        selector: str = "",
        namespace: str = "",
        resource_version: str = "",
    ) -> AsyncGenerator[Json, None]:
        """Yield ``{"type": ..., "application": ...}`` as they happen.

        :raises Unreachable: when the stream breaks.
        """
        changes = self.kubernetes.follow(
            APPLICATIONS,
            self.among(namespace),
            labels=selector,
            fields=_fields(name),
            resource_version=resource_version,
        )
        async with aclosing(changes) as events:
            async for event in events:
                if _in_project(event["object"], project):
                    yield {"type": event["type"], "application": event["object"]}


def _pending(application: Mapping[str, Any]) -> bool:
    return REFRESH in ((application.get("metadata") or {}).get("annotations") or {})


def _fields(name: str) -> str:
    return f"metadata.name={name}" if name else ""


def _in_project(application: Mapping[str, Any], project: str) -> bool:
    return not project or str((application.get("spec") or {}).get("project") or "default") == project
