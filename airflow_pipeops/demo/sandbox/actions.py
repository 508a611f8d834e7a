"""Routes under one Application: sync, rollback, terminate, and what is derived from it."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_pipeops.demo.sandbox import spec, views, wire
from airflow_pipeops.demo.sandbox.autosync import automated
from airflow_pipeops.demo.sandbox.reconciler import Comparison
from airflow_pipeops.demo.sandbox.repository import RepositoryError
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.service import Service, flag, read_body
from airflow_pipeops.demo.sandbox.store import Application

_ONE = "/api/v1/applications/{name}"


def routes(service: Service) -> list[Route]:
    """Return the routes."""
    handlers = _Actions(service)
    return [
        Route(_ONE + "/sync", handlers.sync, methods=["POST"]),
        Route(_ONE + "/rollback", handlers.rollback, methods=["POST"]),
        Route(_ONE + "/operation", handlers.terminate, methods=["DELETE"]),
        Route(_ONE + "/resource-tree", handlers.resource_tree, methods=["GET"]),
        Route(_ONE + "/managed-resources", handlers.managed_resources, methods=["GET"]),
        Route(_ONE + "/manifests", handlers.manifests, methods=["GET"]),
        Route(_ONE + "/resource", handlers.resource, methods=["GET"]),
        Route(_ONE + "/revisions/{revision:path}/metadata", handlers.metadata, methods=["GET"]),
        Route(_ONE + "/syncwindows", handlers.sync_windows, methods=["GET"]),
        Route(_ONE + "/events", handlers.events, methods=["GET"]),
    ]


class _Actions:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def sync(self, request: Request) -> Response:
        body = await read_body(request)
        found = self._service.load(request, "sync", body=body)
        if body.get("manifests"):
            self._service.load(request, "override", body=body)
            raise wire.invalid_argument("the sandbox does not sync local manifests: push them to Git")
        wrong = spec.problem(found)
        if wrong:
            raise wire.failed_precondition(f"InvalidSpecError: {wrong}")
        wanted = _text(body, "revision")
        declared = spec.source(found).get("targetRevision") or "HEAD"
        if automated(found) is not None and not body.get("dryRun") and wanted and wanted != declared:
            raise wire.failed_precondition(f"Cannot sync to {wanted}: auto-sync currently set to {declared}")
        revision = await self._resolve(found, wanted or declared)
        policy = found["spec"].get("syncPolicy") or {}
        options = (body.get("syncOptions") or {}).get("items") or policy.get("syncOptions")
        retry = body.get("retryStrategy") or policy.get("retry") or {}
        sync: dict[str, Any] = {"revision": revision}
        for field in ("prune", "dryRun"):
            if body.get(field):
                sync[field] = True
        if body.get("resources"):
            sync["resources"] = [_selector(item) for item in body["resources"]]
        sync["syncStrategy"] = body.get("strategy") or {"hook": {}}
        if options:
            sync["syncOptions"] = list(options)
        operation = {"initiatedBy": {"username": self._service.role(request)}, "sync": sync, "retry": retry}
        if body.get("infos"):
            operation["info"] = [
                {"name": str(i.get("name", "")), "value": str(i.get("value", ""))} for i in body["infos"]
            ]
        return JSONResponse(self._begin(found, operation))

    async def rollback(self, request: Request) -> Response:
        body = await read_body(request)
        found = self._service.load(request, "sync", body=body)
        if found["metadata"].get("deletionTimestamp"):
            raise wire.failed_precondition("application is deleting")
        if automated(found) is not None:
            raise wire.failed_precondition("rollback cannot be initiated when auto-sync is enabled")
        # Protobuf's 64-bit numbers travel as text.
        number = str(body.get("id", 0))
        name = found["metadata"]["name"]
        entry = next((e for e in found["status"].get("history") or [] if str(e["id"]) == number), None)
        if entry is None:
            raise wire.invalid_argument(f"application {name} does not have deployment with id {number}")
        sync: dict[str, Any] = {
            "revision": entry["revision"],
            "source": entry["source"],
            "syncStrategy": {"apply": {}},
        }
        for field in ("prune", "dryRun"):
            if body.get(field):
                sync[field] = True
        operation = {"initiatedBy": {"username": self._service.role(request)}, "sync": sync}
        return JSONResponse(self._begin(found, operation))

    def _begin(self, found: Application, operation: dict[str, Any]) -> Application:
        name = found["metadata"]["name"]
        if found["metadata"].get("deletionTimestamp"):
            raise wire.failed_precondition("application is deleting")

        def change(document: Application) -> None:
            if document.get("operation"):
                raise wire.failed_precondition("another operation is already in progress")
            document["operation"] = operation
            document["status"].pop("operationState", None)

        begun = self._service.store.update(name, change)
        if begun is None:
            raise wire.not_found(name)
        return begun

    async def terminate(self, request: Request) -> Response:
        found = self._service.load(request, "sync")

        def change(document: Application) -> None:
            state = document["status"].get("operationState")
            if not document.get("operation") or not state:
                raise wire.invalid_argument("Unable to terminate operation. No operation is in progress")
            state["phase"] = "Terminating"
            state["message"] = "operation is terminating."
            state.pop("finishedAt", None)

        self._service.store.update(found["metadata"]["name"], change)
        return JSONResponse({})

    async def resource_tree(self, request: Request) -> Response:
        found = await self._compared(self._service.load(request, "get"), whole=False)
        return JSONResponse(views.resource_tree(self._service.cluster, found.states))

    async def managed_resources(self, request: Request) -> Response:
        found = await self._compared(self._service.load(request, "get"), whole=False)
        query = request.query_params
        items = [views.managed_resource(self._service.cluster, state) for state in found.states]
        fields = ("group", "kind", "namespace", "name")
        items = [item for item in items if all(query.get(f) in (None, "", item[f]) for f in fields)]
        return JSONResponse({"items": items})

    async def manifests(self, request: Request) -> Response:
        application = self._service.load(request, "get")
        if flag(request, "noCache", False):
            self._service.repositories.forget(spec.source(application).get("repoURL", ""))
        found = await self._compared(application, request.query_params.get("revision"))
        texts = views.manifest_texts(found.targets)
        namespace = spec.namespace(application)
        server = "https://kubernetes.default.svc"
        return JSONResponse(
            {
                "manifests": texts,
                "namespace": namespace,
                "server": server,
                "revision": found.revision,
                "sourceType": found.source_type,
            }
        )

    async def resource(self, request: Request) -> Response:
        """Return one live object of the Application, or of what its objects own."""
        import json

        found = await self._compared(self._service.load(request, "get"), whole=False)
        query = request.query_params
        kind, name = query.get("kind", ""), query.get("resourceName", "")
        key = Key(query.get("group", ""), kind, query.get("namespace", ""), name)
        known = {state.key for state in found.states}
        known |= {Key.of(child) for top in list(known) for child in self._service.cluster.children(top)}
        live = self._service.cluster.get(key) if key in known else None
        if live is None:
            raise wire.invalid_argument(
                f"{key.kind} {key.group} {key.name} not found as part of this application"
            )
        from airflow_pipeops.demo.sandbox.manifests import mask_secrets

        return JSONResponse({"manifest": json.dumps(mask_secrets(live)[0])})

    async def metadata(self, request: Request) -> Response:
        found = self._service.load(request, "get")
        revision = request.path_params["revision"]
        if not re.fullmatch(r"[0-9a-f]{7,40}", revision):
            raise wire.invalid_argument(f"revision {revision!r} must be resolved: give a commit SHA")
        commit = await self._resolve(found, revision)
        try:
            return JSONResponse(
                await self._service.repositories.metadata(spec.source(found)["repoURL"], commit)
            )
        except RepositoryError as error:
            raise wire.ApiError(13, f"rpc error: code = Internal desc = {error}") from None

    async def sync_windows(self, request: Request) -> Response:
        self._service.load(request, "get")
        return JSONResponse({"activeWindows": [], "assignedWindows": [], "canSync": True})

    async def events(self, request: Request) -> Response:
        self._service.load(request, "get")
        return JSONResponse({"metadata": {}, "items": []})

    async def _compared(
        self, application: Application, revision: str | None = None, *, whole: bool = True
    ) -> Comparison:
        """Compare now: with the revision last compared to, where none is given and ``whole`` is false."""
        wrong = spec.problem(application)
        if wrong:
            raise wire.failed_precondition(wrong)
        if not whole and revision is None:
            sync = application["status"].get("sync") or {}
            revision = sync.get("revision") if sync.get("status") in ("Synced", "OutOfSync") else None
        found = await self._service.reconciler.compare(application, revision)
        if found.error:
            raise wire.failed_precondition(found.error)
        return found

    async def _resolve(self, application: Application, revision: str) -> str:
        try:
            return await self._service.repositories.resolve(spec.source(application)["repoURL"], revision)
        except (RepositoryError, KeyError) as error:
            raise wire.failed_precondition(f"error resolving repo revision: {error}") from None


def _text(body: dict[str, Any], field: str) -> str:
    value = body.get(field) or ""
    if not isinstance(value, str) or value.startswith("-"):
        raise wire.invalid_argument(f"{field} must be a branch, a tag or a commit, not {value!r}")
    return value


def _selector(item: Any) -> dict[str, str]:
    if not isinstance(item, dict) or not item.get("kind") or not item.get("name"):
        raise wire.invalid_argument("each of resources needs kind and name")
    return {field: str(item[field]) for field in ("group", "kind", "namespace", "name") if item.get(field)}
