"""An Application is declared: validated before anything is touched, merged with what others set, and done once."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk import task as taskflow
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.argocd.manifest import merge_patch, paths, read
from airflow_pipeops.argocd.operators import ArgoCDApplicationOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.demo.sandbox.wire import merge_patch as apply_patch
from airflow_pipeops.exceptions import InvalidInput
from tests.argocd.running import run, spy, task

SOURCE = {"repoURL": "https://git.example.com/team/deploy.git", "path": "api", "targetRevision": "main"}
SERVER = "https://kubernetes.default.svc"


def manifest(**spec: Any) -> dict[str, Any]:
    base = {"project": "default", "source": SOURCE, "destination": {"server": SERVER, "namespace": "api"}}
    kept = {key: value for key, value in {**base, **spec}.items() if value is not ...}
    return {"metadata": {"name": "api"}, "spec": kept}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ("{broken: [", "manifest"),
        ("a: 1\n---\nb: 2", "manifest"),
        ("", "manifest"),
        (7, "manifest"),
        ({**manifest(), "kind": "AppProject"}, "kind"),
        ({**manifest(), "apiVersion": "v1"}, "kind"),
        ({**manifest(), "status": {}}, "status"),
        ({**manifest(), "operation": {}}, "operation"),
        ({"spec": manifest()["spec"]}, "metadata.name"),
        ({**manifest(), "metadata": {"name": "Api"}}, "metadata.name"),
        ({**manifest(), "metadata": {"name": "api", "uid": "x"}}, "metadata.uid"),
        ({**manifest(), "metadata": {"name": "api", "labels": {"a": 1}}}, "metadata.labels"),
        ({"metadata": {"name": "api"}}, "spec"),
        (manifest(project=...), "spec.project"),
        (manifest(source=...), "spec.source"),
        (manifest(sources=[SOURCE]), "spec.source"),
        (manifest(source=..., sources="x"), "spec.sources"),
        (manifest(source={"path": "a"}), "spec.source.repoURL"),
        (manifest(source=..., sources=[SOURCE, {"repoURL": "https://x"}]), "spec.sources[1].path"),
        (manifest(source={**SOURCE, "repoURL": "https://bob:hunter2@git.example.com/x"}), "spec.source.repoURL"),
        (manifest(destination={}), "spec.destination"),
        (manifest(destination={"server": SERVER, "name": "in-cluster"}), "spec.destination"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(wrong: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(wrong)
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "good",
    [
        manifest(),
        yaml.safe_dump({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", **manifest()}),
        manifest(source=..., sources=[SOURCE, {"repoURL": "https://charts", "chart": "x"}]),
        manifest(source=..., sources=[SOURCE, {**SOURCE, "path": "", "ref": "v"}]),
        manifest(source={"repoURL": "oci://ghcr.io/team/api", "targetRevision": "1.2.3"}),
        manifest(source=..., sourceHydrator={"drySource": {}, "syncSource": {}}),
        manifest(source={**SOURCE, "repoURL": "git@git.example.com:team/deploy.git"}),
    ],
)  # fmt: skip
def test_what_is_right_passes(good: Any) -> None:
    found = read(good)
    assert (found["kind"], found["metadata"]["name"]) == ("Application", "api")


NOW = {
    "metadata": {
        "name": "api",
        "labels": {"team": "ml", "server": "x"},
        "annotations": {"notifications": "on"},
        "finalizers": ["resources-finalizer.argocd.argoproj.io"],
    },
    "spec": {
        **manifest()["spec"],
        "syncPolicy": {"automated": {"selfHeal": True}, "syncOptions": ["A=1"]},
        "ignoreDifferences": [{"kind": "X"}],
    },
    "status": {"sync": {"status": "Synced"}},
}

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": (manifest(), {}),
    "what others set stays": (manifest(syncPolicy={"automated": {"selfHeal": True}}), {}),
    "another branch": (
        manifest(source={**SOURCE, "targetRevision": "dev"}),
        {"spec": {"source": {"targetRevision": "dev"}}},
    ),
    "auto-sync off": (
        manifest(syncPolicy={"automated": None}),
        {"spec": {"syncPolicy": {"automated": None}}},
    ),
    "auto-sync paused": (
        manifest(syncPolicy={"automated": {"enabled": False}}),
        {"spec": {"syncPolicy": {"automated": {"enabled": False}}}},
    ),
    "false where nothing is": (manifest(syncPolicy={"automated": {"prune": False}}), {}),
    "an empty mapping where nothing is": (manifest(info={}), {"spec": {"info": {}}}),
    "removing what is not there": (manifest(info=None), {}),
    "a list replaces a list": (
        manifest(syncPolicy={"syncOptions": ["B=2"]}),
        {"spec": {"syncPolicy": {"syncOptions": ["B=2"]}}},
    ),
    "several sources instead of one": (
        manifest(source=..., sources=[SOURCE]),
        {"spec": {"sources": [SOURCE], "source": None}},
    ),
    "a cluster by name": (
        manifest(destination={"name": "far"}),
        {"spec": {"destination": {"name": "far", "server": None}}},
    ),
    "a label of its own": (
        {**manifest(), "metadata": {"name": "api", "labels": {"name": "api", "team": None}}},
        {"metadata": {"labels": {"name": "api", "team": None}}},
    ),
    "a finalizer more": (
        {**manifest(), "metadata": {"name": "api", "finalizers": ["mine"]}},
        {"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io", "mine"]}},
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_only_what_differs_is_sent(case: str) -> None:
    declared, patch = CHANGES[case]
    before = copy.deepcopy(NOW)
    assert merge_patch(NOW, read(declared)) == patch
    assert before == NOW
    assert merge_patch(apply_patch(copy.deepcopy(NOW), patch), read(declared)) == {}, "once is enough"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 3)
    | st.sampled_from(["", "x", "y"])
    | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
extras = st.dictionaries(st.sampled_from(["syncPolicy", "info", "enabled"]), values, max_size=3)


@given(extras, extras)
def test_a_patch_is_enough_and_keeps_the_rest(now: dict[str, Any], wanted: dict[str, Any]) -> None:
    current = json.loads(json.dumps(manifest(**now)))
    current["spec"] = {key: value for key, value in current["spec"].items() if value is not None}
    desired = read(manifest(**wanted))
    patch = merge_patch(current, desired)
    after = apply_patch(copy.deepcopy(current), patch)
    assert merge_patch(after, desired) == {}
    for key in set(current["spec"]) - set(desired["spec"]):
        assert after["spec"][key] == current["spec"][key]
    assert all(path.startswith("spec.") for path in paths(patch) if path)


def declare(declared: Any = None, **arguments: Any) -> Any:
    return task(ArgoCDApplicationOperator, arguments.pop("app", ""), manifest=declared, **arguments)


def declared_for(sandbox: Any, name: str, **spec: Any) -> dict[str, Any]:
    source = {"repoURL": sandbox.repository.url, "path": name, "targetRevision": "main"}
    found = manifest(source=source, destination={"server": SERVER, "namespace": name}, **spec)
    found["metadata"] = {"name": name, "labels": {"team": "ml"}}
    return found


def test_from_nothing_to_nothing(connected: Any, manifests: Any, context: Any) -> None:
    connected.repository.commit({"declared/a.yaml": manifests.config_map("1")})
    deliverable = Deliverable("delay-api")
    about = {"deliverable": deliverable, "environment": "staging"}
    text = yaml.safe_dump(declared_for(connected, "declared"))
    made = run(declare(text, **about), context)
    assert made["action"] == "created"
    assert made["url"] == f"{connected.url}/applications/argocd/declared"
    assert context["outlet_events"][deliverable.changed("staging")].extra["body"]["action"] == "created"
    again = run(declare(text, **about), context)
    assert (again["action"], again["changed"], again["uid"], again["record_id"]) == (
        "unchanged",
        [],
        made["uid"],
        None,
    )

    # A person adds a label and auto-sync; neither is taken away.
    other = json.dumps({"metadata": {"labels": {"who": "person"}}, "spec": {"syncPolicy": {"automated": {}}}})
    connected.call("PATCH", "/api/v1/applications/declared", {"patch": other, "patchType": "merge"})
    changed = declared_for(connected, "declared", syncPolicy={"syncOptions": ["CreateNamespace=true"]})
    done = run(declare(changed), context)
    assert (done["action"], done["changed"]) == ("updated", ["spec.syncPolicy.syncOptions"])
    found = connected.call("GET", "/api/v1/applications/declared?project=default")
    assert found["metadata"]["labels"] == {"team": "ml", "who": "person"}
    assert found["spec"]["syncPolicy"] == {"automated": {}, "syncOptions": ["CreateNamespace=true"]}

    connected.until("declared", lambda app: app["status"].get("sync", {}).get("status") == "Synced")
    gone = run(declare(app="declared", state="absent", deferrable=True), context)
    assert gone["action"] == "deleted"
    assert connected.call("GET", "/sandbox/admin/live?kind=ConfigMap&namespace=declared")["items"] == []
    assert run(declare(changed, state="absent"), context)["action"] == "absent"


def test_deleted_and_what_it_managed_kept(connected: Any, manifests: Any, context: Any) -> None:
    connected.repository.commit({"orphan/a.yaml": manifests.config_map("1")})
    connected.create("orphan", automated={})
    connected.until("orphan", lambda app: app["status"].get("sync", {}).get("status") == "Synced")
    assert run(declare(app="orphan", state="absent", cascade=False), context)["action"] == "deleted"
    assert connected.call("GET", "/sandbox/admin/live?kind=ConfigMap&namespace=orphan")["items"]


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_an_answer_that_is_lost(
    connected: Any, manifests: Any, context: Any, monkeypatch: Any, method: str
) -> None:
    name = f"lost-{method.lower()}"
    connected.repository.commit({f"{name}/a.yaml": manifests.config_map("1")})
    before = declared_for(connected, name)
    if method != "POST":
        run(declare(before), context)
    with monkeypatch.context() as patch:
        seen = spy(patch, lose=method)
        if method == "DELETE":
            assert run(declare(app=name, state="absent"), context)["action"] == "deleted"
        else:
            after = declared_for(connected, name, syncPolicy={"automated": {}} if method == "PATCH" else ...)
            assert run(declare(after), context)["action"] == {"POST": "created", "PATCH": "updated"}[method]
    assert [verb for verb, *_ in seen].count(method) == 1


def test_bad_input_touches_nothing(connected: Any, manifests: Any, context: Any, monkeypatch: Any) -> None:
    connected.repository.commit({"bad/a.yaml": manifests.config_map("1")})
    good = declared_for(connected, "bad")
    seen = spy(monkeypatch)
    for made, error in (
        (declare({**good, "kind": "Job"}), "InvalidInput: the manifest's kind"),
        (declare(good, app="other"), "app is 'other', and the manifest says 'bad'"),
        (declare(good, project="ml"), "the manifest's project is 'default'"),
        (
            declare(declared_for(connected, "bad", project="ml")),
            "that of the task or its connection 'default'",
        ),
        (declare(good, state="gone"), "state is 'gone'"),
        (declare(), "there is no manifest"),
        (declare(state="absent"), "there is no manifest"),
    ):
        with pytest.raises(AirflowFailException, match=error):
            run(made, context)
    assert seen == []
    elsewhere = declared_for(connected, "bad")
    elsewhere["spec"]["source"]["path"] = "no/such/folder"
    with pytest.raises(AirflowFailException, match="InvalidInput"):
        run(declare(elsewhere), context)


def owned(deleting: bool = False) -> dict[str, Any]:
    found = {**copy.deepcopy(NOW), "spec": manifest()["spec"]}
    if deleting:
        found["metadata"]["deletionTimestamp"] = "2026-11-01T10:00:00Z"
    else:
        found["metadata"]["ownerReferences"] = [{"kind": "ApplicationSet", "name": "fleet"}]
    return found


@pytest.mark.parametrize("state", ["present", "absent"])
def test_what_an_application_set_owns_is_left_to_it(scripted: Any, context: Any, state: str) -> None:
    scripted.answers = [(200, owned())]
    with pytest.raises(AirflowFailException, match="ApplicationSet fleet"):
        run(declare(manifest(), state=state), context)
    assert {method for method, *_ in scripted.requests} == {"GET"}


def test_what_is_being_deleted_is_not_changed(scripted: Any, context: Any) -> None:
    scripted.answers = [(200, owned(deleting=True))]
    with pytest.raises(AirflowFailException, match="is being deleted"):
        run(declare(manifest(project="default", revisionHistoryLimit=3)), context)


def test_a_conflict_is_computed_anew(scripted: Any, context: Any) -> None:
    raced = (
        400,
        {"code": 3, "message": "existing application spec is different, use upsert flag to force update"},
    )
    theirs = {**copy.deepcopy(NOW)}
    scripted.answers = [(404, {"code": 5, "message": "not there"}), raced, (200, theirs)]
    assert run(declare(manifest()), context)["action"] == "unchanged"


def test_a_function_returns_the_manifest(connected: Any, manifests: Any, context: Any) -> None:
    connected.repository.commit({"flow/a.yaml": manifests.config_map("1")})

    with DAG("declaring"):

        @taskflow.argocd_application(poll_interval=timedelta(milliseconds=200), deferrable=False)
        def declare_flow(branch: str, params: Any = None) -> dict[str, Any]:
            assert params == {}
            found = declared_for(connected, "flow")
            found["spec"]["source"]["targetRevision"] = branch
            return found

        made = declare_flow("main").operator
    made.render_template_fields(context)
    assert made.execute(context)["action"] == "created"
    assert made.execute(context)["action"] == "unchanged"
