"""When a wait for a workflow is over: its rules, in their order. Pure.

Done is said of one that has ended *and* whose results are in; what ended before the retry that is waited for does not
count, and neither does another workflow of the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from airflow_pipeops.argo_workflows.status import WorkflowStatus
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.rulebook import Rulebook
from airflow_pipeops.waits.rules import fail, wait
from airflow_pipeops.waits.situation import Look

#: For so long (seconds) an ended workflow may lack the label that says that the results of its tasks are in.
RESULTS_WITHIN = 60.0


@dataclass(frozen=True)
class Goal(JsonForm):
    """What a wait for a workflow is for.

    :param phase: ``Succeeded``, or ``any`` way to end.
    :param timeout: seconds for the whole wait; ``None`` for ever.
    :param uid: which workflow of the name is meant; empty for the one that is seen first.
    :param after: the attempt that was tried again, see
        :attr:`~airflow_pipeops.argo_workflows.status.WorkflowStatus.attempt`: its end is not the one that is waited for.
    :param on_suspended: what becomes of a wait for a suspended workflow.
    :param transport_grace: seconds for which there may be no usable answer.
    """

    phase: Literal["Succeeded", "any"] = "Succeeded"
    timeout: float | None = None
    uid: str = ""
    after: str = ""
    on_suspended: Literal["wait", "fail"] = "wait"
    transport_grace: float = 600.0

    def expectation(self) -> Expectation:
        """Return what must come true, in the terms of every wait."""
        return Expectation(
            match="any",
            require_health=False,
            require_refresh=False,
            settle=0.0,
            timeout=self.timeout,
            transport_grace=self.transport_grace,
        )

    def memory(self) -> Memory:
        """Return what is known before the first look."""
        return Memory(uid=self.uid, looked=bool(self.uid))

    @property
    def rulebook(self) -> Rulebook:
        """How looks are judged."""
        rules = (
            _another,
            partial(_ended, self),
            _deleting,
            partial(_suspended, self),
            _stopping,
            _not_begun,
            _running,
        )
        return Rulebook(rules, facts, confirms=False, lasting=_lasting)


def facts(look: Look) -> dict[str, Any]:
    """Return the facts behind a verdict, of bounded size."""
    status: WorkflowStatus = look.observed.reconciled
    return {
        "uid": status.uid,
        "phase": status.phase,
        "message": status.message[:500],
        "progress": status.progress[:500],
        "attempt": status.attempt,
    }


def _lasting(look: Look) -> list[str]:
    status: WorkflowStatus = look.observed.reconciled
    return [f"results:{status.attempt}"] if status.over and not status.completed else []


def _another(look: Look) -> Verdict | None:
    if not look.observed.uid or look.observed.uid == look.memory.uid:
        return None
    return fail(
        "another",
        f"{look.observed.called} is another one by now (uid {look.observed.uid}): the end of the one that is waited for "
        f"(uid {look.memory.uid}) was not seen",
    )


def _ended(goal: Goal, look: Look) -> Verdict | None:
    status: WorkflowStatus = look.observed.reconciled
    if not status.over:
        return None
    if goal.after and status.attempt <= goal.after:
        return wait("older_end", f"what is seen is the end of the attempt before: {status.phase}")
    if not status.completed and look.held(f"results:{status.attempt}") < RESULTS_WITHIN:
        return wait("results_awaited", f"it is {status.phase}, and the results of its tasks are not in yet")
    said = f": {status.message}" if status.message else ""
    if status.phase == "Succeeded" or goal.phase == "any":
        return Verdict("done", "ended", f"it is {status.phase}, {status.progress}{said}")
    return fail("workflow_failed", f"it is {status.phase}{said}")


def _deleting(look: Look) -> Verdict | None:
    if not look.observed.deleting:
        return None
    return fail("deleting", f"{look.observed.called} is being deleted, and has not ended")


def _suspended(goal: Goal, look: Look) -> Verdict | None:
    status: WorkflowStatus = look.observed.reconciled
    if not status.suspended and not status.waiting:
        return None
    where = f" at {', '.join(status.waiting[:5])}" if status.waiting else ""
    reason = f"it is suspended{where}, until somebody resumes it; {status.progress}"
    return fail("suspended", reason) if goal.on_suspended == "fail" else wait("suspended", reason)


def _stopping(look: Look) -> Verdict | None:
    status: WorkflowStatus = look.observed.reconciled
    return wait("stopping", f"it is being ended ({status.shutdown})") if status.shutdown else None


def _not_begun(look: Look) -> Verdict | None:
    status: WorkflowStatus = look.observed.reconciled
    if status.phase not in ("", "Pending"):
        return None
    said = f": {status.message}" if status.message else ""
    return wait("not_begun", f"the workflow controller has not begun with it{said}")


def _running(look: Look) -> Verdict:
    status: WorkflowStatus = look.observed.reconciled
    return wait("running", status.progress)
