"""The API side: apply, patch, delete, admission."""

from __future__ import annotations

import copy
import socket
from typing import Any

import pytest

from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.runtime.manifest import check
from airflow_pipeops.demo.sandbox.runtime.merge import apply_merge, merge_patch
from airflow_pipeops.exceptions import InvalidInput, NotFound

CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "c", "namespace": "demo"},
    "data": {"a": "1"},
}
C = Key("", "ConfigMap", "demo", "c")


async def test_apply_keeps_identity_and_counts_changes(make_cluster: Any) -> None:
    cluster = make_cluster()
    await cluster.start()
    try:
        events: list[tuple[str, str]] = []
        end = cluster.subscribe(lambda event, live: events.append((event, live["metadata"]["name"])))
        first = await cluster.apply(CONFIG)
        same = await cluster.apply(copy.deepcopy(CONFIG))
        assert same == first
        assert first["metadata"]["generation"] == 1
        changed = await cluster.apply({**CONFIG, "data": {"b": "2"}})
        assert changed["data"] == {"b": "2"}  # "a" was ours, and is gone with the manifest
        assert changed["metadata"]["uid"] == first["metadata"]["uid"]
        assert int(changed["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
        assert changed["metadata"]["generation"] == 2
        await cluster.patch(C, {"data": {"by-hand": "x"}, "metadata": {"labels": {"l": "1"}}})
        again = await cluster.apply({**CONFIG, "data": {"b": "2"}})
        assert again["data"] == {"b": "2", "by-hand": "x"}  # others' fields stay
        assert again["metadata"]["labels"] == {"l": "1"}
        assert cluster.last_applied(C) == {**CONFIG, "data": {"b": "2"}}
        assert [live["metadata"]["name"] for live in cluster.list(kind="ConfigMap", labels={"l": "1"})] == [
            "c"
        ]
        assert cluster.list(namespace="elsewhere") == []
        assert await cluster.delete(C) is True
        assert await cluster.delete(C) is False
        assert cluster.get(C) is None
        end()
        recreated = await cluster.apply(CONFIG)
        assert recreated["metadata"]["uid"] != first["metadata"]["uid"]
        assert {e for e, _ in events} == {"ADDED", "MODIFIED", "DELETED"}
        assert events[-1] == ("DELETED", "c")
    finally:
        await cluster.stop()


async def test_labels_do_not_move_the_generation(make_cluster: Any) -> None:
    cluster = make_cluster()
    await cluster.start()
    try:
        await cluster.apply(CONFIG)
        labelled = copy.deepcopy(CONFIG)
        labelled["metadata"]["labels"] = {"x": "y"}
        assert (await cluster.apply(labelled))["metadata"]["generation"] == 1
    finally:
        await cluster.stop()


def pod_template(**container: Any) -> dict[str, Any]:
    one = {"name": "c", "image": "i", **container}
    return {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [one]}}


def manifest(kind: str = "Deployment", **spec: Any) -> dict[str, Any]:
    group = {"Deployment": "apps/v1", "Job": "batch/v1"}.get(kind, "v1")
    if kind == "Deployment":
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pod_template(), **spec}
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "x"}, "spec": spec}


BAD = [
    ("no mapping", ["x"], "manifest"),
    ("no apiVersion", {"kind": "X", "metadata": {"name": "x"}}, "apiVersion"),
    ("no kind", {"apiVersion": "v1", "metadata": {"name": "x"}}, "kind"),
    ("no metadata", {"apiVersion": "v1", "kind": "X"}, "metadata.name"),
    ("no name", {"apiVersion": "v1", "kind": "X", "metadata": {}}, "metadata.name"),
    ("bad name", {"apiVersion": "v1", "kind": "X", "metadata": {"name": "A_b"}}, "metadata.name"),
    ("number in a config map", {**CONFIG, "data": {"a": 1}}, "data.a"),
    ("number as label", {**CONFIG, "metadata": {"name": "x", "labels": {"v": 1}}}, "metadata.labels.v"),
    ("no spec", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}, "spec"),
    ("no selector", manifest(selector=None), "spec.selector.matchLabels"),
    ("selector differs", manifest(selector={"matchLabels": {"z": "z"}}), "spec.template.metadata.labels"),
    ("negative replicas", manifest(replicas=-1), "spec.replicas"),
    ("replicas as text", manifest(replicas="2"), "spec.replicas"),
    ("no image", manifest(template=pod_template(image="")), "spec.template.spec.containers[0].image"),
    (
        "env is a number",
        manifest(template=pod_template(env=[{"name": "A", "value": 1}])),
        "spec.template.spec.containers[0].env[0].value",
    ),
    (
        "probe without handler",
        manifest(template=pod_template(livenessProbe={"periodSeconds": 1})),
        "spec.template.spec.containers[0].livenessProbe",
    ),
    ("strategy", manifest(strategy={"type": "Canary"}), "spec.strategy.type"),
    (
        "job that restarts always",
        manifest("Job", template=pod_template()),
        "spec.template.spec.restartPolicy",
    ),
    ("service port", manifest("Service", ports=[{"port": 0}]), "spec.ports[0].port"),
]


@pytest.mark.parametrize(("bad", "field"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_malformed_manifests_name_the_field(bad: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(bad)
    assert caught.value.field == field


def test_second_container_is_refused_by_name() -> None:
    two = manifest()
    two["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": "p"})
    with pytest.raises(InvalidInput, match="proxy"):
        check(two)


async def test_refusals_leave_nothing_behind(make_cluster: Any, service: Any, free_port: int) -> None:
    cluster = make_cluster()
    await cluster.start()
    try:
        await cluster.apply(service(free_port))
        with pytest.raises(InvalidInput, match=r"provided port is already allocated \(by Service demo/web\)"):
            await cluster.apply(service(free_port, "other"))
        assert cluster.get(Key("", "Service", "demo", "other")) is None
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(InvalidInput, match="another program"):
                await cluster.apply(service(taken.getsockname()[1], "other"))
        await cluster.apply(manifest(replicas=0))
        other = manifest(selector={"matchLabels": {"a": "c"}}, replicas=0)
        other["spec"]["template"]["metadata"]["labels"] = {"a": "c"}
        with pytest.raises(InvalidInput, match=r"spec\.selector: field is immutable"):
            await cluster.apply(other)
        with pytest.raises(NotFound):
            await cluster.patch(C, {"data": {}})
    finally:
        await cluster.stop()


MERGES: list[tuple[str, Any, Any, Any, Any]] = [
    ("new field", {"a": 1}, {}, {"b": 2}, {"a": 1, "b": 2}),
    ("removed by us", {"a": 1, "b": 2}, {"b": 2}, {}, {"a": 1}),
    ("removed deep", {"m": {"a": 1, "b": 2}}, {"m": {"a": 1, "b": 2}}, {"m": {"a": 1}}, {"m": {"a": 1}}),
    ("list replaced", {"ports": [1, 2]}, {"ports": [1, 2]}, {"ports": [3]}, {"ports": [3]}),
    (
        "env by name",
        {"env": [{"name": "A", "value": "1"}, {"name": "HAND", "value": "x"}, {"name": "OLD", "value": "o"}]},
        {"env": [{"name": "A", "value": "1"}, {"name": "OLD", "value": "o"}]},
        {"env": [{"name": "A", "value": "2"}]},
        {"env": [{"name": "A", "value": "2"}, {"name": "HAND", "value": "x"}]},
    ),
    (
        "value to valueFrom",
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "A", "valueFrom": {"x": 1}}]},
        {"env": [{"name": "A", "valueFrom": {"x": 1}}]},
    ),
    ("null is absent", {"a": 1}, {"a": 1}, {"a": None}, {}),
    ("kind of value changes", {"a": {"b": 1}}, {}, {"a": "text"}, {"a": "text"}),
]


@pytest.mark.parametrize(
    ("live", "last", "wanted", "result"), [c[1:] for c in MERGES], ids=[c[0] for c in MERGES]
)
def test_apply_merge(live: Any, last: Any, wanted: Any, result: Any) -> None:
    before = copy.deepcopy((live, last, wanted))
    assert apply_merge(live, last, wanted) == result
    assert (live, last, wanted) == before


def test_merge_patch() -> None:
    assert merge_patch({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None}, "d": [2]}) == {
        "a": {"c": 2},
        "d": [2],
    }
