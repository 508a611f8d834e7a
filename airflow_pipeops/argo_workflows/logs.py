"""The logs of a workflow's nodes: followed while it runs, and read when it has ended, from its pods or the archive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
from airflow_pipeops.argo_workflows.status import OVER, Log, Node, WorkflowStatus, read
from airflow_pipeops.base.retries import pause
from airflow_pipeops.exceptions import NotFound, PipeOpsError, Unreachable
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
        #: All of it was said: it was read to its end once more after the workflow was seen to have ended.
        self.complete = False

    async def run(self) -> None:
        """Follow until the workflow has ended; whatever goes wrong, the log of a task is not worth its failure."""
        failures, over = 0, False
        while True:
            try:
                seen = await self._once(follow=not over)
                if over:
                    # Pods that are gone have an empty log, which ends as well as a whole one.
                    self.complete = all(seen[pod] >= count for pod, count in self.said.items())
                    return
                # A stream also ends since somebody in between has lost patience, and what came later was not in it.
                over = read(await self._client.get(self._ref)).over
                if over:
                    continue
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

    async def _once(self, *, follow: bool) -> Counter[str]:
        """Read one stream; it begins with the first line, of which those that were said are left out."""
        seen: Counter[str] = Counter()
        async with aclosing(self._client.logs(self._ref, follow=follow)) as lines:
            async for pod, line in lines:
                seen[pod] += 1
                if seen[pod] <= self.said[pod]:
                    continue
                self.said[pod] += 1
                if sum(self.said.values()) == MOST_LINES:
                    self._say(f"(more than {MOST_LINES:,} lines: the rest is left out)")
                if sum(self.said.values()) < MOST_LINES:
                    self._say(f"[{pod}] {redacted(line)}")
        return seen


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


async def log_of(client: ArgoWorkflows, status: WorkflowStatus, node: Node, tail: int = 0) -> Log:
    """Return the log of a node: of its pod, else the archived one.

    :param client: reaches it.
    :param status: the workflow.
    :param node: one of its nodes that ran in a pod.
    :param tail: its last lines only.
    :return: the log.
    """
    ref = WorkflowRef(status.name, status.namespace, status.uid)
    found: list[str] = []
    # That a pod is gone looks like an empty log.
    gone = "its pod is gone, or has printed nothing"
    doubt = "" if node.phase in OVER else "its container has not ended"
    try:
        pod = node.pod(status.name)
        async with aclosing(client.logs(ref, pod=pod, tail=tail)) as lines:
            async for _, line in lines:
                found.append(line)
    except NotFound:
        pass
    except PipeOpsError as error:
        doubt = f"reading it broke off: {error.message}"
        gone = error.message
    if found and not doubt:
        return Log(found)
    try:
        content = await client.artifact(ref, node.id, MAIN_LOGS, archived=status.archived)
    except PipeOpsError as error:
        if found:
            return Log(found, doubt)
        kept = any(one.get("name") == MAIN_LOGS for one in node.artifacts)
        archive = f"the archived one cannot be read: {error.message}" if kept else "none was archived"
        return Log(None, f"{gone}, and {archive}")
    archived = content.splitlines()
    return Log(archived[-tail:] if tail else archived)


async def say_logs(client: ArgoWorkflows, status: WorkflowStatus, said: Mapping[str, int], say: Say) -> None:
    """Say what of the logs of a workflow's nodes was not said while it ran, and where something may be missing.

    :param client: reaches them.
    :param status: the whole workflow.
    :param said: pod -> lines of it that were said already.
    :param say: is given each line, with its node.
    """
    left = MOST_LINES - sum(said.values())
    for node in [node for node in status.nodes if node.type == "Pod" and node.started_at]:
        if node.remembered:
            say(f"[{node.shown}] was not run: its outputs are remembered (memoize)")
            continue
        already = said.get(node.pod(status.name), 0)
        log = await log_of(client, status, node)
        if log.lines is None and not already:
            say(f"[{node.shown}] no logs are left: {log.doubt}")
            continue
        kept, doubt = log.lines or [], log.doubt
        if len(kept) < already:
            doubt = doubt or "less of it is left than was read before"
        lines = kept[already:]
        for line in lines[: max(0, left)]:
            say(f"[{node.shown}] {redacted(line[:10_000])}")
        if len(lines) > left:
            say(f"(more than {MOST_LINES:,} lines: the rest is left out)")
            return
        if doubt:
            say(f"[{node.shown}] the log may be incomplete: {doubt}")
        left -= len(lines)


async def tails_of(
    client: ArgoWorkflows, status: WorkflowStatus, nodes: Sequence[Node], tail: int
) -> dict[str, Log]:
    """Return the last lines of nodes by their id."""
    return {node.id: await log_of(client, status, node, tail) for node in nodes}
