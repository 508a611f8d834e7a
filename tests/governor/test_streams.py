"""The governor on real streams, small: it keeps still where nothing happens, and acts where a model decays.

``tests/benchmarks/governor.py`` replays all streams against other rules and the oracle.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from airflow_pipeops.governor import Observation, RetrainPolicy
from airflow_pipeops.governor.replay import Step, replay, simulate
from tests import realdata
from tests.benchmarks.retrain_streams import auc_error

START = datetime(2016, 1, 1, tzinfo=timezone.utc)
POLICY = RetrainPolicy(max_drop=0.0, cooldown_batches=0, retrain_cost=0.03)


def observation(number: int, target: np.ndarray, chance: np.ndarray, **more) -> Observation:
    auc = float(roc_auc_score(target, chance))
    at = (START + timedelta(days=30 * number)).isoformat()
    return Observation(
        f"b{number}", at, True, performance=auc, performance_error=auc_error(auc, target), **more
    )


@pytest.mark.parametrize("price", [0.003, 0.03])
def test_three_years_in_which_nothing_happens(price: float) -> None:
    """The scores that ship with the data: one model of 2015 over 2016 to 2018, quarter by quarter."""
    frame = realdata.employment().sample(frac=1, random_state=0)
    frame = frame.sort_values("year", kind="stable", ignore_index=True)
    quarter = (
        frame.groupby("year").cumcount() * 4 // frame.groupby("year")["id"].transform("size")
    ).to_numpy()
    block = (frame["year"].to_numpy() - 2016) * 4 + quarter
    reference = frame[block < 0]
    target = float(roc_auc_score(reference["employed"], reference["predicted_probability"]))
    history = []
    for number in range(12):
        rows = frame[block == number]
        history.append(
            observation(number, rows["employed"].to_numpy(), rows["predicted_probability"].to_numpy())
        )
    steps = replay(history, replace(POLICY, target=target, retrain_cost=price))
    assert {step.decision.action for step in steps} == {"hold"}
    naive = replay(history, RetrainPolicy(target=target, max_drop=0.0, k=1, n=1, min_batches=1))
    assert "retrain" in {step.decision.action for step in naive}, "noise alone fools a naive threshold"


@pytest.fixture(scope="module")
def elec2() -> tuple[list[Step], list[Step], dict]:
    """Months of elec2: the governor's run, the same once more, and the AUC of every model that was trained."""
    frame = realdata.elec2()
    data, target = frame.drop(columns="up").to_numpy(), frame["up"].to_numpy()
    rows = [np.arange(start, start + 1344) for start in range(0, len(frame) - 1343, 1344)]
    first, models, auc = 6, {}, {}

    def chance(trained: int, number: int) -> np.ndarray:
        if trained not in models:
            learned = np.concatenate(rows[first + trained - 5 : first + trained + 1])
            model = HistGradientBoostingClassifier(max_iter=40, early_stopping=False, random_state=0)
            models[trained] = model.fit(data[learned], target[learned])
        found = models[trained].predict_proba(data[rows[first + number]])[:, 1]
        auc[trained, number] = float(roc_auc_score(target[rows[first + number]], found))
        return found

    def observe(number: int, trained: int, before: int | None) -> Observation:
        old = None
        if before is not None:
            chance(before, number)
            old = auc[before, number]
        truth = target[rows[first + number]]
        return observation(number, truth, chance(trained, number), predecessor_performance=old)

    policy = replace(POLICY, target=0.87)  # what a month-old model reaches on the first months
    batches = len(rows) - first
    once = simulate(batches, observe, policy)
    for number in range(batches):
        chance(-1, number)
    return once, simulate(batches, observe, policy), auc


def test_a_model_that_decays_is_retrained_and_it_helps(elec2: tuple) -> None:
    steps, _, auc = elec2
    actions = [step.decision.action for step in steps]
    assert 1 <= actions.count("retrain") <= 8, actions
    served = np.mean([step.observation.performance for step in steps])
    never = np.mean([auc[-1, number] for number in range(len(steps))])
    assert served > never + 0.01  # AUC over 27 months: .814 against .799


def test_the_decisions_are_the_same_each_time(elec2: tuple) -> None:
    once, again, _ = elec2
    assert [step.to_json() for step in once] == [step.to_json() for step in again]
