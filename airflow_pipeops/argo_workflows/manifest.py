"""What a user gives as a workflow, read into the manifest that is created, and its parameters. Pure but for files."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.exceptions import InvalidInput

API_VERSION = "argoproj.io/v1alpha1"
#: Labels and annotations that Argo Workflows sets itself begin so.
OWN = "workflows.argoproj.io/"
_REMEDY = (
    "Give a dict, YAML, the name of a YAML file, a model of argo_workflows, or an object with to_dict(); "
    "or template='name of a WorkflowTemplate'."
)
_FILES = (".yaml", ".yml", ".json")
#: Parts of a manifest that are used here, and what they are.
_SHAPES = {
    "metadata": dict,
    "metadata.labels": dict,
    "metadata.annotations": dict,
    "spec.arguments": dict,
    "spec.arguments.parameters": list,
    "spec.templates": list,
}
_MOST_BYTES = 8 * 1024 * 1024


def manifest_of(workflow: Any, folder: str = "", expected: str = "Workflow") -> dict[str, Any]:
    """Read a workflow in any of its forms.

    :param workflow: a dict; YAML, or the name of a file that holds it; a model of the ``argo_workflows`` package; or an
        object with ``to_dict()``, as Hera's are.
    :param folder: in which a relative file is looked for.
    :param expected: kind of the manifest.
    :return: the manifest; the user's own object is left as it is.
    :raises InvalidInput: for what is no workflow.
    """
    given = _document(workflow, folder) if isinstance(workflow, (str, Path)) else workflow
    if hasattr(given, "attribute_map") and hasattr(given, "openapi_types"):
        from airflow_pipeops.argo_workflows.clients.worker import plain

        given = plain(given)
    elif not isinstance(given, Mapping) and callable(getattr(given, "to_dict", None)):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        raise InvalidInput(
            f"the workflow is of type {type(given).__name__}, which is no manifest",
            field="workflow",
            remedy=_REMEDY,
        )
    manifest = _as_json(given)
    kind = manifest.setdefault("kind", expected)
    if kind != expected:
        remedy = _REMEDY
        if kind in ("WorkflowTemplate", "ClusterWorkflowTemplate"):
            scope = ", cluster_scope=True" if kind.startswith("Cluster") else ""
            remedy = f"Create it in the cluster, and give its name: template='...'{scope}."
        raise InvalidInput(
            f"the manifest is of kind {kind!r}, and no {expected}",
            field="workflow",
            value=kind,
            remedy=remedy,
        )
    version = manifest.setdefault("apiVersion", API_VERSION)
    if version != API_VERSION:
        raise InvalidInput(
            f"the workflow is of apiVersion {version!r}",
            field="apiVersion",
            value=version,
            remedy=f"It is {API_VERSION}.",
        )
    if not isinstance(manifest.get("spec"), Mapping):
        raise InvalidInput("the workflow has no spec", field="spec", remedy=_REMEDY)
    _shaped(manifest)
    return manifest


def reference(template: str, *, cluster_scope: bool) -> dict[str, Any]:
    """Return a workflow that runs a template of the cluster.

    :param template: name of the ``WorkflowTemplate``.
    :param cluster_scope: it is a ``ClusterWorkflowTemplate``.
    :return: the manifest.
    """
    ref: dict[str, Any] = {"name": template, **({"clusterScope": True} if cluster_scope else {})}
    return {
        "apiVersion": API_VERSION,
        "kind": "Workflow",
        "metadata": {},
        "spec": {"workflowTemplateRef": ref},
    }


def anew(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a workflow that is yet to run, as Argo Workflows makes it when it resubmits one.

    :param workflow: as the API sent it.
    :return: the manifest of the copy, which is still without a name.
    """
    metadata, spec = map_(workflow.get("metadata")), copy.deepcopy(dict(map_(workflow.get("spec"))))
    for key in ("shutdown", "suspend"):
        spec.pop(key, None)
    name = text(metadata.get("name"))
    kept = {
        part: {key: value for key, value in map_(metadata.get(part)).items() if not key.startswith(OWN)}
        for part in ("labels", "annotations")
    }
    kept["labels"][f"{OWN}resubmitted-from-workflow"] = name
    made = {"generateName": f"{name}-", **{part: value for part, value in kept.items() if value}}
    return {"apiVersion": API_VERSION, "kind": "Workflow", "metadata": made, "spec": spec}


def with_parameters(
    manifest: Mapping[str, Any], given: Mapping[str, Any], declared: Any = None
) -> dict[str, Any]:
    """Set the parameters of a workflow.

    The server itself adds a name that nobody declared without complaint, so a mistyped one would change nothing.

    :param manifest: the workflow.
    :param given: values by name; what is no text is written as JSON.
    :param declared: spec of the template that the workflow refers to, where it does.
    :return: the manifest with its parameters.
    :raises InvalidInput: for a name that is not declared, and one that has no value.
    """
    spec = dict(map_(manifest.get("spec")))
    own, below = _parameters(spec), _parameters(map_(declared))
    known = {**below, **own}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise InvalidInput(
                f"the workflow has no parameter {name!r}",
                field="parameters",
                value=name,
                remedy=f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(known) or 'none'}.",
            )
    for name, one in known.items():
        if name not in given and not _has_value(one) and not _has_value(below.get(name, {})):
            raise InvalidInput(
                f"the workflow needs the parameter {name!r}",
                field="parameters",
                value=name,
                remedy=f"Give parameters={{{name!r}: ...}}.",
            )
    values = {str(name): _text(str(name), value) for name, value in given.items()}
    if values:
        kept = {name: dict(one) for name, one in own.items()}
        for name, value in values.items():
            kept[name] = {
                **{key: item for key, item in kept.get(name, {"name": name}).items() if key != "valueFrom"},
                "value": value,
            }
        spec["arguments"] = {**map_(spec.get("arguments")), "parameters": list(kept.values())}
    return {**manifest, "spec": spec}


def namespace_of(manifest: Mapping[str, Any], given: str) -> str:
    """Return the namespace of a manifest.

    :param manifest: which may name it.
    :param given: the namespace that the task names; empty for none.
    :return: the namespace; empty where neither names one.
    :raises InvalidInput: where they name two.
    """
    own = text(map_(manifest.get("metadata")).get("namespace"))
    if own and given and own != given:
        raise InvalidInput(
            f"the manifest is for namespace {own!r}, and the task for {given!r}",
            field="namespace",
            value=given,
            remedy="Give it in one of the two.",
        )
    return own or given


def template_of(manifest: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the template that a workflow refers to as a whole, and whether it is the cluster's; no name for none."""
    ref = map_(map_(manifest.get("spec")).get("workflowTemplateRef"))
    return text(ref.get("name")), ref.get("clusterScope") is True


def _parameters(spec: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = maps(map_(spec.get("arguments")).get("parameters"))
    return {text(one.get("name")): one for one in found if text(one.get("name"))}


def _has_value(parameter: Mapping[str, Any]) -> bool:
    return any(parameter.get(name) is not None for name in ("value", "valueFrom", "default"))


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return (
            _moment(value) if isinstance(value, date) else json.dumps(value, default=_moment, allow_nan=False)
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"the parameter {name!r} holds what JSON cannot say: {error}",
            field="parameters",
            value=name,
            remedy="Give a text, or what JSON can say.",
        ) from error


def _as_json(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a manifest as it will be sent; a day or a moment, which YAML knows and JSON does not, is its text."""
    try:
        found: dict[str, Any] = json.loads(json.dumps(given, default=_moment, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"the workflow holds what JSON cannot say: {error}",
            field="workflow",
            remedy="Give texts, numbers, lists and mappings.",
        ) from error
    return found


def _moment(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{value!r:.100} is of type {type(value).__name__}")


def _shaped(manifest: Mapping[str, Any]) -> None:
    """Refuse parts of another shape: the server cannot even read them, and says so as if it were out of order."""
    for path, kind in _SHAPES.items():
        found: Any = manifest
        for name in path.split("."):
            found = map_(found).get(name)
        if found is not None and not isinstance(found, kind):
            named = "mapping" if kind is dict else "list"
            raise InvalidInput(
                f"{path} of the workflow is no {named}: {found!r:.100}", field=path, remedy=f"Give a {named}."
            )
    for part in ("labels", "annotations"):
        for name, value in map_(map_(manifest.get("metadata")).get(part)).items():
            if not isinstance(value, str):
                raise InvalidInput(
                    f"{name!r} in metadata.{part} of the workflow is {value!r:.100}, and no text",
                    field=f"metadata.{part}",
                    value=value,
                    remedy="Write it in quotes.",
                )


def _document(given: str | Path, folder: str) -> Any:
    import yaml

    where = "the workflow"
    content = str(given)
    if "\n" not in content and content.endswith(_FILES):
        where = f"the file {content}"
        path = Path(folder) / content
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise InvalidInput(f"{where} is larger than 8 MB", field="workflow", value=content)
            content = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"{where} cannot be read: {error}",
                field="workflow",
                value=str(path),
                remedy="A relative name is looked for beside the DAG file.",
            ) from error
    try:
        found = [one for one in yaml.safe_load_all(content) if one is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{where} is no YAML: {str(error)[:300]}", field="workflow") from error
    if len(found) != 1:
        raise InvalidInput(
            f"{where} holds {len(found)} documents", field="workflow", value=len(found), remedy="Give one."
        )
    return found[0]
