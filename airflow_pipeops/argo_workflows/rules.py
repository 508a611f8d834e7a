"""When a wait for a workflow is over: its rules, in their order. Pure.

Done is said of one that has ended *and* whose results are in; what ended before the retry that is waited for does not
count, and neither does another workflow of the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from airflow_pipeops.argo_workflows.causes import Cause, hindrance_of
from airflow_pipeops.argo_workflows.status import Node, WorkflowStatus
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.rulebook import Rulebook
from airflow_pipeops.waits.rules import fail, seconds, wait
from airflow_pipeops.waits.situation import Look

#: For so long (seconds) an ended workflow may lack the label that says that the results of its tasks are in.
RESULTS_WITHIN = 60.0
#: For so long (seconds) nothing is said of a pod that has not begun: images are pulled, volumes mounted.
BEGINS_WITHIN = 60.0
#: What waiting does not mend: nobody makes room, the pod would never begin.
_STUCK = ("image", "container")
#: So many pods that do not begin are kept in mind.
_MOST = 20


@dataclass(frozen=True)
class Goal(JsonForm):
    """What a wait for a workflow is for.

    :param phase: ``Succeeded``, or ``any`` way to end.
    :param timeout: seconds for the whole wait; ``None`` for ever.
    :param uid: which workflow of the name is meant; empty for the one that is seen first.
    :param after: the attempt that was tried again, see
        :attr:`~airflow_pipeops.argo_workflows.status.WorkflowStatus.attempt`: its end is not the one that is waited for.
    :param on_suspended: what becomes of a wait for a suspended workflow.
    :param pending_timeout: seconds for which a pod may not begin for a cause that waiting does not mend; ``None`` for ever.
    :param transport_grace: seconds for which there may be no usable answer.
    """

    phase: Literal["Succeeded", "any"] = "Succeeded"
    timeout: float | None = None
    uid: str = ""
    after: str = ""
    on_suspended: Literal["wait", "fail"] = "wait"
    pending_timeout: float | None = None
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
            partial(_pending, self),
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
    if status.over:
        return [] if status.completed else [f"results:{status.attempt}"]
    if not status.nodes:
        # They were left out of the answer.
        return [name for name in look.memory.since if name.startswith(("pending:", "stuck:"))]
    pending = _not_running(status)
    stuck = [node for node, cause in pending if cause and cause.kind in _STUCK]
    return [*(f"pending:{node.id}" for node, _ in pending), *(f"stuck:{node.id}" for node in stuck)]


def _not_running(status: WorkflowStatus) -> list[tuple[Node, Cause | None]]:
    """Return the pods that have not begun, those first of which it is known why."""
    found = [
        (node, hindrance_of(node)) for node in status.undone if node.type == "Pod" and node.phase == "Pending"
    ]
    return sorted(found, key=lambda one: one[1] is None)[:_MOST]


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
    sure = status.suspended or not status.remembered
    return fail("suspended", reason) if goal.on_suspended == "fail" and sure else wait("suspended", reason)


def _stopping(look: Look) -> Verdict | None:
    status: WorkflowStatus = look.observed.reconciled
    return wait("stopping", f"it is being ended ({status.shutdown})") if status.shutdown else None


def _not_begun(look: Look) -> Verdict | None:
    status: WorkflowStatus = look.observed.reconciled
    if status.phase not in ("", "Pending"):
        return None
    said = f": {status.message}" if status.message else ""
    return wait("not_begun", f"the workflow controller has not begun with it{said}")


def _pending(goal: Goal, look: Look) -> Verdict | None:
    status: WorkflowStatus = look.observed.reconciled
    slow = [
        (node, cause)
        for node, cause in _not_running(status)
        if cause or look.held(f"pending:{node.id}") >= BEGINS_WITHIN
    ]
    if not slow:
        return None
    said = "; ".join(
        f"{node.shown} does not begin: {f'{cause.said}: ' if cause else ''}{node.message or 'nobody says why'}"
        for node, cause in slow[:3]
    ) + (f"; and {len(slow) - 3} more" if len(slow) > 3 else "")
    lasted = max(look.held(f"stuck:{node.id}") for node, _ in slow)
    if goal.pending_timeout is not None and lasted >= goal.pending_timeout and not status.remembered:
        return fail("does_not_begin", f"for {seconds(lasted)}, {said}; {status.progress}")
    return wait("pending", f"{status.progress}; {said}")


def _running(look: Look) -> Verdict:
    status: WorkflowStatus = look.observed.reconciled
    return wait("running", status.progress)
