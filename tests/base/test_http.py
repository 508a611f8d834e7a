"""Calls to servers that send back what they were sent, never end, or send what unpacks to gigabytes."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import resource
import ssl
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_pipeops.argocd.clients.protocol import AppRef
from airflow_pipeops.argocd.clients.rest import ArgoCDClient
from airflow_pipeops.base.http import MANY, ONE, trusting
from airflow_pipeops.build import smoke
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    InvalidInput,
    PipeOpsError,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.git.credentials import Credentials
from airflow_pipeops.git.repository import GitRepository
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import PODS
from airflow_pipeops.kubernetes.kubeconfig import Endpoint
from airflow_pipeops.models.registry import Registry
from airflow_pipeops.serving.api import verification

TOKEN = "Zk9+wQ/7xR2-pL4_vN8"


@contextmanager
def serving(
    answer: Callable[[BaseHTTPRequestHandler], None], certificate: Path | None = None
) -> Iterator[str]:
    """A real server that answers every call in this way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def argocd(url: str, token: str = TOKEN) -> Any:
    async def ask() -> Any:
        async with ArgoCDClient(url, token, attempts=1, timeout=20) as client:
            return await client.get(AppRef("web"))

    return asyncio.run(ask())


def kubernetes(url: str, token: str = TOKEN, *, many: bool = False) -> Any:
    async def source() -> Endpoint:
        return Endpoint(url, f"Bearer {token}")

    async def ask() -> Any:
        async with KubernetesClient(source, attempts=1, timeout=20, many=many) as client:
            return await client.get(PODS, "web", "ns")

    return asyncio.run(ask())


def kubernetes_often(url: str, token: str = TOKEN) -> Any:
    return kubernetes(url, token, many=True)


def mlflow(url: str, token: str = TOKEN) -> Any:
    return Registry(url, password=token).version("model", "1")


def model(url: str, token: str = TOKEN, **tls: Any) -> Any:
    """Ask a served model which one it is."""
    return verification._ask(url, verification._headers(token), trusting(tls), "GET", "/v2/models/model")


CLIENTS = {
    "argocd": argocd,
    "kubernetes": kubernetes,
    "kubernetes, often": kubernetes_often,
    "mlflow": mlflow,
    "model": model,
}
#: Every way in which a server may send a token back, as (what it is, how it looks, what must not be left of it).
FORMS = {
    "plain": TOKEN,
    "header": f"Authorization: Bearer {TOKEN}",
    "Base64": base64.b64encode(TOKEN.encode()).decode(),
    "Base64, one off": base64.b64encode(f"a{TOKEN}z".encode()).decode(),
    "Base64, two off": base64.b64encode(f"ab{TOKEN}yz".encode()).decode(),
    "Base64 of a basic header": base64.b64encode(f"airflow:{TOKEN}".encode()).decode(),
    "Base64 for URLs": base64.urlsafe_b64encode(TOKEN.encode()).decode(),
    "URL": quote(TOKEN, safe=""),
    "hex": TOKEN.encode().hex(),
}


@pytest.mark.parametrize("token", ["gehe\u00efm-7xR2", "sec\nret-7xR2", "sec\0ret-7xR2", "\U0001f511-7xR2"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_token_that_no_header_can_carry_is_refused_and_not_told(client: str, token: str) -> None:
    with (
        serving(lambda handler: send(handler, 200, b"{}")) as url,
        pytest.raises(InvalidInput, match=r"no HTTP header can carry\. Copy it again") as refused,
    ):
        CLIENTS[client](url, token)
    assert refused.value.field == "token"
    assert "7xR2" not in str(refused.value) + str(refused.value.__cause__)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_end_of_the_line_that_was_copied_with_a_token_is_left_out(client: str) -> None:
    seen: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["Authorization"])
        send(handler, 404, b"{}")

    with serving(answer) as url, pytest.raises(PipeOpsError):
        CLIENTS[client](url, f"{TOKEN}\n")
    assert set(seen) == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("status", [400, 401, 500])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_token_that_a_server_sends_back_is_not_told(client: str, status: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("airflow_pipeops.models.registry._ATTEMPTS", 1)
    monkeypatch.setattr(verification, "_ATTEMPTS", 1)
    sent = [b""]
    with serving(lambda handler: send(handler, status, sent[0])) as url:
        for form, text in FORMS.items():
            # Also where a cut would leave half of it.
            for filling in ("x" * 188 + " ", "x" * 985 + " "):
                said = f"{filling}you sent {text} here"
                body = {"message": said, "error": said, "error_code": "BAD_REQUEST", "code": 3}
                if client.startswith("kubernetes"):
                    body |= {"kind": "Status", "code": status}
                for sent[0] in (json.dumps(body).encode(), said.encode()):
                    with pytest.raises(PipeOpsError) as caught:
                        CLIENTS[client](url)
                    told = str(caught.value) + str(caught.value.__cause__ or "")
                    for piece in (text[4:12], text[-12:-4]):
                        assert piece not in told.replace("Authorization", ""), (form, told)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    handler.close_connection = True
    handler.wfile.write(b'{"a": "')
    while True:
        handler.wfile.write(b"x" * 1024 * 1024)


@cache
def bomb(size: int) -> bytes:
    """Zeros of so many bytes, packed a thousandfold smaller."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    block = bytes(1024 * 1024)
    return b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()


def exploding(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, bomb(256 * 1024**2), Content_Encoding="gzip")


@pytest.mark.parametrize("answer", [endless, exploding], ids=["endless", "zeros without end"])
@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_is_read_up_to_what_its_call_states(client: str, answer: Any) -> None:
    calls = []

    def counted(handler: BaseHTTPRequestHandler) -> None:
        calls.append(handler.path)
        answer(handler)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = pytest.raises(SystemFailure, match="more than 16 MB; the rest was not read")
    with serving(counted) as url, refused as caught:
        CLIENTS[client](url)
    assert not caught.value.retryable
    assert len(calls) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # kilobytes


@pytest.mark.parametrize("client", ["argocd", "kubernetes", "kubernetes, often", "mlflow"])
def test_of_an_endless_refusal_the_beginning_is_told(client: str) -> None:
    def refuse(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(403)
        handler.end_headers()
        handler.close_connection = True
        handler.wfile.write(b"no entry, ")
        while True:
            handler.wfile.write(b"x" * 1024 * 1024)

    with serving(refuse) as url, pytest.raises(PipeOpsError, match="no entry"):
        CLIENTS[client](url)


def test_a_packed_answer_is_read_and_one_that_is_cut_off_or_packed_otherwise_is_not() -> None:
    content = gzip.compress(json.dumps({"metadata": {"name": "web"}}).encode() + b" " * 3_000_000)

    def ask(content: bytes, encoding: str) -> Any:
        with serving(lambda handler: send(handler, 200, content, Content_Encoding=encoding)) as url:
            return argocd(url)

    assert ask(content, "gzip")["metadata"]["name"] == "web"
    with pytest.raises(Unreachable, match="in the middle"):
        ask(content[:-20], "gzip")
    with pytest.raises(BadResponse, match="cannot be unpacked"):
        ask(b"{}" * 9, "gzip")
    with pytest.raises(BadResponse, match="not asked for"):
        ask(b"{}", "br")


def test_a_long_list_is_no_endless_one() -> None:
    assert ONE < MANY
    items = [{"metadata": {"name": f"app-{number}"}, "spec": "x" * 30_000} for number in range(1000)]
    content = json.dumps({"items": items}).encode()
    assert len(content) > ONE

    async def ask(url: str) -> Any:
        async with ArgoCDClient(url, TOKEN) as client:
            return await client.applications()

    with serving(lambda handler: send(handler, 200, content)) as url:
        assert len(asyncio.run(ask(url))) == 1000


@pytest.mark.parametrize("answer", [endless, exploding], ids=["endless", "zeros without end"])
def test_a_smoke_test_reads_no_more_than_its_limit(answer: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serving(answer) as url:
        checks = smoke.read_checks([{"path": "/", "status": 200}])
        (found,) = smoke.ask(url, checks, timeout=timedelta(seconds=30), attempts=1)
    assert not found.problem
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, for another host; its key is in the same file."""
    return _signed(tmp_path_factory.mktemp("tls"), "DNS:elsewhere.example")


def _signed(folder: Path, name: str) -> Path:
    path = folder / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-keyout", f"{path}.key", "-out", path,
         "-subj", "/CN=elsewhere.example", "-addext", f"subjectAltName={name}"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + Path(f"{path}.key").read_text(encoding="utf-8"))
    return path


@pytest.mark.parametrize("known", [False, True], ids=["unknown authority", "wrong name"])
@pytest.mark.parametrize("client", ["argocd", "kubernetes", "smoke", "git", "mlflow", "model"])
def test_a_certificate_that_is_not_trusted_is_named_and_not_tried_again(
    client: str, known: bool, certificate: Path, tmp_path: Path
) -> None:
    authority = str(certificate) if known else ""

    async def rest(url: str) -> Any:
        async with ArgoCDClient(url, ca_file=authority, pause=60) as opened:
            return await opened.version()

    async def cluster(url: str) -> Any:
        async def source() -> Endpoint:
            return Endpoint(url, ca_file=authority)

        async with KubernetesClient(source, pause=60) as opened:
            return await opened.version()

    def ask_once(url: str) -> None:
        checks = smoke.read_checks([{"path": "/"}])
        (found,) = smoke.ask(url, checks, timeout=timedelta(seconds=20), attempts=9, verify=authority or True)
        assert not found.transient
        raise AccessDenied(found.problem)

    calls: dict[str, Callable[[str], Any]] = {
        "mlflow": lambda url: Registry(url, ca_file=authority).ping(),
        "model": lambda url: model(url, ca_file=authority),
        "argocd": lambda url: asyncio.run(rest(url)),
        "kubernetes": lambda url: asyncio.run(cluster(url)),
        "smoke": ask_once,
        "git": lambda url: GitRepository(
            f"{url}/x.git", credentials=Credentials(ca_file=authority), cache_dir=tmp_path
        ).tip(),
    }
    refused = pytest.raises(AccessDenied, match=r"certificate of .* is not trusted")
    with serving(lambda handler: send(handler, 200, b"{}"), certificate) as url, refused:
        calls[client](url)


@pytest.mark.parametrize("client", ["mlflow", "model"])
def test_with_the_ca_file_of_its_authority_a_server_is_trusted(
    client: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _signed(tmp_path_factory.mktemp("own"), "IP:127.0.0.1")
    with serving(lambda handler: send(handler, 200, b"{}"), path) as url:
        if client == "mlflow":
            assert Registry(url, ca_file=str(path)).ping() == 0
        else:
            assert model(url, ca_file=str(path)) == model(url, verify_tls=False) == {}


@pytest.mark.parametrize("client", ["mlflow", "model"])
def test_an_answer_that_trickles_ends_in_time(client: str, monkeypatch: Any) -> None:
    """Each byte comes long before a read would give up, and so would the next ones, for ever."""
    monkeypatch.setattr("airflow_pipeops.models.registry._ATTEMPTS", 1)
    monkeypatch.setattr(verification, "_ATTEMPTS", 1)
    monkeypatch.setattr(verification, "_TIMEOUT", 1.0)
    gone = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        try:
            while not gone.wait(0.05):
                handler.wfile.write(b"x")
        except OSError:
            gone.set()

    with serving(trickle) as url, pytest.raises(Unreachable, match="no whole answer"):
        Registry(url, timeout=1.0).ping() if client == "mlflow" else model(url)
    assert gone.wait(60), "the connection was not closed"


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "https://host:port", "https://host:99999", "https://ada@host", "host", "ftp://x", ""],
)
def test_what_is_no_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInput, match="no base URL") as caught:
        ArgoCDClient(url)
    assert caught.value.field == "host"


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("client", ["argocd", "kubernetes"])
def test_json_that_is_nested_deep_is_a_typed_error(client: str, status: int) -> None:
    content = b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with serving(lambda handler: send(handler, status, content)) as url, pytest.raises(PipeOpsError):
        CLIENTS[client](url)
