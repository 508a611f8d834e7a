"""How often the gate errs on equal prompts, in small; the tables are in docs/evaluation-gate.md."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from airflow_pipeops.llm.gate.policy import GatePolicy
from tests.benchmarks.gate import KINDS, looked_at, pooled, shares

DRAWS = 200
#: More errors than this, of so many draws, have a chance of 1 in 2,000 where each has the stated one.
MOST = int(binom.ppf(1 - 0.0005, DRAWS, 0.05))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("items", "runs"), [(10, 3), (50, 1), (300, 3)])
def test_equal_prompts_are_seldom_told_apart(kind: str, items: int, runs: int) -> None:
    found = shares(kind, items, runs, DRAWS)
    assert found["gate"]["worse"] <= MOST
    assert found["gate"]["better"] <= MOST
    # What people write by hand says of equal prompts that one is worse, again and again.
    assert found["candidate < baseline"]["worse"] > 0.3 * DRAWS
    assert found["any item"]["worse"] > 0.4 * DRAWS


def test_rows_that_move_together_are_no_items() -> None:
    found = shares("clustered", 300, 3, DRAWS)
    assert found["gate"]["worse"] + found["gate"]["better"] <= 2 * MOST
    wrong = found["rows pooled"]["worse"] + found["rows pooled"]["better"]
    assert wrong > binom.ppf(1 - 0.0005, DRAWS, 0.10)
    assert pooled.__doc__


def test_a_true_loss_is_found_and_more_often_the_more_there_is_to_see() -> None:
    power = [
        shares("plain", items, runs, DRAWS, 0.1)["gate"]["worse"] / DRAWS
        for items, runs in ((30, 1), (100, 1), (100, 3), (1000, 1))
    ]
    assert power == sorted(power)
    assert 0.4 < power[1] < 0.75
    assert power[2] > 0.8
    assert power[3] > 0.99


def test_not_worse_is_said_of_what_loses_the_margin_as_seldom_as_promised() -> None:
    policy = GatePolicy("quality", margin=0.05, enough="not worse")
    for items in (20, 100, 1000):
        found = shares("plain", items, 1, DRAWS, 0.05, policy)["gate"]
        assert found["not worse"] + found["better"] <= MOST
    assert shares("plain", 1000, 3, DRAWS, 0.0, policy)["gate"]["not worse"] > 0.8 * DRAWS


def test_who_looks_after_each_batch_errs_no_oftener() -> None:
    draws, policy = 60, GatePolicy("quality", planned=300)
    most = int(binom.ppf(1 - 0.0005, draws, 0.10))
    random = np.random.default_rng(3)
    found = [looked_at(600, 40, random, 0.0, policy)[0] for _ in range(draws)]
    assert sum(said != "cannot tell" for said in found) <= most
    once = [looked_at(600, 40, random, 0.0, GatePolicy("quality"))[0] for _ in range(draws)]
    assert sum(said != "cannot tell" for said in once) > most, "what an interval for one look does"
    early = [looked_at(600, 20, random, 0.3, policy) for _ in range(20)]
    assert all(said == "worse" for said, _ in early)
    assert np.median([size for _, size in early]) <= 100
