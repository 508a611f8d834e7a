"""The logs of a workflow's nodes: followed while it runs, and read when it has ended, from its pods or the archive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
from airflow_pipeops.argo_workflows.status import Node, WorkflowStatus, read
from airflow_pipeops.base.retries import pause
from airflow_pipeops.exceptions import NotFound, PipeOpsError, Unreachable, Unsupported
from airflow_pipeops.redaction import redacted

#: Under this name ``archiveLogs`` keeps the log of a node's main container.
MAIN_LOGS = "main-logs"
#: Lines of one workflow that are written into the log of its task; the rest is said to be left out.
MOST_LINES = 50_000
#: A log that is followed ends with the workflow; so long it may lag behind, seconds.
_LAG = 5.0

Result = TypeVar("Result")
Say = Callable[[str], None]


class Follower:
    """Follows the log of a workflow, and says its lines, each once.

    :param client: reaches it.
    :param ref: which workflow.
    :param say: is given each line, with its pod.
    """

    def __init__(self, client: ArgoWorkflows, ref: WorkflowRef, say: Say) -> None:
        self._client, self._ref, self._say = client, ref, say
        #: Pod -> lines that were said.
        self.said: Counter[str] = Counter()
        #: All of it was said.
        self.complete = False

    async def run(self) -> None:
        """Follow until the workflow has ended; whatever goes wrong, the log of a task is not worth its failure."""
        failures = 0
        while True:
            try:
                await self._once()
                # A stream may also end since somebody in between has lost patience.
                if read(await self._client.get(self._ref)).over:
                    self.complete = True
                    return
            except NotFound:
                failures += 1  # a server that caches may not know it yet
                if failures > 3:
                    return
            except Unreachable:
                failures += 1
            except PipeOpsError as error:
                self._say(f"(the log of {self._ref} cannot be followed: {error.message})")
                return
            await asyncio.sleep(pause(failures))

    async def _once(self) -> None:
        """Follow one stream; it begins with the first line, of which those that were said are left out."""
        seen: Counter[str] = Counter()
        async with aclosing(self._client.logs(self._ref, follow=True)) as lines:
            async for pod, line in lines:
                seen[pod] += 1
                if seen[pod] <= self.said[pod]:
                    continue
                self.said[pod] += 1
                if sum(self.said.values()) == MOST_LINES:
                    self._say(f"(more than {MOST_LINES:,} lines: the rest is left out)")
                if sum(self.said.values()) < MOST_LINES:
                    self._say(f"[{pod}] {redacted(line)}")


async def followed(follower: Follower | None, work: Awaitable[Result]) -> Result:
    """Do something while a log is followed, and let that come to its end.

    :param follower: follows; ``None`` for nobody.
    :param work: ends when the workflow has.
    :return: what ``work`` returned.
    """
    if follower is None:
        return await work
    following = asyncio.ensure_future(follower.run())
    try:
        found = await work
        await asyncio.wait({following}, timeout=_LAG)
        return found
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def log_of(
    client: ArgoWorkflows, status: WorkflowStatus, node: Node, tail: int = 0
) -> list[str] | None:
    """Return the log of a node: of its pod, else the archived one.

    :param client: reaches it.
    :param status: the workflow.
    :param node: one of its nodes that ran in a pod.
    :param tail: its last lines only.
    :return: the lines; ``None`` where no log is left.
    """
    ref = WorkflowRef(status.name, status.namespace, status.uid)
    try:
        pod = node.pod(status.name)
        async with aclosing(client.logs(ref, pod=pod, tail=tail)) as lines:
            found = [line async for _, line in lines]
    except PipeOpsError:
        found = []
    if found:
        return found
    try:
        content = await client.artifact(ref, node.id, MAIN_LOGS, archived=status.archived)
    except Unsupported:
        return None
    except PipeOpsError:
        # That pods are gone looks like an empty log; a node that kept its log, printed nothing.
        kept = any(one.get("name") == MAIN_LOGS for one in node.artifacts)
        return [] if kept else None
    found = content.splitlines()
    return found[-tail:] if tail else found


async def say_logs(client: ArgoWorkflows, status: WorkflowStatus, said: Mapping[str, int], say: Say) -> None:
    """Say what of the logs of a workflow's nodes was not said while it ran.

    :param client: reaches them.
    :param status: the whole workflow.
    :param said: pod -> lines of it that were said already.
    :param say: is given each line, with its node.
    """
    left = MOST_LINES - sum(said.values())
    for node in [node for node in status.nodes if node.type == "Pod" and node.started_at]:
        already = said.get(node.pod(status.name), 0)
        lines = await log_of(client, status, node)
        if lines is None and already:
            continue
        if lines is None:
            say(f"[{node.shown}] no logs are left: the pod is gone, and they were not archived")
            continue
        lines = lines[already:]
        for line in lines[: max(0, left)]:
            say(f"[{node.shown}] {redacted(line[:10_000])}")
        if len(lines) > left:
            say(f"(more than {MOST_LINES:,} lines: the rest is left out)")
            return
        left -= len(lines)


async def tails_of(
    client: ArgoWorkflows, status: WorkflowStatus, nodes: Sequence[Node], tail: int
) -> dict[str, Any]:
    """Return the last lines of nodes by their id; a node of which no log is left is not among them."""
    found = {}
    for node in nodes:
        lines = await log_of(client, status, node, tail)
        if lines is not None:
            found[node.id] = lines
    return found
