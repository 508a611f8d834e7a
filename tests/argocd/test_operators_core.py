"""The same operators through the Kubernetes API, with a controller at work: all that Argo CD Core has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.argocd.operators import (
    ArgoCDApplicationOperator,
    ArgoCDDiffOperator,
    ArgoCDRefreshOperator,
    ArgoCDRollbackOperator,
    ArgoCDSyncOperator,
    ArgoCDTerminateOperator,
)
from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from tests.argocd import running
from tests.argocd.controller import APPLICATIONS, Controller
from tests.argocd.worlds import CoreWorld, spec
from tests.kubernetes.apiserver import serving


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[CoreWorld]:
    """An API server with a controller behind ``kubernetes_default``."""
    with serving(APPLICATIONS, bookmarks=0.2) as api, Controller(api) as controller:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": api.url}}],
            "users": [{"name": "u", "user": {"token": "token"}}],
        }
        connection = {
            "conn_type": "kubernetes",
            "extra": {"kube_config": config, "argocd_url": "https://argo.example.com"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        yield CoreWorld(api, controller)


def task(cls: Any, app: str, **arguments: Any) -> Any:
    common = {"argocd_conn_id": "kubernetes_default", "project": "default"}
    return running.task(cls, app, **{**common, **arguments})


def test_sync_refresh_and_terminate(core: CoreWorld, context: Any) -> None:
    app, first = core.make()
    made = task(ArgoCDSyncOperator, app.name, revision=first, sync_options=["ServerSideApply=true"])
    done = running.run(made, context)
    assert (done["revision"], done["health"]) == (first, "Healthy")
    assert done["url"] == f"https://argo.example.com/applications/argocd/{app.name}"
    second = core.commit(app.name)
    fresh = running.run(task(ArgoCDRefreshOperator, app.name, refresh="hard", deferrable=True), context)
    assert (fresh["acknowledged"], fresh["revision"], fresh["sync"]) == (True, second, "OutOfSync")
    core.hang(app)
    short = {"timeout": timedelta(seconds=1), "on_unacknowledged": "accept"}
    assert running.run(task(ArgoCDRefreshOperator, app.name, **short), context)["acknowledged"] is False
    core.heal()

    core.stick(app)
    context["ti"].run_id = "run-2"
    begun = task(ArgoCDSyncOperator, app.name, revision=second, timeout=timedelta(seconds=1))
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        running.run(begun, context)
    stopped = running.run(
        task(ArgoCDTerminateOperator, app.name, this_run_only=True, deferrable=True), context
    )
    assert (stopped["terminated"], stopped["phase"]) == (True, "Failed")
    assert running.run(task(ArgoCDTerminateOperator, app.name), context)["terminated"] is False


def test_a_sync_that_a_closed_window_held_back_is_not_deployed_after_it_has_failed(
    core: CoreWorld, context: Any
) -> None:
    app, first = core.make()
    core.controller.blocked.add(app.name)
    begun = task(ArgoCDSyncOperator, app.name, revision=first, timeout=timedelta(seconds=1))
    with pytest.raises(AirflowFailException, match="sync window"):
        running.run(begun, context)
    core.controller.blocked.clear()
    compared = running.run(task(ArgoCDRefreshOperator, app.name, refresh="hard"), context)
    assert (compared["acknowledged"], compared["sync"]) == (True, "OutOfSync")
    left = core.api.all("applications")[0]
    assert "operation" not in left
    assert left["status"]["operationState"]["phase"] == "Failed"


def test_an_application_that_was_never_compared_is_compared_first(core: CoreWorld, context: Any) -> None:
    app, first = core.make()
    core.controller.idle.add(app.name)

    def forget(found: dict[str, Any]) -> None:
        found["status"] = {}

    core.api.change("applications", "argocd", app.name, forget)
    done = running.run(task(ArgoCDSyncOperator, app.name), context)
    assert (done["revision"], done["health"]) == (first, "Healthy")


def test_rollback(core: CoreWorld, context: Any) -> None:
    app, first = core.make()
    running.run(task(ArgoCDSyncOperator, app.name, revision=first), context)
    context["ti"].run_id = "run-2"
    second = core.commit(app.name)
    running.run(task(ArgoCDSyncOperator, app.name, revision=second), context)
    for rolled in (True, False):
        done = running.run(task(ArgoCDRollbackOperator, app.name, revision=first), context)
        assert (done["rolled_back"], done["revision"]) == (rolled, first)
    assert core.controller.started.count(app.name) == 3


@pytest.mark.parametrize("deferrable", [False, True])
def test_one_many_and_a_selector(core: CoreWorld, context: Any, deferrable: bool) -> None:
    one, _ = core.make(automated={})
    other, commit = core.make(automated={})
    wait = {"revision": commit, "deferrable": deferrable}
    assert running.run(task(ArgoCDAppSensor, one.name, **wait), context)["compared"] == commit
    done = running.run(task(ArgoCDAppSensor, "", apps=[one.name, other.name], **wait), context)
    assert done["live"] == 2

    def label(found: dict[str, Any]) -> None:
        found["metadata"]["labels"] = {"team": "ml"}

    core.api.change("applications", "argocd", one.name, label)
    done = running.run(task(ArgoCDAppSensor, "", selector="team=ml", **wait), context)
    assert list(done["apps"]) == [one.name]


def test_an_application_is_declared(core: CoreWorld, context: Any) -> None:
    declared = {"metadata": {"name": "declared"}, "spec": spec(core.repo, "declared")}

    def declare(**more: Any) -> Any:
        return running.run(task(ArgoCDApplicationOperator, "", manifest=declared, **more), context)

    assert declare()["action"] == "created"
    assert declare()["action"] == "unchanged"
    declared["spec"]["syncPolicy"] = {"automated": {"selfHeal": True}}
    assert declare()["changed"] == ["spec.syncPolicy.automated.selfHeal"]
    assert declare(state="absent", deferrable=True)["action"] == "deleted"
    assert declare(state="absent")["action"] == "absent"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda app: task(ArgoCDDiffOperator, app), "cannot be had|Unsupported"),
        (lambda app: task(ArgoCDSyncOperator, "nowhere", revision="a" * 40), "NotFound"),
        (lambda app: task(ArgoCDAppSensor, app, project="other", revision="a" * 40), "NotFound|project"),
        (lambda app: task(ArgoCDAppSensor, app, revision={"https://else/x": "a" * 40}), "has no source"),
        (lambda app: task(ArgoCDRollbackOperator, app, history_id=7), "NotFound"),
    ],
)  # fmt: skip
def test_bad_input_ends_at_once(core: CoreWorld, context: Any, make: Any, error: str) -> None:
    app, _ = core.make()
    with pytest.raises(AirflowFailException, match=error):
        running.run(make(app.name), context)
