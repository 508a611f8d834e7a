"""What holds for a set of applied objects, whatever is in it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.deploy.judgement import RULEBOOK, Found, observed
from airflow_pipeops.deploy.readiness import judge
from airflow_pipeops.deploy.seen import Applied
from airflow_pipeops.deploy.targets import AppliedSet, Target
from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.verdict import decide
from tests.deploy.objects import Object, deployment, pod
from tests.deploy.test_readiness import TABLE

ITEMS = [item for item, _, _ in TABLE]
KEEN = Expectation(
    match="any", settle=10.0, comparison_grace=20.0, degraded_grace=30.0, on_unknown="fail", timeout=600.0
)


def found(item: Object, number: int = 0, **more: Any) -> Found:
    metadata = item["metadata"]
    bound = Applied(metadata["uid"], metadata["generation"])
    target = Target(item["apiVersion"], item["kind"], "things", f"{metadata['name']}-{number}", "shop", bound)
    return Found(target, item, **more)


def story(*looks: tuple[float, list[Found]], expected: Expectation = KEEN) -> list[Verdict]:
    """Judge one look after the other, at these moments."""
    memory, verdicts = Memory(), []
    for now, seen in looks:
        ref = AppliedSet("all", tuple(one.target for one in seen), "shop")
        verdict, memory = decide(observed(ref, seen), expected, memory, now, RULEBOOK)
        # What crosses a deferral is the same on the other side.
        assert Memory.from_json(memory.to_json()) == memory
        verdicts.append(verdict)
    return verdicts


@given(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=4), st.booleans())
def test_all_is_ready_only_where_each_is(items: list[Object], declares: bool) -> None:
    seen = [found(item, number, declares=declares) for number, item in enumerate(items)]
    # Who does not say of which generation it is ready is believed after a while; from then on, all must hold.
    verdicts = story((0.0, seen), (300.0, seen), (320.0, seen))
    each = [
        judge(item, one.target.applied, settled=True, declares=declares)
        for item, one in zip(items, seen, strict=True)
    ]
    assert verdicts[0].state != "done"  # it must hold for a while
    assert (verdicts[2].state == "done") == all(one.state == "ready" for one in each)
    assert verdicts[2].details["ready"] == sum(one.state == "ready" for one in each)


@given(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3), st.sampled_from(["hidden", "gone"]))
def test_one_that_is_not_seen_opens_no_gate(items: list[Object], how: str) -> None:
    seen = [found(item, number) for number, item in enumerate(items)]
    seen.append(replace(found(deployment(), 9), item=None, hidden="cannot get" if how == "hidden" else ""))
    assert all(verdict.state != "done" for verdict in story((0.0, seen), (300.0, seen)))


def test_ready_must_hold_and_begins_anew() -> None:
    good, bad = [found(deployment())], [found(deployment(availableReplicas=1))]
    rules = [
        one.rule
        for one in story((0.0, good), (9.0, good), (9.5, bad), (11.0, good), (20.0, good), (21.5, good))
    ]
    assert rules == ["settling", "settling", "not_ready", "settling", "settling", "ready"]


def test_a_crash_loop_may_pass_and_a_lost_object_may_not() -> None:
    crash = [found(pod("Running", waiting="CrashLoopBackOff"))]
    states = [(one.state, one.rule) for one in story((0.0, crash), (29.0, crash), (31.0, crash))]
    assert states == [("wait", "failing"), ("wait", "failing"), ("failed", "degraded")]
    other = copy.deepcopy(deployment())
    other["metadata"]["uid"] = "u2"
    recreated = replace(found(deployment()), item=other)
    assert [one.state for one in story((0.0, [recreated]))] == ["failed"]


def test_what_nobody_can_tell_follows_the_policy() -> None:
    empty = [found(deployment(replicas=0))]
    looks = ((0.0, empty), (300.0, empty))
    ends = {
        policy: story(*looks, expected=replace(KEEN, on_unknown=policy))[1]
        for policy in ("fail", "wait", "accept")
    }
    assert {policy: (one.state, one.rule) for policy, one in ends.items()} == {
        "fail": ("failed", "cannot_tell"),
        "wait": ("wait", "cannot_tell"),
        "accept": ("done", "accepted"),
    }
