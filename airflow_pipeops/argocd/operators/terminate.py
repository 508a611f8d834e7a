"""End the operation that an application is in."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.acts import Act
from airflow_pipeops.argocd.application import CORRELATION, observe
from airflow_pipeops.argocd.operators.acts import ArgoCDActOperator
from airflow_pipeops.argocd.operators.base import ArgoCDOperator
from airflow_pipeops.argocd.situation import in_progress
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import Conflict, PipeOpsError, Unreachable
from airflow_pipeops.waits.status import Observed, Operation, short, shorts

if TYPE_CHECKING:
    from airflow.sdk import Context

_NOTHING = "No operation is in progress"
#: How often an operation that is asked for, and was not begun yet, is tried again.
_ROUNDS = 20


class ArgoCDTerminateOperator(ArgoCDActOperator):
    """End the operation in progress (a synchronisation that hangs, or is no longer wanted), and wait until it has ended.

    Nothing is undone: what was applied stays. Where no operation is in progress, or only one that is not meant, the task
    succeeds and says so. Under auto-sync the controller does not start again for the same commit after that.

    Returns ``{app, terminated, revision, phase, message, initiated_by, reason, url}``.

    :param revision: only an operation at this revision. Templated.
    :param operation_id: only this operation, as ``ArgoCDSyncOperator`` returns it. Templated.
    :param this_run_only: only an operation that a task of this DAG run has started.
    :param timeout: for its end. A hook whose finalizer blocks can keep an operation terminating for long.
    """

    template_fields: Sequence[str] = ("revision", "operation_id", *ArgoCDOperator.template_fields)

    def __init__(
        self,
        *,
        revision: str = "",
        operation_id: str = "",
        this_run_only: bool = False,
        timeout: timedelta = timedelta(minutes=10),
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.revision = revision
        self.operation_id = operation_id
        self.this_run_only = this_run_only

    def execute(self, context: Context) -> dict[str, Any]:
        """End what is meant, and wait."""
        with no_retry():
            for _ in range(_ROUNDS):
                observed = observe(self.hook().application(self.app))
                operation = observed.operation
                if operation is None or not in_progress(operation, observed.compared_at):
                    return self._left("no operation is in progress")
                other = self._not_meant(operation, context)
                if other:
                    return self._left(other)
                if operation.phase == "Terminating" or self._terminate(observed):
                    act = Act(kind="ended", timeout=self.timeout.total_seconds(), mark=operation.started_at)
                    return self._finish(self.reach(act, "execute_complete"))
                time.sleep(self.poll_interval.total_seconds())
            raise Conflict(f"the operation of {self.app} was asked for, and never began")

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the deferral."""
        with no_retry():
            return self._finish(self.reached(event))

    def _not_meant(self, operation: Operation, context: Context) -> str:
        ident = operation.ids.get(CORRELATION, "")
        if self.revision and self.revision not in (*operation.revisions, *operation.asked):
            return (
                f"the operation in progress is at {shorts(operation.at)}, and not at {short(self.revision)}"
            )
        if self.operation_id and ident != self.operation_id:
            return f"the operation in progress is another one, of {operation.initiated_by or 'somebody'}"
        run = f"{context['ti'].dag_id}/{context['ti'].run_id}/"
        if self.this_run_only and not ident.startswith(run):
            return "the operation in progress was not started by this DAG run"
        return ""

    def _terminate(self, observed: Observed) -> bool:
        """Ask for the end; false where the operation has not begun, or has just ended."""
        hook = self.hook()
        try:
            hook.run(lambda client: client.terminate(hook.ref(self.app)))
        except Unreachable:
            # The server may have acted before the answer was lost.
            again = observe(hook.application(self.app)).operation
            if again is not None and in_progress(again) and again.phase != "Terminating":
                raise
        except PipeOpsError as error:
            if _NOTHING not in error.message:
                raise
            return False
        return True

    def _left(self, reason: str) -> dict[str, Any]:
        self.log.info("Nothing to end: %s", reason)
        return self._result(False, "", "", "", "", reason)

    def _finish(self, decided: Decided) -> dict[str, Any]:
        self.demand_effect(decided)
        last = observe(self.hook().application(self.app)).operation or Operation()
        return self._result(
            True,
            shorts(last.at) if last.at else "",
            last.phase,
            last.message,
            last.initiated_by,
            decided.verdict.reason,
        )

    def _result(
        self, done: bool, revision: str, phase: str, message: str, by: str, reason: str
    ) -> dict[str, Any]:
        return {
            "app": self.app,
            "terminated": done,
            "revision": revision,
            "phase": phase,
            "message": message,
            "initiated_by": by,
            "reason": reason,
            "url": self.argocd_url,
        }
