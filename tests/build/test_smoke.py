from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.build import smoke
from airflow_pipeops.build.operators import SmokeTestOperator
from airflow_pipeops.exceptions import InvalidInput, Unreachable


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str | None]] = []
    stop = threading.Event()

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        if self.path == "/silent":
            self.stop.wait(30)
            return
        if self.path == "/headers":
            self._trickle(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 100)
            return
        status = {"/500": 500, "/moved": 302}.get(self.path, 200)
        if self.path == "/503-once":
            status = 503 if sum(path == self.path for path, _ in self.seen) == 1 else 200
        body = json.dumps({"status": "ok", "model": {"name": "m", "version": 3}}).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/healthz")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/trickle":
            self._trickle(body)
            return
        self.wfile.write(body)

    def _trickle(self, content: bytes) -> None:
        with contextlib.suppress(OSError):
            for byte in content:
                if self.stop.wait(0.1):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    Handler.seen.clear()
    Handler.stop.clear()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv(
        "AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": url, "password": "s3cret"})
    )
    yield url
    Handler.stop.set()
    httpd.shutdown()
    httpd.server_close()


def ask(context, *checks, **kwargs):
    kwargs = {"http_conn_id": "api", "request_timeout": timedelta(seconds=1), "attempts": 2, **kwargs}
    return SmokeTestOperator(task_id="smoke", checks=list(checks), **kwargs).execute(context)


def test_a_good_service_passes(context, server) -> None:
    result = ask(
        context,
        {"path": "/healthz"},
        {"path": "/info", "contains": '"ok"', "json": {"model": {"version": 3}}},
        {"path": "/500", "status": 500},
        {"path": "/503-once"},
    )
    assert result["url"] == server
    assert [(c["path"], c["status"]) for c in result["checks"]] == [
        ("/healthz", 200), ("/info", 200), ("/500", 500), ("/503-once", 200),
    ]  # fmt: skip
    assert {token for _, token in Handler.seen} == {"Bearer s3cret"}


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ({"path": "/500"}, "/500: status 500 instead of 200"),
        ({"path": "/moved"}, "status 302 instead of 200"),
        ({"path": "/x", "contains": "absent"}, "does not hold 'absent'"),
        ({"path": "/x", "json": {"model": {"version": 4}}}, r"\$.model.version is '3' instead of '4'"),
        ({"path": "/x", "json": {"ready": True}}, r"\$.ready is missing"),
    ],
)
def test_a_wrong_answer_fails_without_retry(context, server, check, says) -> None:
    with pytest.raises(AirflowFailException, match=f"GateFailed.*1 of 2 smoke tests.*{says}") as caught:
        ask(context, {"path": "/healthz"}, check)
    assert "s3cret" not in str(caught.value)
    assert len(Handler.seen) == 2


@pytest.mark.parametrize("path", ["/silent", "/trickle", "/headers"])
def test_a_late_answer_is_asked_for_again_and_worth_a_retry(context, server, path) -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable, match="no complete answer within 1 s"):
        ask(context, {"path": path})
    assert time.monotonic() - started < 15
    assert len(Handler.seen) == 2


def test_nobody_there_is_worth_a_retry(context, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": "http://127.0.0.1:9"}))
    with pytest.raises(Unreachable, match="no answer"):
        ask(context, {"path": "/"})


@pytest.mark.parametrize("host", ["", "ftp://x", "http://user:pw@x"])
def test_a_connection_without_base_url_says_so(context, monkeypatch, host) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": host}))
    with pytest.raises(AirflowFailException, match="no base URL") as caught:
        ask(context, {"path": "/"})
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "checks",
    [[], "x", None, [{}], [{"path": "x"}], [{"path": "//evil"}], [{"path": "/", "status": "200"}],
     [{"path": "/", "contains": 1}], [{"path": "/", "body": 1}]],
)  # fmt: skip
def test_checks_are_checked(checks) -> None:
    with pytest.raises(InvalidInput):
        smoke.read_checks(checks)
