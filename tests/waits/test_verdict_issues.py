"""The traps that others fell into, by the numbers of their issues: a row of looks, and what must be said of the last.

The numbers are those of argoproj/argo-cd unless another project is named. Issues of one kind share their row of looks.
"""

from __future__ import annotations

from typing import Any

import pytest

from airflow_pipeops.waits.status import Trouble
from airflow_pipeops.waits.verdict import Expectation
from tests.waits.looks import (
    NEW,
    NEWER,
    OLD,
    RENDERED,
    RENDERED_OLD,
    app,
    at,
    contains,
    expect,
    hydrated,
    op,
    rolling,
    several,
    story,
)

out = {"sync": "OutOfSync"}
before = app(OLD, state=op(revision=OLD))


def failed_at(revision: str, message: str = "no", **more: Any) -> dict[str, Any]:
    return op("Failed", revision, message=message, **more)


def retrying(revision: str, refresh: bool = False) -> dict[str, Any]:
    state = op("Running", revision, retryCount=2, message="Retrying attempt #2", finishedAt=at(-5))
    state["operation"]["retry"] = {"limit": -1, "refresh": refresh}
    return state


def condition(kind: str, message: str) -> list[dict[str, str]]:
    return [{"type": kind, "message": message}]


def prune_only() -> list[dict[str, Any]]:
    return [{"kind": "ConfigMap", "name": "old", "status": "OutOfSync", "requiresPruning": True}]


def partial(phase: str, revision: str = NEW) -> dict[str, Any]:
    state = op(phase, revision, message="no")
    state["operation"]["sync"] |= {
        "resources": [{"kind": "Deployment", "name": "api"}],
        "autoHealAttemptsCount": 1,
    }
    return state


def dry(phase: str) -> dict[str, Any]:
    state = op(phase, message="no")
    state["operation"]["sync"]["dryRun"] = True
    return state


#: name -> (issues, expectation, looks, state, rule)
ROWS: dict[str, tuple[str, Expectation, list[Any], str, str]] = {
    "green_before_the_commit_is_noticed": (
        "kargo_6357 12211 10274 542 26173 8496 10138 6013 733 kargo_41 kargo_60 kargo_670 kargo_4577 kargo_6708 10550 "
        "14266 kustomize_controller_653",
        expect(),
        [(0, before), (30, before), (60, before)],
        "wait",
        "not_compared",
    ),
    "an_operation_that_ends_between_two_looks_is_judged_by_its_revision": (
        "5592 13637",
        expect(),
        [
            (0, app(**out, state=op("Running"), queued=True)),
            (9, app(NEWER, state=op(revision=NEWER), compared=9)),
        ],
        "wait",
        "not_compared",
    ),
    "health_right_after_the_operation_is_that_of_the_old_pods": (
        "argocd_commenter_1044 argocd_commenter_1087",
        expect(),
        [(0, app(state=op(ended=-1))), (30, app(state=op(ended=-1)))],
        "wait",
        "settling",
    ),
    "a_short_degradation_is_no_failure": (
        "21198 27871 kargo_6431",
        expect(),
        [
            (0, app(health="Degraded", since=-10)),
            (50, app(health="Progressing", since=45, compared=50)),
            (55, app(health="Degraded", since=54, compared=55)),
            (110, app(health="Degraded", since=54, compared=110)),
        ],
        "wait",
        "degraded",
    ),
    "a_retry_keeps_to_its_old_revision": (
        "11494 2156 14666 19275",
        expect(),
        [(0, app(**out, state=retrying(OLD), queued=True))],
        "wait",
        "retrying",
    ),
    "a_retry_goes_back_to_another_revision": (
        "23547 23591",
        expect(),
        [
            (0, app(**out, state=retrying(NEW), queued=True)),
            (9, app(OLD, state=op(revision=OLD), compared=9)),
        ],
        "wait",
        "not_compared",
    ),
    "a_commit_right_after_the_sync": (
        "18153",
        contains((NEWER, True)),
        [(0, app(NEWER, **out, state=op(revision=NEW)))],
        "wait",
        "out_of_sync",
    ),
    "auto_sync_never_tries_a_failed_commit_again": (
        "argo_cd_docs",
        expect(),
        [
            (
                0,
                app(
                    **out,
                    state=failed_at(NEW),
                    conditions=condition("SyncError", f"Failed last sync attempt to [{NEW}]"),
                ),
            )
        ],
        "failed",
        "operation_failed",
    ),
    "auto_sync_gives_up_for_good_after_a_failure_without_result": (
        "argo_cd_already_attempted_sync",
        expect(),
        [(0, app(**out, state={**failed_at(OLD), "syncResult": None}))],
        "failed",
        "autosync_gave_up",
    ),
    "auto_sync_will_not_wipe_out_everything": (
        "argo_cd_allow_empty",
        expect(),
        [
            (
                0,
                app(
                    **out,
                    state=op(revision=OLD),
                    conditions=condition(
                        "SyncError",
                        f"Skipping sync attempt to [{NEW}]: auto-sync will wipe out all resources",
                    ),
                ),
            )
        ],
        "failed",
        "sync_error",
    ),
    "a_sync_window_holds_the_operation": (
        "26215 25361 20799 21692 pr_16492",
        expect(),
        [(0, app(**out, state=op("Running", message="Sync operation blocked by sync window"), queued=True))],
        "wait",
        "sync_window",
    ),
    "a_sync_window_that_may_not_be_waited_for": (
        "26215 20799",
        expect(on_window="fail"),
        [(0, app(**out, state=op("Running", message="Sync operation blocked by sync window"), queued=True))],
        "failed",
        "sync_window",
    ),
    "a_condition_that_a_closed_window_left_behind": (
        "25361",
        expect(),
        [(0, app(conditions=condition("SyncError", f"Failed last sync attempt to [{NEW}]: no")))],
        "done",
        "healthy",
    ),
    "another_operation_in_progress": (
        "4505 20372 12141 6674 17155",
        expect(),
        [(0, app(**out, state=op("Running", OLD), queued=True))],
        "wait",
        "operation_running",
    ),
    "a_ghost_that_runs_for_ever": (
        "18613 23765 28814 28970",
        expect(),
        [(0, app(state=op("Running", startedAt=at(-400))))],
        "done",
        "healthy",
    ),
    "a_ghost_that_terminates_for_ever": (
        "17254 4811",
        expect(),
        [(0, app(state=op("Terminating", startedAt=at(-400))))],
        "done",
        "healthy",
    ),
    "an_operation_that_terminates_while_a_hook_holds_it": (
        "6055",
        expect(),
        [(0, app(state=op("Terminating"), queued=True))],
        "wait",
        "operation_running",
    ),
    "a_repository_that_does_not_answer_for_a_while": (
        "8974 9115 3864 pr_16085",
        expect(),
        [
            (0, app("main", "Unknown", conditions=condition("ComparisonError", "rpc error"))),
            (170, app("main", "Unknown", compared=170, conditions=condition("ComparisonError", "rpc error"))),
            (175, app(compared=175)),
        ],
        "done",
        "healthy",
    ),
    "a_difference_that_never_ends_is_accepted": (
        "perpetual_difference",
        expect(on_out_of_sync="accept"),
        [(0, app(**out))],
        "done",
        "healthy",
    ),
    "a_difference_that_never_ends_is_refused": (
        "perpetual_difference",
        expect(on_out_of_sync="fail"),
        [(0, app(**out)), (31, app(**out, compared=31))],
        "failed",
        "out_of_sync_after_sync",
    ),
    "a_commit_that_is_about_other_applications": (
        "18326 19967 27727 27971 14242 21014 16601 7629 17253",
        expect(),
        [(0, app(state=op(revision=OLD), history=[{"id": 1, "revision": OLD}]))],
        "done",
        "healthy",
    ),
    "a_commit_that_is_about_other_applications_and_must_be_applied": (
        "17253",
        expect(require_applied=True),
        [(0, app(state=op(revision=OLD), history=[{"id": 1, "revision": OLD}]))],
        "failed",
        "not_applied",
    ),
    "an_unaffected_application_lags_until_the_next_poll": (
        "19967",
        expect(),
        [(0, before), (150, app(state=op(revision=OLD), compared=150))],
        "done",
        "healthy",
    ),
    "auto_sync_passes_over_a_commit_that_came_during_a_sync": (
        "27875",
        expect(),
        [(time, app(**out, state=op(revision=OLD), compared=time)) for time in (0, 9, 18)],
        "wait",
        "out_of_sync",
    ),
    "one_source_of_several_is_behind": (
        "22857 20791 12528",
        expect(),
        [(0, several("1.2.3", OLD))],
        "wait",
        "not_compared",
    ),
    "a_stale_revision_of_one_source_is_synchronised": (
        "29716",
        expect(basis="applied"),
        [(0, several("1.2.3", NEW, state=op(syncResult={"revisions": ["1.2.3", OLD]})))],
        "failed",
        "applied_elsewhere",
    ),
    "a_source_that_others_advance_is_the_expected_one_all_the_same": (
        "octopus_10127",
        expect(revisions={"1": NEW}),
        [(0, several("1.9.9", NEW))],
        "done",
        "healthy",
    ),
    "a_commit_that_needs_no_rendering": (
        "25694",
        expect(),
        [
            (
                0,
                hydrated(
                    (OLD, RENDERED_OLD), compared=NEW, desired=RENDERED_OLD, state=op(revision=RENDERED_OLD)
                ),
            )
        ],
        "done",
        "healthy",
    ),
    "a_poll_that_does_not_render": (
        "26281 pr_25845",
        expect(),
        [(0, hydrated((OLD, RENDERED_OLD), desired=RENDERED_OLD, state=op(revision=RENDERED_OLD)))],
        "wait",
        "not_hydrated",
    ),
    "a_commit_that_is_rendered_and_live": (
        "pr_22303",
        expect(),
        [(0, hydrated((NEW, RENDERED), desired=RENDERED, state=op(revision=RENDERED)))],
        "done",
        "healthy",
    ),
    "a_rendering_of_the_commit_before": (
        "pr_28878",
        expect(),
        [(0, hydrated((OLD, RENDERED_OLD), dry=OLD, desired=RENDERED_OLD, state=op(revision=RENDERED_OLD)))],
        "wait",
        "not_hydrated",
    ),
    "a_failed_hook_under_a_green_dashboard": (
        "5837 9721 1887",
        expect(),
        [(0, app(state=failed_at(NEW)))],
        "failed",
        "operation_failed",
    ),
    "a_dry_run_that_fails_changes_nothing": (
        "3856 6304 16131",
        expect(),
        [(0, app(state=dry("Failed")))],
        "done",
        "healthy",
    ),
    "a_dry_run_is_no_sync": (
        "21899 22064",
        expect(require_applied=True),
        [(0, app(state=dry("Succeeded")))],
        "failed",
        "not_applied",
    ),
    "a_later_self_heal_of_a_good_release_fails": (
        "self_heal",
        expect(),
        [(0, app(**out, state=partial("Failed"), history=[{"id": 2, "revision": NEW}]))],
        "failed",
        "operation_failed",
    ),
    "a_failed_self_heal_that_somebody_mended": (
        "self_heal",
        expect(),
        [(0, app(state=partial("Failed"), history=[{"id": 2, "revision": NEW}]))],
        "done",
        "healthy",
    ),
    "only_pruning_is_left_and_it_is_off": (
        "prune_off",
        expect(on_out_of_sync="accept"),
        [(0, app(**out, automated={}, state=op(revision=OLD), resources=prune_only()))],
        "done",
        "healthy",
    ),
    "a_namespace_that_the_project_does_not_permit": (
        "apps_in_any_namespace",
        expect(),
        [
            (
                0,
                app(
                    sync="Unknown",
                    conditions=condition("InvalidSpecError", "is not permitted to use project 'ml'"),
                ),
            )
        ],
        "failed",
        "invalid_spec",
    ),
    "a_namespace_that_the_controller_does_not_serve": (
        "apps_in_any_namespace",
        expect(),
        [(0, {"metadata": {"name": "api", "uid": "u1"}, "spec": app()["spec"]}, False)],
        "wait",
        "not_compared",
    ),
}
CASES = {
    f"{f'argo_cd_{issue}' if issue[0].isdigit() or issue.startswith('pr_') else issue}_{name}": row[1:]
    for name, row in ROWS.items()
    for issue in row[0].split()
}


@pytest.mark.parametrize("name", CASES)
def test_issue(name: str) -> None:
    expectation, looks, state, rule = CASES[name]
    verdict = story(expectation, *looks)
    assert (verdict.state, verdict.rule) == (state, rule), verdict.reason
    assert verdict.reason


#: Progressive syncs: ApplicationSet beside the Application -> state, rule. argo_cd_12202, argo_cd_23186, argo_cd_pr_13926.
STEPS: dict[str, tuple[Any, str, str]] = {
    "argo_cd_12202_waits_for_its_step": (rolling("Waiting"), "wait", "rolling_sync"),
    "argo_cd_23186_pending": (rolling("Pending"), "wait", "rolling_sync"),
    "argo_cd_pr_13926_progressing": (rolling("Progressing"), "wait", "rolling_sync"),
    "not_listed_yet": ({**rolling("Waiting"), "status": {}}, "wait", "rolling_sync"),
    "selected_by_no_step": (rolling("Waiting", "-1"), "failed", "manual_sync_needed"),
    "done_and_drifted_since": (rolling("Healthy", targetRevisions=[NEW]), "failed", "manual_sync_needed"),
    "done_with_the_commit_before": (rolling("Healthy", targetRevisions=[OLD]), "wait", "rolling_sync"),
    "not_a_rolling_one": ({"metadata": {"name": "all"}, "spec": {}}, "failed", "manual_sync_needed"),
    "nobody_looked": (None, "wait", "out_of_sync"),
}


@pytest.mark.parametrize("name", STEPS)
def test_child_of_an_application_set(name: str) -> None:
    application_set, state, rule = STEPS[name]
    owner = {"ownerReferences": [{"kind": "ApplicationSet", "name": "all"}]}
    child = app(**out, state=op(revision=OLD), automated={"enabled": False}, metadata=owner)
    verdict = story(expect(), (0, child), application_set=application_set)
    assert (verdict.state, verdict.rule) == (state, rule), verdict.reason
    assert story(expect(), (0, app(metadata=owner)), application_set=application_set).state == "done"


DENY = {"kind": "deny", "schedule": "0 20 * * *", "duration": "11h"}
ALLOW = {"kind": "allow", "schedule": "0 8 * * *", "duration": "8h"}


@pytest.mark.parametrize(
    ("windows", "policy", "state", "rule"),
    [
        ({"activeWindows": [DENY], "assignedWindows": [DENY]}, "wait", "wait", "sync_window"),
        ({"activeWindows": [DENY], "assignedWindows": [DENY]}, "fail", "failed", "sync_window"),
        ({"assignedWindows": [ALLOW]}, "fail", "failed", "sync_window"),
        ({"activeWindows": [ALLOW], "assignedWindows": [ALLOW, DENY]}, "fail", "wait", "out_of_sync"),
        ({}, "fail", "wait", "out_of_sync"),
    ],
)
def test_a_closed_window_keeps_auto_sync_from_starting(
    windows: Any, policy: str, state: str, rule: str
) -> None:
    waiting = app(**out, state=op(revision=OLD))
    verdict = story(expect(on_window=policy), (0, waiting), sync_windows=windows)
    assert (verdict.state, verdict.rule) == (state, rule), verdict.reason
    after_a_failure = app(**out, state=failed_at(OLD))
    expected = "older_operation_failed" if rule == "out_of_sync" else rule
    verdict = story(expect(on_window=policy), (0, after_a_failure), sync_windows=windows)
    assert (verdict.state, verdict.rule) == (state, expected), verdict.reason


def test_an_application_that_is_waited_for_to_go() -> None:
    gone, missing = expect(revisions={}, gone=True), Trouble("missing", "no")
    going = app(
        metadata={"deletionTimestamp": at(0), "finalizers": ["resources-finalizer.argocd.argoproj.io"]}
    )
    assert story(gone, (0, app())).rule == "not_deleting"
    assert "resources-finalizer" in story(gone, (0, going)).reason
    assert story(gone, (0, going), (1, missing)).state == "wait"
    for looks in (
        [(0, going), (1, missing), (2, missing)],
        [(0, missing), (1, missing)],
        [(0, app()), (1, app(metadata={"uid": "u2"}))],
    ):
        verdict = story(gone, *looks)
        assert (verdict.state, verdict.rule) == ("done", "gone")
    assert story(gone, (0, Trouble("denied")), (1, Trouble("denied"))).state == "failed"
    assert story(gone, (0, going), (1, missing), (2, going), (3, missing)).state == "wait"
    assert story(expect(gone=True, timeout=60.0), (0, going), (60, going)).rule == "deadline"
    stuck = app(metadata={"deletionTimestamp": at(0)}, conditions=condition("DeletionError", "no cluster"))
    assert "no cluster" in story(gone, (0, stuck)).reason
