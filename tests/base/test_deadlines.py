"""A cancellation ends a bounded wait, also in the moment in which its work ends."""

from __future__ import annotations

import asyncio

import pytest

from airflow_pipeops.base.deadlines import within


def test_it_returns_what_the_work_returns() -> None:
    async def work() -> int:
        return 7

    assert asyncio.run(within(1, work())) == 7


def test_it_gives_up_and_ends_the_work() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def story() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, work())
        await asyncio.sleep(0)

    asyncio.run(story())
    assert ended == [True]


def test_errors_of_the_work_come_through() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(within(1, work()))


@pytest.mark.parametrize("late", [False, True])
def test_a_cancellation_is_never_swallowed(late: bool) -> None:
    """``late``: the work has ended in the same turn of the event loop."""

    async def story() -> None:
        gate = asyncio.Event()
        waiting = asyncio.ensure_future(within(5, gate.wait()))
        await asyncio.sleep(0.01)
        if late:
            gate.set()
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(story())
