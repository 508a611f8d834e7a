"""The client's calls below an application, and answers that are odd in ways that real servers and proxies produce."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_pipeops.argocd.clients.protocol import Resource
from airflow_pipeops.argocd.clients.rest import AppRef, ArgoCDClient
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SyncFailed,
    Unreachable,
    Unsupported,
)

APP = AppRef("api", "ml", "team")
QUERY = "project=ml&appNamespace=team"
BASE = "/base/path/api/v1/applications/api"


def run(url: str, work: Callable[[ArgoCDClient], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        given = {"pause": 0.01, "timeout": 1.0, **options}
        async with ArgoCDClient(url, "s3cr3t-token", **given) as client:
            return await asyncio.wait_for(work(client), 20)

    return asyncio.run(inside())


@pytest.mark.parametrize(
    ("work", "answer", "result", "method", "path", "body"),
    [
        (
            lambda c: c.set_spec(APP, {"project": "ml"}),
            {"project": "ml"},
            {"project": "ml"},
            "PUT",
            f"{BASE}/spec?{QUERY}",
            {"project": "ml"},
        ),
        (
            lambda c: c.patch(APP, {"metadata": {"labels": None}}),
            {"metadata": {}},
            {"metadata": {}},
            "PATCH",
            BASE,
            {
                "patch": '{"metadata": {"labels": null}}',
                "patchType": "merge",
                "name": "api",
                "project": "ml",
                "appNamespace": "team",
            },
        ),
        (
            lambda c: c.sync_windows(APP),
            {"assignedWindows": [{"kind": "deny"}]},
            {"canSync": False, "activeWindows": [], "assignedWindows": [{"kind": "deny"}]},
            "GET",
            f"{BASE}/syncwindows?{QUERY}",
            None,
        ),
        (
            lambda c: c.manifests(APP, "abc"),
            {"manifests": ['{"kind": "A"}', '{"kind": "B"}']},
            [{"kind": "A"}, {"kind": "B"}],
            "GET",
            f"{BASE}/manifests?{QUERY}&revision=abc",
            None,
        ),
        (
            lambda c: c.revision_metadata(APP, "a/b", source=0),
            {"author": "Ada"},
            {"author": "Ada"},
            "GET",
            f"{BASE}/revisions/a%2Fb/metadata?{QUERY}&sourceIndex=0",
            None,
        ),
        (
            lambda c: c.events(APP),
            {"items": [{"message": "b", "lastTimestamp": "2"}, {"message": "a", "eventTime": "1"}]},
            [{"message": "a", "eventTime": "1"}, {"message": "b", "lastTimestamp": "2"}],
            "GET",
            f"{BASE}/events?{QUERY}",
            None,
        ),
        (
            lambda c: c.events(APP, Resource("Pod", "x", "ns", uid="u")),
            {"items": None},
            [],
            "GET",
            f"{BASE}/events?{QUERY}&resourceName=x&resourceNamespace=ns&resourceUID=u",
            None,
        ),
        (
            lambda c: c.application_set("set", namespace="team"),
            {"kind": "ApplicationSet"},
            {"kind": "ApplicationSet"},
            "GET",
            "/base/path/api/v1/applicationsets/set?appsetNamespace=team",
            None,
        ),
    ],
)
def test_each_call_asks_what_the_api_documents(
    script: Any,
    work: Callable[[ArgoCDClient], Awaitable[Any]],
    answer: Any,
    result: Any,
    method: str,
    path: str,
    body: Any,
) -> None:
    script.answers = [(200, answer)]
    assert run(script.url, work) == result
    assert script.requests[0][:2] == (method, path)
    if body is not None:
        assert json.loads(script.requests[0][2]) == body
        assert script.headers[0]["Content-Type"] == "application/json"


def lines(*entries: Any) -> bytes:
    return "\n".join(f"data: {json.dumps(entry)}\n" for entry in entries).encode()


def entry(content: str, **more: Any) -> dict[str, Any]:
    return {"result": {"content": content, "podName": "p", **more}}


def test_logs_of_a_pod_and_of_a_hook(script: Any) -> None:
    script.answers = [(200, lines(entry("one"), entry("two"), entry("three" * 1000), entry("", last=True)))]
    pod = run(script.url, lambda c: c.logs(APP, Resource("Pod", "p", "ns"), tail=2, container="c"))
    assert pod == ["two", ("three" * 1000)[:2000]]
    assert script.requests[0][1] == (
        f"{BASE}/pods/p/logs?{QUERY}&namespace=ns&tailLines=2&follow=false&container=c"
    )
    job = run(script.url, lambda c: c.logs(APP, Resource("Job", "j", "ns", "batch"), previous=True))
    assert job[0] == "one"
    assert script.requests[1][1] == (
        f"{BASE}/logs?{QUERY}&namespace=ns&tailLines=50&follow=false&kind=Job&group=batch"
        "&resourceName=j&previous=true"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"grpc_code": 7, "http_code": 403, "message": "permission denied"}, AccessDenied),
        ({"grpc_code": 16, "message": "token expired"}, AccessDenied),
        ({"grpc_code": 5, "http_code": 404, "message": "pod not found"}, NotFound),
        ({"grpc_code": 14, "http_code": 503, "message": "gone"}, Unreachable),
        ({"grpc_code": 3, "http_code": 400, "message": "max pods to view logs are reached"}, InvalidInput),
        ({"message": "who knows"}, Unreachable),
    ],
)
def test_an_error_inside_a_stream_of_status_200_is_one(
    script: Any, error: dict[str, Any], kind: type[PipeOpsError]
) -> None:
    script.answers = [(200, lines(entry("one"), {"error": error}))]
    with pytest.raises(kind) as caught:
        run(script.url, lambda c: c.logs(APP, Resource("Pod", "p", "ns")))
    assert error["message"] in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, b"<!doctype html><title>Argo CD</title>", BadResponse, "login page"),
        (404, b"404 page not found", NotFound, "Check the URL, with its path"),
        (501, {"code": 12, "message": "unknown method"}, Unsupported, "unknown method"),
        (429, {"code": 8, "message": "received message larger than max"}, Unreachable, "larger than max"),
        (504, b"<html>gateway</html>", Unreachable, "504"),
        (400, {"code": 9, "message": "application is deleting"}, SyncFailed, "deleting"),
        (400, {"code": 9, "error": "another operation is already in progress"}, PipeOpsError, "busy"),
        (200, {"manifests": ["{nonsense"]}, BadResponse, "no JSON"),
    ],
)
def test_odd_answers(script: Any, status: int, body: Any, kind: type[PipeOpsError], words: str) -> None:
    script.answers = [(status, body)]
    with pytest.raises(kind, match=words):
        run(script.url, lambda c: c.manifests(APP), attempts=1)


def test_compressed_answers_are_read_and_broken_ones_are_noticed(script: Any) -> None:
    script.extra = {"Content-Encoding": "gzip"}
    # What comes after its end is ignored; a zero byte at the end would tell the script to cut the answer.
    whole = gzip.compress(json.dumps({"metadata": {"name": "api"}}).encode()) + b"\n"
    script.answers = [(200, whole)]
    assert run(script.url, lambda c: c.get(APP))["metadata"]["name"] == "api"
    for broken in (b"\x1f\x8b" + b"x" * 40, whole[:30] + b"\n"):
        script.answers = [(200, broken)]
        with pytest.raises((Unreachable, BadResponse)):
            run(script.url, lambda c: c.get(APP), attempts=2)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("soon", 0), ("", 0), ("-3", 0), ("date", 100), ("past", 0)]
)
def test_retry_after_is_seconds_or_a_date(script: Any, value: str, seconds: int) -> None:
    given = {"date": formatdate(time.time() + 100, usegmt=True), "past": formatdate(0, usegmt=True)}
    script.extra = {"Retry-After": given.get(value, value)}
    script.answers = [(503, b"")]
    with pytest.raises(Unreachable) as caught:
        run(script.url, lambda c: c.get(APP), attempts=1)
    assert abs(caught.value.retry_after - seconds) <= 2


@pytest.fixture
def trickle() -> Iterator[Any]:
    """A server whose answers begin well and never end."""

    class Handler(BaseHTTPRequestHandler):
        piece = b""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(self.piece)
                    time.sleep(0.02)
            except OSError:
                return

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def begin(piece: bytes) -> str:
        Handler.piece = piece
        return f"http://127.0.0.1:{server.server_port}"

    yield begin
    server.shutdown()
    server.server_close()


def test_an_answer_that_trickles_for_ever_ends(trickle: Any) -> None:
    begun = time.monotonic()
    with pytest.raises(Unreachable):
        run(trickle(b" "), lambda c: c.get(APP), timeout=0.5, attempts=1)
    assert time.monotonic() - begun < 5


def test_a_log_that_is_written_faster_than_it_is_read_ends(trickle: Any) -> None:
    with pytest.raises(Unreachable, match="does not end"):
        run(trickle(lines(entry("x"))), lambda c: c.logs(APP, Resource("Pod", "p", "ns")), timeout=0.5)


def test_an_endless_line_is_not_read_to_its_end(trickle: Any) -> None:
    async def watch(client: ArgoCDClient) -> None:
        async for _ in client.watch():
            raise AssertionError("there is no line")

    with pytest.raises(Unreachable, match="endless line"):
        run(trickle(b"x" * 1024 * 1024), watch, timeout=5)


def test_a_line_with_unicode_line_ends_is_one_line(script: Any) -> None:
    event = {"result": {"type": "ADDED", "application": {"metadata": {"name": "a\u0085b"}}}}
    script.answers = [(200, json.dumps(event, ensure_ascii=False).encode() + b"\n")]

    async def watch(client: ArgoCDClient) -> str:
        async for item in client.watch():
            return str(item["application"]["metadata"]["name"])
        return ""

    assert run(script.url, watch) == "a\u0085b"
