"""Waits for workflows as they travel in a trigger's arguments, and looking at a workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
from airflow_pipeops.argo_workflows.rules import Goal
from airflow_pipeops.argo_workflows.status import Node, WorkflowStatus, observe
from airflow_pipeops.exceptions import PipeOpsError, WorkflowFailed
from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.messages import decisive_last
from airflow_pipeops.waits.rulebook import Rulebook
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.streams.source import problem_of
from airflow_pipeops.waits.wait import Decided, Wait

#: Told how far a workflow is, whenever that is another than before.
OnProgress = Callable[[WorkflowStatus], None]
#: Rules after which it is the workflow that is at fault.
_FAILURES = frozenset({"workflow_failed", "another", "deleting", "suspended", "does_not_begin"})


class WorkflowWait(Wait):
    """One wait for one workflow, which tells its progress.

    :param ref: which workflow.
    :param goal: what the wait is for.
    :param memory: what an earlier part of the same wait remembered.
    :param on_change: told each verdict whose rule differs from the one before.
    :param on_progress: told how far the workflow is.
    """

    def __init__(
        self,
        ref: WorkflowRef,
        goal: Goal,
        memory: Memory | None = None,
        *,
        on_change: Callable[[Verdict], None] | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        expectation: Expectation = goal.expectation()
        remembered = memory or goal.memory()
        super().__init__(ref, expectation, remembered, rulebook=goal.rulebook, on_change=on_change)
        self.goal, self._on_progress, self._told = goal, on_progress, ""
        #: The workflow whose nodes were seen last, and those that had not ended.
        self._nodes: tuple[str, tuple[Node, ...]] = ("", ())

    async def judge(self, seen: Observed | Trouble) -> Verdict:
        """Judge one look."""
        if isinstance(seen, Observed):
            seen = self._with_nodes(seen)
        verdict = await super().judge(seen)
        if isinstance(seen, Observed) and self._on_progress is not None:
            status: WorkflowStatus = seen.reconciled
            if status.total and self._told != status.progress:
                self._told = status.progress
                self._on_progress(status)
        return verdict

    def _with_nodes(self, seen: Observed) -> Observed:
        """Return what was seen with the nodes that were seen last, where the stream has left them out."""
        status: WorkflowStatus = seen.reconciled
        uid, nodes = self._nodes
        if status.nodes:
            self._nodes = (seen.uid, status.undone)
        elif nodes and uid == seen.uid and not status.over:
            return replace(seen, reconciled=replace(status, nodes=nodes, remembered=True))
        return seen

    def to_json(self) -> dict[str, Any]:
        """Return the wait as it travels in a trigger's arguments."""
        ref: WorkflowRef = self.ref
        return {
            "name": ref.name,
            "namespace": ref.namespace,
            "uid": ref.uid,
            "goal": self.goal.to_json(),
            "memory": self.state.memory.to_json(),
        }

    @classmethod
    def from_json(
        cls,
        given: Mapping[str, Any],
        on_change: Callable[[Verdict], None] | None = None,
        on_progress: OnProgress | None = None,
    ) -> WorkflowWait:
        """Read what :meth:`to_json` wrote.

        :param given: its result.
        :param on_change: as for the class.
        :param on_progress: as for the class.
        :return: the wait, which goes on where it was.
        """
        ref = WorkflowRef(str(given["name"]), str(given["namespace"]), str(given.get("uid") or ""))
        memory = Memory.from_json(given.get("memory") or {})
        return cls(ref, Goal.from_json(given["goal"]), memory, on_change=on_change, on_progress=on_progress)


class WorkflowController:
    """Argo Workflows, as whoever waits for its workflows sees it.

    :param client: reaches it.
    """

    #: Of a wait without a goal of its own; each wait has its rulebook.
    rulebook: Rulebook = Goal().rulebook

    def __init__(self, client: ArgoWorkflows) -> None:
        self._client = client

    async def look(self, ref: WorkflowRef) -> Observed | Trouble:
        """Read a workflow."""
        try:
            return observe(await self._client.get(ref, whole=True))
        except PipeOpsError as error:
            problem = problem_of(error)
            if isinstance(problem, Trouble):
                return problem
            raise

    async def refresh(self, wait: Wait) -> Observed | Trouble | None:
        """There is nothing to compare: what it says is what is."""
        return None

    async def explain(self, ref: WorkflowRef, decided: Decided) -> str:
        """Return why a wait has failed."""
        return f"{ref}: {decided.verdict.reason}"


def error_of(decided: Decided, message: str) -> PipeOpsError:
    """Return the error that a failed wait for a workflow stands for.

    :param decided: where the wait stands.
    :param message: its first line says what failed, and why.
    :return: the error, to be raised.
    """
    if decided.verdict.rule in _FAILURES:
        return WorkflowFailed(decisive_last(message))
    return decided.error(message)
