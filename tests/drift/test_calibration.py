"""The stated false-alarm rate, small: the benchmark ``tests/benchmarks/calibration.py`` draws more, and power too."""

from __future__ import annotations

import pytest
from scipy import stats

from airflow_pipeops.drift.settings import Settings
from tests.benchmarks import calibration

SAME = {name: draw for name, draw in calibration.cases().items() if name.endswith("same")}


@pytest.mark.parametrize("sizes", [(200, 200), (2000, 200), (3000, 5000)], ids=str)
@pytest.mark.parametrize("case", [name for name in SAME if not name.startswith(("100 ", "1000 "))])
def test_alarms_while_nothing_drifts(case: str, sizes: tuple[int, int]) -> None:
    """With thresholds of zero, so that significance alone decides: the rate must hold for that too.

    The bound is exact: were the chance of an alarm in a data set 5%, more of them would come once in ten thousand runs.
    """
    settings = Settings(false_alarms=0.05, threshold=0.0, unseen_threshold=1e-9)
    found = calibration.measure(SAME[case], *sizes, settings, datasets=20, columns=8, seed=1)
    assert found.anywhere * 20 <= stats.binom.ppf(0.9999, 20, 0.05)
    assert found.significant * found.judged <= stats.binom.ppf(0.9999, found.judged, 0.05)
    assert found.dataset == 0


@pytest.mark.nightly
@pytest.mark.parametrize("sizes", calibration.SIZES, ids=str)
@pytest.mark.parametrize("case", SAME)
def test_alarms_while_nothing_drifts_thoroughly(case: str, sizes: tuple[int, int]) -> None:
    settings = Settings(false_alarms=0.05, threshold=0.0, unseen_threshold=1e-9)
    found = calibration.measure(SAME[case], *sizes, settings, datasets=300, columns=5, seed=2)
    assert found.anywhere * 300 <= stats.binom.ppf(0.9999, 300, 0.05)
    # With its own thresholds the rule alarms far less than it may.
    usual = calibration.measure(SAME[case], *sizes, Settings(), datasets=50, columns=5, seed=3)
    assert usual.columns * usual.judged <= stats.binom.ppf(0.9999, usual.judged, 0.01)


@pytest.mark.parametrize(
    ("case", "sizes"),
    [
        ("numbers, mean +0.5 sd", (1000, 1000)),
        ("numbers, mean +1.0 sd", (200, 200)),
        ("numbers, deviation x 1.5", (3000, 3000)),
        ("2 categories, 20% moved", (1000, 1000)),
        ("1000 categories, 20% moved", (10_000, 10_000)),
    ],
)
def test_a_real_shift_is_seen(case: str, sizes: tuple[int, int]) -> None:
    found = calibration.measure(calibration.cases()[case], *sizes, Settings(), datasets=3, columns=10, seed=1)
    assert found.columns > 0.9
    assert found.dataset == 1.0
