"""What a user gives as a workflow, in each of its forms, and what is refused."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.argo_workflows.manifest import anew, manifest_of, reference, template_of, with_parameters
from airflow_pipeops.exceptions import InvalidInput
from tests.argo_workflows.objects import workflow

YAML = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: train-}
spec:
  entrypoint: main
  arguments: {parameters: [{name: rows, value: "1"}, {name: model}]}
  templates: [{name: main, container: {image: alpine, args: ["{{workflow.parameters.rows}}"]}}]
"""


class Hera:
    """A builder, as Hera's ``Workflow`` is."""

    def to_dict(self) -> dict[str, Any]:
        return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": {"entrypoint": "main"}}


def model() -> Any:
    from argo_workflows.model.container import Container
    from argo_workflows.model.io_argoproj_workflow_v1alpha1_template import IoArgoprojWorkflowV1alpha1Template
    from argo_workflows.model.io_argoproj_workflow_v1alpha1_workflow import IoArgoprojWorkflowV1alpha1Workflow
    from argo_workflows.model.io_argoproj_workflow_v1alpha1_workflow_spec import (
        IoArgoprojWorkflowV1alpha1WorkflowSpec,
    )
    from argo_workflows.model.object_meta import ObjectMeta

    container = Container(image="alpine", image_pull_policy="Always")
    spec = IoArgoprojWorkflowV1alpha1WorkflowSpec(
        entrypoint="main",
        service_account_name="runner",
        templates=[IoArgoprojWorkflowV1alpha1Template(name="main", container=container)],
    )
    return IoArgoprojWorkflowV1alpha1Workflow(metadata=ObjectMeta(generate_name="x-"), spec=spec)


def test_yaml_a_file_and_a_dict_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(YAML)
    from_text = manifest_of(YAML)
    assert manifest_of("train.yaml", str(tmp_path)) == from_text == manifest_of(from_text)
    assert manifest_of(str(tmp_path / "train.yaml")) == from_text == manifest_of(tmp_path / "train.yaml")
    assert from_text["spec"]["templates"][0]["container"]["args"] == ["{{workflow.parameters.rows}}"]


def test_the_users_own_dict_is_left_as_it_is() -> None:
    given: dict[str, Any] = {"spec": {"entrypoint": "main"}}
    manifest_of(given)["spec"]["entrypoint"] = "other"
    assert given == {"spec": {"entrypoint": "main"}}


def test_a_builder_is_asked_for_its_dict() -> None:
    assert manifest_of(Hera())["spec"] == {"entrypoint": "main"}


def test_a_model_of_the_client_has_the_names_of_the_api() -> None:
    found = manifest_of(model())
    assert found["spec"]["serviceAccountName"] == "runner"
    assert found["spec"]["templates"][0]["container"]["imagePullPolicy"] == "Always"
    assert found["metadata"] == {"generateName": "x-"}


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        (7, "workflow", "of type int, which is no manifest"),
        (["a"], "workflow", "of type list"),
        ("just text", "workflow", "of type str"),
        ("a: [", "workflow", "is no YAML"),
        (YAML + "---\n" + YAML, "workflow", "holds 2 documents"),
        ("", "workflow", "holds 0 documents"),
        ("nothing.yaml", "workflow", "the file nothing.yaml cannot be read"),
        ({"kind": "WorkflowTemplate", "spec": {}}, "workflow", "template='...'"),
        ({"kind": "Deployment", "spec": {}}, "workflow", "of kind 'Deployment', and no Workflow"),
        ({"apiVersion": "v1", "spec": {}}, "apiVersion", "of apiVersion 'v1'"),
        ({"metadata": {}}, "spec", "has no spec"),
        ({"metadata": "x", "spec": {}}, "metadata", "is no mapping: 'x'"),
        ({"metadata": {"labels": ["a"]}, "spec": {}}, "metadata.labels", "is no mapping"),
        ("metadata: {labels: {version: 1.0}}\nspec: {}\n", "metadata.labels", "'version' in metadata.labels"),
        ({"spec": {"templates": {"a": 1}}}, "spec.templates", "is no list"),
        ({"spec": {"arguments": [1]}}, "spec.arguments", "is no mapping"),
        ({"spec": {"arguments": {"parameters": {"a": 1}}}}, "spec.arguments.parameters", "is no list"),
        ({"spec": {"priority": float("nan")}}, "workflow", "what JSON cannot say"),
        ({"spec": {"hooks": {1, 2}}}, "workflow", "is of type set"),
        ("spec: &a {entrypoint: main, x: *a}", "workflow", "what JSON cannot say"),
        ("a\0.yaml", "workflow", "cannot be read"),
    ],
)
def test_what_is_no_workflow_is_refused_by_its_field(given: Any, field: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)) as caught:
        manifest_of(given)
    assert caught.value.field == field


def test_a_day_in_yaml_is_its_text() -> None:
    """YAML makes a date of it, which no client can send."""
    found = manifest_of("spec: {arguments: {parameters: [{name: day, value: 2026-11-29}]}}\n")
    assert found["spec"]["arguments"]["parameters"] == [{"name": "day", "value": "2026-11-29"}]


@pytest.mark.parametrize("value", [float("nan"), {1}, object()])
def test_a_parameter_that_no_text_says_is_refused(value: Any) -> None:
    manifest = {"spec": {"arguments": {"parameters": [{"name": "rows"}]}}}
    with pytest.raises(InvalidInput, match="the parameter 'rows' holds what JSON cannot say"):
        with_parameters(manifest, {"rows": value})
    made = with_parameters(manifest, {"rows": date(2026, 11, 29)})
    assert made["spec"]["arguments"]["parameters"][0]["value"] == "2026-11-29"


def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="cannot be read"):
        manifest_of("a.yaml", str(tmp_path))
    (tmp_path / "b.yaml").write_bytes(b"a" * (8 * 1024 * 1024 + 1))
    with pytest.raises(InvalidInput, match="larger than 8 MB"):
        manifest_of("b.yaml", str(tmp_path))


def test_parameters_are_set_by_name() -> None:
    made = with_parameters(manifest_of(YAML), {"rows": 5, "model": {"a": [1]}})
    assert made["spec"]["arguments"]["parameters"] == [
        {"name": "rows", "value": "5"},
        {"name": "model", "value": '{"a": [1]}'},
    ]


def test_a_parameter_that_nobody_declared_is_refused_with_what_comes_near() -> None:
    with pytest.raises(InvalidInput, match="Did you mean 'rows'"):
        with_parameters(manifest_of(YAML), {"row": 5, "model": "m"})
    with pytest.raises(InvalidInput, match="It has: rows, model"):
        with_parameters(manifest_of(YAML), {"zzz": 5})


def test_a_parameter_without_a_value_is_asked_for() -> None:
    with pytest.raises(InvalidInput, match="needs the parameter 'model'"):
        with_parameters(manifest_of(YAML), {})


def test_a_reference_takes_the_parameters_that_its_template_declares() -> None:
    declared = {"arguments": {"parameters": [{"name": "rows", "value": "1"}, {"name": "model"}]}}
    made = with_parameters(reference("train", cluster_scope=True), {"model": "m"}, declared)
    assert made["spec"] == {
        "workflowTemplateRef": {"name": "train", "clusterScope": True},
        "arguments": {"parameters": [{"name": "model", "value": "m"}]},
    }
    assert template_of(made) == ("train", True)
    assert template_of(manifest_of(YAML)) == ("", False)
    with pytest.raises(InvalidInput, match="needs the parameter 'model'"):
        with_parameters(reference("train", cluster_scope=False), {}, declared)


def test_a_copy_runs_anew_and_says_of_what_it_is_a_copy() -> None:
    done = workflow(
        "Failed",
        spec={"entrypoint": "main", "shutdown": "Stop"},
        labels={"team": "ml", "workflows.argoproj.io/completed": "true"},
    )
    assert anew(done) == {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "generateName": "train-",
            "labels": {"team": "ml", "workflows.argoproj.io/resubmitted-from-workflow": "train"},
        },
        "spec": {"entrypoint": "main"},
    }
