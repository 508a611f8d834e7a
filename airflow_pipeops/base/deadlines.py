"""Bounded waits that a cancellation always ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
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


async def in_thread(seconds: float, call: Callable[[], T]) -> T:
    """Await a blocking call, or give up at a deadline and leave its thread to itself.

    The threads of ``asyncio.to_thread`` are waited for when the loop ends, so that a call which never ends holds up whoever
    gave up on it.

    :param seconds: the time it has.
    :param call: what blocks.
    :return: what it returns.
    :raises asyncio.TimeoutError: if the time is over first.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    found: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[Any], None], value: Any) -> None:
        if not found.done():
            act(value)

    def work() -> None:
        act: Callable[[Any], None] = found.set_result
        value: Any = None
        try:
            value = context.run(call)
        except BaseException as error:
            act, value = found.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(settle, act, value)

    threading.Thread(target=work, daemon=True).start()
    return await within(seconds, found)
