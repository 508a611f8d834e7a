"""Rules about the comparison: can the controller compare, and with which revision?"""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import fail, seconds, wait
from airflow_pipeops.waits.situation import ABSENT_AFTER
from airflow_pipeops.waits.status import shorts

#: So many acknowledged refreshes must have found that a revision was replaced before it is taken for the whole truth.
LOST_AFTER = 2


def invalid_spec(k: ApplicationLook) -> Verdict | None:
    condition = k.o.condition("InvalidSpecError")
    if condition is None:
        return None
    if k.m.acknowledged:
        return fail("invalid_spec", f"the application's spec is invalid: {condition.message}")
    return wait(
        "invalid_spec",
        f"the application's spec was invalid when last looked at: {condition.message}",
        refresh=True,
    )


def comparison_error(k: ApplicationLook) -> Verdict | None:
    condition = k.o.condition("ComparisonError", "UnknownError")
    if condition is None:
        return None
    reason = f"the controller cannot compare ({condition.type}): {condition.message}"
    hopeless = condition.message.startswith("Application status exceeds")
    if hopeless or k.held("comparison") >= k.e.comparison_grace:
        return fail("comparison_error", reason)
    return wait("comparison_error", reason, refresh=True)


def superseded(k: ApplicationLook) -> Verdict | None:
    """It was there, or a newer revision that includes it is, and only exactly this revision will do."""
    if k.e.basis != "desired" or k.desired_ok or not k.settled:
        return None
    lost = k.m.lost_after is not None and k.m.acknowledged - k.m.lost_after >= LOST_AFTER
    passed = k.m.acknowledged >= LOST_AFTER and k.passed
    if not lost and not passed:
        return None
    found = "before it was found healthy" if lost else "before this wait saw it"
    return fail(
        "superseded",
        f"{k.expected} was replaced by {shorts(k.o.desired)} {found}; wait with match='contains' to accept a newer "
        "revision that includes it",
    )


def not_contained(k: ApplicationLook) -> Verdict | None:
    """The branch was read often enough, and somebody who knows says that the commit is not on it."""
    if k.e.basis != "desired" or k.desired_ok or not k.absent or k.m.acknowledged < ABSENT_AFTER:
        return None
    held = k.held(f"absent:{','.join(k.tips)}")
    if held < k.e.absent_grace:
        return None
    return fail(
        "not_contained",
        f"targetRevision {k.targets} is at {shorts(k.tips)}, which does not contain {shorts(tuple(k.asked.values()))}, "
        f"after {k.m.acknowledged} refreshes in {seconds(held)}: push the commit to that branch, or change "
        "targetRevision",
    )


def not_compared(k: ApplicationLook) -> Verdict | None:
    if k.e.basis != "desired" or k.desired_ok:
        return None
    if k.o.compared_at is None and not k.o.desired:
        return wait(
            "not_compared",
            "the controller has not compared this application yet; does it serve the application's namespace?",
            refresh=True,
        )
    reason = f"the controller compares with {shorts(k.o.desired)}, and {k.expected} is expected"
    if k.exact_only:
        reason += " (exactly, since nobody can say which commits contain it)"
    if k.promoted_to:
        reason += f"; it is rendered, and waits for its promotion to {k.promoted_to!r}"
    elif k.m.acknowledged >= LOST_AFTER:
        reason += f"; it has refreshed {k.m.acknowledged} times: does targetRevision {k.targets} contain that commit?"
    return wait("not_compared", reason, refresh=True)


def stale(k: ApplicationLook) -> Verdict | None:
    if k.fresh:
        return None
    return wait("stale", f"the status is from before {k.why_stale}", refresh=k.worth_comparing)
