"""Rules that hold for whatever a controller looks after; each rulebook says at which place."""

from __future__ import annotations

from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import fail
from airflow_pipeops.waits.situation import Look


def deleting(k: Look) -> Verdict | None:
    """It is being deleted."""
    if not k.o.deleting:
        return None
    condition = k.o.condition("DeletionError")
    return fail(
        "deleting", "the application is being deleted" + (f": {condition.message}" if condition else "")
    )


def recreated(k: Look) -> Verdict | None:
    """It is another one of the same name."""
    if not k.o.uid or k.o.uid == k.m.uid:
        return None
    return fail(
        "recreated", "the application was deleted and created again during the wait; start the wait anew"
    )
