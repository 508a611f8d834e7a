"""A real cluster in a temporary folder, and images built into OCI layouts by hand."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import inspect
import io
import json
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.runtime.images import ImageStore
from airflow_pipeops.demo.sandbox.runtime.key import Key

#: A server that answers with its version on every path, save the path /ready before its time, and dies on demand.
SERVER = """
import http.server, os, signal, sys, time
born = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        late = self.path == "/ready" and time.monotonic() - born < float(os.environ.get("READY_AFTER", "0"))
        sick = self.path == "/live" and os.path.exists(os.environ.get("SICK", "/nowhere/at/all"))
        body = (os.environ.get("VERSION", "?") + " " + os.environ.get("GREETING", "")).encode()
        self.send_response(503 if late or sick else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
print("listening on", os.environ["PORT"], *sys.argv[1:], flush=True)
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests, each in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**given), 60))
    return True


class Layout:
    """Writes OCI image layouts."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, name: str, data: bytes) -> str:
        folder = self.root / name / "blobs" / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(data).hexdigest()
        (folder / digest).write_bytes(data)
        return f"sha256:{digest}"

    def image(self, name: str, members: list[tuple[tarfile.TarInfo, bytes]], **config: Any) -> str:
        """Write an image of one layer; returns its reference."""
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as archive:
            for info, data in members:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        layer = self.blob(name, gzip.compress(raw.getvalue(), mtime=0))
        settings = self.blob(name, json.dumps({"config": config}).encode())
        manifest = {"schemaVersion": 2, "config": {"digest": settings}, "layers": [{"digest": layer}]}
        return f"{name}@{self.blob(name, json.dumps(manifest).encode())}"

    def app(self, name: str = "app", source: str = SERVER, **config: Any) -> str:
        """Write an image that runs ``source`` as /app/main.py."""
        config = {"Cmd": ["python", "main.py"], "WorkingDir": "/app", **config}
        return self.image(name, [(tarfile.TarInfo("app/main.py"), source.encode())], **config)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "artifacts")


@pytest.fixture
def make_cluster(tmp_path: Path) -> Callable[[], Cluster]:
    """Make a cluster over the same state each time."""
    return lambda: Cluster(tmp_path / "state", ImageStore(tmp_path / "artifacts"), ("airflow-pipeops",))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def eventually(fact: Callable[[], Any], what: str = "", timeout: float = 40) -> Any:
    """Wait until a fact holds; returns it."""
    end = time.monotonic() + timeout
    while not (found := fact()):
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {timeout} s: {what or inspect.getsource(fact)}")
        await asyncio.sleep(0.02)
    return found


@pytest.fixture
def wait() -> Callable[..., Any]:
    return eventually


def deployment(image: str, name: str = "web", **spec: Any) -> dict[str, Any]:
    """A Deployment with a readiness probe; ``env``, ``container``, ``pod`` and ``spec`` fields by keyword."""
    env = [{"name": k, "value": v} for k, v in spec.pop("env", {}).items()]
    container = {
        "name": "server",
        "image": image,
        "env": env,
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 0.1},
        **spec.pop("container", {}),
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "containers": [container],
                    **spec.pop("pod", {}),
                },
            },
            **spec,
        },
    }


@pytest.fixture(name="deployment")
def deployment_factory() -> Callable[..., dict[str, Any]]:
    return deployment


@pytest.fixture
def service() -> Callable[..., dict[str, Any]]:
    def make(port: int, name: str = "web") -> dict[str, Any]:
        ports = [{"port": 80, "targetPort": 8080, "nodePort": port}]
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {"type": "NodePort", "selector": {"app": name}, "ports": ports},
        }

    return make


@pytest.fixture
def web() -> Key:
    return Key("apps", "Deployment", "demo", "web")
