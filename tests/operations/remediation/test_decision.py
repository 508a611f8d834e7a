# ruff: noqa: E501  # a table reads best with one case a line
"""Each reason not to act, in its order; what is left is done."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest

from airflow_pipeops.exceptions import InvalidInput, SystemFailure, Unreachable
from airflow_pipeops.operations.remediation.decision import Surroundings, decide, tripped
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.history import History, Operation
from airflow_pipeops.operations.remediation.policy import RemediationPolicy
from airflow_pipeops.operations.remediation.verification import Seen, prove
from tests.operations.remediation.world import POLICY, START, TARGET, World


def world(**policy: Any) -> World:
    return World(random.Random(0), RemediationPolicy.of({**POLICY, **policy}))


def rule(number: int, **more: Any) -> list[dict[str, Any]]:
    """The rules, with one of them changed."""
    rules = [dict(one) for one in POLICY["rules"]]  # type: ignore[attr-defined]
    rules[number].update(more)
    return rules


def helped(there: World, kind: str = "failed_run", **more: Any) -> str:
    """An act that helped, and took half an hour."""
    answer = there.answer(there.finding(kind, **more))
    assert answer.operation is not None, answer.order
    there.look(answer.operation.id, "clear")
    there.later(minutes=31)
    assert there.look(answer.operation.id, "clear").operation.state == "helped"  # type: ignore[union-attr]
    return answer.operation.id


def open_one(there: World) -> None:
    there.answer(there.finding("anomaly"), "another")


def alone_for_long(there: World) -> None:
    open_one(there)
    there.later(hours=7)


def with_a_person(there: World) -> None:
    there.answer(there.finding("late_labels"))


def thrice(there: World) -> None:
    for _ in range(3):
        helped(there)
        there.later(hours=2)


def out_of_budget(there: World) -> None:
    for _ in range(4):
        helped(there, "failed_gate")
        there.later(days=2)


def both_ways(there: World) -> None:
    helped(there, "drift")
    there.later(hours=3)


def two_failures(there: World) -> None:
    for name in "bc":
        answer = there.answer(there.finding("failed_run", name))
        assert answer.operation is not None
        there.look(answer.operation.id, "worse")
        there.later(hours=3)


def elsewhere(there: World) -> None:
    there.policy = RemediationPolicy.of({**POLICY, "limits": {"environments": 1}})
    helped(there, environment="staging")


def two_neighbours(there: World) -> None:
    helped(there, deliverable="b")
    there.later(minutes=1)
    there.population = 3


def three_here(there: World) -> None:
    there.population = 40
    for name in "bcd":
        there.answer(there.finding("failed_run", name))


Prepare = Callable[[World], object]
CASES: list[tuple[str, dict[str, Any], Prepare, dict[str, Any], dict[str, Any], str, str, str]] = [
    # what, policy, what was before, the finding, around it -> outcome, stage, words of the reason
    ("nothing is against it", {}, lambda _: 0, {}, {}, "act", "mode", "retry_task"),
    ("the kill switch", {}, open_one, {}, {"killed": "it"}, "refuse", "kill_switch", "Nothing is done while it is on"),
    ("no rule", {}, lambda _: 0, {"kind": "degraded_release"}, {}, "refuse", "allow_list", "No rule answers"),
    ("not allowed", {"rules": rule(0, deliverables=["z"])}, open_one, {}, {}, "refuse", "allow_list", "of this deliverable"),
    ("off", {"rules": rule(0, modes={"production": "off"})}, open_one, {}, {}, "refuse", "mode", "again is off in production"),
    ("observed", {"rules": rule(0, modes={"production": "observe"})}, lambda _: 0, {}, {"approved_by": "ada"}, "observe", "mode", "would be done"),
    ("proposed", {"rules": rule(0, modes={"production": "propose"})}, lambda _: 0, {}, {}, "propose", "mode", "must agree"),
    ("agreed", {"rules": rule(0, modes={"production": "propose"})}, lambda _: 0, {}, {"approved_by": "ada"}, "act", "mode", ""),
    ("approval", {"rules": rule(0, approval=["production"])}, lambda _: 0, {}, {}, "propose", "approval", "a person's yes"),
    ("approved", {"rules": rule(0, approval=["production"])}, lambda _: 0, {}, {"approved_by": "ada"}, "act", "mode", ""),
    (
        "frozen", {"freezes": [{"start": "2025-12-31T00:00:00Z", "end": "2026-02-01T00:00:00Z", "reason": "holidays"}]},
        open_one, {}, {"approved_by": "ada"}, "refuse", "freeze", "holidays",
    ),
    ("another is at it", {}, open_one, {}, {"approved_by": "ada"}, "refuse", "lock", "scale_up of another is at it"),
    ("nobody ended it", {}, alone_for_long, {}, {}, "hand over", "lock", "nobody has ended it"),
    ("somebody releases", {}, lambda _: 0, {}, {"releasing": "change 12 of ada"}, "refuse", "lock", "change 12 of ada"),
    ("a person has it", {}, with_a_person, {}, {"approved_by": "ada"}, "refuse", "lock", "until it is reset"),
    ("stale", {}, lambda _: 0, {"at": START - timedelta(minutes=61)}, {}, "refuse", "stale", "1:01:00 old"),
    ("from the future", {}, lambda _: 0, {"at": START + timedelta(minutes=6)}, {}, "refuse", "stale", "0:06:00 ahead"),
    ("its own doing", {}, lambda _: 0, {"changed_by": "x"}, {}, "hand over", "itself", "has changed"),
    ("no target", {}, lambda _: 0, {"target": {"dag": "d"}}, {}, "refuse", "precondition", "needs run, task"),
    ("too many", {}, lambda _: 0, {"affected": ("b",)}, {}, "hand over", "blast_radius", "touch 2 deliverables, and 1"),
    ("another environment", {}, elsewhere, {}, {}, "refuse", "blast_radius", "number 2 within an hour: production, staging"),
    ("too large a share", {}, two_neighbours, {}, {}, "refuse", "blast_radius", "2 deliverables of production (3 deliv"),
    ("nobody knows how many", {}, two_neighbours, {}, {"population": None}, "refuse", "blast_radius", "nobody knows how many"),
    ("thrice a day", {}, thrice, {}, {"approved_by": "ada"}, "refuse", "rate", "3 of 3 acts of this rule on this deliverable in a day"),
    ("three in production", {}, three_here, {}, {"population": 40}, "refuse", "rate", "3 of 3 acts of all rules in production"),
    ("out of budget", {}, out_of_budget, {"kind": "failed_gate"}, {}, "hand over", "budget", "acted 4 times in 30 days"),
    (
        "again so soon", {"rules": rule(0, dwell=10_000)}, lambda there: (helped(there), there.later(hours=2)),
        {}, {}, "hand over", "flapping", "2:46:40 is the dwell time",
    ),
    ("to and fro", {}, both_ways, {"kind": "anomaly"}, {}, "hand over", "flapping", "scale_down was done before, and no person"),
    ("it does not help", {}, two_failures, {}, {}, "propose", "failures", "The last 2 acts of again did not help"),
    ("yet a person agrees", {}, two_failures, {}, {"approved_by": "ada"}, "act", "mode", ""),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_first_reason_wins(case: Any) -> None:
    _, policy, before, finding, around, outcome, stage, words = case
    there = world(**policy)
    before(there)
    at = finding.get("at", there.now).isoformat()
    given = {"kind": "failed_run", "target": TARGET, **finding, "at": at}

    known = Surroundings(**{"population": there.population, **around})
    order = decide(
        Finding(deliverable="a", environment="production", **given),
        there.policy,
        there.history,
        there.now,
        known,
    )
    assert (order.outcome, order.stage) == (outcome, stage), order.reason
    assert words in order.reason


def test_a_clock_without_a_zone_is_refused() -> None:
    there = world()
    with pytest.raises(InvalidInput, match="time zone"):
        decide(there.finding("drift"), there.policy, there.history, START.replace(tzinfo=None))


def test_its_own_commit_is_not_answered() -> None:
    there = world()
    done = Operation("x", "r", "revert_commit", "b", "production", "", "helped", "", result={"commit": "c"})
    order = decide(there.finding("failed_run"), there.policy, History((done,)), there.now)
    assert (order.outcome, order.stage) == ("hand over", "itself")


def test_a_rule_that_only_observes_hands_nothing_over() -> None:
    there = world(mode="observe")
    order = there.answer(there.finding("failed_run", affected=("b",))).order
    assert order.outcome == "observe"
    assert "else: hand over" in order.reason
    assert not there.told


def test_a_rule_trips_until_a_person_resets_it() -> None:
    there = world()
    two_failures(there)
    assert there.answer(there.finding("failed_run")).order.stage == "failures"
    there.journal.reset("rule:again", "ada")
    assert there.answer(there.finding("failed_run")).order.outcome == "act"


@pytest.mark.parametrize(("good", "trips"), [(14, True), (15, False)])
def test_a_rule_that_helps_hardly_more_often_than_not_trips(good: int, trips: bool) -> None:
    there = world()
    pattern = [True] * good + [False] * (20 - good)
    random.Random(4).shuffle(pattern)
    pattern[-1] = True
    pattern = sorted(pattern[:-1], key=lambda one: not one)[: good - 1] + [False] * (20 - good) + [True]
    done = tuple(
        Operation(
            str(n), "again", "retry_task", f"d{n}", "production", "", "helped", START.isoformat(), helped=one
        )
        for n, one in enumerate(pattern)
    )
    assert bool(tripped(there.policy.rules[0], there.policy, History(done))) is trips


def test_a_storm_is_one_call_and_then_another_one() -> None:
    there = world()
    for number in range(200):
        there.later(seconds=10)
        there.answer(there.finding("late_labels", f"d{number}"))
    assert [len(places) for _, places in there.told] == [1]
    there.later(hours=1)
    there.remediator("task").call()
    assert [len(places) for _, places in there.told] == [1, 199]
    there.later(hours=2)
    there.remediator("task").call()
    assert len(there.told) == 2


def test_an_act_that_does_not_help_is_taken_back_once_and_handed_over() -> None:
    there = world()
    answer = there.answer(there.finding("anomaly"))
    assert answer.operation is not None
    for _ in range(5):
        there.later(minutes=20)
        there.look(answer.operation.id, "still")
    assert [action for _, action, _ in there.acts] == ["scale_up", "scale_down"]
    ended = there.history.get(answer.operation.id)
    assert ended is not None
    assert (ended.state, ended.helped) == ("handed_over", False)
    assert there.told == [(1, ("a@production",))]


def test_the_switch_stops_what_was_said_and_not_done() -> None:
    there = world()
    read = iter([False, True])
    remediator = there.remediator("task")
    remediator.killed = lambda: "it" if next(read) else ""

    answer = remediator.answer(there.finding("anomaly"), Surroundings())
    assert answer.operation is not None
    assert answer.operation.state == "stopped"
    assert not there.acts


@pytest.mark.parametrize("error", [SystemFailure("no"), Unreachable("not now")])
def test_an_act_that_fails_is_handed_over_or_tried_again(error: Exception) -> None:
    there = world()
    remediator = there.remediator("task")

    class Hands:
        def plan(self, operation: Operation) -> dict[str, Any]:
            return {}

        def do(self, action: str, operation: Operation) -> dict[str, Any]:
            raise error

    remediator.hands = Hands()

    finding = there.finding("failed_run")
    if isinstance(error, Unreachable):
        with pytest.raises(Unreachable):
            remediator.answer(finding, Surroundings())
        assert there.answer(finding).operation.state == "acted"  # type: ignore[union-attr]
        assert len(there.acts) == 1
    else:
        assert remediator.answer(finding, Surroundings()).operation.state == "handed_over"  # type: ignore[union-attr]
        assert len(there.told) == 1


DONE = Operation(
    "x", "r", "a", "d", "e", "", "acted", "", acted=START.isoformat(), patience=1800.0, window=900.0
)


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ([(0, "clear"), (14, "clear")], "wait"),
        ([(0, "clear"), (15, "clear")], "helped"),
        ([(0, "clear"), (10, "still"), (20, "clear"), (30, "clear")], "wait"),
        ([(0, "clear"), (10, "cannot tell"), (20, "clear"), (35, "clear")], "helped"),
        ([(44, "still")], "wait"),
        ([(45, "still")], "did not help"),
        ([(45, "cannot tell")], "cannot tell"),
        ([(40, "clear"), (46, "clear")], "wait"),
        ([(40, "clear"), (46, "clear"), (50, "still")], "did not help"),
        ([(40, "clear"), (56, "clear")], "helped"),
        ([(1, "worse")], "did not help"),
    ],
)
def test_it_helped_if_the_fault_stays_away(looks: list[tuple[int, str]], verdict: str) -> None:
    operation = DONE
    for minute, sight in looks:
        proof = prove(
            operation, Seen.of(sight), START.replace(tzinfo=timezone.utc) + timedelta(minutes=minute)
        )
        operation = replace(operation, clear_since=proof.clear_since)
    assert proof.verdict == verdict
