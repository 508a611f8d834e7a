"""How many items it takes: the published example, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_pipeops.llm.gate.effects import Noise
from airflow_pipeops.llm.gate.judging import judge
from airflow_pipeops.llm.gate.policy import GatePolicy
from airflow_pipeops.llm.gate.power import best_runs, items_needed, runs_needed
from tests.llm.gate.tables import coins, table

#: Of Miller's example: a variance of 1/9 between items, and of 1/6 within those of each of two arms.
MILLER = Noise(1 / 9, 2 / 6, 1)


@pytest.mark.parametrize(("runs", "items"), [(1, 1100), (3, 550), (10, 358)])
def test_the_published_example(runs: int, items: int) -> None:
    assert items_needed(MILLER, 0.05, 0.05, 0.8, runs) == pytest.approx(items, rel=0.01)
    assert items_needed(MILLER, 0.10, 0.05, 0.8, runs) == pytest.approx(items / 4, rel=0.01)


def test_runs_do_not_replace_items_for_ever() -> None:
    runs = runs_needed(MILLER, 0.05, 0.05, 0.8, 550)
    assert runs == 3
    assert runs_needed(MILLER, 0.05, 0.05, 0.8, 270) is None, "the items alone vary by more"
    assert runs_needed(Noise(0.1, None, 1), 0.05, 0.05, 0.8, 1000) is None
    assert items_needed(MILLER, 0.0, 0.05, 0.8, 1) is None
    assert items_needed(MILLER, 1e-6, 0.05, 0.8, 1) is None


@pytest.mark.parametrize("item_cost", [1.0, 4.0, 20.0])
def test_the_best_number_of_runs_costs_least(item_cost: float) -> None:
    def cost(runs: int) -> float:
        return (item_cost + runs) * (MILLER.between + MILLER.within / runs)

    best = best_runs(MILLER, item_cost)
    assert best is not None
    assert cost(best) <= min(cost(runs) for runs in range(1, 50)) * 1.01
    assert best_runs(Noise(0.1, None, 1), item_cost) is None
    assert best_runs(Noise(0.1, 0.0, 3), item_cost) == 1


def test_the_noise_of_runs_is_told_from_that_of_items() -> None:
    """Coins of which each item has its own: the variance within is the mean of p (1 - p), of both arms."""
    found = judge(table(coins(4000, 4, 1)), GatePolicy("exact")).seen.primary.noise
    chance = np.random.default_rng(1).beta(1.2, 0.6, size=4000)
    assert found is not None
    assert found.within == pytest.approx(2 * float((chance * (1 - chance)).mean()), rel=0.05)
    assert found.between == pytest.approx(0, abs=0.01)
    assert found.runs == pytest.approx(4)


def test_as_many_items_as_it_asks_for_do_tell() -> None:
    """Where 150 items cannot tell a loss, the number that it names finds it about four times in five."""
    first = judge(table(coins(150, 1, 6, loss=0.08)), GatePolicy("exact"))
    assert first.verdict.outcome == "cannot tell"
    noise, runs = first.seen.primary.noise, 1
    wanted = items_needed(noise, 0.08 * 0.85, 0.05, 0.8, runs)  # clipped at zero, 0.08 becomes about so much
    told = [
        judge(table(coins(wanted, 1, seed, loss=0.08)), GatePolicy("exact")).verdict.outcome == "worse"
        for seed in range(40)
    ]
    assert 24 <= sum(told) <= 39, "32 are expected; 24 or fewer have a chance of 1 in 300"
