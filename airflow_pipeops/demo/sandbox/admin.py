"""Routes under ``/sandbox/admin``: faults, and what a person with ``kubectl`` would do to the cluster."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_pipeops.demo.sandbox import wire
from airflow_pipeops.demo.sandbox.manifests import mask_secrets
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.service import Service, read_body
from airflow_pipeops.exceptions import InvalidInput, NotFound

_BASE = "/sandbox/admin"


def routes(service: Service) -> list[Route]:
    """Return the routes."""
    handlers = _Admin(service)
    return [
        Route(_BASE + "/faults", handlers.list_faults, methods=["GET"]),
        Route(_BASE + "/faults", handlers.add_fault, methods=["POST"]),
        Route(_BASE + "/faults", handlers.clear_faults, methods=["DELETE"]),
        Route(_BASE + "/faults/{fault:int}", handlers.clear_faults, methods=["DELETE"]),
        Route(_BASE + "/requests", handlers.count_requests, methods=["GET"]),
        Route(_BASE + "/crash", handlers.crash, methods=["POST"]),
        Route(_BASE + "/live", handlers.list_live, methods=["GET"]),
        Route(_BASE + "/live", handlers.patch_live, methods=["PATCH"]),
        Route(_BASE + "/live", handlers.delete_live, methods=["DELETE"]),
        Route(_BASE + "/kill", handlers.kill, methods=["POST"]),
    ]


class _Admin:
    def __init__(self, service: Service) -> None:
        self._service = service

    def _admit(self, request: Request) -> None:
        role = self._service.role(request)
        if role != "admin":
            raise wire.permission_denied(f"sandbox, admin, sub: {role}")

    async def list_faults(self, request: Request) -> Response:
        self._admit(request)
        return JSONResponse({"items": self._service.faults.describe()})

    async def add_fault(self, request: Request) -> Response:
        self._admit(request)
        return JSONResponse(self._service.faults.add(await read_body(request)).describe(), status_code=201)

    async def clear_faults(self, request: Request) -> Response:
        self._admit(request)
        return JSONResponse({"cleared": self._service.faults.clear(request.path_params.get("fault"))})

    async def count_requests(self, request: Request) -> Response:
        """Say what was asked so far, of all clients or of those whose ``User-Agent`` begins with ``agent``."""
        self._admit(request)
        return JSONResponse(self._service.requests.describe(request.query_params.get("agent", "")))

    async def crash(self, request: Request) -> Response:
        """End the process hard, just after the answer is out."""
        self._admit(request)
        asyncio.get_running_loop().call_later(0.05, os._exit, 137)
        return JSONResponse({"crash": "now"}, status_code=202)

    async def list_live(self, request: Request) -> Response:
        self._admit(request)
        fields = ("group", "kind", "namespace", "name")
        chosen: dict[str, Any] = {
            field: request.query_params[field] for field in fields if field in request.query_params
        }
        return JSONResponse({"items": mask_secrets(*self._service.cluster.list(**chosen))})

    async def patch_live(self, request: Request) -> Response:
        """Change a live object by a merge patch, behind Git's back."""
        self._admit(request)
        body = await read_body(request)
        key = _key(body)
        if not isinstance(body.get("patch"), dict):
            raise wire.invalid_argument("patch must be an object: a JSON merge patch")
        try:
            return JSONResponse(mask_secrets(await self._service.cluster.patch(key, body["patch"]))[0])
        except NotFound as error:
            raise wire.ApiError(5, str(error)) from None
        except InvalidInput as error:
            raise wire.invalid_argument(str(error)) from None

    async def delete_live(self, request: Request) -> Response:
        self._admit(request)
        key = _key(dict(request.query_params))
        return JSONResponse({"deleted": await self._service.cluster.delete(key)})

    async def kill(self, request: Request) -> Response:
        """Kill the processes of the pods at or under an object."""
        self._admit(request)
        return JSONResponse({"killed": await self._service.cluster.kill(_key(await read_body(request)))})


def _key(fields: dict[str, object]) -> Key:
    if not fields.get("kind") or not fields.get("name"):
        raise wire.invalid_argument(
            "kind and name say which object is meant; group and namespace where it has them"
        )
    group, kind, namespace, name = (str(fields.get(f) or "") for f in ("group", "kind", "namespace", "name"))
    manifest = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}
    return Key.of(manifest)
