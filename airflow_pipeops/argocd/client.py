"""Asynchronous client of the Argo CD REST API: only what PipeOps needs, with typed errors and bounded retries.

Reads are tried again on a connection error, 429 and 5xx, with growing pauses and jitter. Writes are tried again only
where the server cannot have seen them (connection refused, 429); the caller looks up what became of the rest. A 401 or
403 is never tried again: clients that do so have taken servers down.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_pipeops.argocd.errors import error_of
from airflow_pipeops.exceptions import BadResponse, InvalidInput, PipeOpsError, Unreachable

if TYPE_CHECKING:
    import httpx

#: The server sends a comment line every 15 s, so this long without a byte is a dead connection.
STREAM_SILENCE = 45.0
_WATCH_LINE_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class AppRef:
    """Which application is meant.

    :param name: its name.
    :param project: its project; sent whenever it is known, since the server answers 403 and not 404 without it.
    :param namespace: its namespace, where that is not Argo CD's own.
    """

    name: str
    project: str = ""
    namespace: str = ""

    def query(self) -> dict[str, str]:
        """Return the query parameters that go with every call."""
        return {
            key: value
            for key, value in (("project", self.project), ("appNamespace", self.namespace))
            if value
        }

    def path(self, *more: str) -> str:
        """Return the path of the application, or of something below it."""
        return "/".join(("/api/v1/applications", quote(self.name, safe=""), *more))

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{name} (project {self.project})" if self.project else name


class ArgoCDClient:
    """One server. Use it as ``async with``.

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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidInput(
                f"{parts.scheme}://{parts.hostname or ''} is no base URL of an Argo CD server",
                field="host",
                remedy="Give it as https://argocd.example.com, with the path of the server if it has one.",
            )
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._token = token
        self._verify: bool | str = (ca_file or True) if verify_tls else False
        self._attempts, self._pause = max(1, attempts), pause
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> ArgoCDClient:
        import httpx

        headers = {"Accept": "application/json", "User-Agent": "airflow-pipeops"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._http = httpx.AsyncClient(
            headers=headers, verify=self._tls(), timeout=self.timeout, follow_redirects=False
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def _tls(self) -> Any:
        if not isinstance(self._verify, str):
            return self._verify
        import ssl

        try:
            return ssl.create_default_context(cafile=self._verify)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"the CA file {self._verify!r} cannot be read: {error}",
                field="ca_file",
                value=self._verify,
                remedy="Give the path of a PEM file that exists where the task and the triggerer run.",
            ) from error

    # ---- applications ------------------------------------------------------------------------------------------------

    async def get(self, app: AppRef) -> dict[str, Any]:
        """Return an Application as it is known now."""
        return await self._object("GET", app.path(), params=app.query(), about=f"application {app}")

    async def refresh(
        self, app: AppRef, *, hard: bool = False, timeout: float = 10.0
    ) -> dict[str, Any] | None:
        """Ask the controller to compare again, and return the Application once it has.

        :param hard: also drop the cache of rendered manifests; expensive.
        :param timeout: seconds; the server itself sets no end to this call.
        :return: ``None`` where it was asked for and not acknowledged in time: look again later.
        """
        params = {**app.query(), "refresh": "hard" if hard else "normal"}
        try:
            return await self._object(
                "GET", app.path(), params=params, about=f"application {app}", attempts=1, timeout=timeout
            )
        except Unreachable:
            return None

    async def applications(
        self, *, project: str = "", selector: str = "", name: str = ""
    ) -> list[dict[str, Any]]:
        """Return the Applications of a project, or with a label selector, or of a name. Good for names, not for verdicts."""
        given = {"projects": project, "selector": selector, "name": name}
        answer = await self._object(
            "GET",
            "/api/v1/applications",
            params={k: v for k, v in given.items() if v},
            about="the list of applications",
        )
        items = answer.get("items") or []
        if not isinstance(items, list):
            raise BadResponse("the list of applications is no list")
        return [item for item in items if isinstance(item, dict)]

    async def create(self, application: Mapping[str, Any], *, upsert: bool = False) -> dict[str, Any]:
        """Create an Application; with ``upsert`` also change the spec of one that exists."""
        params = {"upsert": "true"} if upsert else {}
        return await self._object(
            "POST", "/api/v1/applications", params=params, json=dict(application), about="the application"
        )

    async def update(self, application: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an Application; its resourceVersion must be the current one."""
        name = str(application.get("metadata", {}).get("name", ""))
        return await self._object(
            "PUT", AppRef(name).path(), json=dict(application), about=f"application {name}"
        )

    async def delete(self, app: AppRef, *, cascade: bool = True) -> None:
        """Delete an Application, and with ``cascade`` what it manages."""
        params = {**app.query(), "cascade": str(cascade).lower()}
        await self._object("DELETE", app.path(), params=params, about=f"application {app}")

    async def sync(self, app: AppRef, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a synchronisation.

        :param body: the request's fields besides name, project and namespace.
        :raises Conflict: if another operation is in progress.
        :raises SyncFailed: if the server will not do it (sync window, auto-sync and another revision).
        """
        return await self._object(
            "POST", app.path("sync"), json=self._body(app, body), about=f"application {app}"
        )

    async def terminate(self, app: AppRef) -> None:
        """Stop the operation in progress."""
        await self._object("DELETE", app.path("operation"), params=app.query(), about=f"application {app}")

    async def rollback(self, app: AppRef, history_id: int, *, prune: bool = False) -> dict[str, Any]:
        """Go back to an entry of the history; refused while auto-sync is on."""
        body = self._body(app, {"id": history_id, "prune": prune})
        return await self._object("POST", app.path("rollback"), json=body, about=f"application {app}")

    async def resource_tree(self, app: AppRef) -> dict[str, Any]:
        """Return the objects below an application, with health and images."""
        return await self._object(
            "GET", app.path("resource-tree"), params=app.query(), about=f"application {app}"
        )

    async def managed_resources(self, app: AppRef) -> list[dict[str, Any]]:
        """Return desired and live state of each managed object, secrets masked."""
        answer = await self._object(
            "GET", app.path("managed-resources"), params=app.query(), about=f"application {app}"
        )
        items = answer.get("items") or []
        if not isinstance(items, list):
            raise BadResponse(f"the managed resources of {app} are no list")
        return [item for item in items if isinstance(item, dict)]

    async def revision_metadata(
        self, app: AppRef, revision: str, *, source: int | None = None
    ) -> dict[str, Any]:
        """Return author, date and message of a revision."""
        params = {**app.query(), **({"sourceIndex": str(source)} if source is not None else {})}
        path = app.path("revisions", quote(revision, safe=""), "metadata")
        return await self._object("GET", path, params=params, about=f"revision {revision} of {app}")

    # ---- the server itself -------------------------------------------------------------------------------------------

    async def version(self) -> str:
        """Return the server's version; needs no token."""
        answer = await self._object("GET", "/api/version", about="the server's version")
        return str(answer.get("Version") or "unknown")

    async def userinfo(self) -> dict[str, Any]:
        """Return who the token stands for."""
        return await self._object("GET", "/api/v1/session/userinfo", about="the user of the token")

    async def can_i(
        self, action: str, *, project: str = "*", app: str = "*", resource: str = "applications"
    ) -> bool:
        """Whether the token has a permission."""
        path = f"/api/v1/account/can-i/{resource}/{action}/{quote(project, safe='*')}/{quote(app, safe='*')}"
        answer = await self._object("GET", path, about="a permission")
        return answer.get("value") == "yes"

    async def watch(
        self,
        *,
        name: str = "",
        project: str = "",
        selector: str = "",
        namespace: str = "",
        resource_version: str = "",
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield ``{"type": ..., "application": ...}`` as they happen.

        The server drops events without a word when it is behind: whoever relies on this must also read again now and then.

        :raises Unreachable: when the stream ends, or nothing at all arrives for 45 seconds.
        """
        import httpx

        given = {
            "name": name,
            "projects": project,
            "selector": selector,
            "appNamespace": namespace,
            "resourceVersion": resource_version,
        }
        limits = httpx.Timeout(self.timeout, read=STREAM_SILENCE)
        path, params = "/api/v1/stream/applications", {key: value for key, value in given.items() if value}
        try:
            async with self._client().stream(
                "GET", self.url + path, params=params, headers={"Accept": "text/event-stream"}, timeout=limits
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise error_of(
                        response.status_code, response.content, "the stream of applications", self.url
                    )
                async for line in response.aiter_lines():
                    event = _event(line, self.url)
                    if event is not None:
                        yield event
        except httpx.InvalidURL as error:
            raise InvalidInput(f"{self.url} is no usable URL: {error}", field="host") from error
        except httpx.HTTPError as error:
            raise Unreachable(f"the stream of applications from {self.url} broke: {_words(error)}") from error
        raise Unreachable(f"the stream of applications from {self.url} ended")

    # ---- plumbing ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _body(app: AppRef, body: Mapping[str, Any]) -> dict[str, Any]:
        given = {"name": app.name, "project": app.project, "appNamespace": app.namespace}
        return {**body, **{key: value for key, value in given.items() if value}}

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            raise RuntimeError("use ArgoCDClient as 'async with'")
        return self._http

    async def _object(
        self, method: str, path: str, *, about: str, attempts: int | None = None, **request: Any
    ) -> dict[str, Any]:
        """Make a call, and return the JSON object that it answers."""
        tries = self._attempts if attempts is None else attempts
        for attempt in range(1, tries + 1):
            try:
                return await self._once(method, path, about, request)
            except _Unsent as error:
                if attempt == tries:
                    raise error.cause from error.cause.__cause__
            except (Unreachable, BadResponse):
                if attempt == tries or method != "GET":
                    raise
            await asyncio.sleep(self._pause * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    async def _once(self, method: str, path: str, about: str, request: Mapping[str, Any]) -> dict[str, Any]:
        import httpx

        # JSON is demanded of every write: the server answers 415 to all else, as a guard against forged requests.
        headers = {} if method == "GET" else {"Content-Type": "application/json"}
        try:
            response = await self._client().request(method, self.url + path, headers=headers, **request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Unsent(
                Unreachable(f"{self.url} does not answer: {_words(error)}", remedy="Is the server up?")
            ) from error
        except httpx.InvalidURL as error:
            raise InvalidInput(f"{self.url} is no usable URL: {error}", field="host") from error
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url} gave no whole answer about {about}: {_words(error)}") from error
        if response.status_code == 429:
            raise _Unsent(Unreachable(f"{self.url} has too much to do (429)"))
        if response.status_code != 200:
            raise error_of(response.status_code, response.content, about, self.url)
        try:
            answer = json.loads(response.content or b"{}")
        except ValueError as error:
            raise BadResponse(f"{self.url} answered about {about} with something that is no JSON") from error
        if not isinstance(answer, dict):
            raise BadResponse(f"{self.url} answered about {about} with no JSON object")
        return answer


class _Unsent(Exception):
    """The server cannot have acted: even a write may be tried again."""

    def __init__(self, cause: PipeOpsError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _event(line: str, url: str) -> dict[str, Any] | None:
    """Read one line of the stream, of its event form or its newline form."""
    text = line.removeprefix("data:").strip()
    if not text or text.startswith(":") or len(text) > _WATCH_LINE_LIMIT:
        return None
    try:
        message = json.loads(text)
    except ValueError as error:
        raise Unreachable(f"the stream of applications from {url} was cut in the middle of a line") from error
    if not isinstance(message, dict):
        return None
    if isinstance(message.get("error"), dict):
        problem = message["error"]
        code = problem.get("http_code")
        raise error_of(
            code if isinstance(code, int) else 500,
            json.dumps(problem).encode(),
            "the stream of applications",
            url,
        )
    result = message.get("result")
    return result if isinstance(result, dict) and isinstance(result.get("application"), dict) else None
