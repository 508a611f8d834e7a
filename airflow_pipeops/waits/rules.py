"""Rules that hold for whatever a controller looks after; each rulebook says at which place."""

from __future__ import annotations

from airflow_pipeops.waits.expectation import Verdict
from airflow_pipeops.waits.language import fail
from airflow_pipeops.waits.situation import Look


def deleting(look: Look) -> Verdict | None:
    """It is being deleted."""
    if not look.observed.deleting:
        return None
    condition = look.observed.condition("DeletionError")
    return fail(
        "deleting",
        f"{look.observed.called} is being deleted" + (f": {condition.message}" if condition else ""),
    )


def recreated(look: Look) -> Verdict | None:
    """It is another one of the same name."""
    if not look.observed.uid or look.observed.uid == look.memory.uid:
        return None
    return fail(
        "recreated",
        f"{look.observed.called} was deleted and created again during the wait; start the wait anew",
    )
