"""Applying and undoing by operators: a real Git repository, a Kubernetes API over HTTP, deployments that come about."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.deploy.apply.operators import ApplyManifestsOperator, UndoManifestsOperator
from airflow_pipeops.exceptions import InvalidInput, Unreachable
from tests.deploy.apply.cluster import configmap, members
from tests.deploy.conftest import Cluster
from tests.git.conftest import Remote
from tests.kubernetes.apiserver import Fault

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "shop/web:1"}]}
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {key: hunter2hunter2}\n"
FIRST = "{apiVersion: v1, kind: ConfigMap, metadata: {name: first}}\n---\n"


@pytest.fixture
def repository(remote: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Remote:
    """A repository with manifests, and the connection to it."""
    remote.put("deploy/web.yaml", WEB)
    remote.put("deploy/settings.yaml", json.dumps(configmap("settings")))
    remote.commit("deploy")
    connection = {"conn_type": "git_repository", "host": str(remote.path)}
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_APP_REPO", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", f"file://{tmp_path}/evidence")
    return remote


def task(cls: Callable[..., Any] = ApplyManifestsOperator, **arguments: Any) -> Any:
    given: dict[str, Any] = {"task_id": "deploy", "name": "web", "settle": timedelta(0), "deferrable": False}
    given |= {"poll_interval": timedelta(milliseconds=20), "timeout": timedelta(seconds=60)}
    if cls is ApplyManifestsOperator and not {"manifests", "uri"} & set(arguments):
        given["path"] = "deploy"
    return cls(**{**given, **arguments})


def as_run(context: dict[str, Any], name: str) -> dict[str, Any]:
    """Let the context be that of another run."""
    context["ti"].run_id = name
    return context


def kept(result: dict[str, Any], name: str) -> str:
    (uri,) = [one["uri"] for one in result["evidence"] if one["name"] == name]
    return Path(uri.removeprefix("file://")).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["prune_named", "force_from"])
def test_a_text_alone_is_no_list(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is 'helm'"):
        task(**{name: "helm"})


@pytest.mark.parametrize("allowed", ["", "many", -1, float("inf")])
def test_a_number_that_is_none_is_told_and_nothing_applied(
    repository: Remote, cluster: Cluster, context: dict[str, Any], allowed: Any
) -> None:
    with pytest.raises(AirflowFailException, match=r"prune_allowed is .*from 0 on, or None"):
        task(prune_allowed=allowed).execute(context)
    assert members(cluster.api) == {}


def test_a_commit_is_applied_waited_for_and_recorded(
    repository: Remote, cluster: Cluster, context: dict[str, Any]
) -> None:
    cluster.start()
    deliverable = Deliverable("web")
    result = task(deliverable=deliverable, environment="production").execute(context)
    assert (result["commit"], result["health"], result["objects"]) == (repository.tip(), "Healthy", 2)
    assert set(members(cluster.api)) == {"deployments/web", "configmaps/settings"}
    change = context["outlet_events"][deliverable.asset("change", "production")].extra
    release = context["outlet_events"][deliverable.released("production")].extra
    assert change["body"]["changed"] is True
    assert (release["commit"], release["parents"]) == (repository.tip(), [change["id"]])
    assert "+ Deployment shop/web" in kept(result, "differences.txt")


def test_a_secret_outside_of_secrets_is_told_in_no_log(
    repository: Remote, cluster: Cluster, context: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    url = {**configmap("db"), "data": {"url": "postgres://shop:hunter2hunter2@db/shop"}}
    repository.put("deploy/db.yaml", json.dumps(url))
    repository.commit("with a password")
    result = task(wait=False).execute(context)
    said = "".join(capfd.readouterr())
    assert "+ ConfigMap shop/db" in said
    assert "hunter2hunter2" not in said + kept(result, "differences.txt")


def test_again_nothing_differs_and_an_older_commit_is_refused(
    repository: Remote, cluster: Cluster, context: dict[str, Any]
) -> None:
    first = repository.tip()
    task(wait=False).execute(context)
    repository.put("deploy/web.yaml", WEB.replace("web:1", "web:2"))
    second = repository.commit("newer")
    differing = task(wait=False).execute(as_run(context, "second"))
    assert '[name="web"].image: "shop/web:1" -> "shop/web:2"' in kept(differing, "differences.txt")
    assert task(wait=False).execute(as_run(context, "third"))["changed"] is False
    before = cluster.api.all("deployments")
    with pytest.raises(AirflowFailException, match=f"{first[:12]} is older than {second[:12]}"):
        task(wait=False, commit=first).execute(as_run(context, "late"))
    assert cluster.api.all("deployments") == before
    assert task(wait=False, commit=first, rollback=True).execute(as_run(context, "back"))["commit"] == first


def test_what_left_the_commit_is_pruned_within_the_budget(
    repository: Remote, cluster: Cluster, context: dict[str, Any]
) -> None:
    for number in range(5):
        repository.put(f"deploy/m{number}.yaml", json.dumps(configmap(f"m{number}")))
    repository.commit("many")
    task(wait=False).execute(context)
    for number in range(5):
        (repository.work / f"deploy/m{number}.yaml").unlink()
    repository.put("deploy/settings.yaml", json.dumps(configmap("settings", "2")))
    repository.commit("few")
    before = cluster.api.all("configmaps")
    with pytest.raises(
        AirflowFailException, match=r"5 of 7 objects of the set would be deleted, more than 3: .*m4"
    ):
        task(wait=False).execute(as_run(context, "second"))
    assert cluster.api.all("configmaps") == before, "nothing is touched"
    result = task(wait=False, prune_allowed=5).execute(as_run(context, "second"))
    assert len(result["deleted"]) == 5
    assert set(members(cluster.api)) == {"deployments/web", "configmaps/settings"}


def test_a_kustomization_is_rendered(repository: Remote, cluster: Cluster, context: dict[str, Any]) -> None:
    repository.put(
        "deploy/kustomization.yaml", "resources: [web.yaml]\nimages: [{name: shop/web, newTag: '7'}]\n"
    )
    repository.commit("kustomize")
    assert task(wait=False).execute(context)["objects"] == 1
    (found,) = cluster.api.all("deployments")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/web:7"
    repository.put("deploy/kustomization.yaml", "resources: [absent.yaml]\n")
    repository.commit("broken")
    with pytest.raises(AirflowFailException, match=r"kubectl kustomize fails: .*absent\.yaml"):
        task(wait=False).execute(as_run(context, "second"))


def test_what_wants_no_pod_may_be_meant(cluster: Cluster, context: dict[str, Any]) -> None:
    empty = WEB.replace("replicas: 2", "replicas: 0")
    cluster.start()
    assert task(manifests=empty, empty_ok=True).execute(context)["rule"] == "ready"
    with pytest.raises(AirflowFailException, match="wants no pod"):
        task(manifests=empty, timeout=timedelta(seconds=5)).execute(as_run(context, "next"))


def test_no_digest_that_others_can_read_depends_on_what_a_secret_holds(
    cluster: Cluster, context: dict[str, Any]
) -> None:
    parents = []
    for password in ("hunter2hunter2", "hunter3hunter3"):
        manifests = SECRET.replace("hunter2hunter2", password)
        result = task(manifests=manifests, wait=False).execute(as_run(context, password))
        assert result["changed"], "and the change is noticed"
        parent = cluster.api.read("configmaps", "shop", "web")
        assert parent is not None
        parents.append(json.loads(parent["metadata"]["annotations"]["pipeops/releases"])[-1])
    (secret,) = cluster.api.all("secrets")
    assert secret["data"] == {"key": "aHVudGVyM2h1bnRlcjM="}
    assert parents[0] == {**parents[1], "key": parents[0]["key"]}


def test_undo_goes_back_and_secrets_stay_as_they_are(
    repository: Remote, cluster: Cluster, context: dict[str, Any]
) -> None:
    repository.put("deploy/secret.yaml", SECRET)
    first = repository.commit("secret")
    result = task(wait=False).execute(context)
    assert "hunter2" not in kept(result, "manifests.json") + kept(result, "differences.txt")
    repository.put("deploy/web.yaml", WEB.replace("web:1", "web:2"))
    repository.put("deploy/more.yaml", json.dumps(configmap("more")))
    repository.commit("worse")
    task(wait=False).execute(as_run(context, "second"))
    undone = task(UndoManifestsOperator, wait=False).execute(as_run(context, "undo"))
    assert (undone["commit"], undone["undo"], undone["deleted"]) == (first, True, ["ConfigMap shop/more"])
    again = task(UndoManifestsOperator, wait=False).execute(as_run(context, "undo"))
    assert (again["commit"], again["changed"]) == (first, False), "a retry goes back to the same"
    (found,) = cluster.api.all("deployments")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/web:1"
    (secret,) = cluster.api.all("secrets")
    assert secret["data"] == {"key": "aHVudGVyMmh1bnRlcjI="}
    with pytest.raises(AirflowFailException, match="no release before"):
        task(UndoManifestsOperator, wait=False).execute(as_run(context, "further"))


def test_a_field_of_another_manager_is_told_and_taken_only_from_who_is_named(
    cluster: Cluster, repository: Remote, context: dict[str, Any]
) -> None:
    import httpx

    task(wait=False).execute(context)
    url = f"{cluster.api.url}/apis/apps/v1/namespaces/shop/deployments/web"
    headers = {"Authorization": "Bearer token", "Content-Type": "application/merge-patch+json"}
    httpx.patch(url, params={"fieldManager": "autoscaler"}, headers=headers, json={"spec": {"replicas": 9}})
    with pytest.raises(AirflowFailException, match=r"Deployment shop/web: \.spec\.replicas is autoscaler's"):
        task(wait=False).execute(as_run(context, "second"))
    with pytest.raises(AirflowFailException, match="autoscaler"):
        task(wait=False, force_from=["helm"]).execute(as_run(context, "second"))
    task(wait=False, force_from=["autoscaler"]).execute(as_run(context, "second"))
    assert cluster.get("deployments")["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FIRST + WEB.replace("replicas: 2", "replica: 2"), r"\.spec\.replica: field not declared in schema"),
        (FIRST + WEB.replace("apps/v1", "apps/v9"), "the cluster serves no Deployment of apps/v9"),
        (WEB + "---\n" + WEB, "Deployment shop/web is there twice"),
        ("# nothing", "there is no manifest"),
        ("a: [", "is no YAML"),
    ],
)
def test_bad_manifests_touch_nothing(
    cluster: Cluster, context: dict[str, Any], repository: Remote, text: str, said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        task(manifests=text, wait=False).execute(context)
    assert not members(cluster.api)
    assert not cluster.api.all("configmaps")


def test_a_wait_is_deferred_and_what_fails_is_explained(
    cluster: Cluster, repository: Remote, context: dict[str, Any]
) -> None:
    cluster.broken.add("shop/web:1")
    cluster.start()
    operator = task(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path.endswith("ReleaseTrigger")
    assert json.loads(json.dumps(arguments))["facts"]["commit"] == repository.tip()
    with pytest.raises(AirflowFailException, match="web"):
        task(failed_grace=timedelta(0), timeout=timedelta(seconds=2)).execute(as_run(context, "second"))


@pytest.mark.parametrize("lost", range(1, 9))
def test_a_worker_that_loses_an_answer_is_taken_up(
    cluster: Cluster, repository: Remote, context: dict[str, Any], lost: int
) -> None:
    """The connection breaks after the server acted, at one write after the other; then the task is tried again."""
    writes = {"PATCH", "PUT", "POST", "DELETE"}
    task(wait=False).execute(context)
    repository.put("deploy/settings.yaml", json.dumps(configmap("other")))
    repository.put("deploy/web.yaml", WEB.replace("web:1", "web:2"))
    repository.commit("next")
    seen = iter(range(1, 1000))

    strike = cluster.api._strike

    def struck(method: str, path: str) -> Fault | None:
        return Fault("lose") if method in writes and next(seen) == lost else strike(method, path)

    cluster.api._strike = struck  # type: ignore[method-assign]
    as_run(context, "second")
    try:
        task(wait=False).execute(context)
    except Unreachable:
        task(wait=False).execute(context)
    assert set(members(cluster.api)) == {"deployments/web", "configmaps/other"}
    parent = cluster.api.read("configmaps", "shop", "web")
    assert parent is not None
    annotations = parent["metadata"]["annotations"]
    assert len(json.loads(annotations["pipeops/releases"])) == 2
    assert "pipeops/holder" not in annotations
