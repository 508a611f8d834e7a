"""Faults on demand: what goes wrong with a real server, switched on by an admin call and off by default."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_pipeops.demo.sandbox.wire import ApiError, invalid_argument

#: kind -> its own parameters with their defaults. All kinds also take ``path``, ``app``, ``count``, ``probability``.
KINDS: dict[str, dict[str, Any]] = {
    "delay": {"ms": 1000},
    "error": {"status": 503},
    "drop_stream": {"after": 1},
    "drop_events": {},
    "hang_refresh": {},
    "crash": {"at": "request"},
    "stuck_operation": {},
    "truncate": {"bytes": 20},
}
CrashPoint = Literal["request", "operation-started", "after-apply", "before-finish"]
CRASH_POINTS: tuple[CrashPoint, ...] = get_args(CrashPoint)
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}


@dataclass
class Fault:
    """One fault that is switched on.

    :param id: its number, given when it was switched on.
    :param kind: a key of :data:`KINDS`.
    :param path: glob over the request's path.
    :param app: glob over the Application's name, for faults inside the controller.
    :param count: how often it still strikes; ``None`` means until it is cleared.
    :param probability: the chance to strike at each opportunity.
    :param parameters: what the kind takes, by name: see :data:`KINDS`.
    """

    id: int
    kind: str
    path: str = "*"
    app: str = "*"
    count: int | None = None
    probability: float = 1.0
    parameters: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return it as JSON."""
        common: dict[str, Any] = {
            name: getattr(self, name) for name in ("id", "kind", "path", "app", "count", "probability")
        }
        return {**common, **self.parameters}


class Faults:
    """The faults that are switched on now."""

    def __init__(self) -> None:
        self._active: list[Fault] = []
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()

    def add(self, request: dict[str, Any]) -> Fault:
        """Switch a fault on.

        :return: the fault, with its number.
        :raises ApiError: for an unknown kind, parameter or value.
        """
        wanted = dict(request)
        kind = wanted.pop("kind", None)
        if kind not in KINDS:
            raise invalid_argument(f"unknown kind of fault {kind!r}: use one of {', '.join(KINDS)}")
        common: dict[str, Any] = {
            name: wanted.pop(name) for name in ("path", "app", "count", "probability") if name in wanted
        }
        unknown = set(wanted) - set(KINDS[kind])
        if unknown:
            raise invalid_argument(f"a fault of kind {kind!r} has no parameter {sorted(unknown)[0]!r}")
        parameters = {**KINDS[kind], **wanted}
        _check(common, parameters)
        fault = Fault(next(self._ids), kind, parameters=parameters, **common)
        self._active.append(fault)
        return fault

    def describe(self) -> list[dict[str, Any]]:
        """Return all active faults as JSON."""
        return [fault.describe() for fault in self._active]

    def clear(self, fault_id: int | None = None) -> int:
        """Switch one fault off, or all; return how many."""
        before = len(self._active)
        self._active = [fault for fault in self._active if fault_id is not None and fault.id != fault_id]
        self._changed.set()
        self._changed = asyncio.Event()
        return before - len(self._active)

    def strike(
        self, kind: str, *, path: str | None = None, app: str | None = None, at: str | None = None
    ) -> Fault | None:
        """Return the fault of this kind that strikes now, using up one of its count; ``None`` where all is well."""
        for fault in self._matching(kind, path, app, at):
            if fault.probability < 1 and random.random() >= fault.probability:
                continue
            if fault.count is not None:
                fault.count -= 1
                if fault.count <= 0:
                    self._active.remove(fault)
            return fault
        return None

    def crash_point(self, at: CrashPoint, app: str) -> None:
        """End the process at once where a crash is due here: no clean-up, as when the machine dies."""
        if self.strike("crash", app=app, at=at):
            os._exit(137)

    async def hold(self, kind: str, app: str) -> None:
        """Return only when no fault of this kind is active for ``app``."""
        while next(self._matching(kind, None, app, None), None):
            await self._changed.wait()

    def _matching(self, kind: str, path: str | None, app: str | None, at: str | None) -> Iterator[Fault]:
        for fault in list(self._active):
            if fault.kind != kind or (path is not None and not fnmatchcase(path, fault.path)):
                continue
            if app is not None and not fnmatchcase(app, fault.app):
                continue
            if at is not None and fault.parameters.get("at") != at:
                continue
            yield fault


def _check(common: dict[str, Any], parameters: dict[str, Any]) -> None:
    for name, value in {**common, **parameters}.items():
        good = {
            "path": lambda v: isinstance(v, str),
            "app": lambda v: isinstance(v, str),
            "count": lambda v: v is None or (type(v) is int and v > 0),
            "probability": lambda v: isinstance(v, (int, float)) and 0 < v <= 1,
            "ms": lambda v: isinstance(v, (int, float)) and v >= 0,
            "status": lambda v: type(v) is int and 400 <= v <= 599,
            "after": lambda v: type(v) is int and v >= 0,
            "bytes": lambda v: type(v) is int and v >= 0,
            "at": lambda v: v in CRASH_POINTS,
        }[name](value)
        if not good:
            raise invalid_argument(f"the fault's {name!r} cannot be {value!r}")


class FaultMiddleware:
    """Applies the faults of the wire to ``/api/`` requests; admin calls always work.

    :param app: the ASGI application inside.
    :param faults: the faults that are switched on.
    """

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith("/api/"):
            await self._app(scope, receive, send)
            return
        if self._faults.strike("crash", path=path, at="request"):
            os._exit(137)
        delay = self._faults.strike("delay", path=path)
        if delay:
            await asyncio.sleep(delay.parameters["ms"] / 1000)
        error = self._faults.strike("error", path=path)
        if error:
            await _answer(send, error.parameters["status"])
            return
        cut = _Cut(send, self._limit(path))
        # Returning before the response is complete makes uvicorn close the connection in the middle.
        await cut.run(self._app(scope, receive, cut))

    def _limit(self, path: str) -> tuple[str, int] | None:
        if "/stream/" in path:
            drop = self._faults.strike("drop_stream", path=path)
            return ("events", drop.parameters["after"]) if drop else None
        truncate = self._faults.strike("truncate", path=path)
        return ("bytes", truncate.parameters["bytes"]) if truncate else None


class _Cut:
    """A ``send`` that stops after some bytes or events of the body."""

    def __init__(self, send: Send, limit: tuple[str, int] | None) -> None:
        self._send = send
        self._unit, self._left = limit or ("", 0)
        self._over = asyncio.Event()

    async def run(self, inner: Any) -> None:
        """Await the inner application, or give it up once the limit was reached."""
        if not self._unit:
            await inner
            return
        serving = asyncio.ensure_future(inner)
        over = asyncio.ensure_future(self._over.wait())
        await asyncio.wait({serving, over}, return_when=asyncio.FIRST_COMPLETED)
        for task in (serving, over):
            task.cancel()
        await asyncio.gather(serving, over, return_exceptions=True)

    async def __call__(self, message: Message) -> None:
        """Pass a message on, cut where the limit is."""
        if not self._unit or message["type"] != "http.response.body":
            await self._send(message)
            return
        body = message.get("body", b"")
        if self._unit == "bytes":
            cut, kept = len(body) > self._left, body[: self._left]
            self._left -= len(kept)
        else:
            cut, kept = bool(body) and self._left <= 0, body
            self._left -= 1 if body else 0
        if not cut:
            await self._send(message)
            return
        if self._unit == "bytes":
            await self._send({"type": "http.response.body", "body": kept, "more_body": True})
        self._over.set()
        await asyncio.Event().wait()


async def _answer(send: Send, status: int) -> None:
    body = ApiError(_CODES.get(status, 13), f"injected fault: HTTP {status}", status=status).body()
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
