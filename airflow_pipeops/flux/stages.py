"""Read one object of Flux into a :class:`~airflow_pipeops.flux.status.Stage`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text, whole
from airflow_pipeops.flux.kinds import REQUESTED_AT, WAITABLE, Ref, dependencies, source_of
from airflow_pipeops.flux.revisions import names, tried
from airflow_pipeops.flux.status import Names, Ready, Stage

Json = Mapping[str, Any]

_READY: Mapping[str, Ready] = {"True": "True", "False": "False", "Unknown": "Unknown"}
#: How deep dependencies are followed.
DEPTH = 6
#: Reasons of a Kustomization that come after everything was applied.
_PAST_APPLY = frozenset({"HealthCheckFailed", "HealthCheckCanceled"})
#: Conditions of a source under which what it holds may be old, with the status that is bad.
_TROUBLES = (
    ("FetchFailed", "True"),
    ("SourceVerified", "False"),
    ("BuildFailed", "True"),
    ("StorageOperationFailed", "True"),
    ("IncludeUnavailable", "True"),
)


@dataclass(frozen=True)
class Objects:
    """The objects of one look, and which of those that they name are not there.

    :param found: each by its reference.
    :param missing: what was looked for and is not there.
    :param hidden: what decides about the object that is meant and nobody could look at, and why.
    """

    found: Mapping[Ref, Json]
    missing: frozenset[Ref]
    hidden: Mapping[Ref, str] = field(default_factory=dict)

    def get(self, ref: Ref) -> Json | None:
        """Return an object; ``None`` where nobody looked or it is not there."""
        return self.found.get(ref)


def stage(ref: Ref, around: Objects) -> Stage:
    """Return what an object says of itself."""
    item = around.get(ref)
    if item is None:
        hidden = around.hidden.get(ref, "")
        return Stage(ref.kind, ref.name, ref.namespace, missing=ref in around.missing, hidden=hidden)
    metadata, spec, status = map_(item.get("metadata")), map_(item.get("spec")), map_(item.get("status"))
    ready, reconciling, stalled = (condition(item, name) for name in ("Ready", "Reconciling", "Stalled"))
    generation = whole(metadata.get("generation")) or 0
    busy = text(reconciling.get("message")) or text(reconciling.get("reason"))
    busy = busy if text(reconciling.get("status")) == "True" else ""
    attempted, origin = (
        text(status.get("lastAttemptedRevision")),
        text(status.get("lastAppliedOriginRevision")),
    )
    begun = tried(busy) or attempted
    return Stage(
        ref.kind,
        ref.name,
        ref.namespace,
        suspended=spec.get("suspend") is True,
        generation=generation,
        ready=_READY.get(text(ready.get("status")), ""),
        reason=text(ready.get("reason")),
        message=text(ready.get("message")),
        ready_generation=whole(ready.get("observedGeneration")),
        since=text(ready.get("lastTransitionTime")),
        stalled=_stalled(stalled, generation),
        busy=busy,
        trouble=_trouble(item, ready, ref),
        holds=_artifact(status),
        built=names(text(status.get("observedSourceArtifactRevision"))),
        made_from=source_of(item),
        tried=names(begun, _origin(begun, status, ref, around)),
        applied=names(text(status.get("lastAppliedRevision")), origin),
        seen=tuple(_seen(status)),
        past_apply=_past_apply(busy, ready),
        attempt=_attempt(ready, status, generation),
        requested=text(map_(metadata.get("annotations")).get(REQUESTED_AT)),
        handled=text(status.get("lastHandledReconcileAt")),
        waits_for=tuple(blockers(ref, around)),
    )


def says_applied(item: Json) -> tuple[Any, ...]:
    """Return what a Kustomization says of what it has applied; while that stays equal, it has applied nothing else."""
    status, ready = map_(item.get("status")), condition(item, "Ready")
    busy = text(condition(item, "Reconciling").get("message"))
    return (
        map_(item.get("metadata")).get("generation"),
        text(status.get("lastAppliedRevision")),
        text(status.get("lastAttemptedRevision")),
        text(ready.get("status")),
        ready.get("observedGeneration"),
        _past_apply(busy, ready),
    )


def _past_apply(busy: str, ready: Json) -> bool:
    return busy.startswith("Running health checks") or text(ready.get("reason")) in _PAST_APPLY


def blockers(ref: Ref, around: Objects, depth: int = DEPTH, above: tuple[Ref, ...] = ()) -> list[str]:
    """Say which dependencies are not ready, and why; each followed to its own, as deep as :data:`DEPTH`."""
    item = around.get(ref)
    if item is None or ref.kind not in WAITABLE:
        return []
    found = []
    for one in dependencies(item):
        other = around.get(one)
        if one in (*above, ref):
            found.append(f"{one} waits for {ref} in a circle")
        elif one in around.missing:
            found.append(f"{one} does not exist")
        elif other is not None and not _is_ready(other):
            ready = condition(other, "Ready")
            reason = text(ready.get("reason")) or "not looked at yet"
            suspended = " (suspended)" if map_(other.get("spec")).get("suspend") is True else ""
            inner = blockers(one, around, depth - 1, (*above, ref)) if depth > 1 else []
            because = f"; it waits for {', '.join(inner)}" if inner else ""
            detail = (
                "" if inner else f": {text(ready.get('message'))[:200]}" if text(ready.get("message")) else ""
            )
            found.append(f"{one}{suspended} is not ready, {reason}{detail}{because}")
    return found


def condition(item: Json, name: str) -> Json:
    """Return a condition; empty if there is none of that type."""
    return next((one for one in conditions(item) if text(one.get("type")) == name), {})


def conditions(item: Json) -> list[Json]:
    """Return all conditions."""
    return maps(map_(item.get("status")).get("conditions"))


def _is_ready(item: Json) -> bool:
    generation = whole(map_(item.get("metadata")).get("generation"))
    seen = whole(map_(item.get("status")).get("observedGeneration"))
    return text(condition(item, "Ready").get("status")) == "True" and (seen is None or seen == generation)


def _stalled(stalled: Json, generation: int) -> str:
    """Return why the controller has given up; only on the present spec: a new one is tried anew."""
    if text(stalled.get("status")) != "True" or whole(stalled.get("observedGeneration")) not in (
        None,
        generation,
    ):
        return ""
    return f"{text(stalled.get('reason'))}: {text(stalled.get('message'))}".strip(": ") or "no reason given"


def _trouble(item: Json, ready: Json, ref: Ref) -> str:
    if ref.kind in WAITABLE:
        return ""
    for name, bad in _TROUBLES:
        one = condition(item, name)
        if text(one.get("status")) == bad:
            return f"{name}, {text(one.get('reason'))}: {text(one.get('message'))}"
    if text(ready.get("status")) == "False":
        return f"{text(ready.get('reason'))}: {text(ready.get('message'))}"
    return ""


def _artifact(status: Json) -> Names:
    artifact = map_(status.get("artifact"))
    return names(text(artifact.get("revision")), _commit_of(artifact))


def _commit_of(artifact: Json) -> str:
    return text(map_(artifact.get("metadata")).get("org.opencontainers.image.revision"))


def _origin(begun: str, status: Json, ref: Ref, around: Objects) -> str:
    """Return the commit that an attempted OCI artifact was made from: the history knows, or the source does."""
    for entry in maps(status.get("history")):
        said = map_(entry.get("metadata"))
        if text(said.get("revision")) == begun and text(said.get("originRevision")):
            return text(said.get("originRevision"))
    if text(status.get("lastAppliedRevision")) == begun and text(status.get("lastAppliedOriginRevision")):
        return text(status.get("lastAppliedOriginRevision"))
    item = around.get(ref) or {}
    given = map_(map_(item.get("spec")).get("sourceRef"))
    at = Ref(text(given.get("kind")), text(given.get("namespace")) or ref.namespace, text(given.get("name")))
    artifact = map_(map_((around.get(at) or {}).get("status")).get("artifact"))
    return _commit_of(artifact) if begun and text(artifact.get("revision")) == begun else ""


def _seen(status: Json) -> list[Names]:
    entries = (map_(entry.get("metadata")) for entry in maps(status.get("history")))
    return [names(text(one.get("revision")), text(one.get("originRevision"))) for one in entries if one]


def _attempt(ready: Json, status: Json, generation: int) -> str:
    """Tell this failed attempt from the next.

    A Kustomization passes through ``Unknown`` with each attempt, so the time of its last change is new each time. A Helm
    release changes its conditions several times within one attempt, and counts its failures.
    """
    if text(ready.get("status")) != "False":
        return ""
    failures = [whole(status.get(f"{action}Failures")) or 0 for action in ("install", "upgrade")]
    count = sum(failures) or whole(status.get("failures")) or 0
    which = (
        f"{count} failures"
        if count
        else text(ready.get("lastTransitionTime")) or text(ready.get("message"))[:80]
    )
    return f"{generation}|{which}"
