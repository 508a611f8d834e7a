"""Streams: Applications, resource trees, logs; as newline-separated JSON or as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from airflow_pipeops.demo.sandbox import spec, views, wire
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.service import Service, selection
from airflow_pipeops.demo.sandbox.store import Application

#: Seconds between comment lines of a quiet event stream. The newline form has none, as in Argo CD.
_KEEP_ALIVE = 15.0


def routes(service: Service) -> list[Route]:
    """Return the routes."""
    handlers = _Streams(service)
    one = "/api/v1/applications/{name}"
    return [
        Route("/api/v1/stream/applications", handlers.applications, methods=["GET"]),
        Route("/api/v1/stream/applications/{name}/resource-tree", handlers.tree, methods=["GET"]),
        Route(one + "/logs", handlers.logs, methods=["GET"]),
        Route(one + "/pods/{pod}/logs", handlers.logs, methods=["GET"]),
    ]


class _Streams:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def applications(self, request: Request) -> Response:
        role, accept = self._service.role(request), selection(request)
        since, name = request.query_params.get("resourceVersion", ""), request.query_params.get("name")
        if since and not since.isdigit():
            raise wire.invalid_argument(f"resourceVersion {since!r} is not a number")

        def wanted(application: Application) -> bool:
            version = int(application["metadata"]["resourceVersion"])
            return (
                accept(application)
                and self._service.may_get(role, application)
                and version >= int(since or 0)
            )

        async def events() -> AsyncGenerator[Any, None]:
            with self._service.broadcaster.subscribe(wanted) as subscription:
                if not since or name:
                    for application in self._service.store.all():
                        if wanted(application):
                            yield {"type": "ADDED", "application": application}
                while True:
                    yield await subscription.next(1.0)

        return _stream(request, events())

    async def tree(self, request: Request) -> Response:
        found = self._service.load(request, "get")
        name = found["metadata"]["name"]

        async def trees() -> AsyncGenerator[Any, None]:
            before = None
            with self._service.broadcaster.subscribe(lambda a: a["metadata"]["name"] == name) as subscription:
                application: Application | None = found
                while application is not None:
                    tree = await self._tree(application)
                    yield tree if tree != before else None
                    before = tree
                    await subscription.next(1.0)
                    application = self._service.store.get(name)

        return _stream(request, trees())

    async def _tree(self, application: Application) -> dict[str, Any]:
        sync = application["status"].get("sync") or {}
        revision = sync.get("revision") if sync.get("status") in ("Synced", "OutOfSync") else None
        if spec.problem(application):
            return {"nodes": []}
        comparison = await self._service.reconciler.compare(application, revision)
        return views.resource_tree(self._service.cluster, comparison.states)

    async def logs(self, request: Request) -> Response:
        """Send the last lines of a resource's pods, and with ``follow`` those to come."""
        found = self._service.load(request, "get", resource="logs")
        query = request.query_params
        tail = query.get("tailLines") or "100"
        if not tail.isdigit():
            raise wire.invalid_argument(f"tailLines {tail!r} is not a number")
        keys = await self._log_keys(found, request)
        contained, follow = query.get("filter", ""), query.get("follow") == "true"

        def lines(key: Key) -> list[str]:
            return [line for line in self._service.cluster.logs(key, max(1, int(tail))) if contained in line]

        async def entries() -> AsyncGenerator[Any, None]:
            sent: dict[Key, list[str]] = {}
            while True:
                for key in keys:
                    current = lines(key)
                    for line in _fresh(sent.get(key, []), current):
                        yield {"content": line, "podName": key.name, "timeStamp": wire.now(), "last": False}
                    sent[key] = current
                if not follow or self._service.broadcaster.closed:
                    return
                yield None
                await asyncio.sleep(0.5)

        return _stream(request, entries())

    async def _log_keys(self, application: Application, request: Request) -> list[Key]:
        query = request.query_params
        name = request.path_params.get("pod") or query.get("podName") or query.get("resourceName")
        kind = "Pod" if "pod" in request.path_params or query.get("podName") else query.get("kind")
        nodes = (await self._tree(application))["nodes"]
        keys = [Key(n.get("group", ""), n["kind"], n.get("namespace", ""), n["name"]) for n in nodes]
        if name:
            keys = [key for key in keys if key.name == name and kind in (None, "", key.kind)]
            if not keys:
                raise wire.invalid_argument(f"{kind or 'resource'} {name} is not part of this application")
            return keys
        return [key for key in keys if key.kind == "Pod"]


def _fresh(before: list[str], current: list[str]) -> list[str]:
    """Return the lines of ``current`` that come after those seen ``before``; both are tails of the same log."""
    for overlap in range(min(len(before), len(current)), 0, -1):
        if before[-overlap:] == current[:overlap]:
            return current[overlap:]
    return current


def _stream(request: Request, results: AsyncGenerator[Any, None]) -> Response:
    """Send each result; ``None`` means that nothing happened for a while, and the end is no error."""
    sse = request.headers.get("accept", "") == "text/event-stream"
    head, tail = ("data: ", "\n\n") if sse else ("", "\n")

    async def body() -> AsyncIterator[str]:
        quiet_since = asyncio.get_running_loop().time()
        try:
            async for result in results:
                moment = asyncio.get_running_loop().time()
                if result is not None:
                    quiet_since = moment
                    yield head + json.dumps({"result": result}, separators=(",", ":")) + tail
                elif sse and moment - quiet_since >= _KEEP_ALIVE:
                    quiet_since = moment
                    yield ":\n"
        except EOFError:
            return
        finally:
            # At once and not when memory is cleaned up: it ends the subscription.
            await results.aclose()

    kind = "text/event-stream" if sse else "application/json"
    return StreamingResponse(body(), media_type=kind, headers={"Cache-Control": "no-store"})
