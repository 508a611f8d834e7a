"""Work on many things side by side, bounded, where one error tells of all that went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from airflow_pipeops.exceptions import PipeOpsError

Item = TypeVar("Item")
Result = TypeVar("Result")
#: So many things are worked on at once: enough to hide a server's pauses, and few to a server that counts its callers.
WORKERS = 8


async def in_parallel(
    work: Callable[[Item], Awaitable[Result]], items: Iterable[Item], workers: int = WORKERS
) -> list[Result]:
    """Work on all items. After an error nothing more is begun, and what was begun comes to its end.

    :param work: what is done with one of them.
    :param workers: how many are worked on at once.
    :return: the results, in the order of the items.
    :raises PipeOpsError: what went wrong; it tells of all that did.
    """
    waiting = iter(enumerate(items))
    results: dict[int, Result] = {}
    errors: dict[int, PipeOpsError] = {}

    async def worker() -> None:
        for place, item in waiting:
            try:
                results[place] = await work(item)
            except PipeOpsError as error:
                errors[place] = error
            if errors:
                return

    tasks = [asyncio.ensure_future(worker()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    if errors:
        raise PipeOpsError.together([errors[place] for place in sorted(errors)])
    return [results[place] for place in range(len(results))]
