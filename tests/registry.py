"""A container registry of our own: Debian's docker-registry with TLS and logins, and a proxy before it that spoils calls."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.client
import ipaddress
import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.servers import free_ports

_INDEX = "application/vnd.oci.image.index.v1+json"
LOGIN, PASSWORD = "robot", "pa55-for-the-registry"


def certificate(folder: Path) -> Path:
    """Make a certificate for this machine; return its file, which is also its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, f"localhost {x509.random_serial_number()}"[:60])]
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = folder / "tls.crt"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file


@dataclass
class ContainerRegistry:
    """A running registry.

    :param folder: of its files.
    :param port: where it listens, on the loopback interface.
    :param auth: the section ``auth`` of its configuration.
    :param tls: with a certificate.
    """

    folder: Path
    port: int
    auth: dict[str, Any] = field(default_factory=dict)
    tls: bool = True
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("docker-registry")
        assert program, "docker-registry is not here: run .ci/engines"
        tls = {"certificate": str(self.ca_file), "key": str(self.folder / "tls.key")}
        settings = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.data)}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self.port}", **({"tls": tls} if self.tls else {})},
            **({"auth": self.auth} if self.auth else {}),
        }
        file = self.folder / "config.yml"
        file.write_text(json.dumps(settings))  # JSON is YAML
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([program, "serve", str(file)], stdout=log, stderr=log)
        until = time.monotonic() + 240
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "the registry does not listen"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def empty(self) -> None:
        """Forget every image."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Make one call with the login, without any code of ours."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=30)
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=context)
        sent = {"Authorization": f"Basic {b64encode(f'{LOGIN}:{PASSWORD}'.encode()).decode()}", **headers}
        with contextlib.closing(connection):
            connection.request(method, path, headers=sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def manifest(self, repository: str, reference: str) -> tuple[str, dict[str, Any]]:
        """Return digest and content of what is there."""
        accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
        status, headers, content = self.ask("GET", f"/v2/{repository}/manifests/{reference}", Accept=accept)
        assert status == 200, (status, content)
        return headers["docker-content-digest"], json.loads(content)

    def forget(self, repository: str, tag: str) -> None:
        """Take a tag away, and leave what it meant, as a retention rule does."""
        shutil.rmtree(self.data / "docker/registry/v2/repositories" / repository / "_manifests/tags" / tag)

    def tags(self, repository: str) -> list[str]:
        """Return the tags that are there."""
        status, _, content = self.ask("GET", f"/v2/{repository}/tags/list")
        return [] if status == 404 else json.loads(content)["tags"] or []

    def blob(self, repository: str, digest: str) -> bytes:
        """Return the content of a blob."""
        status, _, content = self.ask("GET", f"/v2/{repository}/blobs/{digest}")
        assert status == 200, (status, content)
        return content


@contextlib.contextmanager
def registry(
    folder: Path, auth: dict[str, Any] | None = None, tls: bool = True
) -> Iterator[ContainerRegistry]:
    """Start a registry that wants a login.

    :param auth: the section of its configuration; by default a file of ``htpasswd``.
    :param tls: with a certificate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    certificate(folder)
    if auth is None:
        passwords = folder / "htpasswd"
        made = subprocess.run(
            ["htpasswd", "-niB", "-C", "4", LOGIN], input=PASSWORD.encode(), capture_output=True, check=True
        )
        passwords.write_bytes(made.stdout)
        auth = {"htpasswd": {"realm": "registry", "path": str(passwords)}}
    made_registry = ContainerRegistry(folder, free_ports(1), auth, tls)
    made_registry.start()
    try:
        yield made_registry
    finally:
        made_registry.kill()


@dataclass
class Fault:
    """What happens to some calls.

    :param does: ``status``, ``cut`` (half of the answer), ``drop`` (the connection, before the registry hears of the call),
        ``half`` (the connection, in the middle of the body sent), or something to call before passing the call on.
    :param method: of the calls.
    :param path: text that their path holds.
    :param times: how many calls.
    :param status: of the answer in place of the registry's.
    :param headers: of that answer.
    :param body: of that answer.
    """

    does: str | Callable[[], None] = "status"
    method: str = ""
    path: str = ""
    times: int = 1
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Proxy:
    """Stands before a registry, with the same certificate.

    :param behind: the registry.
    """

    def __init__(self, behind: ContainerRegistry) -> None:
        self.behind = behind
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        #: Subject -> descriptors of what refers to it; ``None`` for a registry that does not list them.
        self.referrers: dict[str, list[dict[str, Any]]] | None = None
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def _pass(self) -> None:
                proxy._serve(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A client that does not trust the certificate is no error of ours."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(behind.ca_file, behind.folder / "tls.key")
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.host = f"localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.path in path and fault.method in ("", method):
                    fault.times -= 1
                    return fault
        return None

    def _serve(self, call: BaseHTTPRequestHandler) -> None:
        length = int(call.headers.get("Content-Length") or 0)
        with self._lock:
            self.calls.append((call.command, call.path, dict(call.headers)))
        fault = self._fault(call.command, call.path)
        call.close_connection = True
        if fault and fault.does == "drop":
            return
        if fault and fault.does == "half":
            call.rfile.read(length // 2)
            return
        body = call.rfile.read(length)
        if fault and callable(fault.does):
            fault.does()
        if fault and fault.does == "status":
            self._answer(call, fault.status, fault.headers, fault.body)
            return
        context = ssl.create_default_context(cafile=str(self.behind.ca_file))
        onward = http.client.HTTPSConnection("localhost", self.behind.port, timeout=60, context=context)
        try:
            with contextlib.closing(onward):
                onward.putrequest(call.command, call.path, skip_host=True, skip_accept_encoding=True)
                for name, value in call.headers.items():  # a name may come more than once
                    if name.lower() != "content-length":
                        onward.putheader(name, value)
                onward.putheader("Content-Length", str(length))
                onward.endheaders(body or None)
                answer = onward.getresponse()
                content = answer.read()
        except OSError:
            return
        if self.referrers is not None and self._refers(call, answer.status, body):
            return
        given = {name: value for name, value in answer.getheaders() if name.lower() != "transfer-encoding"}
        cut = len(content) // 2 if fault and fault.does == "cut" else None
        self._answer(call, answer.status, given, content, cut)

    def _refers(self, call: BaseHTTPRequestHandler, status: int, body: bytes) -> bool:
        """List referrers, as a registry of version 1.1 of the distribution specification does."""
        assert self.referrers is not None
        where = call.path.partition("?")[0]
        if call.command == "GET" and "/referrers/" in where:
            listed = self.referrers.get(where.rpartition("/")[2], [])
            # One at a time, so that whoever asks has to turn the pages.
            page = int(call.path.partition("page=")[2] or 0)
            index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": listed[page : page + 1]}
            more = {"Link": f'<{where}?page={page + 1}>; rel="next"'} if len(listed) > page + 1 else {}
            self._answer(call, 200, {"Content-Type": _INDEX, **more}, json.dumps(index).encode())
            return True
        if call.command != "PUT" or "/manifests/" not in where or status != 201:
            return False
        manifest = json.loads(body)
        if "subject" not in manifest:
            return False
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        entry = {"mediaType": manifest["mediaType"], "digest": digest, "size": len(body)}
        entry |= {name: manifest[name] for name in ("artifactType", "annotations") if name in manifest}
        with self._lock:
            listed = self.referrers.setdefault(manifest["subject"]["digest"], [])
            listed += [entry] if entry not in listed else []
        self._answer(call, 201, {"OCI-Subject": manifest["subject"]["digest"]}, b"")
        return True

    @staticmethod
    def _answer(
        call: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        body: bytes,
        cut: int | None = None,
    ) -> None:
        call.send_response_only(status)
        head = call.command == "HEAD"
        for name, value in headers.items():
            if name.lower() != "content-length" or head:
                call.send_header(name, value)
        if not head:
            call.send_header("Content-Length", str(len(body)))
        call.send_header("Connection", "close")
        call.end_headers()
        call.wfile.write(body if cut is None else body[:cut])


@contextlib.contextmanager
def proxy(behind: ContainerRegistry) -> Iterator[Proxy]:
    """Put a proxy before a registry."""
    made = Proxy(behind)
    try:
        yield made
    finally:
        made.close()
