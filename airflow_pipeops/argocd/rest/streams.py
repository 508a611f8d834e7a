"""Streams of the REST API: lines of JSON, bare or as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from airflow_pipeops.argocd.clients.errors import error_of
from airflow_pipeops.base.http import Http
from airflow_pipeops.exceptions import Unreachable

#: The server sends a comment line every 15 s, so this long without a byte is a dead connection.
SILENCE = 45.0


class StreamCalls:
    """See :class:`~airflow_pipeops.argocd.clients.protocol.ArgoCD`, which documents each."""

    http: Http

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
        stream = self.http.lines(path, about=about, silence=SILENCE, params=params, headers=headers)
        async with aclosing(stream) as lines:
            async for line in lines:
                result = message_of(line, about, self.http.url)
                if result is not None and isinstance(result.get("application"), dict):
                    yield result
        raise Unreachable(f"{about} from {self.http.url} ended")


def message_of(line: str, about: str, url: str) -> dict[str, Any] | None:
    """Read one line, of the event form or the newline form.

    :return: its ``result``; ``None`` for a line that says nothing.
    :raises PipeOpsError: for an error, which arrives as a line of an answer with status 200.
    """
    text = line.removeprefix("data:").strip()
    if not text or text.startswith(":") or text.startswith("event:"):
        return None
    try:
        message = json.loads(text)
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
