"""A Kubernetes API server for tests: real HTTP, objects in memory, and the rules of the real one that clients rely on.

Served are any kinds it was told of, with ``resourceVersion``, optimistic locking, JSON merge patch, status subresources,
finalizers, paged lists, watches with bookmarks and 410, permissions (also as ``SelfSubjectAccessReview``), events and logs.
It has no controllers: a test plays them, through :meth:`ApiServer.change`. And it can be told to misbehave.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qs, unquote

import uvicorn

from tests.kubernetes.objects import Kept, Object, Objects, Refused, as_seen, merge, now, selected, status

_CORE = (("", "v1", "pods"), ("", "v1", "events"), ("", "v1", "secrets"), ("", "v1", "configmaps"))
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass
class Fault:
    """What goes wrong.

    :param kind: ``status`` (answer with ``status``, and ``retry_after``), ``delay`` (``seconds``), ``truncate``, ``drop``
        (close without an answer), ``lose`` (act, then close without an answer), ``twice`` (each event of a watch twice).
    :param method: of the requests that are struck; ``*`` for all.
    :param path: glob over their paths.
    :param count: how many are struck; ``None`` for all.
    """

    kind: str
    method: str = "*"
    path: str = "*"
    count: int | None = None
    status: int = 503
    seconds: float = 0.0
    retry_after: str = ""


class ApiServer(Objects):
    """The server; it runs in a thread of its own.

    :param kinds: ``(group, version, plural)`` of the custom objects; a fourth ``True`` gives them a status subresource.
    :param bookmarks: seconds between the bookmarks of a watch.
    """

    def __init__(self, *kinds: tuple[Any, ...], bookmarks: float = 0.5) -> None:
        super().__init__(*_CORE, *kinds)
        self._bookmarks = bookmarks
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._streams: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: token -> which ``(verb, "plural.group", namespace)`` it may; a token that is not here is refused with 401.
        self.tokens: dict[str, Callable[[str, str, str], bool]] = {"token": lambda *_: True}
        self.faults: list[Fault] = []
        #: ``METHOD path`` of all requests, in order; those that are refused too.
        self.requests: list[str] = []
        self.open_watches = 0
        #: (namespace, pod) -> its log.
        self.pod_logs: dict[tuple[str, str], str] = {}

    # ---- running -----------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> ApiServer:
        """Serve, on the port of the last time."""
        config = uvicorn.Config(
            self._app,
            host="127.0.0.1",
            port=self._port,
            log_level="critical",
            lifespan="off",
            interface="asgi3",
            access_log=False,
        )
        config.timeout_graceful_shutdown = 1
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Stop at once, and cut what is open; the objects stay."""
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = True
        self._server.force_exit = True
        self.cut()
        self._thread.join(10)

    def cut(self) -> None:
        """Cut all watches in the middle, as a proxy does."""
        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in set(self._streams)])

    # ---- HTTP --------------------------------------------------------------------------------------------------------

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        method, path = scope["method"], scope["path"]
        query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        self.requests.append(f"{method} {path}" + ("?watch" if query.get("watch") == "true" else ""))
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer: tuple[int, Any]
        fault = self._strike(method, path)
        if fault and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        if fault and fault.kind == "drop":
            raise _Cut
        if fault and fault.kind == "status":
            extra = {"retry-after": fault.retry_after} if fault.retry_after else {}
            return await _send(send, fault.status, status(fault.status, "", "told to fail"), extra)
        try:
            if query.get("watch") == "true":
                return await self._watch(path, query, headers, receive, send)
            with self.lock:
                answer = self._answer(method, path, query, headers, body)
        except Refused as refused:
            answer = refused.code, refused.body
        if fault and fault.kind == "lose":
            raise _Cut
        await _send(send, *answer, truncate=bool(fault and fault.kind == "truncate"))

    def _strike(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method in ("*", method) and fnmatchcase(path, fault.path):
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count <= 0:
                        self.faults.remove(fault)
                return fault
        return None

    def _allow(self, headers: dict[str, str]) -> Callable[[str, str, str], bool]:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise Refused(401, "Unauthorized", "Unauthorized")
        return self.tokens[token]

    def _answer(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], raw: bytes
    ) -> tuple[int, Any]:
        allow = self._allow(headers)
        if path == "/version":
            return 200, {"gitVersion": "v1.34.1"}
        if path.endswith("/selfsubjectaccessreviews"):
            return 201, _review(json.loads(raw), allow)
        kind, namespace, name, sub = self._locate(path)
        verb = _VERBS.get(method) or ("get" if name else "list")
        target = f"{kind.plural}.{kind.group}".rstrip(".") + (f"/{sub}" if sub else "")
        if not allow(verb, target, namespace):
            raise Refused(403, "Forbidden", f"cannot {verb} resource {target!r} in namespace {namespace!r}")
        if kind.plural == "pods" and sub == "log":
            return self._log(namespace, name, query)
        if method == "GET":
            return 200, self._one(kind, namespace, name) if name else self._list(kind, namespace, query)
        body = json.loads(raw or b"{}")
        if method == "POST":
            return 201, self.insert(kind, _placed(body, namespace))
        found = self._one(kind, namespace, name)
        if method == "DELETE":
            return 200, self._delete(kind, found, body)
        return 200, self._write(method, kind, found, body, sub, headers.get("content-type", ""))

    def _locate(self, path: str) -> tuple[Kept, str, str, str]:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if rest and rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = self.kinds.get((group, version, rest[0])) if rest else None
        if kind is None:
            raise _unknown_path()
        name, sub, *_ = [*rest[1:], "", ""]
        return kind, namespace, name, sub

    def _log(self, namespace: str, name: str, query: dict[str, str]) -> tuple[int, Any]:
        text = self.pod_logs.get((namespace, name))
        if text is None:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        lines = text.splitlines(keepends=True)
        return 200, "".join(lines[-int(query.get("tailLines", len(lines))) :])

    def _one(self, kind: Kept, namespace: str, name: str) -> Object:
        found = kind.objects.get((namespace, name))
        if found is None:
            raise Refused(404, "NotFound", f'{kind.plural}.{kind.group} "{name}" not found')
        return found

    def _list(self, kind: Kept, namespace: str, query: dict[str, str]) -> Object:
        begin, version = (query.get("continue") or f"0:{self.version}").split(":")
        if int(version) < kind.oldest:
            raise Refused(410, "Expired", "The provided continue parameter is too old")
        wanted = [item for item in kind.objects.values() if selected(item, namespace, query)]
        first, limit = int(begin), int(query.get("limit") or 0) or len(wanted) or 1
        metadata: Object = {"resourceVersion": version}
        if first + limit < len(wanted):
            metadata["continue"] = f"{first + limit}:{version}"
        return {"kind": "List", "metadata": metadata, "items": wanted[first : first + limit]}

    def _delete(self, kind: Kept, found: Object, options: Object) -> Object:
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != found["metadata"]["uid"]:
            raise Refused(409, "Conflict", f"Precondition failed: UID in precondition: {wanted}")
        after = copy.deepcopy(found)
        after["metadata"].setdefault("deletionTimestamp", now())
        return self.store(kind, found, after)

    def _write(self, method: str, kind: Kept, found: Object, body: Object, sub: str, content: str) -> Object:
        if method == "PATCH":
            if content != "application/merge-patch+json":
                raise Refused(415, "UnsupportedMediaType", f"the body was in an unknown format: {content}")
            after = merge(copy.deepcopy(found), body)
        else:
            after = _placed(copy.deepcopy(body), str(found["metadata"].get("namespace") or ""))
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version and version != found["metadata"]["resourceVersion"]:
            raise Refused(
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version",
            )
        if kind.subresource:
            # The status is written through its own path only, and all else not through that.
            kept = after if sub == "status" else found
            after = {**(found if sub == "status" else after), "status": kept.get("status", {})}
        return self.store(kind, found, copy.deepcopy(after))

    # ---- watches -----------------------------------------------------------------------------------------------------

    async def _watch(
        self, path: str, query: dict[str, str], headers: dict[str, str], receive: Any, send: Any
    ) -> None:
        kind, namespace, _, _ = self._locate(path)
        target = f"{kind.plural}.{kind.group}".rstrip(".")
        if not self._allow(headers)("watch", target, namespace):
            raise Refused(403, "Forbidden", f"cannot watch resource {target!r} in namespace {namespace!r}")
        begin = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": begin})
        task = asyncio.ensure_future(self._tell(kind, namespace, query, send))
        # What comes after a whole request is that the client has gone.
        gone = asyncio.ensure_future(receive())
        self._streams.add(task)
        self.open_watches += 1
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return
            await task
        except asyncio.CancelledError:
            raise _Cut from None
        finally:
            self.open_watches -= 1
            self._streams.discard(task)
            task.cancel()
            gone.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _tell(self, kind: Kept, namespace: str, query: dict[str, str], send: Any) -> None:
        async def say(event: str, item: Object) -> None:
            line = json.dumps({"type": event, "object": item}).encode() + b"\n"
            fault = next((fault for fault in self.faults if fault.kind == "twice"), None)
            await send({"type": "http.response.body", "body": line * (2 if fault else 1), "more_body": True})

        end = time.monotonic() + float(query.get("timeoutSeconds") or 3600)
        marked, seen = time.monotonic(), int(query.get("resourceVersion") or 0)
        if not seen:
            with self.lock:
                found = [copy.deepcopy(o) for o in kind.objects.values() if selected(o, namespace, query)]
                seen = self.version
            for item in found:
                await say("ADDED", item)
        while time.monotonic() < end:
            with self.lock:
                expired, news = seen < kind.oldest, [entry for entry in kind.history if entry[0] > seen]
                current = self.version
            if expired:
                gone = status(410, "Expired", f"too old resource version: {seen} ({kind.oldest})")
                return await say("ERROR", gone)
            for version, event, item, before in news:
                seen = version
                told = as_seen(event, item, before, namespace, query)
                if told:
                    await say(told, item)
            if query.get("allowWatchBookmarks") == "true" and time.monotonic() - marked > self._bookmarks:
                marked, seen = time.monotonic(), max(seen, current)
                await say("BOOKMARK", {"kind": "Bookmark", "metadata": {"resourceVersion": str(seen)}})
            await asyncio.sleep(0.01)
        return None


class _Cut(Exception):
    """Ends a response without its end: the connection is closed."""


@contextmanager
def serving(*kinds: tuple[Any, ...], **options: Any) -> Iterator[ApiServer]:
    """Run a server for the length of a ``with``."""
    server = ApiServer(*kinds, **options).start()
    try:
        yield server
    finally:
        server.stop()


def _placed(body: Object, namespace: str) -> Object:
    if namespace:
        body.setdefault("metadata", {}).setdefault("namespace", namespace)
    return body


def _review(body: Object, allow: Callable[[str, str, str], bool]) -> Object:
    wanted = body["spec"]["resourceAttributes"]
    target = f"{wanted['resource']}.{wanted.get('group', '')}".rstrip(".")
    if wanted.get("subresource"):
        target += f"/{wanted['subresource']}"
    return {**body, "status": {"allowed": allow(wanted["verb"], target, wanted.get("namespace", ""))}}


def _unknown_path() -> Refused:
    refused = Refused(404, "", "")
    refused.body = "404 page not found\n"  # type: ignore[assignment]
    return refused


async def _send(
    send: Any, code: int, body: Any, extra: dict[str, str] | None = None, *, truncate: bool = False
) -> None:
    text = isinstance(body, str)
    raw = body.encode() if text else json.dumps(body).encode()
    headers = {
        "content-type": "text/plain" if text else "application/json",
        "content-length": str(len(raw)),
        **(extra or {}),
    }
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": code, "headers": pairs})
    if truncate:
        await send({"type": "http.response.body", "body": raw[: len(raw) // 2], "more_body": True})
        raise _Cut
    await send({"type": "http.response.body", "body": raw})
