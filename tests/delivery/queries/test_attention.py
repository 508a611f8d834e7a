"""What needs somebody: each need is seen, and gone when it was seen to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.delivery.queries.attention import agenda
from airflow_pipeops.delivery.records import Record
from tests.ledgers import at, entries, indexed, record


def told(tmp_path: Path, *records: Record, **asked: Any) -> list[tuple[str, str, str]]:
    """The needs of a ledger: what, whose record, in which words."""
    numbers = {found.id: number for number, found in enumerate(records)}
    connection = indexed(tmp_path / f"{len(list(tmp_path.iterdir()))}.db", entries(records))
    found = agenda(connection, **asked)
    connection.close()
    assert found.last == max((one.at for one in records), default="")
    return [(item.need, item.environment, f"{numbers[item.fact.id]}: {item.what}") for item in found.items]


def release(minutes: float, *parents: Record, environment: str = "production", **body: Any) -> Record:
    given = {
        "app": f"delay-api-{environment}",
        "revision": "r",
        "health": "Healthy",
        "sync": "Synced",
        **body,
    }
    return record("release", given, *parents, environment=environment, minutes=minutes)


def test_nothing_of_nothing(tmp_path: Path) -> None:
    assert told(tmp_path) == []


def test_a_gate_that_said_no_until_the_same_gate_says_yes(tmp_path: Path) -> None:
    bad = record(
        "validation", {"subject": "data", "batch": "june", "passed": False, "failed": 2}, minutes=1, task="a"
    )
    other = record("validation", {"subject": "data", "batch": "june", "passed": True}, minutes=2, task="b")
    good = record("validation", {"subject": "data", "batch": "july", "passed": True}, minutes=3, task="a")
    assert told(tmp_path, bad, other) == [("gate", "", "0: The gate of data said no to june: 2 failed.")]
    assert told(tmp_path, bad, other, good) == []


def test_a_no_until_a_yes_of_the_same_task_or_a_release_where_it_was_asked_about(tmp_path: Path) -> None:
    def said(approved: bool, minutes: float, by: str = "ada") -> Record:
        body = {"subject": "Release?", "approved": approved, "approved_by": by, "timed_out": not by}
        return record("approval", body, environment="production", minutes=minutes, task="approve")

    no, wanted = said(False, 1), [("rejected", "production", "0: ada said no: Release?")]
    assert told(tmp_path, no) == wanted
    assert told(tmp_path, no, release(2, environment="staging")) == wanted
    assert told(tmp_path, no, said(True, 2)) == []
    assert told(tmp_path, no, release(2)) == []
    late = [("rejected", "production", "0: Nobody answered in time, which counts as a no: Release?")]
    assert told(tmp_path, said(False, 1, "")) == late


def test_a_no_whose_record_does_not_say_who_gave_it_is_nobodys_silence(tmp_path: Path) -> None:
    body = {"subject": "Release?", "approved": False, "approved_by": ["ada", "bob"]}
    no = record("approval", body, environment="production", minutes=1)
    assert told(tmp_path, no) == [("rejected", "production", "0: Somebody said no: Release?")]


def test_a_mapped_task_that_was_answered_with_a_yes_leaves_the_no_of_another(tmp_path: Path) -> None:
    def said(approved: bool, number: int) -> Record:
        source = {"dag": "dag", "run": "run", "task": "approve", "map_index": number}
        return Record("approval", "delay-api", {"approved": approved}, at=at(number), source=source)

    assert [need for need, _, _ in told(tmp_path, said(False, 0), said(True, 1))] == ["rejected"]


def test_a_failed_task_until_it_makes_a_record_or_a_release_comes_where_it_failed(tmp_path: Path) -> None:
    def failed(minutes: float, outcome: str = "refused", task: str = "gate") -> Record:
        body = {"outcome": outcome, "reason": "too slow", "of": ["validation"], "found": [], "try": 1}
        return record("failure", body, environment="production", minutes=minutes, task=task)

    open_ = [("failed", "production", "0: gate said no: too slow")]
    assert told(tmp_path, failed(1)) == open_
    assert told(tmp_path, failed(1, "unknown")) == [("failed", "production", "0: gate failed: too slow")]
    assert told(tmp_path, failed(1), release(2, environment="staging")) == open_
    passed = record("validation", {"subject": "tests", "passed": True}, minutes=2, task="gate")
    other = record("validation", {"subject": "tests", "passed": True}, minutes=3, task="another")
    assert told(tmp_path, failed(1), other) == open_
    assert told(tmp_path, failed(1), passed) == []
    assert told(tmp_path, failed(1), release(2)) == []
    assert told(tmp_path, failed(1), failed(2)) == [("failed", "production", "1: gate said no: too slow")]


def test_a_task_that_works_elsewhere_does_not_answer_for_where_it_failed(tmp_path: Path) -> None:
    def failed(minutes: float, environment: str) -> Record:
        body = {"outcome": "refused", "reason": "slow", "of": ["change", "release"], "found": [], "try": 1}
        return record("failure", body, environment=environment, minutes=minutes, task="sync")

    def change(environment: str) -> Record:
        return record("change", {"changed": True}, environment=environment, minutes=3, task="sync")

    open_ = ("failed", "production", "0: sync said no: slow")
    assert told(tmp_path, failed(1, "production"), change("staging")) == [open_]
    assert told(tmp_path, failed(1, "production"), change("production")) == []
    both = told(tmp_path, failed(1, "production"), failed(2, "staging"))
    assert [where for _, where, _ in both] == ["production", "staging"]


@pytest.mark.parametrize("of", [None, 5, "release", [None, {}, ["x"]], {"release": 1}], ids=str)
def test_a_failure_that_does_not_say_what_it_would_have_made_is_told_all_the_same(
    tmp_path: Path, of: object
) -> None:
    bad = record("failure", {"outcome": "failed", "reason": "down", "of": of}, minutes=1, task="gate")
    assert [need for need, _, _ in told(tmp_path, bad)] == ["failed"]


@pytest.mark.parametrize(
    ("kind", "bad", "well"),
    [
        ("approval", {"approved": False}, {"approved": True}),
        ("differences", {"verdict": "different", "app": "a"}, {"verdict": "clean", "app": "b"}),
        ("drift", {"subject": "predictions", "drifted": True}, {"subject": "data", "drifted": False}),
        ("evaluation", {"subject": "performance", "verdict": "too few labels"}, {"subject": "other"}),
        ("failure", {"outcome": "failed", "of": ["image"]}, None),
        ("validation", {"subject": "image", "passed": False}, {"subject": "data", "passed": True}),
    ],
)
def test_many_others_hide_nothing(
    tmp_path: Path, kind: str, bad: dict[str, object], well: dict[str, object] | None
) -> None:
    """However much was said since then of something else, or of the same in another environment."""

    def one(body: dict[str, object], minutes: int, where: str, task: str) -> Record:
        return record(kind, {**body, "n": minutes}, environment=where, minutes=minutes, task=task)

    others = [one(well or bad, minutes, "production", f"other{minutes}") for minutes in range(1, 31)]
    elsewhere = one({**bad, **well} if well else bad, 31, "staging", "task")
    connection = indexed(
        tmp_path / "index.db", entries([one(bad, 0, "production", "task"), *others, elsewhere])
    )
    said = [item for item in agenda(connection).items if item.fact.body["n"] == 0]
    assert [item.environment for item in said] == ["production"]
    connection.close()


def test_of_tests_the_result_counts_and_not_how_many_passed(tmp_path: Path) -> None:
    bad = record(
        "validation", {"subject": "tests", "passed": 7, "failed": 1, "test-result": {"result": "FAILED"}}
    )
    none = record(
        "validation",
        {"subject": "tests", "passed": 0, "failed": 0, "test-result": {"result": "PASSED"}},
        minutes=1,
    )
    assert told(tmp_path, bad) == [("gate", "", "0: The gate of tests said no: 1 failed.")]
    assert told(tmp_path, bad, none) == []


def test_an_incident_until_it_was_answered(tmp_path: Path) -> None:
    bad = release(1, revision="bad")
    incident = record("incident", {"what": "it crashes"}, bad, environment="production", minutes=2)
    assert told(tmp_path, bad, incident) == [("degraded", "production", "1: it crashes")]
    elsewhere = release(3, environment="staging")
    assert told(tmp_path, bad, incident, elsewhere) == [("degraded", "production", "1: it crashes")]
    assert told(tmp_path, bad, incident, release(3, revision="good")) == []


def test_a_remediation_that_was_handed_over(tmp_path: Path) -> None:
    at = {"environment": "production"}
    left = record("remediation", {"state": "handed_over", "reason": "it did not help"}, minutes=2, **at)
    refused = record("remediation", {"state": "", "reason": "a person has it"}, minutes=3, **at)
    asks = [("investigate", "production", "0: A remediation was handed over: it did not help")]
    assert told(tmp_path, left, refused) == asks
    assert told(tmp_path, left, record("remediation", {"state": "helped"}, minutes=4, **at)) == []
    assert told(tmp_path, left, release(5, revision="good")) == []
    assert told(tmp_path, left, release(5, environment="staging")) == asks


def test_an_incident_that_was_written_down_after_it_was_over(tmp_path: Path) -> None:
    bad = release(1, revision="bad")
    revert = record("change", {"reverts": "bad", "commit": "fix"}, bad, environment="production", minutes=2)
    good = release(3, revert, revision="fix")
    over = record(
        "incident", {"what": "x", "restored_by": "fix"}, bad, revert, environment="production", minutes=4
    )
    assert told(tmp_path, bad, revert, good, over) == []
    not_yet = record("incident", {"what": "x"}, bad, environment="production", minutes=4)
    assert [need for need, *_ in told(tmp_path, bad, not_yet)] == ["degraded"]


def test_a_release_that_was_degraded_or_out_of_sync(tmp_path: Path) -> None:
    needs = told(tmp_path, release(1, health="Degraded", sync="OutOfSync"))
    assert [need for need, *_ in needs] == ["degraded", "out of sync"]
    assert told(tmp_path, release(1, health="Degraded", sync="OutOfSync"), release(2)) == []


def test_a_difference_from_git_until_the_next_release(tmp_path: Path) -> None:
    differs = record(
        "differences",
        {"app": "delay-api-production", "verdict": "different", "reason": "replicas"},
        minutes=2,
    )
    assert told(tmp_path, release(1), differs) == [("out of sync", "", "1: delay-api-production: replicas")]
    assert told(tmp_path, differs, release(3)) == []
    assert [need for need, *_ in told(tmp_path, differs, release(3, environment="staging"))] == [
        "out of sync"
    ]


def test_drift_late_labels_and_a_budget(tmp_path: Path) -> None:
    drift = record(
        "drift",
        {"subject": "data", "verdict": "drift", "drifted": True, "batch": "june", "columns_drifted": 3},
    )
    late = record(
        "evaluation", {"subject": "performance", "verdict": "too few labels", "value": None, "batch": "june"}
    )
    spent = record("decision", {"action": "hold", "rule": "budget", "reasons": ["There were 2 retrains."]})
    assert {(need, what) for need, _, what in told(tmp_path, drift, late, spent)} == {
        ("drift", "0: The data drifted in june: 3 columns moved."),
        ("late labels", "1: There are too few labels for june."),
        ("budget", "2: There were 2 retrains."),
    }
    calm = record("drift", {"subject": "data", "verdict": "no drift", "drifted": False}, minutes=1)
    labels = record("evaluation", {"subject": "performance", "verdict": "steady", "value": 0.7}, minutes=1)
    hold = record("decision", {"action": "hold", "rule": "steady", "reasons": ["Steady."]}, minutes=1)
    assert told(tmp_path, drift, late, spent, calm, labels, hold) == []


@pytest.mark.parametrize("answer", ["approved", "a later decision", None])
def test_a_proposal_until_it_is_answered(tmp_path: Path, answer: str | None) -> None:
    asks = record("decision", {"action": "retrain", "needs_approval": True, "reasons": ["It is worse."]})
    answers = {
        "approved": [record("decision", {"action": "retrain", "approved": True}, asks, minutes=1)],
        "a later decision": [record("decision", {"action": "hold", "rule": "steady"}, minutes=1)],
        None: [],
    }
    expected = [] if answer else [("approval", "", "0: A person must agree to retrain: It is worse.")]
    assert told(tmp_path, asks, *answers[answer]) == expected


def test_somebody_who_must_look(tmp_path: Path) -> None:
    look = record("decision", {"action": "investigate", "rule": "quality", "reasons": ["The data are bad."]})
    assert told(tmp_path, look) == [("investigate", "", "0: The data are bad.")]


def test_who_may_not_see_it_is_not_told(tmp_path: Path) -> None:
    mine = record("decision", {"action": "investigate", "rule": "quality"}, deliverable="delay-api")
    other = record("decision", {"action": "investigate", "rule": "quality"}, deliverable="flight-delay")
    connection = indexed(tmp_path / "index.db", entries([mine, other]))
    for asked in ({}, {"names": ["delay-api", "flight-delay"]}):
        found = agenda(connection, allowed={"delay-api"}, **asked)
        assert [item.deliverable for item in found.items] == ["delay-api"]
    one_each = agenda(connection, limit=1)
    assert [item.deliverable for item in one_each.items] == ["delay-api"]
    rest = agenda(connection, limit=1, after=one_each.after)
    assert [item.deliverable for item in rest.items] == ["flight-delay"]
    assert rest.after == ""


def test_records_of_any_form_raise_nothing(tmp_path: Path) -> None:
    odd = {
        "verdict": 3,
        "reasons": "x",
        "columns": None,
        "drifted": "yes",
        "passed": None,
        "needs_approval": 1,
        "subject": ["\ud7ff", {}],
        "app": {"a": []},
        "shard": [[]],
        "state": {},
        "approved": [],
        "test-result": "x",
    }
    records = [
        record(
            kind, {**odd, "n": number}, environment="production" if kind in ("release", "incident") else None
        )
        for number, kind in enumerate(
            (
                "drift",
                "validation",
                "decision",
                "evaluation",
                "differences",
                "release",
                "incident",
                "approval",
                "failure",
                "remediation",
            )
        )
    ]
    assert isinstance(told(tmp_path, *records), list)
