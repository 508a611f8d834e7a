"""Every object that the chart can make.

The whole chart is rendered by Helm's own programs of both majors with any two settings together; each of its templates by
the same engine as a library, with each combination of all that it reads (see ``parts.py``).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import helm_python
import jsonschema
import kubernetes.client.models as kube
import pytest
import yaml
from argo_workflows.model.io_argoproj_workflow_v1alpha1_workflow_template import (
    IoArgoprojWorkflowV1alpha1WorkflowTemplate,
)

from tests.deploy.helm.running import MAJORS
from tests.helm import parts
from tests.helm.combinations import IMAGE, SETTINGS, STORE, rows, values_of
from tests.helm.crds import SPECS
from tests.helm.policy import containers, restricted, violations
from tests.helm.programs import CHART, leaves, objects, run, template
from tests.helm.test_chart import render
from tests.openapi import problems

Object = dict[str, Any]
MODELS: Mapping[tuple[str, str], type] = {
    ("v1", "Namespace"): kube.V1Namespace,
    ("v1", "Pod"): kube.V1Pod,
    ("v1", "Secret"): kube.V1Secret,
    ("v1", "Service"): kube.V1Service,
    ("v1", "ServiceAccount"): kube.V1ServiceAccount,
    ("apps/v1", "StatefulSet"): kube.V1StatefulSet,
    ("batch/v1", "Job"): kube.V1Job,
    ("networking.k8s.io/v1", "NetworkPolicy"): kube.V1NetworkPolicy,
    ("policy/v1", "PodDisruptionBudget"): kube.V1PodDisruptionBudget,
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): kube.V1ClusterRole,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): kube.V1ClusterRoleBinding,
    ("rbac.authorization.k8s.io/v1", "Role"): kube.V1Role,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): kube.V1RoleBinding,
    ("argoproj.io/v1alpha1", "WorkflowTemplate"): IoArgoprojWorkflowV1alpha1WorkflowTemplate,
}
CRASH = {"securityContext": {"privileged": True}, "name": "a", "ports": [{"hostPort": 1}]}
PASSWORD = {"name": "DB_PASSWORD", "value": "x"}
MOUNTING = {"name": "a", "securityContext": {"runAsUser": 1000}, "volumeMounts": [{"name": "s"}]}
HIDDEN = {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o440}}


def role(**fields: Any) -> Object:
    """Return a Role with one rule."""
    return {"kind": "Role", "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [], **fields}]}


@pytest.fixture(scope="module")
def found() -> dict[str, list[tuple[Object, ...]]]:
    """What each template makes, by each combination of the values that it reads; texts that differ once."""
    return {
        name: [parts.documents(text) for text in sorted(set(texts.values()))]
        for name, texts in parts.made().items()
        if name.endswith(".yaml")
    }


@pytest.fixture(scope="module")
def each(found: dict[str, list[tuple[Object, ...]]]) -> list[Object]:
    """Each object of all combinations once."""
    whole = {json.dumps(one, sort_keys=True): one for made in found.values() for many in made for one in many}
    return list(whole.values())


def about(item: Object) -> tuple[str, str]:
    return item["apiVersion"], item["kind"]


@pytest.mark.parametrize("at", range(len(rows())))
def test_both_majors_make_the_same(at: int) -> None:
    values = values_of(rows()[at])
    first, second = (sorted(map(json.dumps, objects(template(major, values)))) for major in MAJORS)
    assert first == second == sorted(map(json.dumps, render(values)))


def test_all_kinds_are_made_and_each_is_known_here(each: list[Object]) -> None:
    assert {about(one) for one in each} == set(MODELS) | set(SPECS)


def test_no_combination_makes_an_object_twice(found: dict[str, list[tuple[Object, ...]]]) -> None:
    """Not one template, and not two of them, whatever they are made with."""
    owners: dict[tuple[str, ...], str] = {}
    for template_, made in found.items():
        for many in made:
            names = [(*about(one), one["metadata"].get("namespace"), one["metadata"]["name"]) for one in many]
            assert len(names) == len(set(names))
            for name in names:
                assert owners.setdefault(name, template_) == template_
            assert all(len(name[-1]) <= 63 for name in names if name[1] != "Secret")


@pytest.mark.parametrize("name", [*parts.names(), *(path.name for path in parts.TEMPLATES.glob("*.tpl"))])
def test_it_can_be_told_which_values_a_template_reads(name: str) -> None:
    assert parts.UNTOLD.findall((parts.TEMPLATES / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("at", range(len(rows())))
def test_what_a_template_makes_of_the_whole_values_is_what_it_made_of_those_it_reads(at: int) -> None:
    values = values_of(rows()[at])
    whole = parts.text_of(helm_python.Chart.load(CHART), values)
    for name, made in parts.made().items():
        assert made[parts.seen_by(parts.reads(name), values)] == whole.get(name, "")


def test_each_switch_of_the_chart_is_on_and_off_in_the_settings() -> None:
    levels = [leaves(level) for many in SETTINGS.values() for level in many if level]
    defaults = leaves(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))
    switches = {path: value for path, value in defaults.items() if isinstance(value, bool)}
    assert len(switches) > 20
    for path, value in switches.items():
        assert any(level.get(path) is (not value) for level in levels), path


def test_each_combination_is_valid_by_the_schema() -> None:
    """It judges each block of the values by itself, so that each combination of what a block can hold is enough."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert set(schema) == {"$schema", "title", "type", "additionalProperties", "definitions", "properties"}
    validator = jsonschema.Draft7Validator(schema)
    for block in schema["properties"]:
        for values in parts.cases(frozenset({(block,)})).values():
            assert [error.message for error in validator.iter_errors(values)] == []


def test_each_object_has_the_form_that_its_server_demands(each: list[Object]) -> None:
    for one in each:
        if model := MODELS.get(about(one)):
            assert problems(one, model) == [], yaml.safe_dump(one)
            continue
        assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
        metadata = problems(one["metadata"], kube.V1ObjectMeta)
        told = [
            str(e.message) for e in jsonschema.Draft7Validator(SPECS[about(one)]).iter_errors(one["spec"])
        ]
        assert [*metadata, *told] == [], yaml.safe_dump(one)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (("argoproj.io/v1alpha1", "Application"), lambda spec: spec.pop("destination")),
        (("argoproj.io/v1alpha1", "AppProject"), lambda spec: spec["roles"][0].pop("name")),
        (("source.toolkit.fluxcd.io/v1", "GitRepository"), lambda spec: spec.update(url="git@host:x")),
        (("kustomize.toolkit.fluxcd.io/v1", "Kustomization"), lambda spec: spec.update(sourceref={})),
        (
            ("external-secrets.io/v1", "ExternalSecret"),
            lambda spec: spec["secretStoreRef"].update(kind="Vault"),
        ),
    ],
)
def test_a_wrong_custom_object_would_be_found(each: list[Object], kind: Any, change: Any) -> None:
    spec = copy.deepcopy(next(one for one in each if about(one) == kind)["spec"])
    validator = jsonschema.Draft7Validator(SPECS[kind])
    assert validator.is_valid(spec)
    change(spec)
    assert not validator.is_valid(spec)


def test_everything_that_can_be_is_in_a_namespace(each: list[Object]) -> None:
    wide = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
    for one in each:
        assert ("namespace" in one["metadata"]) == (one["kind"] not in wide), one["metadata"]["name"]


#: What a rootless builder cannot be without, and what only the image of the tests can tell.
EXEMPT = {
    "build/main": {
        "allowPrivilegeEscalation is not false",
        "capabilities are not dropped",
        "it may run as root",
        "no seccomp profile",
        "no AppArmor profile",
    },
}
EXEMPT["in-image/main"] = EXEMPT["build/main"] - {"no AppArmor profile"}
EXEMPT["with-source/main"] = EXEMPT["in-image/main"]


def test_nothing_is_privileged_unlimited_or_told_a_secret(each: list[Object]) -> None:
    """Pod Security "restricted" holds for all, but for those two that are named."""
    excused = {f"{where}: {said}" for where, many in EXEMPT.items() for said in many}
    for one in each:
        wrong = violations(one)
        if one["kind"] == "WorkflowTemplate":
            wrong = [said for said in wrong if said not in excused]
        assert wrong == [], yaml.safe_dump(one)


def test_the_tests_of_a_workflow_can_be_restricted_too() -> None:
    context = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    values = {"workflows": {"enabled": True, "test": {"securityContext": context}}}
    (item,) = [one for one in objects(template("helm3", values)) if one["metadata"]["name"] == "pipeops-test"]
    assert violations(item) == []


def test_what_the_chart_runs_itself_is_limited_and_writes_only_where_it_is_told(each: list[Object]) -> None:
    own = [
        (pod, one) for item in each if item["kind"] != "WorkflowTemplate" for _, pod, one in containers(item)
    ]
    assert {one["name"] for _, one in own} == {"git", "seed", "imports", "release"}
    for pod, one in own:
        assert "memory" in one["resources"]["limits"]
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["automountServiceAccountToken"] is False
        assert one["image"] == IMAGE


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (role(verbs=["*"]), "a wildcard in verbs"),
        (role(apiGroups=["*"]), "a wildcard in apiGroups"),
        (role(resources=["pods/*"]), "a wildcard in resources"),
        (role(resources=["pods/exec"]), "makes everything possible"),
        ({"kind": "ClusterRole"}, "the whole cluster"),
        ({"kind": "Secret", "type": "Opaque", "stringData": {}}, "in plain sight"),
        ({"kind": "Pod", "spec": {"containers": [CRASH]}}, "it is privileged"),
        ({"kind": "Pod", "spec": {"containers": [CRASH]}}, "a port of the node"),
        ({"kind": "Pod", "spec": {"containers": [CRASH], "hostNetwork": True}}, "shares the node"),
        ({"kind": "Pod", "spec": {"containers": [CRASH], "volumes": [{"name": "v", "hostPath": {}}]}}, "is of the node"),
        ({"kind": "Job", "spec": {"template": {"spec": {"containers": [CRASH]}}}}, "no requests"),
        ({"kind": "Pod", "spec": {"containers": [{"name": "a", "env": [PASSWORD]}]}}, "DB_PASSWORD"),
        ({"kind": "Pod", "spec": {"containers": [MOUNTING], "volumes": [HIDDEN]}}, "the Secret of volume s cannot be read"),
    ],
)  # fmt: skip
def test_the_policy_finds_what_it_is_for(item: Object, said: str) -> None:
    assert [one for one in violations(item) if said in one]


def test_a_restricted_pod_is_known_and_each_of_its_parts_counts() -> None:
    pod = {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}}
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert list(restricted(pod, {"securityContext": own})) == []
    for without in own:
        less = {key: value for key, value in own.items() if key != without}
        assert list(restricted(pod, {"securityContext": less}))
    for without in pod["securityContext"]:
        less = {key: value for key, value in pod["securityContext"].items() if key != without}
        assert list(restricted({"securityContext": less}, {"securityContext": own}))


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("at", range(0, 30, 3))
def test_lint_finds_nothing(major: str, at: int) -> None:
    done = run(major, "lint", "--strict", str(CHART), values=values_of(rows()[at]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_each_value_is_in_the_schema_and_each_of_the_schema_is_a_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def resolved(part: Object) -> Object:
        return schema["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part

    def known(part: Object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        part = resolved(part)
        if part.get("additionalProperties") is not False or part is schema["definitions"]["resources"]:
            return {path}
        return {leaf for name, inner in part["properties"].items() for leaf in known(inner, (*path, name))}

    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    maps = {path for path in known(schema) if path and path[-1] in ("resources",)}
    told = {next((many for many in maps if path[: len(many)] == many), path) for path in leaves(values)}
    assert told == known(schema) - {("global",)}


def test_each_value_is_said_to_be_what_it_is() -> None:
    """A comment stands above each, or above the block that it is of."""
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    for at, line in enumerate(lines):
        if line.strip().endswith("enabled: false"):
            above = [one.strip() for one in lines[max(0, at - 4) : at]]
            assert any(one.startswith("#") for one in above), line


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"connections": {"existingSecret": "a", "values": {"x": {"conn_type": "http"}}}}, "exclude each other"),
        (
            {"connections": {"existingSecret": "a", "externalSecret": STORE}},
            "exclude each other",
        ),
        ({"git": {"enabled": True}}, "git.enabled runs airflow-pipeops: set image"),
        ({"tests": {"release": {"enabled": True, "secret": "s"}}}, "tests.release.enabled runs airflow-pipeops: set image"),
        ({"image": IMAGE, "git": {"enabled": True}}, "give them in connections.existingSecret"),
        ({"examples": {"gitops": "flux"}}, "examples.gitops is flux: set examples.repoURL"),
        (
            {"image": IMAGE, "connections": {"existingSecret": "a"}, "examples": {"seed": {"enabled": True}}},
            "set examples.registry",
        ),
        ({"argocd": {"project": {"enabled": True}}}, "makes a project of nothing"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("major", MAJORS)
def test_values_that_do_not_go_together_are_refused_with_the_remedy(
    major: str, values: Object, said: str
) -> None:
    done = run(major, "template", "pipeops", str(CHART), values=values)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"examples": {"gitops": "jenkins"}}, "gitops"),
        ({"connections": {"externalSecret": {"enabled": True, "keys": ["k"]}}}, "name"),
        ({"connections": {"externalSecret": {"enabled": True, "store": {"name": "s"}}}}, "externalSecret"),
        ({"tests": {"release": {"enabled": True}}}, "secret"),
        ({"tests": {"release": {"url": "airflow"}}}, "url"),
        ({"git": {"storage": "much"}}, "storage"),
        ({"argocd": {"project": {"sourceRepos": ["*"]}}}, "sourceRepos"),
        ({"argocd": {"project": {"kinds": [{"group": "*", "kind": "*"}]}}}, "kinds"),
        ({"podDisruptionBudget": {"components": []}}, "components"),
        ({"image": "an image"}, "image"),
        ({"resources": {"memory": "1Gi"}}, "resources"),
        ({"examples": {"repoURL": "/srv/git"}}, "repoURL"),
    ],
)
@pytest.mark.parametrize("major", MAJORS)
def test_the_schema_names_the_value_that_it_refuses(major: str, values: Object, field: str) -> None:
    done = run(major, "template", "pipeops", str(CHART), values=values)
    assert done.returncode != 0
    assert field in done.stderr
