"""The same apply set on a real cluster, where ``PIPEOPS_TEST_KUBECONFIG`` names one; otherwise on the cluster for tests."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.deploy.apply.operators import ApplyManifestsOperator
from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.kubernetes.connections import connect
from airflow_pipeops.kubernetes.kinds import Kind
from tests.deploy.conftest import Cluster
from tests.git.conftest import Remote
from tests.kubernetes.real import IMAGE, NAMESPACE, REAL, WHERE, reach

pytestmark = [pytest.mark.timeout(600 if REAL else 120), WHERE]
CONFIG, WEB = Kind("", "v1", "configmaps"), Kind("apps", "v1", "deployments")


def read(kind: Kind, name: str) -> dict[str, Any] | None:
    """Return an object, whoever holds it; ``None`` if it is not there."""

    async def get() -> dict[str, Any] | None:
        async with connect("kubernetes_default") as client:
            try:
                return await client.get(kind, name, NAMESPACE if REAL else "shop")
            except NotFound:
                return None

    return asyncio.run(get())


@pytest.fixture
def name(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A name that nobody else has on a real cluster; what was made there is taken away in the end."""
    if not REAL:
        cluster.start()
        yield "web"
        return
    reach(monkeypatch)
    made = f"pipeops-{uuid.uuid4().hex[:10]}"
    yield made

    async def remove() -> None:
        async with connect("kubernetes_default") as client:
            # The set itself is a ConfigMap of its name.
            for kind, one in ((WEB, made), (CONFIG, settings_of(made)), (CONFIG, made)):
                try:
                    await client.delete(kind, one, NAMESPACE)
                except NotFound:
                    continue

    asyncio.run(remove())


def settings_of(name: str) -> str:
    return f"{name}-settings"


def manifests(name: str, *, settings: bool) -> str:
    containers = [{"name": "web", "image": IMAGE, "command": ["sleep", "3600"]}]
    pod = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 0},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": pod}
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": settings_of(name)},
        "data": {"a": "1"},
    }
    return "\n---\n".join(json.dumps(one) for one in ([web, config] if settings else [web]))


def test_what_is_applied_comes_to_life_is_left_alone_and_is_pruned(
    remote: Remote,
    name: str,
    where: str,
    context: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    remote.put("deploy/all.yaml", manifests(name, settings=True))
    remote.commit("all")
    connection = {"conn_type": "git_repository", "host": str(remote.path)}
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_APP_REPO", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", f"file://{tmp_path}/evidence")

    def apply(run: str) -> dict[str, Any]:
        context["ti"].run_id = run
        made = ApplyManifestsOperator(
            task_id="deploy", name=name, path="deploy", settle=timedelta(0), deferrable=False,
            poll_interval=timedelta(milliseconds=20), timeout=timedelta(minutes=3),
        )  # fmt: skip
        return dict(made.execute(context))

    first = apply("first")
    assert (first["commit"], first["health"], first["objects"]) == (remote.tip(), "Healthy", 2)
    assert (read(CONFIG, settings_of(name)) or {})["data"] == {"a": "1"}
    before = (read(WEB, name) or {})["metadata"]["generation"]
    assert apply("second")["changed"] is False
    assert (read(WEB, name) or {})["metadata"]["generation"] == before
    remote.put("deploy/all.yaml", manifests(name, settings=False))
    remote.commit("without the settings")
    assert apply("third")["changed"] is True
    assert read(CONFIG, settings_of(name)) is None
    assert read(WEB, name) is not None
