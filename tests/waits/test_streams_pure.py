"""The pure parts of the shared stream: what is kept of an application, and when what is due."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.situation import NEXT_SECOND
from airflow_pipeops.waits.status import Observed, Operation, Resource, Source
from airflow_pipeops.waits.steadiness import SteadyMemory, Watch, judge
from airflow_pipeops.waits.streams.pacing import (
    LONGEST_PAUSE,
    OWN_COMPARISON,
    Backoff,
    Budget,
    RefreshGate,
    judge_again_in,
    refresh_in,
)
from airflow_pipeops.waits.streams.snapshot import Reading, Snapshot, slim
from tests.waits.judging import decide

SHA = "a" * 40
_names = st.sampled_from(["api", "db", "job"])
resources = st.builds(
    Resource,
    kind=st.just("Deployment"),
    name=_names,
    sync=st.sampled_from(["", "Synced", "OutOfSync", "SyncFailed", "Pruned"]),
    health=st.sampled_from(["", "Healthy", "Progressing", "Degraded", "Missing", "Suspended"]),
    hook=st.sampled_from(["", "PreSync"]),
    phase=st.sampled_from(["", "Running", "Succeeded", "Failed", "Error"]),
    message=st.sampled_from(["", "said"]),
    prune=st.booleans(),
)
operations = st.builds(
    Operation,
    phase=st.sampled_from(["Running", "Succeeded", "Failed", "Error", "Terminating"]),
    queued=st.booleans(),
    revisions=st.just((SHA,)),
    asked=st.just((SHA,)),
    has_result=st.booleans(),
    started_at=st.just(10.0),
    finished_at=st.sampled_from([None, 20.0, 30.0]),
    partial=st.booleans(),
    resources=st.lists(resources, max_size=6).map(tuple),
)
observations = st.builds(
    Observed,
    name=st.just("api"),
    uid=st.just("u"),
    sources=st.just((Source("https://git/x", "main"),)),
    desired=st.sampled_from([(SHA,), ("b" * 40,)]),
    sync=st.sampled_from(["Synced", "OutOfSync", "Unknown"]),
    health=st.sampled_from(["Healthy", "Progressing", "Degraded", "Missing", "Suspended"]),
    compared_at=st.sampled_from([None, 25.0, 40.0]),
    operation=st.one_of(st.none(), operations),
    resources=st.lists(resources, max_size=8).map(tuple),
    automatic=st.booleans(),
    prunes=st.booleans(),
)
expectations = st.builds(
    Expectation,
    revisions=st.just({"*": SHA}),
    on_out_of_sync=st.sampled_from(["wait", "accept", "fail"]),
    on_manual=st.sampled_from(["wait", "fail"]),
    require_refresh=st.booleans(),
    settle=st.just(0.0),
)


@given(observations, expectations)
def test_no_judgement_changes_by_what_is_left_out(observed: Observed, expectation: Expectation) -> None:
    seen, kept = replace(observed, refreshed=True), replace(slim(observed), refreshed=True)
    assert decide(seen, expectation, Memory(), 1.0) == decide(kept, expectation, Memory(), 1.0)
    watch = Watch(duration=10.0, grace=0.0)
    assert judge(observed, watch, SteadyMemory(), 1.0) == judge(slim(observed), watch, SteadyMemory(), 1.0)


def test_resources_that_are_in_order_are_not_kept() -> None:
    good = tuple(Resource("Pod", f"p{i}", sync="Synced", health="Healthy") for i in range(100))
    bad = Resource("Pod", "bad", sync="Synced", health="Degraded")
    assert slim(Observed("api", resources=(*good, bad))).resources == (bad,)


def reading(version: int | None, health: str, uid: str = "u") -> Reading:
    return Reading("argocd", "api", version, Observed("api", health=health, uid=uid))


def test_what_is_news_and_what_is_not() -> None:
    snapshot, key = Snapshot(), ("argocd", "api")
    assert snapshot.told(reading(5, "Progressing"), 1.0)
    assert not snapshot.told(reading(5, "Progressing"), 2.0)
    assert not snapshot.told(reading(6, "Progressing"), 3.0)
    assert not snapshot.told(reading(4, "Healthy"), 4.0)
    entry = snapshot.get(key)
    assert entry is not None
    assert (entry.observed.health, entry.heard_at, entry.asked_at) == ("Progressing", 4.0, None)
    assert snapshot.told(reading(7, "Healthy"), 5.0)
    first = entry.number
    # An answer is news also where nothing has changed; what the stream told before does not undo what it says.
    assert snapshot.answered(reading(7, "Healthy"), 7.0, asked_at=6.0) is entry
    assert entry.number > first
    assert entry.asked_at == 6.0
    assert not snapshot.told(reading(7, "Healthy"), 8.0)
    assert entry.asked_at == 6.0
    assert snapshot.told(Reading("argocd", "api", 9, None), 9.0)
    assert snapshot.get(key) is None
    assert not snapshot.told(Reading("argocd", "api", 9, None), 9.0)


def test_without_versions_everything_different_is_news() -> None:
    snapshot = Snapshot()
    assert snapshot.told(reading(None, "Progressing"), 1.0)
    assert snapshot.told(reading(None, "Healthy"), 1.0)
    snapshot.drop()
    assert len(snapshot) == 0


def test_backoff_grows_and_is_bounded() -> None:
    backoff = Backoff(1.0, 8.0)
    pauses = [backoff.next() for _ in range(50)]
    assert all(0.5 <= pause <= 8.0 for pause in pauses)
    assert all(pause >= 4.0 for pause in pauses[4:])
    backoff.reset()
    assert backoff.next() <= 1.0


def test_budget() -> None:
    budget = Budget(2.0)
    assert [budget.take(100.0) for _ in range(4)] == [True, True, False, False]
    assert [budget.take(100.5) for _ in range(2)] == [True, False]
    assert sum(budget.take(100.5 + tick / 100) for tick in range(1000)) in range(18, 23)


def test_the_gate_opens_after_doubling_pauses_and_after_each_operation() -> None:
    gate = RefreshGate(60.0, 200.0)
    assert gate.opens("api", None) == 0.0
    gate.ask("api", None, 1000.0)
    assert gate.opens("api", None) == 1060.0
    gate.ask("api", None, 1060.0)
    assert gate.opens("api", None) == 1180.0
    gate.ask("api", None, 1180.0)
    assert gate.opens("api", None) == 1380.0
    assert gate.opens("api", 5.0) == 0.0
    gate.ask("api", 5.0, 1200.0)
    assert gate.opens("api", 5.0) == 1202.0
    gate.ask("api", 5.0, 1206.0)
    assert gate.opens("api", 5.0) == 1266.0
    gate.ask("api", 5.0, 1266.0)
    assert gate.opens("api", 5.0) == 1386.0
    gate.forget("api")
    assert gate.opens("api", 5.0) == 0.0


@pytest.mark.parametrize(
    ("since", "timeout", "expected"),
    [
        ({}, None, LONGEST_PAUSE),
        ({"health:x": 97.0}, None, 2.0),  # the settle window ends
        ({"health:x": 45.0}, None, 5.0),  # the grace for Degraded ends
        ({"health:x": 1.0, "absent:y": -15.0}, 300.0, 5.0),
        ({}, 104.0, 4.0),
    ],
)
def test_when_to_judge_again(since: dict[str, float], timeout: float | None, expected: float) -> None:
    memory = Memory(now=100.0, started_at=0.0, since=since)
    assert judge_again_in(Expectation(timeout=timeout), memory, 100.0) == expected


@pytest.mark.parametrize(
    ("compared", "settle", "acknowledged", "after", "refresh"),
    [
        (20.0, 5.0, 1, 0.0, False),
        (20.0, 5.0, 1, 4.9, False),
        (20.0, 5.0, 1, 5.0, True),  # once, at the end of the settle window
        (19.0, 5.0, 1, 5.0, True),
        (20.0, 0.0, 1, 1.0, False),  # in the same second, perhaps
        (20.0, 0.0, 1, NEXT_SECOND + 0.01, True),
        (20.0, 5.0, 0, 0.0, True),  # nobody has had it compared in this wait: the operation may be an old one
    ],
)
def test_when_a_refresh_says_enough(
    compared: float, settle: float, acknowledged: int, after: float, refresh: bool
) -> None:
    operation = Operation("Succeeded", revisions=(SHA,), has_result=True, finished_at=20.0)
    observed = Observed(
        "api",
        sources=(Source("https://git/x", "main"),),
        desired=(SHA,),
        sync="Synced",
        health="Healthy",
        compared_at=compared,
        operation=operation,
    )
    expectation = Expectation(revisions={"*": SHA}, settle=settle)
    memory = Memory(now=100.0, started_at=0.0, looked=True, acknowledged=acknowledged, finished_at=20.0)
    _, memory = decide(observed, expectation, memory, 100.0)
    verdict, _ = decide(observed, expectation, replace(memory, asked_at=None), 100.0 + after)
    assert (verdict.rule, verdict.refresh) == ("stale", refresh)


def test_a_controller_that_compares_by_itself_is_left_alone_after_the_first_refresh() -> None:
    verdict = Verdict("wait", "not_compared", "", refresh=True)
    assert refresh_in(verdict, Memory()) == 0.0
    assert refresh_in(verdict, Memory(acknowledged=1)) == OWN_COMPARISON
    # Whether it was replaced for good is asked for as soon as that may be: it ends the wait.
    lost = Memory(acknowledged=1, met=True, lost_after=1)
    assert refresh_in(verdict, lost) == 0.0
