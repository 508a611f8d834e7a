"""Rules about the last or current synchronisation, and what still differs."""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.rules import by, fail, first_failure, names, wait
from airflow_pipeops.waits.situation import VISIBLE_WITHIN
from airflow_pipeops.waits.status import Operation, shorts


def own_operation_invisible(look: ApplicationLook) -> Verdict | None:
    if not look.expectation.operation_id or look.memory.own_seen or look.held("invisible") >= VISIBLE_WITHIN:
        return None
    return wait("operation_not_visible", "our synchronisation was accepted and does not show yet")


def in_progress(look: ApplicationLook) -> Verdict | None:
    op = look.running
    if op is None:
        return None
    at = f"at {shorts(op.at)}" + (" (a dry run)" if op.dry_run else "")
    if "blocked by sync window" in op.message:
        reason = (
            f"the synchronisation {at} is blocked by a sync window: {look.observed.blocked or op.message}"
        )
        return by(look.expectation.on_window, "sync_window", reason)
    if op.queued and op.phase == "Running" and op.finished_at is not None:
        return wait("retrying", _retrying(look, op, at))
    pending = [
        item for item in op.resources if item.phase == "Running" or item.health in ("Progressing", "Missing")
    ]
    waiting = f", waiting for {names(pending, '')}" if pending else ""
    state = op.phase.lower() or "queued"
    # Without its request, nobody may be at work on it; only a comparison tells.
    reason = f"a synchronisation {at} is {state}{waiting}: {op.message or '-'}"
    return wait("operation_running", reason, refresh=not op.queued)


def _retrying(look: ApplicationLook, op: Operation, at: str) -> str:
    limit = (
        "" if op.retry_limit is None else " of " + (str(op.retry_limit) if op.retry_limit >= 0 else "many")
    )
    reason = (
        f"the synchronisation {at} failed and will be tried again (retry {op.retries}{limit}): {op.message}"
    )
    if look.expectation.basis == "desired" and op.at and not look.applied_ok and not op.retry_refresh:
        reason += (
            f"; the retries keep to {shorts(op.at)}, and {look.expected} has to wait for them: terminate the "
        )
        reason += "operation, or set retry.refresh"
    return reason


def idle(look: ApplicationLook) -> Verdict | None:
    return (
        Verdict("done", "idle", "no synchronisation is in progress")
        if look.expectation.basis == "idle"
        else None
    )


def operation_failed(look: ApplicationLook) -> Verdict | None:
    observed, expectation = look.observed, look.expectation
    op = look.operation
    if op is None or not op.failed or look.only_healing_failed:
        return None
    what = f"the synchronisation at {shorts(op.at)} {op.phase.lower()}: {first_failure(op) or op.message or 'no message'}"
    if expectation.basis == "desired" and observed.automatic and observed.sync != "Synced" and not look.ours:
        if not op.has_result:
            return _autosync_gave_up(look, what)
        if (op.revisions != observed.desired or not op.same_sources) and not look.only_pruning:
            return _will_start(look, what)
    if look.applied_ok or look.ours:
        if look.deployed_ok and expectation.basis == "desired":
            later = "self-heal" if op.heals else "synchronisation"
            what += f"; the revision had been deployed well before, what failed is a later {later} of the same revision"
        return fail("operation_failed", what)
    begun = op.started_at != look.memory.first_operation_at
    if (
        expectation.basis == "desired"
        and observed.sync != "Synced"
        and begun
        and expectation.on_manual == "fail"
    ):
        if look.fresh:
            return fail("operation_failed", what)
        # It may have applied everything before it failed: only a later comparison says what is out of sync now.
        return wait("stale", f"{what}; the sync status is from before {look.why_stale}", refresh=True)
    return None


def _will_start(look: ApplicationLook, what: str) -> Verdict:
    observed = look.observed
    if observed.blocked:
        closed = f"a sync window is closed: {observed.blocked}"
        reason = f"{what}; auto-sync would start for {shorts(observed.desired)}, and {closed}"
        verdict = by(look.expectation.on_window, "sync_window", reason, refresh=True)
        assert verdict is not None
        return verdict
    return wait(
        "older_operation_failed",
        f"{what}; auto-sync will start for {shorts(observed.desired)}",
        refresh=True,
    )


def _autosync_gave_up(look: ApplicationLook, what: str) -> Verdict:
    # Argo CD counts any revision as already tried when the last operation failed without a result.
    if not look.fresh:
        return wait("stale", f"{what}; the status may be older than that", refresh=True)
    return fail("autosync_gave_up", f"{what}; auto-sync will not start again after that: start a manual sync")


def sync_error(look: ApplicationLook) -> Verdict | None:
    """Auto-sync says that it has given up.

    The condition is written with a comparison that finds the application out of sync, but stays while a sync window is
    closed: one that names another revision, or contradicts the last operation, is a leftover.

    :return: a failure, a wait for a comparison that tells more, or ``None``.
    """
    observed = look.observed
    condition = observed.condition("SyncError")
    if condition is None or look.expectation.basis != "desired" or observed.sync != "OutOfSync":
        return None
    if not look.fresh:
        return wait(
            "stale", f"auto-sync had given up, which may be old news: {condition.message}", refresh=True
        )
    op, message = look.operation, condition.message
    leftover = op is not None and op.phase == "Succeeded" and op.at == observed.desired
    named = bool(observed.desired) and all(revision in message for revision in observed.desired)
    wiped = "wipe out all resources" in message
    if (named and (wiped or not leftover)) or ("sync attempt to []" in message and not leftover):
        hint = "; allowEmpty permits it" if wiped else ""
        return fail("sync_error", f"auto-sync has given up: {message}{hint}")
    return None


def applied_elsewhere(look: ApplicationLook) -> Verdict | None:
    op = look.operation
    if look.expectation.basis != "applied" or (
        op is not None and look.applied_ok and op.phase == "Succeeded"
    ):
        return None
    if op is not None and look.applied_ok:
        return wait(
            "operation_running",
            f"the synchronisation at {shorts(op.at)} shows as {op.phase or 'nothing'} yet",
        )
    if op is not None and op.phase == "Succeeded" and (look.ours or not look.expectation.operation_id):
        return fail(
            "applied_elsewhere",
            f"the synchronisation applied {shorts(op.at)}, and {look.expected} was asked for",
        )
    if op is not None and look.memory.own_seen:
        return fail(
            "operation_replaced",
            f"another synchronisation, at {shorts(op.at)}, followed ours before it was judged",
        )
    return fail("operation_lost", "the synchronisation that was asked for is nowhere to be seen")


def not_applied(look: ApplicationLook) -> Verdict | None:
    """An operation must have applied it, also where it changes nothing here."""
    expectation = look.expectation
    if not expectation.require_applied or expectation.match == "any" or look.fully_applied:
        return None
    reason = f"no synchronisation has applied {look.expected}: it changes nothing in this application"
    never = (
        look.fresh
        and look.observed.sync == "Synced"
        and expectation.basis == "desired"
        and expectation.match == "exact"
    )
    if never and (look.observed.automatic or expectation.on_manual == "fail"):
        return fail("not_applied", f"{reason}, so nothing starts one; start a sync, or drop require_applied")
    return wait("not_applied", reason, refresh=not look.fresh)


#: After so many acknowledged refreshes that started nothing, a person should have a look.
SILENT_AFTER = 3


def sync_unknown(look: ApplicationLook) -> Verdict | None:
    if look.expectation.basis != "desired" or look.observed.sync in ("Synced", "OutOfSync"):
        return None
    return wait("sync_unknown", f"the sync status is {look.observed.sync}", refresh=True)


def out_of_sync(look: ApplicationLook) -> Verdict | None:
    observed = look.observed
    if look.expectation.basis != "desired" or observed.sync == "Synced":
        return None
    if not look.fresh:
        return wait("stale", f"the sync status is from before {look.why_stale}", refresh=look.worth_comparing)
    listed = names((item for item in observed.resources if item.sync == "OutOfSync"), "unnamed resources")
    applied = (
        look.operation is not None
        and look.operation.phase == "Succeeded"
        and look.operation.at == observed.desired
    )
    if look.only_pruning and (applied or (observed.automatic and not observed.prunes)):
        return _differs(look, "prune_pending", f"applied, but not pruned because pruning is off: {listed}")
    if applied and look.applied_ok:
        return _differs(look, "out_of_sync_after_sync", f"applied, and still different from Git: {listed}")
    return _somebody_starts(look, listed)


def _differs(look: ApplicationLook, rule: str, reason: str) -> Verdict | None:
    observed, expectation = look.observed, look.expectation
    policy = expectation.on_out_of_sync
    if policy == "fail" and rule == "out_of_sync_after_sync" and observed.self_heal and observed.blocked:
        return by(
            expectation.on_window,
            "sync_window",
            f"{reason}; self-heal waits for a sync window: {observed.blocked}",
        )
    if policy == "fail" and look.held("differs") < expectation.out_of_sync_grace:
        policy = "wait"  # a difference may be healed, or the cache may lag
    return by(policy, rule, reason, refresh=True)


def _somebody_starts(look: ApplicationLook, listed: str) -> Verdict | None:
    observed, expectation = look.observed, look.expectation
    if observed.automatic and observed.blocked:
        reason = f"out of sync ({listed}); auto-sync waits for a sync window: {observed.blocked}"
        return by(expectation.on_window, "sync_window", reason, refresh=True)
    if observed.automatic:
        reason = f"out of sync ({listed}); auto-sync will start"
        if look.memory.acknowledged >= SILENT_AFTER:
            reason += f"; {look.memory.acknowledged} refreshes have not started it: is a sync window closed?"
        return wait("out_of_sync", reason, refresh=True)
    rollout = observed.rollout
    if rollout is not None:
        done = rollout.status == "Healthy" and rollout.revisions == observed.desired
        if rollout.step != "-1" and not done:
            said = f": {rollout.message}" if rollout.message else ""
            return wait(
                "rolling_sync",
                f"out of sync ({listed}); {rollout.status or 'not started'} in step {rollout.step or '?'} of the rolling "
                f"sync of {rollout.owner}{said}",
            )
        why = "is done with it" if done else "selects it in no step"
        reason = f"out of sync ({listed}), and the rolling sync of {rollout.owner} {why}: start a manual sync"
        return by(expectation.on_manual, "manual_sync_needed", reason)
    if observed.owner == "ApplicationSet" and not observed.owner_seen:
        return wait(
            "out_of_sync",
            f"out of sync ({listed}) and auto-sync is off; its ApplicationSet may start it in a later step (nobody could "
            "look at that)",
        )
    return by(
        expectation.on_manual,
        "manual_sync_needed",
        f"out of sync ({listed}) with {shorts(observed.desired)}, and auto-sync is off: start a manual sync",
    )
