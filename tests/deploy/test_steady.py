"""A release that was pushed is watched: it stays well, it goes bad, a newer one takes its place, nobody can see it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.deploy.apply.operators import ApplyManifestsOperator, UndoManifestsOperator
from airflow_pipeops.deploy.helm.operators import HelmReleaseOperator
from airflow_pipeops.deploy.steady import PushedSteadySensor
from tests.deploy.apply.cluster import KINDS
from tests.deploy.apply.test_operators import WEB
from tests.deploy.conftest import Cluster
from tests.deploy.helm.conftest import Repository, repo
from tests.deploy.helm.running import helm, kubeconfig, run
from tests.deploy.helm.test_rollback import after
from tests.kubernetes.apiserver import ApiServer, serving

__all__ = ["repo"]
WEB_SHOP = Deliverable("web", environments=("production",))
QUICK: dict[str, Any] = {
    "settle": timedelta(0),
    "deferrable": False,
    "poll_interval": timedelta(milliseconds=20),
    "timeout": timedelta(seconds=60),
}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    with serving(*KINDS) as server:
        server.tokens[""] = lambda *_: True
        yield server


def apply(image: str = "shop/web:1", more: str = "", **arguments: Any) -> Any:
    manifests = WEB.replace("shop/web:1", image) + more
    given = {
        "task_id": "deploy",
        "name": "web",
        "deliverable": WEB_SHOP,
        "environment": "production",
        **QUICK,
    }
    return ApplyManifestsOperator(**{**given, "manifests": manifests, **arguments})


def pushed(context: dict[str, Any]) -> dict[str, Any]:
    """Return what the record of the release says."""
    found: dict[str, Any] = context["outlet_events"][WEB_SHOP.released("production")].extra["body"]["pushed"]
    return found


def watch(context: dict[str, Any], **arguments: Any) -> Any:
    given = {"task_id": "watch", "deferrable": False, "poll_interval": timedelta(milliseconds=20)}
    given |= {"duration": timedelta(milliseconds=300), "grace": timedelta(0), "pushed": pushed(context)}
    return PushedSteadySensor(**{**given, **arguments})


def meanwhile(api: ApiServer, act: Callable[[], Any]) -> threading.Thread:
    """Do something as soon as the watch has looked."""
    begin = len(api.requests)

    def wait_and_act() -> None:
        while len(api.requests) < begin + 4:
            threading.Event().wait(0.005)
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def test_one_that_stays_well_is_steady(cluster: Cluster, context: dict[str, Any]) -> None:
    cluster.start()
    apply().execute(context)
    found = watch(context).execute(context)
    assert (found["verdict"], found["rule"], found["app"]) == ("steady", "healthy", "shop/web")


def unready(item: dict[str, Any]) -> None:
    item["status"].update(readyReplicas=0, availableReplicas=0)


def scaled(item: dict[str, Any]) -> None:
    item["spec"]["replicas"] = 3


BAD: dict[str, tuple[Callable[[Cluster], Any], str]] = {
    "its pods are not ready": (
        lambda one: one.api.change("deployments", "shop", "web", unready), "Progressing .*: Deployment/web"
    ),
    "it is deleted": (lambda one: remove(one.api, "deployments", "web"), "Degraded .*Deployment shop/web is gone"),
    "it is made again": (
        lambda one: (remove(one.api, "deployments", "web"), one.make("Deployment")), "was deleted and created again"
    ),
}  # fmt: skip


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(("act", "told"), BAD.values(), ids=BAD)
def test_one_that_goes_bad_has_degraded_and_the_reason_names_the_object(
    cluster: Cluster, context: dict[str, Any], act: Callable[[Cluster], Any], told: str, deferrable: bool
) -> None:
    cluster.start()
    apply().execute(context)
    cluster.stop()
    acting = meanwhile(cluster.api, lambda: act(cluster))
    operator = watch(context, duration=timedelta(minutes=5), deferrable=deferrable)
    try:
        found = operator.execute(context)
    except TaskDeferred as deferred:
        found = operator.execute_complete(context, after(deferred))
    acting.join(30)
    assert found["verdict"] == "degraded"
    assert re.search(told, found["reason"]), found


def remove(api: ApiServer, plural: str, name: str) -> None:
    kind = api._by_plural(plural)
    with api.lock:
        api._delete(kind, kind.objects["shop", name], {})


def test_a_scaled_one_is_well(cluster: Cluster, context: dict[str, Any]) -> None:
    """An autoscaler changes the generation; what is watched is whether it lives."""
    cluster.start()
    apply().execute(context)
    cluster.api.change("deployments", "shop", "web", scaled)
    found = watch(context, grace=timedelta(seconds=30)).execute(context)
    assert found["verdict"] == "steady"


def test_a_newer_release_ends_the_watch_and_is_not_undone(cluster: Cluster, context: dict[str, Any]) -> None:
    cluster.start()
    for run_id, name in (("run-1", "shop/web:1"), ("run-2", "shop/web:2")):
        context["ti"].run_id = run_id
        apply(name).execute(context)
    watched = pushed(context)
    context["ti"].run_id = "run-3"
    newer = apply("shop/web:3", deliverable=None)
    acting = meanwhile(cluster.api, lambda: newer.execute(dict(context)))
    found = watch(context, pushed=watched, duration=timedelta(minutes=5), grace=timedelta(minutes=5)).execute(
        context
    )
    acting.join(60)
    assert (found["verdict"], found["rule"]) == ("steady", "superseded")
    context["ti"].run_id = "undo"
    undo = UndoManifestsOperator(task_id="undo", name="web", of=watched["release"], **QUICK)
    with pytest.raises(AirflowFailException, match=r"run-2.* is to be undone, and that of .*run-3"):
        undo.execute(context)
    assert image(cluster.api) == "shop/web:3"


def image(api: ApiServer) -> str:
    found = api.read("deployments", "shop", "web")
    assert found is not None
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def test_the_one_that_stands_is_undone(cluster: Cluster, context: dict[str, Any]) -> None:
    cluster.start()
    for run_id, name in (("run-1", "shop/web:1"), ("run-2", "shop/web:2")):
        context["ti"].run_id = run_id
        apply(name).execute(context)
    undone = pushed(context)["release"]
    context["ti"].run_id = "undo"
    given = {"task_id": "undo", "name": "web", "of": undone, **QUICK}
    undo = UndoManifestsOperator(deliverable=WEB_SHOP, environment="production", **given)
    assert [undo.execute(context)["undo"] for _ in range(2)] == [True, True], "a retry goes back to the same"
    assert image(cluster.api) == "shop/web:1"
    assert pushed(context)["release"] != undone, "the undo is a release of its own"


def test_where_nobody_may_look_nothing_is_said_of_it(cluster: Cluster, context: dict[str, Any]) -> None:
    cluster.start()
    apply().execute(context)
    cluster.api.tokens["token"] = lambda verb, target, _: target != "deployments.apps"
    with pytest.raises(AirflowFailException, match=r"could not be watched: .*deployments"):
        watch(context).execute(context)
    cluster.api.tokens["token"] = lambda *_: True
    remove(cluster.api, "configmaps", "web")
    with pytest.raises(AirflowFailException, match="could not be watched"):
        watch(context).execute(context)


@pytest.mark.parametrize("given", [None, {}, {"by": "argocd", "name": "web", "release": "1"}, "web"])
def test_a_record_of_another_kind_is_told(context: dict[str, Any], cluster: Cluster, given: Any) -> None:
    with pytest.raises(AirflowFailException, match="does not say how it was pushed"):
        PushedSteadySensor(task_id="watch", pushed=given).execute(context)


def test_a_release_of_helm_is_watched_too(
    cluster: Cluster, repo: Repository, context: dict[str, Any], tmp_path: Path
) -> None:
    def task(image: str) -> Any:
        given: dict[str, Any] = {
            "task_id": "release",
            "release": "web",
            "chart": "./web",
            "git_conn_id": "charts",
        }
        given |= {"helm": helm("helm4"), "values": {"image": image}, **QUICK}
        return HelmReleaseOperator(**given, deliverable=WEB_SHOP, environment="production")

    cluster.start()
    task("shop/web:1").execute(context)
    found = watch(context).execute(context)
    assert (found["verdict"], found["rule"], found["release"]) == ("steady", "healthy", "1")
    config = kubeconfig(tmp_path / "config", cluster.api.url)
    run("helm4", config, "upgrade", "web", str(repo.folder / "web"), "--set", "image=shop/web:2")
    assert watch(context).execute(context)["rule"] == "superseded"
    context["ti"].run_id = "another"
    task("shop/web:3").execute(context)
    remove(cluster.api, "deployments", "web")
    assert watch(context).execute(context)["verdict"] == "degraded"
    run("helm4", config, "uninstall", "web")
    with pytest.raises(AirflowFailException, match="no Helm release shop/web any more"):
        watch(context).execute(context)
