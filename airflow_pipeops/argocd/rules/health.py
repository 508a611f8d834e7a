"""Rules about health; all but the last moment of a wait is decided by then."""

from __future__ import annotations

from airflow_pipeops.argocd.situation import ApplicationLook
from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import by, fail, seconds, unhealthy, wait
from airflow_pipeops.waits.status import shorts


def healthy(k: ApplicationLook) -> Verdict | None:
    if k.e.require_health and k.o.health != "Healthy":
        return None
    changed = "" if k.applied_ok or not k.wanted else "; the revision changes nothing in this application"
    rendered = f", rendered from {shorts(tuple(k.asked.values()))}" if k.hydrating else ""
    return _settling(k) or Verdict(
        "done", "healthy", f"live and {k.o.health} at {shorts(k.revisions)}{rendered}{changed}"
    )


def suspended(k: ApplicationLook) -> Verdict | None:
    if k.o.health != "Suspended":
        return None
    reason = f"applied, and suspended: {unhealthy(k.o)}"
    return by(k.e.on_suspended, "suspended", reason) or _settling(k) or Verdict("done", "suspended", reason)


def _settling(k: ApplicationLook) -> Verdict | None:
    """Wait until health has held, and was judged by a comparison that began long enough after the last operation.

    Right after an operation the controller still sees the health of the old pods; how long it takes to be written, nobody
    knows, so our clock alone says nothing about it.
    """
    held, needed = max(k.held(f"health:{k.state}"), k.settled_by_server()), k.e.settle
    since = k.judged_after()
    if held >= needed and since >= needed:
        return None
    spent = max(0.0, min(held, since))
    # A comparison now is late enough, so let it take place while health still has to hold.
    useful = since < needed and k.held(k.ended) >= needed
    reason = f"{k.o.health} at {shorts(k.revisions)} for {spent:.0f} of {needed:.0f} s"
    return wait("settling", reason, refresh=useful)


def degraded(k: ApplicationLook) -> Verdict | None:
    if k.o.health != "Degraded":
        return None
    held, grace = k.held(f"health:{k.state}"), k.e.degraded_grace
    newer = (
        ""
        if k.revisions == tuple(k.wanted.values()) or not k.wanted
        else f" (newer; it includes {k.expected})"
    )
    reason = f"Degraded at {shorts(k.revisions)}{newer} for {seconds(held)}: {unhealthy(k.o)}"
    if held >= grace:
        return fail("degraded", reason)
    return wait("degraded", f"{reason}; may last {seconds(grace)}")


def progressing(k: ApplicationLook) -> Verdict | None:
    return wait("progressing", f"{k.o.health} at {shorts(k.revisions)}: {unhealthy(k.o)}")
