"""Ends the wait for a workflow whose pod cannot begin: by itself it would stay so until its deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
from airflow_pipeops.argo_workflows.status import read
from airflow_pipeops.build.workflows.judgement import End, hindrance
from airflow_pipeops.exceptions import PipeOpsError

Result = TypeVar("Result")


async def unless_stuck(
    client: ArgoWorkflows, ref: WorkflowRef, startup: float, interval: float, work: Awaitable[Result]
) -> Result | End:
    """Do something, unless a workflow is found that cannot begin.

    :param client: reaches it.
    :param ref: which workflow.
    :param startup: seconds for which its pod may not run yet.
    :param interval: seconds between two looks.
    :param work: ends when the workflow has.
    :return: what ``work`` returned, or why the workflow does not begin.
    """
    working = asyncio.ensure_future(work)
    looking = asyncio.ensure_future(_stuck(client, ref, startup, interval))
    try:
        await asyncio.wait({working, looking}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and (found := looking.result()) is not None:
            return found
        return await working
    finally:
        for one in (working, looking):
            one.cancel()
        await asyncio.gather(working, looking, return_exceptions=True)


async def _stuck(client: ArgoWorkflows, ref: WorkflowRef, startup: float, interval: float) -> End | None:
    """Return why it does not begin, once that has lasted; ``None`` when it has begun."""
    since: dict[str, float] = {}
    while True:
        try:
            found = hindrance(read(await client.get(ref, whole=True)), startup)
        except PipeOpsError:
            # What that means, the wait itself judges.
            await asyncio.sleep(interval)
            continue
        if found is None:
            return None
        why, most = found
        # Another reason begins anew, as far as its own patience goes; all of them together have the time to start.
        since = {key: at for key, at in since.items() if key in (why.rule, "")}
        begun, now = since.setdefault(why.rule, time.monotonic()), time.monotonic()
        if now - begun >= most or now - since.setdefault("", now) >= startup:
            return why
        await asyncio.sleep(interval)
