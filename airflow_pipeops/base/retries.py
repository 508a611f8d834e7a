"""Try again what a network spoiled, a bounded number of times, with jitter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from airflow_pipeops.exceptions import Unreachable

Result = TypeVar("Result")


def pause(attempt: int, base: float = 0.5, longest: float = 8.0) -> float:
    """Return how long to wait, in seconds, before the attempt after the ``attempt``-th (from 0)."""
    return min(longest, base * 2.0**attempt) * random.uniform(0.5, 1.0)


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
