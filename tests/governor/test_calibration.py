"""Thresholds from a reference history: the promised rate of false alarms holds, and a known decay is found."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.governor import Observation, RetrainPolicy
from airflow_pipeops.governor.calibration import alarm_rate, calibrated, cheapest, decay

START = datetime(2013, 1, 1, tzinfo=timezone.utc)


def history(metrics: list[float]) -> list[Observation]:
    return [
        Observation(f"b{n}", (START + timedelta(days=n)).isoformat(), True, performance=metric)
        for n, metric in enumerate(metrics)
    ]


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 5)])
@pytest.mark.parametrize("tail", ["normal", "heavy"])
def test_the_rate_of_false_alarms_holds(k: int, n: int, tail: str) -> None:
    """Many reference histories of 24 batches, each followed by 200 batches of the same: nothing is ever wrong."""
    chance = random.Random(k * 10 + n)

    def noise() -> float:
        spread = 0.02 if tail == "normal" or chance.random() < 0.9 else 0.05
        return 0.70 + chance.gauss(0, spread)

    alarms = batches = 0
    for _ in range(150):
        policy = RetrainPolicy(target=0.70, k=k, n=n)
        ready = calibrated(history([noise() for _ in range(24)]), policy, false_alarms=0.05)
        low = [0.70 - noise() > ready.max_drop for _ in range(200)]
        alarms += sum(low[at] and sum(low[at - n + 1 : at + 1]) >= k for at in range(n, 200))
        batches += 200 - n
    assert 0.005 < alarms / batches < 0.065


def test_the_rate_of_k_of_n() -> None:
    assert alarm_rate(0.2, 1, 1) == pytest.approx(0.2)
    assert alarm_rate(0.2, 2, 3) == pytest.approx(0.2 * (1 - 0.8**2))
    assert alarm_rate(0.2, 3, 3) == pytest.approx(0.2**3)


def test_a_decay_is_found_however_hard_the_batches_are() -> None:
    chance = random.Random(0)
    hard = [chance.gauss(0, 0.1) for _ in range(30)]
    scores = {
        (trained, batch): 0.8 + hard[batch] - 0.004 * (batch - trained)
        for batch in range(30)
        for trained in range(batch)
    }
    assert decay(scores) == pytest.approx(0.004)
    errors = {at: 1 - score for at, score in scores.items()}
    assert decay(errors, higher_is_better=False) == pytest.approx(0.004)


def test_a_decay_within_its_error_is_none() -> None:
    found = []
    for seed in range(40):
        chance = random.Random(seed)
        scores = {
            (trained, batch): chance.gauss(0.8, 0.01) for batch in range(12) for trained in range(batch)
        }
        found.append(decay(scores))
    assert sum(rate > 0 for rate in found) < 12  # a sixth is expected above one standard error
    scores = {
        (trained, batch): 0.8 - 0.01 * (batch - trained) for batch in range(9) for trained in range(batch)
    }
    assert decay(scores) == pytest.approx(0.01)
    assert decay({(0, 2): 0.6, (1, 2): 0.7}) == pytest.approx(0.1)


def test_what_cannot_be_calibrated_on_is_refused() -> None:
    policy = RetrainPolicy(target=0.7)
    with pytest.raises(InvalidInput, match="7 measured batches are too few"):
        calibrated(history([0.7] * 7), policy)
    with pytest.raises(InvalidInput, match="false_alarms"):
        calibrated(history([0.7] * 20), policy, false_alarms=5)
    with pytest.raises(InvalidInput, match="no two models"):
        decay({(0, 1): 0.7, (0, 2): 0.6})
    with pytest.raises(InvalidInput, match="which it knows"):
        decay({(3, 2): 0.7})


AGEING = {(trained, at): 0.8 - 0.01 * (at - trained) for at in range(1, 21) for trained in range(at)}


def paid(every: int, cost: float) -> float:
    """What a retrain after every so many batches costs where a model loses .01 with each batch of age."""
    trained, lost = 0, 0.0
    for at in range(1, 21):
        lost += 0.01 * (at - trained)
        if at - trained >= every and at < 20:
            trained, lost = at, lost + cost
    return lost


def test_a_backtest_finds_the_policy_that_would_have_cost_least() -> None:
    """Between periods: a decay of 2 c / P**2 makes a governor that trusts it retrain at the age P."""
    base = RetrainPolicy(
        target=0.9,
        max_drop=0.5,
        recovery=1.0,
        cooldown_batches=0,
        min_batches=1,
        k=1,
        n=1,
        rollback_drop=None,
    )
    for cost in (0.02, 0.1, 0.4):
        policies = {
            every: replace(base, retrain_cost=cost, decay=2.1 * cost / every**2) for every in (2, 4, 8)
        }
        found = cheapest(AGEING, policies.values())
        best = min(policies, key=lambda every: paid(every, cost))
        assert found == policies[best], cost


def test_the_first_of_equals_is_taken() -> None:
    flat = dict.fromkeys(AGEING, 0.8)
    policies = [RetrainPolicy(target=0.8, retrain_cost=1.0, k=k, n=3) for k in (3, 2)]
    assert cheapest(flat, policies) is policies[0]


def test_a_backtest_without_a_cost_or_with_a_gap_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no cost that could be compared"):
        cheapest(AGEING, [RetrainPolicy(target=0.8)])
    gap = {at: score for at, score in AGEING.items() if at != (3, 9)}
    with pytest.raises(InvalidInput, match="trained after batch 3 was not measured on batch 9"):
        cheapest(gap, [RetrainPolicy(target=0.8, retrain_cost=1.0)])
    with pytest.raises(InvalidInput, match="no scores"):
        cheapest({}, [RetrainPolicy(target=0.8, retrain_cost=1.0)])
