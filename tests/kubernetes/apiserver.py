"""A Kubernetes API server for tests: real HTTP, objects in memory, and the rules of the real one that clients rely on.

Served are any kinds it was told of, with ``resourceVersion``, optimistic locking, JSON merge patch, status subresources,
finalizers, paged lists, watches with bookmarks and 410, permissions (also as ``SelfSubjectAccessReview``), quotas, lost
namespaces, events, and the logs of containers, which grow and may be followed.
It has no controllers: a test plays them, through :meth:`ApiServer.change`; Jobs and pods are played by ``workloads.py``.
And it can be told to misbehave.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NoReturn
from urllib.parse import parse_qs, unquote

import uvicorn
import yaml

from tests.kubernetes import managed, protobuf
from tests.kubernetes.discovery import discovered, is_dry, kind_name
from tests.kubernetes.immutable import refuse_change
from tests.kubernetes.objects import Kept, Object, Objects, Refused, as_seen, merge, now, selected, status
from tests.kubernetes.patches import strategic

_CORE = (
    ("", "v1", "pods", True),
    ("", "v1", "events"),
    ("", "v1", "secrets"),
    ("", "v1", "configmaps"),
    ("batch", "v1", "jobs", True),
)
#: Groups of the server's own kinds, beside those.
_OWN_GROUPS = ("", "apps", "networking.k8s.io", "policy", "rbac.authorization.k8s.io")
APPLY = "application/apply-patch+yaml"
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass
class Fault:
    """What goes wrong.

    :param kind: ``status`` (answer with ``status``, and ``retry_after``), ``delay`` (``seconds``), ``truncate``, ``drop``
        (close without an answer), ``lose`` (act, then close without an answer), ``twice`` (each event of a watch
        twice), ``swallow`` (no event of a watch, and the version of its bookmarks goes on), ``stall`` (a watch stays open,
        and tells nothing any more).
    :param method: glob over the methods of the requests that are struck.
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
        self._own = [self.kinds[kind[:3]] for kind in _CORE]  # type: ignore[index]
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
        #: (namespace, pod) -> container -> its lines, and when each was written, in nanoseconds.
        self.container_logs: dict[tuple[str, str], dict[str, list[tuple[int, str]]]] = {}
        #: Namespaces that do not exist, and those that are being deleted.
        self.no_namespaces: set[str] = set()
        self.ending_namespaces: set[str] = set()
        #: Each is asked before something is created: ``(plural, object)``; it may raise :class:`Refused`, as a quota does.
        self.admission: list[Callable[[str, Object], None]] = []

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
        # The server reads a truth value in any of the ways that clients write one.
        query.update(
            {key: "true" for key in ("watch", "follow", "timestamps") if query.get(key) in ("True", "1")}
        )
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
            _cut(send)
        if fault and fault.kind == "status":
            extra = {"retry-after": fault.retry_after} if fault.retry_after else {}
            return await _send(send, fault.status, status(fault.status, "", "told to fail"), extra)
        try:
            if path.endswith("/log") and query.get("follow") == "true":
                return await self._follow(path, query, headers, send)
            if query.get("watch") == "true":
                return await self._watch(path, query, headers, receive, send)
            with self.lock:
                answer = self._answer(method, path, query, headers, body)
        except Refused as refused:
            answer = refused.code, refused.body
        if fault and fault.kind == "lose":
            _cut(send)
        await _send(send, *answer, truncate=bool(fault and fault.kind == "truncate"))

    def _strike(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fnmatchcase(method, fault.method) and fnmatchcase(path, fault.path):
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
            return 200, {"gitVersion": "v1.34.1", "major": "1", "minor": "34"}
        if path.endswith("/selfsubjectaccessreviews"):
            return 201, _review(json.loads(raw), allow)
        if method == "GET" and (said := discovered(self.kinds.values(), path)) is not None:
            return 200, said
        kind, namespace, name, sub = self._locate(path)
        verb = _VERBS.get(method) or ("get" if name else "list")
        target = f"{kind.plural}.{kind.group}".rstrip(".") + (f"/{sub}" if sub else "")
        if not allow(verb, target, namespace):
            raise Refused(403, "Forbidden", f"cannot {verb} resource {target!r} in namespace {namespace!r}")
        if kind.plural == "pods" and sub == "log":
            return self._log(namespace, name, query)
        if method == "GET":
            return 200, self._one(kind, namespace, name) if name else self._list(kind, namespace, query)
        content = headers.get("content-type", "")
        body = _body(method, content, raw)
        if method == "POST":
            body = _placed(body, namespace)
            body = managed.created(body, query.get("fieldManager", ""), "Update")
            return 201, self.tried(kind, body) if is_dry(query) else self.admit(kind, body)
        if content == APPLY:
            return self._apply(kind, namespace, name, body, query)
        found = self._one(kind, namespace, name)
        if method == "DELETE":
            options = {**query, **body}
            return 200, found if is_dry(options) else self._delete(kind, found, options)
        manager = query.get("fieldManager") or headers.get("user-agent", "").partition("/")[0]
        return 200, self._write(method, kind, found, body, sub, content, manager)

    def tried(self, kind: Kept, body: Object) -> Object:
        """Return what would be created, after the same questions."""
        self.ask(kind, body)
        return {**copy.deepcopy(body), "metadata": {**body["metadata"], "uid": str(uuid.uuid4())}}

    def _apply(
        self, kind: Kept, namespace: str, name: str, body: Object, query: dict[str, str]
    ) -> tuple[int, Object]:
        """Apply on the server; see ``managed.py``."""
        body, manager = _placed(copy.deepcopy(body), namespace), query.get("fieldManager", "")
        if not manager:
            raise Refused(400, "BadRequest", "fieldManager is required for apply patch")
        if "managedFields" in body["metadata"]:
            raise Refused(400, "BadRequest", "metadata.managedFields must be nil")
        if body["metadata"].setdefault("name", name) != name:
            raise Refused(400, "BadRequest", f"the name of the object is not {name!r}")
        managed.refuse_unknown(body)
        expected, uid = body["metadata"].pop("resourceVersion", ""), body["metadata"].pop("uid", "")
        found = kind.objects.get((namespace, name))
        # As on a real server, a version counts only for what is there, and a uid also for what is not.
        if expected and found is not None and found["metadata"]["resourceVersion"] != expected:
            raise Refused(409, "Conflict", "the object has been modified; please apply your changes to it")
        if uid and uid != (found or {"metadata": {}})["metadata"].get("uid"):
            said = f"the provided object specified uid {uid}, and no existing object was found"
            raise Refused(409, "Conflict", f"uid mismatch: {said}")
        if found is None:
            made = managed.created(body, manager)
            return 201, self.tried(kind, made) if is_dry(query) else self.admit(kind, made)
        after = managed.apply(found, body, manager, force=query.get("force") == "true")
        refuse_change(kind.plural, found, after)
        self.changing(kind, after)
        return 200, after if is_dry(query) else self.store(kind, found, after)

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

    def admit(self, kind: Kept, body: Object) -> Object:
        """Create an object as somebody who asks the server, and may be refused."""
        self.ask(kind, body)
        if kind.plural == "pods":
            body.setdefault("status", {"phase": "Pending"})
        if kind.plural == "jobs":
            uid = body["metadata"].setdefault("uid", str(uuid.uuid4()))
            body.setdefault("spec", {}).setdefault("selector", {"matchLabels": {"controller-uid": uid}})
        return self.insert(kind, body)

    def ask(self, kind: Kept, body: Object) -> None:
        """Refuse what may not be created."""
        namespace = str(body["metadata"].get("namespace") or "")
        if namespace in self.no_namespaces:
            raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
        if namespace in self.ending_namespaces:
            said = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise Refused(
                403, "Forbidden", f'{kind.plural} "{body["metadata"].get("name")}" is forbidden: {said}'
            )
        for asked in self.admission:
            asked(kind.plural, body)

    def changing(self, kind: Kept, body: Object) -> None:
        """Ask whoever is to be asked before a change."""
        for asked in self.admission:
            asked(kind.plural, body)

    def tell(self, about: Object, reason: str, message: str, kind: str = "Pod") -> None:
        """Write an event about an object."""
        metadata = about["metadata"]
        with self.lock:
            body = {
                "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
                "involvedObject": {
                    "kind": kind,
                    **{key: metadata[key] for key in ("name", "namespace", "uid")},
                },
                "reason": reason,
                "message": message,
                "type": "Warning",
                "lastTimestamp": now(),
            }
            self.insert(self.kinds["", "v1", "events"], body)

    # ---- logs --------------------------------------------------------------------------------------------------------

    def say(self, namespace: str, pod: str, container: str, line: str) -> None:
        """Let a container write a line."""
        with self.lock:
            lines = self.container_logs.setdefault((namespace, pod), {}).setdefault(container, [])
            lines.append((time.time_ns(), line))

    def container_logs_as_text(self) -> str:
        """Return all that any container wrote."""
        with self.lock:
            every = [lines for kept in self.container_logs.values() for lines in kept.values()]
            return "\n".join(line for lines in every for _, line in lines)

    def _lines(self, namespace: str, name: str, query: dict[str, str]) -> list[tuple[int, str]]:
        """Return the lines of a log that are asked for."""
        pod = self.kinds["", "v1", "pods"].objects.get((namespace, name))
        spec: Object = (pod or {}).get("spec") or {}
        containers = [str(one["name"]) for one in spec.get("containers") or ()]
        every = [*containers, *(str(one["name"]) for one in spec.get("initContainers") or ())]
        container = query.get("container") or (containers[0] if len(containers) == 1 else "")
        kept = self.container_logs.get((namespace, name), {})
        if pod is None:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        if not container or container not in every:
            said = (
                f"container {container} is not valid" if container else "a container name must be specified"
            )
            raise Refused(400, "BadRequest", f"{said} for pod {name}, choose one of: {every}")
        if container not in kept and (reason := _waiting(pod, container)):
            raise Refused(
                400, "BadRequest", f'container "{container}" in pod "{name}" is waiting to start: {reason}'
            )
        since = _nanoseconds(query["sinceTime"]) if "sinceTime" in query else 0
        return [line for line in kept.get(container, []) if line[0] >= since]

    def _log(self, namespace: str, name: str, query: dict[str, str]) -> tuple[int, Any]:
        text = self.pod_logs.get((namespace, name))
        if text is None:
            lines = [_logged(line, query) for line in self._lines(namespace, name, query)]
        else:
            lines = text.splitlines(keepends=True)
        first = max(0, len(lines) - int(query.get("tailLines", len(lines))))
        return 200, "".join(lines[first:]).encode()[: int(query.get("limitBytes", 1 << 30))].decode(
            "utf-8", "ignore"
        )

    async def _follow(self, path: str, query: dict[str, str], headers: dict[str, str], send: Any) -> None:
        """Send a log line by line until its container has ended."""
        _, namespace, name, _ = self._locate(path)
        if not self._allow(headers)("get", "pods/log", namespace):
            raise Refused(403, "Forbidden", f"cannot get resource 'pods/log' in namespace {namespace!r}")
        with self.lock:
            self._lines(namespace, name, query)
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
        )
        sent = 0
        while True:
            with self.lock:
                pod = self.read("pods", namespace, name)
                lines = [] if pod is None else self._lines(namespace, name, query)
                over = pod is None or _has_ended(pod, query.get("container", ""))
            if lines[sent:]:
                content = "".join(_logged(line, query) for line in lines[sent:]).encode()
                await send({"type": "http.response.body", "body": content, "more_body": True})
                sent = len(lines)
            if over:
                return await send({"type": "http.response.body", "body": b""})
            await asyncio.sleep(0.01)

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
        served = {
            "kind": f"{kind_name(kind.plural)}List",
            "apiVersion": f"{kind.group}/{kind.version}".lstrip("/"),
        }
        return {**served, "metadata": metadata, "items": wanted[first : first + limit]}

    def _delete(self, kind: Kept, found: Object, options: Object) -> Object:
        for field, wanted in (options.get("preconditions") or {}).items():
            if wanted and wanted != found["metadata"][field]:
                named = {"uid": "UID", "resourceVersion": "ResourceVersion"}[field]
                raise Refused(409, "Conflict", f"Precondition failed: {named} in precondition: {wanted}")
        after = copy.deepcopy(found)
        after["metadata"].setdefault("deletionTimestamp", now())
        # What a Job made stays where nobody says otherwise; all else goes with its owner.
        kept = "Orphan" if kind.plural == "jobs" else "Background"
        if options.get("propagationPolicy", kept) != "Orphan":
            for other in self.kinds.values():
                for item in [*other.objects.values()]:
                    owners = item["metadata"].get("ownerReferences") or ()
                    if any(owner["uid"] == found["metadata"]["uid"] for owner in owners):
                        self._delete(other, item, {})
        return self.store(kind, found, after)

    def _write(
        self, method: str, kind: Kept, found: Object, body: Object, sub: str, content: str, manager: str
    ) -> Object:
        if method == "PATCH":
            # Only the server's own kinds know of which fields a list is a map.
            own = kind in self._own or kind.group in _OWN_GROUPS
            if content == "application/strategic-merge-patch+json" and own:
                after = strategic(copy.deepcopy(found), body)
            elif content == "application/merge-patch+json":
                after = merge(copy.deepcopy(found), body)
            else:
                raise Refused(415, "UnsupportedMediaType", f"the body was in an unknown format: {content}")
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
        after = copy.deepcopy(after)
        refuse_change(kind.plural, found, after)
        managed.updated(found, after, manager)
        return self.store(kind, found, after)

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
        say = partial(self._say, send)
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

    async def _say(self, send: Any, event: str, item: Object) -> None:
        kinds = {fault.kind for fault in self.faults}
        if "stall" in kinds:
            # The connection is dead, and neither side knows.
            await asyncio.Event().wait()
        if "swallow" not in kinds or event == "BOOKMARK":
            line = json.dumps({"type": event, "object": item}).encode() + b"\n"
            await send(
                {"type": "http.response.body", "body": line * (1 + ("twice" in kinds)), "more_body": True}
            )


class _Cut(Exception):
    """Ends a response without its end: the connection is closed."""


def _cut(send: Any) -> NoReturn:
    """Close the connection without an answer; uvicorn alone would answer 500."""
    send.__self__.transport.abort()
    raise _Cut


@contextmanager
def serving(*kinds: tuple[Any, ...], **options: Any) -> Iterator[ApiServer]:
    """Run a server for the length of a ``with``."""
    server = ApiServer(*kinds, **options).start()
    try:
        yield server
    finally:
        server.stop()


def _waiting(pod: Object, container: str) -> str:
    """Return why a container has not begun; empty if it has."""
    statuses = pod.get("status") or {}
    for one in [*(statuses.get("containerStatuses") or ()), *(statuses.get("initContainerStatuses") or ())]:
        if one["name"] == container:
            return str(((one.get("state") or {}).get("waiting") or {}).get("reason") or "")
    return "PodInitializing"


def _has_ended(pod: Object, container: str) -> bool:
    status = pod.get("status") or {}
    statuses = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    ended = any("terminated" in one["state"] for one in statuses if not container or one["name"] == container)
    return ended or status.get("phase") in ("Succeeded", "Failed")


def _logged(line: tuple[int, str], query: dict[str, str]) -> str:
    if query.get("timestamps") != "true":
        return line[1] + "\n"
    seconds, rest = divmod(line[0], 10**9)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{moment}.{rest:09}Z {line[1]}\n"


def _nanoseconds(moment: str) -> int:
    """Read a moment as the server does: of ``sinceTime``, it takes the whole seconds."""
    found = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return int(found.timestamp()) * 10**9


def _body(method: str, content: str, raw: bytes) -> Any:
    """Read what was sent."""
    if content == protobuf.CONTENT_TYPE:
        return {} if method == "DELETE" else protobuf.secret(raw)
    return yaml.safe_load(raw) if content == APPLY else json.loads(raw or b"{}")


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
