"""What a promotion comes to, whichever half of it an attempt before has written."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from airflow_pipeops.deploy.acts import PROMOTED, Plan, promote, promote_fully
from tests.deploy.objects import Object, rollout

STEPS = {"strategy": {"canary": {"steps": [{"setWeight": 20}, {"setWeight": 40}, {"setWeight": 60}]}}}


def on_its_way(index: int = 1, **status: Any) -> Object:
    """Return a Rollout at one of its steps."""
    return rollout("Progressing", spec=copy.deepcopy(STEPS), stableRS="old", currentStepIndex=index, **status)


def after(item: Object, plan: Plan, *, status: bool) -> Object:
    """Return the Rollout once a plan was written: its first half, or both."""
    found = copy.deepcopy(item)
    assert plan.patch is not None
    found["metadata"]["annotations"] = dict(plan.patch["metadata"]["annotations"])
    if status:
        assert plan.status is not None
        found["status"].update(plan.status["status"])
    return found


@pytest.mark.parametrize("act", [promote, promote_fully])
@pytest.mark.parametrize("paused", [[], [{"reason": "CanaryPauseStep"}]])
def test_a_promotion_is_made_once(act: Any, paused: list[Object]) -> None:
    item = on_its_way(pauseConditions=paused)
    plan = act(item, "token", "now")
    assert plan.changes
    cut = act(after(item, plan, status=False), "token", "now")
    assert (cut.patch, cut.status, cut.attached) == (None, plan.status, True)
    whole = act(after(item, plan, status=True), "token", "now")
    assert (whole.changes, whole.attached) == (False, True)
    other = act(after(item, plan, status=True), "another", "now")
    assert other.attached is False


def test_a_step_that_has_passed_is_not_taken_again() -> None:
    item = on_its_way()
    plan = promote(item, "token", "now")
    assert plan.status == {"status": {"pauseConditions": None, "currentStepIndex": 2}}
    later = after(item, plan, status=True)
    for index in (2, 3):
        later["status"]["currentStepIndex"] = index
        assert promote(later, "token", "now").changes is False


def test_what_was_promoted_is_not_the_next_version() -> None:
    item = on_its_way()
    later = after(item, promote(item, "token", "now"), status=False)
    later["status"].update(currentPodHash="newer", currentStepIndex=0)
    assert promote(later, "token", "now") == Plan("it was promoted before", attached=True)


def test_a_mark_that_nobody_here_wrote_is_no_mark() -> None:
    item = on_its_way()
    item["metadata"]["annotations"] = {PROMOTED: "token"}
    assert promote(item, "token", "now").changes is False
    item["metadata"]["annotations"] = {PROMOTED: ["odd"]}
    assert promote(item, "token", "now").changes is True
