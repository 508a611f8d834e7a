"""What a task says of its workflow: its outputs, and why it failed, of bounded size. Pure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_pipeops.argo_workflows.causes import cause_of, failed_nodes, infrastructure
from airflow_pipeops.argo_workflows.status import Log, Node, WorkflowStatus
from airflow_pipeops.redaction import excerpt, redacted
from airflow_pipeops.waits.messages import folded

#: Nodes in a table, and lines of a log below each of the first of them.
MOST_NODES, TAIL, WITH_LOGS = 20, 20, 5
#: A message is not longer than this, in characters.
_LONGEST = 8000
#: A longer output parameter is named by its digest in a record, and so is what is beyond so many bytes of them.
_LONGEST_VALUE, _MOST_BYTES = 1000, 6000
#: Of an artifact reference, what says where it is; credentials are references to secrets, and no business of anybody.
_SECRET = "Secret"


def outputs_of(status: WorkflowStatus) -> dict[str, Any]:
    """Return what a workflow gave: parameters, references to artifacts, and the exit codes of its nodes.

    :param status: the whole workflow.
    :return: as JSON.
    """
    pods = [node for node in status.nodes if node.type == "Pod"]
    often = Counter(node.shown for node in pods)
    # Two parts of a graph may have nodes that people see under the same name.
    called = {node.id: node.shown if often[node.shown] == 1 else node.name for node in pods}
    return {
        "outputs": dict(status.parameters),
        "node_outputs": {called[node.id]: dict(node.parameters) for node in pods if node.parameters},
        "artifacts": [
            *(_reference(one, "") for one in status.artifacts),
            *(_reference(one, called[node.id]) for node in pods for one in node.artifacts),
        ],
        "exit_codes": {called[node.id]: node.exit_code for node in pods if node.exit_code is not None},
    }


def for_record(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts for a record, in which what is large is named by its digest.

    :param facts: as :func:`outputs_of` and the operator give them.
    :return: the facts, as JSON of bounded size.
    """
    body = dict(facts)
    body["outputs"] = {name: _bounded(value) for name, value in facts["outputs"].items()}
    body["node_outputs"] = {
        node: {name: _bounded(value) for name, value in values.items()}
        for node, values in facts["node_outputs"].items()
    }
    for name in ("node_outputs", "artifacts", "exit_codes", "outputs"):
        if len(json.dumps(body[name])) > _MOST_BYTES:
            body[name] = _digest(json.dumps(facts[name], sort_keys=True))
    return body


def failure(status: WorkflowStatus, why: str, tails: Mapping[str, Log], notes: Sequence[str]) -> str:
    """Say why a workflow failed.

    :param status: the whole workflow.
    :param why: the reason of the verdict.
    :param tails: id of a node -> the last lines of its log; of a node that is not among them, none were read.
    :param notes: what a person should know besides.
    :return: the message; its first line says what failed.
    """
    failed = failed_nodes(status.nodes)
    lines = [f"Argo {status} failed: {excerpt(why, 1000)}"]
    if failed:
        lines[0] += f" ({_first(failed[0])})"
    if lost := infrastructure(status):
        lines.append(f"not the work itself failed, but what it ran on: {lost}")
    if status.shutdown:
        lines.append(f"somebody ended it: {status.shutdown}")
    lines += _table(failed)
    for node in failed[:WITH_LOGS]:
        lines += _tail(node, tails.get(node.id))
    if not failed and status.hidden:
        lines.append(f"which nodes failed cannot be told: {status.hidden}")
    if "unresolved" in status.message or any("unresolved" in node.message for node in failed):
        lines.append(
            "a reference to an output of a node that was skipped or omitted fails the node since versions 4.0.7 and "
            "3.7.16: give the parameter a default"
        )
    lines += notes
    return redacted("\n".join(lines))[:_LONGEST]


def _first(node: Node) -> str:
    cause = cause_of(node)
    said = cause.said if cause else node.message or f"exit code {node.exit_code}"
    return f"{node.shown}: {excerpt(said, 300)}"


def _table(nodes: Sequence[Node]) -> list[str]:
    lines = []
    for node in nodes[:MOST_NODES]:
        cause = cause_of(node)
        parts = [f"  {node.shown} [{node.template or node.type}] {node.phase}"]
        if node.exit_code is not None:
            parts.append(f"exit code {node.exit_code}")
        if node.message:
            parts.append(excerpt(node.message, 300))
        if cause:
            parts.append(cause.said)
        lines.append(", ".join(parts))
    if len(nodes) > MOST_NODES:
        lines.append(f"  and {len(nodes) - MOST_NODES} more")
    return ["nodes that failed:", *lines] if lines else []


def _tail(node: Node, log: Log | None) -> list[str]:
    if node.type != "Pod" or log is None:
        return []
    if log.lines is None:
        return [f"no logs of {node.shown} are left: {log.doubt}"]
    doubt = f" (some may be missing: {log.doubt})" if log.doubt else ""
    if not log.lines:
        return [f"{node.shown} has printed nothing{doubt}"]
    return [
        f"the last lines of {node.shown}{doubt}:",
        *(f"  {line[:500]}" for line in folded(list(log.lines))[-TAIL:]),
    ]


def _reference(artifact: Mapping[str, Any], node: str) -> dict[str, Any]:
    """Return where an artifact is, without the references to secrets that lead there."""
    kept = {
        name: {key: item for key, item in value.items() if not key.endswith(_SECRET)}
        if isinstance(value, Mapping)
        else value
        for name, value in artifact.items()
    }
    return {**({"node": node} if node else {}), **kept}


def _bounded(value: str) -> Any:
    return value if len(value) <= _LONGEST_VALUE else _digest(value)


def _digest(value: str) -> dict[str, Any]:
    content = value.encode()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
