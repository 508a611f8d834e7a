"""What the API server for tests says of itself: the groups, versions and kinds that it serves, for kubectl and Helm."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tests.kubernetes.objects import Kept, Object

#: Of kinds whose name does not follow from their plural.
_NAMES = {
    "inferenceservices": "InferenceService",
    "appprojects": "AppProject",
    "clusterrolebindings": "ClusterRoleBinding",
    "clusterroles": "ClusterRole",
    "configmaps": "ConfigMap",
    "customresourcedefinitions": "CustomResourceDefinition",
    "daemonsets": "DaemonSet",
    "externalsecrets": "ExternalSecret",
    "gitrepositories": "GitRepository",
    "ingresses": "Ingress",
    "networkpolicies": "NetworkPolicy",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "replicasets": "ReplicaSet",
    "rolebindings": "RoleBinding",
    "serviceaccounts": "ServiceAccount",
    "servingruntimes": "ServingRuntime",
    "statefulsets": "StatefulSet",
}
_CLUSTER = frozenset(
    {"namespaces", "clusterrolebindings", "clusterroles", "customresourcedefinitions", "persistentvolumes"}
)
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def kind_name(plural: str) -> str:
    """Return the kind that manifests write for a plural."""
    return _NAMES.get(plural) or plural.removesuffix("s").capitalize()


def discovered(kinds: Iterable[Kept], path: str) -> Object | str | None:
    """Answer a question about the server.

    :return: the answer; ``None`` where the path asks for something else.
    """
    served = sorted({(kind.group, kind.version) for kind in kinds})
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups: dict[str, list[str]] = {}
        for group, version in served:
            if group:
                groups.setdefault(group, []).append(version)
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(name, versions) for name, versions in groups.items()],
        }
    if path == "/openapi/v2":
        return ""  # in protobuf, a document that says nothing
    if path == "/openapi/v3":
        return {"paths": {_base(*one).strip("/"): {"serverRelativeURL": _openapi(*one)} for one in served}}
    for group, version in served:
        mine = [kind for kind in kinds if (kind.group, kind.version) == (group, version)]
        if path == _base(group, version):
            resources = [entry for kind in mine for entry in _resources(kind)]
            found = f"{group}/{version}".lstrip("/")
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": found,
                "resources": resources,
            }
        if path == _openapi(group, version):
            return _document(mine)
    return None


def _group(name: str, versions: list[str]) -> Object:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[-1]}


def _base(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def _openapi(group: str, version: str) -> str:
    return f"/openapi/v3{_base(group, version)}"


def _resources(kind: Kept) -> list[Object]:
    one: Object = {
        "name": kind.plural,
        "singularName": kind_name(kind.plural).lower(),
        "namespaced": kind.plural not in _CLUSTER,
        "kind": kind_name(kind.plural),
        "verbs": _VERBS,
    }
    status = {**one, "name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"]}
    return [one, status] if kind.subresource else [one]


def _document(kinds: list[Kept]) -> Object:
    """Say of each kind that the server itself looks at its fields: a client then leaves that to it."""
    paths: dict[str, Any] = {}
    for kind in kinds:
        place = _base(kind.group, kind.version)
        if kind.plural not in _CLUSTER:
            place += "/namespaces/{namespace}"
        named = {"group": kind.group, "version": kind.version, "kind": kind_name(kind.plural)}
        paths[f"{place}/{kind.plural}/{{name}}"] = {
            "patch": {
                "parameters": [
                    {"name": one, "in": "query", "schema": {"type": "string"}}
                    for one in ("dryRun", "fieldManager", "fieldValidation", "force")
                ],
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": named,
            }
        }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.34.1"}, "paths": paths}


def is_dry(query: Object) -> bool:
    """Whether a request is to change nothing."""
    return bool(re.search(r"\bAll\b", str(query.get("dryRun") or "")))
