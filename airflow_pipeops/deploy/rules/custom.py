"""Custom resources whose status has a language of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.rules.argo import application, rollout, workflow
from airflow_pipeops.deploy.rules.core import exists
from airflow_pipeops.deploy.seen import (
    Condition,
    Readiness,
    Seen,
    condition_of,
    failed,
    ready,
    unknown,
    waiting,
)


def inference_service(seen: Seen) -> Readiness:
    """Ready, with the newest revision of each component, and the newest model loaded: Ready stays true while those come.

    Of which generation that is, KServe does not say: of a changed one, it counts once nothing has moved for a while.

    :return: the verdict.
    """
    model = map_(seen.status.get("modelStatus"))
    transition = text(model.get("transitionStatus"))
    failure = map_(model.get("lastFailureInfo"))
    said = text(failure.get("message")) or text(failure.get("reason"))
    if transition in ("InvalidSpec", "BlockedByFailedLoad"):
        return failed("model_failed", f"{seen}: {transition}{': ' if said else ''}{said}"[:500])
    found = seen.condition("Ready")
    if found is None:
        return waiting("not_observed", f"the controller of {seen} has not looked at it yet")
    if found.status != "True":
        return waiting("not_ready", found.words)
    if transition not in ("", "UpToDate"):
        return waiting("model_loading", f"the model of {seen} is {transition}")
    for name, one in map_(seen.status.get("components")).items():
        created, served = (text(map_(one).get(f"latest{word}Revision")) for word in ("Created", "Ready"))
        if created != served:
            return waiting(
                "old_revision", f"{name} of {seen} is ready at {served or 'none'}, and {created} comes"
            )
    if found.generation is None and seen.generation > 1 and not seen.settled:
        return waiting("settling", f"{seen} is ready, and does not say of which generation")
    return ready("serving", f"{seen} serves")


def knative_service(seen: Seen) -> Readiness:
    """Ready, with the newest revision."""
    found = _served(seen)
    if found is not None:
        return found
    created, served = (text(seen.status.get(f"latest{word}RevisionName")) for word in ("Created", "Ready"))
    if created != served:
        return waiting("old_revision", f"{seen} is ready at {served or 'none'}, and {created} comes")
    return ready("serving", f"{seen} serves")


def gateway(seen: Seen) -> Readiness:
    """It is accepted, and programmed."""
    return _holding(seen, seen.conditions, ("Accepted", "Programmed")) or ready(
        "programmed", f"{seen} is programmed"
    )


def accepted(seen: Seen) -> Readiness:
    """It is accepted."""
    return _holding(seen, seen.conditions, ("Accepted",)) or ready("accepted", f"{seen} is accepted")


def route(seen: Seen) -> Readiness:
    """Each parent that it names has accepted it, and found all that it refers to."""
    told = maps(seen.status.get("parents"))
    parents = maps(seen.spec.get("parentRefs"))
    if not parents:
        return unknown("no_parent", f"{seen} names no parent")
    for parent in parents:
        answers = [one for one in told if _same_parent(parent, map_(one.get("parentRef")))]
        if not answers:
            return waiting("not_accepted", f"{text(parent.get('name'))} has not answered {seen} yet")
        for answer in answers:
            conditions = {one.type: one for one in map(condition_of, maps(answer.get("conditions")))}
            found = _holding(seen, conditions, ("Accepted", "ResolvedRefs"))
            if found is not None:
                return found
    return ready("accepted", f"{seen} is accepted by all {len(parents)} parents")


def policy(seen: Seen) -> Readiness:
    """Each ancestor that has answered has accepted it, and one has; what it is attached to may have none yet."""
    answers = maps(seen.status.get("ancestors"))
    if not answers:
        return waiting(
            "not_accepted", f"nobody has answered {seen} yet: is what it targets attached to a Gateway?"
        )
    for answer in answers:
        conditions = {one.type: one for one in map(condition_of, maps(answer.get("conditions")))}
        resolved = ("ResolvedRefs",) if "ResolvedRefs" in conditions else ()
        found = _holding(seen, conditions, ("Accepted", *resolved))
        if found is not None:
            return found
    return ready("accepted", f"{seen} is accepted by all {len(answers)} that have answered")


def _served(seen: Seen) -> Readiness | None:
    found = seen.condition("Ready")
    if seen.observed is None and (found is None or found.generation is None):
        return waiting("not_observed", f"the controller of {seen} has not looked at it yet")
    if found is None or found.status != "True":
        return waiting("not_ready", found.words if found else f"{seen} is not ready yet")
    return None


def _holding(seen: Seen, conditions: Mapping[str, Condition], names: tuple[str, ...]) -> Readiness | None:
    for name in names:
        found = conditions.get(name)
        if found is None or found.generation is None or found.generation != seen.generation:
            return waiting(
                "not_observed", f"{name} of {seen} is not told of generation {seen.generation} yet"
            )
        if found.status != "True":
            return waiting("not_accepted", f"{name} of {seen}: {found.words}")
    return None


def _same_parent(asked: Mapping[str, Any], answered: Mapping[str, Any]) -> bool:
    names = ("name", "namespace", "sectionName", "port")
    return all(asked.get(name) == answered.get(name) for name in names if name in asked)


_GATEWAY = "gateway.networking.k8s.io"

CUSTOM: dict[tuple[str, str], Callable[[Seen], Readiness]] = {
    ("argoproj.io", "Application"): application,
    ("argoproj.io", "Rollout"): rollout,
    ("argoproj.io", "Workflow"): workflow,
    ("serving.kserve.io", "InferenceService"): inference_service,
    ("serving.knative.dev", "Service"): knative_service,
    (_GATEWAY, "Gateway"): gateway,
    (_GATEWAY, "GatewayClass"): accepted,
    (_GATEWAY, "HTTPRoute"): route,
    (_GATEWAY, "GRPCRoute"): route,
    (_GATEWAY, "TLSRoute"): route,
    (_GATEWAY, "TCPRoute"): route,
    (_GATEWAY, "UDPRoute"): route,
    (_GATEWAY, "ListenerSet"): gateway,
    (_GATEWAY, "BackendTLSPolicy"): policy,
    (_GATEWAY, "ReferenceGrant"): exists,
    ("serving.kserve.io", "ServingRuntime"): exists,
    ("serving.kserve.io", "ClusterServingRuntime"): exists,
}
