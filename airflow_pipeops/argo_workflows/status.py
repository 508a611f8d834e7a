"""What Argo Workflows says about one workflow, read into plain data of our own. Pure.

Everything may be absent: a workflow that was just created has no phase, fields may have been left out of the answer, and
the table of nodes of a large workflow is stored elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.argo_workflows.names import mark_in
from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.exceptions import BadResponse
from airflow_pipeops.waits.status import Observed

#: How a workflow, and a node, ends.
OVER = ("Succeeded", "Failed", "Error")
#: Fields of an answer that a judgement needs; the table of nodes, which may be of megabytes, is not among them.
FIELDS = (
    *(
        f"metadata.{name}"
        for name in (
            "name",
            "namespace",
            "uid",
            "labels",
            "resourceVersion",
            "creationTimestamp",
            "deletionTimestamp",
        )
    ),
    *("spec.suspend", "spec.shutdown"),
    *(f"status.{name}" for name in ("phase", "message", "progress", "startedAt", "finishedAt")),
)
_COMPLETED = "workflows.argoproj.io/completed"
_ARCHIVED = "workflows.argoproj.io/workflow-archiving-status"
_PROGRESS = re.compile(r"(\d{1,9})/(\d{1,9})")
#: Of what stands before the hash in the name of a pod.
_LONGEST_PREFIX = 253 - 10 - 1


@dataclass(frozen=True)
class Node:
    """One node of a workflow's graph.

    :param id: of the node.
    :param name: with its path.
    :param shown: as people see it.
    :param type: ``Pod``, ``DAG``, ``Steps``, ``Suspend``, ...
    :param template: that it runs.
    :param phase: ``Pending``, ``Running``, one of :data:`OVER`, ``Skipped`` or ``Omitted``.
    :param message: what is said about it.
    :param exit_code: of its main container.
    :param started_at: when it began.
    :param finished_at: when it ended.
    :param parameters: its output parameters.
    :param artifacts: references to its output artifacts, as the manifest has them; never their content.
    :param children: ids of the nodes below it, in their order.
    :param remembered: it was not run: its outputs are those of an earlier one (``memoize``).
    """

    id: str
    name: str
    shown: str = ""
    type: str = ""
    template: str = ""
    phase: str = ""
    message: str = ""
    exit_code: int | None = None
    started_at: str = ""
    finished_at: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Mapping[str, Any], ...] = ()
    children: tuple[str, ...] = ()
    remembered: bool = False

    @property
    def failed(self) -> bool:
        """It ended, and not well."""
        return self.phase in ("Failed", "Error")

    @property
    def number(self) -> str:
        """The hash of its name, with which the names of node and pod end."""
        return self.id.rpartition("-")[2]

    def pod(self, workflow: str) -> str:
        """Return the name of its pod, as version 3.4 and later give it."""
        if self.name == workflow:
            return workflow
        inline = ".inline" in self.name or not self.template
        prefix = workflow if inline else f"{workflow}-{self.template}"
        return f"{prefix[:_LONGEST_PREFIX]}-{self.number}"


@dataclass(frozen=True)
class Log:
    """What is left of the log of a node.

    :param lines: its lines; ``None`` where no log is left.
    :param doubt: why lines may be missing, and why no log is left; empty where it was read to its end after its container
        had ended.
    """

    lines: list[str] | None
    doubt: str = ""


@dataclass(frozen=True)
class WorkflowStatus:
    """One look at one workflow.

    :param name: its name.
    :param namespace: its namespace.
    :param uid: tells it from another one of the name.
    :param created_at: when it was created.
    :param mark: which task it belongs to; empty for one that is no task's.
    :param phase: empty, ``Pending``, ``Running`` or one of :data:`OVER`.
    :param message: what is said about it.
    :param done: nodes that have succeeded.
    :param total: nodes that are known of.
    :param started_at: when it began, or was last tried again.
    :param finished_at: when it ended; empty before.
    :param completed: the results of its tasks are in, too.
    :param archived: it was read out of the archive.
    :param suspended: nothing new is started until somebody resumes it.
    :param shutdown: ``Stop`` or ``Terminate``, where somebody asked for that.
    :param deleting: its deletion was asked for.
    :param nodes: its nodes; empty where they were not asked for.
    :param hidden: why the nodes are not here though there are some; empty where that is not so.
    :param remembered: the nodes are those of an earlier look, and may be otherwise by now.
    :param parameters: its output parameters.
    :param artifacts: references to its output artifacts.
    """

    name: str
    namespace: str = ""
    uid: str = ""
    created_at: str = ""
    mark: str = ""
    phase: str = ""
    message: str = ""
    done: int = 0
    total: int = 0
    started_at: str = ""
    finished_at: str = ""
    completed: bool = False
    archived: bool = False
    suspended: bool = False
    shutdown: str = ""
    deleting: bool = False
    nodes: tuple[Node, ...] = ()
    hidden: str = ""
    remembered: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Mapping[str, Any], ...] = ()

    @property
    def over(self) -> bool:
        """It has ended."""
        return self.phase in OVER

    @property
    def attempt(self) -> str:
        """Which attempt has ended: it grows with each retry of the workflow; empty while it runs."""
        return f"{self.started_at}/{self.finished_at}" if self.over else ""

    @property
    def waiting(self) -> tuple[str, ...]:
        """The suspend nodes at which it waits for somebody."""
        return tuple(node.shown for node in self.nodes if node.type == "Suspend" and node.phase == "Running")

    @property
    def undone(self) -> tuple[Node, ...]:
        """The nodes that a judgement looks at: pods, and suspend nodes, that have not ended."""
        return tuple(
            node
            for node in self.nodes
            if node.type in ("Pod", "Suspend") and node.phase in ("Pending", "Running")
        )

    @property
    def progress(self) -> str:
        """How far it is, as people say it."""
        said = f"{self.done} of {self.total} nodes done" if self.total else "no nodes yet"
        running = [node.shown for node in self.nodes if node.type == "Pod" and node.phase == "Running"]
        more = f" and {len(running) - 5} more" if len(running) > 5 else ""
        return said + (f"; running: {', '.join(running[:5])}{more}" if running else "")

    def __str__(self) -> str:
        return f"workflow {self.namespace}/{self.name}" if self.namespace else f"workflow {self.name}"


def read(workflow: Any) -> WorkflowStatus:
    """Read a workflow.

    :param workflow: as the API sent it; fields may have been left out.
    :return: what it says.
    :raises BadResponse: for what is no workflow.
    """
    metadata, spec = map_(map_(workflow).get("metadata")), map_(map_(workflow).get("spec"))
    if not text(metadata.get("name")):
        raise BadResponse("an answer about a workflow is none: it has no name")
    status, labels = map_(workflow.get("status")), map_(metadata.get("labels"))
    nodes = tuple(_node(one) for one in map_(status.get("nodes")).values() if isinstance(one, Mapping))
    outputs = map_(status.get("outputs"))
    done, total = _counted(text(status.get("progress")))
    return WorkflowStatus(
        name=text(metadata.get("name")),
        namespace=text(metadata.get("namespace")),
        uid=text(metadata.get("uid")),
        created_at=text(metadata.get("creationTimestamp")),
        mark=mark_in(workflow),
        phase=text(status.get("phase")),
        message=text(status.get("message"), 2000),
        done=done,
        total=total,
        started_at=text(status.get("startedAt")),
        finished_at=text(status.get("finishedAt")),
        completed=labels.get(_COMPLETED) == "true" or _ARCHIVED in labels,
        archived=labels.get(_ARCHIVED) == "Persisted",
        suspended=spec.get("suspend") is True,
        shutdown=text(spec.get("shutdown")),
        deleting=bool(metadata.get("deletionTimestamp")),
        nodes=nodes,
        hidden=_hidden(status) if not nodes else "",
        parameters=_parameters(outputs),
        artifacts=tuple(maps(outputs.get("artifacts"))),
    )


def observe(workflow: Any) -> Observed:
    """Read a workflow into what the judge of every wait looks at.

    :param workflow: as the API sent it.
    :return: one look at it.
    """
    status = read(workflow)
    return Observed(
        status.name,
        status.namespace,
        uid=status.uid,
        health=status.phase or "Unknown",
        deleting=status.deleting,
        reconciled=status,
        called=f"the {status}",
    )


def _node(node: Mapping[str, Any]) -> Node:
    outputs = map_(node.get("outputs"))
    code = text(outputs.get("exitCode"))
    return Node(
        id=text(node.get("id")),
        name=text(node.get("name")),
        shown=text(node.get("displayName")) or text(node.get("name")),
        type=text(node.get("type")),
        template=text(node.get("templateName")) or text(map_(node.get("templateRef")).get("template")),
        phase=text(node.get("phase")),
        message=text(node.get("message"), 2000),
        exit_code=int(code) if re.fullmatch(r"-?\d{1,10}", code) else None,
        started_at=text(node.get("startedAt")),
        finished_at=text(node.get("finishedAt")),
        parameters=_parameters(outputs),
        artifacts=tuple(maps(outputs.get("artifacts"))),
        children=tuple(one for one in node.get("children") or () if isinstance(one, str))
        if isinstance(node.get("children"), list)
        else (),
        remembered=map_(node.get("memoizationStatus")).get("hit") is True,
    )


def _parameters(outputs: Mapping[str, Any]) -> dict[str, str]:
    found = maps(outputs.get("parameters"))
    return {
        text(one.get("name")): str(one["value"])
        for one in found
        if text(one.get("name")) and one.get("value") is not None
    }


def _counted(progress: str) -> tuple[int, int]:
    match = _PROGRESS.fullmatch(progress)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _hidden(status: Mapping[str, Any]) -> str:
    if status.get("offloadNodeStatusVersion"):
        return "its nodes are offloaded to the database of Argo Workflows, which only its server reads"
    if status.get("compressedNodes"):
        return "its nodes are stored compressed, and only the server of Argo Workflows unpacks them"
    return ""
