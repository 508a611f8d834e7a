"""Many things are worked on side by side, within a bound, and one error tells of all that went wrong."""

from __future__ import annotations

import asyncio

import pytest

from airflow_pipeops.base.parallel import in_parallel
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError, Unreachable


class Work:
    """Counts what is worked on at once.

    :param errors: what goes wrong, by the item.
    """

    def __init__(self, errors: dict[int, BaseException] | None = None) -> None:
        self.errors, self.now, self.most = errors or {}, 0, 0
        self.begun: list[int] = []
        self.ended: list[int] = []

    async def __call__(self, item: int) -> int:
        self.begun.append(item)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(item % 3 + 1):
                await asyncio.sleep(0)
            if item in self.errors:
                raise self.errors[item]
            self.ended.append(item)
            return item * item
        finally:
            self.now -= 1


def test_results_are_in_the_order_of_the_items_and_no_more_is_at_work_than_may_be() -> None:
    work = Work()
    assert asyncio.run(in_parallel(work, range(100), 4)) == [item * item for item in range(100)]
    assert work.most == 4
    assert asyncio.run(in_parallel(work, [])) == []


def test_after_an_error_nothing_is_begun_and_what_was_begun_ends() -> None:
    work = Work(
        {0: Unreachable("the first is busy"), 1: InvalidInput("the second is wrong", remedy="Mend it.")}
    )
    with pytest.raises(InvalidInput) as told:
        asyncio.run(in_parallel(work, range(100), 4))
    assert str(told.value) == "the second is wrong; the first is busy. Mend it."
    assert len(work.begun) < 20
    assert set(work.begun) - set(work.ended) == {0, 1}


def test_an_error_told_by_many_is_told_once() -> None:
    errors: list[PipeOpsError] = [Unreachable("it is down") for _ in range(8)]
    assert str(PipeOpsError.together(errors)) == "it is down"


def test_what_is_no_error_of_ours_ends_all_at_once() -> None:
    work = Work({2: KeyError("a mistake")})
    with pytest.raises(KeyError):
        asyncio.run(in_parallel(work, range(100), 4))
    assert work.now == 0
    assert len(work.begun) < 20


def test_a_cancellation_ends_all() -> None:
    ended = []

    async def work(item: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    async def story() -> None:
        task = asyncio.ensure_future(in_parallel(work, range(10), 3))
        while len(asyncio.all_tasks()) < 5:  # this one, that of all, and three workers
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert sorted(ended) == [0, 1, 2]
