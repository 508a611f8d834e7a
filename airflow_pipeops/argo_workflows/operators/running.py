"""Run a workflow of a task's own: once, found again by each attempt, waited for, and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from airflow.sdk.configuration import conf

from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
from airflow_pipeops.argo_workflows.manifest import namespace_of
from airflow_pipeops.argo_workflows.names import COMMIT, LONGEST, OPERATION, RUN, mark_of, marked, name_of
from airflow_pipeops.argo_workflows.operators.base import (
    ArgoWorkflowsOperator,
    WorkflowWaitMixin,
    show_progress,
)
from airflow_pipeops.argo_workflows.rules import Goal
from airflow_pipeops.argo_workflows.waits import error_of
from airflow_pipeops.base.arguments import mapping, one_of, positive
from airflow_pipeops.base.interrupts import beside
from airflow_pipeops.delivery.operators import no_retry, order_key, source_of
from airflow_pipeops.exceptions import NotFound, PipeOpsError
from airflow_pipeops.waits.wait import Decided

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
    from airflow_pipeops.argo_workflows.status import WorkflowStatus
    from airflow_pipeops.argo_workflows.submission import Order, Submitted

_ON_FAILURE: tuple[Literal["fail", "retry_failed_nodes"], ...] = ("fail", "retry_failed_nodes")
_IF_KILLED = ("stop", "terminate", "leave")
_SUSPENDED: tuple[Literal["wait", "fail"], ...] = ("wait", "fail")
_LOGS = ("follow", "end", "none")
#: Rules by which a wait ends while its workflow runs on.
_LEFT_RUNNING = ("deadline", "suspended", "does_not_begin")


class WorkflowRunOperator(WorkflowWaitMixin):
    """Base of the operators that run a workflow of their own, and wait for its end.

    Safe to try again: its name and its label ``pipeops/op`` are those of the task (DAG, run, task, map index), so that a
    retry finds the workflow of the attempt before, running or ended, in place of starting another. A task that was
    cleared runs a new one.

    Returns ``{name, namespace, uid, phase, progress, outputs, node_outputs, artifacts, exit_codes, attached, url,
    record_id}``; ``outputs`` are the workflow's own parameters, and artifacts are references, never content. What could
    not be read of a workflow that has ended is said in ``not_shown``. With a ``deliverable``, a workflow that succeeded is
    recorded.

    :param parameters: of the workflow, by name; each must be declared. What is no text is given as JSON. Templated.
    :param name: what the name of the workflow begins with; by default the ids of DAG and task. Templated.
    :param labels: further labels. Templated.
    :param annotations: further annotations. Templated.
    :param commit: full id of the commit that it is about, for label and record. Templated.
    :param on_failure: ``fail``, or ``retry_failed_nodes``: Airflow's retry of the task retries the failed nodes of the
        workflow, and what had succeeded is not done again. A workflow that failed by what it ran on alone (its pods or
        machines were lost) is always tried again so, where the task has retries.
    :param on_kill: what becomes of the workflow when somebody ends the task: ``stop`` (its exit handlers run), ``terminate``
        or ``leave``.
    :param logs: ``follow`` writes the logs of its nodes into that of the task while it runs, ``end`` when it has ended,
        ``none`` never.
    :param lint: have the server check the workflow before it is created.
    :param on_suspended: ``wait`` for somebody to resume it, or ``fail``.
    :param pending_timeout: for which a pod may not begin for a cause that waiting does not mend: its image cannot be pulled,
        or its container not be created. What waits for room is waited for.
    """

    template_fields: Sequence[str] = (
        "parameters",
        "name",
        "labels",
        "annotations",
        "commit",
        *ArgoWorkflowsOperator.template_fields,
    )
    emits = ("workflow",)

    def __init__(
        self,
        *,
        parameters: Mapping[str, Any] | None = None,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        commit: str | None = None,
        on_failure: Literal["fail", "retry_failed_nodes"] = "fail",
        on_kill: Literal["stop", "terminate", "leave"] = "stop",
        logs: Literal["follow", "end", "none"] = "follow",
        lint: bool = True,
        on_suspended: Literal["wait", "fail"] = "wait",
        pending_timeout: timedelta = timedelta(minutes=10),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.parameters = parameters or {}
        self.name = name
        self.labels = labels or {}
        self.annotations = annotations or {}
        self.commit = commit
        self.on_failure = one_of("on_failure", on_failure, _ON_FAILURE)
        self.if_killed = one_of("on_kill", on_kill, _IF_KILLED)
        self.logs = one_of("logs", logs, _LOGS)
        self.lint = lint
        self.on_suspended = one_of("on_suspended", on_suspended, _SUSPENDED)
        self.pending_timeout = positive("pending_timeout", pending_timeout)
        self._running: WorkflowRef | None = None
        self._killed = False

    # ---- a task's life -----------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> dict[str, Any]:
        """Find our workflow, or submit it; then wait."""
        with no_retry():
            submitted = self._submitted(context)
            goal = Goal(
                timeout=self.timeout.total_seconds(),
                uid=submitted.status.uid,
                after=submitted.after,
                on_suspended=self.on_suspended,
                pending_timeout=self.pending_timeout.total_seconds(),
            )
            note = {"attached": submitted.attached}
            decided = self.wait_for(
                context,
                submitted.ref,
                goal,
                "execute_complete",
                follow_logs=self.logs == "follow",
                if_killed=self.if_killed,
                note={
                    **note,
                    "name": submitted.ref.name,
                    "namespace": submitted.ref.namespace,
                    "uid": goal.uid,
                },
            )
            return self._finish(context, submitted.ref, decided, submitted.attached)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral."""
        from airflow_pipeops.argo_workflows.clients.protocol import WorkflowRef

        with no_retry():
            decided, note = self.resumed(event)
            ref = WorkflowRef(str(note["name"]), str(note["namespace"]), str(note["uid"]))
            self.show(self.hook(), ref)
            return self._finish(context, ref, decided, bool(note.get("attached")))

    def on_kill(self) -> None:
        """Stop the workflow, or leave it, where somebody ends the task in the worker."""
        from airflow_pipeops.argo_workflows.clients.errors import Ended

        ref, act, self._killed = self._running, self.if_killed, True
        if ref is None or act == "leave":
            return

        def end() -> None:
            try:
                self.hook().run(
                    lambda client: client.act(ref, "terminate" if act == "terminate" else "stop"), attempts=2
                )
            except (Ended, NotFound):
                return  # it has ended, or is not there yet
            except PipeOpsError as error:
                self.log.warning("%s could not be ended: %s", ref, error)
            else:
                self.log.info("The task was ended: %s %s", act, ref)

        beside(end)

    # ---- submitting --------------------------------------------------------------------------------------------------

    def _submitted(self, context: Context) -> Submitted:
        from airflow_pipeops.argo_workflows.clients.protocol import WorkflowRef
        from airflow_pipeops.argo_workflows.submission import TaskNotes, submit

        hook = self.hook()
        order = self._order(context, hook)
        self.workflow_url = ""
        notes = TaskNotes(context.get("task_state_store"))
        # Whoever kills the task before it has heard of the workflow ends it, too.
        self._running = WorkflowRef(order.name, order.namespace)
        found = hook.run(lambda client: submit(client, order, notes, self.log.info))
        self._running = found.ref
        if self._killed:  # before there was anything to end
            self.on_kill()
        self.log.info("Running %s (uid %s)", found.status, found.status.uid)
        show_progress(context, found.status)
        return found

    def _order(self, context: Context, hook: ArgoWorkflowsHook) -> Order:
        from airflow_pipeops.argo_workflows.submission import Order, filled

        key, source = order_key(context), source_of(context)
        mark = mark_of(key)
        stem = self.name or f"{source['dag']}-{source['task']}"
        given = self._manifest()
        namespace = namespace_of(given or {}, self.namespace) or hook.namespace
        labels = {str(k): str(v) for k, v in mapping("labels", self.labels, "Give a dict.").items()}
        annotations = {
            str(k): str(v) for k, v in mapping("annotations", self.annotations, "Give a dict.").items()
        }
        if self.commit:
            labels[COMMIT] = self.commit[:LONGEST]
        annotations.setdefault(RUN, _run_url(source))
        parameters = dict(mapping("parameters", self.parameters, "Give a dict of name and value."))

        async def manifest(client: ArgoWorkflows) -> dict[str, Any]:
            base = await self._copied(client, namespace) if given is None else given
            whole = await filled(client, namespace, base, parameters)
            own = {**labels, OPERATION: mark}
            return marked(whole, order.name, namespace, labels=own, annotations=annotations)

        order = Order(
            name_of(stem, key),
            namespace,
            mark,
            manifest,
            lint=self.lint,
            retry_failed=self.on_failure == "retry_failed_nodes",
        )
        return order

    async def _copied(self, client: ArgoWorkflows, namespace: str) -> dict[str, Any]:
        """Return the manifest where only the server can tell it."""
        raise NotImplementedError

    def _manifest(self) -> dict[str, Any] | None:
        """Return the manifest; ``None`` where only the server can tell it."""
        raise NotImplementedError

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _finish(self, context: Context, ref: WorkflowRef, decided: Decided, attached: bool) -> dict[str, Any]:
        from airflow_pipeops.argo_workflows.causes import failed_nodes
        from airflow_pipeops.argo_workflows.reports import for_record

        if decided.verdict.state == "failed":
            raise self._failure(ref, decided)
        status = self.seen_ended(ref, decided, lambda client: self._whole(client, ref))
        show_progress(context, status)
        for node in failed_nodes(status.nodes)[:5]:
            self.log.warning("It is %s although %s is %s (continueOn)", status.phase, node.shown, node.phase)
        facts = self.facts_of(status)
        record_id = self.emit(context, "workflow", for_record(facts), commit=self.commit or None)
        return {**facts, "attached": attached, "record_id": record_id}

    async def _whole(self, client: ArgoWorkflows, ref: WorkflowRef) -> WorkflowStatus:
        """Read the whole workflow, and have the logs said that nobody has followed."""
        from airflow_pipeops.argo_workflows.logs import say_logs
        from airflow_pipeops.argo_workflows.status import read

        status = read(await client.get(ref, whole=True))
        if status.hidden:
            self.log.warning("Not shown here: %s", status.hidden)
        if self.logs != "none" and not self.said_all:
            await say_logs(client, status, self.said, self.log.info)
        return status

    def _failure(self, ref: WorkflowRef, decided: Decided) -> PipeOpsError:
        """Return the error of a failed wait, with what a person looks up next; best effort: the verdict is in."""
        verdict = decided.verdict
        message, lost = f"Argo {ref}: {verdict.reason} (rule {verdict.rule})", ""
        if verdict.rule in _LEFT_RUNNING:
            self._running = ref
            self.on_kill()  # nobody waits for it any more
        try:
            if verdict.rule in ("workflow_failed", *_LEFT_RUNNING):
                message, lost = self.hook().run(
                    lambda client: self._explained(client, ref, decided), attempts=2
                )
        except PipeOpsError as error:
            self.log.warning("What failed in it cannot be read: %s", error)
        if self.workflow_url:
            message += f"\n{self.workflow_url}"
        found = error_of(decided, message)
        if verdict.rule == "workflow_failed" and (lost or self.on_failure == "retry_failed_nodes"):
            found.retryable = True
        return found

    async def _explained(self, client: ArgoWorkflows, ref: WorkflowRef, decided: Decided) -> tuple[str, str]:
        from airflow_pipeops.argo_workflows.causes import failed_nodes, infrastructure
        from airflow_pipeops.argo_workflows.clients.protocol import RETRYING
        from airflow_pipeops.argo_workflows.logs import tails_of
        from airflow_pipeops.argo_workflows.reports import TAIL, WITH_LOGS, failure

        status = await self._whole(client, ref)
        verdict = decided.verdict
        if verdict.rule != "workflow_failed":
            return f"Argo {ref}: {verdict.reason} (rule {verdict.rule}); {status.progress}", ""
        nodes = [node for node in failed_nodes(status.nodes) if node.type == "Pod"][:WITH_LOGS]
        tails = await tails_of(client, status, nodes, TAIL)
        notes = [f"not shown by this connection: {', '.join(client.lacks)}"] if client.lacks else []
        lost = infrastructure(status)
        if lost and RETRYING in client.lacks:
            notes.append(
                "clear the task to run it anew: this connection cannot have the nodes that were lost run again"
            )
            lost = ""
        return failure(status, verdict.reason, tails, notes), lost


def _run_url(source: Mapping[str, Any]) -> str:
    """Return the page of the running task in Airflow; without a server's address, what names it."""
    server = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    parts = [quote(str(source[name]), safe="") for name in ("dag", "run", "task")]
    path = f"/dags/{parts[0]}/runs/{parts[1]}/tasks/{parts[2]}"
    mapped = f"/mapped/{source['map_index']}" if source["map_index"] >= 0 else ""
    return f"{server}{path}{mapped}"
