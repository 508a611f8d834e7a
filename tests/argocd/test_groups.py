"""One sensor for many applications: who is meant, where they stand, what is recorded, and what is said if one fails."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.argocd.groups import joined, meant, selected, standing
from airflow_pipeops.argocd.messages import LIMIT
from airflow_pipeops.argocd.sensors import ArgoCDAppSensor
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from tests.argocd.running import run, task

ONE, TWO = "1" * 40, "2" * 40


@pytest.mark.parametrize(
    ("apps", "wanted"),
    [
        (["a", "b "], {"a": ONE, "b": ONE}),
        (("a",), {"a": ONE}),
        ({"a": TWO, "b": ""}, {"a": TWO, "b": ONE}),
        ({"a": {"0": TWO}}, {"a": {"0": TWO}}),
    ],
)
def test_who_is_meant(apps: Any, wanted: Any) -> None:
    assert meant(apps, ONE) == wanted


@pytest.mark.parametrize("apps", ["a", [], {}, None, [""], [7], {"": ONE}, 7])
def test_who_cannot_be_meant(apps: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        meant(apps, ONE)
    assert caught.value.field == "apps"


def app(name: str, namespace: str = "argocd") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}}


def test_what_a_selector_matches() -> None:
    assert selected([app("b"), app("a"), {}], "x=y", "") == (["a", "b"], "argocd")
    assert selected([app("a", "one"), app("b", "two")], "x=y", "two") == (["b"], "two")
    with pytest.raises(NotFound, match="no application matches"):
        selected([app("a", "one")], "x=y", "two")
    with pytest.raises(InvalidInput, match="one, two"):
        selected([app("a", "one"), app("b", "two")], "x=y", "")


def stand(state: str, rule: str = "rule", reason: str = "why") -> Decided:
    return Decided(Verdict(state, rule, reason), Memory(), Expectation())


def test_where_all_stand_and_what_is_said() -> None:
    decided = {
        "a": stand("done"),
        "b": stand("failed", "degraded"),
        "c": stand("wait", "not_compared"),
        "d": stand("failed", "operation_failed", "the hook failed"),
    }
    line = standing(decided)
    assert (
        line
        == "of 4 applications, 2 failed: b (degraded), d (operation_failed); 1 live: a; 1 waiting: c (not_compared)"
    )
    text = joined("b is Degraded\n  https://argo", decided)
    assert text.splitlines() == [
        "b is Degraded",
        f"  {line}",
        "  d: the hook failed (rule operation_failed)",
        "  https://argo",
    ]
    thousand = {f"app-{n}": stand("wait") for n in range(1000)}
    assert "and 988 more" in standing(thousand)
    assert len(joined("\n".join(["x" * 900] * 9), {**decided, **thousand}).encode()) <= LIMIT


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"app": "a", "apps": ["b"]},
        {"apps": ["a"], "selector": "x=y"},
        {"app": "a", "deliverables": {"a": "text"}},
    ],
)
def test_one_of_three(given: Any) -> None:
    with pytest.raises(InvalidInput):
        ArgoCDAppSensor(task_id="task", **given)


@pytest.fixture
def fleet(connected: Any, manifests: Any, request: Any) -> Any:
    """Three applications with a label of their own, under auto-sync: ``(sandbox, names, revision, selector)``."""
    label = "fleet" + "-deferred" * bool(request.node.callspec.params["deferrable"])
    names = [f"{label}-{n}" for n in (1, 2, 3)]
    files = {f"{name}/a.yaml": manifests.config_map("1") for name in names}
    revision = connected.repository.commit(files, "Fleet")
    for name in names:
        connected.create(name, automated={})
        patch = json.dumps({"metadata": {"labels": {"fleet": label}}})
        connected.call("PATCH", f"/api/v1/applications/{name}", {"patch": patch, "patchType": "merge"})
    return connected, names, revision, f"fleet={label}"


def sensor(**arguments: Any) -> Any:
    defaults = {"settle": timedelta(0), "degraded_grace": timedelta(seconds=1)}
    return task(ArgoCDAppSensor, "", **{**defaults, **arguments})


@pytest.mark.parametrize("deferrable", [False, True])
def test_many_come_to_life(fleet: Any, context: Any, deferrable: bool) -> None:
    sandbox, names, revision, selector = fleet
    first = Deliverable("one", environments=("production",))
    made = sensor(
        apps=names,
        revision=revision,
        deferrable=deferrable,
        deliverables={names[0]: first},
        environment="production",
    )
    done = run(made, context)
    assert done["live"] == 3
    assert list(done["apps"]) == names
    assert {one["compared"] for one in done["apps"].values()} == {revision}
    assert done["apps"][names[1]]["url"] == f"{sandbox.url}/applications/argocd/{names[1]}"
    record = context["outlet_events"][first.released("production")].extra
    assert done["apps"][names[0]]["record_id"] == record["id"]
    assert record["body"]["app"] == names[0]
    assert done["apps"][names[1]]["record_id"] is None
    assert (made.argocd_url, done["record_id"]) == (f"{sandbox.url}/applications", None)

    whole = Deliverable("fleet", environments=("production",))
    chosen = sensor(selector=selector, revision=revision, deliverable=whole, environment="production")
    chosen.deferrable = deferrable
    done = run(chosen, context)
    assert sorted(done["apps"]) == names
    record = context["outlet_events"][whole.released("production")].extra
    assert record["id"] == done["record_id"]
    assert sorted(record["body"]["apps"]) == names
    agreed = [record["body"][name] for name in ("revision", "health", "sync")]
    assert agreed == [revision, "Healthy", "Synced"], "what all of them say"


def served(revision: str, **status: Any) -> tuple[int, Any]:
    """An application that is live at a revision, as a server answers it; keyword arguments replace parts of its status."""
    base = {
        "sync": {"status": "Synced", "revision": revision},
        "health": {"status": "Healthy"},
        "reconciledAt": "2026-11-01T10:01:00Z",
        "history": [{"id": 1, "revision": revision}],
    }
    source = {"repoURL": "https://github.com/team/deploy", "targetRevision": "main", "path": "a"}
    spec = {"project": "default", "source": source, "syncPolicy": {"automated": {}}}
    metadata = {"name": "any", "namespace": "argocd", "uid": "u"}
    return 200, {"metadata": metadata, "spec": spec, "status": {**base, **status}}


ILL = {
    "health": {"status": "Degraded"},
    "resources": [{"kind": "Pod", "name": "p", "health": {"status": "Degraded", "message": "probe failed"}}],
}


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("fail_fast", [False, True])
def test_one_of_many_fails(scripted: Any, context: Any, deferrable: bool, fail_fast: bool) -> None:
    late = served(ONE) if fail_fast else served(TWO)
    scripted.answers = [(404, {"code": 5, "message": "not there"})]
    scripted.routes = {
        "applications/well": served(TWO),
        "applications/ill": served(TWO, **ILL),
        "applications/late": late,
    }
    made = sensor(
        apps=["well", "ill", "late"],
        revision=TWO,
        fail_fast=fail_fast,
        deferrable=deferrable,
        degraded_grace=timedelta(milliseconds=500),
    )
    with pytest.raises(AirflowFailException) as caught:
        run(made, context)
    head, second, *rest = str(caught.value).splitlines()
    assert head.startswith("ReleaseFailed: Argo CD app ill (project default): Degraded at 22222222")
    others = "1 live: well; 1 waiting: late (not_compared)" if fail_fast else "2 live: well, late"
    assert second == f"  of 3 applications, 1 failed: ill (degraded); {others}"
    assert f"  {scripted.url}/applications/argocd/ill" in rest
    assert made.commit_url == f"https://github.com/team/deploy/commit/{TWO}"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"selector": "fleet=nobody"}, "NotFound: no application matches"),
        ({"apps": ["nowhere"]}, "NotFound.*nowhere"),
        ({"apps": {"nowhere": {"https://else/x": ONE}}}, "NotFound"),
        ({"apps": "text"}, "InvalidInput: apps is 'text'"),
        ({"apps": ["nowhere"], "revision": "main"}, "InvalidInput|NotFound"),
        ({"apps": ["nowhere"], "revision": ""}, "InvalidInput: the revision is ''"),
        ({"apps": ["nowhere"], "deliverables": {"other": Deliverable("x")}}, "other has a deliverable"),
    ],
)
def test_bad_input_ends_at_once(connected: Any, context: Any, given: Any, error: str) -> None:
    made = sensor(**{"revision": ONE, "environment": "staging", **given})
    with pytest.raises(AirflowFailException, match=error):
        run(made, context)
