"""A server of Argo Workflows with the templates of the chart."""

from __future__ import annotations

import json

import pytest

from tests.argo_workflows.conftest import Store, argo, warm
from tests.argo_workflows.server import ArgoServer
from tests.helm.test_workflow_templates import templates

__all__ = ["argo", "warm"]


@pytest.fixture
def server(argo: ArgoServer, monkeypatch: pytest.MonkeyPatch) -> ArgoServer:
    """The server, in whose namespace the chart was installed."""
    for name, template in templates().items():
        argo.template(template["spec"], name)
    for name, value in {
        "APP": {
            "conn_type": "git_repository",
            "host": "https://git.example.com/team/shop.git",
            "login": "robot",
            "password": "s3cr3t",
        },
        "FOLDER": {"conn_type": "git_repository", "host": "/srv/git/shop"},
        "REGISTRY": {
            "conn_type": "container_registry",
            "host": "registry.example.com",
            "password": "pa55word",
        },
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(value))
    return argo


@pytest.fixture
def store() -> Store:
    """What Airflow keeps of a task's state."""
    return Store()
