"""What is unusual, what is not, and what cannot be told."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.anomalies.judging import AnomalyJudge, replayed
from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy
from airflow_pipeops.operations.anomalies.series import Name, Point
from tests.operations.anomalies.worlds import DAY, HOUR, START, runs

DUE = 180


def after(values, since=DUE, judge=None):
    """Judge the values of one series from a run on, with nine others beside it that are as usual."""
    judge = judge or AnomalyJudge()
    beside = [(replace(name, subject=f"other {name.subject}"), point) for name, point in runs(99, series=4)]
    return [
        verdict
        for verdict in replayed([*beside, *values], judge, START + since * 4 * HOUR)
        if not verdict.subject.startswith("other")
    ]


def findings(verdicts):
    return [verdict.finding for verdict in verdicts if verdict.anomalous]


@pytest.mark.parametrize(
    ("kind", "factor", "finding"),
    [
        ("duration", 3.0, "too slow"),
        ("duration", 0.2, "too fast"),
        ("rows", 0.0, "too few rows"),
        ("rows", 20.0, "too many rows"),
        ("queue", 10.0, "waited too long"),
        ("lag", 10.0, "too far behind"),
        ("cost", 5.0, "too dear"),
        ("lead", 10.0, "too slow"),
        ("wait", 10.0, "waited too long"),
    ],
)
def test_one_value_far_off_is_found(kind: str, factor: float, finding: str) -> None:
    values = runs(1, kind=kind, fault=lambda number: factor if number == DUE else 1.0)
    others = list(runs(98, series=4, kind=kind))
    beside = [(replace(name, subject=f"other {name.subject}"), point) for name, point in others]
    (first, *rest) = after([*values, *beside])
    assert first.finding == finding
    assert first.run == f"run-{DUE}"
    assert first.seen == pytest.approx(first.expected * factor, rel=0.5, abs=1)
    assert findings(rest) == []


@pytest.mark.parametrize("kind", ["queue", "lag", "cost", "lead", "wait"])
def test_less_to_wait_or_to_pay_is_no_finding(kind: str) -> None:
    values = list(runs(1, kind=kind, fault=lambda number: 0.01 if number == DUE else 1.0))
    others = [
        (replace(name, subject=f"other {name.subject}"), point)
        for name, point in runs(98, series=4, kind=kind)
    ]
    assert after([*values, *others])[0].outcome == "ordinary"


def test_a_verdict_says_what_it_rests_on() -> None:
    verdict = after(runs(1, fault=lambda number: 3.0 if number == DUE else 1.0))[0]
    assert verdict.expected
    assert "is usual for this hour of the" in verdict.reason
    assert verdict.history >= 8
    assert verdict.phase in ("hour of the day", "hour of the week")
    assert verdict.chance <= verdict.alpha < 0.05
    assert 0 <= verdict.budget_left < 2


@pytest.mark.parametrize("factor", [1.5, 3.0])
def test_a_change_of_level_is_told_once_and_adopted(factor: float) -> None:
    verdicts = after(runs(3, count=230, fault=lambda number: factor if number >= DUE else 1.0))
    found = [verdict for verdict in verdicts if verdict.finding == "change of level"]
    assert len(found) == 1
    told = verdicts.index(found[0])
    assert told <= 6
    assert [verdict.outcome for verdict in verdicts[told + 1 : told + 9]] == ["set aside"] * 8
    assert findings(verdicts[told + 9 :]) == []
    assert verdicts[-1].expected == pytest.approx(600 * factor, rel=0.6)
    earliest, likely, latest = found[0].onset
    assert earliest <= likely <= latest
    onset = [verdict.at for verdict in verdicts].index(likely)
    assert onset <= 1


@pytest.mark.parametrize(("least", "told"), [(0.0, True), (0.2, False)])
def test_a_small_change_is_told_to_whom_it_matters(least: float, told: bool) -> None:
    values = list(runs(3, count=230, spread=0.05, fault=lambda number: 1.15 if number >= DUE else 1.0))
    verdicts = after(values, judge=AnomalyJudge(AnomalyPolicy(least_change=least)))
    assert ("change of level" in findings(verdicts)) is told


def test_one_value_is_no_change_of_level() -> None:
    for seed in range(3):
        verdicts = after(runs(seed, fault=lambda number: 50.0 if number == DUE else 1.0))
        assert findings(verdicts)[:1] == ["too slow"]
        place = next(place for place, verdict in enumerate(verdicts) if verdict.anomalous)
        slow = verdicts[place]
        assert slow.onset[:2] == (verdicts[place - 1].at, slow.at), "it began after the value before it"
        assert slow.onset[2] >= slow.at
        assert "change of level" not in findings(verdicts)


def test_too_few_values_cannot_be_told_and_it_is_said_how_many_are_missing() -> None:
    judge = AnomalyJudge()
    told = [judge.see(name, point) for name, point in runs(1, count=60)]
    lacking = [verdict.lacking for verdict in told]
    assert told[0].outcome == "cannot tell"
    assert "12 more values" in told[0].reason
    assert lacking[:12] == list(range(12, 0, -1))
    assert lacking[12:42] == list(range(30, 0, -1)), "and of all series together as many as have a tail"
    assert "cannot tell" not in {verdict.outcome for verdict in told[42:]}


def test_values_that_cannot_be_told_are_no_alarm_however_odd() -> None:
    judge = AnomalyJudge()
    told = [
        judge.see(name, replace(point, value=point.value * 10 ** (n % 5)))
        for n, (name, point) in enumerate(runs(1, count=12))
    ]
    assert {verdict.outcome for verdict in told} == {"cannot tell"}


def test_a_run_that_still_runs_is_told_before_it_ends() -> None:
    judge = AnomalyJudge()
    list(after(runs(1), judge=judge))
    name, at = Name("dag-0", "duration", owner="team"), START + 200 * 4 * HOUR
    usual = judge.still(name, Point(at, 300.0, at + 300))
    hangs = judge.still(name, Point(at, 3600.0, at + 3600))
    assert usual.outcome == "ordinary", "it may yet become as long as it should be"
    assert hangs.finding == "too slow"
    assert hangs.running
    assert "still runs after 3,600 s" in hangs.reason
    assert judge.see(name, Point(at, 3600.0, at + 3600)).finding == "too slow"


def test_looking_at_what_runs_changes_nothing() -> None:
    values = list(runs(1))
    looked, not_looked = AnomalyJudge(), AnomalyJudge()
    for name, point in values:
        for elapsed in (1.0, 1e5):
            looked.still(name, replace(point, value=elapsed))
        assert looked.see(name, point) == not_looked.see(name, point)


def test_a_run_that_did_not_come() -> None:
    judge = AnomalyJudge()
    beside = list(runs(7, series=9, kind="interval", base=DAY, season=0, spread=0.002))
    own = Name("nightly", "interval", owner="team")
    days = [
        (own, Point(START + day * DAY, DAY - 10 + day % 3 * 10, START + (day + 1) * DAY)) for day in range(33)
    ]
    list(replayed([*beside, *days], judge, math.inf))
    last = START + 33 * DAY
    assert judge.still(own, Point(last, 0.9 * DAY, last + 0.9 * DAY)).outcome == "ordinary"
    verdict = judge.still(own, Point(last, 2 * DAY, last + 2 * DAY))
    assert verdict.finding == "missing"
    assert verdict.reason.startswith("nightly: no run for 172,800 s")


def test_failing_more_often_than_it_did() -> None:
    judge = AnomalyJudge()
    name = Name("flaky", "failure", owner="team")
    told = []
    for number in range(140):
        failed = number % 10 == 0 if number < 100 else number % 2 == 0
        told.append(judge.see(name, Point(START + number * HOUR, float(failed), run=f"run-{number}")))
    assert told[0].outcome == "cannot tell"
    assert told[0].lacking == 8
    found = [number for number, verdict in enumerate(told) if verdict.anomalous]
    assert len(found) == 1
    assert 100 < found[0] <= 120
    verdict = told[found[0]]
    assert verdict.finding == "failing more often"
    assert verdict.onset[0] <= verdict.onset[1]
    assert 0.1 < verdict.expected < 0.2
    assert told[-1].expected > 0.4, "it is taken for how it is"


def test_runs_of_changed_code_are_learned_before_they_are_judged() -> None:
    values = [
        (name, replace(point, version="2" if number >= DUE else "1"))
        for number, (name, point) in enumerate(
            runs(1, count=230, fault=lambda number: 3.0 if number >= DUE else 1.0)
        )
    ]
    verdicts = after(values)
    assert [verdict.outcome for verdict in verdicts[:5]] == ["set aside"] * 5
    assert "its code has changed: it is learned from run 1 of 5" in verdicts[0].reason
    assert findings(verdicts) == []


def test_code_that_changes_at_each_run_says_nothing() -> None:
    values = [
        (name, replace(point, version=point.run))
        for name, point in runs(1, fault=lambda number: 5.0 if number == DUE else 1.0)
    ]
    assert findings(after(values)) == ["too slow"]


def test_what_hung_for_a_while_does_not_hide_the_next_one() -> None:
    """A rank among contaminated values never gets small; the tail beyond them does."""
    bad = {*range(60, 170, 10), DUE}
    values = runs(1, fault=lambda number: 6.0 if number in bad else 1.0)
    assert after(values)[0].finding == "too slow"


@given(st.permutations(range(60)))
@settings(max_examples=10, deadline=None)
def test_the_order_in_which_values_are_handed_over_means_nothing(order: list[int]) -> None:
    values = list(runs(5, count=60, fault=lambda number: 9.0 if number == 55 else 1.0))
    judged = list(replayed(values, AnomalyJudge(), 0))
    assert list(replayed([values[place] for place in order], AnomalyJudge(), 0)) == judged
    assert judged[55].finding == "too slow"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["duration", "rows", "failure", "interval", "lag"]),
            st.integers(0, 2),
            st.floats(0, 1e9) | st.just(0.0),
            st.sampled_from(["", "1", "2"]),
        ),
        max_size=120,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_there_is_a_verdict(values) -> None:
    judge = AnomalyJudge()
    for number, (kind, subject, value, version) in enumerate(values):
        value = float(value > 1) if kind == "failure" else value
        point = Point(START + number * HOUR, value, version=version)
        for verdict in (
            judge.still(Name(str(subject), kind), point),
            judge.see(Name(str(subject), kind), point),
        ):
            assert verdict.outcome != "anomalous" or (verdict.finding and verdict.expected is not None)
            assert (verdict.outcome == "cannot tell") == (verdict.lacking > 0)
            assert verdict.chance is None or 0 < verdict.chance <= 1
            assert type(verdict).from_json(verdict.to_json()) == verdict


@pytest.mark.parametrize("budget", [1.0, 4.0])
def test_the_budget_of_false_alarms_holds(budget: float) -> None:
    """Heavy-tailed runs in which nothing happens, of series that are not alike."""
    alarms = weeks = 0.0
    for seed in range(2):
        values = [
            (replace(name, subject=f"{name.subject} {group}"), point)
            for group, (spread, freedom, season) in enumerate([(0.05, 3, 0.0), (0.15, 5, 0.5), (0.3, 3, 0.2)])
            for name, point in runs(
                10 * seed + group, series=7, count=300, spread=spread, freedom=freedom, season=season
            )
        ]
        judge = AnomalyJudge(AnomalyPolicy(budget=budget))
        alarms += sum(verdict.anomalous for verdict in replayed(values, judge, START + 14 * DAY))
        weeks += 300 / 6 / 7 - 2
    expected = budget * weeks
    # The upper end is that of 99 % of a Poisson distribution: it holds. The lower one: it is a budget, and no silence.
    assert expected * 0.1 <= alarms <= expected + 2.6 * math.sqrt(expected)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"budget": 0}, "budget"),
        ({"budget": math.nan}, "budget"),
        ({"budget": -1}, "budget"),
        ({"least": 3}, "least"),
        ({"least_change": -0.1}, "least_change"),
        ({"adopt_after": 1}, "adopt_after"),
        ({"after_change": 0}, "after_change"),
    ],
)
def test_numbers_that_cannot_be_meant(given, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        AnomalyPolicy(**given)
    assert caught.value.field == field
    assert caught.value.remedy


def test_judges_that_judge_apart_share_one_budget() -> None:
    dags, weeks, budget = 10, 10, 0.5
    values = [
        list(runs(each, count=weeks * 84, every=2 * HOUR, season=0.0)) for each in range(dags)
    ]  # 84 runs of each DAG a week

    def alarms(policy: AnomalyPolicy) -> float:
        """For a week, after four in which each has learned."""
        found = (replayed(of_one, AnomalyJudge(policy), START + 28 * DAY) for of_one in values)
        return sum(verdict.anomalous for one in found for verdict in one) / (weeks - 4)

    policy = AnomalyPolicy(budget=budget)
    assert alarms(policy) > 3 * budget, "each would spend the whole budget"
    assert alarms(policy.shared(dags)) <= budget
