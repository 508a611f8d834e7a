"""The custom resources of Argo CD, Argo Rollouts and Argo Workflows, in the words of their controllers."""

from __future__ import annotations

from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.rules.workloads import no_pods
from airflow_pipeops.deploy.seen import Readiness, Seen, failed, leaves, ready, waiting

_WORKLOAD_GENERATION = "rollout.argoproj.io/workload-generation"


def application(seen: Seen) -> Readiness:
    """Argo CD has compared this very source and destination, found it synced, and calls it healthy."""
    sync, health = map_(seen.status.get("sync")), map_(seen.status.get("health"))
    compared = map_(sync.get("comparedTo"))
    wanted, found_in = map_(seen.spec.get("destination")), map_(compared.get("destination"))
    # A cluster that is named may be compared with its address beside it.
    elsewhere = _given(wanted) - _given(found_in) or text(wanted.get("namespace")) != text(
        found_in.get("namespace")
    )
    if elsewhere or any(
        _given(seen.spec.get(name)) != _given(compared.get(name)) for name in ("source", "sources")
    ):
        return waiting("not_observed", f"Argo CD has not compared what {seen} is to be now")
    operation = map_(seen.status.get("operationState"))
    said = text(operation.get("message"))
    if text(operation.get("phase")) in ("Running", "Terminating") or sync.get("status") != "Synced":
        state = text(sync.get("status")) or "not compared"
        return waiting("not_synced", f"{seen} is {state}{': ' if said else ''}{said}"[:500])
    found, why = text(health.get("status")), text(health.get("message"))
    words = f"{seen} is {found or 'not judged'}{': ' if why else ''}{why}"[:500]
    if found == "Degraded":
        return failed("degraded", words)
    if found == "Suspended":
        return waiting("paused", words)
    return ready("healthy", words) if found == "Healthy" else waiting("progressing", words)


def workflow(seen: Seen) -> Readiness:
    """It has ended well: one that runs has not."""
    phase, said = text(seen.status.get("phase")), text(seen.status.get("message"))
    words = f"{seen} is {phase or 'new'}{': ' if said else ''}{said}"[:500]
    if phase in ("Failed", "Error"):
        return failed("condition_failed", words)
    return ready("complete", words) if phase == "Succeeded" else waiting("running", words)


def _given(part: Any) -> set[tuple[str, str]]:
    """Return what a part of a spec says; what is empty is left out, as its controller may do."""
    return {(place, str(value)) for place, value in leaves(part) if value}


def rollout(seen: Seen) -> Readiness:
    """Healthy, and at the pods of the spec that was applied: Healthy alone is also said of the version before."""
    return (
        _phase(seen)
        or _counts(seen)
        or ready("rolled_out", f"{seen} is healthy at {text(seen.status.get('currentPodHash'))}")
    )


def _phase(seen: Seen) -> Readiness | None:
    """What the controller of Rollouts says, where it is not that all is well."""
    status, phase = seen.status, text(seen.status.get("phase"))
    said = text(status.get("message"))
    because = f": {said}" if said else ""
    if status.get("abort") is True or status.get("abortedAt"):
        return failed("aborted", f"{seen} was aborted, and runs the version before{because}")
    given = map_(seen.metadata.get("annotations")).get(_WORKLOAD_GENERATION)
    of_workload = given is None or str(status.get("workloadObservedGeneration", "")) == str(given)
    if seen.observed is None or not of_workload:
        return waiting("not_observed", f"the controller of {seen} has not looked at what was applied yet")
    if phase == "Degraded":
        return failed("degraded", f"{seen} is degraded{because}")
    if phase == "Paused" or seen.spec.get("paused") is True or maps(status.get("pauseConditions")):
        return waiting("paused", f"{seen} is paused{because}")
    return None if phase == "Healthy" else waiting("progressing", f"{seen} is {phase or 'new'}{because}")


def _counts(seen: Seen) -> Readiness | None:
    """What runs, where that is not what was applied."""
    current, stable = (text(seen.status.get(name)) or "none" for name in ("currentPodHash", "stableRS"))
    if current == "none" or current != stable:
        return waiting("not_stable", f"{seen}: {stable} is stable, and {current} was applied")
    if text(seen.spec.get("restartAt")) > text(seen.status.get("restartedAt")):
        return waiting("restarting", f"{seen} restarts its pods")
    for name in ("updatedReplicas", "availableReplicas"):
        if seen.count(name) < seen.replicas:
            return waiting("rolling_out", f"{seen}: {name} is {seen.count(name)} of {seen.replicas}")
    return None if seen.replicas or seen.empty_ok else no_pods(seen)
