"""A file of a web server: what comes has the digest that is wanted, or nothing comes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_pipeops.base.downloads import fetched
from airflow_pipeops.base.http import tls_context
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, PipeOpsError, Unreachable
from tests.base.test_http import _signed, endless, send, serving

CONTENT = b"kind: ConfigMap\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def get(url: str, sha256: str = SHA256, **options: Any) -> bytes:
    return fetched(url, sha256, **{"field": "uri", "most": 1000, "seconds": 30.0, **options})


def test_a_file_is_read_by_way_of_what_it_is_redirected_to() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/old":
            send(handler, 302, b"", Location="/new")
        else:
            send(handler, 200, CONTENT)

    with serving(answer) as url:
        assert get(f"{url}/old") == get(f"{url}/new", f"sha256:{SHA256.upper()}") == CONTENT


@pytest.mark.parametrize("sha256", ["", "sha256:", "abc", "g" * 64])
def test_without_a_digest_nobody_is_asked(sha256: str) -> None:
    asked: list[str] = []
    with (
        serving(lambda handler: asked.append(handler.path)) as url,
        pytest.raises(InvalidInput, match="no SHA-256 says what it is to be"),
    ):
        get(f"{url}/x", sha256)
    assert not asked


@pytest.mark.parametrize("url", ["http://ada:secret@host/x", "https:///x", "http://[::1/x"])
def test_what_is_no_url_of_a_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        get(url)


@pytest.mark.parametrize(
    ("status", "content", "error", "told"),
    [
        (200, b"another", InvalidInput, f"{SHA256} is wanted"),
        (200, b"x" * 1001, InvalidInput, "longer than 1,000 bytes"),
        (404, b"", NotFound, "nothing at"),
        (403, b"", AccessDenied, "may not be read"),
        (302, b"", PipeOpsError, "redirects"),
        (503, b"", Unreachable, "HTTP 503"),
    ],
)
def test_what_is_wrong_is_told(
    status: int, content: bytes, error: type[PipeOpsError], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_pipeops.base.retries.pause", lambda attempt: 0.0)
    more = {"Location": "/again"} if status == 302 else {}
    with (
        serving(lambda handler: send(handler, status, content, **more)) as url,
        pytest.raises(error, match=told),
    ):
        get(f"{url}/x")


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_pipeops.base.retries.pause", lambda attempt: 0.0)
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        send(handler, 429 if len(asked) < 3 else 200, CONTENT)

    with serving(answer) as url:
        assert get(f"{url}/x") == CONTENT
    assert len(asked) == 3


@pytest.mark.parametrize(("asked", "slept"), [("2", [2.0]), ("3600", [])])
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks_or_to_a_later_attempt(
    asked: str, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("airflow_pipeops.base.retries.pause", lambda attempt: 0.0)
    monkeypatch.setattr("airflow_pipeops.base.retries.time", SimpleNamespace(sleep=pauses.append))
    left: list[tuple[int, bytes, dict[str, str]]] = [(429, b"", {"Retry-After": asked}), (200, CONTENT, {})]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        status, content, headers = left.pop(0)
        send(handler, status, content, **headers)

    with serving(answer) as url, nullcontext() if slept else pytest.raises(Unreachable, match="HTTP 429"):
        assert get(f"{url}/x") == CONTENT
    assert pauses == slept


def test_an_endless_file_ends() -> None:
    with serving(endless) as url, pytest.raises(InvalidInput, match="longer than") as said:
        get(f"{url}/x", field="chart")
    assert said.value.field == "chart"


def test_a_file_that_trickles_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_pipeops.base.retries.pause", lambda attempt: 0.0)
    with trickling() as (url, gone), pytest.raises(Unreachable, match="no whole answer"):
        get(f"{url}/x", seconds=0.5)
    assert gone.wait(60)


def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    path = _signed(tmp_path, "IP:127.0.0.1")
    with serving(lambda handler: send(handler, 200, CONTENT), path) as url:
        with pytest.raises(AccessDenied, match="not trusted"):
            get(f"{url}/x")
        assert get(f"{url}/x", verify=tls_context(str(path))) == CONTENT


@contextmanager
def trickling() -> Iterator[tuple[str, threading.Event]]:
    """A server whose headers come byte by byte and never end; and when a connection to it was closed."""
    gone = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        over = threading.Event()
        try:
            while not over.wait(0.05):
                handler.wfile.write(b"x")
        except OSError:
            gone.set()

    with serving(trickle) as url:
        yield url, gone
