"""A search draws its trials by a seed, keeps its budget, and says how many there were."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.operators import ChooseTrialOperator, PlanTrialsOperator, TrainModelOperator
from airflow_pipeops.models.search import drawn

SPACE = {
    "C": {"low": 1e-3, "high": 1e3, "log": True},
    "depth": [3, 5],
    "leaves": {"low": 2, "high": 9, "whole": True},
}


def test_the_same_seed_gives_the_same_trials_within_the_space() -> None:
    found = drawn(SPACE, 200, 1)
    assert found == drawn(SPACE, 200, 1) != drawn(SPACE, 200, 2)
    assert len(found) == 200
    assert all(1e-3 <= one["C"] <= 1e3 for one in found)
    assert 60 < sum(one["C"] < 1 for one in found) < 140, "by order of magnitude"
    assert {one["depth"] for one in found} == {3, 5}
    assert {one["leaves"] for one in found} == set(range(2, 10))


def test_all_combinations_where_there_are_no_more_than_wanted_and_none_twice() -> None:
    lists = {"a": [1, 2, 3], "b": ["x", None]}
    assert drawn(lists, 6, 0) == [{"a": a, "b": b} for a in (1, 2, 3) for b in ("x", None)]
    assert drawn({"a": [1, 2, 1]}, 6, 0) == [{"a": 1}, {"a": 2}]
    few = drawn(lists, 5, 0)
    assert len(few) == 5
    assert all(few.count(one) == 1 for one in few)
    assert len(drawn({"a": {"low": 0, "high": 3, "whole": True}}, 50, 0)) == 4


@pytest.mark.parametrize(
    ("space", "count", "said"),
    [
        ({}, 5, "no parameter"),
        ({"C": []}, 5, "'C' has no values"),
        ({"C": "abc"}, 5, "'C' has no values"),
        ({"C": {"low": 1}}, 5, "no range of numbers"),
        ({"C": {"low": 1, "high": 2, "step": 1}}, 5, "no range of numbers"),
        ({"C": {"low": 2, "high": 1}}, 5, "begins at 2 and ends at 1"),
        ({"C": {"low": 0, "high": 1, "log": True}}, 5, "zero or below"),
        ({"C": {"low": 0.5, "high": 3, "whole": True}}, 5, "whole numbers, and begins at 0.5"),
        ({"C": {"low": 1, "high": 3.2, "whole": True, "log": True}}, 5, "ends at 3.2"),
        ({"C": [1]}, 0, "0 trials are none"),
        ({"C": [1]}, 5000, "more than 1,000"),
    ],
)
def test_a_space_that_says_nothing_is_refused(space: Any, count: int, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        drawn(space, count, 0)


def test_a_plan_says_until_when(context: Any) -> None:
    before = datetime.now(timezone.utc)
    found = PlanTrialsOperator(task_id="plan", space=SPACE, trials=3, budget=timedelta(hours=1)).execute(
        context
    )
    assert [one["parameters"] for one in found] == drawn(SPACE, 3, 0)
    (until,) = {datetime.fromisoformat(one["until"]) for one in found}
    assert timedelta(minutes=59) < until - before < timedelta(minutes=61)


def train(**more: Any) -> TrainModelOperator:
    given = {"task_id": "train", "trainer": "nowhere:train", "data": "nothing.parquet", "name": "m", **more}
    return TrainModelOperator(**given)


def test_a_trial_does_not_begin_after_the_budget(connections: Any, context: Any) -> None:
    with pytest.raises(AirflowSkipException, match="over at 2020-01-01"):
        train(until="2020-01-01T00:00:00+00:00").execute(context)
    soon = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    with pytest.raises(AirflowFailException, match="nowhere"):
        train(until=soon).execute(context)


def trial(value: float, number: int, **more: Any) -> dict[str, Any]:
    body = {"name": "m", "sha256": str(number) * 64, "metrics": {"auc": value}, "parameters": {"C": number}}
    return {**body, "record_id": f"{number:064x}", **more}


def test_the_best_is_chosen_and_the_number_of_trials_goes_with_it(context: Any) -> None:
    trials = [trial(0.6, 1), None, trial(0.8, 2), trial(0.8, 3)]
    found = ChooseTrialOperator(
        task_id="choose", trials=trials, deliverable=Deliverable("flight-delay")
    ).execute(context)
    assert (found["sha256"], found["trials"], found["parameters"]) == ("2" * 64, 3, {"C": 2})
    (extra,) = (event.extra for event in context["outlet_events"].values() if event.extra)
    assert (extra["kind"], extra["id"], extra["body"]["trials"]) == ("training", found["record_id"], 3)
    assert extra["parents"] == [f"{n:064x}" for n in (1, 2, 3)]
    loss = ChooseTrialOperator(task_id="choose", trials=trials, higher_is_better=False).execute(context)
    assert loss["sha256"] == "1" * 64


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([], "no trial has ended"),
        ([None], "no trial has ended"),
        ([trial(1, 1)], "'f1'"),
        ([{"until": "2030"}], "'f1'"),
    ],
)
def test_nothing_to_choose_from_is_said(context: Any, trials: Any, said: str) -> None:
    with pytest.raises(AirflowFailException, match=said):
        ChooseTrialOperator(task_id="choose", trials=trials, metric="f1").execute(context)


def test_a_training_is_mapped_over_the_plan() -> None:
    with DAG("search") as dag:
        plan = PlanTrialsOperator(task_id="plan", space=SPACE)
        trials = TrainModelOperator.partial(
            task_id="train", trainer="m:train", data="d.parquet", name="m"
        ).expand_kwargs(plan.output)
        ChooseTrialOperator(task_id="choose", trials=trials.output)
    assert dag.get_task("train").is_mapped
    assert dag.get_task("train").upstream_task_ids == {"plan"}
    assert dag.get_task("choose").upstream_task_ids == {"train"}
