"""Charts out of a real registry and a repository that wants a login."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.deploy.helm.charts import Fetched, Source, fetch
from airflow_pipeops.deploy.helm.program import Helm, kubeconfig_of
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, ReleaseFailed
from airflow_pipeops.kubernetes.kubeconfig import Endpoint, config_endpoint
from tests.deploy.helm.conftest import Repository
from tests.deploy.helm.running import chart, helm
from tests.servers import free_ports


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed chart."""
    folder = tmp_path_factory.mktemp("charts")
    command = [helm("helm3"), "package", str(chart(folder / "web")), "--destination", str(folder / "packed")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "packed" / "web-1.2.3.tgz"


@pytest.fixture(scope="module")
def oci(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Iterator[tuple[str, str]]:
    """A registry that holds it and wants a login, and the digest of its manifest.

    Without TLS: at this machine's own name, Helm leaves it out whatever it is told.
    """
    folder = tmp_path_factory.mktemp("registry")
    made = subprocess.run(
        ["htpasswd", "-nbB", "-C", "4", "reader", "swordfish-9"], check=True, capture_output=True
    )
    (folder / "htpasswd").write_bytes(made.stdout)
    host = f"localhost:{free_ports(1)}"
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": host.replace("localhost", "127.0.0.1")},
        "auth": {"htpasswd": {"realm": "registry", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(settings), encoding="utf-8")
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 240
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(host.partition(":")[2])), 1):
                break
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, "the registry does not listen"
            time.sleep(0.02)
        command = [helm("helm3"), "push", str(packed), f"oci://{host}/charts", "--plain-http"]
        command += ["--username", "reader", "--password", "swordfish-9"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        yield host, next(line for line in done.stderr.splitlines() if "Digest:" in line).split()[-1]
    finally:
        server.kill()
        server.wait(30)


def connect(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Make the connection ``oci``, with the login."""
    named = {"host": f"http://{host}", "login": "reader", "password": "swordfish-9"}
    monkeypatch.setenv("AIRFLOW_CONN_OCI", json.dumps({"conn_type": "container_registry", **named}))


def fetched(major: str, source: Source) -> Fetched:
    with Helm(helm(major), "shop") as program:
        program.check()
        found = fetch(source, program, 60.0)
        assert found.path.exists()
        return found


def test_a_chart_of_a_registry_is_checked_by_its_digest(
    oci: tuple[str, str], major: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, digest = oci
    connect(monkeypatch, host)
    name = f"oci://{host}/charts/web"
    found = fetched(major, Source(f"{name}@{digest}", version="1.2.3", chart_conn_id="oci"))
    assert found.facts["chart"] == {"name": "web", "version": "1.2.3", "source": name, "digest": digest}
    with pytest.raises(ReleaseFailed, match="is wanted"):
        fetched(major, Source(f"{name}@sha256:{'0' * 64}", version="1.2.3", chart_conn_id="oci"))
    with pytest.raises(NotFound, match=r"9\.9\.9"):
        fetched(major, Source(name, version="9.9.9", chart_conn_id="oci"))


def test_a_digest_alone_is_enough_for_helm_4(oci: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    host, digest = oci
    connect(monkeypatch, host)
    source = Source(f"oci://{host}/charts/web@{digest}", chart_conn_id="oci")
    assert fetched("helm4", source).facts["chart"]["digest"] == digest
    with pytest.raises(InvalidInput, match="Give the version, too"):
        fetched("helm3", source)


@pytest.fixture
def charts(packed: Path) -> Iterator[str]:
    """The URL of a repository of charts that wants a login."""
    subprocess.run([helm("helm3"), "repo", "index", str(packed.parent)], check=True)
    wanted = "Basic " + base64.b64encode(b"reader:swordfish-9").decode()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            if self.headers.get("Authorization") == wanted:
                super().do_GET()
            else:
                self.send_error(401)

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(packed.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_login_of_a_repository_is_on_no_command_line(
    charts: str, packed: Path, major: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    run = Helm.run
    monkeypatch.setattr(
        Helm, "run", lambda self, *words, **more: said.extend(words) or run(self, *words, **more)
    )
    login = {"conn_type": "http", "login": "reader", "password": "swordfish-9"}
    monkeypatch.setenv("AIRFLOW_CONN_CHARTS", json.dumps(login))
    source = Source("web", version="1.2.3", repository=charts, chart_conn_id="charts")
    found = fetched(major, source).facts["chart"]
    assert (found["version"], found["source"], found["digest"][:7]) == ("1.2.3", charts, "sha256:")
    assert "swordfish-9" not in " ".join(said)
    with pytest.raises(AccessDenied, match="credential was refused"):
        fetched(major, Source("web", version="1.2.3", repository=charts))


def test_a_chart_of_a_web_server_is_known_by_its_digest(
    charts: str, packed: Path, major: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = {"conn_type": "http", "login": "reader", "password": "swordfish-9"}
    monkeypatch.setenv("AIRFLOW_CONN_CHARTS", json.dumps(login))
    url, digest = f"{charts}/{packed.name}", f"sha256:{hashlib.sha256(packed.read_bytes()).hexdigest()}"
    found = fetched(major, Source(f"{url}@{digest}", chart_conn_id="charts")).facts["chart"]
    assert found == {"name": "web", "version": "1.2.3", "source": url, "digest": digest}
    with pytest.raises(InvalidInput, match="no SHA-256 says"):
        fetched(major, Source(url, chart_conn_id="charts"))
    with pytest.raises(InvalidInput, match="is wanted"):
        fetched(major, Source(f"{url}@sha256:{'0' * 64}", chart_conn_id="charts"))
    with pytest.raises(AccessDenied, match="may not be read"):
        fetched(major, Source(f"{url}@{digest}"))


def test_values_are_told_by_a_digest_without_secrets(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo.folder / "staging.yaml").write_text("greeting: from a file\n", encoding="utf-8")
    repo.commit()
    digests = []
    for password in ("swordfish-1", "swordfish-2"):
        monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps({"conn_type": "generic", "password": password}))
        source = Source(
            "./web", git_conn_id="charts", values={"a": 1}, values_files=["staging.yaml"],
            secret_values={"db.password": "db.password", "db.user.name": "db.password"},
        )  # fmt: skip
        with Helm(helm("helm3"), "shop") as program:
            found = fetch(source, program, 60.0)
            assert [path.name for path in found.files] == ["staging.yaml", "values.json", "secrets.json"]
            assert json.loads(found.files[-1].read_text()) == {
                "db": {"password": password, "user": {"name": password}}
            }
        digests.append(found.facts["values"])
    assert digests[0] == digests[1]


def test_the_kubeconfig_says_what_the_connection_says() -> None:
    endpoint = Endpoint(
        "https://k8s", authorization="Bearer abc", ca_data="CA", cert_data="CERT", key_data="KEY", server_name="api",
        proxy="http://proxy",
    )  # fmt: skip
    assert config_endpoint(kubeconfig_of(endpoint, "shop")) == endpoint
    loose = Endpoint("https://k8s", verify=False)
    assert config_endpoint(kubeconfig_of(loose, "shop")) == loose
