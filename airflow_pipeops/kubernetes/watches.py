"""Watches of the Kubernetes API: one, and as many after one another as it takes."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from airflow_pipeops.base.documents import parsed
from airflow_pipeops.base.http import Http
from airflow_pipeops.base.retries import jittered
from airflow_pipeops.exceptions import BadResponse, Unreachable
from airflow_pipeops.kubernetes.errors import error_of_status
from airflow_pipeops.kubernetes.kinds import Kind, Listing, version_of

#: Seconds after which the server ends a watch itself ...
WATCH_SECONDS = 120
#: ... so this long without a byte is a dead connection.
WATCH_SILENCE = 150.0


class Watching(ABC):
    """The part of the client that watches."""

    _http: Http

    @abstractmethod
    async def find(self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = "") -> Listing:
        """Return all objects that are wanted."""

    async def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        seconds: int = WATCH_SECONDS,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Watch objects until the server ends the watch, bookmarks included.

        :param resource_version: tell what changed since; empty: first each object that there is, as ``ADDED``.
        :param seconds: after which the server is to end it.
        :yield: ``{"type": ..., "object": ...}``, as it happens.
        :raises Expired: if the server does not know that version any more: list again.
        :raises Unreachable: if the stream breaks.
        """
        about = f"the watch of {kind} in {namespace or 'all namespaces'}"
        params = {
            **selectors(labels, fields),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        if resource_version:
            params["resourceVersion"] = resource_version
        silence = max(1.0, seconds * WATCH_SILENCE / WATCH_SECONDS)
        stream = self._http.lines(kind.path(namespace), params=params, about=about, silence=silence)
        async with aclosing(stream) as lines:
            async for line in lines:
                if line.strip():
                    yield _event(line, about, self._http.url)

    async def follow(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Tell each object that there is as ``ADDED``, and then every change, over as many watches as that takes.

        There are no bookmarks among them. It has no end but an error.

        :param resource_version: leave out what there is, and begin with the changes since this version.
        :yield: ``{"type": ..., "object": ...}``, as it happens.
        :raises Unreachable: if the stream breaks, or history was lost. Whoever goes on calls this again, and forgets what
            it does not see again.
        """
        version = resource_version
        if not version:
            found = await self.find(kind, namespace, labels=labels, fields=fields)
            for item in found.items:
                yield {"type": "ADDED", "object": item}
            version = found.resource_version
        if not version:
            raise BadResponse(f"the list of {kind} names no resourceVersion to watch from")
        while True:
            # Not all at the same second: a server that restarts has sent everybody away at once.
            seconds = int(jittered(WATCH_SECONDS, 0.8))
            begun = time.monotonic()
            watch = self.watch(
                kind, namespace, resource_version=version, labels=labels, fields=fields, seconds=seconds
            )
            async with aclosing(watch) as events:
                async for event in events:
                    version = version_of(event["object"]) or version
                    if event["type"] != "BOOKMARK":
                        yield event
            if time.monotonic() - begun < 1:
                # A server, or a proxy before it, that ends every watch at once must not be asked in a tight loop.
                await asyncio.sleep(jittered(1.0, 0.5, 1.5))


def selectors(labels: str, fields: str) -> dict[str, str]:
    given = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in given.items() if value}


def _event(line: str, about: str, url: str) -> dict[str, Any]:
    """Read one line of a watch."""
    try:
        event = parsed(line)
    except ValueError as error:
        raise Unreachable(f"{about} from {url} was cut in the middle of a line") from error
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise BadResponse(f"{about} from {url} holds something that is no event")
    if event.get("type") == "ERROR":
        raise error_of_status(event["object"], about, url)
    return {"type": str(event.get("type")), "object": event["object"]}
