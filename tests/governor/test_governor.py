"""The retrain policy: a table of stories, and what must hold for every history."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor import (
    Observation,
    RetrainPolicy,
    decide,
    decided,
    deduplicated,
)
from airflow_pipeops.governor.policy import too_short

START = datetime(2013, 3, 1, tzinfo=timezone.utc)
POLICY = RetrainPolicy(target=0.70, max_drop=0.02, k=2, n=3, min_batches=2, cooldown_batches=2)


def seen(
    number: int, performance: float | None = 0.70, *, quality: bool = True, drift: float = 0.5
) -> Observation:
    at = (START + timedelta(days=30 * number)).isoformat()
    return Observation(f"month-{number:02d}", at, quality, drift, performance, 0.70)


def replay(observations: list[Observation], policy: RetrainPolicy) -> list[Observation]:
    """Decide batch by batch, each decision seeing the ones before it."""
    past: list[Observation] = []
    for item in observations:
        past.append(decided(item, decide([*past, item], policy, item.when)))
    return past


def actions(metric: list[float | None], policy: RetrainPolicy = POLICY) -> list[str]:
    return [item.action for item in replay([seen(n, value) for n, value in enumerate(metric)], policy)]


@pytest.mark.parametrize(
    ("story", "metric", "expected"),
    [
        ("steady", [0.71, 0.70, 0.69], ["hold"] * 3),
        ("one bad batch", [0.70, 0.60, 0.70], ["hold"] * 3),
        ("two of three", [0.69, 0.62, 0.69, 0.67], ["hold", "hold", "hold", "retrain"]),
        ("no evidence yet", [0.60], ["hold"]),
        ("two at once", [0.60, 0.60], ["hold", "retrain"]),
        ("back within its reference", [None, 0.60, None, 0.70], ["hold"] * 4),
        ("exactly the accepted drop", [0.68, 0.68, 0.68], ["hold"] * 3),
        (
            "cooldown, then evidence anew",
            [0.6, 0.6, 0.6, 0.6, 0.6],
            ["hold", "retrain", "hold", "hold", "retrain"],
        ),
        ("no labels", [None, None, None], ["hold"] * 3),
    ],
)
def test_stories(story: str, metric: list[float | None], expected: list[str]) -> None:
    assert actions(metric) == expected, story


def test_the_year_of_flights() -> None:
    """The measured metrics of a champion of January and February, and from July on of the one that June's retrain made."""
    metric = [0.693, 0.622, 0.683, 0.677, 0.752, 0.706, 0.693, 0.648, 0.658, 0.662]
    hold, retrain = "hold", "retrain"
    assert actions(metric) == [hold, hold, hold, retrain, hold, hold, hold, hold, retrain, hold]


def test_bad_data_vetoes_what_would_retrain() -> None:
    past = replay([seen(0, 0.5)], POLICY)
    decision = decide([*past, seen(1, 0.5, quality=False)], POLICY, START + timedelta(days=60))
    assert (decision.action, decision.rule) == ("investigate", "quality")
    assert "bad data never retrains" in decision.reasons[0]


def test_bad_data_is_no_evidence() -> None:
    history = replay([seen(0, 0.5, quality=False), seen(1, 0.5)], POLICY)
    assert [item.action for item in history] == ["investigate", "hold"]


def test_every_rule_that_applied_is_told() -> None:
    history = replay([seen(n, 0.5) for n in range(3)], POLICY)
    decision = decide([*history, seen(3, 0.5, drift=0.58)], POLICY, START + timedelta(days=90))
    text = " ".join(decision.reasons)
    assert (decision.action, decision.rule) == ("hold", "cooldown")
    assert "Cooldown: batch 2 of the 2" in text
    assert "more than 0.02 worse than its reference in 2 of the last 2" in text
    assert "58% of the columns of month-03 moved too" in text


def test_movement_alone_is_told_and_holds() -> None:
    decision = decide([seen(0), seen(1, drift=1.0)], POLICY, START)
    assert decision.action == "hold"
    assert "movement alone never retrains" in decision.reasons[-1]


def test_cooldown_by_time() -> None:
    policy = replace(POLICY, cooldown_batches=0, cooldown=timedelta(days=100))
    assert actions([0.6] * 6, policy) == ["hold", "retrain", "hold", "hold", "hold", "retrain"]


def test_lower_is_better() -> None:
    policy = RetrainPolicy(target=10.0, max_drop=1.0, higher_is_better=False)
    assert actions([9.0, 12.0, 12.0], policy) == ["hold", "hold", "retrain"]


def test_own_reference_without_a_target() -> None:
    policy = replace(POLICY, target=None)
    assert actions([0.6, 0.6], policy) == ["hold", "retrain"]
    unknown = replace(seen(1, 0.1), reference_performance=None)
    assert "reference of its metric is not known" in decide([seen(0), unknown], policy, START).reasons[0]


def test_deduplicated_keeps_the_latest() -> None:
    again = seen(0, 0.9)
    assert deduplicated([seen(0, 0.1), seen(1), again]) == [again, seen(1)]


def test_json_round_trip() -> None:
    item = seen(1, 0.6)
    assert Observation.from_json({**item.to_json(), "of_a_later_version": 1}) == item
    with pytest.raises(InvalidInput, match="incomplete"):
        Observation.from_json({"batch": "x"})


@pytest.mark.parametrize(
    "numbers", [{"k": 3, "n": 2}, {"k": 0}, {"max_drop": -1}, {"drift_share": 2}, {"cooldown_batches": -1}]
)
def test_senseless_policies_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="out of range"):
        RetrainPolicy(**numbers)


def test_what_is_not_given_follows_the_delays_that_are_stated() -> None:
    unstated, daily = RetrainPolicy(), RetrainPolicy(label_delay_batches=7, release_batches=2)
    assert (unstated.dwell, unstated.memory) == (2, 12)
    assert (daily.dwell, daily.memory) == (9, 90)
    assert RetrainPolicy.from_json(daily.to_json()) == daily
    assert replace(daily, label_delay_batches=28).dwell == 30
    assert RetrainPolicy(label_delay_batches=1).dwell == 2  # never less than without
    assert replace(daily, cooldown_batches=20, futile_memory=30).memory == 30


def test_a_cooldown_that_ends_before_the_labels_are_there_is_refused_by_name() -> None:
    with pytest.raises(
        InvalidInput, match=r"cooldown_batches .* is 8, and labels \(7\) and a release \(2\)"
    ) as caught:
        RetrainPolicy(cooldown_batches=8, label_delay_batches=7, release_batches=2)
    assert caught.value.field == "cooldown_batches"
    RetrainPolicy(cooldown_batches=9, label_delay_batches=7, release_batches=2)
    # A time may be as long as the batches are: nobody can tell.
    RetrainPolicy(cooldown_batches=0, cooldown=timedelta(days=9), label_delay_batches=7)
    assert too_short(RetrainPolicy(), 7, 2).startswith("of the retrain policy is 2")
    assert too_short(RetrainPolicy(label_delay_batches=7, release_batches=2), 7, 2) == ""


def test_the_default_holds_until_labels_of_the_new_model_can_be_there() -> None:
    daily = replace(POLICY, cooldown_batches=None, label_delay_batches=7, release_batches=2)
    found = actions([0.6] * 14, daily)
    assert [place for place, action in enumerate(found) if action == "retrain"] == [1, 11]


def test_bad_input() -> None:
    with pytest.raises(InvalidInput, match="nothing to decide"):
        decide([], POLICY, START)
    with pytest.raises(InvalidInput, match="no time zone"):
        decide([seen(0)], POLICY, datetime(2013, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidInput, match="not a time"):
        Observation("x", "yesterday", True)
    with pytest.raises(InvalidInput, match="action"):
        Observation("x", START.isoformat(), True, action="explode")


SHARES = st.one_of(st.none(), st.floats(0, 1))
METRICS = st.one_of(st.none(), st.floats(0, 1))
BATCHES = st.lists(st.tuples(st.booleans(), SHARES, METRICS, METRICS), min_size=1, max_size=25)
POLICIES = st.builds(
    lambda k, more, **rest: RetrainPolicy(k=k, n=k + more, **rest),
    k=st.integers(1, 4),
    more=st.integers(0, 3),
    target=METRICS,
    max_drop=st.floats(0, 0.3),
    min_batches=st.integers(1, 4),
    cooldown_batches=st.integers(0, 4),
    cooldown=st.integers(0, 120).map(lambda days: timedelta(days=days)),
    drift_share=st.floats(0, 1),
    higher_is_better=st.booleans(),
)


def history_of(batches: list[tuple[bool, float | None, float | None, float | None]]) -> list[Observation]:
    return [
        Observation(f"b{n}", (START + timedelta(days=30 * n)).isoformat(), quality, drift, metric, reference)
        for n, (quality, drift, metric, reference) in enumerate(batches)
    ]


@settings(max_examples=300, deadline=None)
@given(batches=BATCHES, policy=POLICIES)
def test_always(batches: list, policy: RetrainPolicy) -> None:
    past: list[Observation] = []
    for item in history_of(batches):
        decision = decide([*past, item], policy, item.when)
        assert decision.reasons
        assert all(decision.reasons)
        assert (decision.action == "investigate") == (not item.quality_passed)
        past.append(decided(item, decision))
    retrains = [n for n, item in enumerate(past) if item.action == "retrain"]
    for first, second in pairwise(retrains):
        assert second - first > policy.cooldown_batches
        assert past[second].when - past[first].when >= policy.cooldown
    for number in retrains:
        reference = policy.target if policy.target is not None else past[number].reference_performance
        assert reference is not None
        assert past[number].performance is not None


@settings(max_examples=100, deadline=None)
@given(shares=st.lists(st.floats(0, 1), min_size=1, max_size=20), policy=POLICIES, metric=METRICS)
def test_drift_alone_never_retrains(shares: list[float], policy: RetrainPolicy, metric: float | None) -> None:
    steady = metric if policy.target is None else policy.target
    observations = history_of([(True, share, steady, metric) for share in shares])
    assert "retrain" not in {item.action for item in replay(observations, policy)}
