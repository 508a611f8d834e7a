"""The rules of the wait, one named case for each, and the truth table of what a status can look like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_pipeops.waits.status import Condition, Observed, Operation, Resource, Source, Trouble
from airflow_pipeops.waits.verdict import Expectation, Memory
from tests.waits.judging import decide, questions

NEW, OLD, NEWER = "a" * 40, "b" * 40, "c" * 40
REPO = "https://git.example.com/team/deploy.git"
#: The server's clock at the first look.
T = 1_000_000.0


def operation(phase: str = "Succeeded", revision: str = NEW, **changes: Any) -> Operation:
    ended = None if phase in ("Running", "Terminating") else T - 60
    base = Operation(
        phase=phase,
        revisions=(revision,),
        asked=(revision,),
        has_result=True,
        started_at=T - 70,
        finished_at=ended,
        queued=phase == "Running",
    )
    return replace(base, **changes)


def seen(**changes: Any) -> Observed:
    """Return a look at an application that is live and healthy at NEW, answered by a refresh."""
    base = Observed(
        name="api",
        namespace="argocd",
        project="ml",
        uid="u1",
        sources=(Source(REPO, "main"),),
        desired=(NEW,),
        sync="Synced",
        health="Healthy",
        health_since=T - 50,
        compared_at=T,
        operation=operation(),
        automatic=True,
        self_heal=True,
        refreshed=True,
    )
    return replace(base, **changes)


def expect(**changes: Any) -> Expectation:
    return replace(Expectation(revisions={"*": NEW}), **changes)


def judge(observed: Any, expectation: Expectation | None = None, *, times: tuple[float, ...] = (0.0,)) -> Any:
    """Look at the same thing at several times, and return the last verdict."""
    memory = Memory()
    for time in times:
        verdict, memory = decide(observed, expectation or expect(), memory, time)
    return verdict


out_of_sync = {"sync": "OutOfSync", "resources": (Resource("Deployment", "api", sync="OutOfSync"),)}
degraded = {
    "health": "Degraded",
    "resources": (Resource("Deployment", "api", health="Degraded", message="probe failed"),),
}
contains = {"match": "contains", "oracle": True}

CASES: dict[str, tuple[Any, Expectation, tuple[float, ...], str, str]] = {
    # transport
    "denied_once": (Trouble("denied", "no"), expect(), (0,), "wait", "access_denied"),
    "denied_twice": (Trouble("denied", "no"), expect(), (0, 1), "failed", "access_denied"),
    "missing_twice": (Trouble("missing", "no"), expect(), (0, 1), "failed", "app_not_found"),
    "unreachable_for_a_while": (Trouble("unreachable"), expect(), (0, 300), "wait", "unreachable"),
    "unreachable_beyond_grace": (Trouble("unreachable"), expect(), (0, 300, 600), "failed", "unreachable"),
    "nonsense": (Trouble("nonsense"), expect(), (0, 600), "failed", "unreachable"),
    # the object
    "deleting": (seen(deleting=True), expect(), (0,), "failed", "deleting"),
    "skip_reconcile": (seen(ignored="annotation"), expect(), (0,), "failed", "skip_reconcile"),
    "invalid_spec_after_refresh": (
        seen(conditions=(Condition("InvalidSpecError", "no such path"),)),
        expect(),
        (0,),
        "failed",
        "invalid_spec",
    ),
    "invalid_spec_not_refreshed": (
        seen(conditions=(Condition("InvalidSpecError", "no such path"),), refreshed=False),
        expect(),
        (0,),
        "wait",
        "invalid_spec",
    ),
    "comparison_error_in_grace": (
        seen(conditions=(Condition("ComparisonError", "rpc"),)),
        expect(),
        (0, 100),
        "wait",
        "comparison_error",
    ),
    "comparison_error_beyond_grace": (
        seen(conditions=(Condition("ComparisonError", "rpc"),)),
        expect(),
        (0, 100, 180),
        "failed",
        "comparison_error",
    ),
    "status_too_large": (
        seen(conditions=(Condition("ComparisonError", "Application status exceeds the limit"),)),
        expect(),
        (0,),
        "failed",
        "comparison_error",
    ),
    # expectations that can never be met
    "no_revision": (seen(), expect(revisions={}), (0,), "failed", "revision_missing"),
    "branch_is_no_revision": (seen(), expect(revisions={"*": "main"}), (0,), "failed", "revision_not_sha"),
    "short_sha_is_no_revision": (
        seen(),
        expect(revisions={"*": NEW[:8]}),
        (0,),
        "failed",
        "revision_not_sha",
    ),
    "unknown_source": (seen(), expect(revisions={"https://x/y": NEW}), (0,), "failed", "source_unknown"),
    "unknown_index": (seen(), expect(revisions={"1": NEW}), (0,), "failed", "source_unknown"),
    "ambiguous_source": (
        seen(sources=(Source(REPO), Source("https://x/y"))),
        expect(),
        (0,),
        "failed",
        "source_ambiguous",
    ),
    "pinned_elsewhere": (
        seen(sources=(Source(REPO, OLD),), desired=(OLD,)),
        expect(),
        (0,),
        "failed",
        "pinned_elsewhere",
    ),
    "pinned_to_it": (seen(sources=(Source(REPO, NEW),)), expect(), (0,), "done", "healthy"),
    "pinned_unknown_yet": (
        seen(sources=(Source(REPO, NEWER),), desired=(NEWER,)),
        expect(**contains),
        (0,),
        "wait",
        "not_compared",
    ),
    # revisions
    "false_green_of_the_old_revision": (
        seen(desired=(OLD,), operation=operation(revision=OLD)),
        expect(),
        (0, 100),
        "wait",
        "not_compared",
    ),
    "contains": (
        seen(desired=(NEWER,)),
        expect(**contains, contained={f"{NEW}..{NEWER}": True}),
        (0,),
        "done",
        "healthy",
    ),
    "contains_not": (
        seen(desired=(OLD,)),
        expect(**contains, contained={f"{NEW}..{OLD}": False}),
        (0,),
        "wait",
        "not_compared",
    ),
    "contains_without_oracle_is_exact": (
        seen(desired=(NEWER,)),
        expect(match="contains", contained={f"{NEW}..{NEWER}": True}),
        (0,),
        "wait",
        "not_compared",
    ),
    "any": (seen(desired=(OLD,)), Expectation(match="any"), (0,), "done", "healthy"),
    "multi_source": (
        seen(sources=(Source("oci://x", "1.2", True), Source(REPO)), desired=("1.2.3", NEW)),
        expect(),
        (0,),
        "done",
        "healthy",
    ),
    "multi_source_other_at_old": (
        seen(sources=(Source(REPO), Source("git@git.example.com:team/deploy")), desired=(NEW, OLD)),
        expect(),
        (0,),
        "wait",
        "not_compared",
    ),
    "multi_source_by_url": (
        seen(sources=(Source("https://x/y"), Source(REPO)), desired=(OLD, NEW)),
        expect(revisions={"git@GIT.example.com:team/deploy": NEW}),
        (0,),
        "done",
        "healthy",
    ),
    "chart_version": (
        seen(sources=(Source("https://charts", "1.x", True),), desired=("1.2.3",)),
        expect(revisions={"*": "1.2.3"}),
        (0,),
        "done",
        "healthy",
    ),
    "missing_revision_of_a_source": (
        seen(sources=(Source(REPO), Source(REPO)), desired=(NEW,)),
        expect(),
        (0,),
        "wait",
        "not_compared",
    ),
    # operations
    "queued": (
        seen(operation=operation("", queued=True, finished_at=None)),
        expect(),
        (0,),
        "wait",
        "operation_running",
    ),
    "running_post_sync_hook": (
        seen(operation=operation("Running")),
        expect(),
        (0, 100),
        "wait",
        "operation_running",
    ),
    "terminating": (seen(operation=operation("Terminating")), expect(), (0,), "wait", "operation_running"),
    "retrying": (
        seen(operation=operation("Running", finished_at=T - 5, message="Retrying attempt #1"), **out_of_sync),
        expect(),
        (0, 500),
        "wait",
        "retrying",
    ),
    "window_wait": (
        seen(operation=operation("Running", message="blocked by sync window")),
        expect(),
        (0,),
        "wait",
        "sync_window",
    ),
    "window_fail": (
        seen(operation=operation("Running", message="blocked by sync window")),
        expect(on_window="fail"),
        (0,),
        "failed",
        "sync_window",
    ),
    "ghost_with_an_end": (
        seen(operation=operation("Running", queued=False, finished_at=T - 5)),
        expect(),
        (0,),
        "done",
        "healthy",
    ),
    "ghost_by_age": (
        seen(operation=operation("Running", queued=False, started_at=T - 301)),
        expect(),
        (0,),
        "done",
        "healthy",
    ),
    "young_without_request_is_no_ghost": (
        seen(operation=operation("Running", queued=False)),
        expect(),
        (0,),
        "wait",
        "operation_running",
    ),
    "failed_at_it": (
        seen(operation=operation("Failed"), **out_of_sync),
        expect(),
        (0,),
        "failed",
        "operation_failed",
    ),
    "error_at_it": (
        seen(operation=operation("Error"), **out_of_sync),
        expect(),
        (0,),
        "failed",
        "operation_failed",
    ),
    "failed_hook_under_a_green_dashboard": (
        seen(operation=operation("Failed")),
        expect(),
        (0,),
        "failed",
        "operation_failed",
    ),
    "older_failed_auto_sync_will_start": (
        seen(operation=operation("Failed", OLD), **out_of_sync),
        expect(),
        (0,),
        "wait",
        "older_operation_failed",
    ),
    "contained_failed_and_newer_will_start": (
        seen(desired=(NEWER,), operation=operation("Failed", NEW), **out_of_sync),
        expect(**contains, contained={f"{NEW}..{NEWER}": True}),
        (0,),
        "wait",
        "older_operation_failed",
    ),
    "newer_that_contains_it_failed": (
        seen(desired=(NEWER,), operation=operation("Failed", NEWER), **out_of_sync),
        expect(**contains, contained={f"{NEW}..{NEWER}": True}),
        (0,),
        "failed",
        "operation_failed",
    ),
    "failed_without_result_stops_auto_sync": (
        seen(operation=operation("Error", OLD, has_result=False, revisions=()), **out_of_sync),
        expect(),
        (0,),
        "failed",
        "autosync_gave_up",
    ),
    "older_failed_but_synced": (seen(operation=operation("Failed", OLD)), expect(), (0,), "done", "healthy"),
    "older_failed_manual": (
        seen(operation=operation("Failed", OLD), automatic=False, **out_of_sync),
        expect(),
        (0,),
        "failed",
        "manual_sync_needed",
    ),
    "dry_run_does_not_count": (
        seen(operation=operation("Failed", dry_run=True)),
        expect(),
        (0,),
        "done",
        "healthy",
    ),
    "sync_error_names_it": (
        seen(
            operation=None,
            conditions=(Condition("SyncError", f"Failed last sync attempt to [{NEW}]: x"),),
            **out_of_sync,
        ),
        expect(),
        (0,),
        "failed",
        "sync_error",
    ),
    "sync_error_wipe_out": (
        seen(
            operation=operation(revision=OLD),
            conditions=(
                Condition(
                    "SyncError", f"Skipping sync attempt to [{NEW}]: auto-sync will wipe out all resources"
                ),
            ),
            **out_of_sync,
        ),
        expect(),
        (0,),
        "failed",
        "sync_error",
    ),
    "sync_error_of_another": (
        seen(conditions=(Condition("SyncError", f"Failed last sync attempt to [{OLD}]: x"),)),
        expect(),
        (0,),
        "done",
        "healthy",
    ),
    # sync status
    "unknown_sync": (seen(sync="Unknown"), expect(), (0,), "wait", "sync_unknown"),
    "out_of_sync_auto": (seen(operation=None, **out_of_sync), expect(), (0,), "wait", "out_of_sync"),
    "out_of_sync_manual": (
        seen(operation=None, automatic=False, **out_of_sync),
        expect(),
        (0,),
        "failed",
        "manual_sync_needed",
    ),
    "out_of_sync_manual_wait": (
        seen(operation=None, automatic=False, **out_of_sync),
        expect(on_manual="wait"),
        (0,),
        "wait",
        "manual_sync_needed",
    ),
    "out_of_sync_in_application_set": (
        seen(operation=None, automatic=False, owner="ApplicationSet", **out_of_sync),
        expect(),
        (0,),
        "wait",
        "out_of_sync",
    ),
    "perpetual_difference_wait": (seen(**out_of_sync), expect(), (0,), "wait", "out_of_sync_after_sync"),
    "perpetual_difference_fail": (
        seen(**out_of_sync),
        expect(on_out_of_sync="fail"),
        (0, 29, 30),
        "failed",
        "out_of_sync_after_sync",
    ),
    "difference_that_self_heal_may_mend_when_a_window_opens": (
        seen(self_heal=True, blocked="a window denies it", **out_of_sync),
        expect(on_out_of_sync="fail"),
        (0, 29, 300),
        "wait",
        "sync_window",
    ),
    "difference_where_a_closed_window_fails": (
        seen(self_heal=True, blocked="a window denies it", **out_of_sync),
        expect(on_out_of_sync="fail", on_window="fail"),
        (0,),
        "failed",
        "sync_window",
    ),
    "perpetual_difference_accept": (
        seen(**out_of_sync),
        expect(on_out_of_sync="accept"),
        (0,),
        "done",
        "healthy",
    ),
    "prune_pending": (
        seen(sync="OutOfSync", resources=(Resource("ConfigMap", "old", sync="OutOfSync", prune=True),)),
        expect(on_out_of_sync="fail"),
        (0, 29, 30),
        "failed",
        "prune_pending",
    ),
    "change_nothing_here": (seen(operation=operation(revision=OLD)), expect(), (0,), "done", "healthy"),
    "change_nothing_here_required": (
        seen(operation=operation(revision=OLD)),
        expect(require_applied=True),
        (0,),
        "failed",
        "not_applied",
    ),
    # freshness
    "equal_seconds_are_not_after": (
        seen(operation=operation(finished_at=T)),
        expect(),
        (0, 100),
        "wait",
        "stale",
    ),
    "compared_before_the_end": (
        seen(operation=operation(finished_at=T + 3)),
        expect(),
        (0, 100),
        "wait",
        "stale",
    ),
    "never_compared": (seen(compared_at=None, refreshed=False), expect(), (0, 100), "wait", "stale"),
    "not_refreshed": (seen(refreshed=False), expect(), (0, 100), "wait", "stale"),
    "refresh_not_needed": (seen(refreshed=False), expect(require_refresh=False), (0,), "done", "healthy"),
    # health
    "settling": (seen(health_since=T - 1, operation=None), expect(), (0, 3), "wait", "settling"),
    "settled_by_our_clock": (
        seen(health_since=T - 1, operation=None),
        expect(),
        (0, 3, 5),
        "done",
        "healthy",
    ),
    "settling_after_operation": (
        seen(operation=operation(finished_at=T - 1)),
        expect(),
        (0,),
        "wait",
        "settling",
    ),
    "progressing": (seen(health="Progressing"), expect(), (0, 1000), "wait", "progressing"),
    "missing_health": (seen(health="Missing"), expect(), (0,), "wait", "progressing"),
    "unknown_health": (seen(health="Unknown"), expect(), (0,), "wait", "progressing"),
    "suspended_wait": (seen(health="Suspended"), expect(), (0,), "wait", "suspended"),
    "suspended_accept": (seen(health="Suspended"), expect(on_suspended="accept"), (0,), "done", "suspended"),
    "suspended_fail": (seen(health="Suspended"), expect(on_suspended="fail"), (0,), "failed", "suspended"),
    "degraded_in_grace": (seen(**degraded), expect(), (0, 59), "wait", "degraded"),
    "degraded_beyond_grace": (seen(**degraded), expect(), (0, 59, 60), "failed", "degraded"),
    "degraded_before_it_is_applied": (
        seen(desired=(OLD,), operation=operation(revision=OLD), **degraded),
        expect(),
        (0, 1000),
        "wait",
        "not_compared",
    ),
    "health_does_not_matter": (seen(**degraded), expect(require_health=False), (0, 5), "done", "healthy"),
    "deadline": (seen(health="Progressing"), expect(timeout=100.0), (0, 50, 100), "failed", "deadline"),
    "no_deadline": (seen(health="Progressing"), expect(timeout=None), (0, 1e9), "wait", "progressing"),
    # waiting for an operation of ours, or for none at all
    "ours_not_visible_yet": (
        seen(operation=operation(revision=OLD)),
        expect(basis="applied", operation_id="me"),
        (0, 59),
        "wait",
        "operation_not_visible",
    ),
    "ours_lost": (
        seen(operation=operation("Failed", OLD)),
        expect(basis="applied", operation_id="me"),
        (0, 59, 60),
        "failed",
        "operation_lost",
    ),
    "ours_succeeded_behind_the_tip": (
        seen(desired=(NEWER,), automatic=False, operation=operation(ids={"id": "me"}), **out_of_sync),
        expect(basis="applied", operation_id="me"),
        (0,),
        "done",
        "healthy",
    ),
    "ours_failed": (
        seen(operation=operation("Failed", ids={"id": "me"})),
        expect(basis="applied", operation_id="me"),
        (0,),
        "failed",
        "operation_failed",
    ),
    "ours_applied_another_revision": (
        seen(operation=operation(revision=NEWER, ids={"id": "me"})),
        expect(basis="applied", operation_id="me"),
        (0,),
        "failed",
        "applied_elsewhere",
    ),
    "idle": (seen(), Expectation(basis="idle"), (0,), "done", "idle"),
    "not_idle": (
        seen(operation=operation("Running")),
        Expectation(basis="idle"),
        (0,),
        "wait",
        "operation_running",
    ),
    "ghost_is_idle": (
        seen(operation=operation("Running", queued=False, finished_at=T)),
        Expectation(basis="idle"),
        (0,),
        "done",
        "idle",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    observed, expectation, times, state, rule = CASES[name]
    verdict = judge(observed, expectation, times=times)
    assert (verdict.state, verdict.rule) == (state, rule), verdict.reason
    assert verdict.reason


#: desired is it, sync, phase of the operation, operation is at it, fresh, health -> state
TRUTH = [
    (False, "Synced", "Succeeded", False, True, "Healthy", "wait"),
    (False, "Unknown", None, False, True, "Healthy", "wait"),
    (True, "OutOfSync", None, False, True, "Healthy", "wait"),
    (True, "OutOfSync", "Succeeded", False, True, "Healthy", "wait"),
    (True, "OutOfSync", "Running", True, True, "Healthy", "wait"),
    (True, "OutOfSync", "Failed", True, True, "Healthy", "failed"),
    (True, "OutOfSync", "Succeeded", True, True, "Healthy", "wait"),
    (True, "Synced", "Running", True, True, "Healthy", "wait"),
    (True, "Synced", "Succeeded", True, False, "Healthy", "wait"),
    (True, "Synced", "Succeeded", True, True, "Progressing", "wait"),
    (True, "Synced", "Succeeded", True, True, "Degraded", "wait"),
    (True, "Synced", "Succeeded", True, True, "Healthy", "done"),
    (True, "Synced", "Succeeded", False, True, "Healthy", "done"),
    (True, "Synced", "Failed", True, True, "Healthy", "failed"),
    (True, "Synced", "Failed", False, True, "Healthy", "done"),
]


@pytest.mark.parametrize(("desired", "sync", "phase", "applied", "fresh", "health", "state"), TRUTH)
def test_truth_table(
    desired: bool, sync: str, phase: str | None, applied: bool, fresh: bool, health: str, state: str
) -> None:
    op = operation(phase, NEW if applied else OLD) if phase else None
    if op and not fresh:
        op = replace(op, finished_at=T)
    observed = seen(desired=(NEW if desired else OLD,), sync=sync, operation=op, health=health)
    assert judge(observed).state == state


def test_recreated_application_fails() -> None:
    _, memory = decide(seen(health="Progressing"), expect(), Memory(), 0)
    verdict, _ = decide(seen(uid="u2"), expect(), memory, 1)
    assert (verdict.state, verdict.rule) == ("failed", "recreated")


def test_application_that_vanishes_was_deleted() -> None:
    _, memory = decide(seen(health="Progressing"), expect(), Memory(), 0)
    _, memory = decide(Trouble("missing"), expect(), memory, 1)
    verdict, _ = decide(Trouble("missing"), expect(), memory, 2)
    assert (verdict.state, verdict.rule) == ("failed", "app_deleted")


def test_superseded_in_exact_mode_fails_after_two_refreshes() -> None:
    memory = Memory()
    for time, observed in enumerate([seen(health="Progressing"), *[seen(desired=(NEWER,))] * 3]):
        verdict, memory = decide(observed, expect(), memory, time)
    assert (verdict.state, verdict.rule) == ("failed", "superseded")


def test_a_flap_starts_the_degraded_grace_anew() -> None:
    memory = Memory()
    for time, health in [(0, "Degraded"), (50, "Progressing"), (55, "Degraded"), (110, "Degraded")]:
        verdict, memory = decide(seen(health=health), expect(), memory, time)
    assert (verdict.state, verdict.rule) == ("wait", "degraded")


def test_a_flap_between_two_looks_starts_the_settle_window_anew() -> None:
    memory = Memory()
    for time, since in [(0, T - 1), (4, T + 3), (6, T + 3)]:
        verdict, memory = decide(
            seen(health_since=since, compared_at=T, operation=None), expect(), memory, time
        )
    assert verdict.rule == "settling"


def test_a_first_comparison_of_its_own_needs_no_refresh() -> None:
    _, memory = decide(seen(refreshed=False), expect(), Memory(), 0)
    verdict, _ = decide(seen(refreshed=False, compared_at=T + 20), expect(), memory, 20)
    assert verdict.state == "done"


def test_refreshes_are_asked_for_ever_more_rarely() -> None:
    memory, asked = Memory(), 0
    for time in range(0, 600, 2):
        verdict, memory = decide(seen(desired=(OLD,)), expect(timeout=None), memory, time)
        asked += verdict.refresh
    assert 5 <= asked <= 12


def test_deadline_names_the_last_rule_and_for_how_long() -> None:
    verdict = judge(seen(health="Progressing"), expect(timeout=100.0), times=(0, 50, 100))
    assert verdict.details["last_rule"] == "progressing"
    assert "waited 100 s, for the last 100 s because Progressing" in verdict.reason


def test_notes_ride_along() -> None:
    assert (
        "nobody works on it"
        in judge(seen(operation=operation("Running", queued=False, finished_at=T))).details["warnings"][0]
    )
    assert "matched exactly" in judge(seen(), expect(match="contains")).details["warnings"][0]
    assert "earlier" in judge(seen(operation=operation("Failed", OLD))).details["warnings"][0]


def test_failed_hook_is_named() -> None:
    hook = Resource("Job", "migrate", hook="PreSync", phase="Failed", message="BackoffLimitExceeded")
    verdict = judge(seen(operation=operation("Failed", resources=(hook,))))
    assert "Job/migrate PreSync hook failed: BackoffLimitExceeded" in verdict.reason


def test_questions_are_those_not_answered_yet() -> None:
    observed = seen(desired=(NEWER,), operation=operation(revision=OLD))
    expectation = expect(**contains)
    assert questions(observed, expectation) == [(NEW, NEWER), (NEW, OLD)]
    assert questions(observed, replace(expectation, contained={f"{NEW}..{NEWER}": True})) == [(NEW, OLD)]
    assert questions(observed, expect()) == []
