"""A change that stays."""

from __future__ import annotations

import random

import pytest

from airflow_pipeops.operations.anomalies.change import FailureDetector, LevelDetector
from tests.operations.anomalies.worlds import heavy


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.gauss(0, 1),
        lambda rng: heavy(rng, 2),
        lambda rng: rng.expovariate(1),
        lambda rng: float(rng.random() < 0.3),
        lambda rng: float(rng.randint(0, 3)),
    ],
    ids=["normal", "heavy", "skew", "two values", "four values"],
)
def test_without_a_change_an_alarm_is_as_rare_as_it_is_said(draw) -> None:
    alarms = values = 0
    for seed in range(10):
        rng, detector = random.Random(seed), LevelDetector()
        for number in range(1000):
            alarms += detector.see(float(number), draw(rng), 0.01) is not None
            values += 1
    assert alarms <= values * 0.01 * 1.1, "the time to an alarm is at least 100 values on the average"


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize(("by", "within"), [(2.0, 10), (4.0, 6)])
def test_a_change_is_found_soon_and_its_onset_with_it(way: int, by: float, within: int) -> None:
    hits = delay = 0
    for seed in range(20):
        rng, detector = random.Random(seed), LevelDetector()
        found = None
        for number in range(150):
            change = way * by if number >= 100 else 0.0
            found = detector.see(float(number), rng.gauss(change, 1), 0.0002)
            if found and number >= 100:
                break
        assert found
        assert number < 130
        delay += number - 99
        assert found.earliest <= found.likely <= found.latest
        hits += found.earliest <= 100 <= found.latest
    assert hits >= 15
    assert delay / 20 <= within


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.6])
def test_a_steady_share_of_failures_is_no_alarm_beyond_what_is_said(share: float) -> None:
    alarms = values = 0
    for seed in range(15):
        rng, detector = random.Random(seed), FailureDetector()
        for number in range(600):
            alarms += detector.see(float(number), rng.random() < share, 0.005, 0.05) is not None
            values += 1
    # Until enough runs were seen, those of other series are all that is known: a share far above is news, once.
    assert alarms <= values * 0.005 + (15 if share > 0.2 else 0)


def test_all_failing_is_found_within_a_few_runs() -> None:
    detector = FailureDetector()
    for number in range(50):
        assert detector.see(float(number), False, 0.0005, 0.05) is None
    found = [detector.see(50.0 + number, True, 0.0005, 0.05) for number in range(6)]
    onset = next(one for one in found if one)
    assert onset.likely == 50.0
    assert found.index(onset) <= 3
