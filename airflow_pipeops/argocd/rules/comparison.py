"""Rules about the comparison: can the controller compare, and with which revision?"""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import fail, seconds, wait
from airflow_pipeops.waits.situation import ABSENT_AFTER
from airflow_pipeops.waits.status import shorts

#: So many acknowledged refreshes must have found that a revision was replaced before it is taken for the whole truth.
LOST_AFTER = 2


def invalid_spec(look: ApplicationLook) -> Verdict | None:
    condition = look.observed.condition("InvalidSpecError")
    if condition is None:
        return None
    if look.memory.acknowledged:
        return fail("invalid_spec", f"the application's spec is invalid: {condition.message}")
    return wait(
        "invalid_spec",
        f"the application's spec was invalid when last looked at: {condition.message}",
        refresh=True,
    )


def comparison_error(look: ApplicationLook) -> Verdict | None:
    condition = look.observed.condition("ComparisonError", "UnknownError")
    if condition is None:
        return None
    reason = f"the controller cannot compare ({condition.type}): {condition.message}"
    hopeless = condition.message.startswith("Application status exceeds")
    if hopeless or look.held("comparison") >= look.expectation.comparison_grace:
        return fail("comparison_error", reason)
    return wait("comparison_error", reason, refresh=True)


def superseded(look: ApplicationLook) -> Verdict | None:
    """It was there, or a newer revision that includes it is, and only exactly this revision will do."""
    memory = look.memory
    if look.expectation.basis != "desired" or look.desired_ok or not look.settled:
        return None
    lost = memory.lost_after is not None and memory.acknowledged - memory.lost_after >= LOST_AFTER
    passed = memory.acknowledged >= LOST_AFTER and look.passed
    if not lost and not passed:
        return None
    found = "before it was found healthy" if lost else "before this wait saw it"
    return fail(
        "superseded",
        f"{look.expected} was replaced by {shorts(look.observed.desired)} {found}; wait with match='contains' to accept a "
        "newer revision that includes it",
    )


def not_contained(look: ApplicationLook) -> Verdict | None:
    """The branch was read often enough, and somebody who knows says that the commit is not on it."""
    if (
        look.expectation.basis != "desired"
        or look.desired_ok
        or not look.absent
        or look.memory.acknowledged < ABSENT_AFTER
    ):
        return None
    held = look.held(f"absent:{','.join(look.tips)}")
    if held < look.expectation.absent_grace:
        return None
    return fail(
        "not_contained",
        f"targetRevision {look.targets} is at {shorts(look.tips)}, which does not contain "
        f"{shorts(tuple(look.asked.values()))}, after {look.memory.acknowledged} refreshes in {seconds(held)}: push the "
        "commit to that branch, or change targetRevision",
    )


def not_compared(look: ApplicationLook) -> Verdict | None:
    observed = look.observed
    if look.expectation.basis != "desired" or look.desired_ok:
        return None
    if observed.compared_at is None and not observed.desired:
        return wait(
            "not_compared",
            "the controller has not compared this application yet; does it serve the application's namespace?",
            refresh=True,
        )
    reason = f"the controller compares with {shorts(observed.desired)}, and {look.expected} is expected"
    if look.exact_only:
        reason += " (exactly, since nobody can say which commits contain it)"
    if look.promoted_to:
        reason += f"; it is rendered, and waits for its promotion to {look.promoted_to!r}"
    elif look.memory.acknowledged >= LOST_AFTER:
        times = f"it has refreshed {look.memory.acknowledged} times"
        reason += f"; {times}: does targetRevision {look.targets} contain that commit?"
    return wait("not_compared", reason, refresh=True)


def stale(look: ApplicationLook) -> Verdict | None:
    if look.fresh:
        return None
    return wait("stale", f"the status is from before {look.why_stale}", refresh=look.worth_comparing)
