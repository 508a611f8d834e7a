"""The judgements without I/O: comparison, plan, policy, retries, selectors, patches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.demo.sandbox.auth import Access
from airflow_pipeops.demo.sandbox.compare import HEALTH_ORDER, ResourceState, app_health, is_modified, predict
from airflow_pipeops.demo.sandbox.manifests import ManifestError, parse_manifests
from airflow_pipeops.demo.sandbox.plan import plan
from airflow_pipeops.demo.sandbox.retry import duration, retry_at, wants_retry
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.wire import ApiError, json_patch, matches_selector, merge_patch


def obj(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, **fields}


ENV = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]


@pytest.mark.parametrize(
    ("target", "live", "before", "modified"),
    [
        (obj(a=1), obj(a=1, default=2, status={"x": 1}), None, False),
        (obj(a=1), obj(a=2), None, True),
        (obj(a=True), obj(a=1), None, True),
        (obj(a={}), obj(), None, False),
        (obj(a=None), obj(), None, False),
        (obj(a=False), obj(), None, False),
        (obj(env=ENV), obj(env=ENV[::-1]), None, False),
        (obj(env=ENV[:1]), obj(env=ENV), None, False),
        (obj(env=ENV[:1]), obj(env=ENV), obj(env=ENV), True),
        (obj(args=["a", "b"]), obj(args=["b", "a"]), None, True),
        (obj(args=["a"]), obj(args=["a", "b"]), None, True),
        (obj(limits={"cpu": 1}), obj(limits={"cpu": "1000m"}), None, False),
        (obj(limits={"memory": "1Gi"}), obj(limits={"memory": "1024Mi"}), None, False),
        (obj(env=[{"name": "A", "value": "1"}]), obj(env=[{"name": "A", "value": "1000m"}]), None, True),
        (obj(), obj(a=1), obj(a=1), True),
        (obj(), obj(a=1), obj(), False),
        (obj(spec={}), obj(spec={"a": 1}), obj(spec={"a": 1}), True),
    ],
)
def test_modified(target: Any, live: Any, before: Any, modified: bool) -> None:
    assert is_modified(target, live, before) is modified
    if before is not None or not modified:
        after = predict(target, live, before)
        assert after is not None
        assert not is_modified(target, after, before)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_body = st.dictionaries(st.sampled_from(["spec", "data"]), _json)


@given(_body)
def test_nothing_differs_from_itself(body: dict[str, Any]) -> None:
    assert not is_modified(obj(**body), obj(**body), obj(**body))


@given(_body, _body, _body)
def test_prediction_is_what_makes_it_synced(target: Any, live: Any, before: Any) -> None:
    after = predict(obj(**target), obj(**live), obj(**before))
    assert after is not None
    assert not is_modified(obj(**target), after, None)


@given(st.lists(st.sampled_from(HEALTH_ORDER)))
def test_app_health_is_the_worst(found: list[str]) -> None:
    states = [
        ResourceState(Key("", "X", "", str(n)), obj(), obj(), False, h, "") for n, h in enumerate(found)
    ]
    present = [h for h in found if h != "Missing"]
    expected = max(present, key=HEALTH_ORDER.index) if present else "Missing" if found else "Healthy"
    assert app_health(states) == expected


def test_plan_orders_kinds_and_prunes_last() -> None:
    def state(kind: str, *, target: bool = True) -> ResourceState:
        item = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "n", "namespace": "s"}}
        return ResourceState(Key.of(item), item if target else None, item, False, None, "")

    states = [
        state("Job"),
        state("Deployment", target=False),
        state("ConfigMap"),
        state("Service"),
        state("Secret", target=False),
    ]
    tasks = plan("app", "s", [], states, {"prune": True}, "x")
    assert [(t.key.kind, t.prune) for t in tasks] == [
        ("ConfigMap", False), ("Service", False), ("Job", False), ("Deployment", True), ("Secret", True),
    ]  # fmt: skip
    assert [
        t.key.kind for t in plan("app", "s", [], states, {"resources": [{"kind": "Job", "name": "n"}]}, "x")
    ] == ["Job"]


def test_generated_hook_names() -> None:
    hook = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "m-", "annotations": {"argocd.argoproj.io/hook": "PreSync,PostSync"}},
    }
    assert [t.key.name for t in plan("app", "s", [hook], [], {}, "abc-1")] == [
        "m-abc-1-presync",
        "m-abc-1-postsync",
    ]
    assert plan("app", "s", [hook], [], {"syncStrategy": {"apply": {}}}, "x") == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("1m30s", 90), ("2h", 7200), ("7", 7), ("", 9), ("5 s", 9), ("x", 9), ("200ms", 0.2)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text, 9) == pytest.approx(seconds)


def test_retries_double_up_to_a_limit() -> None:
    state: dict[str, Any] = {
        "operation": {"retry": {"limit": 2, "backoff": {"maxDuration": "8s"}}},
        "finishedAt": "2026-01-01T00:00:00Z",
    }
    assert [retry_at({**state, "retryCount": n}).second for n in (1, 2, 3)] == [5, 8, 8]
    assert [wants_retry({**state, "retryCount": n}) for n in (0, 1, 2)] == [True, True, False]
    assert not wants_retry({"operation": {}})


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("a=1", True),
        ("a==1", True),
        ("a=2", False),
        ("a!=2", True),
        ("a", True),
        ("!a", False),
        ("!b,a=1", True),
        ("b", False),
    ],
)
def test_selectors(selector: str, matches: bool) -> None:
    assert matches_selector({"a": "1"}, selector) is matches


def test_patches() -> None:
    assert merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}) == {"a": {"c": 2, "d": 3}}
    assert json_patch(
        {"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}, {"op": "remove", "path": "/a/0"}]
    ) == {"a": [2]}
    for step in ({"op": "move", "path": "/a"}, {"op": "replace", "path": "/x/y", "value": 1}, {"path": "/a"}):
        with pytest.raises(ApiError):
            json_patch({"a": 1}, [step])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "not an object"),
        ("kind: X", "without apiVersion"),
        ("apiVersion: v1\nkind: X", "without metadata"),
        ("apiVersion: v1\nkind: X\nmetadata: {name: BAD!}", "valid metadata.name"),
        ("apiVersion: v1\nkind: X\nmetadata: {name: x, labels: {a: 1}}", "map text to text"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_bad_manifests(text: str, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        parse_manifests(text, "file.yaml")


def test_lists_are_expanded_and_dates_stay_text() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: X, metadata: {name: x}, on: 2026-01-02}\n---\n"
    (found,) = parse_manifests(text, "f")
    assert "2026-01-02" in found.values()


def test_policy_confines_a_role_to_a_project(tmp_path: Any) -> None:
    lines = [
        "# comment",
        "p, role:deployer, applications, *, team-a/*, allow",
        "p, role:deployer, applications, sync, team-a/prod, deny",
    ]
    (tmp_path / "policy.csv").write_text("\n".join(lines))
    access = Access(tmp_path)
    assert access.may("deployer", "applications", "sync", "team-a/dev")
    assert not access.may("deployer", "applications", "sync", "team-a/prod")
    assert not access.may("deployer", "applications", "sync", "team-b/dev")
    assert access.role("") is None
