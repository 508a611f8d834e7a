"""Asynchronous client of the Argo CD REST API: only what PipeOps needs, with typed errors and bounded retries.

What is tried again, and when, is said in :mod:`airflow_pipeops.base.http`. Streams are lines of JSON, bare or as server-sent
events.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_pipeops.argocd.clients.errors import error_of
from airflow_pipeops.argocd.clients.protocol import AppRef, Resource, Trial
from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.base.deadlines import within
from airflow_pipeops.base.documents import parsed
from airflow_pipeops.base.http import MANY, Http, base_url, bearer, tls_context
from airflow_pipeops.exceptions import BadResponse, Unreachable
from airflow_pipeops.kubernetes.kinds import event_time

if TYPE_CHECKING:
    import httpx

__all__ = ["AppRef", "ArgoCDClient"]

_ALL = "/api/v1/applications"
#: The server sends a comment line every 15 s, so this long without a byte is a dead connection.
_SILENCE = 45.0
#: No longer line of a log is of use in a message.
_LONGEST_LINE = 2000
#: (resource, action) -> what the permission is needed for.
_PERMISSIONS = {
    ("applications", "get"): "to wait and to watch",
    ("applications", "sync"): "for ArgoCDSyncOperator",
}
_OPTIONAL = {
    ("applications", "override"): "to synchronise to a commit, where the server demands it for that",
    ("logs", "get"): "for log lines in failure messages",
}


class ArgoCDClient:
    """One server. Use it as ``async with``.

    Its calls are those of :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each.

    :param url: base URL, with the path that the server is served under, if any.
    :param token: bearer token; empty for none.
    :param verify_tls: check the server's certificate.
    :param ca_file: PEM file of the authority that signed it.
    :param timeout: seconds for one call.
    :param attempts: how often a call is tried at most.
    :param pause: seconds before the second attempt; it doubles from there, with jitter.
    :raises InvalidInput: for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        verify_tls: bool = True,
        ca_file: str = "",
        timeout: float = 20.0,
        attempts: int = 4,
        pause: float = 0.5,
    ) -> None:
        self.url = base_url(url, field="host", of="an Argo CD server")
        self.timeout = timeout
        self.http = Http(self.url, self._opened, error_of, timeout=timeout, attempts=attempts, pause=pause)
        self._token = token
        self._verify: bool | str = (ca_file or True) if verify_tls else False
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> ArgoCDClient:
        import httpx

        headers = {"Accept": "application/json", "User-Agent": "airflow-pipeops", **bearer(self._token)}
        self._client = httpx.AsyncClient(
            headers=headers, verify=self._tls(), timeout=self.timeout, follow_redirects=False
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            raise RuntimeError("use ArgoCDClient as 'async with'")
        return self._client

    def _tls(self) -> Any:
        return tls_context(self._verify) if isinstance(self._verify, str) else authorities(self._verify)

    async def get(self, app: AppRef) -> dict[str, Any]:
        """Return an Application as it is known now."""
        return await self.http.object("GET", app.path(), params=app.query(), about=f"application {app}")

    async def refresh(
        self, app: AppRef, *, hard: bool = False, timeout: float = 10.0
    ) -> dict[str, Any] | None:
        """Ask the controller to compare again, and return the Application once it has.

        :param timeout: seconds; the server itself sets no end to this call.
        :return: the Application; ``None`` where that was not acknowledged in time.
        """
        params = {**app.query(), "refresh": "hard" if hard else "normal"}
        about = f"application {app}"
        try:
            return await self.http.object(
                "GET", app.path(), params=params, about=about, attempts=1, timeout=timeout
            )
        except Unreachable:
            return None

    async def applications(
        self, *, project: str = "", selector: str = "", name: str = ""
    ) -> list[dict[str, Any]]:
        """Return the Applications of a project, or with a label selector, or of a name. Good for names, not for verdicts."""
        given = {"projects": project, "selector": selector, "name": name}
        params = {key: value for key, value in given.items() if value}
        about = "the list of applications"
        answer = await self.http.object("GET", _ALL, params=params, about=about, most=MANY)
        return _items_of(answer, about)

    async def create(self, application: Mapping[str, Any], *, upsert: bool = False) -> dict[str, Any]:
        """Create an Application; with ``upsert`` also change the spec of one that exists."""
        params = {"upsert": "true"} if upsert else {}
        return await self.http.object(
            "POST", _ALL, params=params, json=dict(application), about="the application"
        )

    async def update(self, application: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an Application; its resourceVersion must be the current one."""
        name = str(application.get("metadata", {}).get("name", ""))
        about = f"application {name}"
        return await self.http.object("PUT", AppRef(name).path(), json=dict(application), about=about)

    async def set_spec(self, app: AppRef, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the whole spec of an Application, and return that spec."""
        return await self.http.object(
            "PUT", app.path("spec"), params=app.query(), json=dict(spec), about=f"application {app}"
        )

    async def patch(self, app: AppRef, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a patch into an Application (JSON merge patch)."""
        body = _named(app, {"patch": json.dumps(dict(patch)), "patchType": "merge"})
        return await self.http.object("PATCH", app.path(), json=body, about=f"application {app}")

    async def delete(self, app: AppRef, *, cascade: bool = True) -> None:
        """Delete an Application, and with ``cascade`` what it manages."""
        params = {**app.query(), "cascade": str(cascade).lower()}
        await self.http.object("DELETE", app.path(), params=params, about=f"application {app}")

    async def sync(self, app: AppRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a synchronisation.

        :param body: the request's fields besides name, project and namespace.
        :return: the Application, with its new operation.
        """
        return await self.http.object(
            "POST", app.path("sync"), json=_named(app, body), about=f"application {app}"
        )

    async def terminate(self, app: AppRef) -> None:
        """Stop the operation in progress."""
        await self.http.object(
            "DELETE", app.path("operation"), params=app.query(), about=f"application {app}"
        )

    async def rollback(self, app: AppRef, history_id: int, *, prune: bool = False) -> dict[str, Any]:
        """Go back to an entry of the history; refused while auto-sync is on."""
        body = _named(app, {"id": history_id, "prune": prune})
        return await self.http.object("POST", app.path("rollback"), json=body, about=f"application {app}")

    async def resource_tree(self, app: AppRef) -> dict[str, Any]:
        """Return the objects below an application, with health and images."""
        return await self.http.object(
            "GET", app.path("resource-tree"), params=app.query(), about=f"application {app}", most=MANY
        )

    async def managed_resources(self, app: AppRef) -> list[dict[str, Any]]:
        """Return desired and live state of each managed object, secrets masked."""
        answer = await self.http.object(
            "GET", app.path("managed-resources"), params=app.query(), about=f"application {app}", most=MANY
        )
        return _items_of(answer, f"the managed resources of {app}")

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
        answer = await self.http.object("GET", app.path("manifests"), params=params, about=about, most=MANY)
        found = []
        for text in answer.get("manifests") or []:
            try:
                manifest = parsed(text)
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
        answer = await self.http.object("GET", app.path("events"), params=params, about=about, most=MANY)
        return sorted(_items_of(answer, about), key=event_time)

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
        refused = ""
        headers = {"Accept": "text/event-stream"}
        stream = self.http.lines(path, about=about, silence=_SILENCE, params=params, headers=headers)
        async with aclosing(stream) as lines:
            async for line in lines:
                entry = _message_of(line, about, self.http.url)
                if entry is not None and entry.get("last"):
                    break
                if entry is not None and entry.get("podName") == "" and entry.get("timeStamp", "") is None:
                    # Why a pod's log cannot be had comes as if the pod had said it.
                    refused = str(entry.get("content") or "")[:_LONGEST_LINE]
                elif entry is not None:
                    kept.append(str(entry.get("content") or "")[:_LONGEST_LINE])
        if refused and not kept:
            raise Unreachable(f"{about} cannot be had: {refused}")
        return list(kept)

    async def version(self) -> str:
        """Return the server's version; needs no token."""
        answer = await self.http.object("GET", "/api/version", about="the server's version")
        return str(answer.get("Version") or "unknown")

    async def userinfo(self) -> dict[str, Any]:
        """Return who the token stands for."""
        return await self.http.object("GET", "/api/v1/session/userinfo", about="the user of the token")

    async def can_i(
        self, action: str, *, project: str = "*", app: str = "*", resource: str = "applications"
    ) -> bool:
        """Whether the token has a permission."""
        target = f"{quote(project, safe='*')}/{quote(app, safe='*')}"
        path = f"/api/v1/account/can-i/{resource}/{action}/{target}"
        answer = await self.http.object("GET", path, about="a permission")
        return answer.get("value") == "yes"

    async def trial(self, project: str = "*") -> Trial:
        """Reach the server, ask who the token is, and which of the permissions it has."""
        version = await self.version()
        who = await self.userinfo()
        if not who.get("loggedIn"):
            return Trial(f"Argo CD {version} answers", accepted=False, usable=False)
        lacking, optional = (
            await self._lacking(_PERMISSIONS, project),
            await self._lacking(_OPTIONAL, project),
        )
        return Trial(
            f"Argo CD {version}, logged in as {who.get('username') or 'somebody'}",
            lacking=tuple(f"'{key[0]}, {key[1]}' on {project}/* ({_PERMISSIONS[key]})" for key in lacking),
            optional=tuple(f"'{key[0]}, {key[1]}' on {project}/* ({_OPTIONAL[key]})" for key in optional),
            usable=("applications", "get") not in lacking,
        )

    async def _lacking(self, wanted: Iterable[tuple[str, str]], project: str) -> list[tuple[str, str]]:
        return [key for key in wanted if not await self.can_i(key[1], project=project, resource=key[0])]

    async def application_set(self, name: str, *, namespace: str = "") -> dict[str, Any]:
        """Return an ApplicationSet."""
        params = {"appsetNamespace": namespace} if namespace else {}
        path = f"/api/v1/applicationsets/{quote(name, safe='')}"
        return await self.http.object("GET", path, params=params, about=f"application set {name}")

    async def watch(
        self,
        *,
        name: str = "",
        project: str = "",
        selector: str = "",
        namespace: str = "",
        resource_version: str = "",
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield ``{"type": ..., "application": ...}`` as they happen.

        The server drops events without a word when it is behind: whoever relies on this must also read again now and then.

        :yield: the events.
        :raises Unreachable: when the stream ends, or nothing at all arrives for 45 seconds.
        """
        given = {
            "name": name,
            "projects": project,
            "selector": selector,
            "appNamespace": namespace,
            "resourceVersion": resource_version,
        }
        params = {key: value for key, value in given.items() if value}
        about, headers = "the stream of applications", {"Accept": "text/event-stream"}
        path = "/api/v1/stream/applications"
        stream = self.http.lines(path, about=about, silence=_SILENCE, params=params, headers=headers)
        async with aclosing(stream) as lines:
            async for line in lines:
                result = _message_of(line, about, self.http.url)
                if result is not None and isinstance(result.get("application"), dict):
                    yield result
        raise Unreachable(f"{about} from {self.http.url} ended")


def _named(app: AppRef, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's body with the application that it is about."""
    given = {"name": app.name, "project": app.project, "appNamespace": app.namespace}
    return {**body, **{key: value for key, value in given.items() if value}}


def _items_of(answer: Mapping[str, Any], about: str) -> list[dict[str, Any]]:
    """Return the items of a list."""
    items = answer.get("items") or []
    if not isinstance(items, list):
        raise BadResponse(f"{about} is no list")
    return [item for item in items if isinstance(item, dict)]


def _message_of(line: str, about: str, url: str) -> dict[str, Any] | None:
    """Read one line, of the event form or the newline form.

    :return: its ``result``; ``None`` for a line that says nothing.
    :raises PipeOpsError: for an error, which arrives as a line of an answer with status 200.
    """
    text = line.removeprefix("data:").strip()
    if not text or text.startswith(":") or text.startswith("event:"):
        return None
    try:
        message = parsed(text)
    except ValueError as error:
        raise Unreachable(f"{about} from {url} was cut in the middle of a line") from error
    if not isinstance(message, dict):
        return None
    if isinstance(message.get("error"), dict):
        problem = message["error"]
        code = problem.get("http_code")
        status = code if isinstance(code, int) and code != 200 else 0
        raise error_of(status, json.dumps(problem).encode(), about, url)
    result = message.get("result")
    return result if isinstance(result, dict) else None
