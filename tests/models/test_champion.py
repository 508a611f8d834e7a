"""The verdict about a challenger."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.champion import judge
from airflow_pipeops.models.paired.decision import Policy
from airflow_pipeops.models.paired.gain import Gain

metric = st.floats(0, 1)
margin = st.floats(0, 0.5)
#: Of freedom; so many that a quantile of Student's t is that of the normal law.
MANY = 10**9
#: That quantile, for 2.5 % on either side.
WIDE = 1.959963984540054


def gained(challenger, champion, half=None, *, doubt="", higher=True) -> Gain:
    """A gain with an interval of so much to either side."""
    value = (challenger - champion) * (1 if higher else -1)
    error = None if half is None else half / WIDE
    return Gain("auc", challenger, champion, value, error, MANY, 100, 100, doubt=doubt)


@pytest.mark.parametrize(
    ("challenger", "champion", "half", "options", "promote", "outcome", "why"),
    [
        (0.7, None, None, {}, True, "better", "no champion"),
        (0.5, None, None, {"floor": 0.6}, False, "worse", "below the floor"),
        (0.9, 0.5, 0.1, {"floor": 0.95}, False, "worse", "below the floor"),
        (0.7, 0.7, 0.02, {}, False, "cannot tell", "may be chance"),
        (0.7, 0.7, 0.0, {}, False, "cannot tell", "may be chance"),
        (0.6, 0.7, 0.02, {}, False, "worse", ": worse"),
        (0.71, 0.7, 0.005, {"policy": Policy(minimum_gain=0.02)}, False, "cannot tell", "less than the 0.0200"),
        (0.73, 0.7, 0.02, {"policy": Policy(minimum_gain=0.02)}, False, "cannot tell", "less than the 0.0200"),
        (0.73, 0.7, 0.005, {"policy": Policy(minimum_gain=0.02)}, True, "better", "gain of \\+0.0300"),
        (0.72, 0.7, 0.03, {}, False, "cannot tell", "chance"),
        (0.72, 0.7, 0.02001, {}, False, "cannot tell", "chance"),
        (0.72, 0.7, 0.01, {}, True, "better", "gain of \\+0.0200"),
        (0.72, 0.7, None, {}, False, "cannot tell", "gain of \\+0.0200, which cannot be told from chance"),
        (0.72, 0.7, None, {"doubt": "3 rows"}, False, "cannot tell", "cannot be told from chance: 3 rows\\."),
        (0.2, 0.3, 0.05, {"higher_is_better": False}, True, "better", "gain of \\+0.1000"),
        (0.4, 0.3, 0.05, {"higher_is_better": False}, False, "worse", "gain of -0.1000"),
        (0.4, None, None, {"higher_is_better": False, "floor": 0.3}, False, "worse", "above the floor"),
        (0.72, None, None, {"floor": 0.7}, False, "cannot tell", "may be below the floor of 0.7000, which cannot"),
        (0.72, None, None, {"floor": 0.7, "level": (0.69, 0.75)}, False, "cannot tell", "0.6900 to 0.7500. may be"),
        (0.72, None, None, {"floor": 0.7, "level": (0.70, 0.74)}, True, "better", "no champion"),
        (
            0.72, None, None, {"floor": 0.7, "level": (0.70, 0.74), "invalid": "it has seen them"},
            False, "invalid", "No floor can be held against these rows: it has seen them\\.",
        ),
        (0.72, None, None, {"invalid": "it has seen them"}, True, "better", "no champion"),
        (0.6, None, None, {"floor": 0.7, "invalid": "it has seen them"}, False, "worse", "below the floor"),
        (
            0.28, None, None, {"higher_is_better": False, "floor": 0.3, "level": (0.25, 0.31)},
            False, "cannot tell", "may be above",
        ),
        (
            0.28, None, None, {"higher_is_better": False, "floor": 0.3, "level": (0.25, 0.3)},
            True, "better", "no champion",
        ),
    ],
)  # fmt: skip
def test_table(challenger, champion, half, options, promote, outcome, why):
    doubt, higher = options.get("doubt", ""), options.get("higher_is_better", True)
    gain = None if champion is None else gained(challenger, champion, half, doubt=doubt, higher=higher)
    given = {name: value for name, value in options.items() if name != "doubt"}
    verdict = judge(challenger, gain, **given)
    assert (verdict.promote, verdict.outcome) == (promote, outcome)
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(verdict.reason)


@pytest.mark.parametrize(
    ("challenger", "options"),
    [
        (math.nan, {}),
        (0.5, {"floor": math.inf}),
        (0.5, {"level": (0.6, 0.4)}),
        (0.5, {"level": (math.nan, 0.4)}),
    ],
)
def test_numbers_that_are_none(challenger, options):
    with pytest.raises(InvalidInput):
        judge(challenger, None, **options)


@given(
    metric,
    metric,
    margin,
    st.none() | margin,
    st.none() | st.tuples(margin, margin),
    st.none() | metric,
    st.booleans(),
)
def test_never_promotes_what_is_not_better(challenger, champion, minimum, half, around_it, floor, higher):
    sign = 1 if higher else -1
    gain = gained(challenger, champion, half, higher=higher)
    level = (challenger - around_it[0], challenger + around_it[1]) if around_it else None
    verdict = judge(challenger, gain, Policy(minimum), level=level, floor=floor, higher_is_better=higher)
    if verdict.promote:
        assert half is not None
        assert gain.value - half >= minimum - 1e-12
        assert gain.value > 0
        assert floor is None or min(sign * end for end in level) >= sign * floor
    assert verdict.reason.endswith(".")


@given(metric, metric, margin, margin)
def test_of_two_models_at_most_one_is_promoted_over_the_other(one, other, minimum, half):
    policy = Policy(minimum)
    assert not (
        judge(one, gained(one, other, half), policy).promote
        and judge(other, gained(other, one, half), policy).promote
    )


@given(metric, metric, metric, margin, margin)
def test_a_better_challenger_is_never_judged_worse(challenger, better, champion, minimum, half):
    low, high = sorted((challenger, better))
    if judge(low, gained(low, champion, half), Policy(minimum)).promote:
        assert judge(high, gained(high, champion, half), Policy(minimum)).promote
