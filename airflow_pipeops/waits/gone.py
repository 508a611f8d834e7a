"""The other wait: until an application is gone."""

from __future__ import annotations

from airflow_pipeops.waits.expectation import Memory, Verdict
from airflow_pipeops.waits.language import wait
from airflow_pipeops.waits.status import Observed


def still_there(observed: Observed, memory: Memory) -> Verdict:
    """Judge a look that found an application. That it is missing is judged where looks that failed are."""
    if memory.uid and observed.uid and observed.uid != memory.uid:
        return Verdict("done", "gone", "the application is gone; another one of that name was created since")
    condition = observed.condition("DeletionError")
    if observed.deleting:
        left = f"; still there: {', '.join(observed.finalizers)}" if observed.finalizers else ""
        said = f": {condition.message}" if condition else left
        return wait("deleting", f"the application is being deleted{said}")
    return wait("not_deleting", "the application is there, and nobody has asked for its deletion")
