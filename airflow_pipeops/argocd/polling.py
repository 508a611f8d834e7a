"""Look at applications again and again, each for itself, until the verdicts are in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_pipeops.argocd.waits import Wait, look

if TYPE_CHECKING:
    from airflow_pipeops.argocd.clients.rest import ArgoCDClient

#: Looks of one task at the same time.
AT_ONCE = 4


async def look_once(client: ArgoCDClient, waits: Sequence[Wait]) -> None:
    """Look once at each application whose verdict is not in; once more with a refresh where that is called for."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(wait: Wait) -> None:
        async with free:
            seen = await look(client, wait.ref)
            assert seen is not None
            if (await wait.judge(seen)).refresh:
                refreshed = await look(client, wait.ref, refresh=True)
                if refreshed is not None:
                    await wait.judge(refreshed)

    await _all(one(wait) for wait in waits if not wait.over)


async def until_decided(
    client: ArgoCDClient, waits: Sequence[Wait], poll_interval: float, *, fail_fast: bool = True
) -> None:
    """Look until every verdict is in, or with ``fail_fast`` until one says no.

    :param poll_interval: seconds between two looks at the same application.
    """
    while True:
        await look_once(client, waits)
        if ended(waits, fail_fast=fail_fast):
            return
        await asyncio.sleep(min(wait.look_again_in(poll_interval) for wait in waits if not wait.over))


def ended(waits: Sequence[Wait], *, fail_fast: bool) -> bool:
    """Whether there is nothing left to wait for."""
    if fail_fast and any(wait.state.verdict.state == "failed" for wait in waits):
        return True
    return all(wait.over for wait in waits)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run together; the first error ends the rest and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
