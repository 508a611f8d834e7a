"""What an Application's spec may say here, and why it is refused. Pure."""

from __future__ import annotations

import re
from typing import Any

from airflow_pipeops.demo.sandbox.store import Application
from airflow_pipeops.demo.sandbox.wire import RESOURCES_FINALIZER, invalid_argument

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SERVER = "https://kubernetes.default.svc"
_ELSEWHERE = ("chart", "helm", "plugin", "kustomize", "ref")


def source(application: Application) -> dict[str, Any]:
    """Return the one source."""
    found = application["spec"].get("source")
    return found if isinstance(found, dict) else {}


def namespace(application: Application) -> str:
    """Return the namespace into which manifests without one go."""
    where = application["spec"].get("destination")
    return str((where if isinstance(where, dict) else {}).get("namespace") or "default")


def project(application: Application) -> str:
    """Return the project."""
    return application["spec"].get("project") or "default"


def read(body: Any) -> Application:
    """Return the Application of a request body, reduced to what a client may set.

    :return: its metadata and spec.
    :raises ApiError: where it is not an Application, or its name is not valid.
    """
    if (
        not isinstance(body, dict)
        or not isinstance(body.get("metadata"), dict)
        or not isinstance(body.get("spec"), dict)
    ):
        raise invalid_argument("the body must be an Application with metadata and spec")
    given = body["metadata"]
    name = given.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid_argument(f"metadata.name: {name!r} is not a lowercase RFC 1123 name")
    metadata: dict[str, Any] = {"name": name}
    for field in ("labels", "annotations"):
        values = given.get(field)
        if values is None:
            continue
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise invalid_argument(f"metadata.{field} must map text to text")
        metadata[field] = values
    finalizers = given.get("finalizers")
    if finalizers is not None:
        if not isinstance(finalizers, list) or not all(
            str(item).startswith(RESOURCES_FINALIZER) for item in finalizers
        ):
            raise invalid_argument(f"metadata.finalizers may only hold {RESOURCES_FINALIZER}")
        metadata["finalizers"] = finalizers
    return {"metadata": metadata, "spec": {"project": "default", **body["spec"]}}


def problem(application: Application) -> str:
    """Return why a spec is not valid, or the empty string."""
    spec = application["spec"]
    if spec.get("sources") or spec.get("sourceHydrator"):
        return "the sandbox reads spec.source only, neither sources nor sourceHydrator"
    where = spec.get("source")
    if not isinstance(where, dict):
        return "spec.source is required"
    for field in ("repoURL", "path", "targetRevision"):
        if not isinstance(where.get(field, ""), str):
            return f"spec.source.{field} must be text"
    if not where.get("repoURL"):
        return "spec.source.repoURL is required"
    if where["repoURL"].startswith("-") or where.get("targetRevision", "").startswith("-"):
        return "spec.source.repoURL and targetRevision may not begin with a dash"
    path = where.get("path", "")
    if not path or path.startswith(("/", "-")) or ".." in path.split("/"):
        return f"spec.source.path {path!r} must be a folder inside the repository"
    for field in _ELSEWHERE:
        if where.get(field):
            return f"the sandbox does not know spec.source.{field}: say it in the repository"
    return _destination_problem(spec.get("destination")) or _policy_problem(spec.get("syncPolicy"))


def _destination_problem(destination: Any) -> str:
    if not isinstance(destination, dict) or not (destination.get("server") or destination.get("name")):
        return "Destination server missing from app spec"
    if destination.get("server", _SERVER) != _SERVER or destination.get("name", "in-cluster") != "in-cluster":
        there = destination.get("server") or destination.get("name")
        return f"application destination {there!r} is not the sandbox's own cluster ({_SERVER}, in-cluster)"
    return ""


def _policy_problem(policy: Any) -> str:
    if policy is None:
        return ""
    automated = policy.get("automated") if isinstance(policy, dict) else 0
    if automated is not None and not isinstance(automated, dict):
        return "spec.syncPolicy.automated must be an object"
    for field in ("enabled", "prune", "selfHeal", "allowEmpty"):
        if not isinstance((automated or {}).get(field, False), bool):
            return f"spec.syncPolicy.automated.{field} must be true or false"
    return ""
