"""Which fields differ: by what the object says of who wrote them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_pipeops.deploy.apply.objects import MASK
from airflow_pipeops.deploy.differences.fields import Compared, changed, value_at

LABEL = "applyset.kubernetes.io/part-of"
SPEC = ("metadata", "labels", LABEL)


def held(manager: str, fields: dict[str, Any], operation: str = "Apply") -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields}


def ours(fields: dict[str, Any]) -> dict[str, Any]:
    return held("pipeops", {"f:metadata": {"f:labels": {f"f:{LABEL}": {}}}, **fields})


def body(part: dict[str, Any], kind: str = "Deployment", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop", "labels": {LABEL: "x"}, **metadata},
        **part,
    }


def found(
    wanted: dict[str, Any], live: dict[str, Any], *managers: dict[str, Any], kind: str = "Deployment"
) -> list[tuple[str, Any, tuple[str, ...]]]:
    there = body(live, kind, uid="u", managedFields=list(managers))
    fields = changed(body(wanted, kind), there, SPEC, ("kube-controller-manager",))
    assert all(
        value_at({**there, "data": there.get("data")}, one.path) == one.live or kind == "Secret"
        for one in fields
    )
    return [(str(one), one.live, one.owners) for one in fields]


CONTAINERS = "f:containers"
WEB = 'k:{"name":"web"}'


def pods(**container: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "web", **container}]}}}}


def held_pods(**fields: Any) -> dict[str, Any]:
    return {"f:spec": {"f:template": {"f:spec": {CONTAINERS: {WEB: {".": {}, "f:name": {}, **fields}}}}}}


IMAGE = 'spec.template.spec.containers[name="web"].image'
REPLICAS = {"f:spec": {"f:replicas": {}}}


@pytest.mark.parametrize(
    ("wanted", "live", "managers", "expected"),
    [
        pytest.param(
            {"spec": {"replicas": 2}},
            {"spec": {"replicas": 2, "progressDeadlineSeconds": 600}},
            [ours(REPLICAS)],
            [],
            id="a default is no difference",
        ),
        pytest.param(
            {"spec": {"replicas": 2}},
            {"spec": {"replicas": 5}},
            [ours({}), held("kubectl", REPLICAS, "Update")],
            [("spec.replicas", 5, ("kubectl",))],
            id="a person scaled it",
        ),
        pytest.param(
            {"spec": {"replicas": 2}},
            {"spec": {"replicas": 5}},
            [ours({}), held("kube-controller-manager", REPLICAS, "Update")],
            [],
            id="an autoscaler scaled it",
        ),
        pytest.param(
            {"spec": {"replicas": 2}},
            {"spec": {"replicas": 5}},
            [],
            [("spec.replicas", 5, ())],
            id="an object that nobody says anything of is compared as it is",
        ),
        pytest.param(
            pods(image="web:1"),
            pods(image="web:2"),
            [ours(held_pods()), held("kubectl-edit", held_pods(**{"f:image": {}}), "Update")],
            [(IMAGE, "web:2", ("kubectl-edit",))],
            id="another image in a container that is told by its name",
        ),
        pytest.param(
            pods(resources={"limits": {"cpu": "1000m"}}),
            pods(resources={"limits": {"cpu": "1"}}),
            [ours(held_pods(**{"f:resources": {"f:limits": {"f:cpu": {}}}}))],
            [],
            id="the server writes a quantity in another form",
        ),
        pytest.param(
            pods(image="web:1"),
            {
                "spec": {
                    "template": {
                        "spec": {"containers": [{"name": "mesh"}, {"name": "web", "image": "web:1"}]}
                    }
                }
            },
            [
                ours(held_pods(**{"f:image": {}})),
                held(
                    "injector",
                    {"f:spec": {"f:template": {"f:spec": {CONTAINERS: {'k:{"name":"mesh"}': {".": {}}}}}}},
                ),
            ],
            [],
            id="a container of somebody else's",
        ),
        pytest.param(
            pods(image="web:1"),
            {"spec": {"template": {"spec": {"containers": [{"name": "mesh"}]}}}},
            [ours({})],
            [('spec.template.spec.containers[name="web"]', None, ())],
            id="a container that was taken out",
        ),
        pytest.param(
            pods(ports=[{"containerPort": 80}]),
            pods(ports=[{"containerPort": 80, "protocol": "TCP"}]),
            [ours(held_pods(**{"f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}}}}))],
            [],
            id="a port that has a part of its key by default",
        ),
        pytest.param(
            pods(args=["a"]),
            pods(args=["a", "b"]),
            [ours(held_pods()), held("kubectl-edit", held_pods(**{"f:args": {}}), "Update")],
            [('spec.template.spec.containers[name="web"].args', ["a", "b"], ("kubectl-edit",))],
            id="a list that is one value",
        ),
        pytest.param(
            {"subjects": [{"kind": "User", "name": "a"}]},
            {"subjects": [{"kind": "User", "name": "a"}, {"kind": "User", "name": "evil"}]},
            [ours({}), held("kubectl-edit", {"f:subjects": {}}, "Update")],
            [
                (
                    "subjects",
                    [{"kind": "User", "name": "a"}, {"kind": "User", "name": "evil"}],
                    ("kubectl-edit",),
                )
            ],
            id="a subject that was added to a binding, whose list is one value",
        ),
        pytest.param(
            {"spec": {"selector": {"app": "web"}}},
            {"spec": {"selector": {"app": "web", "canary": "no"}}},
            [ours({}), held("kubectl-edit", {"f:spec": {"f:selector": {}}}, "Update")],
            [("spec.selector", {"app": "web", "canary": "no"}, ("kubectl-edit",))],
            id="a map that is one value",
        ),
        pytest.param(
            {"spec": {"finalizers": ["b"]}},
            {"spec": {"finalizers": ["a", "b"]}},
            [ours({"f:spec": {"f:finalizers": {'v:"b"': {}}}})],
            [],
            id="a set has more than was pushed",
        ),
        pytest.param(
            {"spec": {"finalizers": ["b"]}},
            {"spec": {"finalizers": ["a"]}},
            [ours({"f:spec": {}}), held("x", {"f:spec": {"f:finalizers": {'v:"a"': {}}}})],
            [("spec.finalizers", ["a"], ())],
            id="a set lost what was pushed",
        ),
        pytest.param(
            {"spec": {"paused": False, "template": {"metadata": {"annotations": None}}}},
            {"spec": {"template": {"metadata": {}}}},
            [ours({})],
            [],
            id="what is empty is left out by the server",
        ),
        pytest.param({"status": {"a": 1}}, {"status": {"a": 2}}, [ours({})], [], id="a status"),
    ],
)
def test_which_fields_differ(
    wanted: dict[str, Any], live: dict[str, Any], managers: list[Any], expected: list[Any]
) -> None:
    assert found(wanted, live, *managers) == expected


@pytest.mark.parametrize(
    ("wanted", "live", "managers", "expected"),
    [
        ({"data": {"key": MASK}}, {"data": {"key": "aHVudGVy"}}, [ours({"f:data": {"f:key": {}}})], []),
        (
            {"stringData": {"key": MASK}},
            {"data": {"key": "aHVudGVy"}},
            [ours({"f:stringData": {"f:key": {}}})],
            [],
        ),
        ({"stringData": {"key": MASK}}, {"data": {"key": "aHVudGVy"}}, [], []),
        (
            {"data": {"key": MASK}},
            {"data": {"key": "aHVudGVy"}},
            [ours({}), held("kubectl-edit", {"f:data": {"f:key": {}}}, "Update")],
            [("data.key", ("kubectl-edit",))],
        ),
        ({"data": {"key": MASK}}, {"data": {}}, [ours({})], [("data.key", ())]),
        ({"stringData": {"key": "hunter"}}, {"data": {"key": "aHVudGVy"}}, [], []),
        ({"stringData": {"key": "hunter"}}, {"data": {"key": "b3RoZXI="}}, [], [("data.key", ())]),
    ],
)
def test_a_secret_is_compared_by_what_is_known_of_it(
    wanted: dict[str, Any], live: dict[str, Any], managers: list[Any], expected: list[Any]
) -> None:
    differing = found(wanted, live, *managers, kind="Secret")
    assert [(path, owners) for path, _, owners in differing] == expected


def test_no_value_of_a_secret_is_told_and_another_value_is_another_difference() -> None:
    def compared(value: str) -> Compared:
        live = body({"data": {"key": value}}, "Secret", uid="u")
        wanted = body({"data": {"key": "b2xk"}}, "Secret")
        return Compared(wanted, live, changed(wanted, live, SPEC))

    one, other = compared("aHVudGVy"), compared("b3RoZXI=")
    said = "\n".join(one.lines()) + str(one.difference.to_json())
    assert "data.key" in said
    assert "aHVudGVy" not in said
    assert "b2xk" not in said
    assert one.difference.digest != other.difference.digest
