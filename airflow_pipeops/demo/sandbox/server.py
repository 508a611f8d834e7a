"""The server: its parts put together, and the rules that hold for every request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_pipeops.demo.sandbox import account, actions, admin, applications, pages, streams
from airflow_pipeops.demo.sandbox.auth import Access
from airflow_pipeops.demo.sandbox.controller import Controller
from airflow_pipeops.demo.sandbox.faults import FaultMiddleware, Faults
from airflow_pipeops.demo.sandbox.operation import OperationRunner
from airflow_pipeops.demo.sandbox.reconciler import Reconciler
from airflow_pipeops.demo.sandbox.repository import Repositories
from airflow_pipeops.demo.sandbox.requests import CountingMiddleware, Requests
from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.service import Service
from airflow_pipeops.demo.sandbox.store import ApplicationStore
from airflow_pipeops.demo.sandbox.watch import Broadcaster
from airflow_pipeops.demo.sandbox.wire import ApiError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """How a sandbox runs.

    :param state: folder for all that it remembers.
    :param interval: seconds between two looks at an Application.
    :param grace: seconds for which an error of a repository is not reported, unless a refresh was asked for.
    :param watch_buffer: events that may wait for one watcher before they are dropped.
    """

    state: Path
    interval: float = 5.0
    grace: float = 180.0
    watch_buffer: int = 1000


class Sandbox:
    """One sandbox: the cluster, the controller, and the API in front of them.

    :param settings: how it runs.
    :param cluster: what is live; started and stopped with the server.
    """

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        settings.state.mkdir(parents=True, exist_ok=True)
        self.faults = Faults()
        self.requests = Requests()
        self.access = Access(settings.state)
        self._store = ApplicationStore(settings.state / "applications.sqlite")
        self._cluster = cluster
        self.broadcaster = Broadcaster(
            settings.watch_buffer,
            lambda application: (
                self.faults.strike("drop_events", app=application["metadata"]["name"]) is not None
            ),
        )
        self._store.listen(self.broadcaster.publish)
        repositories = Repositories(settings.state / "mirrors")
        reconciler = Reconciler(
            self._store,
            repositories,
            cluster,
            self.faults,
            grace=settings.grace,
            max_age=settings.interval / 2,
        )
        runner = OperationRunner(self._store, reconciler, cluster, self.faults)
        self._controller = Controller(self._store, reconciler, runner, cluster, interval=settings.interval)
        self._service = Service(
            store=self._store,
            access=self.access,
            repositories=repositories,
            cluster=cluster,
            reconciler=reconciler,
            controller=self._controller,
            broadcaster=self.broadcaster,
            faults=self.faults,
            requests=self.requests,
        )

    def asgi(self) -> ASGIApp:
        """Return the ASGI application; its lifespan starts and stops the cluster and the controller."""
        modules = (account, applications, actions, streams, admin, pages)
        routes = [route for module in modules for route in module.routes(self._service)]
        inner = Starlette(routes=routes, exception_handlers=_HANDLERS, lifespan=self._lifespan)
        return _Guard(CountingMiddleware(FaultMiddleware(inner, self.faults), self.requests))

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self._cluster.start()
        try:
            self._controller.start()
            yield
        finally:
            self.broadcaster.close()
            await self._controller.stop()
            await self._cluster.stop()
            self._store.close()


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), status_code=error.status)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: 5, 405: 12}.get(error.status_code, 2)
    body = ApiError(code, "Not Found" if error.status_code == 404 else str(error.detail)).body()
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _crash(_: Request, error: Exception) -> Response:
    return JSONResponse(ApiError(13, f"internal error: {type(error).__name__}").body(), status_code=500)


_HANDLERS: dict[Any, Any] = {ApiError: _api_error, HTTPException: _http_error, Exception: _crash}


class _Guard:
    """Refuses what no honest client of a laptop's server sends: other host names, and forms as writes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
            }
            host = headers.get("host", "localhost")
            name = host[1 : host.find("]")] if host.startswith("[") else host.rpartition(":")[0] or host
            if name not in LOOPBACK:
                # A page on the web must not reach this server through a name that it made point to the loopback.
                body = json.dumps(ApiError(7, f"host {name!r} is not the loopback").body()).encode()
                await _plain(send, 403, b"application/json", body)
                return
            kind = headers.get("content-type", "").split(";")[0].strip().lower()
            if (
                scope["method"] not in ("GET", "HEAD")
                and scope["path"].startswith("/api/")
                and kind != "application/json"
            ):
                await _plain(send, 415, b"text/plain; charset=utf-8", b"Invalid content type\n")
                return
        await self._app(scope, receive, send)


async def _plain(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def serve(sandbox: Sandbox, host: str, port: int, ready: Any) -> None:
    """Serve until SIGTERM or SIGINT, then end streams, processes and connections.

    :param port: 0 takes a free one.
    :param ready: called with the port when the first request can be answered.
    :raises OSError: where the port is taken.
    """
    import signal
    import socket
    from contextlib import contextmanager

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    # A time limit only for what does not listen to the end: streams end by themselves.
    config = uvicorn.Config(sandbox.asgi(), log_config=None, access_log=False, timeout_graceful_shutdown=3)

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Any:
            # Our own handlers are below: uvicorn's would raise the signal again after a clean end.
            yield

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready(listener.getsockname()[1])

    server = Server(config)

    def end() -> None:
        server.should_exit = True
        sandbox.broadcaster.close()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        await server.serve(sockets=[listener])
    finally:
        listener.close()
