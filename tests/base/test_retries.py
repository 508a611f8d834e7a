"""Pauses grow, stay within their bounds, and differ; what is unreachable is tried a bounded number of times."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.base import retries
from airflow_pipeops.exceptions import InvalidInput, Unreachable


@given(st.floats(0, 1e6), st.floats(0, 1), st.floats(1, 2))
def test_a_pause_is_within_its_bounds(seconds: float, least: float, most: float) -> None:
    found = retries.jittered(seconds, least, most)
    assert seconds * least * (1 - 1e-9) <= found <= seconds * most * (1 + 1e-9)


@given(st.integers(0, 60), st.floats(0.001, 10), st.floats(0.001, 100))
def test_a_pause_grows_no_further_than_the_longest(attempt: int, base: float, longest: float) -> None:
    whole = min(longest, base * 2.0**attempt)
    assert whole * 0.5 * (1 - 1e-9) <= retries.pause(attempt, base, longest) <= whole * (1 + 1e-9)


def test_two_pauses_differ() -> None:
    assert len({retries.jittered(10.0) for _ in range(20)}) > 1


@pytest.mark.parametrize(("failures", "attempts", "succeeds"), [(0, 1, True), (2, 3, True), (3, 3, False)])
def test_what_is_unreachable_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, failures: int, attempts: int, succeeds: bool
) -> None:
    monkeypatch.setattr(retries, "pause", lambda attempt: 0.0)
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) <= failures:
            raise Unreachable("away")
        return "here"

    async def acall() -> str:
        return call()

    for run in (
        lambda: retries.retried(call, attempts),
        lambda: asyncio.run(retries.aretried(acall, attempts)),
    ):
        calls.clear()
        if succeeds:
            assert run() == "here"
        else:
            with pytest.raises(Unreachable):
                run()
        assert len(calls) == min(failures + 1, attempts)


def test_another_error_is_not_tried_again() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise InvalidInput("wrong")

    with pytest.raises(InvalidInput):
        retries.retried(call, 5)
    assert len(calls) == 1
