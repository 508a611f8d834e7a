"""Fields that cannot be changed, for real: what the cluster refuses to patch is deleted, and Helm makes it anew."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.deploy.apply.objects import Manifest, Served
from airflow_pipeops.deploy.helm.operators import HelmReleaseOperator
from airflow_pipeops.deploy.helm.replacing import Fixed, guarded, of_release
from tests.deploy.helm.conftest import Repository
from tests.deploy.helm.running import CONFIG, DEPLOYMENT, NAMESPACE, chart, deployments_live
from tests.deploy.helm.test_operators import statuses, task
from tests.deploy.helm.test_rollback import back
from tests.kubernetes.apiserver import ApiServer

#: Its selector is another one with each value of ``app``.
SELECTED = DEPLOYMENT.replace('app: "{{ .Release.Name }}"', 'app: "{{ .Values.app }}"')
KEPT = SELECTED.replace(
    'metadata: {name: "{{ .Release.Name }}"}',
    'metadata: {name: "{{ .Release.Name }}", annotations: {helm.sh/resource-policy: keep}}',
)


def selector(api: ApiServer) -> str:
    found = api.read("deployments", NAMESPACE, "web")
    assert found is not None
    return str(found["spec"]["selector"]["matchLabels"]["app"])


def uid(api: ApiServer, plural: str, name: str) -> str:
    found = api.read(plural, NAMESPACE, name)
    assert found is not None
    return str(found["metadata"]["uid"])


def released(
    api: ApiServer, major: str, context: dict[str, Any], run: str, **arguments: Any
) -> dict[str, Any]:
    context["ti"].run_id = run
    with deployments_live(api, broken="bad"):
        found: dict[str, Any] = task(HelmReleaseOperator, major, **arguments).execute(context)
    return found


def test_such_an_object_is_made_anew_and_again_on_the_way_back(
    api: ApiServer, major: str, repo: Repository, context: dict[str, Any]
) -> None:
    chart(repo.folder / "web", values={"app": "one"}, config=CONFIG, deployment=SELECTED)
    repo.commit()
    assert released(api, major, context, "run-1")["replaced"] == []
    first, kept = uid(api, "deployments", "web"), uid(api, "configmaps", "web-config")
    # By default, the field and the remedy are told, and the release goes back.
    with pytest.raises(AirflowFailException, match=r"spec\.selector cannot be changed") as caught:
        released(api, major, context, "run-2", values={"app": "two"})
    assert 'on_immutable="replace"' in str(caught.value)
    assert (uid(api, "deployments", "web"), selector(api)) == (first, "one")
    found = released(api, major, context, "run-3", values={"app": "two"}, on_immutable="replace")
    assert found["replaced"] == [{"object": "Deployment shop/web", "before": first}]
    second = uid(api, "deployments", "web")
    assert (second != first, selector(api)) == (True, "two")
    assert uid(api, "configmaps", "web-config") == kept
    # The way back meets the same field, for a release that was good and for one that never comes to life.
    context["ti"].run_id = "run-4"
    with deployments_live(api):
        taken = back(major, revision=found["revision"], on_immutable="replace").execute(context)
    assert (taken["rule"], selector(api)) == ("ready", "one")
    third = uid(api, "deployments", "web")
    bad = {"app": "three", "image": "registry.example.com/bad:1"}
    with pytest.raises(AirflowFailException, match="Rolled back from revision"):
        released(api, major, context, "run-5", values=bad, on_immutable="replace")
    assert (selector(api), uid(api, "deployments", "web") != third) == ("one", True)


def test_a_worker_that_dies_after_it_was_deleted_is_taken_up(
    api: ApiServer, repo: Repository, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chart(repo.folder / "web", values={"app": "one"}, config=CONFIG, deployment=SELECTED)
    repo.commit()
    released(api, "helm4", context, "run-1")

    def dies(*_: Any) -> None:
        assert api.read("deployments", NAMESPACE, "web") is None
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(HelmReleaseOperator, "_upgrade", dies)
        with pytest.raises(KeyboardInterrupt):
            released(api, "helm4", context, "run-2", values={"app": "two"}, on_immutable="replace")
    found = released(api, "helm4", context, "run-2", values={"app": "two"}, on_immutable="replace")
    assert (found["revision"], found["rule"], selector(api)) == (2, "ready", "two")


def test_an_object_that_a_chart_renders_twice_is_made_anew_once(
    api: ApiServer, repo: Repository, context: dict[str, Any]
) -> None:
    chart(repo.folder / "web", values={"app": "one"}, config=CONFIG, deployment=SELECTED, second=SELECTED)
    repo.commit()
    released(api, "helm4", context, "run-1")
    found = released(api, "helm4", context, "run-2", values={"app": "two"}, on_immutable="replace")
    assert [one["object"] for one in found["replaced"]] == ["Deployment shop/web"]
    assert (found["rule"], selector(api)) == ("ready", "two")


def test_what_is_to_stay_is_not_deleted_and_nothing_is_touched(
    api: ApiServer, repo: Repository, context: dict[str, Any]
) -> None:
    chart(repo.folder / "web", values={"app": "one"}, config=CONFIG, deployment=KEPT)
    repo.commit()
    released(api, "helm3", context, "run-1")
    with pytest.raises(
        AirflowFailException, match=r"Deployment shop/web: spec\.selector .*resource-policy says"
    ) as said:
        released(api, "helm3", context, "run-2", values={"app": "two"}, on_immutable="replace")
    assert "delete the object yourself" in str(said.value)
    assert selector(api) == "one"
    assert statuses(api) == ["deployed"]


@pytest.mark.parametrize(
    ("told", "mine"),
    [
        ({"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop"}, True),
        ({"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "other"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_only_what_helm_made_for_the_release_is_deleted(told: Any, mine: bool) -> None:
    assert of_release({"metadata": {"annotations": told}}, "web", "shop") is mine


@pytest.mark.parametrize(
    ("kind", "annotations", "stays"),
    [
        ("Deployment", {}, False),
        ("Deployment", {"helm.sh/resource-policy": "keep"}, True),
        ("PersistentVolumeClaim", {}, True),
        ("Namespace", {}, True),
        ("CustomResourceDefinition", {}, True),
    ],
)
def test_what_takes_much_else_with_it_or_is_to_stay_is_guarded(
    kind: str, annotations: Any, stays: bool
) -> None:
    one = Manifest({"metadata": {"name": "web"}}, Served("v1", kind, "things", True))
    assert bool(guarded(Fixed(one, {"metadata": {"annotations": annotations}}, ("spec",)))) is stays
