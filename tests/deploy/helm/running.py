"""Helm's own programs, charts, and a cluster that they and our operators reach."""

from __future__ import annotations

import functools
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.apiserver import ApiServer
from tests.threads import repeated

ROOT = Path(__file__).parents[3]
NAMESPACE = "shop"
#: Both majors; what holds for one has to hold for the other.
MAJORS = ("helm3", "helm4")

CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-config"}
data: {greeting: {{ .Values.greeting | quote }}}
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-login"}
stringData: {password: {{ .Values.db.password | quote }}}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: 2
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec: {containers: [{name: web, image: "{{ .Values.image }}"}]}
"""


@functools.cache
def helm(major: str) -> str:
    """Return the program of a major version, fetched where it is not there."""
    script = [str(ROOT / ".ci" / "helm"), sys.executable]
    # Tests have a home of their own, and the programs are kept for all of them.
    env = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"}
    env["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
    folder = subprocess.run(
        script, check=True, capture_output=True, text=True, timeout=280, env=env
    ).stdout.strip()
    return str(Path(folder) / major)


def chart(
    folder: Path, version: str = "1.2.3", values: dict[str, Any] | None = None, **templates: str
) -> Path:
    """Write a chart with these templates, by default a ConfigMap and a Deployment."""
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    about = {"apiVersion": "v2", "name": folder.name, "version": version, "appVersion": "7"}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(about))
    given = {"greeting": "hello", "image": "registry.example.com/web:1", **(values or {})}
    (folder / "values.yaml").write_text(yaml.safe_dump(given))
    for name, text in (templates or {"config": CONFIG, "deployment": DEPLOYMENT}).items():
        (folder / "templates" / f"{name}.yaml").write_text(text)
    return folder


def kubeconfig(path: Path, url: str) -> Path:
    """Write a kubeconfig; a Go client shows no token where there is no TLS."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "token"}}],
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def run(major: str, config: Path, *arguments: str) -> str:
    """Run Helm as a person does at a terminal."""
    env = {"PATH": os.environ["PATH"], "HOME": str(config.parent / "home"), "KUBECONFIG": str(config)}
    done = subprocess.run(
        [helm(major), *arguments, "--namespace", NAMESPACE],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _became(item: dict[str, Any], broken: str) -> None:
    """Bring a Deployment to life as its controller does, or say why it will not come."""
    image = item["spec"]["template"]["spec"]["containers"][0]["image"]
    wanted, generation = int(item["spec"].get("replicas", 1)), item["metadata"]["generation"]
    if broken and broken in image:
        progress = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        told = {
            "replicas": wanted,
            "updatedReplicas": 0,
            "conditions": [{**progress, "message": "no such image"}],
        }
    else:
        conditions = [
            {"type": "Available", "status": "True"},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        ]
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        told = {**dict.fromkeys(counts, wanted), "conditions": conditions}
    item["status"] = {**told, "observedGeneration": generation}


@contextmanager
def deployments_live(api: ApiServer, broken: str = "") -> Iterator[None]:
    """Play the controller of Deployments.

    :param broken: those whose image has this in its name never come to life.
    """

    def play() -> None:
        for item in api.all("deployments"):
            api.change("deployments", NAMESPACE, item["metadata"]["name"], lambda one: _became(one, broken))

    with repeated(0.01, play):
        yield
