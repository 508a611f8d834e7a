"""Act on a workflow that is there: stop, terminate, suspend, resume, retry, resubmit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_pipeops.argo_workflows.operators.base import WorkflowActOperator, WorkflowWaitMixin
from airflow_pipeops.argo_workflows.operators.running import WorkflowRunOperator
from airflow_pipeops.argo_workflows.rules import Goal
from airflow_pipeops.argo_workflows.waits import error_of
from airflow_pipeops.base.arguments import given, object_name, still_given
from airflow_pipeops.delivery.operators import no_retry, order_key
from airflow_pipeops.exceptions import Conflict, InvalidInput, PipeOpsError, Unreachable
from airflow_pipeops.waits.wait import Decided

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.argo_workflows.clients.protocol import Act, ArgoWorkflows, WorkflowRef
    from airflow_pipeops.argo_workflows.status import WorkflowStatus


class WaitingActOperator(WorkflowActOperator, WorkflowWaitMixin):
    """Base of the operators that act and then wait for the end.

    :param wait: for its end; otherwise the task ends when the order was given.
    """

    #: What counts as a good end.
    goal: ClassVar[Literal["Succeeded", "any"]] = "any"

    def __init__(self, *, wait: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wait = wait

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral."""
        with no_retry():
            decided, note = self.resumed(event)
            ref = self.ref(self.hook())
            self._demand(ref, decided)
            return self._result(str(note["uid"]), decided, changed=bool(note["changed"]))

    def _until_ended(
        self, context: Context, status: WorkflowStatus, after: str, *, changed: bool
    ) -> dict[str, Any]:
        from airflow_pipeops.argo_workflows.clients.protocol import WorkflowRef

        ref = WorkflowRef(status.name, status.namespace, status.uid)
        goal = Goal(phase=self.goal, timeout=self.timeout.total_seconds(), uid=status.uid, after=after)
        note = {"uid": status.uid, "changed": changed}
        decided = self.wait_for(context, ref, goal, "execute_complete", note=note)
        self._demand(ref, decided)
        return self._result(status.uid, decided, changed=changed)

    def _demand(self, ref: WorkflowRef, decided: Decided) -> None:
        if decided.verdict.state == "failed":
            raise error_of(decided, f"Argo {ref}: {decided.verdict.reason} (rule {decided.verdict.rule})")

    def _result(self, uid: str, decided: Decided, *, changed: bool) -> dict[str, Any]:
        facts = decided.verdict.details
        return self.told(str(facts.get("phase") or ""), uid, decided.verdict.reason, changed=changed)

    def told(self, phase: str, uid: str, reason: str, *, changed: bool) -> dict[str, Any]:
        """Return what the task returns."""
        return {
            "name": self.name,
            "uid": uid,
            "phase": phase,
            "changed": changed,
            "reason": reason,
            "url": self.workflow_url,
        }


class ArgoWorkflowStopOperator(WaitingActOperator):
    """Stop a workflow: what runs is ended, exit handlers run, nothing new is started; and wait until it has ended.

    One that has ended already is left as it is, and the task succeeds. Returns ``{name, uid, phase, changed, reason, url}``.
    """

    act: ClassVar[Literal["stop", "terminate"]] = "stop"

    def execute(self, context: Context) -> dict[str, Any]:
        """Stop it, and wait."""
        with no_retry():
            hook = self.hook()
            ref = self.ref(hook)
            status, changed = hook.run(lambda client: ended(client, ref, self.act))
            if status.over or not self.wait:
                return self.told(
                    status.phase, status.uid, f"it is {status.phase or 'not begun'}", changed=changed
                )
            return self._until_ended(context, status, "", changed=changed)


class ArgoWorkflowTerminateOperator(ArgoWorkflowStopOperator):
    """Terminate a workflow: everything ends at once, exit handlers too; and wait until it has ended.

    Otherwise as :class:`ArgoWorkflowStopOperator`.
    """

    act = "terminate"


class ArgoWorkflowSuspendOperator(WorkflowActOperator):
    """Suspend a workflow: nothing new is started until somebody resumes it. What runs, runs on.

    Returns ``{name, uid, suspended, url}``. One that has ended cannot be suspended, and fails the task.
    """

    suspend: ClassVar[bool] = True

    def execute(self, context: Context) -> dict[str, Any]:
        """Suspend it."""
        with no_retry():
            hook = self.hook()
            ref = self.ref(hook)
            status = hook.run(lambda client: self._acted(client, ref))
            return {
                "name": self.name,
                "uid": status.uid,
                "suspended": status.suspended,
                "url": self.workflow_url,
            }

    async def _acted(self, client: ArgoWorkflows, ref: WorkflowRef) -> WorkflowStatus:
        from airflow_pipeops.argo_workflows.status import read

        try:
            return read(await client.act(ref, "suspend" if self.suspend else "resume", **self.options()))
        except Unreachable:
            # The server may have acted before the answer was lost.
            status = read(await client.get(ref, whole=True))
            if status.suspended is not self.suspend or (status.waiting and not self.suspend):
                raise
            return status

    def options(self) -> dict[str, Any]:
        """Return what is sent besides."""
        return {}


class ArgoWorkflowResumeOperator(ArgoWorkflowSuspendOperator):
    """Let a suspended workflow go on, or its suspend nodes.

    Returns ``{name, uid, suspended, url}``.

    :param node_selector: only the suspend nodes with this field selector, for example ``displayName=approve``. Templated.
    """

    template_fields: Sequence[str] = ("node_selector", *WorkflowActOperator.template_fields)
    suspend = False

    def __init__(self, *, node_selector: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.node_selector = node_selector

    def options(self) -> dict[str, Any]:
        """Return what is sent besides."""
        return {"nodeFieldSelector": self.node_selector} if self.node_selector else {}


class ArgoWorkflowRetryOperator(WaitingActOperator):
    """Run the failed nodes of a failed workflow again, and wait until it has succeeded. It keeps its name and uid.

    Safe to try again: an attempt of the task that finds the workflow retried already waits for it. Returns
    ``{name, uid, phase, changed, reason, url}``.

    :param restart_successful: also run again the nodes that had succeeded, of those that ``node_selector`` names.
    :param node_selector: which nodes, as a field selector, for example ``displayName=train``. Templated.
    """

    template_fields: Sequence[str] = ("node_selector", *WaitingActOperator.template_fields)
    goal = "Succeeded"

    def __init__(self, *, restart_successful: bool = False, node_selector: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if restart_successful and not node_selector:
            raise InvalidInput(
                "restart_successful is of no use without node_selector",
                field="node_selector",
                remedy="Name the nodes, for example node_selector='displayName=train'.",
            )
        self.restart_successful = restart_successful
        self.node_selector = node_selector

    def execute(self, context: Context) -> dict[str, Any]:
        """Retry it, and wait."""
        with no_retry():
            hook = self.hook()
            ref = self.ref(hook)
            from airflow_pipeops.argo_workflows.submission import TaskNotes

            notes, order = TaskNotes(context.get("task_state_store")), order_key(context)
            noted = notes.recall()
            before = str(noted.get("after") or "") if noted.get("order") == order else ""
            options: dict[str, Any] = {}
            if self.restart_successful:
                options["restartSuccessful"] = True
            if self.node_selector:
                options["nodeFieldSelector"] = self.node_selector

            def note(after: str) -> None:
                notes.keep({"order": order, "after": after})

            status, after = hook.run(lambda client: retried(client, ref, before, note, options))
            if not self.wait:
                return self.told(status.phase, status.uid, "it is tried again", changed=True)
            return self._until_ended(context, status, after, changed=True)


class ArgoWorkflowResubmitOperator(WorkflowRunOperator):
    """Run a copy of a workflow, with its parameters or others, and wait for its end.

    The copy is found again by a retry of the task, and what is returned is that of
    :class:`~airflow_pipeops.argo_workflows.operators.workflow.ArgoWorkflowOperator`.

    :param resubmit: name of the workflow that is copied; it may have been archived. Templated.
    :param uid: which of that name; by default the newest. Templated.
    """

    template_fields: Sequence[str] = ("resubmit", "uid", *WorkflowRunOperator.template_fields)

    def __init__(self, *, resubmit: str, uid: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.resubmit = resubmit
        self.uid = uid
        self._demanded = given(uid=uid)

    def _manifest(self) -> dict[str, Any] | None:
        still_given(self, self._demanded)
        return None

    async def _copied(self, client: ArgoWorkflows, namespace: str) -> dict[str, Any]:
        from airflow_pipeops.argo_workflows.clients.protocol import WorkflowRef
        from airflow_pipeops.argo_workflows.manifest import anew

        ref = WorkflowRef(object_name(self.resubmit), namespace, self.uid or "")
        return anew(await client.get(ref, whole=True))


async def ended(client: ArgoWorkflows, ref: WorkflowRef, act: Act) -> tuple[WorkflowStatus, bool]:
    """Have a workflow end.

    :param client: reaches it.
    :param ref: which workflow.
    :param act: ``stop`` or ``terminate``.
    :return: what it is then, and whether that was our doing.
    """
    from airflow_pipeops.argo_workflows.clients.errors import Ended
    from airflow_pipeops.argo_workflows.status import read

    status = read(await client.get(ref))
    if status.over:
        return status, False
    try:
        return read(await client.act(ref, act)), True
    except (Ended, Unreachable) as error:
        # It has ended meanwhile, which the server calls an internal error; or the answer was lost.
        status = read(await client.get(ref))
        if not (status.over or status.shutdown):
            raise
        return status, isinstance(error, Unreachable)


async def retried(
    client: ArgoWorkflows, ref: WorkflowRef, before: str, note: Any, options: Mapping[str, Any]
) -> tuple[WorkflowStatus, str]:
    """Have the failed nodes of a workflow run again, once.

    :param client: reaches it.
    :param ref: which workflow.
    :param before: the attempt that an earlier attempt of the task has had tried again; empty for none.
    :param note: is given the attempt that will be tried again, before it is.
    :param options: of the call.
    :return: what it is then, and the attempt whose end does not count.
    """
    from airflow_pipeops.argo_workflows.status import read

    status = read(await client.get(ref))
    if before and status.attempt != before:
        return status, before
    if not status.over or status.phase == "Succeeded":
        raise InvalidInput(
            f"{ref} is {status.phase or 'not begun'}, and only one that failed can be retried",
            field="name",
            value=ref.name,
        )
    note(status.attempt)
    try:
        return read(await client.act(ref, "retry", **options)), status.attempt
    except (Unreachable, Conflict) as error:
        return await _seen_again(client, ref, status.attempt, error)


async def _seen_again(
    client: ArgoWorkflows, ref: WorkflowRef, before: str, error: PipeOpsError
) -> tuple[WorkflowStatus, str]:
    from airflow_pipeops.argo_workflows.status import read

    again = read(await client.get(ref))
    if again.attempt == before:
        raise error
    return again, before
