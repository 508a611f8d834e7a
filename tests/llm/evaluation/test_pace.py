"""No minute has more calls than its limit, and no budget is exceeded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.llm.evaluation.pace import Budget, Pace, Spent


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=60)
)
def test_no_minute_has_more_than_its_limit(steps: list[tuple[float, int, int]]) -> None:
    pace, now, went = Pace(60, 3000), 0.0, []
    for gap, guess, real in steps:
        now += gap
        at = now + pace.take(now, guess)
        pace.settle(guess, real)
        went.append((at, real))
    for begin, _ in went:
        assert sum(1 for at, _ in went if begin <= at < begin + 60) <= 61


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=60), st.integers(1, 500))
def test_a_budget_is_never_exceeded_if_no_call_costs_more_than_was_set_aside(
    calls: list[tuple[int, float]], limit: int
) -> None:
    budget, running = Budget(tokens=limit), list[tuple[Spent, Spent]]()
    for most, share in calls:
        if budget.reserve(Spent(0.0, most)):
            running.append((Spent(0.0, most), Spent(0.0, int(most * share))))
        elif running:
            budget.settle(*running.pop())
        assert budget.spent.tokens + sum(most.tokens for most, _ in running) <= limit
