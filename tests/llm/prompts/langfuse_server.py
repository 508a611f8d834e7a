"""A server that speaks Langfuse's published API of prompts, and can be told to misbehave."""

from __future__ import annotations

import base64
import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = "/api/public/v2/prompts"


class Langfuse:
    """What one project holds.

    :ivar versions: name -> its versions, the first first.
    :ivar faults: what goes wrong with the next calls: a status, ``lose`` (act, and answer nothing), ``page`` (no JSON), or
        something that is done once the call was acted on, and before nobody is answered.
    """

    def __init__(self) -> None:
        self.versions: dict[str, list[dict[str, Any]]] = {}
        self.faults: list[Any] = []
        self.calls: list[str] = []
        self.lock = threading.Lock()
        self.url = ""
        #: Somebody else who moves a label right after each of our moves: the version that it names then.
        self.rival = 0

    def get(self, name: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        version, label = query.get("version", [""])[0], query.get("label", ["production"])[0]
        for one in self.versions.get(name, []):
            if str(one["version"]) == version if version else label in one["labels"]:
                return 200, one
        return 404, {"message": "Prompt not found", "error": "LangfuseNotFoundError"}

    def listed(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        wanted = query.get("name", [""])[0]
        data = [
            {"name": name, "versions": [one["version"] for one in versions], "labels": [], "tags": []}
            for name, versions in self.versions.items()
            if not wanted or name == wanted
        ]
        return 200, {
            "data": data,
            "meta": {"page": 1, "limit": 100, "totalItems": len(data), "totalPages": 1},
        }

    def create(self, body: dict[str, Any]) -> tuple[int, Any]:
        if not isinstance(body.get("prompt"), list if body.get("type") == "chat" else str):
            return 400, {"message": "Invalid request data", "error": "InvalidRequestError"}
        of = self.versions.setdefault(body["name"], [])
        made = {**body, "version": len(of) + 1, "labels": [*body["labels"], "latest"]}
        if body["type"] == "chat":
            made["prompt"] = [{"type": "chatmessage", **one} for one in body["prompt"]]
        for one in of:
            one["labels"] = [label for label in one["labels"] if label not in made["labels"]]
        of.append(made)
        return 201, made

    def label(self, name: str, version: str, body: dict[str, Any]) -> tuple[int, Any]:
        new = body["newLabels"]
        found = [one for one in self.versions.get(name, []) if str(one["version"]) == version]
        if not found or "latest" in new:
            return 400, {"message": "no such version, or a reserved label", "error": "InvalidRequestError"}
        self.move(name, int(version), *new)
        if self.rival:
            self.move(name, self.rival, *new)
        return 200, found[0]

    def move(self, name: str, version: int, *labels: str) -> None:
        """Let labels name a version."""
        for one in self.versions[name]:
            kept = [label for label in one["labels"] if label not in labels]
            one["labels"] = [*kept, *labels] if one["version"] == version else kept

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        parts = [unquote(part) for part in path.removeprefix(API).split("/")[1:]]
        with self.lock:
            if method == "POST" and not parts:
                return copy.deepcopy(self.create(body))
            if method == "GET" and not parts:
                return self.listed(query)
            if method == "GET" and len(parts) == 1:
                return copy.deepcopy(self.get(parts[0], query))
            if method == "PATCH" and len(parts) == 3 and parts[1] == "versions":
                return copy.deepcopy(self.label(parts[0], parts[2], body))
        return 404, None


@contextmanager
def serving(key: str = "pk-lf-1", secret: str = "sk-lf-0123456789abcdefghij") -> Iterator[Langfuse]:
    """Serve a project.

    :yield: it, with its ``url``.
    """
    project = Langfuse()
    wanted = "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def handle_call(self) -> None:
            url = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            project.calls.append(f"{self.command} {url.path.removeprefix(API)}")
            if self.headers.get("Authorization") != wanted:
                self.reply(401, {"message": f"Invalid credentials {self.headers.get('Authorization')}"})
                return
            fault = project.faults.pop(0) if project.faults else None
            if isinstance(fault, int):
                self.reply(fault, {"message": "not now"})
                return
            status, answer = project.answer(
                self.command, url.path, parse_qs(url.query), json.loads(content or b"null")
            )
            if fault == "lose" or callable(fault):
                if callable(fault):
                    fault()
                self.close_connection = True
                return
            self.reply(status, "<html>" if fault == "page" or answer is None else answer)

        def reply(self, status: int, answer: Any) -> None:
            content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = handle_call

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        project.url = f"http://127.0.0.1:{server.server_port}"
        yield project
        server.shutdown()
