"""What holds for the wait whatever a controller says."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.waits.status import Condition, Observed, Operation, Resource, Source, Trouble
from airflow_pipeops.waits.verdict import Expectation, Memory, Verdict
from tests.waits.judging import decide, questions

SHAS = ["a" * 40, "b" * 40, "c" * 40]
revisions = st.lists(st.sampled_from([*SHAS, "", "main"]), max_size=2).map(tuple)
times = st.none() | st.integers(0, 400).map(float)
phases = st.sampled_from(["", "Running", "Terminating", "Succeeded", "Failed", "Error", "odd"])
healths = st.sampled_from(["Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown", "odd"])
resources = st.lists(
    st.builds(
        Resource,
        st.just("Deployment"),
        st.just("api"),
        sync=st.sampled_from(["", "OutOfSync", "SyncFailed"]),
        health=healths,
    ),
    max_size=2,
).map(tuple)
operations = st.none() | st.builds(
    Operation,
    phase=phases,
    message=st.sampled_from(["", "blocked by sync window"]),
    queued=st.booleans(),
    revisions=revisions,
    asked=revisions,
    has_result=st.booleans(),
    started_at=times,
    finished_at=times,
    dry_run=st.booleans(),
    ids=st.sampled_from([{}, {"id": "me"}]),
    resources=resources,
)
looks = st.builds(
    Observed,
    name=st.just("api"),
    uid=st.sampled_from(["u1", "u1", "u1", ""]),
    sources=st.lists(
        st.builds(Source, st.sampled_from(["r", "s"]), st.sampled_from(["main", SHAS[0]])), max_size=2
    ).map(tuple),
    desired=revisions,
    sync=st.sampled_from(["Synced", "OutOfSync", "Unknown"]),
    health=healths,
    health_since=times,
    compared_at=times,
    operation=operations,
    conditions=st.lists(
        st.builds(
            Condition, st.sampled_from(["SyncError", "ComparisonError", "InvalidSpecError"]), st.just(SHAS[0])
        ),
        max_size=1,
    ).map(tuple),
    resources=resources,
    deleting=st.sampled_from([False, False, False, True]),
    automatic=st.booleans(),
    refreshed=st.booleans(),
)
troubles = st.builds(
    Trouble, st.sampled_from(["denied", "missing", "unreachable", "nonsense", "odd"]), st.text(max_size=5)
)
expectations = st.builds(
    Expectation,
    revisions=st.sampled_from(
        [{"*": SHAS[0]}, {"*": SHAS[0]}, {"0": SHAS[0], "1": SHAS[1]}, {}, {"*": "main"}, {"9" * 99: "x"}]
    ),
    match=st.sampled_from(["exact", "contains", "any"]),
    basis=st.sampled_from(["desired", "desired", "applied", "idle"]),
    oracle=st.booleans(),
    contained=st.sampled_from([{}, {f"{SHAS[0]}..{SHAS[1]}": True}]),
    operation_id=st.sampled_from(["", "me"]),
    on_suspended=st.sampled_from(["wait", "fail"]),
    settle=st.sampled_from([0.0, 5.0]),
    timeout=st.sampled_from([None, 50.0]),
)
steps = st.lists(
    st.tuples(st.floats(-5, 40) | st.just(float("nan")), looks | troubles), min_size=1, max_size=8
)


def acceptable(expectation: Expectation, revision: str) -> bool:
    wanted = expectation.revisions["*"]
    known = expectation.match == "contains" and expectation.oracle
    return revision == wanted or (known and bool(expectation.contained.get(f"{wanted}..{revision}")))


@settings(max_examples=400, deadline=None)
@given(steps, expectations)
def test_never_raises_and_always_has_a_reason(sequence: list[Any], expectation: Expectation) -> None:
    memory, now = Memory(), 0.0
    for step, observed in sequence:
        now += step
        verdict, memory = decide(observed, expectation, memory, now)
        assert verdict.state in ("wait", "done", "failed")
        assert verdict.rule
        json.dumps([verdict.to_json(), memory.to_json(), expectation.to_json()], allow_nan=False)
        if isinstance(observed, Observed):
            questions(observed, expectation)


@settings(max_examples=600, deadline=None)
@given(steps, expectations)
def test_done_is_never_said_of_anything_but_the_live_healthy_and_freshly_compared_revision(
    sequence: list[Any], expectation: Expectation
) -> None:
    memory, now = Memory(), 0.0
    for step, observed in sequence:
        now += step
        verdict, memory = decide(observed, expectation, memory, now)
        if verdict.state != "done" or expectation.basis == "idle":
            continue
        assert isinstance(observed, Observed)
        assert observed.health == "Healthy"
        assert not observed.deleting
        op = observed.operation
        counts = op is not None and not op.dry_run
        if (
            counts
            and op is not None
            and op.phase in ("Succeeded", "Failed", "Error")
            and op.finished_at is not None
        ):
            assert observed.compared_at is not None
            assert observed.compared_at > op.finished_at
        if counts and op is not None:
            assert not op.queued
        if expectation.basis == "desired":
            assert observed.sync == "Synced"
            if expectation.match != "any" and "*" in expectation.revisions:
                assert all(acceptable(expectation, revision) for revision in observed.desired)
                assert observed.desired
        elif expectation.match != "any":
            assert op is not None
            assert op.phase == "Succeeded"


@settings(max_examples=300, deadline=None)
@given(steps, expectations)
def test_a_deferral_between_any_two_looks_changes_nothing(
    sequence: list[Any], expectation: Expectation
) -> None:
    one, other, now = Memory(), Memory(), 0.0
    for step, observed in sequence:
        now += step
        verdict, one = decide(observed, expectation, one, now)
        revived = Expectation.from_json(json.loads(json.dumps(expectation.to_json())))
        again, other = decide(
            observed, revived, Memory.from_json(json.loads(json.dumps(other.to_json()))), now
        )
        assert again == verdict
        assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict
        assert other == one


@settings(max_examples=200, deadline=None)
@given(st.lists(looks | troubles, min_size=1, max_size=6), expectations)
def test_there_is_always_an_end(sequence: list[Any], expectation: Expectation) -> None:
    expectation = Expectation.from_json({**expectation.to_json(), "timeout": 50.0})
    memory = Memory()
    for index, observed in enumerate(sequence):
        verdict, memory = decide(observed, expectation, memory, index)
    verdict, _ = decide(sequence[-1], expectation, memory, 1000.0)
    assert verdict.state != "wait"
