"""Why a node failed, in the words of whoever has to mend it; and whether it was the work, or what it ran on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from airflow_pipeops.argo_workflows.status import Node, WorkflowStatus
from airflow_pipeops.kubernetes.errors import REFUSED, UNANSWERED


@dataclass(frozen=True)
class Cause:
    """Why a node failed.

    :param kind: stable name.
    :param said: one sentence.
    :param infrastructure: the work itself did not fail: another attempt may go well.
    """

    kind: str
    said: str
    infrastructure: bool = False


#: What messages of Kubernetes and Argo Workflows mean, first match first.
_CAUSES: tuple[tuple[re.Pattern[str], Cause], ...] = (
    (re.compile(r"OOMKilled"), Cause("out_of_memory", "it used more memory than its limit and was killed")),
    (
        re.compile(r"ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|Failed to pull image"),
        Cause("image", "its image cannot be pulled: check its name, and the credentials of its registry"),
    ),
    (
        re.compile(r"CreateContainerConfigError|CreateContainerError"),
        Cause("container", "its container cannot be created: check what it refers to, and its command"),
    ),
    (
        re.compile(r"exceeded quota|must specify (?:limits|requests|cpu|memory)"),
        Cause("quota", "a quota of the namespace refuses its pod"),
    ),
    (
        UNANSWERED,
        Cause("webhook", "an admission webhook of the cluster did not answer", infrastructure=True),
    ),
    (
        REFUSED,
        Cause("admission", "a rule of the cluster or the namespace refuses its pod"),
    ),
    (
        re.compile(r"is forbidden|cannot (?:create|get|patch|list) resource"),
        Cause("permission", "the workflow's service account lacks a permission"),
    ),
    (
        re.compile(
            r"pod deleted|Evicted|[Pp]reempt|node (?:was )?(?:lost|shutdown|shut down)|NodeLost|NodeShutdown|imminent node "
            r"shutdown|[Nn]ode .{0,80}(?:not ready|NotReady|unreachable|low on resource)|TerminationByKubelet|"
            r"terminated in response to|DeletionByTaintManager|UnexpectedAdmissionError"
        ),
        Cause("infrastructure", "its pod or its machine was lost", infrastructure=True),
    ),
    (
        re.compile(r"DeadlineExceeded|active deadline|specified deadline|exceeded its deadline"),
        Cause("deadline", "it took longer than it may"),
    ),
)
#: From this exit code on, a signal has ended the work.
_SIGNALLED = 128
_KILLED = Cause(
    "out_of_memory", "it was killed (exit code 137), most often for using more memory than its limit"
)


def cause_of(node: Node) -> Cause | None:
    """Say why a node failed, where what is known of it tells; ``None`` where nothing but its own log does."""
    # A message may hold what the work itself has written, which says nothing of what it ran on.
    own = node.exit_code is not None and 0 < node.exit_code < _SIGNALLED
    for pattern, cause in _CAUSES[:1] if own else _CAUSES:
        if pattern.search(node.message):
            return cause
    return _KILLED if node.exit_code == 137 and node.failed else None


def hindrance_of(node: Node) -> Cause | None:
    """Say why the pod of a node does not begin; ``None`` for a node that is not pending, and where nobody says why."""
    if node.type != "Pod" or node.phase != "Pending":
        return None
    # What the scheduler says of each machine names losses and evictions, too.
    if node.message.startswith("Unschedulable"):
        return Cause("room", "no machine takes its pod")
    cause = cause_of(node)
    return (
        cause if cause is not None and cause.kind in ("image", "container", "quota", "permission") else None
    )


def failed_nodes(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes whose failure is not that of a node below them, in the order in which they ended.

    Of a node that was tried several times, the last attempt counts, and none where that went well.

    :param nodes: of one workflow.
    :return: those that failed by themselves.
    """
    known = list(nodes)
    earlier: set[str] = set()
    for node in known:
        if node.type == "Retry":
            earlier.update(node.children[:-1] if node.failed else node.children)
    found = [
        node
        for node in known
        if node.failed
        and node.id not in earlier
        and node.type not in ("DAG", "Steps", "StepGroup", "Retry", "TaskGroup")
    ]
    return sorted(found, key=lambda node: (node.finished_at, node.name))


def infrastructure(status: WorkflowStatus) -> str:
    """Return which losses of the infrastructure made a workflow fail; empty where the work failed, or nobody can tell."""
    if status.phase not in ("Failed", "Error") or status.shutdown:
        return ""
    failed = failed_nodes(status.nodes)
    causes = [cause_of(node) for node in failed]
    if not failed or not all(cause and cause.infrastructure for cause in causes):
        return ""
    return ", ".join(f"{node.shown}: {node.message}" for node in failed[:5])
