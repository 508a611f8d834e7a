"""The verdict about a challenger."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.champion import judge

metric = st.floats(0, 1)
margin = st.floats(0, 0.5)


@pytest.mark.parametrize(
    ("challenger", "champion", "options", "promote", "why"),
    [
        (0.7, None, {}, True, "no champion"),
        (0.5, None, {"floor": 0.6}, False, "below the floor"),
        (0.9, 0.5, {"floor": 0.95}, False, "below the floor"),
        (0.7, 0.7, {}, False, "not better"),
        (0.6, 0.7, {}, False, "not better"),
        (0.71, 0.7, {"minimum_gain": 0.02}, False, "less than"),
        (0.72, 0.7, {"interval": (-0.01, 0.05)}, False, "chance"),
        (0.72, 0.7, {"interval": (0.0, 0.05)}, False, "chance"),
        (0.72, 0.7, {"interval": (0.01, 0.05)}, True, "gain of \\+0.0200"),
        (0.72, 0.7, {}, False, "gain of \\+0.0200, which cannot be told from chance\\."),
        (0.72, 0.7, {"doubt": "3 rows"}, False, "cannot be told from chance: 3 rows\\."),
        (0.2, 0.3, {"higher_is_better": False, "interval": (0.05, 0.2)}, True, "gain of \\+0.1000"),
        (0.4, 0.3, {"higher_is_better": False}, False, "not better"),
        (0.4, None, {"higher_is_better": False, "floor": 0.3}, False, "above the floor"),
        (
            0.72,
            None,
            {"floor": 0.7},
            False,
            "may be below the floor of 0.7000, which cannot be told from chance\\.",
        ),
        (
            0.72,
            None,
            {"floor": 0.7, "level": (0.69, 0.75)},
            False,
            "0.6900 to 0.7500. may be below the floor",
        ),
        (0.72, None, {"floor": 0.7, "level": (0.70, 0.74)}, True, "no champion"),
        (0.28, None, {"higher_is_better": False, "floor": 0.3, "level": (0.25, 0.31)}, False, "may be above"),
        (0.28, None, {"higher_is_better": False, "floor": 0.3, "level": (0.25, 0.3)}, True, "no champion"),
    ],
)
def test_table(challenger, champion, options, promote, why):
    verdict = judge(challenger, champion, **options)
    assert verdict.promote is promote
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(verdict.reason)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((math.nan, 0.5), {}),
        ((0.5, math.inf), {}),
        ((0.5, 0.4), {"minimum_gain": -0.1}),
        ((0.5, 0.4), {"interval": (0.2, 0.1)}),
        ((0.5, 0.4), {"interval": (math.nan, 0.1)}),
        ((0.5, 0.4), {"level": (0.6, 0.4)}),
    ],
)
def test_numbers_that_are_none(arguments, options):
    with pytest.raises(InvalidInput):
        judge(*arguments, **options)


widths_or_none = st.none() | st.tuples(margin, margin)


@given(metric, metric, margin, widths_or_none, widths_or_none, st.none() | metric, st.booleans())
def test_never_promotes_what_is_not_better(challenger, champion, minimum, widths, around_it, floor, higher):
    sign = 1 if higher else -1
    gain = sign * (challenger - champion)
    interval = (gain - widths[0], gain + widths[1]) if widths else None
    level = (challenger - around_it[0], challenger + around_it[1]) if around_it else None
    verdict = judge(
        challenger, champion, minimum_gain=minimum, interval=interval, level=level, floor=floor, higher_is_better=higher,
    )  # fmt: skip
    if verdict.promote:
        assert gain > 0
        assert gain >= minimum
        assert interval is not None
        assert interval[0] > 0
        assert floor is None or min(sign * end for end in level) >= sign * floor
    assert verdict.reason.endswith(".")


def around(one: float, other: float, half: float) -> dict:
    """The interval of a gain, as wide for whichever of the two is the challenger."""
    return {"interval": (one - other - half, one - other + half)}


@given(metric, metric, margin, margin)
def test_of_two_models_at_most_one_is_promoted_over_the_other(one, other, minimum, half):
    assert not (
        judge(one, other, minimum_gain=minimum, **around(one, other, half)).promote
        and judge(other, one, minimum_gain=minimum, **around(other, one, half)).promote
    )


@given(metric, metric, metric, margin, margin)
def test_a_better_challenger_is_never_judged_worse(challenger, better, champion, minimum, half):
    low, high = sorted((challenger, better))
    if judge(low, champion, minimum_gain=minimum, **around(low, champion, half)).promote:
        assert judge(high, champion, minimum_gain=minimum, **around(high, champion, half)).promote
