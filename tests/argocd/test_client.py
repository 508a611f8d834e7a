"""The client against a server that dies, lies, stalls and truncates."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_pipeops.argocd.clients.rest import AppRef, ArgoCDClient
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SyncFailed,
    Unreachable,
)

APP = AppRef("api", "ml", "team")


def run(script: Any, work: Callable[[ArgoCDClient], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with ArgoCDClient(
            script.url, "s3cr3t-token", **{"pause": 0.01, "timeout": 1.0, **options}
        ) as client:
            return await work(client)

    return asyncio.run(inside())


def grpc(code: int, message: str) -> dict[str, Any]:
    return {"error": message, "code": code, "message": message, "details": []}


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, grpc(16, "token expired"), AccessDenied, "token expired"),
        (403, grpc(7, "permission denied"), AccessDenied, "does not exist, or the token lacks"),
        (403, grpc(7, "cannot sync: blocked by sync window"), SyncFailed, "sync window"),
        (404, grpc(5, "not found"), NotFound, "application team/api (project ml)"),
        (400, grpc(9, "another operation is already in progress"), Conflict, "in progress"),
        (400, grpc(9, "Cannot sync to x: auto-sync currently set to main"), SyncFailed, "auto-sync"),
        (400, grpc(3, "bad field"), InvalidInput, "bad field"),
        (409, grpc(6, "exists"), Conflict, "exists"),
        (503, b"<html>busy</html>", Unreachable, "503"),
        (500, b"", Unreachable, "500"),
        (302, b"", InvalidInput, "redirects"),
        (200, b"not json", BadResponse, "no JSON"),
        (200, [1, 2], BadResponse, "no JSON object"),
        (200, b'{"metadata": \0', Unreachable, "no whole answer"),
        (400, b"\xff\xfe", InvalidInput, "400"),
    ],
)
def test_every_answer_becomes_the_error_that_it_means(
    script: Any, status: int, body: Any, error: type[PipeOpsError], words: str
) -> None:
    script.answers = [(status, body)]
    with pytest.raises(error) as caught:
        run(script, lambda client: client.get(APP))
    assert words in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_call_carries_token_project_namespace_and_base_path(script: Any) -> None:
    script.answers = [(200, {"metadata": {"name": "api"}})]
    assert run(script, lambda client: client.get(APP)) == {"metadata": {"name": "api"}}
    assert script.requests[0][1] == "/base/path/api/v1/applications/api?project=ml&appNamespace=team"
    assert script.headers[0]["Authorization"] == "Bearer s3cr3t-token"


def test_reads_are_tried_again_and_end(script: Any) -> None:
    script.answers = [(503, b""), (429, b""), (200, b"{"), (200, {"ok": 1})]
    assert run(script, lambda client: client.get(APP)) == {"ok": 1}
    script.answers, script.requests = [(503, b"")], []
    with pytest.raises(Unreachable):
        run(script, lambda client: client.get(APP))
    assert len(script.requests) == 4


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_never_tried_again(script: Any, status: int) -> None:
    script.answers = [(status, grpc(16, "no"))]
    with pytest.raises(AccessDenied):
        run(script, lambda client: client.get(APP))
    assert len(script.requests) == 1


def test_a_write_is_tried_again_only_if_the_server_cannot_have_acted(script: Any) -> None:
    script.answers = [(429, b""), (200, {"ok": 1})]
    assert run(script, lambda client: client.sync(APP, {"revision": "x"})) == {"ok": 1}
    assert json.loads(script.requests[-1][2]) == {
        "revision": "x",
        "name": "api",
        "project": "ml",
        "appNamespace": "team",
    }
    assert script.headers[-1]["Content-Type"] == "application/json"
    script.answers, script.requests = [(503, b"")], []
    with pytest.raises(Unreachable):
        run(script, lambda client: client.sync(APP, {"revision": "x"}))
    assert len(script.requests) == 1


def test_stalled_answer_ends(script: Any) -> None:
    script.answers, script.delay = [(200, {})], 1.0
    with pytest.raises(Unreachable):
        run(script, lambda client: client.get(APP), timeout=0.2, attempts=1)


def test_stalled_refresh_counts_as_requested(script: Any) -> None:
    script.answers, script.delay = [(200, {})], 1.0
    assert run(script, lambda client: client.refresh(APP, timeout=0.2)) is None
    assert "refresh=normal" in script.requests[0][1]


def test_nobody_listens(script: Any) -> None:
    script.server.server_close()
    with pytest.raises(Unreachable, match="does not answer"):
        run(script, lambda client: client.get(APP), attempts=2)


@pytest.mark.parametrize("url", ["argocd.example.com", "ftp://x", "https://", "https://me:pw@x"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ArgoCDClient(url)
    assert "pw" not in str(caught.value)


def test_a_ca_file_that_is_none(script: Any) -> None:
    with pytest.raises(InvalidInput, match="CA file"):
        run(script, lambda client: client.version(), ca_file="/does/not/exist.pem")


def test_tls_is_verified_by_default() -> None:
    ours = ArgoCDClient("https://x")._tls()
    assert (ours.verify_mode, ours.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert isinstance(ArgoCDClient("https://x", ca_file=_certificates())._tls(), ssl.SSLContext)
    assert ArgoCDClient("https://x", verify_tls=False)._tls() is False


def _certificates() -> str:
    import certifi

    return certifi.where()


def test_watch_reads_both_forms_and_raises_what_the_stream_says(script: Any) -> None:
    event = {"result": {"type": "MODIFIED", "application": {"metadata": {"name": "api"}}}}
    error = {"error": {"grpc_code": 7, "http_code": 403, "message": "permission denied"}}
    lines = [f"data: {json.dumps(event)}", "", ": alive", json.dumps(event), json.dumps(error), ""]
    script.answers = [(200, "\n".join(lines).encode())]

    async def collect(client: ArgoCDClient) -> list[str]:
        found = []
        try:
            async for item in client.watch(name="api", project="ml"):
                found.append(item["type"])
        except AccessDenied as error:
            found.append(str(error)[:6])
        return found

    assert run(script, collect) == ["MODIFIED", "MODIFIED", "the st"]


@pytest.mark.parametrize("body", [b"", b'data: {"resul', b"data: {}\n\0"])
def test_watch_that_ends_or_is_cut_is_unreachable(script: Any, body: bytes) -> None:
    script.answers = [(200, body)]

    async def collect(client: ArgoCDClient) -> None:
        async for _ in client.watch():
            pass

    with pytest.raises(Unreachable):
        run(script, collect)
