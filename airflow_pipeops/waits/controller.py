"""What a wait needs of a controller, and looking by it until the verdicts are in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol

from airflow_pipeops.waits.rulebook import Rulebook
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.wait import Decided, Wait

#: Looks of one task at the same time.
AT_ONCE = 4


class Controller(Protocol):
    """One controller, as whoever waits for it sees it. References are of its own kind, and hashable."""

    #: How what it says is judged.
    rulebook: Rulebook

    async def look(self, ref: Any) -> Observed | Trouble:
        """Read the present state of what is waited for.

        :return: what is seen, or why nothing is.
        :raises PipeOpsError: where looking again cannot help.
        """

    async def refresh(self, wait: Wait) -> Observed | Trouble | None:
        """Have it look now, as the verdict of a wait asks for.

        :return: what it says then; ``None`` where the answer comes later, with another look.
        """

    async def explain(self, ref: Any, decided: Decided) -> str:
        """Return why a wait has failed, with everything that a person looks up next."""


async def look_once(controller: Controller, waits: Sequence[Wait]) -> None:
    """Look once at whatever is still waited for, and have the controller look where that is called for.

    When several are done, each was at a moment of its own, and perhaps never all of them at one. So all are read again: what
    was so before the last one was done, and is so after, was so at that moment. What is not so any more is waited for anew.
    """
    await _look(controller, [wait for wait in waits if not wait.over])
    if len(waits) > 1 and all(wait.done for wait in waits):
        await _look(controller, waits)


async def _look(controller: Controller, waits: Iterable[Wait]) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    async def one(wait: Wait) -> None:
        async with free:
            verdict = await wait.judge(await controller.look(wait.ref))
            if verdict.refresh:
                answer = await controller.refresh(wait)
                if answer is not None:
                    await wait.judge(answer)

    await _together(one(wait) for wait in waits)


async def until_decided(
    controller: Controller, waits: Sequence[Wait], poll_interval: float, *, fail_fast: bool = True
) -> None:
    """Look until every verdict is in, or with ``fail_fast`` until one says no.

    :param poll_interval: seconds between two looks at the same thing.
    """
    while True:
        await look_once(controller, waits)
        if ended(waits, fail_fast=fail_fast):
            return
        await asyncio.sleep(min(wait.look_again_in(poll_interval) for wait in waits if not wait.over))


def ended(waits: Sequence[Wait], *, fail_fast: bool = True) -> bool:
    """Whether there is nothing left to wait for."""
    if fail_fast and any(wait.failed for wait in waits):
        return True
    return all(wait.over for wait in waits)


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run together; the first error ends the rest and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
