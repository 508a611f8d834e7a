"""Rules about health; all but the last moment of a wait is decided by then."""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.rules import by, fail, seconds, unhealthy, wait
from airflow_pipeops.waits.status import shorts

#: Seconds for which health may stay Progressing before the controller is asked to look again.
STILL_AFTER = 20.0


def healthy(look: ApplicationLook) -> Verdict | None:
    if look.expectation.require_health and look.observed.health != "Healthy":
        return None
    changed = (
        "" if look.applied_ok or not look.wanted else "; the revision changes nothing in this application"
    )
    rendered = f", rendered from {shorts(tuple(look.asked.values()))}" if look.hydrating else ""
    return _settling(look) or Verdict(
        "done", "healthy", f"live and {look.observed.health} at {shorts(look.revisions)}{rendered}{changed}"
    )


def suspended(look: ApplicationLook) -> Verdict | None:
    if look.observed.health != "Suspended":
        return None
    reason = f"applied, and suspended: {unhealthy(look.observed)}"
    return (
        by(look.expectation.on_suspended, "suspended", reason)
        or _settling(look)
        or Verdict("done", "suspended", reason)
    )


def _settling(look: ApplicationLook) -> Verdict | None:
    """Wait until health has held, and was judged by a comparison that began long enough after the last operation.

    Right after an operation the controller still sees the health of the old pods; how long it takes to be written, nobody
    knows, so our clock alone says nothing about it.
    """
    held, needed = max(look.held(f"health:{look.state}"), look.settled_by_server()), look.expectation.settle
    since = look.judged_after()
    if held >= needed and since >= needed:
        return None
    spent = max(0.0, min(held, since))
    # A comparison now is late enough, so let it take place while health still has to hold.
    useful = since < needed and look.held(look.ended) >= needed
    reason = f"{look.observed.health} at {shorts(look.revisions)} for {spent:.0f} of {needed:.0f} s"
    return wait("settling", reason, refresh=useful)


def degraded(look: ApplicationLook) -> Verdict | None:
    if look.observed.health != "Degraded":
        return None
    held, grace = look.held(f"health:{look.state}"), look.expectation.degraded_grace
    newer = (
        ""
        if look.revisions == tuple(look.wanted.values()) or not look.wanted
        else f" (newer; it includes {look.expected})"
    )
    reason = f"Degraded at {shorts(look.revisions)}{newer} for {seconds(held)}: {unhealthy(look.observed)}"
    if held >= grace:
        return fail("degraded", reason)
    return wait("degraded", f"{reason}; may last {seconds(grace)}")


def progressing(look: ApplicationLook) -> Verdict | None:
    # A controller that was killed in the middle says this until it compares again, which may be minutes later.
    still = look.held(f"health:{look.state}") >= STILL_AFTER
    reason = f"{look.observed.health} at {shorts(look.revisions)}: {unhealthy(look.observed)}"
    return wait("progressing", reason, refresh=still)
