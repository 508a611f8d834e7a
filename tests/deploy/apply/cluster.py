"""The API server for tests, asked without a network, and workers that die at any request."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import unquote

from airflow_pipeops.deploy.apply.engine import Applier, release_of
from airflow_pipeops.deploy.apply.sets import PART_OF
from airflow_pipeops.deploy.apply.wanted import Done, Wanted
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.errors import error_of
from tests.kubernetes.apiserver import ApiServer
from tests.kubernetes.objects import Refused

KINDS = (
    ("", "v1", "namespaces"),
    ("", "v1", "persistentvolumeclaims"),
    ("", "v1", "services"),
    ("apps", "v1", "deployments", True),
    ("argoproj.io", "v1alpha1", "rollouts", True),
    # Of this group, the version that the server prefers does not have every kind.
    ("serving.kserve.io", "v1alpha1", "servingruntimes"),
    ("serving.kserve.io", "v1beta1", "inferenceservices", True),
)


class Died(BaseException):
    """The worker was killed."""


class _Direct:
    """Asks the server in this very thread.

    :param server: to ask.
    :param dies_at: number of the request at which the worker dies; 0 for never.
    :param acted: whether the server acts on that request.
    """

    url = "direct"

    def __init__(self, server: ApiServer, dies_at: int = 0, *, acted: bool = False) -> None:
        self.server, self.dies_at, self.acted, self.asked = server, dies_at, acted, 0
        self.requests: list[tuple[str, str]] = []

    async def object(self, method: str, path: str, *, about: str, **request: Any) -> dict[str, Any]:
        self.asked += 1
        dies = self.asked == self.dies_at
        if (dies and not self.acted) or 0 < self.dies_at < self.asked:
            raise Died
        self.requests.append((method, path))
        headers = {"authorization": "Bearer token", "content-type": request.get("content_type", "")}
        raw = json.dumps(request["json"]).encode() if "json" in request else b""
        query = dict(request.get("params") or {})
        try:
            with self.server.lock:
                _, answer = self.server._answer(method, unquote(path), query, headers, raw)
        except Refused as refused:
            if dies:
                raise Died from None
            raise error_of(refused.code, json.dumps(refused.body).encode(), about, "direct") from None
        if dies:
            raise Died
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]


def client_of(server: ApiServer, dies_at: int = 0, *, acted: bool = False) -> KubernetesClient:
    client = KubernetesClient(None)  # type: ignore[arg-type]
    client._http = _Direct(server, dies_at, acted=acted)  # type: ignore[assignment]
    return client


def relation(recorded: str, wanted: str) -> Any:
    return "newer" if int(wanted) > int(recorded) else "older"


def release(server: ApiServer, wanted: Wanted, dies_at: int = 0, *, acted: bool = False) -> Done:
    """Apply a set as one attempt of a task does."""

    async def run() -> Done:
        applier = Applier(client_of(server, dies_at, acted=acted), wanted, relation)
        look = await applier.look()
        known = wanted.undo
        made = release_of(wanted, look.manifests, known.sha256 if known else f"kept-{wanted.commit}")
        return await applier.apply(look, made)

    return asyncio.run(run())


def configmap(name: str, value: str = "1", namespace: str = "shop") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"value": value},
    }


def service(name: str, value: str = "1") -> dict[str, Any]:
    spec = {"selector": {"app": name, "version": value}, "ports": [{"port": 80}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }


def runtime(name: str, value: str = "1") -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"value": value},
    }


def members(server: ApiServer) -> dict[str, str]:
    """Return what carries the label of any set: its kind and name, and its commit."""
    found = {}
    for kind in server.kinds.values():
        for (_, name), item in kind.objects.items():
            metadata = item["metadata"]
            if PART_OF in (metadata.get("labels") or {}):
                found[f"{kind.plural}/{name}"] = (metadata.get("annotations") or {}).get("pipeops/commit", "")
    return found
