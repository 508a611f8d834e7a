"""An endpoint that speaks as OpenAI does, over real HTTP: what it answers, what it counts, and how it goes wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

KEY = "sk-test-0123456789abcdef"

Body = dict[str, Any]
#: What can go wrong with one call: ``busy`` is 429, ``empty`` is 429 of an account without quota, ``down`` is 503, ``cut``
#: ends in the middle of the answer, ``page`` is HTML, ``twice`` sends the answer two times, ``silent`` says no usage.
Fault = Literal[
    "", "busy", "empty", "down", "cut", "page", "twice", "silent", "refused", "unknown", "endless"
]


@dataclass
class Model:
    """What is behind the endpoint.

    :param answers: a body -> the text of its answer; by default the last message, backwards.
    :param fault: number of the call, and its body -> what goes wrong with it.
    :param delay: number of the call, and its body -> seconds before it is answered.
    :param retry_after: of the answers that mean "busy".
    :param remembers: whether a question of a key that it has answered is answered again without charge.
    """

    answers: Callable[[Body], str] = lambda body: body["messages"][-1]["content"][::-1]
    fault: Callable[[int, Body], Fault] = lambda number, body: ""
    delay: Callable[[int, Body], float] = lambda number, body: 0.0
    retry_after: str = ""
    remembers: bool = False
    #: Bodies in the order in which they came, and digests of those whose answer was sent whole.
    asked: list[Body] = field(default_factory=list)
    paid: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    times: deque[float] = field(default_factory=deque)
    running: int = 0
    most_running: int = 0
    tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    answered: dict[str, bytes] = field(default_factory=dict)


def digest(body: Body) -> str:
    """Name a question."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _usage(body: Body, text: str) -> dict[str, int]:
    said = sum(len(one["content"].split()) for one in body.get("messages", ())) or len(
        str(body.get("input")).split()
    )
    return {
        "prompt_tokens": said,
        "completion_tokens": len(text.split()),
        "total_tokens": said + len(text.split()),
    }


def vector(text: str) -> list[float]:
    """Return a vector by which texts of the same words are near: their counts by a hash."""
    counts = [0.0] * 16
    for word in text.lower().split():
        counts[hashlib.sha256(word.encode()).digest()[0] % 16] += 1.0
    return counts


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = self.model
        with model.lock:
            number = len(model.asked)
            model.asked.append(body)
            model.times.append(time.monotonic())
            model.keys.add(self.headers.get("Authorization", ""))
            model.running += 1
            model.most_running = max(model.most_running, model.running)
        try:
            time.sleep(model.delay(number, body))
            with contextlib.suppress(OSError):
                self._answer(body, model.fault(number, body))
        finally:
            with model.lock:
                model.running -= 1

    def _answer(self, body: Body, fault: Fault) -> None:
        refusals: dict[str, tuple[int, str, str]] = {
            "busy": (429, "rate_limit_exceeded", "Too many requests"),
            "empty": (429, "insufficient_quota", "You exceeded your current quota"),
            "down": (503, "overloaded", f"overloaded; your key was {self.headers.get('Authorization')}"),
            "refused": (400, "context_length_exceeded", "the question is too long"),
            "unknown": (404, "model_not_found", "no such model"),
        }
        if self.headers.get("Authorization", "") not in ("", f"Bearer {KEY}"):
            refusals[fault := "refused"] = (401, "invalid_api_key", "wrong key")
        if fault in refusals:
            status, code, message = refusals[fault]
            wait = (
                {"Retry-After": self.model.retry_after} if fault == "busy" and self.model.retry_after else {}
            )
            self._send(status, json.dumps({"error": {"message": message, "code": code}}).encode(), wait)
            return
        if fault == "page":
            self._send(200, b"<html>Please log in</html>")
            return
        key = self.headers.get("Idempotency-Key", "")
        if self.model.remembers and key in self.model.answered:
            with self.model.lock:  # it may have been made for a client that was killed before it came
                self.model.paid[digest(body)] = self.model.paid[digest(body)] or 1
            self._send(200, self.model.answered[key])
            return
        content = self.model.answered[key] = self._content(body, fault)
        if fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        if fault == "endless":
            content = b'{"choices": "' + b"x" * (8 * 1024**2) + b'"}'
        self._send(200, content * (2 if fault == "twice" else 1))
        with self.model.lock:
            self.model.paid[digest(body)] += 1

    def _content(self, body: Body, fault: Fault) -> bytes:
        if self.path.endswith("/embeddings"):
            found: dict[str, Any] = {"data": [{"embedding": vector(str(body["input"]))}]}
            text = ""
        else:
            text = self.model.answers(body)
            found = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        usage = _usage(body, text)
        with self.model.lock:
            self.model.tokens += usage["total_tokens"]
        if fault != "silent":
            found["usage"] = usage
        return json.dumps({**found, "model": body["model"], "system_fingerprint": "fp_test"}).encode()

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed."""


@contextlib.contextmanager
def serving(model: Model) -> Iterator[str]:
    """Serve a model; yields the base URL."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": model}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
