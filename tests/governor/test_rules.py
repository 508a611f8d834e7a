"""The governor's rules one by one, and what must hold for every history under every policy."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor import Decision, Observation, RetrainPolicy, decide, decided
from airflow_pipeops.governor.forecast import decay, forecast, helped, recovered
from airflow_pipeops.governor.history import ACTIONS, OUTCOMES, deduplicated
from airflow_pipeops.governor.replay import replay, simulate, totals

START = datetime(2013, 1, 1, tzinfo=timezone.utc)
POLICY = RetrainPolicy(target=0.70, cooldown_batches=0)


def seen(number: int, performance: float | None, **more) -> Observation:
    at = (START + timedelta(days=30 * number)).isoformat()
    return Observation(f"b{number:02d}", at, more.pop("quality", True), performance=performance, **more)


def run(items: list[Observation], policy: RetrainPolicy = POLICY) -> list[Decision]:
    return [step.decision for step in replay(items, policy)]


def rules(items: list[Observation], policy: RetrainPolicy = POLICY) -> list[tuple[str, str]]:
    return [(decision.action, decision.rule) for decision in run(items, policy)]


LOW = [seen(n, 0.6) for n in range(6)]


def test_the_kill_switch_comes_first_and_the_rest_is_told() -> None:
    decision = decide(LOW[:2], POLICY, START, killed=True)
    assert (decision.action, decision.rule) == ("hold", "kill_switch")
    assert "more than 0.02 worse" in " ".join(decision.reasons)
    bad = decide([seen(0, 0.6, quality=False)], POLICY, START, killed=True)
    assert (bad.action, bad.rule) == ("hold", "kill_switch")


@pytest.mark.parametrize(
    ("changes", "acts", "asks"),
    [
        ({}, True, False),
        ({"needs_approval": True}, False, True),
        ({"mode": "propose"}, False, True),
        ({"mode": "observe"}, False, False),
        ({"mode": "observe", "needs_approval": True}, False, False),
    ],
)
def test_modes(changes: dict, acts: bool, asks: bool) -> None:
    decision = decide(LOW[:2], replace(POLICY, **changes), START)
    assert (decision.action, decision.acts, decision.needs_approval) == ("retrain", acts, asks)


def test_an_alarm_ends_only_within_the_clear_threshold() -> None:
    items = [seen(n, metric) for n, metric in enumerate((0.66, 0.66, 0.69, 0.69, 0.70, 0.69))]
    wide = replace(POLICY, budget=0, clear_drop=0.005)
    assert [rule for _, rule in rules(items, wide)] == ["evidence", *["budget"] * 3, "steady", "steady"]
    assert [rule for _, rule in rules(items, replace(wide, clear_drop=None))][2:4] == ["steady", "steady"]


def test_an_estimate_stands_in_for_late_labels_and_is_told() -> None:
    items = [seen(n, None, estimated_performance=0.6) for n in range(2)]
    decision = run(items)[-1]
    assert decision.action == "retrain"
    assert "0.600 (estimated)" in decision.reasons[0]
    measured = [replace(item, performance=0.71) for item in items]
    assert run(measured)[-1].action == "hold"


def test_late_labels_do_not_undo_a_decision() -> None:
    late = Observation("b01", (START + timedelta(days=300)).isoformat(), True, performance=0.65)
    first = replace(seen(1, None), action="retrain", drift_share=0.4)
    for order in ([first, late], [late, first]):
        assert deduplicated(order) == [replace(first, performance=0.65)]


def test_movement_is_weighed_by_importance() -> None:
    item = seen(0, 0.7, drift_share=0.9, drifted=("noise", "temp"))
    weights = {"noise": 0.0, "temp": 1.0, "wind": 3.0}
    told = decide([item], replace(POLICY, importance=weights, drift_share=0.25), START).reasons
    assert (
        told[-1] == "25% of the columns of b00, weighed by importance, moved; movement alone never retrains."
    )
    assert len(decide([item], replace(POLICY, importance=weights, drift_share=0.3), START).reasons) == 1


def test_blind_for_long_while_columns_move() -> None:
    items = [seen(n, None, drift_share=0.8) for n in range(4)]
    assert rules(items, replace(POLICY, blind_batches=3))[1:] == [
        ("hold", "evidence"),
        ("investigate", "blind"),
        ("investigate", "blind"),
    ]
    still = [replace(item, drift_share=0.1) for item in items]
    assert {action for action, _ in rules(still, replace(POLICY, blind_batches=3))} == {"hold"}


def test_a_hard_season_is_no_loss() -> None:
    year = [seen(n, 0.62 if n % 4 == 3 else 0.72, season=f"q{n % 4}") for n in range(4)]
    later = [seen(n, 0.62, season="q3") for n in range(4, 6)]
    seasonal = replace(POLICY, seasonal=True)
    assert ("retrain", "consequence") in rules([*year, *later])
    assert {action for action, _ in rules([*year, *later], seasonal)} == {"hold"}
    worse = [replace(item, performance=0.56) for item in later]
    assert ("retrain", "consequence") in rules([*year, *worse], seasonal)


def test_the_budget() -> None:
    policy = replace(POLICY, budget=1, budget_window=timedelta(days=100))
    assert [rule for _, rule in rules([seen(n, 0.6) for n in range(6)], policy)] == [
        "evidence",
        "consequence",
        "evidence",
        "budget",
        "budget",
        "consequence",
    ]
    declined = [seen(0, 0.6), replace(seen(1, 0.6), action="retrain", outcome="declined"), *LOW[2:4]]
    assert decide(declined, policy, declined[-1].when).action == "retrain"


def test_a_retrain_must_pay() -> None:
    dear, cheap = replace(POLICY, retrain_cost=0.2), replace(POLICY, retrain_cost=0.04)
    assert rules(LOW[:2], dear)[-1] == ("hold", "gain")
    # 0.1 below in each, of which half is expected back, for the two batches that are half of the model's age.
    assert rules(LOW[:4], dear)[-1] == ("hold", "gain")
    assert run(LOW[:4], dear)[-1].forecast.worth == pytest.approx(0.1 * 0.5 * 2)
    assert rules(LOW[:2], cheap)[-1] == ("retrain", "consequence")
    by_rows = replace(POLICY, retrain_cost=40, value=0.01, value_per="row")
    assert "nobody can say what a retrain is worth" in run(LOW[:2], by_rows)[-1].reasons[0]
    many = [replace(item, rows=100_000) for item in LOW[:2]]
    assert run(many, by_rows)[-1].forecast.worth == pytest.approx(0.1 * 0.5 * 1 * 100_000 * 0.01)
    assert rules(many, by_rows)[-1] == ("retrain", "consequence")


def test_a_loss_within_its_error_is_none() -> None:
    noisy = [replace(item, performance_error=0.3) for item in LOW[:4]]
    assert rules(noisy, replace(POLICY, retrain_cost=0.01))[-1] == ("hold", "gain")
    assert rules(LOW[:4], replace(POLICY, retrain_cost=0.01))[-1][0] in ("hold", "retrain")
    assert run(noisy, replace(POLICY, retrain_cost=0.01))[-1].forecast.shortfall == 0


def test_an_error_that_nobody_stated_is_not_zero() -> None:
    policy = replace(POLICY, retrain_cost=10, k=1, n=3, min_batches=1)
    assert run(LOW[:1], policy)[-1].forecast.shortfall == 0  # one batch says nothing of how batches differ
    assert run(LOW[:3], policy)[-1].forecast.shortfall == pytest.approx(0.1)
    # Losses of 0.30, 0 and 0: their mean is 0.1, their deviation 0.17, and the reference is no better known.
    uneven = [seen(0, 0.4), seen(1, 0.7), seen(2, 0.7)]
    assert run(uneven, policy)[-1].forecast.shortfall == 0
    assert run(uneven, replace(policy, confidence=0.0))[-1].forecast.shortfall == pytest.approx(0.1)


def test_a_slow_decay_retrains_at_the_age_that_is_cheapest() -> None:
    """A decay of d a batch, all of it won back, at cost c: the age is the root of 2 c / d."""
    policy = replace(POLICY, retrain_cost=0.32, decay=0.01, recovery=1.0)
    assert [rule for _, rule in rules([seen(n, 0.70) for n in range(9)], policy)].index("ageing") == 7


def pair(number: int, gain: float, **more) -> Observation:
    return seen(number, 0.70, predecessor_performance=0.70 - gain, **more)


def test_a_worse_model_is_rolled_back() -> None:
    items = [seen(0, 0.6), seen(1, 0.6), pair(2, -0.05), pair(3, -0.04), seen(4, 0.70)]
    found = run(items)
    assert [decision.action for decision in found] == ["hold", "retrain", "hold", "rollback", "hold"]
    assert "b02 0.700 against 0.750; b03 0.700 against 0.740" in found[3].reasons[0]
    never = run(items, replace(POLICY, rollback_drop=None))
    assert "rollback" not in {decision.action for decision in never}


def test_what_retrains_won_is_learned() -> None:
    past = [
        seen(0, 0.6),
        replace(seen(1, 0.6), action="retrain", outcome="promoted"),
        pair(2, 0.06),
        replace(pair(3, 0.06), action="retrain", outcome="rejected"),
        seen(4, 0.7),
    ]
    assert helped(past, POLICY) == [(1, True), (3, False)]
    assert recovered(past, POLICY) == pytest.approx((0.5 + 1 + 0) / 3)
    # Two batches whose models were trained two batches apart, 0.06 better: 0.03 for each batch of age.
    assert decay(past, seen(5, 0.7), POLICY) == pytest.approx(0.03)
    assert forecast(past, seen(5, 0.7), [0.0, 0.0], POLICY).ageing == pytest.approx(0.03 * 4)


def test_retrains_that_did_not_help_ask_for_more_and_then_for_a_person() -> None:
    lost = {"action": "retrain", "outcome": "rejected"}
    once = [seen(0, 0.6), replace(seen(1, 0.6), **lost), *LOW[2:5]]
    assert decide(once[:4], POLICY, START).action == "hold"
    assert "3 of 4 are needed" in decide(once[:4], POLICY, START).reasons[0]
    assert decide(once, POLICY, START).action == "retrain"
    twice = [*once[:-1], replace(once[-1], **lost), *[seen(n, 0.6) for n in range(5, 10)]]
    found = decide(twice, POLICY, START)
    assert (found.action, found.rule) == ("investigate", "outcome")
    assert decide(twice, replace(POLICY, futile_memory=4), START).action == "retrain"


def test_simulate_serves_what_was_decided() -> None:
    asked: list[tuple[int, int, int | None]] = []
    metric = {-1: 0.6, 1: 0.5}

    def observe(batch: int, trained: int, before: int | None) -> Observation:
        asked.append((batch, trained, before))
        old = None if before is None else metric.get(before, 0.72)
        return seen(batch, metric.get(trained, 0.72), predecessor_performance=old)

    steps = simulate(8, observe, replace(POLICY, max_futile=9))
    actions = [step.decision.action for step in steps]
    assert actions[:4] == ["hold", "retrain", "hold", "rollback"]
    assert asked[2:5] == [(2, 1, -1), (3, 1, -1), (4, -1, None)]
    assert totals(steps, replace(POLICY, retrain_cost=2.0))["cost"] == 2.0 * actions.count("retrain")


def test_a_replay_tells_what_was_recorded() -> None:
    items = [seen(0, 0.6, action="retrain", outcome="promoted"), seen(1, 0.6, action="hold")]
    steps = replay(items, POLICY)
    assert [(step.recorded, step.decision.action) for step in steps] == [
        ("retrain", "hold"),
        ("hold", "retrain"),
    ]
    assert steps[0].observation.outcome == ""
    assert totals(steps, POLICY)["differ"] == 2


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"mode": "auto"}, "mode"),
        ({"budget": -1}, "budget"),
        ({"max_drop": "much"}, "max_drop"),
        ({"max_drop": float("nan")}, "max_drop"),
        ({"clear_drop": 0.5}, "clear_drop"),
        ({"value_per": "cell"}, "value_per"),
        ({"importance": {"temp": -1}}, "importance"),
        ({"importance": [1]}, "importance"),
        ({"cool_down": 1}, "cool_down"),
        ([1], "policy"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(data, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        RetrainPolicy.from_json(data)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"performance": "0.7"}, "performance"),
        ({"performance": float("nan")}, "performance"),
        ({"quality_passed": "no"}, "quality_passed"),
        ({"rows": True}, "rows"),
        ({"drifted": "temp"}, "drifted"),
        ({"outcome": "great"}, "outcome"),
        ({"season": 3}, "season"),
    ],
)
def test_an_observation_that_makes_no_sense_is_refused_by_name(wrong: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Observation.from_json({**seen(0, 0.7).to_json(), **wrong})
    assert refused.value.field == field


SHARE = st.one_of(st.none(), st.floats(0, 1))
OBSERVATIONS = st.lists(
    st.builds(
        dict,
        quality=st.booleans() | st.just(True),
        performance=SHARE,
        drift_share=SHARE,
        reference_performance=SHARE,
        estimated_performance=SHARE,
        predecessor_performance=SHARE,
        performance_error=st.one_of(st.none(), st.floats(0, 0.2)),
        rows=st.one_of(st.none(), st.integers(1, 10**6)),
        season=st.sampled_from(["", "winter", "summer"]),
        drifted=st.sampled_from([(), ("temp",), ("temp", "wind")]),
        outcome=st.sampled_from(["", *OUTCOMES]),
    ),
    min_size=1,
    max_size=25,
).map(lambda items: [seen(number, **item) for number, item in enumerate(items)])
POLICIES = st.builds(
    lambda k, more, max_drop, **rest: RetrainPolicy(
        k=k, n=k + more, max_drop=max_drop, clear_drop=rest.pop("clear") * max_drop, **rest
    ),
    k=st.integers(1, 3),
    more=st.integers(0, 3),
    target=SHARE,
    max_drop=st.floats(0, 0.2),
    clear=st.floats(0, 1),
    min_batches=st.integers(1, 3),
    cooldown_batches=st.integers(0, 4),
    cooldown=st.integers(0, 120).map(lambda days: timedelta(days=days)),
    mode=st.sampled_from(["observe", "propose", "act"]),
    needs_approval=st.booleans(),
    seasonal=st.booleans(),
    importance=st.sampled_from([{}, {"temp": 1.0, "wind": 2.0}]),
    blind_batches=st.one_of(st.none(), st.integers(1, 5)),
    budget=st.one_of(st.none(), st.integers(0, 3)),
    budget_window=st.integers(30, 400).map(lambda days: timedelta(days=days)),
    max_futile=st.integers(1, 3),
    futile_memory=st.integers(1, 20),
    rollback_drop=st.one_of(st.none(), st.floats(0, 0.2)),
    retrain_cost=st.one_of(st.none(), st.floats(0, 1)),
    value_per=st.sampled_from(["batch", "row"]),
    horizon=st.one_of(st.none(), st.floats(0.5, 10)),
    recovery=st.floats(0, 1),
    decay=st.one_of(st.none(), st.floats(0, 0.05)),
    confidence=st.floats(0, 3),
    higher_is_better=st.booleans(),
)


def lived(items: list[Observation], policy: RetrainPolicy) -> list[tuple[Observation, Decision]]:
    """Decide batch by batch; outcomes are those of the observations, where a retrain was decided."""
    past: list[Observation] = []
    found = []
    for item in items:
        decision = decide([*past, replace(item, outcome="")], policy, item.when)
        seen_by_later = decided(item, decision)
        past.append(seen_by_later if decision.action == "retrain" else replace(seen_by_later, outcome=""))
        found.append((past[-1], decision))
    return found


@settings(deadline=None)
@given(items=OBSERVATIONS, policy=POLICIES)
def test_always(items: list[Observation], policy: RetrainPolicy) -> None:
    found = lived(items, policy)
    for item, decision in found:
        assert decision.reasons
        assert all(reason.endswith(".") for reason in decision.reasons)
        assert decision.action in ACTIONS
        if not item.quality_passed:
            assert (decision.action, decision.rule) == ("investigate", "quality")
        if decision.action in ("retrain", "rollback"):
            assert item.metric is not None
        assert not (decision.acts and (policy.mode != "act" or policy.needs_approval))
        assert Decision.from_json(json.loads(json.dumps(decision.to_json(), allow_nan=False))) == decision
        assert Observation.from_json(json.loads(json.dumps(item.to_json(), allow_nan=False))) == item
    starts = [number for number, (_, decision) in enumerate(found) if decision.action == "retrain"]
    both = [
        number for number, (_, decision) in enumerate(found) if decision.action in ("retrain", "rollback")
    ]
    for first, second in pairwise(both):
        if second in starts:
            assert second - first > policy.cooldown_batches
            assert items[second].when - items[first].when >= policy.cooldown
    if policy.budget is not None:
        for number in starts:
            spent = [
                other
                for other in starts
                if other < number
                and items[number].when - items[other].when < policy.budget_window
                and items[other].outcome != "declined"
            ]
            assert len(spent) < policy.budget


@settings(deadline=None)
@given(items=OBSERVATIONS, policy=POLICIES)
def test_the_kill_switch_always_holds(items: list[Observation], policy: RetrainPolicy) -> None:
    past = [item for item, _ in lived(items, policy)]
    decision = decide(past, policy, items[-1].when, killed=True)
    assert (decision.action, decision.rule, decision.acts) == ("hold", "kill_switch", False)


@settings(deadline=None)
@given(items=OBSERVATIONS, policy=POLICIES, more=st.floats(0, 1))
def test_a_larger_loss_never_turns_a_retrain_into_a_hold(
    items: list[Observation], policy: RetrainPolicy, more: float
) -> None:
    past = [item for item, _ in lived(items[:-1], policy)]
    # What the predecessor reached decides about a rollback, and whether the last retrain helped: another question.
    last = replace(items[-1], predecessor_performance=None, estimated_performance=None, outcome="")
    if last.performance is None:
        return
    worse = last.performance - more if policy.higher_is_better else last.performance + more
    order = {"hold": 0, "investigate": 0, "retrain": 1}
    before = decide([*past, last], policy, last.when)
    after = decide([*past, replace(last, performance=worse)], policy, last.when)
    assert order[after.action] >= order[before.action]


@settings(deadline=None)
@given(items=OBSERVATIONS, policy=POLICIES, seed=st.integers(0, 2**32))
def test_the_order_of_duplicates_does_not_matter(
    items: list[Observation], policy: RetrainPolicy, seed: int
) -> None:
    past = [item for item, _ in lived(items, policy)]
    current, now = past.pop(), items[-1].when
    older = [replace(item, at=(item.when - timedelta(days=1)).isoformat(), performance=0.5) for item in past]
    chance = random.Random(seed)
    mixed = []
    for new, old in zip(past, older, strict=True):
        both = [replace(old, performance=None), new, new]
        chance.shuffle(both)
        mixed += both
    assert decide([*mixed, current], policy, now) == decide([*past, current], policy, now)


@settings(deadline=None)
@given(policy=POLICIES)
def test_a_policy_survives_json(policy: RetrainPolicy) -> None:
    assert RetrainPolicy.from_json(json.loads(json.dumps(policy.to_json(), allow_nan=False))) == policy
