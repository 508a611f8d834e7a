"""Routes under ``/api/v1/applications``: the documents and what is asked of them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_pipeops.demo.sandbox import spec, wire
from airflow_pipeops.demo.sandbox.service import Service, flag, read_body
from airflow_pipeops.demo.sandbox.store import Application

_BASE = "/api/v1/applications"


def routes(service: Service) -> list[Route]:
    """Return the routes."""
    handlers = _Applications(service)
    return [
        Route(_BASE, handlers.list, methods=["GET"]),
        Route(_BASE, handlers.create, methods=["POST"]),
        Route(_BASE + "/{name}", handlers.get, methods=["GET"]),
        Route(_BASE + "/{name}", handlers.update, methods=["PUT"]),
        Route(_BASE + "/{name}", handlers.patch, methods=["PATCH"]),
        Route(_BASE + "/{name}", handlers.delete, methods=["DELETE"]),
        Route(_BASE + "/{name}/spec", handlers.update_spec, methods=["PUT"]),
    ]


class _Applications:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    async def list(self, request: Request) -> Response:
        items = self._service.visible(request)
        refresh = request.query_params.get("refresh")
        if refresh:
            for item in items:
                self._ask_refresh(item["metadata"]["name"], refresh)
        metadata = {"resourceVersion": self._store.version}
        return JSONResponse({"metadata": metadata, "items": items or None})

    async def get(self, request: Request) -> Response:
        found = self._service.load(request, "get")
        refresh = request.query_params.get("refresh")
        if refresh:
            found = await self._refreshed(request, found["metadata"]["name"], refresh)
        return JSONResponse(found)

    async def create(self, request: Request) -> Response:
        role = self._service.role(request)
        wanted = spec.read(await read_body(request))
        name = wanted["metadata"]["name"]
        target = f"{spec.project(wanted)}/{name}"
        self._service.require(role, "applications", "create", target)
        before = self._store.get(name)
        if before is not None:
            return self._upsert(request, role, before, wanted)
        await self._validate(request, wanted)
        # Another request may have created it while the repository was read.
        before = self._store.get(name)
        if before is not None:
            return self._upsert(request, role, before, wanted)
        return JSONResponse(self._store.create(wanted))

    def _upsert(self, request: Request, role: str, before: Application, wanted: Application) -> Response:
        if before["spec"] == wanted["spec"]:
            return JSONResponse(before)
        if not flag(request, "upsert", False):
            raise wire.invalid_argument(
                "existing application spec is different, use upsert flag to force update"
            )
        self._service.require(
            role, "applications", "update", f"{spec.project(before)}/{before['metadata']['name']}"
        )
        return JSONResponse(self._replace(before["metadata"]["name"], wanted))

    async def update(self, request: Request) -> Response:
        self._service.load(request, "update")
        wanted = spec.read(await read_body(request))
        return await self._write(request, wanted)

    async def update_spec(self, request: Request) -> Response:
        found = self._service.load(request, "update")
        wanted = spec.read({"metadata": found["metadata"], "spec": await read_body(request)})
        await self._write(request, wanted)
        return JSONResponse(wanted["spec"])

    async def patch(self, request: Request) -> Response:
        import json

        body = await read_body(request)
        found = self._service.load(request, "update", body=body)
        try:
            change = json.loads(body.get("patch") or "")
        except (ValueError, TypeError):
            raise wire.invalid_argument("patch must be the text of a JSON document") from None
        kind = body.get("patchType") or "json"
        if kind == "merge":
            changed = wire.merge_patch(found, change)
        elif kind == "json" and isinstance(change, list):
            changed = wire.json_patch(found, change)
        else:
            raise wire.invalid_argument(f"Patch type '{kind}' is not supported for this patch")
        return await self._write(request, spec.read(changed))

    async def _write(self, request: Request, wanted: Application) -> Response:
        name = request.path_params["name"]
        if wanted["metadata"]["name"] != name:
            raise wire.invalid_argument(
                f"metadata.name is {wanted['metadata']['name']!r}, the address says {name!r}"
            )
        target = f"{spec.project(wanted)}/{name}"
        self._service.require(self._service.role(request), "applications", "update", target)
        await self._validate(request, wanted)
        return JSONResponse(self._replace(name, wanted))

    def _replace(self, name: str, wanted: Application) -> Application:
        def change(document: Application) -> None:
            document["spec"] = wanted["spec"]
            for field in ("labels", "annotations", "finalizers"):
                if field in wanted["metadata"]:
                    document["metadata"][field] = wanted["metadata"][field]
                elif field != "finalizers" or not document["metadata"].get("deletionTimestamp"):
                    document["metadata"].pop(field, None)

        changed = self._store.update(name, change)
        if changed is None:
            raise wire.not_found(name)
        return changed

    async def delete(self, request: Request) -> Response:
        found = self._service.load(request, "delete")
        policy = request.query_params.get("propagationPolicy") or "foreground"
        if policy not in ("foreground", "background", "orphan"):
            raise wire.invalid_argument(f"invalid propagation policy: {policy}")
        cascade = flag(request, "cascade", True) and policy != "orphan"

        def change(document: Application) -> None:
            document["metadata"]["deletionTimestamp"] = wire.now()
            document["metadata"]["finalizers"] = [wire.RESOURCES_FINALIZER] if cascade else []

        self._store.update(found["metadata"]["name"], change)
        return JSONResponse({})

    async def _validate(self, request: Request, wanted: Application) -> None:
        """Refuse a spec that could not be reconciled.

        ``validate=false`` skips all of it, as an edit of the custom resource behind the server's back would.
        """
        if not flag(request, "validate", True):
            return
        wrong = spec.problem(wanted)
        if not wrong:
            found = await self._service.reconciler.compare(wanted)
            wrong = found.error.removeprefix("Failed to load target state: ")
        if wrong:
            name = wanted["metadata"]["name"]
            raise wire.invalid_argument(f"application spec for {name} is invalid: InvalidSpecError: {wrong}")

    def _ask_refresh(self, name: str, kind: str) -> Application | None:
        if kind not in ("normal", "hard"):
            raise wire.invalid_argument(f"refresh must be normal or hard, not {kind!r}")

        def annotate(document: Application) -> None:
            annotations: dict[str, Any] = document["metadata"].setdefault("annotations", {})
            annotations[wire.REFRESH_ANNOTATION] = kind

        return self._store.update(name, annotate)

    async def _refreshed(self, request: Request, name: str, kind: str) -> Application:
        """Ask for a refresh and wait, without a deadline of our own, for the reconcile that saw the request."""

        def mine(application: Application) -> bool:
            return bool(application["metadata"]["name"] == name)

        with self._service.broadcaster.subscribe(mine, internal=True) as subscription:
            asked = self._ask_refresh(name, kind)
            if asked is None:
                raise wire.not_found(name)
            version = int(asked["metadata"]["resourceVersion"])
            while True:
                try:
                    event = await subscription.next(0.5)
                except EOFError:
                    raise wire.unavailable("the server is shutting down") from None
                if event is None:
                    if await request.is_disconnected():
                        # Nobody reads this any more.
                        raise wire.ApiError(1, "context canceled", status=499)
                    continue
                application = event["application"]
                if event["type"] == "DELETED":
                    raise wire.not_found(name)
                newer = int(application["metadata"]["resourceVersion"]) > version
                if newer and wire.REFRESH_ANNOTATION not in (
                    application["metadata"].get("annotations") or {}
                ):
                    return application  # type: ignore[no-any-return]
