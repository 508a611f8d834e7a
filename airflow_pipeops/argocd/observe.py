"""Read an Argo CD ``Application`` (its JSON) into :class:`~airflow_pipeops.gitops.observed.Observed`.

Tolerant of what is absent or of another shape: a field that cannot be read counts as not there, so a strange answer
can delay a verdict and cannot make a green one. Only an answer that is no Application at all is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_pipeops.exceptions import BadResponse
from airflow_pipeops.gitops.observed import Condition, Observed, Operation, Resource, Source

REFRESH = "argocd.argoproj.io/refresh"
SKIP_RECONCILE = "argocd.argoproj.io/skip-reconcile"

#: Name of the entry in an operation's ``info`` that says which task asked for it.
CORRELATION = "pipeops.airflow/id"

Json = Mapping[str, Any]


def observe(application: Any, *, refreshed: bool = False) -> Observed:
    """Read an Application.

    :param application: the object as the API returns it.
    :param refreshed: it is the answer to a refresh that the controller has acknowledged.
    :raises BadResponse: if it is no Application.
    """
    app = _map(application)
    metadata, spec, status = _map(app.get("metadata")), _map(app.get("spec")), _map(app.get("status"))
    if not _text(metadata.get("name")) or not spec:
        raise BadResponse("the answer is no Argo CD Application: it has no metadata.name or no spec")
    annotations = _map(metadata.get("annotations"))
    sync, health = _map(status.get("sync")), _map(status.get("health"))
    automated, automatic = _automated(spec)
    deployed, deployed_id = _deployed(status)
    return Observed(
        name=_text(metadata.get("name")),
        namespace=_text(metadata.get("namespace")),
        project=_text(spec.get("project")),
        uid=_text(metadata.get("uid")),
        sources=_sources(spec),
        desired=_revisions(sync),
        sync=_text(sync.get("status")) or "Unknown",
        health=_text(health.get("status")) or "Unknown",
        health_since=_time(health.get("lastTransitionTime")),
        compared_at=_time(status.get("reconciledAt")),
        operation=_operation(app),
        conditions=tuple(
            Condition(_text(item.get("type")), _text(item.get("message")))
            for item in _maps(status.get("conditions"))
        ),
        resources=tuple(_resource(item) for item in _maps(status.get("resources"))),
        images=tuple(_texts(_map(status.get("summary")).get("images"))),
        deployed=deployed,
        deployed_id=deployed_id,
        replaced=tuple(
            revision for item in _maps(status.get("history"))[:-1] for revision in _revisions(item)
        ),
        deleting=bool(metadata.get("deletionTimestamp")),
        ignored=f"annotation {SKIP_RECONCILE} is true" if annotations.get(SKIP_RECONCILE) == "true" else "",
        automatic=automatic,
        self_heal=automatic and automated.get("selfHeal") is True,
        owner=next((_text(item.get("kind")) for item in _maps(metadata.get("ownerReferences"))), ""),
        hydrated=bool(spec.get("sourceHydrator")),
        refreshed=refreshed and REFRESH not in annotations,
    )


def _automated(spec: Json) -> tuple[Json, bool]:
    raw = _map(spec.get("syncPolicy")).get("automated")
    automated = _map(raw)
    return automated, isinstance(raw, Mapping) and automated.get("enabled") is not False


def _sources(spec: Json) -> tuple[Source, ...]:
    raw = _maps(spec.get("sources")) or [_map(spec.get("source"))]
    return tuple(
        Source(
            repo=_text(item.get("repoURL")),
            target=_text(item.get("targetRevision")),
            versioned=bool(item.get("chart")) or _text(item.get("repoURL")).startswith("oci://"),
        )
        for item in raw
        if item
    )


def _revisions(holder: Json) -> tuple[str, ...]:
    several = _texts(holder.get("revisions"))
    if several:
        return tuple(several)
    one = _text(holder.get("revision"))
    return (one,) if one else ()


def _deployed(status: Json) -> tuple[tuple[str, ...], int | None]:
    history = _maps(status.get("history"))
    if not history:
        return (), None
    identifier = history[-1].get("id")
    return _revisions(history[-1]), identifier if isinstance(identifier, int) else 0


def _operation(app: Json) -> Operation | None:
    queued, state = app.get("operation"), _map(_map(app.get("status")).get("operationState"))
    if not isinstance(queued, Mapping) and not state:
        return None
    request = _map(state.get("operation")) or _map(queued)
    result, asked = _map(state.get("syncResult")), _map(request.get("sync"))
    initiator = _map(request.get("initiatedBy"))
    retries = state.get("retryCount")
    return Operation(
        phase=_text(state.get("phase")),
        message=_text(state.get("message")),
        queued=isinstance(queued, Mapping),
        revisions=_revisions(result),
        asked=_revisions(asked),
        has_result=isinstance(state.get("syncResult"), Mapping),
        started_at=_time(state.get("startedAt")),
        finished_at=_time(state.get("finishedAt")),
        retries=retries if isinstance(retries, int) else 0,
        dry_run=asked.get("dryRun") is True,
        initiated_by="auto-sync" if initiator.get("automated") is True else _text(initiator.get("username")),
        ids={_text(item.get("name")): _text(item.get("value")) for item in _maps(request.get("info"))},
        resources=tuple(_resource(item) for item in _maps(result.get("resources"))),
    )


def _resource(item: Json) -> Resource:
    health = _map(item.get("health"))
    return Resource(
        kind=_text(item.get("kind")),
        name=_text(item.get("name")),
        namespace=_text(item.get("namespace")),
        group=_text(item.get("group")),
        sync=_text(item.get("status")),
        health=_text(health.get("status")),
        message=_text(item.get("message")) or _text(health.get("message")),
        hook=_text(item.get("hookType")),
        phase=_text(item.get("hookPhase")),
        prune=item.get("requiresPruning") is True,
    )


def _time(value: Any) -> float | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _map(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _maps(value: Any) -> list[Json]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, (list, tuple)) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, (list, tuple)) else []
