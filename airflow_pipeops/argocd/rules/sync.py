"""Rules about the sync status: does the cluster hold what the compared revision says, and if not, who will see to it?"""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import by, names, wait
from airflow_pipeops.waits.status import shorts

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
