"""Whether the cluster still is what was applied as a set: manifests kept as evidence, a Kubernetes API over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.evidence import store
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.deploy.apply.operators import ApplyManifestsOperator
from airflow_pipeops.deploy.differences.operators import ManifestsDriftOperator
from airflow_pipeops.deploy.watchers import ManifestsDriftTrigger
from airflow_pipeops.exceptions import InvalidInput
from tests.deploy.apply.cluster import KINDS, configmap
from tests.deploy.apply.test_operators import SECRET, WEB
from tests.deploy.conftest import Cluster
from tests.kubernetes.apiserver import ApiServer, serving
from tests.ledgers import event as as_read


class Store:
    """The state store of an asset."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = value


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(*KINDS) as server:
        yield server


@pytest.fixture
def applied(
    cluster: Cluster, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Cluster:
    """A cluster in which a set was applied."""
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", f"file://{tmp_path}/evidence")
    apply(context)
    return cluster


def apply(context: dict[str, Any], web: str = WEB) -> None:
    manifests = "---\n".join([web, SECRET, json.dumps(configmap("settings")) + "\n"])
    ApplyManifestsOperator(
        task_id="deploy", name="web", manifests=manifests, wait=False, deferrable=False
    ).execute(context)


def written(api: ApiServer, path: str, patch: dict[str, Any], manager: str = "kubectl-edit") -> None:
    """Write an object as a person does."""
    headers = {"Authorization": "Bearer token", "Content-Type": "application/merge-patch+json"}
    answer = httpx.patch(f"{api.url}{path}", params={"fieldManager": manager}, headers=headers, json=patch)
    answer.raise_for_status()


WEB_PATH = "/apis/apps/v1/namespaces/shop/deployments/web"
SETTINGS = "/api/v1/namespaces/shop/configmaps/settings"


def looked(context: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    given = {"task_id": "drift", "name": "web", **arguments}
    found: dict[str, Any] = ManifestsDriftOperator(**given).execute(context)
    return found


def test_what_was_applied_and_left_alone_is_clean(applied: Cluster, context: dict[str, Any]) -> None:
    applied.start()
    applied.until("deployments", lambda item: item.get("status", {}).get("availableReplicas") == 2)
    found = looked(context)
    assert (found["verdict"], found["resources"], found["fingerprint"], found["record_id"]) == (
        "clean",
        [],
        "",
        None,
    )


def test_one_look_asks_for_the_kinds_of_a_group_once(applied: Cluster, context: dict[str, Any]) -> None:
    applied.api.requests.clear()
    looked(context)
    asked = [one for one in applied.api.requests if one in ("GET /api/v1", "GET /apis/apps/v1", "GET /apis")]
    assert sorted(asked) == ["GET /api/v1", "GET /apis", "GET /apis/apps/v1"]


def test_what_differs_is_told_by_field_and_owner_and_recorded(
    applied: Cluster, context: dict[str, Any]
) -> None:
    written(applied.api, WEB_PATH, {"spec": {"replicas": 7, "revisionHistoryLimit": 3}})
    written(applied.api, SETTINGS, {"data": {"value": None, "other": "x"}})
    deliverable = Deliverable("web")
    found = looked(context, deliverable=deliverable)
    assert found["verdict"] == "drifted"
    assert [(one["kind"], one["name"], one["change"], one["fields"]) for one in found["resources"]] == [
        ("ConfigMap", "settings", "modified", ["data.value"]),
        ("Deployment", "web", "modified", ["spec.replicas"]),
    ]
    assert "spec.replicas is 7 (kubectl-edit), and 2 was pushed" in Path(
        found["diff_uri"].removeprefix("file://")
    ).read_text(encoding="utf-8")
    record = context["outlet_events"][deliverable.asset("differences")].extra
    assert (record["kind"], record["id"]) == ("differences", found["record_id"])
    assert record["body"]["fingerprint"] == found["fingerprint"]

    told = [as_read(record, datetime.now(timezone.utc), deliverable.differences)]
    context["inlet_events"] = {deliverable.differences: told}
    written(applied.api, WEB_PATH, {"spec": {"replicas": 2}})
    written(applied.api, SETTINGS, {"data": {"value": "1", "other": None}})
    again = looked(context, deliverable=deliverable)
    assert again["verdict"] == "clean", again
    assert again["record_id"], "that it is over is told, once"
    record = context["outlet_events"][deliverable.differences].extra
    assert record["body"]["verdict"] == "clean"
    told.append(as_read(record, datetime.now(timezone.utc), deliverable.differences))
    assert looked(context, deliverable=deliverable)["record_id"] is None
    assert looked(context, deliverable=deliverable, environment="staging")["record_id"] is None
    other = Record("differences", "web", told[0].extra["body"], environment="staging").to_extra()
    told.append(as_read(other, datetime.now(timezone.utc), deliverable.differences))
    assert looked(context, deliverable=deliverable)["record_id"] is None, "of the same name, and elsewhere"
    assert looked(context, deliverable=deliverable, environment="staging")["record_id"]


def test_an_object_that_is_gone_and_a_secret_that_was_written(
    applied: Cluster, context: dict[str, Any]
) -> None:
    secrets, maps = applied.api.kinds["", "v1", "secrets"], applied.api.kinds["", "v1", "configmaps"]
    with applied.api.lock:
        applied.api._delete(maps, maps.objects["shop", "settings"], {})
    assert ("shop", "key") in secrets.objects
    written(applied.api, "/api/v1/namespaces/shop/secrets/key", {"data": {"key": "YW5vdGhlci12YWx1ZQ=="}})
    found = looked(context)
    assert [(one["name"], one["change"], one["fields"]) for one in found["resources"]] == [
        ("settings", "missing", []),
        ("key", "modified", ["data.key"]),
    ]
    text = Path(found["diff_uri"].removeprefix("file://")).read_text(encoding="utf-8")
    assert "YW5vdGhlci" not in text
    assert "hunter2" not in text


def test_what_carries_the_label_and_was_not_applied_is_extra(
    applied: Cluster, context: dict[str, Any]
) -> None:
    there = applied.api.read("configmaps", "shop", "settings")
    assert there is not None
    labels = there["metadata"]["labels"]

    def put(name: str, **metadata: Any) -> None:
        body = configmap(name)
        body["metadata"] |= {"labels": labels, **metadata}
        applied.api.put("", "v1", "configmaps", body)

    put("stray")
    put("of-another", labels={"applyset.kubernetes.io/part-of": "applyset-another-v1"})
    put("made-by-a-controller", ownerReferences=[{"kind": "Deployment", "name": "web", "uid": "1"}])
    put("hook", annotations={"pipeops/hook": "before"})
    found = looked(context)
    assert found["verdict"] == "drifted"
    assert [(one["kind"], one["name"], one["change"]) for one in found["resources"]] == [
        ("ConfigMap", "stray", "extra")
    ]
    assert "+ ConfigMap shop/stray is there, and was not pushed" in Path(
        found["diff_uri"].removeprefix("file://")
    ).read_text(encoding="utf-8")


def test_where_nothing_may_be_listed_that_is_said(applied: Cluster, context: dict[str, Any]) -> None:
    applied.api.tokens["token"] = lambda verb, *_: verb != "list"
    found = looked(context)
    assert found["verdict"] == "clean"
    assert "what else there is may not be listed: ConfigMap in shop" in found["reason"]


def test_the_server_has_the_last_word_on_what_an_apply_would_change(
    applied: Cluster, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody wrote the same value in another form: the server says that an apply would change nothing."""
    written(applied.api, WEB_PATH, {"spec": {"replicas": 3}})
    answer = applied.api._apply

    def same(kind: Any, namespace: str, name: str, body: Any, query: Any) -> Any:
        if query.get("dryRun"):
            return 200, kind.objects[namespace, name]
        return answer(kind, namespace, name, body, query)

    monkeypatch.setattr(applied.api, "_apply", same)
    assert looked(context)["verdict"] == "clean"
    applied.api.tokens["token"] = lambda verb, *_: verb in ("get", "list")
    applied.api.requests.clear()
    assert looked(context)["verdict"] == "drifted", "who may not ask goes by what the object says"
    assert [one for one in applied.api.requests if one.startswith("PATCH")] == [f"PATCH {WEB_PATH}"]


def test_an_autoscaler_holds_a_field_and_others_may_be_named(
    applied: Cluster, context: dict[str, Any]
) -> None:
    written(applied.api, WEB_PATH, {"spec": {"replicas": 9}}, "kube-controller-manager")
    assert looked(context)["verdict"] == "clean"
    assert looked(context, ignore_managers=[])["verdict"] == "drifted"
    assert looked(context, ignore_managers=["kube-controller-manager"])["verdict"] == "clean"


def test_where_nobody_can_tell_it_is_unknown_and_a_gate_stays_shut(
    applied: Cluster, context: dict[str, Any], tmp_path: Path
) -> None:
    for path in (tmp_path / "evidence").rglob("manifests.json"):
        path.unlink()
    found = looked(context)
    assert (found["verdict"], found["resources"]) == ("unknown", [])
    assert "are not kept" in found["reason"]
    with pytest.raises(AirflowFailException, match="nobody can tell"):
        looked(context, on_drift="fail")
    assert looked(context, on_drift="fail", on_unknown="accept")["verdict"] == "unknown"


def test_a_release_that_was_begun_says_nothing(applied: Cluster, context: dict[str, Any]) -> None:
    def begin(item: dict[str, Any]) -> None:
        intent = {"key": "another task", "commit": "", "digest": "x", "sha256": "y"}
        item["metadata"]["annotations"]["pipeops/intent"] = json.dumps(intent)

    applied.api.change("configmaps", "shop", "web", begin)
    found = looked(context)
    assert (found["verdict"], "under way" in found["reason"]) == ("unknown", True)


def test_a_job_that_ran_before_the_release_is_no_part_of_it(
    applied: Cluster, context: dict[str, Any]
) -> None:
    job = configmap("once")
    job["metadata"]["annotations"] = {"pipeops/hook": "before"}
    (kept,) = (
        path
        for path in Path(os.environ["AIRFLOW__PIPEOPS__EVIDENCE_URI"].removeprefix("file://")).rglob(
            "manifests.json"
        )
    )
    content = json.dumps([*json.loads(kept.read_text(encoding="utf-8")), job]).encode()
    evidence = store(content, "manifests.json")

    def release(item: dict[str, Any]) -> None:
        told = item["metadata"]["annotations"]
        (last,) = json.loads(told["pipeops/releases"])
        told["pipeops/releases"] = json.dumps([{**last, "sha256": evidence.sha256}])

    applied.api.change("configmaps", "shop", "web", release)
    assert looked(context)["verdict"] == "clean"


def test_a_gate_fails_by_name(applied: Cluster, context: dict[str, Any]) -> None:
    written(applied.api, WEB_PATH, {"spec": {"replicas": 7}})
    with pytest.raises(
        AirflowFailException, match="shop/web is not what was pushed: Deployment/web modified"
    ):
        looked(context, on_drift="fail")
    with pytest.raises(AirflowFailException, match="is of no set"):
        looked(context, name="settings")


# ---- the watcher -------------------------------------------------------------------------------------------------------


def watched(
    trigger: ManifestsDriftTrigger, store: Store, steps: list[Callable[[], None]], api: ApiServer
) -> list[dict[str, Any]]:
    """Let a watcher run while things happen, each after the watcher has looked twice at what was before."""
    trigger.asset_state_store = store
    told: list[dict[str, Any]] = []

    async def listen() -> None:
        async for event in trigger.run():
            told.append(event.payload)

    def looks() -> int:
        return sum(one == "GET /api/v1/namespaces/shop/configmaps/web" for one in api.requests)

    async def inside() -> None:
        task = asyncio.ensure_future(listen())
        for step in [*steps, lambda: None]:
            end, begun = time.monotonic() + 120.0, looks()
            # A look that finds something reads it three times more.
            while looks() < begun + 8:
                assert time.monotonic() < end
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
            await asyncio.to_thread(step)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(inside())
    return told


def watcher() -> ManifestsDriftTrigger:
    made = ManifestsDriftTrigger(names=["web"], namespace="shop", poll_interval=0.02)
    path, arguments = made.serialize()
    assert path == "airflow_pipeops.deploy.watchers.ManifestsDriftTrigger"
    return ManifestsDriftTrigger(**json.loads(json.dumps(arguments)))


def test_each_difference_is_told_once_and_again_when_it_comes_back(applied: Cluster) -> None:
    api, store = applied.api, Store()

    def scale(number: int) -> Callable[[], None]:
        return lambda: written(api, WEB_PATH, {"spec": {"replicas": number}})

    told = watched(watcher(), store, [scale(7), scale(8), scale(2), scale(7)], api)
    assert [one["resources"][0]["fields"] for one in told] == [["spec.replicas"]] * 3
    assert len({one["key"] for one in told}) == 3
    assert (told[0]["app"], told[0]["more"]) == ("shop/web", 0)
    assert watched(watcher(), store, [], api) == [], "a restart repeats nothing"
    assert len(watched(watcher(), store, [scale(9)], api)) == 1


def test_a_release_is_no_difference(applied: Cluster, context: dict[str, Any]) -> None:
    context["ti"].run_id = "second"
    steps: list[Callable[[], None]] = [lambda: apply(context, WEB.replace("replicas: 2", "replicas: 3"))]
    assert watched(watcher(), Store(), steps, applied.api) == []


@pytest.mark.parametrize("arguments", [{}, {"names": "web"}, {"names": ["web"], "poll_interval": 0}])
def test_bad_arguments_of_a_watcher(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ManifestsDriftTrigger(**arguments)
