"""Rules about a source hydrator: the commit that is expected is first rendered into a commit of another branch."""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import fail, seconds, wait
from airflow_pipeops.waits.status import short, shorts


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
