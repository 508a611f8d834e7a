"""A real sandbox over real HTTP with a real Git repository, and a server that answers whatever a test scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

SERVER = (
    "import http.server,os;"
    "http.server.ThreadingHTTPServer((os.environ['HOST'],int(os.environ['PORT'])),"
    "http.server.SimpleHTTPRequestHandler).serve_forever()"
)


def deployment(command: str = SERVER, *, mark: str = "1", deadline: int = 600) -> str:
    """Return the manifest of a Deployment that runs a program of ours under this Python."""
    container = {
        "name": "server",
        "image": "airflow-pipeops",
        "command": ["python3", "-c", command],
        "env": [{"name": "PORT", "value": "8080"}, {"name": "MARK", "value": mark}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "api"},
            "spec": {
                "replicas": 1,
                "progressDeadlineSeconds": deadline,
                "selector": {"matchLabels": {"app": "api"}},
                "template": {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [container]}},
            },
        }
    )


def config_map(value: str, name: str = "settings") -> str:
    """Return the manifest of a ConfigMap."""
    return json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}
    )


class Repository:
    """A bare repository and a work tree to commit from."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.tree = folder / "desired.git", folder / "tree"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.bare)], check=True)
        subprocess.run(
            ["git", "clone", "-q", str(self.bare), str(self.tree)], check=True, capture_output=True
        )
        self._git("checkout", "-q", "-B", "main")

    @property
    def url(self) -> str:
        return self.bare.as_uri()

    def commit(self, files: dict[str, str], message: str = "Change") -> str:
        """Write files, commit, push; return the commit id."""
        for name, text in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._git("add", "-A")
        self._git("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", message)
        self._git("push", "-q", "origin", "main")
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.tree), *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


class Sandbox:
    """A running sandbox."""

    def __init__(self, url: str, tokens: dict[str, str], repository: Repository) -> None:
        self.url, self.tokens, self.repository = url, tokens, repository

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make a call as the administrator."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.tokens['admin']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def create(self, name: str, path: str | None = None, *, automated: dict[str, Any] | None = None) -> None:
        """Create an application for a folder of the repository."""
        self.call(
            "POST",
            "/api/v1/applications",
            {
                "metadata": {"name": name, "namespace": "argocd"},
                "spec": {
                    "project": "default",
                    "source": {
                        "repoURL": self.repository.url,
                        "path": path or name,
                        "targetRevision": "main",
                    },
                    "destination": {"server": "https://kubernetes.default.svc", "namespace": name},
                    "syncPolicy": {} if automated is None else {"automated": automated},
                },
            },
        )

    def fault(self, **fault: Any) -> None:
        """Switch a fault on."""
        self.call("POST", "/sandbox/admin/faults", fault)

    def heal(self) -> None:
        """Switch all faults off."""
        self.call("DELETE", "/sandbox/admin/faults")

    def patch(
        self, app: str, patch: dict[str, Any], *, kind: str = "ConfigMap", name: str = "settings"
    ) -> None:
        """Change a live object behind Git's back."""
        key = {"group": "", "kind": kind, "namespace": app, "name": name}
        self.call("PATCH", "/sandbox/admin/live", {**key, "patch": patch})

    def until(
        self, app: str, check: Callable[[dict[str, Any]], bool], seconds: float = 120.0
    ) -> dict[str, Any]:
        """Return the application once it is as wanted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.call("GET", f"/api/v1/applications/{app}?project=default")
            if check(found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{app} stayed {json.dumps(found.get('status'))[:2000]}")


# Of a module: it looks at all of its applications every second for as long as it runs.
@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    repository = Repository(folder)
    repository.commit({"README.md": "desired state"}, "Begin")
    (folder / "artifacts").mkdir()
    command = [
        sys.executable,
        "-m",
        "airflow_pipeops.demo.sandbox",
        "serve",
        "--port",
        "0",
        "--reconcile-interval",
        "1",
    ]
    command += [
        "--state",
        str(folder / "state"),
        "--artifacts",
        str(folder / "artifacts"),
        "--host-image",
        "airflow-pipeops",
    ]
    root = Path(__file__).parents[2]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=root, start_new_session=True
        )
    assert process.stdout is not None
    url = ""
    for line in process.stdout:
        if line.startswith("listening on "):
            url = line.removeprefix("listening on ").strip()
            break
    if not url:
        pytest.fail(f"the sandbox did not start: {(folder / 'log').read_text()[-2000:]}")
    yield Sandbox(url, json.loads((folder / "state" / "tokens.json").read_text()), repository)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _connect(monkeypatch: pytest.MonkeyPatch, url: str, token: str, **extra: Any) -> None:
    connection = {
        "conn_type": "argocd",
        "host": url,
        "password": token,
        "extra": {"project": "default", **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_ARGOCD_DEFAULT", json.dumps(connection))


@pytest.fixture
def connected(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The sandbox behind ``argocd_default``, its desired state behind ``pipeops_gitops_repo``."""
    _connect(monkeypatch, sandbox.url, sandbox.tokens["deployer"])
    git = {"conn_type": "git_repository", "host": sandbox.repository.url, "extra": {"branch": "main"}}
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_GITOPS_REPO", json.dumps(git))
    yield sandbox
    sandbox.heal()


class Script:
    """A server that answers as it was told, in order; the last answer is given for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        #: Answers by the end of the path; these come first.
        self.routes: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.delay = 0.0
        #: Sent with each answer.
        self.extra: dict[str, str] = {}
        script = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                script.requests.append((self.command, self.path, self.rfile.read(length).decode()))
                script.headers.append(dict(self.headers))
                time.sleep(script.delay)
                path = urlsplit(self.path).path
                routed = next((told for end, told in script.routes.items() if path.endswith(end)), None)
                status, body = routed or (
                    script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                )
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                # A body that ends with a zero byte is cut short: the header promises more than there is.
                self.send_header("Content-Length", str(len(raw) + (100 if raw.endswith(b"\0") else 0)))
                if 300 <= status < 400:
                    self.send_header("Location", "https://elsewhere.example.com/")
                for name, value in script.extra.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _answer

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/base/path"

    def paths(self) -> list[str]:
        """Return the paths that were asked for."""
        return [urlsplit(path).path for _, path, _ in self.requests]


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    thread = threading.Thread(target=script.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield script
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture
def scripted(script: Script, monkeypatch: pytest.MonkeyPatch) -> Script:
    """The scripted server behind ``argocd_default``."""
    _connect(monkeypatch, script.url, "s3cr3t-token", timeout=2)
    return script


@pytest.fixture
def manifests() -> Any:
    """Makers of manifests."""

    class Makers:
        deployment = staticmethod(deployment)
        config_map = staticmethod(config_map)

    return Makers
