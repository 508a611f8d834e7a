"""Rules about the sync status: does the cluster hold what the compared revision says, and if not, who will see to it?"""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import by, names, wait
from airflow_pipeops.waits.status import shorts

#: After so many acknowledged refreshes that started nothing, a person should have a look.
SILENT_AFTER = 3


def sync_unknown(k: ApplicationLook) -> Verdict | None:
    if k.e.basis != "desired" or k.o.sync in ("Synced", "OutOfSync"):
        return None
    return wait("sync_unknown", f"the sync status is {k.o.sync}", refresh=True)


def out_of_sync(k: ApplicationLook) -> Verdict | None:
    if k.e.basis != "desired" or k.o.sync == "Synced":
        return None
    if not k.fresh:
        return wait("stale", f"the sync status is from before {k.why_stale}", refresh=k.worth_comparing)
    listed = names((item for item in k.o.resources if item.sync == "OutOfSync"), "unnamed resources")
    applied = k.operation is not None and k.operation.phase == "Succeeded" and k.operation.at == k.o.desired
    if k.only_pruning and (applied or (k.o.automatic and not k.o.prunes)):
        return _differs(k, "prune_pending", f"applied, but not pruned because pruning is off: {listed}")
    if applied and k.applied_ok:
        return _differs(k, "out_of_sync_after_sync", f"applied, and still different from Git: {listed}")
    return _somebody_starts(k, listed)


def _differs(k: ApplicationLook, rule: str, reason: str) -> Verdict | None:
    policy = k.e.on_out_of_sync
    if policy == "fail" and rule == "out_of_sync_after_sync" and k.o.self_heal and k.o.blocked:
        return by(k.e.on_window, "sync_window", f"{reason}; self-heal waits for a sync window: {k.o.blocked}")
    if policy == "fail" and k.held("differs") < k.e.out_of_sync_grace:
        policy = "wait"  # a difference may be healed, or the cache may lag
    return by(policy, rule, reason, refresh=True)


def _somebody_starts(k: ApplicationLook, listed: str) -> Verdict | None:
    if k.o.automatic and k.o.blocked:
        reason = f"out of sync ({listed}); auto-sync waits for a sync window: {k.o.blocked}"
        return by(k.e.on_window, "sync_window", reason, refresh=True)
    if k.o.automatic:
        reason = f"out of sync ({listed}); auto-sync will start"
        if k.m.acknowledged >= SILENT_AFTER:
            reason += f"; {k.m.acknowledged} refreshes have not started it: is a sync window closed?"
        return wait("out_of_sync", reason, refresh=True)
    rollout = k.o.rollout
    if rollout is not None:
        done = rollout.status == "Healthy" and rollout.revisions == k.o.desired
        if rollout.step != "-1" and not done:
            said = f": {rollout.message}" if rollout.message else ""
            return wait(
                "rolling_sync",
                f"out of sync ({listed}); {rollout.status or 'not started'} in step {rollout.step or '?'} of the rolling "
                f"sync of {rollout.owner}{said}",
            )
        why = "is done with it" if done else "selects it in no step"
        reason = f"out of sync ({listed}), and the rolling sync of {rollout.owner} {why}: start a manual sync"
        return by(k.e.on_manual, "manual_sync_needed", reason)
    if k.o.owner == "ApplicationSet" and not k.o.owner_seen:
        return wait(
            "out_of_sync",
            f"out of sync ({listed}) and auto-sync is off; its ApplicationSet may start it in a later step (nobody could "
            "look at that)",
        )
    return by(
        k.e.on_manual,
        "manual_sync_needed",
        f"out of sync ({listed}) with {shorts(k.o.desired)}, and auto-sync is off: start a manual sync",
    )
