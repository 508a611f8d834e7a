"""The judgements of an apply: sets, budgets, order, commits, differences."""

from __future__ import annotations

import pytest

from airflow_pipeops.deploy.apply.commits import Relation, may_apply
from airflow_pipeops.deploy.apply.differences import Contested, contested, differences, may_force
from airflow_pipeops.deploy.apply.objects import Served, parse, placed
from airflow_pipeops.deploy.apply.parents import Holder, Parent, Release, undo_to
from airflow_pipeops.deploy.apply.sets import TOOLING, Member, Ref, check_parent, prune, set_id
from airflow_pipeops.deploy.helm.manifests import objects_of
from airflow_pipeops.exceptions import Conflict, InvalidInput

MAP = Served("v1", "ConfigMap", "configmaps", True)
WEB = Ref.of("web", "shop")
CLAIM = Served("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True)


def member(number: int, served: Served = MAP) -> Member:
    return Member(served, "shop", f"m{number}", f"uid-{number}")


@pytest.mark.parametrize(
    ("there", "gone", "refused"),
    [
        (3, 3, False),
        (4, 3, False),
        (4, 4, True),
        (20, 4, False),
        (20, 5, True),
        (30, 6, False),
        (30, 7, True),
    ],
)
def test_the_budget_is_three_or_a_fifth(there: int, gone: int, refused: bool) -> None:
    found = [member(number) for number in range(there)]
    plan = prune(found, {one.uid for one in found[gone:]})
    assert bool(plan.refused) is refused
    assert len(plan.delete) == (0 if refused else gone)
    if refused:
        assert all(str(one) in plan.refused for one in found[:gone])
    assert prune(found, {one.uid for one in found[gone:]}, allowed=gone).delete == tuple(found[:gone])


def test_a_guarded_kind_goes_only_when_it_is_named() -> None:
    claim = member(1, CLAIM)
    assert prune([claim], ()).keep == (claim,)
    assert prune([claim], ()).delete == ()
    assert prune([claim], (), named=["PersistentVolumeClaim shop/m1"]).delete == (claim,)


@pytest.mark.parametrize(
    ("relation", "rollback", "ok"),
    [
        ("same", False, True),
        ("newer", False, True),
        ("older", False, False),
        ("older", True, True),
        ("diverged", False, False),
        ("unknown", False, False),
    ],
)
def test_only_a_rollback_goes_back(relation: Relation, rollback: bool, ok: bool) -> None:
    assert may_apply("b" * 40, "a" * 40, relation, rollback=rollback).ok is ok


def test_a_set_of_commits_takes_nothing_without_one() -> None:
    assert not may_apply("b" * 40, "", "unknown").ok
    assert may_apply("", "", "unknown").ok


def test_what_others_need_comes_first() -> None:
    text = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Ingress, metadata: {name: i}}
- {apiVersion: v1, kind: Deployment, metadata: {name: d}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c, uid: x, managedFields: []}, status: {}}
---
# nothing
---
{apiVersion: v1, kind: Namespace, metadata: {name: n, namespace: wrong}}
---
{apiVersion: v1, kind: CustomResourceDefinition, metadata: {name: x}}
"""
    bodies = parse(text)
    wide = {"Namespace", "CustomResourceDefinition"}
    served = {
        ("v1", one["kind"]): Served("v1", one["kind"], "any", one["kind"] not in wide) for one in bodies
    }
    found = placed(bodies, served, "shop")
    assert [one.name for one in found] == ["x", "n", "c", "d", "i"]
    assert [one.namespace for one in found] == ["", "", "shop", "shop", "shop"]
    assert found[2].body == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "shop"},
    }
    with pytest.raises(InvalidInput, match="is there twice"):
        placed([*bodies, bodies[0]], served, "shop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML"),
        ("kind: X\nmetadata: {name: x}", "has no apiVersion"),
        ("apiVersion: v1\nkind: Pod", "Pod has no metadata.name"),
        ("- 1", "it has no apiVersion"),
    ],
)
def test_what_is_no_manifest_is_said(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(text)


MERGED = """
apiVersion: acme/v1
kind: AllowList
metadata: {name: a, annotations: {at: 2026-01-01T00:00:00Z, day: 2026-01-01}}
spec:
  base: &base {a: 1, b: 2}
  more: &more {<<: *base, a: 3}
  most: {<<: *more, b: 4}
  values: [12:30:45, 1:30.5, =, 7, 1.5, yes]
"""


def test_what_kubernetes_reads_as_text_stays_text() -> None:
    (found,) = parse(MERGED)
    assert found["metadata"]["annotations"] == {"at": "2026-01-01T00:00:00Z", "day": "2026-01-01"}
    assert found["spec"]["values"] == ["12:30:45", "1:30.5", "=", 7, 1.5, True]
    assert found["spec"]["most"] == {"a": 3, "b": 4}
    (rendered,) = objects_of(MERGED)
    assert rendered == found


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("kind: Other", r"manifests, line 10: the field 'kind' is there twice\. Leave one of them"),
        ("last:\n- {a: 1}\n- {a: 1, b: 2, a: 3}", r"manifests, line 12: the field 'a' is there twice"),
    ],
)
def test_a_field_that_is_there_twice_is_refused(more: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(f"{MERGED}{more}\n")
    assert objects_of(f"{MERGED}{more}\n"), "Helm takes the last one"


def test_a_list_stands_for_its_items_and_a_kind_that_ends_so_for_itself() -> None:
    assert [one["kind"] for one in parse(MERGED)] == ["AllowList"]
    assert [
        one["kind"]
        for one in parse(
            "kind: ConfigMapList\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}]"
        )
    ] == ["ConfigMap"]
    assert parse("kind: List") == []


def test_secrets_are_masked_and_their_change_is_told() -> None:
    def secret(value: str) -> dict[str, object]:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": value}}

    for lines in (
        differences("Secret s", None, secret("aHVudGVyMg==")),
        differences("Secret s", secret("b2xk"), secret("aHVudGVyMg==")),
    ):
        assert len(lines) > 1
        assert "aHVudGVyMg==" not in "".join(lines)
        assert "b2xk" not in "".join(lines)
    assert differences("Secret s", secret("b2xk"), secret("b2xk")) == []


def test_differences_name_the_field() -> None:
    before = {"kind": "X", "spec": {"list": [{"name": "a", "image": "a:1"}], "gone": 1}}
    after = {"kind": "X", "spec": {"list": [{"name": "a", "image": "a:2"}], "new": 2}}
    assert differences("X x", before, after) == [
        "~ X x",
        "    .spec.gone: 1 -> (removed)",
        '    .spec.list[name="a"].image: "a:1" -> "a:2"',
        "    .spec.new: 2",
    ]


def test_force_is_per_owner() -> None:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "hpa" using apps/v1',
            "field": ".spec.replicas",
        },
        {"reason": "FieldManagerConflict", "message": 'conflict with "helm"', "field": ".spec.x"},
        {"reason": "Other", "message": "conflict with nobody"},
    ]
    found = contested(causes)
    assert found == [Contested("hpa", ".spec.replicas"), Contested("helm", ".spec.x")]
    assert not may_force(found, ["hpa"])
    assert may_force(found, ["hpa", "helm"])
    assert not may_force([], ["hpa"])


def test_a_set_of_another_tool_is_refused_until_it_is_taken_over() -> None:
    metadata = {
        "name": "web",
        "namespace": "shop",
        "labels": {"applyset.kubernetes.io/id": set_id("web", "shop")},
        "annotations": {"applyset.kubernetes.io/tooling": "kubectl/v1.37"},
    }
    with pytest.raises(InvalidInput, match=r"belongs to kubectl/v1\.37"):
        check_parent({"metadata": metadata}, WEB)
    assert check_parent({"metadata": metadata}, WEB, "kubectl") == "pipeops/v1"
    for tooling in ({}, {TOOLING: ""}, {TOOLING: "/v1"}):
        with pytest.raises(InvalidInput, match="does not say which tool it belongs to"):
            check_parent({"metadata": {**metadata, "annotations": tooling}}, WEB)
    with pytest.raises(InvalidInput, match="of another apply set"):
        check_parent({"metadata": {**metadata, "name": "copy"}}, Ref.of("copy", "shop"), "kubectl")
    with pytest.raises(InvalidInput, match="no apply set's parent"):
        check_parent({"metadata": {"name": "web", "namespace": "shop"}}, WEB)


def test_a_parent_is_a_config_map_or_a_secret() -> None:
    assert Ref.of("configmaps/web", "shop") == WEB
    assert (str(WEB), str(Ref.of("secrets/web", "shop"))) == ("ConfigMap shop/web", "Secret shop/web")
    assert WEB.id != Ref.of("secrets/web", "shop").id == set_id("web", "shop", "Secret")
    for name in ("pods/web", "secrets/", "a/secrets/web"):
        with pytest.raises(InvalidInput, match="names no parent of an apply set"):
            Ref.of(name, "shop")


def test_a_lock_is_anothers_until_its_time_and_our_own_at_once() -> None:
    parent = Parent(holder=Holder("theirs", "t1", 100.0))
    with pytest.raises(Conflict, match="held by theirs for another 10 s"):
        parent.held(Holder("ours", "t2", 400.0), 90.0)
    assert parent.held(Holder("ours", "t2", 400.0), 101.0).holder == Holder("ours", "t2", 400.0)
    assert parent.held(Holder("theirs", "t2", 390.0), 90.0).holder == Holder("theirs", "t2", 390.0)


def test_undo_goes_back_one_release_and_its_retry_to_the_same() -> None:
    first, second = (Release(f"task-{n}", str(n), f"d{n}", f"s{n}") for n in (1, 2))
    parent = Parent(releases=(first, second))
    assert undo_to(parent, "undo") == first
    assert undo_to(Parent(releases=(first,), intent=second), "undo") == first, "begun, and not ended"
    mine = Release("undo", "1", "d1", "s1")
    assert undo_to(Parent(releases=(first, second), intent=mine), "undo") == mine
    after = parent.ended(mine, parent.scope, undo=True)
    assert after.releases == (mine,)
    assert undo_to(after, "undo") == mine
    with pytest.raises(InvalidInput, match="no release before"):
        undo_to(after, "another")


def test_a_parent_is_read_as_it_was_written() -> None:
    parent = Parent(commit="abc", holder=Holder("k", "t", 1.0), intent=Release("k", "abc", "d"))
    item = parent.written(WEB)
    item["metadata"]["namespace"] = "shop"
    read = Parent.of(item)
    assert (read.commit, read.holder, read.intent) == (parent.commit, parent.holder, parent.intent)
    item["metadata"]["annotations"]["pipeops/holder"] = "{"
    with pytest.raises(InvalidInput, match="cannot be read"):
        Parent.of(item)
