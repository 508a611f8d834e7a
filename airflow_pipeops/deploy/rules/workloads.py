"""Kinds that run pods."""

from __future__ import annotations

from collections.abc import Callable

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.seen import Readiness, Seen, failed, number, ready, unknown, waiting

#: Words of a kubelet about a container that will not start, whatever is waited for.
_HOPELESS = ("InvalidImageName", "ErrInvalidImageName")


def deployment(seen: Seen) -> Readiness:
    """All pods are those of the newest template, and available; as kubectl, and kstatus where that asks for more."""
    progressing, short = seen.condition("Progressing"), seen.condition("ReplicaFailure")
    if seen.observed is None:
        return _not_observed(seen)
    if progressing is not None and progressing.reason == "ProgressDeadlineExceeded":
        return failed("progress_deadline", progressing.words)
    if seen.spec.get("paused") is True:
        return waiting("paused", f"{seen} is paused: resume it, and its new pods come")
    if short is not None and short.status == "True":
        return waiting("replica_failure", short.words)
    found = _counted(
        seen,
        seen.replicas,
        at_least=("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"),
        no_more_than=("replicas",),
    )
    if found is not None:
        return found
    if progressing is not None and not (
        progressing.status == "True" and progressing.reason == "NewReplicaSetAvailable"
    ):
        return waiting("progressing", progressing.words)
    if seen.condition("Available") is not None and not seen.is_true("Available"):
        return waiting("not_available", seen.conditions["Available"].words)
    return _all_there(seen, seen.replicas)


def stateful_set(seen: Seen) -> Readiness:
    """All pods that are to be replaced are replaced, and ready."""
    if seen.observed is None:
        return _not_observed(seen)
    strategy = map_(seen.spec.get("updateStrategy"))
    wanted = seen.replicas
    held = number(map_(strategy.get("rollingUpdate")).get("partition")) or 0
    found = _counted(
        seen,
        wanted,
        at_least=("replicas", "readyReplicas", *_told(seen, "availableReplicas")),
        no_more_than=("replicas",),
    )
    if found is not None:
        return found
    updated, current, newest = (
        seen.count("updatedReplicas"),
        text(seen.status.get("currentRevision")),
        text(seen.status.get("updateRevision")),
    )
    if wanted == 0:
        return _all_there(seen, wanted)
    if held and current != newest:
        if held >= wanted:
            return unknown(
                "held_back", f"the partition of {seen} holds all {wanted} pods at the revision before"
            )
        if updated < wanted - held:
            return waiting("rolling_out", f"{updated} of the {wanted - held} pods of {seen} are replaced")
        return ready("partition", f"{updated} pods of {seen} are replaced; its partition holds back {held}")
    if updated < wanted and current != newest:
        by_hand = (
            "; its strategy is OnDelete: somebody must delete the old ones"
            if strategy.get("type") == "OnDelete"
            else ""
        )
        return waiting("rolling_out", f"{updated} of {wanted} pods of {seen} are replaced{by_hand}")
    if current != newest and strategy.get("type") != "OnDelete":
        return waiting("rolling_out", f"{seen} is on its way from revision {current} to {newest}")
    return _all_there(seen, wanted)


def daemon_set(seen: Seen) -> Readiness:
    """Each node that wants a pod has one of the newest template, and it is available."""
    wanted = number(seen.status.get("desiredNumberScheduled"))
    if seen.observed is None or wanted is None:
        return _not_observed(seen)
    counts = ("currentNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable")
    found = _counted(seen, wanted, at_least=counts)
    by_hand = map_(seen.spec.get("updateStrategy")).get("type") == "OnDelete"
    if (
        found is not None
        and by_hand
        and seen.count("updatedNumberScheduled") < wanted <= seen.count("numberAvailable")
    ):
        return waiting(
            found.rule, f"{found.reason}; its strategy is OnDelete: somebody must delete the old ones"
        )
    return found or _all_there(seen, wanted)


def replica_set(seen: Seen) -> Readiness:
    """All pods are there, and available."""
    short = seen.condition("ReplicaFailure")
    if seen.observed is None:
        return _not_observed(seen)
    if short is not None and short.status == "True":
        return waiting("replica_failure", short.words)
    counts = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    return _counted(seen, seen.replicas, at_least=counts, no_more_than=("replicas",)) or _all_there(
        seen, seen.replicas
    )


def pod(seen: Seen) -> Readiness:
    """It is ready, or has done its work; a failed one is neither."""
    phase = text(seen.status.get("phase"))
    if phase == "Succeeded":
        return ready("succeeded", f"{seen} has done its work")
    if phase == "Failed":
        said = text(seen.status.get("message")) or text(seen.status.get("reason")) or _exits(seen)
        return failed("pod_failed", f"{seen} failed{': ' if said else ''}{said}"[:500])
    stuck = _stuck(seen)
    if stuck is not None:
        return stuck
    if phase == "Running" and seen.is_true("Ready"):
        return ready("pod_ready", f"{seen} is ready")
    scheduled = seen.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return waiting("unschedulable", f"no node takes {seen}: {scheduled.words}")
    return waiting("pod_not_ready", f"{seen} is {phase or 'new'}, and not ready")


def job(seen: Seen) -> Readiness:
    """It has completed; a started one has not."""
    done, broken = seen.condition("Complete"), seen.condition("Failed")
    if broken is not None and broken.status == "True":
        return failed("job_failed", f"{seen} failed: {broken.words}")
    if done is not None and done.status == "True":
        return ready("completed", f"{seen} has completed")
    if seen.spec.get("suspend") is True:
        return waiting("suspended", f"{seen} is suspended")
    if not seen.status.get("startTime"):
        return waiting("not_started", f"{seen} has not started")
    return waiting("running", f"{seen} runs: {seen.count('active')} pods, {seen.count('failed')} failed")


def cron_job(seen: Seen) -> Readiness:
    """It is a plan, and so ready once it is there; its Jobs have ends of their own."""
    if seen.spec.get("suspend") is True:
        return ready("suspended_plan", f"{seen} is there, and suspended: it starts nothing")
    return ready("planned", f"{seen} is there")


def no_pods(seen: Seen) -> Readiness:
    """It wants no pod."""
    said = f"{seen} wants no pod: nothing runs, and whether what was applied can is not known"
    return unknown("zero_replicas", said)


def _not_observed(seen: Seen) -> Readiness:
    return waiting("not_observed", f"the controller of {seen} has not looked at it yet")


def _told(seen: Seen, *names: str) -> tuple[str, ...]:
    return tuple(name for name in names if name in seen.status)


def _counted(
    seen: Seen, wanted: int, *, at_least: tuple[str, ...], no_more_than: tuple[str, ...] = ()
) -> Readiness | None:
    """Compare the counts of a status with the number that is wanted."""
    for name in at_least:
        if seen.count(name) < wanted:
            return waiting("rolling_out", f"{seen}: {name} is {seen.count(name)} of {wanted}")
    for name in no_more_than:
        if seen.count(name) > wanted:
            return waiting("old_pods", f"{seen}: {seen.count(name) - wanted} pods too many are still there")
    return None


def _all_there(seen: Seen, wanted: int) -> Readiness:
    if wanted == 0 and not seen.empty_ok:
        return no_pods(seen)
    return ready("rolled_out", f"all {wanted} pods of {seen} are of what was applied, and available")


def _stuck(seen: Seen) -> Readiness | None:
    statuses = [*maps(seen.status.get("initContainerStatuses")), *maps(seen.status.get("containerStatuses"))]
    for status in map(map_, statuses):
        found = map_(map_(status.get("state")).get("waiting"))
        reason = text(found.get("reason"))
        if reason == "CrashLoopBackOff" or reason in _HOPELESS:
            said = f"container {text(status.get('name'))}: {reason} {text(found.get('message'))}"
            return failed("crash_loop" if reason == "CrashLoopBackOff" else "bad_image", said[:500].strip())
    return None


def _exits(seen: Seen) -> str:
    for status in maps(seen.status.get("containerStatuses")):
        ended = map_(map_(status.get("state")).get("terminated"))
        if number(ended.get("exitCode")):
            return f"container {text(status.get('name'))} ended with {ended['exitCode']}"
    return ""


WORKLOADS: dict[tuple[str, str], Callable[[Seen], Readiness]] = {
    ("apps", "Deployment"): deployment,
    ("apps", "StatefulSet"): stateful_set,
    ("apps", "DaemonSet"): daemon_set,
    ("apps", "ReplicaSet"): replica_set,
    ("", "ReplicationController"): replica_set,
    ("", "Pod"): pod,
    ("batch", "Job"): job,
    ("batch", "CronJob"): cron_job,
}
