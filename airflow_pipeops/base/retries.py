"""Pauses with jitter, and what a network spoiled tried again, a bounded number of times."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from airflow_pipeops.exceptions import Unreachable

Result = TypeVar("Result")

#: A server that asks for a longer pause is not waited for within a call; seconds.
LONGEST_PAUSE = 30.0


def jittered(seconds: float, shortest: float = 0.5, longest: float = 1.0) -> float:
    """Vary a pause, so that those who began together do not come back together.

    :param seconds: the pause without jitter.
    :param shortest: the shortest pause, as a share of it.
    :param longest: the longest pause, as a share of it.
    :return: the seconds to pause.
    """
    return seconds * random.uniform(shortest, longest)


def pause(attempt: int, base: float = 0.5, longest: float = 8.0) -> float:
    """Return the seconds to wait before the next retry, after ``attempt`` earlier ones."""
    return jittered(min(longest, base * 2.0**attempt))


def retried(call: Callable[[], Result], attempts: int) -> Result:
    """Return what ``call`` returns, trying again while the other side is unreachable, and not before it asks for that."""
    for attempt in range(attempts - 1):
        try:
            return call()
        except Unreachable as error:
            time.sleep(_pause_after(error, attempt))
    return call()


async def aretried(call: Callable[[], Awaitable[Result]], attempts: int) -> Result:
    """Like :func:`retried`, without blocking the event loop."""
    for attempt in range(attempts - 1):
        try:
            return await call()
        except Unreachable as error:
            await asyncio.sleep(_pause_after(error, attempt))
    return await call()


def _pause_after(error: Unreachable, attempt: int) -> float:
    if error.retry_after > LONGEST_PAUSE:
        raise error
    return pause(attempt) + error.retry_after
