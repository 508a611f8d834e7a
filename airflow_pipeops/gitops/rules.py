"""The rules of the wait, in the order in which they apply; see :mod:`airflow_pipeops.gitops.verdict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_pipeops.gitops.expectation import Verdict
from airflow_pipeops.gitops.look import Look
from airflow_pipeops.gitops.observed import Observed, Operation, Resource, is_sha, short, shorts

#: How long our own operation may stay invisible (the API server reads from a cache), seconds.
VISIBLE_WITHIN = 60.0


def _deleting(k: Look) -> Verdict | None:
    if not k.o.deleting:
        return None
    condition = k.o.condition("DeletionError")
    return _fail(
        "deleting", "the application is being deleted" + (f": {condition.message}" if condition else "")
    )


def _recreated(k: Look) -> Verdict | None:
    if not k.o.uid or k.o.uid == k.m.uid:
        return None
    return _fail(
        "recreated", "the application was deleted and created again during the wait; start the wait anew"
    )


def _skip_reconcile(k: Look) -> Verdict | None:
    return (
        _fail("skip_reconcile", f"the controller ignores this application: {k.o.ignored}")
        if k.o.ignored
        else None
    )


def _unmeetable(k: Look) -> Verdict | None:
    if k.problem:
        return _fail(*k.problem)
    if k.o.hydrated and k.wanted:
        return _fail(
            "hydrator",
            "the application uses a source hydrator, whose revisions are those of the rendered branch; expect one of those "
            "by leaving the hydrator out, or match any revision",
        )
    return None


def _invalid_spec(k: Look) -> Verdict | None:
    condition = k.o.condition("InvalidSpecError")
    if condition is None:
        return None
    if k.m.acknowledged:
        return _fail("invalid_spec", f"the application's spec is invalid: {condition.message}")
    return _wait(
        "invalid_spec",
        f"the application's spec was invalid when last looked at: {condition.message}",
        refresh=True,
    )


def _comparison_error(k: Look) -> Verdict | None:
    condition = k.o.condition("ComparisonError", "UnknownError")
    if condition is None:
        return None
    reason = f"the controller cannot compare ({condition.type}): {condition.message}"
    hopeless = condition.message.startswith("Application status exceeds")
    if hopeless or k.held("comparison") >= k.e.comparison_grace:
        return _fail("comparison_error", reason)
    return _wait("comparison_error", reason, refresh=True)


def _own_operation_invisible(k: Look) -> Verdict | None:
    if not k.e.operation_id or k.m.own_seen or k.held("invisible") >= VISIBLE_WITHIN:
        return None
    return _wait("operation_not_visible", "our synchronisation was accepted and does not show yet")


def _pinned_elsewhere(k: Look) -> Verdict | None:
    if k.e.basis != "desired":
        return None
    for index, wanted in k.wanted.items():
        target = k.o.sources[index].target
        if not is_sha(target) or k.as_good(wanted, target) or not k.known(wanted, target):
            continue
        return _fail(
            "pinned_elsewhere",
            f"targetRevision is pinned to {short(target)}, so {short(wanted)} will never be compared; change "
            "targetRevision or expect another revision",
        )
    return None


def _superseded(k: Look) -> Verdict | None:
    if (
        k.e.basis != "desired"
        or k.desired_ok
        or k.m.lost_after is None
        or k.m.acknowledged - k.m.lost_after < 2
    ):
        return None
    return _fail(
        "superseded",
        f"{k.expected} was replaced by {shorts(k.o.desired)} before it was found healthy; wait with match='contains' to "
        "accept a newer revision that includes it",
    )


def _not_compared(k: Look) -> Verdict | None:
    if k.e.basis != "desired" or k.desired_ok:
        return None
    reason = f"the controller compares with {shorts(k.o.desired)}, and {k.expected} is expected"
    if k.m.acknowledged >= 2:
        targets = ", ".join(dict.fromkeys(source.target or "HEAD" for source in k.o.sources))
        reason += f"; it has refreshed {k.m.acknowledged} times: does targetRevision {targets!r} contain that commit?"
    return _wait("not_compared", reason, refresh=True)


def _in_progress(k: Look) -> Verdict | None:
    op = k.operation
    if op is None or not k.running:
        return None
    at = f"at {shorts(op.at)}"
    if "blocked by sync window" in op.message:
        return _by(
            k.e.on_window,
            "sync_window",
            f"the synchronisation {at} is blocked by a sync window: {op.message}",
        )
    if op.queued and op.phase == "Running" and op.finished_at is not None:
        return _wait(
            "retrying",
            f"the synchronisation {at} failed and will be tried again (retry {op.retries}): {op.message}",
        )
    pending = [
        str(item)
        for item in op.resources
        if item.phase == "Running" or item.health in ("Progressing", "Missing")
    ]
    waiting = f", waiting for {', '.join(pending[:5])}" if pending else ""
    return _wait(
        "operation_running",
        f"a synchronisation {at} is {op.phase.lower() or 'queued'}{waiting}: {op.message or '-'}",
    )


def _idle(k: Look) -> Verdict | None:
    return Verdict("done", "idle", "no synchronisation is in progress") if k.e.basis == "idle" else None


def _operation_failed(k: Look) -> Verdict | None:
    op = k.operation
    if op is None or not op.failed:
        return None
    what = f"the synchronisation at {shorts(op.at)} {op.phase.lower()}: {first_failure(op) or op.message or 'no message'}"
    again = k.e.basis == "desired" and k.o.automatic and k.o.sync != "Synced" and not k.ours
    if again and not op.has_result:
        return _autosync_gave_up(k, what)
    if again and op.revisions != k.o.desired:
        return _wait(
            "older_operation_failed", f"{what}; auto-sync will start for {shorts(k.o.desired)}", refresh=True
        )
    if k.applied_ok or k.ours:
        return _fail("operation_failed", what)
    if k.e.basis == "desired" and k.o.sync != "Synced" and op.started_at != k.m.first_operation_at:
        return _fail("operation_failed", what)
    return None


def _autosync_gave_up(k: Look, what: str) -> Verdict:
    # Argo CD counts any revision as already tried when the last operation failed without a result.
    if not k.fresh:
        return _wait("stale", f"{what}; the status may be older than that", refresh=True)
    return _fail(
        "autosync_gave_up", f"{what}; auto-sync will not start again after that: start a manual sync"
    )


def _sync_error(k: Look) -> Verdict | None:
    condition = k.o.condition("SyncError")
    if condition is None or k.e.basis != "desired":
        return None
    if not k.fresh:
        return _wait(
            "stale", f"auto-sync had given up, which may be old news: {condition.message}", refresh=True
        )
    names = any(revision and revision in condition.message for revision in k.o.desired)
    if names or "wipe out all resources" in condition.message or "sync attempt to []" in condition.message:
        return _fail("sync_error", f"auto-sync has given up: {condition.message}")
    return None


def _applied_elsewhere(k: Look) -> Verdict | None:
    op = k.operation
    if k.e.basis != "applied" or (op is not None and k.applied_ok and op.phase == "Succeeded"):
        return None
    if op is not None and k.applied_ok:
        return _wait(
            "operation_running",
            f"the synchronisation at {shorts(op.at)} shows as {op.phase or 'nothing'} yet",
        )
    if op is not None and op.phase == "Succeeded" and (k.ours or not k.e.operation_id):
        return _fail(
            "applied_elsewhere",
            f"the synchronisation applied {shorts(op.at)}, and {k.expected} was asked for",
        )
    if op is not None and k.m.own_seen:
        return _fail(
            "operation_replaced",
            f"another synchronisation, at {shorts(op.at)}, followed ours before it was judged",
        )
    return _fail("operation_lost", "the synchronisation that was asked for is nowhere to be seen")


def _out_of_sync(k: Look) -> Verdict | None:
    if k.e.basis != "desired" or k.o.sync == "Synced":
        return None
    if k.o.sync != "OutOfSync":
        return _wait("sync_unknown", f"the sync status is {k.o.sync}", refresh=True)
    if not k.fresh:
        return _wait("stale", "the sync status may be older than the last change", refresh=True)
    differing = [item for item in k.o.resources if item.sync == "OutOfSync"]
    names = ", ".join(str(item) for item in differing[:5]) or "unnamed resources"
    if k.operation and k.operation.phase == "Succeeded" and k.applied_ok and k.operation.at == k.o.desired:
        if differing and all(item.prune for item in differing):
            return _by(
                k.e.on_out_of_sync,
                "prune_pending",
                f"applied, but not pruned because pruning is off: {names}",
            )
        return _by(
            k.e.on_out_of_sync, "out_of_sync_after_sync", f"applied, and still different from Git: {names}"
        )
    if k.o.automatic:
        return _wait("out_of_sync", f"out of sync ({names}); auto-sync will start", refresh=True)
    if k.o.owner == "ApplicationSet":
        return _wait("out_of_sync", f"out of sync ({names}); its ApplicationSet may start it in a later step")
    return _by(
        k.e.on_manual,
        "manual_sync_needed",
        f"out of sync ({names}) and auto-sync is off: start a manual sync",
    )


def _not_applied(k: Look) -> Verdict | None:
    if not k.e.require_applied or k.applied_ok or k.e.match == "any":
        return None
    return _wait(
        "not_applied", f"no synchronisation has applied {k.expected}: it changes nothing in this application"
    )


def _stale(k: Look) -> Verdict | None:
    if k.fresh:
        return None
    return _wait("stale", "the status is from before the last synchronisation or refresh", refresh=True)


def _healthy(k: Look) -> Verdict | None:
    if k.e.require_health and k.o.health != "Healthy":
        return None
    held, needed = max(k.held(f"health:{k.state}"), k.settled_by_server()), k.e.settle
    if held < needed:
        return _wait("settling", f"healthy at {shorts(k.revisions)} for {held:.0f} of {needed:.0f} s")
    changed = "" if k.applied_ok or not k.wanted else "; the revision changes nothing in this application"
    return Verdict("done", "healthy", f"live and {k.o.health} at {shorts(k.revisions)}{changed}")


def _suspended(k: Look) -> Verdict | None:
    if k.o.health != "Suspended":
        return None
    reason = f"applied, and suspended: {unhealthy(k.o)}"
    return _by(k.e.on_suspended, "suspended", reason) or Verdict("done", "suspended", reason)


def _degraded(k: Look) -> Verdict | None:
    if k.o.health != "Degraded":
        return None
    held, grace = k.held(f"health:{k.state}"), k.e.degraded_grace
    newer = (
        ""
        if k.revisions == tuple(k.wanted.values()) or not k.wanted
        else f" (newer; it includes {k.expected})"
    )
    reason = f"Degraded at {shorts(k.revisions)}{newer} for {seconds(held)}: {unhealthy(k.o)}"
    return (
        _fail("degraded", reason)
        if held >= grace
        else _wait("degraded", f"{reason}; may last {seconds(grace)}")
    )


def _progressing(k: Look) -> Verdict | None:
    return _wait("progressing", f"{k.o.health} at {shorts(k.revisions)}: {unhealthy(k.o)}")


#: The order of the rules. The last one always speaks.
RULES: tuple[Callable[[Look], Verdict | None], ...] = (
    _deleting,
    _recreated,
    _skip_reconcile,
    _unmeetable,
    _invalid_spec,
    _comparison_error,
    _own_operation_invisible,
    _pinned_elsewhere,
    _superseded,
    _not_compared,
    _in_progress,
    _idle,
    _operation_failed,
    _sync_error,
    _applied_elsewhere,
    _out_of_sync,
    _not_applied,
    _stale,
    _healthy,
    _suspended,
    _degraded,
    _progressing,
)


def details_of(k: Look) -> dict[str, Any]:
    """Return the facts behind a verdict, as JSON of bounded size."""
    op = k.o.operation
    notes = list(k.o.warnings)
    if k.ghost:
        notes.append(
            "a synchronisation still shows as running and nobody works on it; it was left out of account"
        )
    if k.e.match == "contains" and not k.e.oracle:
        notes.append(
            "nobody can say which commits contain the expected one (no Git connection), so it was matched exactly"
        )
    if op and op.failed and not k.applied_ok:
        notes.append(f"an earlier synchronisation at {shorts(op.at)} failed")
    return {
        "expected": {str(index): revision for index, revision in k.wanted.items()},
        "match": k.e.match if k.e.oracle or k.e.match != "contains" else "exact",
        "desired": list(k.o.desired),
        "applied": list(k.o.applied),
        "sync": k.o.sync,
        "health": k.o.health,
        "operation": {
            "phase": op.phase,
            "message": op.message[:500],
            "retries": op.retries,
            "initiated_by": op.initiated_by,
            "ours": k.ours,
        }
        if op
        else None,
        "fresh": k.fresh,
        "warnings": notes,
    }


def first_failure(operation: Operation) -> str:
    """Return the first resource or hook of an operation that failed, and what it says."""
    for item in operation.resources:
        if item.sync == "SyncFailed" or item.phase in ("Failed", "Error"):
            hook = f" {item.hook} hook" if item.hook else ""
            return f"{item}{hook} failed: {item.message}"
    return ""


def unhealthy(observed: Observed) -> str:
    """Return which resources are not healthy, worst first, at most five."""
    found: list[Resource] = [item for item in observed.resources if item.health not in ("", "Healthy")]
    found.sort(key=lambda item: item.health not in ("Degraded", "Missing"))
    listed = [
        f"{item} {item.health}{': ' + item.message[:200] if item.message else ''}" for item in found[:5]
    ]
    return "; ".join(listed) or "no resource says why"


def seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def _wait(rule: str, reason: str, *, refresh: bool = False) -> Verdict:
    return Verdict("wait", rule, reason, refresh=refresh)


def _fail(rule: str, reason: str) -> Verdict:
    return Verdict("failed", rule, reason)


def _by(policy: str, rule: str, reason: str) -> Verdict | None:
    """Apply a policy; ``None`` for ``accept``: the next rules decide."""
    if policy == "accept":
        return None
    return _fail(rule, reason) if policy == "fail" else _wait(rule, reason)
