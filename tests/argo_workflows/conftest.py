"""A server of Argo Workflows, connections to it, and a task's context with a store of its state."""

from __future__ import annotations

import importlib
import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_pipeops.argo_workflows.operators.base import ArgoWorkflowsOperator
from airflow_pipeops.argo_workflows.triggers import ArgoWorkflowTrigger
from tests.argo_workflows.server import ArgoServer, serving_argo

#: What a test may ask of both: the server for tests, and the Kubernetes API that is another of its doors.
DOORS = ("argo_workflows", "kubernetes")


class Store:
    """Airflow's store of a task's state, as it outlives an attempt."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.kept[key] = json.dumps(value)


@pytest.fixture(scope="session")
def warm() -> None:
    """Import what takes seconds, and no test is about."""
    importlib.import_module("airflow.providers.cncf.kubernetes.hooks.kubernetes")


@pytest.fixture
def argo(warm: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArgoServer]:
    """The server, and the connections ``argo_workflows_default`` and ``kubernetes_default`` to it."""
    with serving_argo() as server:
        connect(monkeypatch, server.url)
        yield server


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What tasks and triggers say; outside of a task runner, Airflow's own loggers write where nobody looks."""
    said = property(lambda _: logging.getLogger("said"))
    for cls in (ArgoWorkflowsOperator, ArgoWorkflowTrigger):
        monkeypatch.setattr(cls, "log", said, raising=False)
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def context(context: dict[str, Any]) -> dict[str, Any]:
    """A task's context whose store outlives its attempts, and whose run is another in each test."""
    context["task_state_store"] = Store()
    context["ti"].run_id = f"run-{uuid.uuid4().hex[:8]}"
    return context


def connect(monkeypatch: pytest.MonkeyPatch, url: str, token: str = "token", **extra: Any) -> None:
    """Make both connections."""
    argo = {
        "conn_type": "argo_workflows",
        "host": url,
        "password": token,
        "extra": {"namespace": "argo", **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_ARGO_WORKFLOWS_DEFAULT", json.dumps(argo))
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": url}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {"token": token}}],
    }
    kubernetes = {
        "conn_type": "kubernetes",
        "extra": {"kube_config": json.dumps(config), "namespace": "argo"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(kubernetes))
