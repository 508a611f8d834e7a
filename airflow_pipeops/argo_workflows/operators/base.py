"""The base of the operators of one workflow: how it is reached, waited for, and spoken of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
from airflow_pipeops.argo_workflows.links import LINKS, workflow_url
from airflow_pipeops.argo_workflows.triggers import ArgoWorkflowTrigger
from airflow_pipeops.argo_workflows.waits import WorkflowController, WorkflowWait
from airflow_pipeops.base.arguments import given, object_name, positive, still_given
from airflow_pipeops.delivery.operators import DeliveryOperator
from airflow_pipeops.exceptions import NotFound
from airflow_pipeops.waits.operators import LookingOperator
from airflow_pipeops.waits.verdict import Verdict
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
    from airflow_pipeops.argo_workflows.rules import Goal
    from airflow_pipeops.argo_workflows.status import WorkflowStatus


class ConnectedOperator(DeliveryOperator):
    """What all operators share that reach Argo Workflows.

    :param argo_workflows_conn_id: the connection: to a server of Argo Workflows, or of type ``kubernetes``.
    :param namespace: of what is meant; by default that of the connection. Templated.
    """

    template_fields: Sequence[str] = ("namespace", *DeliveryOperator.template_fields)
    operator_extra_links = LINKS
    ui_color = "#fdf0e6"

    def __init__(
        self,
        *,
        argo_workflows_conn_id: str = ArgoWorkflowsHook.default_conn_name,
        namespace: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.argo_workflows_conn_id = argo_workflows_conn_id
        self.namespace = namespace
        self.workflow_url = ""


class ArgoWorkflowsOperator(ConnectedOperator, LookingOperator):
    """What all operators of workflows share."""

    def hook(self) -> ArgoWorkflowsHook:
        """Return the hook, its connection read: it may name the namespace, and the address of the web interface."""
        hook = ArgoWorkflowsHook(self.argo_workflows_conn_id, namespace=self.namespace or "")
        hook.client()
        return hook

    def show(self, hook: ArgoWorkflowsHook, ref: WorkflowRef) -> None:
        """Set the link to a workflow."""
        self.workflow_url = workflow_url(hook.url, ref.namespace, ref.name, ref.uid)


class WorkflowActOperator(ArgoWorkflowsOperator):
    """Base of the operators that act on one workflow that is there.

    :param name: of the workflow. Templated.
    :param uid: which of that name; by default the newest. Templated.
    """

    template_fields: Sequence[str] = ("name", "uid", *ArgoWorkflowsOperator.template_fields)

    def __init__(self, *, name: str, uid: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.uid = uid
        self._demanded = given(uid=uid)

    def ref(self, hook: ArgoWorkflowsHook) -> WorkflowRef:
        """Return which workflow is meant, and set the link to it."""
        still_given(self, self._demanded)
        found = hook.ref(object_name(self.name), self.uid or "")
        self.show(hook, found)
        return found


class WorkflowWaitMixin(ArgoWorkflowsOperator):
    """Waiting for a workflow, in the worker or the triggerer.

    :param timeout: for the whole wait.
    """

    def __init__(self, *, timeout: timedelta = timedelta(days=1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.timeout = positive("timeout", timeout)
        #: Lines of each pod's log that are in the task's log already.
        self.said: dict[str, int] = {}
        #: All lines are.
        self.said_all = False

    def wait_for(
        self,
        context: Context,
        ref: WorkflowRef,
        goal: Goal,
        method: str,
        *,
        follow_logs: bool = False,
        if_killed: str = "leave",
        note: Mapping[str, Any] | None = None,
    ) -> Decided:
        """Wait for a workflow; deferred unless the first look decides.

        :param context: of the running task.
        :param ref: which workflow.
        :param goal: what the wait is for.
        :param method: name of the method that goes on after a deferral, with the trigger's event.
        :param follow_logs: write the log of its nodes into that of the task.
        :param if_killed: what becomes of it when somebody ends the task while it is deferred.
        :param note: comes back with the trigger's event.
        :return: where the wait stands when it is over.
        """
        hook = self.hook()
        wait = WorkflowWait(ref, goal, on_change=self._verdict, on_progress=self._progress(context))

        def trigger(_: Sequence[Any]) -> ArgoWorkflowTrigger:
            return ArgoWorkflowTrigger(
                argo_workflows_conn_id=self.argo_workflows_conn_id,
                namespace=ref.namespace,
                wait=wait.to_json(),
                poll_interval=self.poll_interval.total_seconds(),
                follow_logs=follow_logs,
                if_killed=if_killed,
                note=note,
            )

        def run(work: Callable[[Any], Any], **options: Any) -> Any:
            return hook.run(lambda client: self._followed(client, ref, work, follow_logs), **options)

        self.show(hook, ref)
        self.until(lambda: [wait], run, WorkflowController, trigger, method, timeout=self.timeout)
        return wait.state

    async def _followed(
        self, client: ArgoWorkflows, ref: WorkflowRef, work: Callable[[Any], Any], follow_logs: bool
    ) -> Any:
        from airflow_pipeops.argo_workflows.logs import Follower, followed

        # A task that will be deferred looks once, and leaves the log to the trigger.
        follower = Follower(client, ref, self.log.info) if follow_logs and not self.deferrable else None
        try:
            return await followed(follower, work(client))
        finally:
            self.said = dict(follower.said) if follower is not None else {}
            self.said_all = follower is not None and follower.complete

    def resumed(self, event: Mapping[str, Any] | None) -> tuple[Decided, Mapping[str, Any]]:
        """Read a trigger's event.

        :param event: as it came.
        :return: where the wait stands, and the note that was given.
        :raises PipeOpsError: the error that ended the trigger, if one did.
        """
        raise_error_of(event)
        assert event is not None
        decided = Decided.from_json(event["decided"])
        self.said, self.said_all = dict(event.get("said") or {}), event.get("complete") is True
        self._verdict(decided.verdict)
        return decided, event.get("note") or {}

    def seen_ended(
        self, ref: WorkflowRef, decided: Decided, read: Callable[[ArgoWorkflows], Awaitable[WorkflowStatus]]
    ) -> WorkflowStatus:
        """Return the whole workflow whose end was seen, or what was seen of it where it was deleted since.

        :param ref: which workflow.
        :param decided: where the wait for it stands.
        :param read: reads it.
        :return: what is known of it.
        """
        from airflow_pipeops.argo_workflows.status import WorkflowStatus

        try:
            return self.hook().run(read)
        except NotFound as error:
            hidden = "it was deleted before its outputs and nodes were read"
            self.log.warning("%s: %s", hidden, error)
            seen = decided.verdict.details
            phase, said = str(seen.get("phase") or ""), str(seen.get("message") or "")
            return WorkflowStatus(ref.name, ref.namespace, ref.uid, phase=phase, message=said, hidden=hidden)

    def facts_of(self, status: WorkflowStatus) -> dict[str, Any]:
        """Return what a task says of its workflow; ``not_shown`` is there only where something could not be read."""
        from airflow_pipeops.argo_workflows.reports import outputs_of

        return {
            "name": status.name,
            "namespace": status.namespace,
            "uid": status.uid,
            "phase": status.phase,
            "progress": status.progress,
            "url": self.workflow_url,
            **outputs_of(status),
            **({"not_shown": status.hidden} if status.hidden else {}),
        }

    def _verdict(self, verdict: Verdict) -> None:
        self.log.info("%s: %s (%s)", verdict.state, verdict.reason, verdict.rule)

    def _progress(self, context: Context) -> Callable[[WorkflowStatus], None]:
        def tell(status: WorkflowStatus) -> None:
            self.log.info("%s: %s", status.name, status.progress)
            show_progress(context, status)

        return tell


def show_progress(context: Context, status: WorkflowStatus) -> None:
    """Let ``map_index_template="{{ workflow.name }}: {{ workflow.progress }}"`` render how far a workflow is."""
    named = {"name": status.name, "phase": status.phase or "not begun", "progress": status.progress}
    context["workflow"] = named  # type: ignore[typeddict-unknown-key]


def folder_of(task: Any) -> str:
    """Return the folder of the DAG file of a task, in which relative file names are looked for; empty for none."""
    return str(getattr(task.dag, "folder", "") or "") if task.has_dag() else ""
