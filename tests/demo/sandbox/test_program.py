"""The program as people start it: real cluster, real processes, desired state from Git."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import ROOT, Server, Site
from .test_reconcile import AUTO, synced

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: 1
  progressDeadlineSeconds: 8
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: server
        image: host
        command: [python, -c]
        args:
        - |
          import http.server, os
          class H(http.server.BaseHTTPRequestHandler):
              def do_GET(self):
                  self.send_response({status}); self.end_headers(); self.wfile.write(b"{text}")
          print("serving", flush=True)
          http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
        env: [{{name: PORT, value: "8080"}}]
        ports: [{{containerPort: 8080}}]
        resources: {{limits: {{cpu: 1, memory: 1Gi}}}}
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {port}}}]
"""
JOB = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  annotations: {argocd.argoproj.io/hook: PreSync}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: job, image: host, command: [python, -c, "print('migrated')"]}]
"""


class Program(Server):
    """``python -m airflow_pipeops.demo.sandbox serve`` instead of the double."""

    def start(self) -> None:
        self.close()
        command = [sys.executable, "-m", "airflow_pipeops.demo.sandbox", "serve", "--port", "0", "--state", str(self.state),
                   "--artifacts", str(self.state.parent), "--host-image", "host", "--reconcile-interval", "1"]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        assert self.process.stdout is not None
        self.begin(self.process.stdout.readline())
        self.begin_url(self.process.stdout.readline())

    def begin(self, line: str) -> None:
        assert (
            line
            == "airflow-pipeops sandbox: an Argo CD-compatible target for demos and tests, not for production\n"
        )

    def begin_url(self, line: str) -> None:
        import json

        assert line.startswith("listening on http://127.0.0.1:"), (
            self.state.parent / "server.log"
        ).read_text()
        self.url = line.split()[-1]
        self.tokens = json.loads((self.state / "tokens.json").read_text())


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    server = Program(tmp_path / "state")
    yield server
    server.stop()


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answer(port: int) -> str:
    end = time.monotonic() + 120
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/").text
        except httpx.TransportError:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.timeout(200)
def test_a_commit_becomes_a_running_process(program: Program, tmp_path: Path) -> None:
    site, port = Site(program, tmp_path), free_port()
    site.repository.write(
        {
            "web/web.yaml": WEB.format(status=200, text="one"),
            "web/svc.yaml": SERVICE.format(port=port),
            "web/job.yaml": JOB,
        }
    )
    site.create(auto=AUTO)
    app = program.until(site.name, synced, 60)
    assert answer(port) == "one"
    assert [
        e["hookPhase"] for e in app["status"]["operationState"]["syncResult"]["resources"] if "hookType" in e
    ] == ["Succeeded"]
    nodes = program.call("GET", f"/api/v1/applications/{site.name}/resource-tree")["nodes"]
    assert {"Deployment", "ReplicaSet", "Pod", "Service"} <= {node["kind"] for node in nodes}
    with program.client("deployer") as client:
        assert "serving" in client.get(f"/api/v1/applications/{site.name}/logs").text

    commit = site.repository.write({"web/web.yaml": WEB.format(status=200, text="two")})
    program.until(site.name, lambda a: synced(a) and a["status"]["sync"]["revision"] == commit, 60)
    assert answer(port) == "two"

    key = {"group": "apps", "kind": "Deployment", "namespace": site.name, "name": "web"}
    program.call("PATCH", "/sandbox/admin/live", {**key, "patch": {"spec": {"replicas": 2}}})
    program.until(
        site.name,
        lambda a: (
            a["status"]["operationState"]["operation"]["sync"].get("selfHealAttemptsCount") and synced(a)
        ),
        30,
    )
    assert program.call("GET", "/sandbox/admin/live", **key)["items"][0]["spec"]["replicas"] == 1
    assert program.call("POST", "/sandbox/admin/kill", key)["killed"] >= 1
    program.until(site.name, synced, 60)

    # A crash of the server: the next one has the state, and the workload again.
    program.call("POST", "/sandbox/admin/crash", {}, status=202)
    assert program.process.wait(15) == 137
    program.start()
    program.until(site.name, synced, 60)
    assert answer(port) == "two"

    bad = site.repository.write({"web/web.yaml": WEB.format(status=500, text="bad")})
    app = program.until(
        site.name,
        lambda a: a["status"]["sync"]["revision"] == bad and a["status"]["health"]["status"] == "Degraded",
        40,
    )
    assert "progress deadline" in str(app["status"]["resources"])
    assert answer(port) == "two"

    program.call("DELETE", f"/api/v1/applications/{site.name}", {})
    end = time.monotonic() + 120
    while program.call("GET", "/sandbox/admin/live", namespace=site.name, kind="Deployment")["items"]:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_signal_and_a_second_start(program: Program, tmp_path: Path) -> None:
    pid = (program.state / "sandbox.pid").read_text().strip()
    assert int(pid) == program.process.pid
    command = [
        sys.executable,
        "-m",
        "airflow_pipeops.demo.sandbox",
        "serve",
        "--port",
        "0",
        "--state",
        str(program.state),
        "--artifacts",
        str(tmp_path),
    ]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (second.returncode, "another sandbox runs on" in second.stderr) == (2, True)
    port = program.url.rsplit(":", 1)[1]
    command[command.index("--port") + 1] = port
    command[command.index("--state") + 1] = str(tmp_path / "other")
    third: Any = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (third.returncode, "cannot serve on 127.0.0.1" in third.stderr) == (2, True)
    assert program.stop(signal.SIGTERM) == 0
    assert not (program.state / "sandbox.pid").exists()
