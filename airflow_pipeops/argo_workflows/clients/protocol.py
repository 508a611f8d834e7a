"""What operators, triggers and watchers need of Argo Workflows, whichever way leads there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from airflow_pipeops.exceptions import NotFound

#: What can be done with a workflow that is there.
Act = Literal["stop", "terminate", "suspend", "resume", "retry", "resubmit"]
Self = TypeVar("Self")


@dataclass(frozen=True)
class WorkflowRef:
    """Names one workflow.

    :param name: its name.
    :param namespace: its namespace.
    :param uid: which of that name; empty for the newest.
    :param project: there are none; what shares a stream asks for it.
    """

    name: str
    namespace: str
    uid: str = ""
    project: str = ""

    def __str__(self) -> str:
        return f"workflow {self.namespace}/{self.name}"


def gone(ref: WorkflowRef, why: str) -> NotFound:
    """Return the error for a workflow that is not there any more: how it ended cannot be known."""
    return NotFound(f"{ref} (uid {ref.uid}) is gone, and its end was not seen: {why}")


@dataclass(frozen=True)
class Trial:
    """What trying a connection has shown.

    :param greeting: what answers, and of which version.
    :param lacking: verbs that are missing, each with what it is needed for.
    :param untried: what could not be tried without doing it.
    :param usable: to look works.
    """

    greeting: str
    lacking: tuple[str, ...] = ()
    untried: str = ""
    usable: bool = True


#: What a route lacks through which the failed nodes of a workflow cannot be run again: whoever comes back finds it as it is.
RETRYING = "retrying a workflow"


class ArgoWorkflows(Protocol):
    """One Argo Workflows. Use it as ``async with``. Errors are :class:`~airflow_pipeops.exceptions.PipeOpsError`."""

    #: What this way cannot show or do, each in a few words.
    lacks: tuple[str, ...]

    async def __aenter__(self: Self) -> Self: ...
    async def __aexit__(self, *error: object) -> None: ...

    async def get(self, ref: WorkflowRef, *, whole: bool = False) -> dict[str, Any]:
        """Return a workflow, from the archive where it is not live any more.

        :param whole: with all its nodes; otherwise what a judgement needs.
        :return: as the API sends it.
        :raises NotFound: where there is none of this name, and uid where one is given.
        """

    async def find(self, namespace: str, labels: str, *, archived: bool = True) -> list[dict[str, Any]]:
        """Return the workflows with a label selector, those of the archive among them where it is known."""

    async def lint(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        """Have a workflow checked.

        :raises InvalidInput: with what is wrong.
        :raises Unsupported: where nobody can check.
        """

    async def template(self, namespace: str, name: str, *, cluster_scope: bool) -> dict[str, Any]:
        """Return a ``WorkflowTemplate``, or a ``ClusterWorkflowTemplate``."""

    async def create(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a workflow.

        :return: as it was stored.
        :raises Conflict: where one of the name is there, or a quota is full: look which.
        """

    async def act(self, ref: WorkflowRef, act: Act, **options: Any) -> dict[str, Any]:
        """Do something with a workflow.

        :return: what it, or the new one, is then.
        :raises Ended: where it has ended, and cannot be stopped or suspended.
        """

    def logs(
        self, ref: WorkflowRef, *, pod: str = "", tail: int = 0, follow: bool = False
    ) -> AsyncGenerator[tuple[str, str], None]:
        """Yield ``(pod, line)`` of the main containers; nothing for pods that are gone."""

    async def artifact(self, ref: WorkflowRef, node: str, name: str, *, archived: bool) -> str:
        """Read an output artifact of a node.

        :param archived: the workflow is not live any more.
        :return: its text.
        """

    def watch(self, namespace: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield ``{"type": ..., "object": ...}``: each workflow that there is, then each change; only an error ends it."""

    async def cron(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a ``CronWorkflow``."""

    async def create_cron(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a ``CronWorkflow``."""

    async def replace_cron(self, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a ``CronWorkflow``; only if it is still at the version that the manifest names."""

    async def suspend_cron(self, namespace: str, name: str, *, suspend: bool) -> dict[str, Any]:
        """Suspend a ``CronWorkflow``, or let it run again."""

    async def trial(self, namespace: str) -> Trial:
        """Try what can be tried, and name the verbs that are missing."""
