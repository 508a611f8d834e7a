"""Argo CD in two worlds that look the same to a test: behind its REST API, and behind the Kubernetes API."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any
from urllib.error import HTTPError

from airflow_pipeops.argocd.clients.kubernetes import ArgoCDCoreClient
from airflow_pipeops.argocd.clients.protocol import AppRef, ArgoCD
from airflow_pipeops.argocd.clients.rest import ArgoCDClient
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kubeconfig import Endpoint
from tests.argocd.controller import Controller
from tests.kubernetes.apiserver import ApiServer

_NUMBERS = itertools.count(1)
FAST: dict[str, Any] = {"pause": 0.02, "timeout": 5.0}


def config_map(value: str) -> str:
    """Return a manifest that differs with its value."""
    return f'{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"settings"}},"data":{{"value":"{value}"}}}}'


def spec(repo: str, name: str, automated: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the spec of an application."""
    return {
        "project": "default",
        "source": {"repoURL": repo, "path": name, "targetRevision": "main"},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": name},
        **({} if automated is None else {"syncPolicy": {"automated": automated}}),
    }


class RestWorld:
    """The sandbox, with a real repository and a real reconciler."""

    def __init__(self, sandbox: Any) -> None:
        self.sandbox, self.url = sandbox, sandbox.url
        self.repo = sandbox.repository.url
        self.full, self.readonly = sandbox.tokens["admin"], sandbox.tokens["viewer"]
        self._made: list[str] = []

    def client(self, token: str = "", url: str = "", **options: Any) -> ArgoCD:
        return ArgoCDClient(url or self.url, token or self.full, **{**FAST, **options})

    def make(self, automated: dict[str, Any] | None = None) -> tuple[AppRef, str]:
        """Create an application; return it, and the commit that it is to be at."""
        name = f"contract-{next(_NUMBERS)}"
        commit = self.commit(name)
        self.sandbox.create(name, automated=automated)
        self._made.append(name)
        return AppRef(name, "default"), commit

    def commit(self, name: str) -> str:
        files = {f"{name}/a.yaml": config_map(str(next(_NUMBERS)))}
        return str(self.sandbox.repository.commit(files))

    def hang(self, app: AppRef) -> None:
        self.sandbox.fault(kind="hang_refresh", app=app.name)

    def stick(self, app: AppRef) -> None:
        self.sandbox.fault(kind="stuck_operation", app=app.name)

    def heal(self) -> None:
        self.sandbox.heal()

    def close(self) -> None:
        """Leave nothing behind: the reconciler looks at each application every second."""
        self.heal()
        for name in self._made:
            with contextlib.suppress(HTTPError):
                self.sandbox.call("DELETE", f"/api/v1/applications/{name}?project=default&cascade=false")


class CoreWorld:
    """The API server for tests, with a thread that plays the controller."""

    repo = "https://git.example.com/desired.git"

    def __init__(self, api: ApiServer, controller: Controller) -> None:
        self.api, self.controller, self.url = api, controller, api.url
        self.full, self.readonly = "token", "readonly"
        api.tokens["readonly"] = lambda verb, target, namespace: verb in ("get", "list", "watch")
        self.commit("")

    def client(self, token: str = "", url: str = "", **options: Any) -> ArgoCD:
        async def source() -> Endpoint:
            return Endpoint(url or self.url, f"Bearer {token or self.full}")

        given = {**FAST, **options}
        return ArgoCDCoreClient(KubernetesClient(source, **given), timeout=given["timeout"])

    def make(self, automated: dict[str, Any] | None = None) -> tuple[AppRef, str]:
        name = f"contract-{next(_NUMBERS)}"
        commit = self.commit(name)
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": name, "namespace": "argocd"},
            "spec": spec(self.repo, name, automated),
        }
        self.api.put("argoproj.io", "v1alpha1", "applications", body)
        return AppRef(name, "default"), commit

    def commit(self, name: str) -> str:
        self.controller.heads[self.repo] = f"{next(_NUMBERS):040x}"
        return self.controller.heads[self.repo]

    def hang(self, app: AppRef) -> None:
        self.controller.hung.add(app.name)

    def stick(self, app: AppRef) -> None:
        self.controller.stuck.add(app.name)

    def heal(self) -> None:
        self.controller.hung.clear()
        self.controller.stuck.clear()
        self.api.faults.clear()


World = RestWorld | CoreWorld
