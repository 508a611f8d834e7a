"""A cluster for Helm."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.kubernetes.apiserver import ApiServer, serving


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A cluster, at connection ``cluster``; Helm itself shows no token without TLS, and may all."""
    with serving(("apps", "v1", "deployments", True), ("", "v1", "namespaces")) as server:
        server.tokens[""] = lambda *_: True
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "users": [{"name": "u", "user": {"token": "token"}}],
        }
        connection = {"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(config)}}
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps(connection))
        yield server


@pytest.fixture(params=["helm3", "helm4"])
def major(request: pytest.FixtureRequest) -> str:
    """Each major version of Helm."""
    return str(request.param)
