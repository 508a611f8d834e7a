"""What a status of Flux can look like, and what a wait must make of it: a named case per rule and per known bug report."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from airflow_pipeops.exceptions import BadResponse
from airflow_pipeops.flux.client import gather
from airflow_pipeops.flux.kinds import Ref
from airflow_pipeops.flux.objects import absent as observe_absent
from airflow_pipeops.flux.objects import observe
from airflow_pipeops.waits.status import Trouble
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from tests.flux.judging import decide, questions
from tests.flux.objects import (
    DIGEST,
    NEW,
    NEWER,
    OLD,
    OTHER_DIGEST,
    T1,
    T2,
    T3,
    at,
    chart,
    cond,
    failed,
    git,
    hr,
    ks,
    oci,
    snapshot,
    working,
)

BASE = Expectation(
    revisions={"*": NEW}, settle=0.0, on_suspended="fail", on_out_of_sync="accept", timeout=None
)
SOURCE = Ref("GitRepository", "flux-system", "deploy")
OWNER = Ref("Kustomization", "flux-system", "apps")


def expect(**changes: Any) -> Expectation:
    return replace(BASE, **changes)


def judge(*looks: Any, expectation: Expectation = BASE, step: float = 1.0) -> Verdict:
    """Judge looks that are ``step`` seconds apart; each is a list of objects, with missing ones as references."""
    memory, now = Memory(), 0.0
    for look in looks:
        verdict, memory = decide(seen(look), expectation, memory, now)
        now += step
    return verdict


def absent() -> Any:
    """Return what stands first in a look at an object that is not there."""
    return Absent("Kustomization", "flux-system", "apps")


class Absent(Ref):
    """An object that is not there."""


def seen(look: Any) -> Any:
    if isinstance(look, Trouble):
        return look
    if isinstance(look[0], Absent):
        return observe_absent(Ref(*look[0]), look[1:])
    missing = [item for item in look if isinstance(item, Ref)]
    found = observe([item for item in look if not isinstance(item, (Ref, str))], missing)
    return replace(found, refreshed="answered" in look)


def stopped(reason: str, message: str) -> list[Any]:
    return [cond("Ready", False, reason, message), cond("Stalled", True, reason, message)]


any_revision = expect(revisions={}, match="any")
contains = expect(match="contains", oracle=True)
knows_newer = replace(contains, contained={f"{NEW}..{NEWER}": True})
by_chart = expect(revisions={}, match="any", chart="1.2.3")
asked = replace(any_revision, operation_id="me.1")


def asks(token: str) -> dict[str, Any]:
    return {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}


def handled(token: str) -> dict[str, Any]:
    return {"status": {"lastHandledReconcileAt": token}}


HANDLED = {"lastHandledReconcileAt": "me.1"}

KUSTOMIZATIONS: dict[str, tuple[list[Any], Expectation, str, str]] = {
    # 1: the object
    "gone": ([Trouble("missing", "no")] * 2, BASE, "failed", "app_not_found"),
    "being_deleted": ([[ks(deletionTimestamp=T1), git()]], BASE, "failed", "deleting"),
    "created_again": ([[ks(OLD), git()], [ks(uid="other"), git()]], BASE, "failed", "recreated"),
    "not_there_yet": ([[absent(), git(OLD)]] * 9, BASE, "wait", "app_not_found"),
    "never_there": ([[absent(), git(OLD)]] * 182, BASE, "failed", "app_not_found"),
    "brought_by_the_commit": ([[absent(), git(OLD)]] * 9 + [[ks(NEW), git()]], BASE, "done", "ready"),
    "gone_once": ([[ks(OLD), git()], [absent(), git()]], BASE, "wait", "app_deleted"),
    "gone_twice": ([[ks(OLD), git()]] + [[absent(), git()]] * 2, BASE, "failed", "app_deleted"),
    # 2: suspended
    "suspended": ([[ks(OLD, suspend=True), git()]], BASE, "failed", "suspended"),
    "suspended_but_waited_for": (
        [[ks(OLD, suspend=True), git()]],
        expect(on_suspended="wait"),
        "wait",
        "suspended",
    ),
    "suspended_where_it_should_be": ([[ks(NEW, suspend=True), git()]], BASE, "failed", "suspended"),
    "suspended_there_and_accepted": (
        [[ks(NEW, None, cond("Ready", True, generation=1), suspend=True, generation=2), git()]],
        expect(on_suspended="accept"),
        "done",
        "ready",
    ),
    "suspended_elsewhere_is_never_accepted": (
        [[ks(OLD, suspend=True), git()]],
        expect(on_suspended="accept"),
        "failed",
        "suspended",
    ),
    "source_suspended_behind": ([[ks(OLD), git(OLD, suspend=True)]], BASE, "failed", "suspended"),
    "source_suspended_at_the_revision": ([[ks(OLD), git(NEW, suspend=True)]], BASE, "wait", "not_tried"),
    # 3: the source cannot fetch
    "fetch_fails_within_grace": (
        [[ks(OLD), git(OLD, cond("FetchFailed", True, "GitOperationFailed", "auth"))]] * 100,
        BASE,
        "wait",
        "source_failing",
    ),
    "fetch_fails_beyond_grace": (
        [[ks(OLD), git(OLD, cond("FetchFailed", True, "GitOperationFailed", "auth"))]] * 182,
        BASE,
        "failed",
        "source_failing",
    ),
    "fetch_recovers_and_fails_anew": (
        [[ks(OLD), git(OLD, cond("FetchFailed", True, "x", "y"))]] * 100
        + [[ks(OLD), git(OLD)]]
        + [[ks(OLD), git(OLD, cond("FetchFailed", True, "x", "y"))]] * 100,
        BASE,
        "wait",
        "source_failing",
    ),
    "signature_not_verified": (
        [[ks(OLD), git(OLD, cond("SourceVerified", False, "InvalidCommitSignature", "no"))]] * 182,
        BASE,
        "failed",
        "source_failing",
    ),
    "source_stalled": (
        [[ks(OLD), git(OLD, cond("Stalled", True, "URLInvalid", "bad scheme"))]],
        BASE,
        "failed",
        "source_stalled",
    ),
    "source_stalled_on_an_older_spec": (
        [[ks(OLD), git(OLD, cond("Stalled", True, "URLInvalid", "x"), generation=2)]],
        BASE,
        "wait",
        "source_behind",
    ),
    "source_fails_after_the_revision_was_applied": (
        [[ks(NEW), git(NEW, cond("FetchFailed", True, "GitOperationFailed", "auth"))]],
        BASE,
        "done",
        "ready",
    ),
    "source_missing_within_grace": ([[ks(OLD), SOURCE]] * 9, BASE, "wait", "source_missing"),
    "source_missing_beyond_grace": ([[ks(OLD), SOURCE]] * 182, BASE, "failed", "source_missing"),
    "source_not_looked_at": ([[ks(OLD)]], BASE, "wait", "source_behind"),
    "source_without_conditions_but_with_artifact": (
        [[ks(NEW), {**git(), "status": {"artifact": {"revision": at(NEW)}, "observedGeneration": 0}}]],
        BASE,
        "done",
        "ready",
    ),
    # 4: the source is elsewhere
    "source_behind": ([[ks(OLD), git(OLD)]], BASE, "wait", "source_behind"),
    "source_empty": ([[ks(""), git("")]], BASE, "wait", "source_behind"),
    "source_pinned_elsewhere": (
        [[ks(OLD), git(OLD, ref={"commit": OLD})]],
        BASE,
        "failed",
        "pinned_elsewhere",
    ),
    "source_pinned_unknown_yet": (
        [[ks(OLD), git(OLD, ref={"commit": OLD})]],
        contains,
        "wait",
        "source_behind",
    ),
    "replaced_before_it_was_applied": (
        [[ks(OLD), git(NEW)], [ks(OLD), git(NEWER)]],
        BASE,
        "failed",
        "superseded",
    ),
    "replaced_before_we_looked": (
        [[ks(NEWER, status={"history": [{"metadata": {"revision": at(NEW)}}]}), git(NEWER)]],
        BASE,
        "failed",
        "superseded",
    ),
    "replaced_in_the_middle_of_the_attempt": (
        [[ks(OLD, NEW, *working()), git(NEW)], [ks(OLD, NEW, *working()), git(NEWER)]],
        BASE,
        "wait",
        "source_behind",
    ),
    "applied_and_replaced_since": ([[ks(NEW), git(NEWER)]], BASE, "done", "ready"),
    "exact_and_fetched_without_it_again_and_again": (
        [[ks(NEWER), git(NEWER), "answered"]] * 122,
        BASE,
        "failed",
        "superseded",
    ),
    "exact_and_nobody_has_fetched_since": ([[ks(NEWER), git(NEWER)]] * 300, BASE, "wait", "source_behind"),
    "exact_and_git_knows_it_was_replaced": (
        [[ks(NEWER), git(NEWER)]],
        expect(oracle=True, contained={f"{NEW}..{NEWER}": True}),
        "failed",
        "superseded",
    ),
    "exact_and_git_knows_it_is_yet_to_come": (
        [[ks(OLD), git(OLD)]],
        expect(oracle=True, contained={f"{NEW}..{OLD}": False}),
        "wait",
        "source_behind",
    ),
    "newer_contains_it": ([[ks(NEWER), git(NEWER)]], knows_newer, "done", "ready"),
    "newer_unknown": ([[ks(NEWER), git(NEWER)]], contains, "wait", "source_behind"),
    "newer_without_it": (
        [[ks(NEWER), git(NEWER)]],
        replace(contains, contained={f"{NEW}..{NEWER}": False}),
        "wait",
        "source_behind",
    ),
    "newer_and_nobody_can_tell": (
        [[ks(NEWER), git(NEWER)]],
        expect(match="contains"),
        "wait",
        "source_behind",
    ),
    # 5: the controller has given up
    "stalled": ([[ks(OLD, None, *stopped("InvalidCELExpression", "bad")), git()]], BASE, "failed", "stalled"),
    "stalled_on_an_older_spec": (
        [[ks(OLD, None, *stopped("AccessDenied", "no"), generation=2), git()]],
        BASE,
        "wait",
        "not_tried",
    ),
    # 6: dependencies
    "dependency_not_ready": (
        [
            [
                ks(
                    OLD,
                    None,
                    cond("Ready", False, "DependencyNotReady", "dependency 'flux-system/crds' is not ready"),
                    depends=("crds",),
                ),
                git(),
                ks(OLD, OLD, *failed("BuildFailed", "no such file"), name="crds"),
            ]
        ],
        BASE,
        "wait",
        "dependency_not_ready",
    ),
    "dependency_not_ready_while_the_source_is_behind": (
        [
            [
                ks(OLD, None, cond("Ready", False, "DependencyNotReady", "dependency"), depends=("crds",)),
                git(OLD),
            ]
        ],
        BASE,
        "wait",
        "source_behind",
    ),
    # 7: not tried yet
    "ready_of_the_old_revision": ([[ks(OLD), git(NEW)]], BASE, "wait", "not_tried"),
    "failure_of_the_old_revision": (
        [[ks(OLD, OLD, *failed("BuildFailed", commit=OLD)), git(NEW)]] * 3,
        BASE,
        "wait",
        "not_tried",
    ),
    "ready_of_the_old_spec": (
        [[ks(NEW, None, cond("Ready"), generation=2), git()]],
        BASE,
        "wait",
        "not_tried",
    ),
    # 8: failing attempts
    "build_failed": ([[ks(OLD, NEW, *failed("BuildFailed")), git()]], BASE, "failed", "attempt_failed"),
    "health_failed_once": (
        [[ks(OLD, NEW, *failed("HealthCheckFailed")), git()]] * 500,
        BASE,
        "wait",
        "attempt_failed",
    ),
    "health_failed_twice": (
        [
            [ks(OLD, NEW, *failed("HealthCheckFailed", since=T1)), git()],
            [ks(OLD, NEW, *failed("HealthCheckFailed", since=T2)), git()],
        ],
        BASE,
        "failed",
        "attempt_failed",
    ),
    "failed_twice_with_an_attempt_between": (
        [
            [ks(OLD, NEW, *failed("ReconciliationFailed", since=T1)), git()],
            [ks(OLD, NEW, *working()), git()],
            [ks(OLD, NEW, *failed("PruneFailed", since=T3)), git()],
        ],
        BASE,
        "failed",
        "attempt_failed",
    ),
    "failed_at_two_revisions_is_not_failed_twice": (
        [
            [ks(OLD, NEW, *failed("HealthCheckFailed", since=T1)), git(NEW)],
            [ks(OLD, NEWER, *failed("HealthCheckFailed", since=T2, commit=NEWER)), git(NEWER)],
        ],
        knows_newer,
        "wait",
        "attempt_failed",
    ),
    "failed_once_and_one_is_enough": (
        [[ks(OLD, NEW, *failed("HealthCheckFailed")), git()]],
        expect(failed_attempts=1),
        "failed",
        "attempt_failed",
    ),
    "failed_once_and_healed": (
        [[ks(OLD, NEW, *failed("HealthCheckFailed")), git()], [ks(NEW), git()]],
        BASE,
        "done",
        "ready",
    ),
    "path_not_found_before_it_counts_as_attempted": (
        [
            [ks(OLD, OLD, *failed("ArtifactFailed", "kustomization path not found", since=s)), git()]
            for s in (T1, T2)
        ],
        BASE,
        "failed",
        "attempt_failed",
    ),
    "health_check_canceled": (
        [[ks(OLD, NEW, cond("Ready", False, "HealthCheckCanceled", "New reconciliation triggered")), git()]]
        * 300,
        BASE,
        "wait",
        "health_check_canceled",
    ),
    # 9: in the middle
    "in_progress": ([[ks(OLD, NEW, *working()), git()]], BASE, "wait", "progressing"),
    "never_looked_at": ([[{**ks(), "status": {}}, git()]], BASE, "wait", "not_tried"),
    # 10: there
    "ready": ([[ks(NEW), git()]], BASE, "done", "ready"),
    "ready_and_settling": ([[ks(NEW), git()]] * 4, expect(settle=5.0), "wait", "settling"),
    "ready_and_settled": ([[ks(NEW), git()]] * 6, expect(settle=5.0), "done", "ready"),
    "ready_again_settles_anew": (
        [[ks(NEW), git()]] * 4
        + [[ks(NEW, NEW, *working()), git()]]
        + [[ks(NEW, None, cond("Ready", since=T2)), git()]] * 3,
        expect(settle=5.0),
        "wait",
        "settling",
    ),
    "a_reconciling_condition_left_standing": (
        [[ks(NEW, None, cond("Ready"), cond("Reconciling", True, "Progressing", "old words")), git()]],
        BASE,
        "done",
        "ready",
    ),
    "any_revision_is_that_of_the_source": ([[ks(OLD), git(NEW)]], any_revision, "wait", "not_tried"),
    "any_revision_of_a_source_that_has_not_looked_at_its_spec": (
        [[ks(OLD), git(OLD, generation=2)]],
        any_revision,
        "wait",
        "progressing",
    ),
    "any_revision": ([[ks(OLD), git(OLD)]], any_revision, "done", "ready"),
    # requests
    "asked_and_not_answered": ([[ks(**asks("me.1")), git()]], asked, "wait", "not_answered"),
    "asked_and_answered": ([[ks(**asks("me.1"), **handled("me.1")), git()]], asked, "done", "ready"),
    "answered_is_not_applied": (
        [[ks(OLD, **asks("me.1"), **handled("me.1")), git()]],
        asked,
        "wait",
        "not_tried",
    ),
    "answered_while_a_dependency_was_not_ready": (
        [
            [
                ks(
                    OLD,
                    None,
                    cond("Ready", False, "DependencyNotReady", "dependency"),
                    **asks("me.1"),
                    **handled("me.1"),
                ),
                git(),
            ]
        ],
        asked,
        "wait",
        "dependency_not_ready",
    ),
    "a_later_request_took_its_place": (
        [[ks(**asks("me.1")), git()], [ks(**asks("other"), **handled("other")), git()]],
        asked,
        "done",
        "ready",
    ),
    "an_earlier_request_is_not_ours": (
        [[ks(**asks("other"), **handled("other")), git()]],
        asked,
        "wait",
        "not_answered",
    ),
    "our_request_was_removed": ([[ks(), git()]], asked, "wait", "not_answered"),
    "failures_of_before_the_request_are_no_attempts": (
        [
            [ks(OLD, NEW, *failed("HealthCheckFailed", since=T1), **asks("me.1")), git()],
            [ks(OLD, NEW, *failed("HealthCheckFailed", since=T2), **asks("me.1")), git()],
            [ks(OLD, NEW, *failed("HealthCheckFailed", since=T3), **asks("me.1"), status=HANDLED), git()],
        ],
        asked,
        "wait",
        "attempt_failed",
    ),
    "source_asked_too_and_not_answered": (
        [[ks(**asks("me.1"), **handled("me.1")), git(**asks("me.1"))]],
        asked,
        "wait",
        "progressing",
    ),
    # OCI
    "oci_by_digest": (
        [[ks(f"latest@{DIGEST}", source="OCIRepository"), oci()]],
        expect(revisions={"*": DIGEST}),
        "done",
        "ready",
    ),
    "oci_by_another_digest": (
        [[ks(f"latest@{OTHER_DIGEST}", source="OCIRepository"), oci(OTHER_DIGEST)]],
        expect(revisions={"*": DIGEST}),
        "wait",
        "source_behind",
    ),
    "oci_by_commit": (
        [
            [
                ks(f"latest@{DIGEST}", source="OCIRepository", status={"lastAppliedOriginRevision": at(NEW)}),
                oci(origin=at(NEW)),
            ]
        ],
        BASE,
        "done",
        "ready",
    ),
    "oci_by_commit_while_tried": (
        [
            [
                ks(f"latest@{OTHER_DIGEST}", f"latest@{DIGEST}", *working(NEW)[:1], source="OCIRepository"),
                oci(origin=at(NEW)),
            ]
        ],
        BASE,
        "wait",
        "progressing",
    ),
    "oci_without_origin": (
        [[ks(f"latest@{DIGEST}", source="OCIRepository"), oci()]],
        BASE,
        "wait",
        "source_behind",
    ),
    "oci_by_tag": (
        [[ks(f"latest@{DIGEST}", source="OCIRepository"), oci()]],
        expect(revisions={"*": "latest"}),
        "failed",
        "revision_not_sha",
    ),
    # wrong input
    "no_revision": ([[ks(), git()]], expect(revisions={}), "failed", "revision_missing"),
    "a_branch_is_no_revision": (
        [[ks(), git()]],
        expect(revisions={"*": "main"}),
        "failed",
        "revision_not_sha",
    ),
    "a_short_commit_is_no_revision": (
        [[ks(), git()]],
        expect(revisions={"*": NEW[:8]}),
        "failed",
        "revision_not_sha",
    ),
    "unknown_source": ([[ks(), git()]], expect(revisions={"https://x/y": NEW}), "failed", "source_unknown"),
    "source_by_url": (
        [[ks(), git()]],
        expect(revisions={"git@git.example.com:team/deploy": NEW}),
        "done",
        "ready",
    ),
    # known bug reports
    "kustomize_controller_653_success_is_of_the_revision_before": (
        [[ks(OLD), git(OLD)], [ks(OLD), git(NEW)]],
        BASE,
        "wait",
        "not_tried",
    ),
    "kustomize_controller_1624_hangs_with_new_reconciliation_triggered": (
        [
            [
                ks(
                    OLD,
                    NEW,
                    cond(
                        "Ready", False, "HealthCheckCanceled", "New reconciliation triggered by GitRepository"
                    ),
                ),
                git(),
            ]
        ]
        * 9,
        BASE,
        "wait",
        "health_check_canceled",
    ),
    "kustomize_controller_1664_prune_fails": (
        [[ks(OLD, NEW, *failed("PruneFailed", "webhook denied", since=s)), git()] for s in (T1, T2)],
        BASE,
        "failed",
        "attempt_failed",
    ),
    "source_controller_2012_artifact_without_observed_generation": (
        [[ks(OLD), {**git(), "status": {"artifact": {"revision": at(NEW)}, "observedGeneration": 0}}]],
        BASE,
        "wait",
        "not_tried",
    ),
    "ksail_5576_failure_of_the_old_revision_does_not_stop_the_repair": (
        [[ks(OLD, OLD, *failed("BuildFailed", commit=OLD)), git(NEW)], [ks(NEW), git(NEW)]],
        BASE,
        "done",
        "ready",
    ),
    "ksail_5717_source_not_ingested_yet": (
        [
            [ks(OLD, OLD, *failed("ReconciliationFailed", "kyverno", commit=OLD, since=s)), git(OLD)]
            for s in (T1, T2, T3)
        ],
        BASE,
        "wait",
        "source_behind",
    ),
    "flux2_5752_failed_while_what_was_applied_names_the_revision_before": (
        [[ks(OLD, NEW, *failed("BuildFailed", since=T2)), git(NEW)]],
        BASE,
        "failed",
        "attempt_failed",
    ),
    "flux2_4818_in_progress_for_ever_while_all_below_it_is_ready": (
        [[ks(OLD, NEW, *working(NEW, "Running health checks")), git(NEW)]] * 400,
        expect(timeout=300.0),
        "failed",
        "deadline",
    ),
    "platform_2356_attempted_is_not_applied": (
        [[ks(OLD, NEW, cond("Ready", None, "Progressing", "x")), git()]],
        BASE,
        "wait",
        "progressing",
    ),
    "flux2_3997_always_in_progress_when_looked_at": (
        [[ks(NEW, NEW, *working()), git()]] * 50,
        BASE,
        "wait",
        "progressing",
    ),
    "a_suspended_reconcile_moves_the_observed_generation": (
        [[ks(NEW, None, cond("Ready", generation=1), generation=3, status={"observedGeneration": 3}), git()]],
        BASE,
        "wait",
        "not_tried",
    ),
}

RETRIES = cond("Reconciling", True, "ProgressingWithRetry", "Helm upgrade failed")
UPGRADE_FAILED = [
    cond("Ready", False, "UpgradeFailed", "Helm upgrade failed: timed out"),
    cond("Released", False, "UpgradeFailed"),
]
ROLLED_BACK = [
    cond("Ready", False, "RollbackSucceeded", "Helm rollback to previous release api.v1 succeeded"),
    cond("Remediated", True, "RollbackSucceeded", "rolled back"),
]


def helm(release: Any, *, owner: Any = None, source: Any = None, made: Any = None) -> list[Any]:
    return [release, owner or ks(NEW), source or git(), made or chart()]


def owned_by(name: str) -> dict[str, str]:
    """Return the labels by which a Kustomization marks what it applies."""
    return {
        "kustomize.toolkit.fluxcd.io/name": name,
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }


RELEASES: dict[str, tuple[list[Any], Expectation, str, str]] = {
    # 12: there
    "released": ([helm(hr())], BASE, "done", "ready"),
    "released_by_chart": ([helm(hr())], by_chart, "done", "ready"),
    "released_by_both": ([helm(hr())], expect(chart="1.2.3"), "done", "ready"),
    "released_from_oci": (
        [
            [
                hr(
                    "1.2.3+dddddddddddd",
                    owned=False,
                    spec={"chartRef": {"kind": "OCIRepository", "name": "deploy"}},
                    status={"lastAttemptedRevisionDigest": DIGEST},
                ),
                oci(),
            ]
        ],
        by_chart,
        "done",
        "ready",
    ),
    "another_chart": ([helm(hr("1.2.2"), made=chart("1.2.2"))], by_chart, "wait", "progressing"),
    "chart_there_and_not_tried": (
        [helm(hr("1.2.2"), made=chart("1.2.3"))],
        any_revision,
        "wait",
        "progressing",
    ),
    "spec_not_looked_at": ([helm(hr("1.2.3", cond("Ready"), generation=2))], BASE, "wait", "progressing"),
    "spec_looked_at_without_a_change": (
        [helm(hr("1.2.3", cond("Ready", generation=2), cond("Released", generation=1), generation=2))],
        BASE,
        "done",
        "ready",
    ),
    "ready_in_the_middle_of_a_check": (
        [
            helm(
                hr(
                    "1.2.3",
                    cond("Ready"),
                    cond("Reconciling", True, "Progressing", "Fulfilling prerequisites"),
                )
            )
        ],
        BASE,
        "wait",
        "progressing",
    ),
    "no_history": ([helm(hr(history=[]))], BASE, "wait", "progressing"),
    "newest_release_failed": (
        [helm(hr(history=[snapshot(status="failed", number=3), snapshot()]))],
        BASE,
        "wait",
        "progressing",
    ),
    "history_in_any_order": (
        [helm(hr(history=[snapshot("1.2.2", "superseded", 1), snapshot("1.2.3", "deployed", 2)]))],
        BASE,
        "done",
        "ready",
    ),
    # through the owner
    "owner_not_there_yet": ([helm(hr(), owner=ks(OLD))], BASE, "wait", "not_tried"),
    "owner_waits_for_the_release": (
        [helm(hr(), owner=ks(OLD, NEW, *working(what="Running health checks")))],
        BASE,
        "done",
        "ready",
    ),
    "owner_has_not_applied_yet": (
        [helm(hr(), owner=ks(OLD, NEW, *working(what="Building manifests")))],
        BASE,
        "wait",
        "progressing",
    ),
    "owner_cannot_build": (
        [helm(hr(), owner=ks(OLD, NEW, *failed("BuildFailed")))],
        BASE,
        "failed",
        "attempt_failed",
    ),
    "owner_missing_within_grace": ([[hr(), OWNER, chart()]] * 9, BASE, "wait", "owner_missing"),
    "owner_missing_beyond_grace": ([[hr(), OWNER, chart()]] * 182, BASE, "failed", "owner_missing"),
    "owner_not_looked_at": ([[hr(), chart()]], BASE, "failed", "source_unknown"),
    "owner_suspended": ([helm(hr(), owner=ks(OLD, suspend=True))], BASE, "failed", "suspended"),
    "not_owned": ([helm(hr(owned=False))], BASE, "failed", "not_owned"),
    "stalled_before_the_owner_applied": (
        [helm(hr("1.2.2", *stopped("RetriesExceeded", "old")), owner=ks(OLD, NEW, *working()))],
        BASE,
        "wait",
        "progressing",
    ),
    "chart_in_git_not_built_yet": ([helm(hr(), made=chart(built_from=OLD))], BASE, "wait", "progressing"),
    "chart_in_git_built": ([helm(hr(), made=chart(built_from=NEW))], BASE, "done", "ready"),
    # the chart is another object, with a spec of its own
    "chart_of_an_older_spec": (
        [
            [
                hr(
                    spec={"chartRef": {"kind": "OCIRepository", "name": "deploy"}},
                    status={"lastAttemptedRevisionDigest": DIGEST},
                ),
                ks(NEW),
                git(),
                {**oci(generation=2), "metadata": {**oci(generation=2)["metadata"], "name": "deploy"}},
            ]
        ],
        BASE,
        "wait",
        "progressing",
    ),
    # what applies the owner, or the chart's source
    "owner_of_the_owner_is_behind": (
        [[hr(), ks(NEW, labels=owned_by("root")), git(), chart(), ks(OLD, name="root")]],
        BASE,
        "wait",
        "not_tried",
    ),
    "owner_of_the_owner_is_there": (
        [[hr(), ks(NEW, labels=owned_by("root")), git(), chart(), ks(NEW, name="root")]],
        BASE,
        "done",
        "ready",
    ),
    "stalled_before_the_request_to_reset": (
        [
            helm(
                hr(
                    "1.2.2",
                    *stopped("RetriesExceeded", "Failed to upgrade"),
                    attempted="1.2.3",
                    annotations={"reconcile.fluxcd.io/requestedAt": "me.1"},
                )
            )
        ],
        asked,
        "wait",
        "not_answered",
    ),
    # 5 and 11: given up, undone, tests
    "retries_exceeded": (
        [
            helm(
                hr(
                    "1.2.2",
                    *stopped("RetriesExceeded", "Failed to upgrade after 1 attempt(s)"),
                    attempted="1.2.3",
                )
            )
        ],
        BASE,
        "failed",
        "stalled",
    ),
    "missing_rollback_target": (
        [helm(hr("1.2.2", *stopped("MissingRollbackTarget", "no target"), attempted="1.2.3"))],
        BASE,
        "failed",
        "stalled",
    ),
    "stalled_with_the_chart_before": (
        [helm(hr("1.2.2", *stopped("RetriesExceeded", "old")), made=chart("1.2.2"))],
        by_chart,
        "wait",
        "progressing",
    ),
    "stalled_while_a_newer_chart_is_there": (
        [helm(hr("1.2.2", *stopped("RetriesExceeded", "old")), made=chart("1.2.3"))],
        BASE,
        "wait",
        "progressing",
    ),
    "rolled_back_and_no_retry_left": (
        [helm(hr("1.2.2", *ROLLED_BACK, attempted="1.2.3"))],
        BASE,
        "failed",
        "remediated",
    ),
    "rolled_back_and_tried_again": (
        [helm(hr("1.2.2", *ROLLED_BACK, RETRIES, attempted="1.2.3", status={"upgradeFailures": 1}))] * 400,
        BASE,
        "wait",
        "attempt_failed",
    ),
    "rolled_back_twice": (
        [
            helm(hr("1.2.2", *ROLLED_BACK, RETRIES, attempted="1.2.3", status={"upgradeFailures": n}))
            for n in (1, 2)
        ],
        BASE,
        "failed",
        "attempt_failed",
    ),
    "upgrade_and_its_rollback_are_one_attempt": (
        [
            helm(hr("1.2.2", *UPGRADE_FAILED, RETRIES, attempted="1.2.3", status={"upgradeFailures": 1})),
            helm(hr("1.2.2", *ROLLED_BACK, RETRIES, attempted="1.2.3", status={"upgradeFailures": 1})),
        ],
        BASE,
        "wait",
        "attempt_failed",
    ),
    "tests_failed": (
        [
            helm(
                hr(
                    "1.2.3",
                    cond("Ready", False, "TestFailed", "test failed"),
                    cond("TestSuccess", False, "TestFailed", "test failed"),
                    spec={"test": {"enable": True}},
                )
            )
        ],
        BASE,
        "failed",
        "tests_failed",
    ),
    "tests_failed_and_ignored": (
        [
            helm(
                hr(
                    "1.2.3",
                    cond("Ready"),
                    cond("TestSuccess", False, "TestFailed"),
                    spec={"test": {"enable": True, "ignoreFailures": True}},
                )
            )
        ],
        BASE,
        "done",
        "ready",
    ),
    "tests_not_run_yet": ([helm(hr(spec={"test": {"enable": True}}))], BASE, "wait", "progressing"),
    "tests_passed": (
        [
            helm(
                hr(
                    history=[snapshot(testHooks={"t": {"phase": "Succeeded"}})],
                    spec={"test": {"enable": True}},
                )
            )
        ],
        BASE,
        "done",
        "ready",
    ),
    "values_error_within_grace": (
        [helm(hr("1.2.3", cond("Ready", False, "ValuesError", "no secret")))] * 9,
        BASE,
        "wait",
        "attempt_failed",
    ),
    "values_error_beyond_grace": (
        [helm(hr("1.2.3", cond("Ready", False, "ValuesError", "no secret")))] * 182,
        BASE,
        "failed",
        "attempt_failed",
    ),
    "chart_cannot_be_fetched": (
        [
            helm(
                hr("1.2.2", cond("Ready", False, "SourceNotReady", "HelmChart is not ready")),
                made=chart("1.2.2", cond("Ready", False, "ChartPullError", "404")),
            )
        ]
        * 182,
        BASE,
        "failed",
        "source_failing",
    ),
    # 13: drift
    "drifted_and_reported": (
        [helm(hr("1.2.3", cond("Ready"), cond("Drifted", True, "DriftDetected", "Deployment/api changed")))],
        BASE,
        "done",
        "ready",
    ),
    "drifted_and_waited_for": (
        [helm(hr("1.2.3", cond("Ready"), cond("Drifted", True, "DriftDetected", "x")))],
        expect(on_out_of_sync="wait"),
        "wait",
        "drifted",
    ),
    "drifted_and_failed": (
        [helm(hr("1.2.3", cond("Ready"), cond("Drifted", True, "DriftDetected", "x")))],
        expect(on_out_of_sync="fail"),
        "failed",
        "drifted",
    ),
    "not_drifted": (
        [helm(hr("1.2.3", cond("Ready"), cond("Drifted", False, "NoDriftDetected", "x")))],
        expect(on_out_of_sync="fail"),
        "done",
        "ready",
    ),
    "drift_of_before_detection_was_switched_off": (
        [
            helm(
                hr(
                    "1.2.3",
                    cond("Ready"),
                    cond("Drifted", True, "DriftDetected", "x"),
                    spec={"driftDetection": {"mode": "disabled"}},
                )
            )
        ],
        expect(on_out_of_sync="fail"),
        "failed",
        "drift_unknown",
    ),
    "drift_detection_off_and_waited_for": (
        [helm(hr("1.2.3", cond("Ready"), spec={"driftDetection": {}}))],
        expect(on_out_of_sync="wait"),
        "wait",
        "drift_unknown",
    ),
    # known bug reports
    "kustomize_controller_701_owner_runs_into_its_timeout_while_the_release_has_failed": (
        [
            helm(
                hr("1.2.2", *stopped("RetriesExceeded", "exhausted"), attempted="1.2.3"),
                owner=ks(OLD, NEW, *working(what="Running health checks")),
            )
        ],
        BASE,
        "failed",
        "stalled",
    ),
    "kustomize_controller_387_release_not_looked_at_while_its_owner_is_ready": (
        [helm({**hr(), "status": {"observedGeneration": -1}})],
        BASE,
        "wait",
        "progressing",
    ),
    "helm_controller_643_webhooks_make_it_drift_for_ever": (
        [helm(hr("1.2.3", cond("Ready"), cond("Drifted", True, "DriftDetected", "sidecar")))] * 50,
        BASE,
        "done",
        "ready",
    ),
    "helm_controller_855_dependency_of_an_older_spec": (
        [
            helm(
                hr(
                    "1.2.3",
                    cond("Ready", False, "DependencyNotReady", "x", generation=3),
                    cond("Reconciling", True, "ProgressingWithRetry", "x", generation=17),
                    generation=17,
                )
            )
        ],
        BASE,
        "wait",
        "progressing",
    ),
    "helm_controller_1083_reconciling_although_failed": (
        [
            helm(hr("1.2.2", *UPGRADE_FAILED, RETRIES, attempted="1.2.3", status={"upgradeFailures": n}))
            for n in (1, 2)
        ],
        BASE,
        "failed",
        "attempt_failed",
    ),
    "helm_controller_1409_deployed_and_unknown_for_ever": (
        [
            helm(
                hr(
                    "1.2.3",
                    cond("Ready", None, "Progressing", "Running 'install' action with timeout of 5m0s"),
                )
            )
        ]
        * 300,
        BASE,
        "wait",
        "progressing",
    ),
    "helm_controller_1429_health_check_canceled": (
        [
            helm(
                hr(
                    "1.2.2",
                    cond("Ready", False, "HealthCheckCanceled", "New reconciliation triggered by HelmChart"),
                    attempted="1.2.3",
                )
            )
        ]
        * 300,
        BASE,
        "wait",
        "health_check_canceled",
    ),
    "rollback_to_the_same_chart_with_other_values": (
        [helm(hr(history=[snapshot(configDigest="sha256:older", number=3)]))],
        BASE,
        "wait",
        "progressing",
    ),
    "flux2_5592_stalled_for_good": (
        [helm(hr("1.2.3", *stopped("RetriesExceeded", "Failed to install after 1 attempt(s)"), history=[]))],
        BASE,
        "failed",
        "stalled",
    ),
    "devantler_1844_ready_while_deployments_are_gone": (
        [helm(hr(spec={"driftDetection": None}))],
        BASE,
        "done",
        "ready",
    ),
    "ionfury_1628_ready_in_a_crash_loop": (
        [helm(hr(spec={"driftDetection": {"mode": "disabled"}}))],
        BASE,
        "done",
        "ready",
    ),
}


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_kustomization(name: str) -> None:
    looks, expectation, state, rule = KUSTOMIZATIONS[name]
    verdict = judge(*looks, expectation=expectation)
    assert (verdict.state, verdict.rule) == (state, rule), verdict.reason


@pytest.mark.parametrize("name", RELEASES)
def test_helm_release(name: str) -> None:
    looks, expectation, state, rule = RELEASES[name]
    verdict = judge(*looks, expectation=expectation)
    assert (verdict.state, verdict.rule) == (state, rule), verdict.reason


def test_dependencies_are_named_with_their_own_reasons_as_deep_as_they_go() -> None:
    blocked = cond("Ready", False, "DependencyNotReady", "dependency is not ready")
    look = [
        ks(OLD, None, blocked, depends=("middle",)),
        git(),
        ks(OLD, None, blocked, name="middle", depends=("bottom", "absent")),
        ks(
            OLD,
            OLD,
            *failed("HealthCheckFailed", "timeout waiting for: [Deployment/db/postgres status: 'Failed']"),
            name="bottom",
        ),
        Ref("Kustomization", "flux-system", "absent"),
    ]
    reason = judge(look).reason
    assert "flux-system/middle is not ready, DependencyNotReady" in reason
    assert (
        "flux-system/bottom is not ready, HealthCheckFailed: timeout waiting for: [Deployment/db/postgres"
        in reason
    )
    assert "flux-system/absent does not exist" in reason


def test_dependencies_in_a_circle_are_said_to_be_one() -> None:
    blocked = cond("Ready", False, "DependencyNotReady", "x")
    look = [
        ks(OLD, None, blocked, depends=("b",)),
        git(),
        ks(OLD, None, blocked, name="b", depends=("apps",)),
    ]
    assert "in a circle" in judge(look).reason


def test_a_chain_of_dependencies_of_any_length_ends() -> None:
    blocked = cond("Ready", False, "DependencyNotReady", "x")
    chain = [ks(OLD, None, blocked, name=f"k{n}", depends=(f"k{n + 1}",)) for n in range(50)]
    reason = judge([chain[0], git(), *chain[1:]]).reason
    assert "k6 is not ready" in reason
    assert "k7 is not ready" not in reason


@pytest.mark.parametrize(
    ("look", "note"),
    [
        ([ks(NEW, wait=False), git()], "neither wait nor healthChecks"),
        (
            [ks(NEW, wait=False, spec={"healthCheckExprs": [{"kind": "X"}]}), git()],
            "neither wait nor healthChecks",
        ),
        (helm(hr(spec={"upgrade": {"disableWait": True}})), "upgrade.disableWait"),
        (helm(hr(spec={"driftDetection": None})), "drift detection off"),
        (helm(hr(spec={"valuesFrom": [{"kind": "Secret", "name": "x"}]})), "takes values from other objects"),
        (
            helm(hr("1.2.3", cond("Ready"), cond("Drifted", True, "DriftDetected", "Service/api"))),
            "Service/api",
        ),
    ],
)
def test_what_ready_does_not_say_is_said(look: Any, note: str) -> None:
    verdict = judge(look)
    assert verdict.state == "done"
    assert any(note in one for one in verdict.details["warnings"])


def test_what_decides_and_was_left_out_of_a_look_opens_no_gate() -> None:
    chain = [
        ks(
            NEW,
            name=f"k{n}",
            labels={
                "kustomize.toolkit.fluxcd.io/name": f"k{n + 1}",
                "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
            },
        )
        for n in range(60)
    ]
    around = {Ref("Kustomization", "flux-system", f"k{n}"): one for n, one in enumerate(chain)} | {
        SOURCE: git()
    }

    async def get(ref: Ref) -> Any:
        return around[ref]

    found = asyncio.run(gather(Ref("Kustomization", "flux-system", "k0"), get))
    verdict, _ = decide(observe(found, found.missing, found.hidden), BASE, Memory(), 0.0)
    assert (verdict.state, verdict.rule) == ("wait", "cannot_tell")
    assert "only 40 objects are looked at" in verdict.reason


def test_what_the_credential_may_not_see_is_said() -> None:
    observed = replace(seen([ks(NEW), git()]), warnings=("the credential may not see X",))
    verdict, _ = decide(observed, BASE, Memory(), 0.0)
    assert verdict.details["warnings"] == ["the credential may not see X"]


def test_with_wait_or_health_checks_there_is_nothing_to_warn_of() -> None:
    assert judge([ks(NEW), git()]).details["warnings"] == []
    checks = ks(NEW, wait=False, spec={"healthChecks": [{"kind": "Deployment", "name": "api"}]})
    assert judge([checks, git()]).details["warnings"] == []


@pytest.mark.parametrize(
    ("look", "whom"),
    [
        ([ks(OLD), git(OLD)], ["GitRepository", "flux-system", "deploy"]),
        ([ks(OLD), git(NEW)], ["Kustomization", "flux-system", "apps"]),
        (helm(hr("1.2.2"), made=chart("1.2.3")), ["HelmRelease", "flux-system", "api"]),
        (helm(hr(), owner=ks(OLD)), ["Kustomization", "flux-system", "apps"]),
        ([ks(OLD, NEW, *working()), git()], None),
        ([ks(OLD, NEW, *failed("HealthCheckFailed")), git()], None),
    ],
)
def test_only_who_can_help_is_asked_to_reconcile(look: Any, whom: Any) -> None:
    verdict = judge(look)
    assert verdict.details.get("ask") == whom
    assert verdict.refresh is bool(whom)


def test_a_chart_that_is_not_there_is_asked_for_from_its_source_on() -> None:
    memory, whom = Memory(), []
    look = [hr("1.2.2"), ks(NEW), git(), chart("1.2.2", built_from=OLD)]
    for second in range(40):
        verdict, memory = decide(seen(look), by_chart, memory, float(second))
        if verdict.refresh:
            whom.append(verdict.details["ask"][0])
    assert whom[:3] == ["GitRepository", "HelmChart", "HelmRelease"]


def test_every_source_that_may_bring_an_absent_object_is_asked() -> None:
    memory, whom = Memory(), []
    other = git(OLD)
    other["metadata"]["name"] = "other"
    for second in range(40):
        verdict, memory = decide(seen([absent(), git(OLD), other]), BASE, memory, float(second))
        if verdict.refresh:
            whom.append(verdict.details["ask"][2])
    assert whom[:2] == ["deploy", "other"]


def test_nobody_who_uses_contains_is_told_to_use_it() -> None:
    pushed_over = replace(contains, contained={f"{NEW}..{OLD}": False})
    verdict = judge([ks(OLD), git(NEW)], [ks(OLD), git(OLD)], expectation=pushed_over)
    assert (verdict.state, verdict.rule) == ("failed", "superseded")
    assert "by force" in verdict.reason
    assert "match='contains'" not in verdict.reason


@pytest.mark.parametrize(
    ("looks", "name"),
    [
        ([helm(hr(deletionTimestamp=T1))], "HelmRelease flux-system/api"),
        ([helm(hr()), helm(hr(uid="other"))], "HelmRelease flux-system/api"),
        ([[ks(deletionTimestamp=T1), git()]], "Kustomization flux-system/apps"),
        ([[absent(), git()]] * 182, "Kustomization flux-system/apps"),
    ],
)
def test_a_message_names_the_object_and_no_application(looks: Any, name: str) -> None:
    reason = judge(*looks, expectation=replace(BASE, settle=5.0)).reason
    assert name in reason
    assert "application" not in reason


def test_a_source_that_it_does_not_have_is_said_of_the_object() -> None:
    reason = judge([ks(), git()], expectation=expect(revisions={"https://x/y": NEW})).reason
    assert reason.startswith("Kustomization flux-system/apps has no source")


def test_asking_is_limited() -> None:
    memory, asked_at = Memory(), []
    for second in range(600):
        verdict, memory = decide(seen([ks(OLD), git(OLD)]), BASE, memory, float(second))
        if verdict.refresh:
            asked_at.append(second)
    assert 5 <= len(asked_at) <= 12


def test_the_deadline_names_the_rule() -> None:
    verdict = judge([ks(OLD), git(OLD)], [ks(OLD), git(OLD)], expectation=expect(timeout=10.0), step=11.0)
    assert (verdict.state, verdict.rule) == ("failed", "deadline")
    assert verdict.details["last_rule"] == "source_behind"


def test_questions_are_about_what_the_source_holds_and_what_was_tried_and_applied() -> None:
    asked_about = questions(seen([ks(OLD, NEWER), git("f" * 40)]), contains)
    assert {pair[1] for pair in asked_about} == {"f" * 40, NEWER, OLD}


def test_unhealthy_resources_are_read_from_the_message() -> None:
    message = (
        "health check failed after 30s: timeout waiting for: [Deployment/apps/api status: 'InProgress', "
        "Job/apps/migrate status: 'Failed', Namespace/apps status: 'NotFound']"
    )
    observed = seen([ks(OLD, NEW, *failed("HealthCheckFailed", message)), git()])
    assert [(str(one), one.namespace, one.health) for one in observed.resources] == [
        ("Deployment/api", "apps", "Progressing"),
        ("Job/migrate", "apps", "Degraded"),
        ("Namespace/apps", "", "Missing"),
    ]


@pytest.mark.parametrize(
    "nonsense", [[], [{}], [None], ["x"], [{"kind": "Pod", "metadata": {"name": "x"}}], [git()]]
)
def test_what_is_no_object_of_flux_is_refused(nonsense: Any) -> None:
    with pytest.raises(BadResponse):
        observe(nonsense)


@pytest.mark.parametrize("part", ["spec", "status"])
@pytest.mark.parametrize(
    "value", [None, [], "x", 7, {"conditions": "x", "history": {}, "artifact": 5, "dependsOn": [None]}]
)
def test_a_strange_shape_is_never_green(part: str, value: Any) -> None:
    for look in ([ks(OLD), git(NEW)], helm(hr(), owner=ks(OLD))):
        for index in range(len(look)):
            strange = [{**item, part: value} if place == index else item for place, item in enumerate(look)]
            assert judge(strange).state != "done"
