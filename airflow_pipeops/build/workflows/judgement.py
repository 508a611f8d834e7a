"""How a build or a test run has ended, or why it does not begin: read from its workflow. Pure.

Each has one pod. The names of the ends are those of the rules by which a Job is judged, see
:mod:`airflow_pipeops.build.cluster.judgement`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_pipeops.argo_workflows.causes import cause_of
from airflow_pipeops.argo_workflows.status import Node, WorkflowStatus
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.build.cluster.judgement import PATIENCE
from airflow_pipeops.build.cluster.steps import unreachable
from airflow_pipeops.git.process import passing

#: What a cause of a failed node is called here.
_CALLED = {
    "out_of_memory": "memory",
    "image": "image",
    "quota": "quota",
    "permission": "refused",
    "admission": "denied",
    "webhook": "lost",
    "infrastructure": "lost",
    "deadline": "too_long",
}
_EXIT = re.compile(r"exit code \d+")


@dataclass(frozen=True)
class End(JsonForm):
    """How it stands.

    :param rule: ``complete``, ``exit`` (the work itself has failed), ``too_long``, or why the work could not be done.
    :param said: in one sentence.
    """

    rule: str
    said: str


def pod_of(status: WorkflowStatus) -> Node | None:
    """Find the node of the pod. Exit handlers and hooks, which a cluster may give to each workflow, have pods of their own.

    :param status: the whole workflow.
    :return: the node; ``None`` where there is none yet, or where nodes are hidden.
    """
    beside = (f"{status.name}.onExit", f"{status.name}.hooks.")
    pods = [node for node in status.nodes if node.type == "Pod" and not node.name.startswith(beside)]
    return max(pods, key=lambda node: node.started_at, default=None)


def end_of(status: WorkflowStatus) -> End:
    """Say how a workflow has ended.

    :param status: the whole workflow, which has ended.
    :return: the end.
    """
    node = pod_of(status)
    message = (node.message if node else "") or status.message
    if status.hidden:
        return End("unexplained", f"how it has ended cannot be told: {status.hidden}")
    if node is not None and node.remembered:
        return End("remembered", "nothing was run: its outputs are those of an earlier run (memoize)")
    if status.phase == "Succeeded":
        return End("complete", "it has ended well")
    if status.shutdown:
        return End("stopped", f"somebody ended it ({status.shutdown})")
    cause = cause_of(node) if node else None
    if cause is not None:
        return End(_CALLED.get(cause.kind, "unexplained"), f"{cause.said}: {message}")
    if node is not None and node.exit_code:
        return End("exit", f"it ended with status {node.exit_code}")
    # The main container has not even begun, so it was one before it.
    if node is not None and node.exit_code is None and _EXIT.search(message):
        rule = "source_unreachable" if passing(message) else "source"
        return End(rule, f"its source could not be fetched: {message}")
    if node is not None and node.phase == "Succeeded":
        return End("beside", f"its work ended well, and an exit handler or a hook did not: {status.message}")
    return End("unexplained", f"it failed, and nobody says more than: {message or 'nothing'}")


def hindrance(status: WorkflowStatus, startup: float) -> tuple[End, float] | None:
    """Say why a workflow's pod does not run yet.

    :param status: the whole workflow.
    :param startup: seconds for which it may find no room, no node and no image.
    :return: why, and for how long (seconds) that may last; ``None`` for one that runs, or is over, and where its nodes are
        hidden: it has some, and how they are cannot be told.
    """
    node = pod_of(status)
    if (
        status.over
        or status.suspended
        or status.hidden
        or (node is not None and node.phase not in ("", "Pending"))
    ):
        return None
    if node is None:
        return End("starting", f"it has no pod yet: {status.message or 'nobody says why'}"), startup
    cause = cause_of(node)
    if cause is not None and cause.kind == "image":
        rule = "image_unreachable" if unreachable(node.message) else "image"
        return End(rule, f"an image of its pod cannot be pulled: {node.message}"), PATIENCE
    rule = "quota" if cause is not None and cause.kind == "quota" else "starting"
    return End(rule, f"its pod has not begun yet: {node.message or 'nobody says why'}"), startup
