"""Go back to an earlier release of an application that no auto-sync drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.clients.requests import refused
from airflow_pipeops.argocd.history import Entry, history_of, meant
from airflow_pipeops.argocd.operators.base import ArgoCDOperator, ArgoCDWaitOperator
from airflow_pipeops.argocd.situation import in_progress
from airflow_pipeops.argocd.waits import Decided
from airflow_pipeops.delivery.operators import no_retry
from airflow_pipeops.exceptions import Conflict, InvalidInput, PipeOpsError, Unreachable
from airflow_pipeops.git.forges import first_commit_url
from airflow_pipeops.waits.status import Observed, Operation
from airflow_pipeops.waits.verdict import Expectation, Memory

if TYPE_CHECKING:
    from airflow.sdk import Context


class ArgoCDRollbackOperator(ArgoCDWaitOperator):
    """Go back to an earlier release of the application's history, and wait until it is applied and healthy.

    For emergencies, and for applications that are synchronised by hand. Git is not changed, so the application is out of
    sync afterwards, and no hooks run. Under auto-sync it is refused, since the next synchronisation would undo it: there,
    revert the commit with :class:`~airflow_pipeops.git.operators.GitOpsRevertOperator`.

    The goal is named absolutely, never as "the one before": so the task is safe to try again, and finds that it is there
    already, or that its operation is running.

    Returns ``{app, history_id, revision, rolled_back, health, sync, rule, reason, url, record_id}``; ``rolled_back`` is
    false where that release was live already.

    :param history_id: id of an entry of the history; or
    :param revision: the full revision that was live then. Templated.
    :param prune: remove what that release did not have.
    """

    template_fields: Sequence[str] = ("history_id", "revision", *ArgoCDOperator.template_fields)
    emits = ("rollback", "release")

    def __init__(
        self, *, history_id: int | str | None = None, revision: str = "", prune: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.history_id = history_id
        self.revision = revision
        self.prune = prune

    def execute(self, context: Context) -> dict[str, Any]:
        """Go back, unless that is done or under way; then wait."""
        with no_retry():
            return self._start(context, None, 0)

    def execute_idle(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on when the operation of somebody else has ended."""
        with no_retry():
            decided = self.resumed(event)
            self.demand(decided)
            return self._start(context, decided.memory, 0)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on when our operation was judged."""
        with no_retry():
            return self._finish(context, self.resumed(event), True)

    def execute_there(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on when a release that was there already was judged."""
        with no_retry():
            return self._finish(context, self.resumed(event), False)

    def _start(self, context: Context, memory: Memory | None, round_: int) -> dict[str, Any]:
        hook = self.hook()
        application = hook.application(self.app)
        observed, history = observe(application), history_of(application)
        goal = self._goal(observed, history)
        operation = observed.operation
        if operation is not None and in_progress(operation, observed.compared_at):
            if _rolls_back_to(operation, goal, application):
                self.log.info("Found a rollback to %s in progress", goal)
                return self._await(context, goal, True)
            return self._await_idle(context, memory, round_)
        if history[-1].same_as(goal) and operation is not None and operation.revisions == goal.revisions:
            self.log.info("Entry %s is live already", goal)
            return self._await(context, goal, False)
        try:
            hook.run(lambda client: client.rollback(hook.ref(self.app), goal.number, prune=self.prune))
        except Conflict:
            return self._await_idle(context, memory, round_)
        except Unreachable:
            # The server may have acted before the answer was lost.
            if not self._under_way(hook.application(self.app), goal):
                raise
        except PipeOpsError as error:
            raise refused(error) from error
        return self._await(context, goal, True)

    def _goal(self, observed: Observed, history: Sequence[Entry]) -> Entry:
        if observed.automatic:
            raise InvalidInput(
                f"auto-sync of {self.app} is on, so a rollback would be undone at once",
                field="app",
                value=self.app,
                remedy="Revert the commit in Git with GitOpsRevertOperator and wait with ArgoCDAppSensor.",
            )
        goal = meant(history, number=self.history_id, revision=self.revision)
        if len(goal.revisions) != len(observed.sources):
            raise InvalidInput(
                f"entry {goal} was made of {len(goal.revisions)} sources, and {self.app} has {len(observed.sources)} now",
                field="history_id",
                value=goal.number,
                remedy="Change the desired state in Git instead, with GitOpsRevertOperator.",
            )
        self.commit_url = first_commit_url([source.repo for source in observed.sources], goal.revisions)
        return goal

    @staticmethod
    def _under_way(application: Mapping[str, Any], goal: Entry) -> bool:
        observed, history = observe(application), history_of(application)
        operation = observed.operation
        if operation is not None and in_progress(operation):
            return _rolls_back_to(operation, goal, application)
        return bool(history) and history[-1].number != goal.number and history[-1].same_as(goal)

    def _await(self, context: Context, goal: Entry, ours: bool) -> dict[str, Any]:
        expectation = self.within(
            Expectation(
                revisions={str(index): revision for index, revision in enumerate(goal.revisions)},
                basis="applied",
            )
        )
        decided = self.wait(expectation, "execute_complete" if ours else "execute_there")
        return self._finish(context, decided, ours)

    def _await_idle(self, context: Context, memory: Memory | None, round_: int) -> dict[str, Any]:
        return self._start(context, self.until_idle("roll back", memory, round_), round_ + 1)

    def _finish(self, context: Context, decided: Decided, ours: bool) -> dict[str, Any]:
        self.demand(decided)
        application = self.hook().application(self.app)
        history = history_of(application)
        goal = meant(history, number=self.history_id, revision=self.revision)
        result = {
            "app": self.app,
            "history_id": goal.number,
            "revision": goal.revisions[0] if len(goal.revisions) == 1 else list(goal.revisions),
            "rolled_back": ours,
            "health": decided.summary["health"],
            "sync": decided.summary["sync"],
            "rule": decided.verdict.rule,
            "reason": decided.verdict.reason,
            "url": self.argocd_url,
        }
        body = {**result, "images": decided.summary.get("images", [])}
        back = {key: result[key] for key in ("app", "revision", "reason")}
        rollback = self.emit(context, "rollback", {**back, "reverts": None, "how": "rollback"})
        record_id = self.emit(context, "release", body, parents=[rollback] if rollback else [])
        return {**result, "record_id": record_id}


def _rolls_back_to(operation: Operation, goal: Entry, application: Mapping[str, Any]) -> bool:
    """Whether an operation in progress is as good as a rollback to an entry: at its revisions, and without hooks."""
    state = (application.get("status") or {}).get("operationState") or {}
    request = application.get("operation") or state.get("operation") or {}
    strategy = (request.get("sync") or {}).get("syncStrategy") or {}
    return operation.at == goal.revisions and "apply" in strategy
