"""A real server in a process of its own, and real Git repositories for it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[3]
_numbers = itertools.count(1)


class Server:
    """A sandbox process and a client for it."""

    def __init__(self, state: Path, *, interval: float = 0.7, grace: float = 180, buffer: int = 1000) -> None:
        self.state = state
        self._options = [str(state), str(interval), str(grace), str(buffer)]
        self.log = (state.parent / "server.log").open("a")
        self.start()

    def start(self) -> None:
        self.close()
        command = [sys.executable, str(Path(__file__).with_name("double.py")), *self._options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), (self.state.parent / "server.log").read_text()
        self.url = line.split()[-1]
        self.tokens = json.loads((self.state / "tokens.json").read_text())

    def restart(self, number: int = signal.SIGTERM) -> None:
        """End it, and start it again at the same address."""
        self._options[4:] = [self.url.rpartition(":")[2]]
        self.stop(number)
        self.log = (self.state.parent / "server.log").open("a")
        self.start()

    def client(self, role: str = "admin", **headers: str) -> httpx.Client:
        head = {"Authorization": f"Bearer {self.tokens[role]}", "Content-Type": "application/json", **headers}
        return httpx.Client(base_url=self.url, headers=head, timeout=60)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: str = "admin",
        status: int = 200,
        **query: Any,
    ) -> Any:
        with self.client(role) as client:
            answer = client.request(method, path, json=body, params=query)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def get(self, name: str, **query: Any) -> dict[str, Any]:
        return self.call("GET", f"/api/v1/applications/{name}", **query)  # type: ignore[no-any-return]

    def fault(self, kind: str, **parameters: Any) -> int:
        return int(self.call("POST", "/sandbox/admin/faults", {"kind": kind, **parameters}, status=201)["id"])

    def clear(self) -> None:
        self.call("DELETE", "/sandbox/admin/faults")

    def until(self, name: str, fact: Callable[[dict[str, Any]], Any], seconds: float = 240) -> dict[str, Any]:
        """Wait until a fact holds of an Application, and return it."""
        end = time.monotonic() + seconds
        while True:
            app = self.get(name)
            try:
                if fact(app):
                    return app
            except KeyError:
                pass
            assert time.monotonic() < end, json.dumps(app, indent=1)
            time.sleep(0.03)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(10)
        self.log.close()
        self.close()
        return status

    def close(self) -> None:
        """Close our end of the output of the process before."""
        process = getattr(self, "process", None)
        if process and process.stdout:
            process.stdout.close()


class Repository:
    """A Git repository to push desired state to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = path.as_uri()
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments]
        return subprocess.run(
            command, cwd=self.path, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, files: dict[str, str | None], message: str = "change") -> str:
        """Write (or with ``None`` remove) files, commit, and return the commit."""
        for name, content in files.items():
            file = self.path / name
            if content is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(textwrap.dedent(content))
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


def config_map(name: str, value: str = "1", **annotations: str) -> str:
    return manifest("ConfigMap", name, {"data": {"value": value}}, **annotations)


def deployment(name: str, image: str = "web@sha256:aa", **annotations: str) -> str:
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"name": "server", "image": image}]}}}
    return manifest("Deployment", name, {"spec": spec}, "apps/v1", **annotations)


def hook(name: str, when: str, **annotations: str) -> str:
    return manifest("Job", name, {"spec": {}}, "batch/v1", **{"argocd.argoproj.io/hook": when, **annotations})


def manifest(kind: str, name: str, rest: dict[str, Any], version: str = "v1", **annotations: str) -> str:
    metadata: dict[str, Any] = {"name": name}
    if annotations:
        metadata["annotations"] = annotations
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata, **rest})


class Site:
    """One Application to be: a name, a namespace and a repository of its own on a shared server."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.name = f"app-{next(_numbers)}"
        self.repository = Repository(folder / self.name)

    def app(self, *, path: str = "web", auto: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        source = {"repoURL": self.repository.url, "path": path, "targetRevision": "main"}
        destination = {"server": "https://kubernetes.default.svc", "namespace": self.name}
        policy = {"syncPolicy": {"automated": auto}} if auto is not None else {}
        body = {"project": "default", "source": source, "destination": destination, **policy, **spec}
        return {"metadata": {"name": self.name}, "spec": body}

    def create(self, **options: Any) -> dict[str, Any]:
        return self.server.call("POST", "/api/v1/applications", self.app(**options))  # type: ignore[no-any-return]

    def sync(self, *, status: int = 200, **body: Any) -> dict[str, Any]:
        return self.server.call("POST", f"/api/v1/applications/{self.name}/sync", body, status=status)  # type: ignore[no-any-return]

    def get(self, **query: Any) -> dict[str, Any]:
        return self.server.get(self.name, **query)

    def until(self, fact: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        return self.server.until(self.name, fact)

    def done(self) -> dict[str, Any]:
        """Wait for the end of the operation."""
        return self.until(lambda a: "operation" not in a and a["status"]["operationState"]["phase"] in _OVER)

    def live(self, **query: str) -> list[dict[str, Any]]:
        items = self.server.call("GET", "/sandbox/admin/live", namespace=self.name, **query)["items"]
        return items  # type: ignore[no-any-return]


_OVER = ("Succeeded", "Failed", "Error")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("sandbox") / "state")
    yield server
    assert server.stop() == 0


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """The shared server; faults are off again afterwards."""
    yield shared
    shared.clear()


@pytest.fixture
def site(server: Server, tmp_path: Path) -> Iterator[Site]:
    site = Site(server, tmp_path)
    yield site
    server.clear()
    if site.name in [
        a["metadata"]["name"] for a in server.call("GET", "/api/v1/applications")["items"] or []
    ]:
        server.call("DELETE", f"/api/v1/applications/{site.name}")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make a Site on a server of its own, for tests that end the server."""
    servers = []

    def make(**options: Any) -> Site:
        servers.append(Server(tmp_path / "own" / "state", **options))
        return Site(servers[-1], tmp_path)

    (tmp_path / "own").mkdir()
    yield make
    for server in servers:
        server.stop()
