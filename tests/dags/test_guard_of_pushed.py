"""The guard takes back what was pushed: a real DAG run deploys, another one guards, by manifests and by Helm."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.demo.stack import Stack
from airflow_pipeops.provider.examples import example_dags
from tests.dags.test_example_dags import data_only, run_dag
from tests.deploy.apply.cluster import KINDS
from tests.deploy.helm.conftest import Repository, repo
from tests.deploy.helm.running import deployments_live, helm
from tests.deploy.test_steady import image
from tests.kubernetes.apiserver import ApiServer, serving
from tests.ledgers import event

__all__ = ["data_only", "repo"]
BUNDLES = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"

DEPLOY = '''
from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_pipeops import ApplyManifestsOperator, Deliverable, HelmReleaseOperator

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "IMAGE"}]}
"""
IMAGE = {"image": Param("", type="string")}
common = {
    "deliverable": Deliverable("delay-api"), "environment": "production", "settle": timedelta(0),
    "poll_interval": timedelta(seconds=0.1), "deferrable": False,
}
'''
DEPLOYS = {
    "deploy_manifests": """
with DAG("deploy_manifests", schedule=None, params=IMAGE) as by_manifests:
    ApplyManifestsOperator(
        task_id="deploy", name="web", manifests=WEB.replace("IMAGE", "{{ params.image }}"), **common
    )
""",
    "deploy_helm": """
with DAG("deploy_helm", schedule=None, params=IMAGE) as by_helm:
    HelmReleaseOperator(
        task_id="deploy", release="web", chart="./web", git_conn_id="charts",
        values={"image": "{{ params.image }}"}, **common,
    )
""",
}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS) as server:
        server.tokens[""] = lambda *_: True  # a Go client shows no token without TLS
        yield server


@pytest.mark.parametrize(("kind", "by"), [("Deployment", None), ("ApplySet", "manifests"), ("", "git")])
def test_what_was_changed_in_place_is_left_to_a_person(
    kind: str, by: str | None, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(example_dags()))
    released = runpy.run_path(str(example_dags() / "release_guard.py"))["released"].function
    body = {"app": "web", "kind": kind, "revision": "a" * 40}
    body |= {"pushed": {"by": "manifests"}} if kind == "ApplySet" else {}
    item = Record("release", "delay-api", body, environment="production", source={"dag": "deploys"})
    happened = event(item.to_extra(), datetime.now(timezone.utc))
    asset = Deliverable("delay-api").released("production")
    context |= {
        "triggering_asset_events": {asset: [happened]},
        "dag": SimpleNamespace(dag_id="release_guard"),
    }
    context["params"] = {"environment": "production", "deliverable": "all", "revision": None}
    found = released("delay-api", "production", **context)
    assert (found and found["pushed_by"]) == by


@pytest.mark.parametrize("how", [None, {}, {"pushed": {"by": "manifests"}}, {"pushed": {"by": "helm"}}])
def test_a_batch_waits_for_the_retrain_policy_however_the_model_was_delivered(
    how: dict[str, Any] | None, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While nothing is in production, the batch itself starts the training."""
    connection = {"conn_type": "pipeops_storage", "host": tmp_path.as_uri()}
    for name in ("PIPEOPS_DATA", "PIPEOPS_REMEDIATION"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    (tmp_path / "flights.parquet").touch()
    plan = runpy.run_path(str(example_dags() / "data_to_model.py"))["plan"].function
    model, now = Deliverable("flight-delay"), datetime.now(timezone.utc)
    batch = event({"from_trigger": True, "payload": {"uri": str(tmp_path / "flights.parquet")}}, now)
    body = {"app": "flight-delay", "revision": "a" * 40}
    known = Record(
        "release", "flight-delay", {**body, **(how or {})}, environment="production", source={"dag": "d"}
    )
    context["triggering_asset_events"] = {Asset("flight-delay.batch"): [batch]}
    context["inlet_events"] = {
        model.released("production"): [] if how is None else [event(known.to_extra(), now)]
    }
    assert (plan(**context) is None) is (how is not None)


@pytest.mark.nightly  # minutes long; its operators are tested in the gate, without a DAG around them
@pytest.mark.timeout(1200)
def test_what_was_pushed_is_taken_back_the_way_it_came(
    data_only: Stack, api: ApiServer, repo: Repository, tmp_path: Path
) -> None:
    connections: dict[str, dict[str, Any]] = {
        "CHARTS": {"conn_type": "git_repository", "host": str(repo.folder)},
        "KUBERNETES_DEFAULT": {
            "conn_type": "kubernetes",
            "extra": {"kube_config": kubeconfig(api), "namespace": "shop", "helm_path": helm("helm4")},
        },
    }
    env = {f"AIRFLOW_CONN_{name}": json.dumps(one) for name, one in connections.items()}
    (tmp_path / "dags").mkdir()
    bundles = json.loads(data_only.environment[BUNDLES])
    own = {"name": "own", "classpath": LOCAL, "kwargs": {"path": str(tmp_path / "dags")}}
    env[BUNDLES] = json.dumps([*bundles, own])
    for way, took_back, others in (
        ("deploy_manifests", "undo", ("revert", "roll_back")),
        ("deploy_helm", "roll_back", ("revert", "undo")),
    ):
        (tmp_path / "dags" / f"{way}.py").write_text(DEPLOY + DEPLOYS[way])
        remove_all(api)
        with deployments_live(api):
            for name in ("web:1", "web:2"):
                run = run_dag(data_only, str(tmp_path / "dags" / way), {"image": name}, env=env)
                assert run["state"] == "success", run["log"][-5000:]
        with deployments_live(api, broken="web:2"):
            guard = run_dag(data_only, "release_guard", {"deliverable": "delay-api"}, env=env)
        assert guard["state"] == "success", guard["log"][-5000:]
        assert image(api) == "web:1"
        states = {
            task: guard["tasks"][f"delay_api.{task}"] for task in (took_back, *others, "incident", "watch")
        }
        assert states == {took_back: "success", "incident": "success", "watch": "skipped"} | dict.fromkeys(
            others, "skipped"
        )
        kinds = [one["kind"] for one in guard["emitted"]]
        assert sorted(kinds) == ["change", "incident", "release", "rollback"]
        (incident,) = [one for one in guard["emitted"] if one["kind"] == "incident"]
        assert "Deployment/web" in incident["body"]["what"]
        assert len(incident["parents"]) == 2

    again = run_dag(data_only, "release_guard", {"deliverable": "delay-api"}, env=env)
    assert again["tasks"]["delay_api.watch_pushed"] == "skipped", "a way back is not taken back"


def kubeconfig(api: ApiServer) -> str:
    return json.dumps(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": api.url}}],
            "users": [{"name": "u", "user": {"token": "token"}}],
        }
    )


def remove_all(api: ApiServer) -> None:
    with api.lock:
        for kind in api.kinds.values():
            kind.objects.clear()
