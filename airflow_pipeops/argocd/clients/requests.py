"""Requests to Argo CD: what is asked beside a revision, what the API server makes of it, and what a refusal means. Pure.

The options and the retry strategy of a request *replace* those of the application: asking for one option loses all others,
such as ``CreateNamespace=true``. So what is sent is always the union.

Who writes into an Application himself does what the API server does before it writes there: the same requests are refused
with the same words, and the same fields are set, so that a caller need not know the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.argocd.clients.errors import refusal
from airflow_pipeops.base.documents import map_
from airflow_pipeops.base.grpc import FAILED_PRECONDITION, INVALID_ARGUMENT
from airflow_pipeops.exceptions import (
    AccessDenied,
    InvalidInput,
    PipeOpsError,
    ReleaseFailed,
    SyncFailed,
    Unsupported,
)

Json = Mapping[str, Any]

#: Finalizer that makes the controller delete what an Application manages.
RESOURCES_FINALIZER = "resources-finalizer.argocd.argoproj.io"
BUSY = "another operation is already in progress"

_DURATION = re.compile(r"\d+|(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")

_REVERT = "Revert the commit in Git with GitOpsRevertOperator and wait with ArgoCDAppSensor, or switch auto-sync off."

#: Part of a refusal, what it is about, and what to do. The first that is found counts.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    (
        "auto-sync currently set to",
        "revision",
        "Commit the desired state to Git and wait with ArgoCDAppSensor, or switch auto-sync off.",
    ),
    ("rollback cannot be initiated when auto-sync is enabled", "app", _REVERT),
    (
        "does not have deployment with id",
        "history_id",
        "Give the id of an entry of the application's history.",
    ),
    ("cannot rollback to revision deployed with", "history_id", "Synchronise to the revision instead."),
    (
        "error resolving repo revision",
        "revision",
        "Is the commit pushed, and may Argo CD read the repository?",
    ),
    ("which does not exist", "project", "Create the project, or correct the application's spec.project."),
    ("InvalidSpecError", "app", "Correct the application's spec."),
    ("source position is out of range", "revision", "Name only sources that the application has."),
    ("must be a branch, a tag or a commit", "revision", "Give a full commit id."),
)


def merged_options(own: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the application's own sync options, with those of the same name replaced and the others added.

    :param own: ``spec.syncPolicy.syncOptions``.
    :param wanted: each ``Name=value``.
    :return: the options, each ``Name=value``.
    """
    found = {_name(option): option for option in own}
    found.update({_name(option): option for option in wanted})
    return list(found.values())


def merged_retry(own: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the application's own retry strategy with some of it replaced.

    :param own: ``spec.syncPolicy.retry``.
    :param wanted: any of ``limit``, ``refresh`` and ``backoff`` (``duration``, ``factor``, ``maxDuration``).
    :return: the strategy.
    """
    before = dict(own or {})
    merged = {**before, **wanted}
    backoff = {**dict(before.get("backoff") or {}), **dict(wanted.get("backoff") or {})}
    return {**merged, "backoff": backoff} if backoff else merged


def check_options(options: Any) -> list[str]:
    """Return sync options that are of the right form.

    :return: the options.
    :raises InvalidInput: for anything but a list of ``Name=value``.
    """
    given = [] if options is None else options
    wrong = None if isinstance(given, (list, tuple)) else given
    for option in given if wrong is None else ():
        name, _, value = option.partition("=") if isinstance(option, str) else ("", "", "")
        if not name.strip() or not value.strip():
            wrong = option
            break
    if wrong is not None:
        raise InvalidInput(
            f"a sync option is {wrong!r}",
            field="sync_options",
            value=wrong,
            remedy='Give a list such as ["ServerSideApply=true"].',
        )
    return [str(option).strip() for option in given]


def check_retry(strategy: Any) -> dict[str, Any]:
    """Return a retry strategy that is of the right form.

    :return: the strategy.
    :raises InvalidInput: for unknown names or values that Argo CD could not read.
    """
    if strategy is None:
        return {}
    if not isinstance(strategy, Mapping):
        raise _wrong_retry(strategy)
    backoff = strategy.get("backoff", {})
    good = (
        set(strategy) <= {"limit", "refresh", "backoff"}
        and _integer(strategy.get("limit", 0), -1)
        and isinstance(strategy.get("refresh", False), bool)
        and isinstance(backoff, Mapping)
        and set(backoff) <= {"duration", "factor", "maxDuration"}
        and _integer(backoff.get("factor", 1), 1)
        and all(_DURATION.fullmatch(str(backoff.get(name, "1s"))) for name in ("duration", "maxDuration"))
    )
    if not good:
        raise _wrong_retry(strategy)
    return {**strategy, **({"backoff": dict(backoff)} if backoff else {})}


def refused(error: PipeOpsError) -> PipeOpsError:
    """Return what a refusal of Argo CD means for whoever asked; any other error as it is.

    :param error: what the client raised for it.
    :return: the error, to be raised.
    """
    text = error.message
    if isinstance(error, AccessDenied) and ", override" in text:
        return AccessDenied(
            text,
            remedy="The server counts a sync to an explicit revision as an override: grant 'applications, override'.",
        )
    if not isinstance(error, (SyncFailed, InvalidInput)):
        return error
    if "application is deleting" in text:
        return ReleaseFailed(text, remedy="Wait until it is gone, or create it anew.")
    for part, field, remedy in _REFUSALS:
        if part in text:
            return InvalidInput(text, field=field, remedy=remedy)
    return error


def sync_operation(application: Json, body: Json, user: str) -> dict[str, Any]:
    """Return the operation that a request for a synchronisation stands for.

    :param body: the fields of the REST request.
    :param user: who asks.
    :return: the operation, as an Application holds it.
    :raises PipeOpsError: where the API server would refuse.
    """
    _check_idle(application)
    if body.get("manifests"):
        raise Unsupported(
            "local manifests cannot be synchronised through the Kubernetes API",
            field="manifests",
            remedy="Commit them to Git.",
        )
    spec = map_(application.get("spec"))
    policy = map_(spec.get("syncPolicy"))
    sync: dict[str, Any] = _revisions(application, body)
    for field in ("prune", "dryRun"):
        if body.get(field):
            sync[field] = True
    options = (
        map_(body.get("syncOptions")).get("items") if body.get("syncOptions") else policy.get("syncOptions")
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
    retry = _retry(map_(body.get("retryStrategy")) or map_(policy.get("retry")))
    if retry:
        operation["retry"] = retry
    return operation


def rollback_operation(application: Json, history_id: int, prune: bool, user: str) -> dict[str, Any]:
    """Return the operation that goes back to an entry of the history.

    :return: the operation, as an Application holds it.
    :raises PipeOpsError: where the API server would refuse.
    """
    _check_idle(application)
    if is_automated(application):
        raise _refuse(
            application, FAILED_PRECONDITION, "rollback cannot be initiated when auto-sync is enabled"
        )
    entries = map_(application.get("status")).get("history") or []
    entry = next((map_(item) for item in entries if str(map_(item).get("id")) == str(history_id)), None)
    name = str(map_(application.get("metadata")).get("name"))
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
    options = map_(map_(application.get("spec")).get("syncPolicy")).get("syncOptions")
    if options:
        sync["syncOptions"] = list(options)
    return {"initiatedBy": {"username": user}, "sync": sync}


def begin_patch(operation: Json) -> dict[str, Any]:
    """Return the merge patch that starts an operation; the state of the last one goes, as the API server does it."""
    return {"operation": dict(operation), "status": {"operationState": None}}


def terminate_patch(application: Json) -> dict[str, Any]:
    """Return the merge patch that ends the operation in progress.

    :return: the patch.
    :raises PipeOpsError: if there is none.
    """
    if not application.get("operation") or not map_(application.get("status")).get("operationState"):
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
    automated = map_(map_(application.get("spec")).get("syncPolicy")).get("automated")
    return isinstance(automated, Mapping) and automated.get("enabled") is not False


def _name(option: str) -> str:
    return option.partition("=")[0].strip()


def _integer(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _wrong_retry(strategy: Any) -> InvalidInput:
    return InvalidInput(
        f"the retry strategy is {strategy!r}",
        field="retry_strategy",
        value=strategy,
        remedy='Give for example {"limit": 5, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"}}.',
    )


def _check_idle(application: Json) -> None:
    if application.get("operation"):
        raise _refuse(application, FAILED_PRECONDITION, BUSY)
    if map_(application.get("metadata")).get("deletionTimestamp"):
        raise _refuse(application, FAILED_PRECONDITION, "application is deleting")


def _revisions(application: Json, body: Json) -> dict[str, Any]:
    """Return what to synchronise to: never nothing, since a revision that is left out may be one of an earlier request."""
    spec = map_(application.get("spec"))
    several = [map_(item) for item in spec.get("sources") or []]
    if several and not spec.get("sourceHydrator"):
        wanted = _by_source(application, body, len(several))
        for index, source in enumerate(several):
            _check_followed(application, body, wanted[index], source, f"source {source.get('repoURL')} ")
        chosen = [revision or _target(source) for revision, source in zip(wanted, several, strict=True)]
        return {"revisions": chosen, "sources": [dict(source) for source in several]}
    hydrated = map_(map_(spec.get("sourceHydrator")).get("syncSource"))
    source = {"targetRevision": hydrated.get("targetBranch")} if hydrated else map_(spec.get("source"))
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
    name = str(map_(application.get("metadata")).get("name"))
    return refusal(400, code, message, f"application {name}")
