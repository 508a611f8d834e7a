"""What Argo CD's API server makes of a request before it writes it into an Application, for who writes there himself.

The same requests are refused with the same words, and the same fields are set, so that a caller need not know the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.argocd.clients.errors import FAILED_PRECONDITION, INVALID_ARGUMENT, refusal
from airflow_pipeops.exceptions import PipeOpsError, Unsupported

Json = Mapping[str, Any]

#: Finalizer that makes the controller delete what an Application manages.
RESOURCES_FINALIZER = "resources-finalizer.argocd.argoproj.io"
BUSY = "another operation is already in progress"


def sync_operation(application: Json, body: Json, user: str) -> dict[str, Any]:
    """Return the operation that a request for a synchronisation stands for.

    :param body: the fields of the REST request.
    :param user: who asks.
    :raises PipeOpsError: where the API server would refuse.
    """
    _check_idle(application)
    if body.get("manifests"):
        raise Unsupported(
            "local manifests cannot be synchronised through the Kubernetes API",
            field="manifests",
            remedy="Commit them to Git.",
        )
    spec = _map(application.get("spec"))
    policy = _map(spec.get("syncPolicy"))
    sync: dict[str, Any] = _revisions(application, body)
    for field in ("prune", "dryRun"):
        if body.get(field):
            sync[field] = True
    options = (
        _map(body.get("syncOptions")).get("items") if body.get("syncOptions") else policy.get("syncOptions")
    )
    if options:
        sync["syncOptions"] = list(options)
    # What the API server leaves empty, the controller reads as the default: apply, with hooks.
    sync["syncStrategy"] = dict(body.get("strategy") or {"hook": {}})
    if body.get("resources"):
        sync["resources"] = [dict(item) for item in body["resources"]]
    operation: dict[str, Any] = {"initiatedBy": {"username": user}, "sync": sync}
    if body.get("infos"):
        operation["info"] = [
            {"name": str(item.get("name", "")), "value": str(item.get("value", ""))} for item in body["infos"]
        ]
    retry = _retry(_map(body.get("retryStrategy")) or _map(policy.get("retry")))
    if retry:
        operation["retry"] = retry
    return operation


def rollback_operation(application: Json, history_id: int, prune: bool, user: str) -> dict[str, Any]:
    """Return the operation that goes back to an entry of the history.

    :raises PipeOpsError: where the API server would refuse.
    """
    _check_idle(application)
    if is_automated(application):
        raise _refuse(
            application, FAILED_PRECONDITION, "rollback cannot be initiated when auto-sync is enabled"
        )
    entries = _map(application.get("status")).get("history") or []
    entry = next((_map(item) for item in entries if str(_map(item).get("id")) == str(history_id)), None)
    name = str(_map(application.get("metadata")).get("name"))
    if entry is None:
        text = f"application {name} does not have deployment with id {history_id}"
        raise _refuse(application, INVALID_ARGUMENT, text)
    if not entry.get("source") and not entry.get("sources"):
        text = "cannot rollback to revision deployed with Argo CD v0.11 or lower. sync to revision instead."
        raise _refuse(application, FAILED_PRECONDITION, text)
    sync = {key: entry[key] for key in ("revision", "revisions", "source", "sources") if entry.get(key)}
    sync["syncStrategy"] = {"apply": {}}
    if prune:
        sync["prune"] = True
    options = _map(_map(application.get("spec")).get("syncPolicy")).get("syncOptions")
    if options:
        sync["syncOptions"] = list(options)
    return {"initiatedBy": {"username": user}, "sync": sync}


def begin_patch(operation: Json) -> dict[str, Any]:
    """Return the merge patch that starts an operation; the state of the last one goes, as the API server does it."""
    return {"operation": dict(operation), "status": {"operationState": None}}


def terminate_patch(application: Json) -> dict[str, Any]:
    """Return the merge patch that ends the operation in progress.

    :raises PipeOpsError: if there is none.
    """
    if not application.get("operation") or not _map(application.get("status")).get("operationState"):
        text = "Unable to terminate operation. No operation is in progress"
        raise _refuse(application, INVALID_ARGUMENT, text)
    return {"status": {"operationState": {"phase": "Terminating"}}}


def cascading(finalizers: list[str], cascade: bool) -> list[str]:
    """Return the finalizers with which an Application is to be deleted."""
    others = [item for item in finalizers if not item.startswith(RESOURCES_FINALIZER)]
    if not cascade:
        return others
    # One that is there already also says how (foreground, background): it stays as it is.
    return list(finalizers) if len(others) < len(finalizers) else [*finalizers, RESOURCES_FINALIZER]


def is_automated(application: Json) -> bool:
    """Whether the Application synchronises by itself."""
    automated = _map(_map(application.get("spec")).get("syncPolicy")).get("automated")
    return isinstance(automated, Mapping) and automated.get("enabled") is not False


def _check_idle(application: Json) -> None:
    if application.get("operation"):
        raise _refuse(application, FAILED_PRECONDITION, BUSY)
    if _map(application.get("metadata")).get("deletionTimestamp"):
        raise _refuse(application, FAILED_PRECONDITION, "application is deleting")


def _revisions(application: Json, body: Json) -> dict[str, Any]:
    """Return what to synchronise to: never nothing, since a revision that is left out may be one of an earlier request."""
    spec = _map(application.get("spec"))
    several = [_map(item) for item in spec.get("sources") or []]
    if several and not spec.get("sourceHydrator"):
        wanted = _by_source(application, body, len(several))
        for index, source in enumerate(several):
            _check_followed(application, body, wanted[index], source, f"source {source.get('repoURL')} ")
        chosen = [revision or _target(source) for revision, source in zip(wanted, several, strict=True)]
        return {"revisions": chosen, "sources": [dict(source) for source in several]}
    hydrated = _map(_map(spec.get("sourceHydrator")).get("syncSource"))
    source = {"targetRevision": hydrated.get("targetBranch")} if hydrated else _map(spec.get("source"))
    wanted_one = str(body.get("revision") or "")
    _check_followed(application, body, wanted_one, source, "")
    found: dict[str, Any] = {"revision": wanted_one or _target(source)}
    return found if hydrated else {**found, "source": dict(source)}


def _by_source(application: Json, body: Json, count: int) -> list[str]:
    wanted = [""] * count
    given, positions = list(body.get("revisions") or []), list(body.get("sourcePositions") or [])
    if len(given) != len(positions):
        text = "source positions and revisions must be of the same number"
        raise _refuse(application, INVALID_ARGUMENT, text)
    for revision, position in zip(given, positions, strict=True):
        if not str(position).isdigit() or not 1 <= int(position) <= count:
            raise _refuse(application, INVALID_ARGUMENT, "source position is out of range")
        wanted[int(position) - 1] = str(revision)
    return wanted


def _check_followed(application: Json, body: Json, revision: str, source: Json, which: str) -> None:
    """Under auto-sync only what is followed anyway may be asked for."""
    target = _target(source)
    if revision and revision != target and is_automated(application) and not body.get("dryRun"):
        text = f"Cannot sync {which}to {revision}: auto-sync currently set to {target}"
        raise _refuse(application, FAILED_PRECONDITION, text)


def _target(source: Json) -> str:
    return str(source.get("targetRevision") or ("*" if source.get("chart") else "HEAD"))


def _retry(retry: Json) -> dict[str, Any]:
    found = dict(retry)
    for field in ("limit",):
        if isinstance(found.get(field), str) and found[field].lstrip("-").isdigit():
            # Protobuf's 64-bit numbers travel as text; the CRD demands a number.
            found[field] = int(found[field])
    return found


def _refuse(application: Json, code: int, message: str) -> PipeOpsError:
    name = str(_map(application.get("metadata")).get("name"))
    return refusal(400, code, message, f"application {name}")


def _map(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}
