"""Rules about what is compared: is it the right application, can the controller compare it, and with which revision?"""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.rules import fail, seconds, wait
from airflow_pipeops.waits.situation import ABSENT_AFTER
from airflow_pipeops.waits.status import short, shorts


def skip_reconcile(look: ApplicationLook) -> Verdict | None:
    if not look.observed.ignored:
        return None
    return fail("skip_reconcile", f"the controller ignores this application: {look.observed.ignored}")


def wrong_project(look: ApplicationLook) -> Verdict | None:
    found, expected = look.observed.project, look.expectation.project
    if not expected or not found or expected == found:
        return None
    return fail(
        "wrong_project",
        f"the application is in project {found!r}, and {expected!r} is expected; name the right project or leave it out",
    )


def unmeetable(look: ApplicationLook) -> Verdict | None:
    return fail(*look.problem) if look.problem else None


def pinned_elsewhere(look: ApplicationLook) -> Verdict | None:
    if look.expectation.basis != "desired":
        return None
    for index, wanted in look.asked.items():
        source = look.observed.sources[index]
        if not source.pinned or look.as_good(wanted, source.target) or not look.known(wanted, source.target):
            continue
        if not is_sha(source.target) and source.target.removeprefix("v") == wanted.removeprefix("v"):
            continue
        return fail(
            "pinned_elsewhere",
            f"targetRevision of {source.repo} is pinned to {short(source.target)}, so {short(wanted)} will never be "
            "compared; change targetRevision or expect another revision",
        )
    return None


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


def hydration_failed(look: ApplicationLook) -> Verdict | None:
    """The controller tries again two minutes after a failure, or when it is asked to refresh."""
    hydration = look.observed.hydration
    if hydration is None or not look.hydrating or look.rendered or hydration.phase != "Failed":
        return None
    at = f" at {short(hydration.dry)}" if hydration.dry else ""
    held, reason = look.held("hydration"), f"rendering{at} failed: {hydration.message or 'no message'}"
    if held >= look.expectation.hydration_grace:
        return fail("hydration_failed", f"{reason}; so for {seconds(held)}, in spite of further attempts")
    return wait("hydration_failed", f"{reason}; it is tried again by itself", refresh=True)


def not_hydrated(look: ApplicationLook) -> Verdict | None:
    hydration = look.observed.hydration
    if hydration is None or not look.hydrating or look.rendered:
        return None
    expected = shorts(tuple(look.asked.values()))
    if hydration.phase == "Hydrating":
        return wait("not_hydrated", f"{expected} is not rendered yet; the hydrator is at work", refresh=True)
    return wait(
        "not_hydrated",
        f"{expected} is not rendered yet; the newest commit that is: {short(hydration.done_dry)}",
        refresh=True,
    )


def lasting(look: ApplicationLook) -> list[str]:
    """Name a failure to render, which a further attempt does not end; only success does."""
    hydration = look.observed.hydration
    failed = hydration is not None and (
        hydration.phase == "Failed" or (hydration.phase == "Hydrating" and "hydration" in look.memory.since)
    )
    return ["hydration"] if failed else []
