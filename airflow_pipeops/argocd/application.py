"""Read an Argo CD ``Application`` (its JSON) into :class:`~airflow_pipeops.waits.status.Observed`.

Tolerant of what is absent or of another shape: a field that cannot be read counts as not there, so a strange answer
can delay a verdict and cannot make a green one. Only an answer that is no Application at all is refused.

What an Application does not say of itself is asked where it matters (:func:`observe_all`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import Json, map_, maps, text, time_of
from airflow_pipeops.base.retries import pause
from airflow_pipeops.exceptions import BadResponse, Conflict, PipeOpsError
from airflow_pipeops.redaction import redacted
from airflow_pipeops.waits.status import (
    Condition,
    Hydration,
    Observed,
    Operation,
    Resource,
    Rollout,
    Source,
)

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.protocol import AppRef, ArgoCD

REFRESH = "argocd.argoproj.io/refresh"
SKIP_RECONCILE = "argocd.argoproj.io/skip-reconcile"

#: Name of the entry in an operation's ``info`` that says which task asked for it.
CORRELATION = "pipeops.airflow/id"

#: So often an application is read with its objects, until it stood still meanwhile.
_TRIES = 4

_EMPTY: tuple[Any, ...] = (None, "", {}, [], False, 0)


def observe(
    application: Any, *, refreshed: bool = False, application_set: Any = None, sync_windows: Any = None
) -> Observed:
    """Read an Application.

    :param application: the object as the API returns it.
    :param refreshed: it is the answer to a refresh that the controller has acknowledged.
    :param application_set: the ``ApplicationSet`` that owns it, if somebody looked: only that says which step of a rolling
        synchronisation it waits for.
    :param sync_windows: the answer of ``/syncwindows``, if somebody looked: an application does not say that a closed
        window keeps auto-sync from starting.
    :return: what is seen.
    :raises BadResponse: if it is no Application.
    """
    app = map_(application)
    metadata, spec, status = map_(app.get("metadata")), map_(app.get("spec")), map_(app.get("status"))
    if not text(metadata.get("name")) or not spec:
        raise BadResponse("the answer is no Argo CD Application: it has no metadata.name or no spec")
    annotations = map_(metadata.get("annotations"))
    sync, health = map_(status.get("sync")), map_(status.get("health"))
    automated, automatic = _automated(spec)
    deployed, deployed_id = _deployed(status)
    hydrator = bool(map_(spec.get("sourceHydrator")))
    owner = next(iter(maps(metadata.get("ownerReferences"))), {})
    return Observed(
        name=text(metadata.get("name")),
        namespace=text(metadata.get("namespace")),
        project=text(spec.get("project")),
        uid=text(metadata.get("uid")),
        sources=_sources(spec),
        desired=_revisions(sync),
        sync=text(sync.get("status")) or "Unknown",
        health=text(health.get("status")) or "Unknown",
        health_since=_time(health.get("lastTransitionTime")),
        compared_at=_time(status.get("reconciledAt")),
        operation=_operation(app),
        conditions=tuple(
            Condition(text(item.get("type")), _said(item.get("message")))
            for item in maps(status.get("conditions"))
        ),
        resources=tuple(_resource(item) for item in maps(status.get("resources"))),
        images=tuple(_texts(map_(status.get("summary")).get("images"))),
        deployed=deployed,
        deployed_id=deployed_id,
        replaced=tuple(
            revision for item in maps(status.get("history"))[:-1] for revision in _revisions(item)
        ),
        deleting=bool(metadata.get("deletionTimestamp")),
        ignored=f"annotation {SKIP_RECONCILE} is true" if annotations.get(SKIP_RECONCILE) == "true" else "",
        automatic=automatic,
        self_heal=automatic and automated.get("selfHeal") is True,
        prunes=automated.get("prune") is True,
        blocked=_blocked(sync_windows),
        owner=text(owner.get("kind")),
        owner_seen=bool(map_(application_set)),
        rollout=_rollout(map_(application_set), text(metadata.get("name"))),
        hydration=_hydration(spec, status),
        other_spec=not hydrator and not _alike(_compared(sync), _specified(spec)),
        finalizers=tuple(_texts(metadata.get("finalizers"))),
        refreshed=refreshed and REFRESH not in annotations,
    )


async def observe_all(client: ArgoCD, ref: AppRef, application: Any, *, refreshed: bool = False) -> Observed:
    """Read an Application, and what may keep it from being synchronised.

    Only an application that is out of sync while nothing is under way is asked about: a closed sync window, a step that is
    not its turn. All others cost no request more. What cannot be asked (no permission, Argo CD without its API server) is
    left unknown.

    :param application: the object as the API returned it.
    :param refreshed: it is the answer to a refresh that the controller has acknowledged.
    :return: what is seen.
    :raises BadResponse: if it is no Application.
    """
    seen = observe(application, refreshed=refreshed)
    under_way = seen.operation is not None and (seen.operation.queued or seen.operation.phase == "Running")
    if seen.sync != "OutOfSync" or under_way:
        return seen
    if seen.automatic:
        windows = await _or_none(client.sync_windows(ref))
        return observe(application, refreshed=refreshed, sync_windows=windows)
    if seen.owner == "ApplicationSet":
        # ``observe`` has read the first reference, and found an object.
        owner = text(application["metadata"]["ownerReferences"][0].get("name"))
        found = await _or_none(client.application_set(owner, namespace=seen.namespace)) if owner else None
        return observe(application, refreshed=refreshed, application_set=found)
    return seen


async def with_managed(
    client: ArgoCD, ref: AppRef, application: dict[str, Any] | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read an Application and the objects that it manages, as they were at one moment.

    They are two answers. So the Application is read again after its objects, and both once more where it changed meanwhile:
    else the objects of one revision would be told as those of another.

    :param application: the Application, where somebody has just read it.
    :return: the Application, and each object with its desired and live state.
    :raises Conflict: if it changed each time.
    """
    before = await client.get(ref) if application is None else application
    for attempt in range(_TRIES):
        managed = await client.managed_resources(ref)
        after = await client.get(ref)
        if _version(after) == _version(before):
            return after, managed
        before = after
        await asyncio.sleep(pause(attempt, 0.2))
    raise Conflict(
        f"application {ref} changed each of {_TRIES} times while it was compared: how it differs cannot be told",
        remedy="Look again when no operation is in progress.",
    )


def _version(application: Json) -> tuple[str, ...]:
    metadata, status = map_(application.get("metadata")), map_(application.get("status"))
    # The first says it all where the server gives it.
    versions = metadata.get("uid"), metadata.get("resourceVersion"), status.get("reconciledAt")
    return tuple(map(text, versions))


async def _or_none(question: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await question
    except PipeOpsError:
        return None


def _automated(spec: Json) -> tuple[Json, bool]:
    raw = map_(spec.get("syncPolicy")).get("automated")
    automated = map_(raw)
    return automated, isinstance(raw, Mapping) and automated.get("enabled") is not False


def _sources(spec: Json) -> tuple[Source, ...]:
    dry = _dry(spec)
    return tuple(_source(item) for item in dry or _specified(spec))


def _specified(spec: Json) -> list[Json]:
    """The sources that are synchronised from; ``sources`` hides ``source``."""
    return maps(spec.get("sources")) or [item for item in [map_(spec.get("source"))] if item]


def _source(item: Json) -> Source:
    repo, chart = text(item.get("repoURL")), bool(item.get("chart"))
    oci = repo.startswith("oci://")
    return Source(
        repo=repo,
        target=text(item.get("targetRevision")),
        versioned=chart or oci,
        digests=oci and not chart,
    )


def _dry(spec: Json) -> list[Json]:
    """The sources that a hydrator renders; they hide all others."""
    hydrator = map_(spec.get("sourceHydrator"))
    return maps(hydrator.get("drySources")) or [item for item in [map_(hydrator.get("drySource"))] if item]


def _hydration(spec: Json, status: Json) -> Hydration | None:
    hydrator = map_(spec.get("sourceHydrator"))
    if not hydrator:
        return None
    at = map_(status.get("sourceHydrator"))
    current, done = map_(at.get("currentOperation")), map_(at.get("lastSuccessfulOperation"))
    # What was rendered by another configuration says nothing about this one.
    valid = _alike([map_(done.get("sourceHydrator"))], [hydrator]) or not done.get("sourceHydrator")
    return Hydration(
        phase=text(current.get("phase")),
        message=_said(current.get("message")),
        dry=text(current.get("drySHA")),
        done_dry=text(done.get("drySHA")) if valid else "",
        done=text(done.get("hydratedSHA")) if valid else "",
        compared_dry=text(at.get("lastComparedDryRevision")) if valid else "",
        branch=text(map_(hydrator.get("syncSource")).get("targetBranch")),
        staging=text(map_(hydrator.get("hydrateTo")).get("targetBranch")),
    )


def _rollout(application_set: Json, name: str) -> Rollout | None:
    strategy = map_(map_(application_set.get("spec")).get("strategy"))
    if strategy.get("type") != "RollingSync":
        return None
    listed = maps(map_(application_set.get("status")).get("applicationStatus"))
    found = next((item for item in listed if item.get("application") == name), {})
    return Rollout(
        owner=text(map_(application_set.get("metadata")).get("name")),
        status=text(found.get("status")),
        step=text(found.get("step")),
        message=_said(found.get("message")),
        revisions=tuple(_texts(found.get("targetRevisions"))),
    )


def _blocked(sync_windows: Any) -> str:
    """Why auto-sync may not start: an active window denies it, or there are windows that allow it and none is open."""
    answer = map_(sync_windows)
    active, assigned = maps(answer.get("activeWindows")), maps(answer.get("assignedWindows"))
    denying = [item for item in active if item.get("kind") == "deny"]
    if denying:
        return f"a window denies it: {_window(denying[0])}"
    allowing = [item for item in assigned if item.get("kind") == "allow"]
    if allowing and not any(item.get("kind") == "allow" for item in active):
        return f"it is allowed only in windows such as {_window(allowing[0])}"
    return ""


def _window(item: Json) -> str:
    return f"{text(item.get('schedule')) or '?'} for {text(item.get('duration')) or '?'}"


def _compared(sync: Json) -> list[Json]:
    return _specified(map_(sync.get("comparedTo")))


def _alike(one: list[Json], other: list[Json]) -> bool:
    """Whether two lists of sources are the same, or one is not told. Empty values are as good as absent ones."""
    return not one or not other or _plain(one) == _plain(other)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: plain for key, item in value.items() if (plain := _plain(item)) not in _EMPTY}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _revisions(holder: Json) -> tuple[str, ...]:
    several = _texts(holder.get("revisions"))
    if several:
        return tuple(several)
    one = text(holder.get("revision"))
    return (one,) if one else ()


def _deployed(status: Json) -> tuple[tuple[str, ...], int | None]:
    history = maps(status.get("history"))
    if not history:
        return (), None
    identifier = history[-1].get("id")
    return _revisions(history[-1]), identifier if isinstance(identifier, int) else 0


def _operation(app: Json) -> Operation | None:
    queued, state = app.get("operation"), map_(map_(app.get("status")).get("operationState"))
    spec = map_(app.get("spec"))
    if not isinstance(queued, Mapping) and not state:
        return None
    request = map_(state.get("operation")) or map_(queued)
    result, asked = map_(state.get("syncResult")), map_(request.get("sync"))
    initiator = map_(request.get("initiatedBy"))
    retries, retry = state.get("retryCount"), map_(request.get("retry"))
    limit, heals = retry.get("limit"), asked.get("autoHealAttemptsCount")
    return Operation(
        phase=text(state.get("phase")),
        message=_said(state.get("message")),
        queued=isinstance(queued, Mapping),
        revisions=_revisions(result),
        asked=_revisions(asked),
        has_result=isinstance(state.get("syncResult"), Mapping),
        started_at=_time(state.get("startedAt")),
        finished_at=_time(state.get("finishedAt")),
        retries=retries if isinstance(retries, int) else 0,
        dry_run=asked.get("dryRun") is True,
        initiated_by="auto-sync" if initiator.get("automated") is True else text(initiator.get("username")),
        ids={text(item.get("name")): text(item.get("value")) for item in maps(request.get("info"))},
        resources=tuple(_resource(item) for item in maps(result.get("resources"))),
        retry_limit=limit if isinstance(limit, int) else 0 if asked else None,
        retry_refresh=retry.get("refresh") is True,
        partial=bool(maps(asked.get("resources"))),
        heals=heals if isinstance(heals, int) else 0,
        same_sources=bool(_dry(spec)) or _alike(_specified(result), _specified(spec)),
    )


def _resource(item: Json) -> Resource:
    health = map_(item.get("health"))
    return Resource(
        kind=text(item.get("kind")),
        name=text(item.get("name")),
        namespace=text(item.get("namespace")),
        group=text(item.get("group")),
        sync=text(item.get("status")),
        health=text(health.get("status")),
        message=_said(item.get("message")) or _said(health.get("message")),
        hook=text(item.get("hookType")),
        phase=text(item.get("hookPhase")),
        prune=item.get("requiresPruning") is True,
    )


def _time(value: Any) -> float | None:
    found = time_of(value)
    return found.timestamp() if found else None


def _said(value: Any) -> str:
    """Return what the controller says, without secrets: Git's errors name the URL with its password."""
    return redacted(value) if isinstance(value, str) and value else ""


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, (list, tuple)) else []
