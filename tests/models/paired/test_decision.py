"""What follows from gains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.paired.decision import Policy, decide
from airflow_pipeops.models.paired.gain import Gain

WIDE = 1.959963984540054


def gained(value: float, half: float | None, metric: str = "auc", doubt: str = "", units: int = 100) -> Gain:
    error = None if half is None else half / WIDE
    return Gain(metric, 0.5 + value, 0.5, value, error, 10**9, 1000, units, doubt=doubt)


FRESHER = Policy(margin=0.02, enough="not worse")


@pytest.mark.parametrize(
    ("value", "half", "policy", "outcome", "promote"),
    [
        (0.03, 0.01, Policy(), "better", True),
        (0.03, 0.01, Policy(minimum_gain=0.02), "cannot tell", False),
        (0.03, 0.0099, Policy(minimum_gain=0.02), "better", True),
        (0.0, 0.01, Policy(margin=0.02), "not worse", False),
        (0.0, 0.01, FRESHER, "not worse", True),
        (-0.015, 0.001, FRESHER, "not worse", True),
        (-0.015, 0.01, FRESHER, "worse", False),
        (-0.005, 0.02, FRESHER, "cannot tell", False),
        (-0.04, 0.01, FRESHER, "worse", False),
        (-0.04, 0.01, Policy(), "worse", False),
        (-0.005, 0.01, Policy(), "cannot tell", False),
        (0.03, None, Policy(), "cannot tell", False),
        (0.03, None, FRESHER, "cannot tell", False),
        (0.03, 0.01, FRESHER, "better", True),
    ],
)
def test_table(value, half, policy, outcome, promote) -> None:
    found = decide(gained(value, half, doubt="3 rows"), policy)
    assert (found.outcome, found.promote) == (outcome, promote)
    assert found.reason.endswith(".")


@pytest.mark.parametrize(
    ("guard", "outcome", "why"),
    [
        (gained(-0.005, 0.004, "recall"), "better", "gain of"),
        (gained(-0.005, 0.006, "recall"), "cannot tell", "more than the 0.0100 that it may lose may be lost"),
        (gained(-0.05, 0.006, "recall"), "worse", "recall: .*worse by more than the 0.0100"),
        (gained(0.05, None, "recall", "9 rows"), "cannot tell", "9 rows"),
    ],
)
def test_a_guard(guard, outcome, why) -> None:
    found = decide(gained(0.03, 0.01), Policy(guards={"recall": 0.01}), guards=[guard])
    assert found.outcome == outcome
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.reason)


def test_a_slice_fails_a_challenger_by_evidence_and_not_by_chance() -> None:
    """Of 20 slices one looks bad by chance; Holm asks for more than that."""
    fine = {f"carrier={n}": gained(0.01, 0.02) for n in range(20)}
    by_chance = {**fine, "carrier=X": gained(-0.02, 0.018)}
    harmed = {**fine, "carrier=X": gained(-0.06, 0.018), "carrier=Y": gained(0, None, doubt="few rows")}
    assert decide(gained(0.03, 0.01), Policy(), slices=by_chance).outcome == "better"
    assert (
        decide(gained(0.03, 0.01), Policy(), slices={"carrier=X": by_chance["carrier=X"]}).outcome == "worse"
    )
    found = decide(gained(0.03, 0.01), Policy(), slices=harmed)
    assert (found.outcome, found.promote) == ("worse", False)
    assert (found.harmed, found.small) == (("carrier=X",), ("carrier=Y",))
    assert found.reason.startswith("In carrier=X: ")
    assert decide(gained(0.03, 0.01), Policy(slice_margin=0.05), slices=harmed).outcome == "better"


def test_the_best_of_many_must_be_better_by_more() -> None:
    assert decide(gained(0.03, 0.029), Policy()).outcome == "better"
    found = decide(gained(0.03, 0.029), Policy(), challengers=10)
    assert (found.outcome, found.alpha) == ("cannot tell", 0.0025)


def test_the_chances_of_all_challengers_on_the_same_rows_add_up_to_a_bound() -> None:
    """One after the other the first has all of it and the n-th the square of n as its share; at once all have the same."""
    one_by_one = [decide(gained(0.03, 0.001), Policy(), uses=number).alpha for number in range(1, 21)]
    assert one_by_one[:3] == pytest.approx([0.025, 0.025 / 4, 0.025 / 9])
    assert sum(one_by_one) < 1.65 * 0.025
    at_once = [
        decide(gained(0.03, 0.001), Policy(), uses=number, challengers=10).alpha for number in (1, 10, 11)
    ]
    assert at_once == pytest.approx([0.0025, 0.0025, 0.025 / 121])
    found = decide(gained(0.03, 0.022), Policy(), uses=2)
    assert found.outcome == "better"
    assert found.reason.endswith(
        "It is challenger 2 on these rows, so the chance of an error is 0.0063 on either side."
    )
    assert decide(gained(0.03, 0.022), Policy(), uses=3).outcome == "cannot tell"


def test_rows_that_have_judged_too_many_judge_no_more() -> None:
    assert decide(gained(0.3, 0.001), Policy(), uses=20).promote
    found = decide(gained(0.3, 0.001), Policy(), uses=21)
    assert (found.outcome, found.promote) == ("invalid", False)
    assert found.reason == (
        "The two cannot be compared: these rows have judged 20 challengers, 20 are the most, and newer rows are needed."
    )
    assert decide(gained(0.3, 0.001), Policy(max_uses=3), uses=4).outcome == "invalid"


def test_on_so_few_days_it_is_said_how_many_lack() -> None:
    four = Gain("auc", 0.6, 0.5, 0.1, None, 0, 4000, 4, "day", doubt="4 days")
    assert decide(four, Policy()).further_units == 6
    assert decide(gained(0.1, None, doubt="3 rows", units=4), Policy()).further_units is None


def test_what_cannot_be_compared() -> None:
    found = decide(gained(0.3, 0.01), Policy(), invalid="they saw other rows")
    assert (found.outcome, found.promote, found.reason) == (
        "invalid", False, "The two cannot be compared: they saw other rows."
    )  # fmt: skip


def test_how_many_more_days_would_tell() -> None:
    """Twice the error's distance needs about (1.96 + 0.84)^2 / 1.96^2 times as many, less those that are there."""
    found = decide(gained(0.01, 0.01, units=30), Policy())
    assert found.outcome == "cannot tell"
    assert found.further_units == pytest.approx(30 * (2.8016**2 / 1.96**2 - 1), abs=1)
    assert decide(gained(-0.001, 0.01), Policy()).further_units is None
    assert decide(gained(0.03, 0.01), Policy()).further_units is None


bounded = st.floats(-1, 1)
width = st.none() | st.floats(0, 1)


@given(
    bounded,
    width,
    bounded,
    width,
    st.floats(0, 0.5),
    st.floats(0.001, 0.5),
    st.sampled_from(["better", "not worse"]),
)
def test_only_what_is_shown_is_promoted(value, half, other, around, minimum, margin, enough) -> None:
    policy = Policy(minimum, margin, {"recall": margin}, enough=enough)
    found = decide(gained(value, half), policy, guards=[gained(other, around, "recall")])
    if found.promote:
        assert half is not None
        assert around is not None
        assert value - half >= (minimum if enough == "better" else -margin) - 1e-9
        assert other - around >= -margin - 1e-9
    if found.outcome == "worse":
        assert (half is not None and value + half <= 1e-9) or (
            around is not None and other + around <= -margin + 1e-9
        )


@given(bounded, st.floats(0.001, 1), st.floats(0, 0.5))
def test_of_two_models_not_each_is_better_than_the_other(value, half, minimum) -> None:
    both = [decide(gained(sign * value, half), Policy(minimum)).outcome for sign in (1, -1)]
    assert both.count("better") < 2
    if "better" in both:
        assert "worse" in both


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"minimum_gain": -0.1}, "minimum_gain"),
        ({"margin": float("nan")}, "margin"),
        ({"guards": {"f1": -1.0}}, "guards[f1]"),
        ({"alpha": 0.7}, "alpha"),
        ({"max_uses": 0}, "max_uses"),
        ({"enough": "fresh"}, "enough"),
        ({"enough": "not worse"}, "margin"),
    ],
)
def test_a_policy_that_is_none(arguments, field) -> None:
    with pytest.raises(InvalidInput) as caught:
        Policy(**arguments)
    assert caught.value.field == field


def test_guards_that_were_not_measured() -> None:
    with pytest.raises(InvalidInput, match=r"measured for \[\] and are named for \['recall'\]"):
        decide(gained(0.1, 0.01), Policy(guards={"recall": 0.1}))
    with pytest.raises(InvalidInput) as caught:
        decide(gained(0.1, 0.01), Policy(), challengers=0)
    assert caught.value.field == "challengers"
