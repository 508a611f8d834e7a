"""Bounded waits that a cancellation always ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``, or give up at a deadline.

    ``asyncio.wait_for`` before Python 3.12 swallows a cancellation that comes in the moment in which its work ends; a
    trigger that is cancelled then would run for ever.

    :param seconds: the time it has.
    :param work: what to await.
    :return: what ``work`` returns.
    :raises asyncio.TimeoutError: if the time is over first.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise asyncio.TimeoutError(f"no result within {seconds:g} s")
    return task.result()
