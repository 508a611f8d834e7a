"""Pauses with jitter, and what a network spoiled tried again, a bounded number of times."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from airflow_pipeops.exceptions import Unreachable

Result = TypeVar("Result")


def jittered(seconds: float, least: float = 0.5, most: float = 1.0) -> float:
    """Return a pause of about so many seconds, so that those who began together do not come back together.

    :param seconds: the pause without jitter.
    :param least: the shortest pause, as a share of it.
    :param most: the longest pause, as a share of it.
    """
    return seconds * random.uniform(least, most)


def pause(attempt: int, base: float = 0.5, longest: float = 8.0) -> float:
    """Return how long to wait, in seconds, before the attempt after the ``attempt``-th (from 0)."""
    return jittered(min(longest, base * 2.0**attempt))


def retried(call: Callable[[], Result], attempts: int) -> Result:
    """Return what ``call`` returns, trying again while the other side is unreachable."""
    for attempt in range(attempts - 1):
        try:
            return call()
        except Unreachable:
            time.sleep(pause(attempt))
    return call()


async def aretried(call: Callable[[], Awaitable[Result]], attempts: int) -> Result:
    """Like :func:`retried`, without blocking the event loop."""
    for attempt in range(attempts - 1):
        try:
            return await call()
        except Unreachable:
            await asyncio.sleep(pause(attempt))
    return await call()
