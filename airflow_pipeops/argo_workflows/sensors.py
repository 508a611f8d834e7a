"""Wait for a workflow that somebody else submits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_pipeops.argo_workflows.operators.base import ArgoWorkflowsOperator, WorkflowWaitMixin
from airflow_pipeops.argo_workflows.rules import Goal
from airflow_pipeops.argo_workflows.triggers import ArgoWorkflowSearchTrigger
from airflow_pipeops.argo_workflows.waits import error_of
from airflow_pipeops.base.arguments import given, one_given, one_of, still_given
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import InvalidInput, WorkflowFailed
from airflow_pipeops.waits.operators import MARGIN
from airflow_pipeops.waits.wait import Decided, raise_error_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef

_ENDS: tuple[Literal["Succeeded", "any"], ...] = ("Succeeded", "any")


class ArgoWorkflowSensor(WorkflowWaitMixin):
    """Wait until a workflow that somebody else submits is there, and has succeeded; fail as soon as it fails.

    Returns ``{name, namespace, uid, phase, progress, outputs, node_outputs, artifacts, exit_codes, url}``.

    :param name: of the workflow. Templated.
    :param uid: which of that name: another one of it is not waited for. Templated.
    :param labels: a label selector in place of a name; the newest workflow with it, when the sensor first looks, is waited
        for. Templated.
    :param expect: ``Succeeded``, or ``any`` way to end.
    :param timeout: for the whole wait, and for its being there.
    """

    template_fields: Sequence[str] = ("name", "uid", "labels", *ArgoWorkflowsOperator.template_fields)

    def __init__(
        self,
        *,
        name: str = "",
        uid: str = "",
        labels: str = "",
        expect: Literal["Succeeded", "any"] = "Succeeded",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        one_given("give either a name, or labels", "For example labels='team=ml'.", name=name, labels=labels)
        if uid and labels:
            raise InvalidInput("a uid goes with a name", field="uid", value=uid)
        self.name = name
        self.uid = uid
        self.labels = labels
        self.expect = one_of("expect", expect, _ENDS)
        self._demanded = given(name=name, uid=uid, labels=labels)

    def execute(self, context: Context) -> dict[str, Any]:
        """Find it, and wait."""
        from airflow_pipeops.argo_workflows.search import Search, find, until_found

        with no_retry():
            still_given(self, self._demanded)
            hook = self.hook()
            if self.uid:
                return self._until_over(context, hook.ref(self.name, self.uid))
            search, poll = Search(hook.namespace, self.name, self.labels), self.poll_interval.total_seconds()
            if self.deferrable:
                found = hook.run(lambda client: find(client, search))
            else:
                patience = self.timeout.total_seconds()
                found = hook.run(lambda client: until_found(client, search, patience, poll))
            if found is None:
                trigger = ArgoWorkflowSearchTrigger(
                    argo_workflows_conn_id=self.argo_workflows_conn_id,
                    namespace=hook.namespace,
                    name=self.name,
                    labels=self.labels,
                    timeout=self.timeout.total_seconds(),
                    poll_interval=poll,
                )
                self.log.info("Not there yet: %s", search)
                self.defer(trigger=trigger, method_name="execute_found", timeout=self.timeout + MARGIN)
            return self._until_over(context, hook.ref(found.name, found.uid))

    def execute_found(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on when it is there."""
        with no_retry():
            raise_error_of(event)
            assert event is not None
            hook = self.hook()
            return self._until_over(context, hook.ref(str(event["name"]), str(event["uid"])))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on when it is over."""
        with no_retry():
            decided, note = self.resumed(event)
            hook = self.hook()
            ref = hook.ref(str(note["name"]), str(note["uid"]))
            self.show(hook, ref)
            return self._finish(ref, decided)

    def _until_over(self, context: Context, ref: WorkflowRef) -> dict[str, Any]:
        goal = Goal(phase=self.expect, timeout=self.timeout.total_seconds(), uid=ref.uid)
        note = {"name": ref.name, "uid": ref.uid}
        return self._finish(ref, self.wait_for(context, ref, goal, "execute_complete", note=note))

    def _finish(self, ref: WorkflowRef, decided: Decided) -> dict[str, Any]:
        from airflow_pipeops.argo_workflows.reports import failure

        verdict = decided.verdict
        if verdict.state == "failed" and verdict.rule != "workflow_failed":
            raise error_of(decided, f"Argo {ref}: {verdict.reason} (rule {verdict.rule})")
        status = self.seen_ended(ref, decided, lambda client: _whole(client, ref))
        if verdict.state == "failed":
            raise WorkflowFailed(failure(status, verdict.reason, {}, [self.workflow_url]))
        return self.facts_of(status)


async def _whole(client: ArgoWorkflows, ref: WorkflowRef) -> Any:
    from airflow_pipeops.argo_workflows.status import read

    return read(await client.get(ref, whole=True))
