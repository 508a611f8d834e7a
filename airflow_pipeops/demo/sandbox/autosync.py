"""Whether to sync without being asked, by the Application's policy. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_pipeops.demo.sandbox.compare import ResourceState
from airflow_pipeops.demo.sandbox.store import Application
from airflow_pipeops.demo.sandbox.wire import parse_time

#: Seconds between attempts to heal: the first, the factor, and the most.
_HEAL_BACKOFF = (2.0, 3.0, 300.0)
_DEFAULT_RETRY = {"limit": 5}


class Decision(NamedTuple):
    """What auto-sync does now: start an operation, report an error, try later, or nothing."""

    operation: dict[str, Any] | None = None
    error: str = ""
    #: Seconds after which to decide again.
    later: float | None = None


def automated(application: Application) -> dict[str, Any] | None:
    """Return the automated policy where it is on."""
    policy = (application["spec"].get("syncPolicy") or {}).get("automated")
    return policy if policy is not None and policy.get("enabled") is not False else None


def decide(application: Application, revision: str, states: list[ResourceState], at: float) -> Decision:
    """Say whether to sync to ``revision``.

    A commit that was tried and failed is not tried again: somebody has to push another one, or sync by hand.

    :param at: the present moment, in seconds since the epoch.
    :return: the operation to start, why there is none, or in how many seconds to ask again.
    """
    policy = automated(application)
    if policy is None or application.get("operation") or application["metadata"].get("deletionTimestamp"):
        return Decision()
    waiting = [state for state in states if not state.synced and not state.ignored]
    prune = bool(policy.get("prune"))
    if not waiting or (not prune and all(state.requires_pruning for state in waiting)):
        return Decision()
    sync: dict[str, Any] = {"revision": revision}
    if prune:
        sync["prune"] = True
    spec_policy = application["spec"]["syncPolicy"]
    if spec_policy.get("syncOptions"):
        sync["syncOptions"] = list(spec_policy["syncOptions"])
    attempt = _attempted(application, revision)
    if attempt is not None:
        phase, tried, message = attempt
        if phase in ("Failed", "Error"):
            return Decision(error=f"Failed last sync attempt to [{tried}]: {message}")
        if not policy.get("selfHeal"):
            return Decision()
        count, wait = _heal_wait(application, at)
        if wait > 0:
            return Decision(later=wait)
        sync["selfHealAttemptsCount"] = count + 1
        sync["resources"] = [_selector(state) for state in waiting]
    if prune and not policy.get("allowEmpty") and states and all(state.requires_pruning for state in states):
        return Decision(error=f"Skipping sync attempt to {revision}: auto-sync will wipe out all resources")
    retry = spec_policy.get("retry") or _DEFAULT_RETRY
    return Decision({"initiatedBy": {"automated": True}, "retry": retry, "sync": sync})


def _attempted(application: Application, revision: str) -> tuple[str, str, str] | None:
    """Return phase, revision and message of the last operation, where it counts as an attempt at ``revision``."""
    state = application.get("status", {}).get("operationState")
    if not state:
        return None
    result = state.get("syncResult")
    if not result:
        # As in Argo CD: an operation that ended before it had a result counts for every revision.
        return state["phase"], "", state.get("message", "")
    same = result.get("revision") == revision and _essence(result.get("source")) == _essence(
        application["spec"].get("source")
    )
    return (state["phase"], revision, state.get("message", "")) if same else None


def _essence(source: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (source or {}).items() if name != "targetRevision"}


def _heal_wait(application: Application, at: float) -> tuple[int, float]:
    """Return how many attempts to heal came before in a row, and the seconds until the next is due."""
    state = application["status"]["operationState"]
    count = int(state["operation"].get("sync", {}).get("selfHealAttemptsCount", 0))
    finished = parse_time(state["finishedAt"]).timestamp() if state.get("finishedAt") else 0.0
    first, factor, most = _HEAL_BACKOFF
    if at - finished >= most:
        # It held for a long time: what differs now is a new story.
        return 0, 0.0
    return count, finished + min(first * factor**count, most) - at


def _selector(state: ResourceState) -> dict[str, str]:
    group, kind, namespace, name = state.key
    chosen = {"group": group, "kind": kind, "namespace": namespace, "name": name}
    return {field: value for field, value in chosen.items() if value}
