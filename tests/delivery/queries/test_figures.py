"""DORA's metrics and the model's: worked out by hand, and by a plain model over random deployments."""

from __future__ import annotations

import sqlite3
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.delivery.ledger.index import reader
from airflow_pipeops.delivery.queries.figures import Deployment, Share, dora, model_figures, spread
from airflow_pipeops.delivery.queries.gathering import Figures, deployments, figures, retrains
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from tests.ledgers import at, entries, indexed, record, sha

START, END = at(0), at(10_080)


def commit(name: str, minutes: float, made: float | None = None, **of: Any) -> Record:
    body = {"commit": sha(name), **({"time": at(made)} if made is not None else {})}
    return record("commit", body, commit=sha(name), minutes=minutes, **of)


def release(
    revision: str, minutes: float, *parents: Record, environment: str = "production", **body: Any
) -> Record:
    return record(
        "release", {"revision": revision, **body}, *parents, environment=environment, minutes=minutes
    )


def ledger(tmp_path: Path, *records: Record) -> sqlite3.Connection:
    return indexed(tmp_path / "index.db", entries(records))


def found(tmp_path: Path, *records: Record, **asked: Any) -> Figures:
    one = figures(ledger(tmp_path, *records), "delay-api", "production", START, END, **asked)
    assert one is not None
    return one


def test_nothing_is_said_of_nothing(tmp_path: Path) -> None:
    none = found(tmp_path, commit("a", 1))
    assert none.model is None
    assert none.dora.to_json() == {
        "start": START, "end": END, "deployments": 0, "per_week": 0.0,
        "between": {"count": 0, "median": None, "p90": None},
        "lead_time": {"count": 0, "median": None, "p90": None}, "unknown_commits": 0,
        "recovery_time": {"count": 0, "median": None, "p90": None}, "unrecovered": 0,
        "change_fail_rate": {"count": 0, "of": 0, "value": None},
        "rework_rate": {"count": 0, "of": 0, "value": None}, "never_live": 0,
    }  # fmt: skip


def test_lead_time_is_of_each_commit_that_a_deployment_brought(tmp_path: Path) -> None:
    a, b, c, d = commit("a", 10, 0), commit("b", 20, 15), commit("c", 30, 25), commit("d", 300)
    first, second = release("r1", 40, a), release("r2", 60, c)
    # b came with c, though nothing was made of it alone; d has no time of its own, so that of its record counts.
    third = release("r3", 360, d)
    one = found(tmp_path, a, b, c, first, second, d, third).dora
    assert (one.deployments, one.per_week, one.unknown_commits) == (3, 3.0, 0)
    minutes = [40, 60 - 15, 60 - 25, 360 - 300]
    assert one.lead_time.count == 4
    assert one.lead_time.median == statistics.median(minutes) * 60
    assert one.between.count == 2


def test_what_changes_nothing_is_no_deployment(tmp_path: Path) -> None:
    a = commit("a", 1)
    same = [release("r1", 2, a), release("r1", 3, a), release("r2", 4, a, changed=False), release("r3", 5, a)]
    assert [
        one.at for one in deployments(ledger(tmp_path, a, *same), "delay-api", "production", START)[0]
    ] == [at(2), at(5)]


def test_a_commit_to_another_file_is_no_deployment_and_one_by_hand_is(tmp_path: Path) -> None:
    def wanted(minutes: float, value: str) -> Record:
        body = {"file": "a.yaml", "set": {"tag": value}, "changed": False, "n": minutes}
        return record("change", body, environment="production", minutes=minutes)

    changes = [wanted(1, "v1"), wanted(3, "v1"), wanted(5, "v2")]
    made = [release(f"r{at}", 2 * at + 2, change, changed=False) for at, change in enumerate(changes)]
    told = ledger(tmp_path, *changes, *made)
    assert [one.at for one in deployments(told, "delay-api", "production", START)[0]] == [at(2), at(6)]


def test_data_that_led_to_a_retrain_make_no_model_younger(tmp_path: Path) -> None:
    data = record("dataset", {"rows": 3}, minutes=1)
    seen = record("batch", {"batch": "newest"}, minutes=8)
    decision = record("decision", {"action": "retrain"}, record("drift", {}, seen, minutes=9), minutes=10)
    model = record("model", {"name": "m", "version": 1}, data, decision, minutes=11)
    drift = record("drift", {}, seen, minutes=9)
    one = found(tmp_path, data, seen, drift, decision, model, release("r1", 12, model)).model
    assert one is not None
    assert one.data_age == (10_080 - 1) * 60


def test_a_release_before_the_time_is_only_what_the_first_one_is_compared_with(tmp_path: Path) -> None:
    before, again, other = release("r1", -5), release("r1", 1), release("r2", 2)
    assert [
        one.at
        for one in deployments(ledger(tmp_path, before, again, other), "delay-api", "production", START)[0]
    ] == [at(2)]


def test_a_revert_is_rework_and_says_that_what_it_reverts_failed(tmp_path: Path) -> None:
    a, b = commit("a", 1), commit("b", 11)
    good, bad = release("r1", 2, a), release("r2", 12, b)
    revert = record("change", {"reverts": "r2", "commit": "r3"}, bad, environment="production", minutes=20)
    mended = release("r3", 22, revert)
    incident = record("incident", {"what": "x"}, bad, revert, environment="production", minutes=23)
    one = found(tmp_path, a, good, b, bad, revert, mended, incident).dora
    assert (one.change_fail_rate, one.rework_rate) == (Share(1, 3), Share(1, 3))
    assert (one.recovery_time.count, one.recovery_time.median, one.unrecovered) == (1, 600.0, 0)
    assert one.unknown_commits == 0  # a revert brings none


@pytest.mark.parametrize(("reverts", "failed"), [("r2", ["r2"]), (None, [])], ids=["a release", "by hand"])
def test_a_model_that_came_back_did_not_fail(tmp_path: Path, reverts: str | None, failed: list[str]) -> None:
    """What was taken back is the commit that the order names; one that came around the pipeline was no deployment."""
    of = {"environment": "production"}
    bad = [release("r2", 20)] if reverts else []
    change = record("change", {"commit": "r3", "reverts": reverts, "order": "o"}, minutes=30, **of)
    back = release("r3", 31, change)
    undone = record(
        "rollback",
        {"how": "revert", "revision": "r3", "reverts": reverts, "order": "o"},
        back,
        minutes=32,
        **of,
    )
    told = ledger(tmp_path, release("r1", 10), *bad, change, back, undone)
    made, _ = deployments(told, "delay-api", "production", START)
    named = {one.id: one.body["revision"] for one in (*bad, back)}
    assert [named.get(one.record, "r1") for one in made if one.failed] == failed
    assert made[-1].rework is bool(reverts)


@pytest.mark.parametrize("by", ["an incident", "a rollback", "an incident that names nothing"])
def test_what_says_that_a_deployment_failed(tmp_path: Path, by: str) -> None:
    good, bad = release("r1", 2), release("r2", 12)
    told = {
        "an incident": [record("incident", {"what": "x"}, bad, environment="production", minutes=15)],
        "a rollback": [release("r1", 15, rolled_back=True)],
        "an incident that names nothing": [
            record("incident", {"what": "x"}, environment="production", minutes=15)
        ],
    }[by]
    elsewhere = record("incident", {"what": "y"}, environment="staging", minutes=3)
    one = found(tmp_path, good, elsewhere, bad, *told).dora
    assert one.change_fail_rate.count == 1
    assert one.unrecovered == (0 if by == "a rollback" else 1)
    assert one.rework_rate.count == (1 if by == "a rollback" else 0)


def test_deployments_of_unknown_commits_are_counted_and_in_no_lead_time(tmp_path: Path) -> None:
    one = found(tmp_path, release("r1", 2), release("r2", 3)).dora
    assert (one.unknown_commits, one.lead_time.count) == (2, 0)


def test_what_failed_and_was_mended_after_the_time_is_mended(tmp_path: Path) -> None:
    bad = release("r1", 10_000)
    incident = record("incident", {"what": "x"}, bad, environment="production", minutes=10_010)
    late = release("r2", 10_090)
    one = found(tmp_path, bad, incident, late).dora
    assert (one.deployments, one.recovery_time.median, one.unrecovered) == (1, 90 * 60.0, 0)


def test_parts_of_the_time_add_up(tmp_path: Path) -> None:
    several = [release(f"r{number}", 1000 * number) for number in range(9)]
    one = found(tmp_path, *several, parts=4)
    assert [part.deployments for part in one.parts] == [3, 3, 2, 1]
    assert one.parts[0].start == START
    assert one.parts[-1].end == END


def failure(minutes: float, *parents: Record, task: str = "wait", **body: Any) -> Record:
    told = {"outcome": "refused", "reason": "Degraded", "of": ["release"], "found": [], "try": 1, **body}
    return record("failure", told, *parents, environment="production", minutes=minutes, task=task)


def test_a_deployment_that_never_went_live_has_failed_and_its_revert_blames_no_other(tmp_path: Path) -> None:
    bad = record("change", {"commit": "r2"}, environment="production", minutes=15)
    undo = record("change", {"reverts": "r2"}, environment="production", minutes=30)
    records = [release("r1", 10), bad, failure(20, bad), undo, release("r3", 40, undo)]
    one = found(tmp_path, *records).dora
    assert (one.deployments, one.never_live) == (2, 1)
    assert (one.change_fail_rate, one.rework_rate) == (Share(1, 3), Share(1, 3))
    assert (one.recovery_time.count, one.recovery_time.median, one.unrecovered) == (1, 20 * 60.0, 0)


def test_a_revert_that_names_what_was_live_blames_that(tmp_path: Path) -> None:
    undo = record("change", {"reverts": "r1"}, environment="production", minutes=30)
    one = found(tmp_path, release("r1", 10), failure(20), undo, release("r3", 40, undo)).dora
    assert one.change_fail_rate == Share(2, 3)


@pytest.mark.parametrize(
    "said",
    [{"outcome": "unknown"}, {"outcome": "failed"}, {"of": ["validation"]}, {"of": ["release", "rollback"]}],
    ids=str,
)
def test_a_failure_that_tells_nothing_of_a_deployment_counts_as_none(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    one = found(tmp_path, release("r1", 10), failure(20, **said)).dora
    assert (one.deployments, one.never_live, one.change_fail_rate) == (1, 0, Share(0, 1))


def test_a_wait_that_was_cleared_and_saw_the_release_was_late(tmp_path: Path) -> None:
    live = record("release", {"revision": "r1"}, environment="production", minutes=30, task="wait")
    one = found(tmp_path, failure(20), live).dora
    assert (one.deployments, one.never_live, one.change_fail_rate) == (1, 0, Share(0, 1))


def test_a_challenger_whose_gate_failed_is_among_those_that_were_rejected(tmp_path: Path) -> None:
    model = record("model", {"name": "m", "version": 1}, minutes=1)
    decision = record("decision", {"action": "retrain", "acts": True}, minutes=5)
    said = [{"kind": "evaluation", "body": {"promote": False}}, {"kind": "evaluation"}, {"kind": "drift"}]
    lost = failure(10, decision, of=["evaluation"], found=said)
    one = found(tmp_path, model, decision, lost, record("evaluation", {"promote": True}, minutes=20)).model
    assert one is not None
    assert one.rejected == Share(1, 2)
    (retrain,) = retrains(reader(tmp_path / "index.db"), "delay-api", "production", START, END)
    assert retrain.outcome == "rejected"


@pytest.mark.parametrize(
    ("outcome", "promote"), [("failed", True), ("refused", True), ("failed", False), ("unknown", False)]
)
def test_a_task_that_failed_promotes_nothing_and_rejects_by_its_no_alone(
    tmp_path: Path, outcome: str, promote: bool
) -> None:
    model = record("model", {"name": "m", "version": 1}, minutes=1)
    decision = record("decision", {"action": "retrain", "acts": True}, minutes=5)
    said = [{"kind": "evaluation", "body": {"promote": promote}}]
    lost = failure(10, decision, of=["evaluation"], outcome=outcome, found=said)
    one = found(tmp_path, model, decision, lost).model
    assert one is not None
    assert one.rejected == Share(0, 0)
    (retrain,) = retrains(reader(tmp_path / "index.db"), "delay-api", "production", START, END)
    assert retrain.outcome == ""


def test_a_time_that_ends_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the time ends at"):
        figures(ledger(tmp_path, commit("a", 1)), "delay-api", "production", END, START)


def test_a_model_from_drift_to_what_helped(tmp_path: Path) -> None:
    data = record("dataset", {"rows": 3}, minutes=1)
    drift = record("drift", {"drifted": True}, data, minutes=5)
    decision = record("decision", {"action": "retrain", "acts": True}, drift, minutes=10)
    held = record("decision", {"action": "hold", "acts": False}, drift, minutes=11)
    lost = record("evaluation", {"promote": False}, decision, minutes=20)
    won = record("evaluation", {"promote": True}, decision, minutes=30)
    model = record("model", {"name": "m", "version": 2}, won, data, minutes=31)
    live = release("r2", 65, model)
    seen = {"performance": 0.8, "predecessor_performance": 0.7}
    later = record("decision", {"action": "hold", "observation": seen, "policy": {}}, minutes=70)
    open_drift = record("drift", {"drifted": True}, minutes=80)
    second = record("decision", {"action": "retrain", "acts": True}, open_drift, minutes=81)
    records = (data, drift, decision, held, lost, won, model, live, later, open_drift, second)
    whole = found(tmp_path, *records, parts=720)
    one = whole.model
    assert one is not None
    assert one.data_age == (10_080 - 1) * 60
    assert one.retrains == 2
    assert (one.drift_to_fix.count, one.drift_to_fix.median, one.unfixed) == (1, 3600.0, 1)
    assert one.rejected == Share(1, 2)
    assert one.helped == Share(1, 1)
    # Each part is what is said of its time alone.
    connection = reader(tmp_path / "index.db")
    parts = [figures(connection, "delay-api", "production", part.start, part.end) for part in whole.parts[:8]]
    assert [part.model for part in parts if part] == list(whole.model_parts[:8])
    assert len(whole.model_parts) == 720
    assert [part.rejected.of for part in whole.model_parts[:4]] == [0, 1, 1, 0]
    assert [part.data_age for part in whole.model_parts[3:6]] == [None, 69 * 60, 83 * 60]


def test_an_error_that_falls_has_helped(tmp_path: Path) -> None:
    decision = record("decision", {"action": "retrain", "acts": True}, minutes=1)
    model = record("model", {"name": "m", "version": 2}, decision, minutes=2)
    live = release("r", 3, model)
    seen = {"performance": 5.0, "predecessor_performance": 7.0}
    told = {"action": "hold", "observation": seen, "policy": {"higher_is_better": False}}
    one = found(tmp_path, decision, model, live, record("decision", told, minutes=4)).model
    assert one is not None
    assert one.helped == Share(1, 1)


@st.composite
def deployed(draw: st.DrawFn) -> Deployment:
    """Any deployment; its record is named by its minute."""
    when = draw(st.integers(0, 20_000))
    leads = draw(st.none() | st.lists(st.integers(0, 500), max_size=4))
    commits = None if leads is None else tuple(at(when - lead) for lead in leads)
    failed, mended = draw(st.booleans()), draw(st.integers(0, 99))
    return Deployment(
        str(when),
        at(when),
        commits,
        failed,
        draw(st.booleans()),
        at(when + mended) if failed and mended else "",
        draw(st.booleans()),
    )


@given(st.lists(deployed()))
def test_the_figures_agree_with_a_plain_count(given: list[Deployment]) -> None:
    one = dora(given, START, END)
    within = [item for item in given if START <= item.at < END]
    went = [item for item in within if item.live]
    leads = [
        (int(item.record) - minutes) * 60 for item in went for minutes in map(_minutes, item.commits or ())
    ]
    assert (one.deployments, one.never_live) == (len(went), len(within) - len(went))
    assert one.per_week == len(went)
    assert (one.lead_time.count, one.lead_time.median) == (
        len(leads),
        statistics.median(leads) if leads else None,
    )
    assert leads == [] or sum(lead <= one.lead_time.p90 for lead in leads) >= 0.9 * len(leads)  # type: ignore[operator]
    assert one.change_fail_rate.count == sum(item.failed for item in within)
    assert one.rework_rate.count == sum(item.rework for item in within)
    assert one.recovery_time.count + one.unrecovered == one.change_fail_rate.count
    assert {one.change_fail_rate.of, one.rework_rate.of} == {len(within)}


def _minutes(when: str) -> int:
    from datetime import datetime

    return int((datetime.fromisoformat(when) - datetime.fromisoformat(START)).total_seconds() // 60)


def test_clocks_that_differ_make_no_negative_time() -> None:
    assert spread([-5.0, 5.0]).median == 2.5
    assert model_figures([], START, END, challengers=Share(0, 0), newest_data=END).data_age == 0.0
