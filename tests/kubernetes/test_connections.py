"""From an Airflow connection to a cluster: each way in which a kubernetes connection can name one, over real HTTP(S)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotConfigured, Unreachable
from airflow_pipeops.kubernetes import connections as connection
from airflow_pipeops.kubernetes import kubeconfig as kubeconfig_reader
from airflow_pipeops.kubernetes.connections import ConnectionSource, aconnect, connect
from airflow_pipeops.kubernetes.kubeconfig import Endpoint, config_endpoint, file_endpoint
from tests.kubernetes.apiserver import ApiServer, serving

SECRET = "s3cr3t-token"


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    with serving() as server:
        server.tokens = {SECRET: lambda *_: True}
        yield server


def kubeconfig(server: str, user: dict[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {"token": SECRET}}],
    }


def define(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], conn_id: str = "cluster") -> None:
    value = json.dumps({"conn_type": "kubernetes", "extra": extra})
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)


def version(conn_id: str = "cluster", **options: Any) -> str:
    client = connect(conn_id, **{"attempts": 1, **options})

    async def inside() -> str:
        async with client as opened:
            return await opened.version()

    return asyncio.run(inside())


def test_a_kubeconfig_inside_the_connection(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for config in (kubeconfig(api.url), json.dumps(kubeconfig(api.url))):
        define(monkeypatch, {"kube_config": config})
        assert version() == "v1.34.1"


def test_a_path_to_a_kubeconfig_and_a_context(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {**kubeconfig(api.url), "current-context": "nowhere"}
    (tmp_path / "config").write_text(json.dumps(config))
    extra = {"kube_config_path": str(tmp_path / "config"), "kube_config": "", "cluster_context": "here"}
    define(monkeypatch, extra)
    assert version() == "v1.34.1"


def test_fields_with_the_prefix_of_old(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "extra__kubernetes__kube_config": json.dumps(kubeconfig(api.url)),
        "extra__kubernetes__namespace": "ns",
    }
    define(monkeypatch, extra)
    assert version() == "v1.34.1"
    assert connect("cluster").namespace == "ns"


def test_in_a_pod_without_any_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pod's own account, although nobody made ``kubernetes_default``; and its token is read again as it rotates."""
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text(Path(_certifi()).read_text(encoding="utf-8"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    monkeypatch.setattr(kubeconfig_reader, "ACCOUNT", tmp_path)

    async def ask() -> list[Endpoint]:
        source = (await aconnect())._connection._source
        found = [await source()]
        (tmp_path / "token").write_text("second")
        found.append(await source())
        monkeypatch.setattr(connection, "REREAD", -1.0)
        return [*found, await source()]

    found = asyncio.run(ask())
    assert found[0].url == "https://127.0.0.1:6443"
    assert found[0].ca_file == str(tmp_path / "ca.crt")
    assert [one.authorization for one in found] == ["Bearer first", "Bearer first", "Bearer second"]
    assert "first" not in repr(found[0])


PLAIN = kubeconfig("https://c:6443/")


@pytest.mark.parametrize(
    ("config", "context"),
    [
        # All of these are left to Airflow's own hook.
        ("a: [b", ""),
        ("nonsense", ""),
        ([], ""),
        ({}, ""),
        (PLAIN, "nowhere"),
        ({**PLAIN, "users": [{"name": "u", "user": {"exec": {}}}]}, ""),
        ({**PLAIN, "users": [{"name": "u", "user": {"auth-provider": {}}}]}, ""),
        ({**PLAIN, "users": [{"name": "u", "user": {"username": "a", "password": "b"}}]}, ""),
        ({**PLAIN, "users": [{"name": "u", "user": {"token": "a", "tokenFile": "/b"}}]}, ""),
        ({**PLAIN, "users": [{"name": "u", "user": {"tokenFile": "/does/not/exist"}}]}, ""),
        ({**PLAIN, "users": [{"name": "u", "user": {"client-key-data": "not base64!"}}]}, ""),
        (kubeconfig("https://c", **{"certificate-authority": "relative.crt"}), ""),
        (kubeconfig("https://c", **{"certificate-authority": "/does/not/exist"}), ""),
        (kubeconfig(""), ""),
    ],
)
def test_what_takes_more_than_reading_is_not_guessed(config: Any, context: str) -> None:
    assert config_endpoint(config, context) is None


def test_a_kubeconfig_with_plain_credentials(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("pem")
    (tmp_path / "token").write_text("from-file\n")
    user = {"tokenFile": "token", "client-certificate-data": base64.b64encode(b"cert").decode()}
    config = kubeconfig(
        "https://c:6443/", user, **{"certificate-authority": "ca.crt", "proxy-url": "http://p"}
    )
    (tmp_path / "config").write_text(json.dumps(config))
    found = file_endpoint(tmp_path / "config")
    assert found == Endpoint(
        "https://c:6443",
        authorization="Bearer from-file",
        ca_file=str(tmp_path / "ca.crt"),
        cert_data="cert",
        proxy="http://p",
    )


def test_many_calls_go_through_a_proxy_where_the_environment_names_one(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(monkeypatch, {"kube_config": kubeconfig("http://cluster.test")})
    monkeypatch.setenv("HTTP_PROXY", api.url)
    api.requests.clear()
    assert version(many=True) == version()
    assert api.requests == ["GET /version"] * 2
    monkeypatch.setenv("NO_PROXY", ".cluster.test")
    assert version(many=True) == version()
    assert api.requests == ["GET /version"] * 4
    monkeypatch.setenv("NO_PROXY", "cluster.test")
    with pytest.raises(Unreachable, match=r"cluster.test does not answer"):
        version(many=True)


@pytest.mark.parametrize("many", [False, True], ids=["few calls", "many calls"])
def test_a_url_that_cannot_be_read_is_told_as_that(many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, {"kube_config": kubeconfig("https://[::1")})
    with pytest.raises(InvalidInput, match=r"https://\[::1 "):
        version(many=many)


@pytest.mark.parametrize(
    ("user", "token", "said"),
    [
        ("ann:s3cr3t-word@", "a-token", "cannot be called: .* without user name and password"),
        ("", "s3cr3t-word\nand more", "the token has characters that no HTTP header can carry"),
    ],
    ids=["password in the URL", "token of two lines"],
)
def test_what_many_calls_cannot_send_is_told_without_the_secret(
    user: str, token: str, said: str, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = api.url.replace("://", f"://{user}")
    define(monkeypatch, {"kube_config": kubeconfig(url, {"token": token})})
    with pytest.raises(InvalidInput, match=said) as caught:
        version(many=True)
    assert "s3cr3t" not in str(caught.value)


def test_a_task_does_not_pay_for_clients_that_it_does_not_need(api: ApiServer) -> None:
    value = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": kubeconfig(api.url)}})
    program = (
        "import asyncio, sys\n"
        "from airflow_pipeops.kubernetes.connections import connect\n"
        "async def ask(client):\n"
        "    async with client as opened: return await opened.version()\n"
        "assert asyncio.run(ask(connect('cluster'))) == 'v1.34.1'\n"
        "assert not {'kubernetes', 'kubernetes_asyncio'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "AIRFLOW_CONN_CLUSTER": value}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_a_credential_plugin_is_asked_again_before_its_token_grows_old(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "count").write_text("0")
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "number = int(count.read_text()) + 1\n"
        "count.write_text(str(number))\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',"
        " 'status': {'token': f'token-{number}'}}))\n"
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
    source = ConnectionSource("cluster", {"kube_config": kubeconfig(api.url, user)})

    async def ask() -> list[str]:
        found = [(await source()).authorization, (await source()).authorization]
        monkeypatch.setattr(connection, "RELOAD", -1.0)
        return [*found, (await source()).authorization]

    assert asyncio.run(ask()) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
    plugin.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(Unreachable, match="credential plugin"):
        asyncio.run(source())


@pytest.mark.parametrize(
    "extra",
    [
        {"kube_config": "a: [s3cr3t-token"},
        {"kube_config": "s3cr3t-token"},
        {"kube_config": json.dumps({"users": SECRET})},
        {"kube_config_path": "/does/not/exist"},
        {"kube_config": json.dumps({}), "kube_config_path": "/x"},
        {"in_cluster": True},
    ],
)
def test_a_connection_that_leads_nowhere_says_so_without_telling_secrets(
    extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    define(monkeypatch, extra)
    with pytest.raises(InvalidInput, match="connection cluster") as caught:
        version()
    assert SECRET not in str(caught.value)
    assert caught.value.field == "kube_config"
    assert caught.value.__cause__ is None or SECRET not in str(caught.value.__cause__)


def test_a_connection_that_is_not_there() -> None:
    with pytest.raises(NotConfigured, match="'no_such_cluster' of type Kubernetes"):
        connect("no_such_cluster")


# ---- TLS -------------------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"gitVersion": "v1.tls"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, a certificate of a server and one of a client, made by OpenSSL."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "ext").write_text("subjectAltName=DNS:kubernetes.test\n")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt", "-days", "1")
    return folder


@pytest.fixture(scope="module")
def secure(authority: Path) -> Iterator[str]:
    """A server that only talks to who shows a certificate of the authority."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    context.load_verify_locations(authority / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize("many", [False, True], ids=["few calls", "many calls"])
@pytest.mark.parametrize(
    ("cluster", "extra", "works"),
    [
        ({"certificate-authority-data": True, "tls-server-name": "kubernetes.test"}, {}, True),
        # The certificate is not for 127.0.0.1.
        ({"certificate-authority-data": True}, {}, False),
        ({"tls-server-name": "kubernetes.test"}, {}, False),
        ({"insecure-skip-tls-verify": True}, {}, True),
        ({}, {"disable_verify_ssl": True}, True),
    ],
)
def test_the_server_and_the_client_prove_who_they_are(
    cluster: dict[str, Any],
    extra: dict[str, Any],
    works: bool,
    many: bool,
    secure: str,
    authority: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "certificate-authority-data" in cluster:
        cluster = {**cluster, "certificate-authority-data": _data(authority / "ca.crt")}
    user = {
        "client-certificate-data": _data(authority / "client.crt"),
        "client-key-data": _data(authority / "client.key"),
    }
    define(monkeypatch, {"kube_config": kubeconfig(secure, user, **cluster), **extra})
    if works:
        assert version(many=many) == "v1.tls"
    else:
        with pytest.raises(AccessDenied, match="certificate verify failed"):
            version(many=many)


def test_without_a_client_certificate_there_is_no_answer(
    secure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(monkeypatch, {"kube_config": kubeconfig(secure, **{"insecure-skip-tls-verify": True})})
    with pytest.raises(Unreachable):
        version()


def _certifi() -> str:
    import certifi

    return certifi.where()
