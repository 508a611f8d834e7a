"""Counts what was asked of the server, by who asks and what: a client's storm should show as a number."""

from __future__ import annotations

from collections import Counter
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

#: What requests are counted as.
KINDS = ("streams", "refreshes", "reads", "lists", "writes", "others")
_APPLICATIONS = "/api/v1/applications"


class Requests:
    """The counts so far."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._open: Counter[str] = Counter()

    def began(self, agent: str, kind: str) -> None:
        """Count a request."""
        self._counts[agent, kind] += 1
        self._open[kind] += 1

    def ended(self, kind: str) -> None:
        """The answer is out."""
        self._open[kind] -= 1

    def describe(self, agent: str = "") -> dict[str, int]:
        """Return the counts by kind, ``all`` of them, and how many streams are ``open``.

        :param agent: count only what clients asked whose ``User-Agent`` begins so.
        :return: kind -> count.
        """
        found = dict.fromkeys(KINDS, 0)
        for (who, kind), count in self._counts.items():
            if who.startswith(agent):
                found[kind] += count
        return {**found, "all": sum(found.values()), "open": self._open["streams"]}


class CountingMiddleware:
    """Counts requests to ``/api/``, those included that a fault strikes.

    :param app: the ASGI application inside.
    :param requests: where they are counted.
    """

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
        kind = kind_of(scope["method"], scope["path"], scope.get("query_string", b"").decode("latin-1"))
        self._requests.began(agent.decode("latin-1"), kind)
        try:
            await self._app(scope, receive, send)
        finally:
            self._requests.ended(kind)


def kind_of(method: str, path: str, query: str) -> str:
    """Return which of :data:`KINDS` a request is."""
    if "/stream/" in path:
        return "streams"
    if method not in ("GET", "HEAD"):
        return "writes"
    if path == _APPLICATIONS:
        return "lists"
    if path.startswith(_APPLICATIONS + "/") and path.count("/") == _APPLICATIONS.count("/") + 1:
        return "refreshes" if parse_qs(query).get("refresh") else "reads"
    return "others"
