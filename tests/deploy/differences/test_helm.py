"""Whether the cluster still is what a Helm release rendered: Helm of both majors, and a Kubernetes API over HTTP."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.deploy.differences.operators import HelmDriftOperator
from airflow_pipeops.deploy.helm.releases import packed
from airflow_pipeops.deploy.watchers import HelmDriftTrigger
from tests.deploy.differences.test_sets import SETTINGS, Store, written
from tests.deploy.helm.conftest import api as api
from tests.deploy.helm.conftest import major as major
from tests.deploy.helm.running import (
    CONFIG,
    DEPLOYMENT,
    NAMESPACE,
    SECRET,
    chart,
    deployments_live,
    kubeconfig,
    run,
)
from tests.kubernetes.apiserver import ApiServer

CONFIG_PATH = SETTINGS.replace("settings", "web-config")


@pytest.fixture
def released(api: ApiServer, major: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    """A cluster with the release ``web``."""
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", f"file://{tmp_path}/evidence")
    made = chart(
        tmp_path / "web", values={"db": {"password": "hunter2hunter2"}}, c=CONFIG, d=DEPLOYMENT, s=SECRET
    )
    run(major, kubeconfig(tmp_path / "config", api.url), "install", "web", str(made))
    return api


def looked(context: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    given = {"task_id": "drift", "release": "web", "namespace": NAMESPACE, "kubernetes_conn_id": "cluster"}
    found: dict[str, Any] = HelmDriftOperator(**{**given, **arguments}).execute(context)
    return found


def test_a_release_that_was_left_alone_is_clean(released: ApiServer, context: dict[str, Any]) -> None:
    with deployments_live(released):
        found = looked(context)
    assert (found["verdict"], found["revision"], found["resources"]) == ("clean", "1", []), found


def test_what_a_person_changed_and_deleted_is_told(released: ApiServer, context: dict[str, Any]) -> None:
    written(released, CONFIG_PATH, {"data": {"greeting": "hi", "more": "theirs"}})
    written(
        released,
        f"/api/v1/namespaces/{NAMESPACE}/secrets/web-login",
        {"stringData": {"password": "123456789"}},
    )
    with released.lock:
        del released.kinds["apps", "v1", "deployments"].objects[NAMESPACE, "web"]
    found = looked(context)
    assert [(one["kind"], one["change"], one["fields"]) for one in found["resources"]] == [
        ("ConfigMap", "modified", ["data.greeting"]),
        ("Secret", "modified", ["data.password"]),
        ("Deployment", "missing", []),
    ]
    text = Path(found["diff_uri"].removeprefix("file://")).read_text(encoding="utf-8")
    assert "- Deployment shop/web is not there" in text
    assert "hunter2hunter2" not in text
    assert "123456789" not in text


def test_what_says_that_it_is_of_the_release_and_is_not_is_extra(
    released: ApiServer, context: dict[str, Any]
) -> None:
    there = released.read("configmaps", NAMESPACE, "web-config")
    assert there is not None
    told = {part: there["metadata"][part] for part in ("labels", "annotations")}

    def put(name: str, **annotations: str) -> None:
        more = {**told, "annotations": {**told["annotations"], **annotations}}
        released.put(
            "", "v1", "configmaps", {"metadata": {"name": name, "namespace": NAMESPACE, **more}, "data": {}}
        )

    put("stray")
    put("kept", **{"helm.sh/resource-policy": "keep"})
    put("of-another", **{"meta.helm.sh/release-name": "another"})
    with deployments_live(released):
        found = looked(context)
    assert [(one["kind"], one["name"], one["change"]) for one in found["resources"]] == [
        ("ConfigMap", "stray", "extra")
    ]


def test_while_a_revision_is_pending_nobody_can_tell(released: ApiServer, context: dict[str, Any]) -> None:
    def pend(item: dict[str, Any]) -> None:
        release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(item["data"]["release"]))))
        release["info"]["status"] = "pending-upgrade"
        item["data"]["release"] = packed(json.dumps(release).encode())

    released.change("secrets", NAMESPACE, "sh.helm.release.v1.web.v1", pend)
    found = looked(context)
    assert (found["verdict"], found["reason"]) == (
        "unknown",
        "revision 1 of release shop/web is pending-upgrade",
    )
    with pytest.raises(AirflowFailException, match="there is no Helm release shop/other"):
        looked(context, release="other")
    with pytest.raises(AirflowFailException, match="a name of a release"):
        looked(context, release="Web!")


def test_the_watcher_tells_a_difference_once(released: ApiServer) -> None:
    written(released, CONFIG_PATH, {"data": {"greeting": "hi"}})
    trigger = HelmDriftTrigger(
        names=["web"], namespace=NAMESPACE, kubernetes_conn_id="cluster", poll_interval=0.02
    )
    trigger.asset_state_store = Store()

    async def two() -> list[dict[str, Any]]:
        told = []
        async for event in trigger.run():
            told.append(event.payload)
            if len(told) == 2:
                break
            await asyncio.to_thread(written, released, CONFIG_PATH, {"data": {"greeting": "hello"}})
            await asyncio.to_thread(written, released, CONFIG_PATH, {"data": {"greeting": "hey"}})
        return told

    first, second = asyncio.run(asyncio.wait_for(two(), 60))
    assert first["resources"][0]["fields"] == ["data.greeting"]
    assert first["key"] != second["key"]
