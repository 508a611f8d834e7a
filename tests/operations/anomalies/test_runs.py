"""What Airflow and records say, as values."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.anomalies.recorded import given as series_given
from airflow_pipeops.operations.anomalies.recorded import told_by, values_of
from airflow_pipeops.operations.anomalies.runs import Dag, Window, measured, moment, parents_of

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
DAG = Dag("load", "ann", scheduled=True)


def iso(minutes: float) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat()


def run(number: int, start: float | None, end: float | None = None, **said: Any) -> dict[str, Any]:
    """A run as the API lists it, which waited a minute in the queue."""
    return {
        "dag_run_id": f"run-{number}",
        "run_type": "scheduled",
        "state": "running" if end is None else "success",
        "queued_at": None if start is None else iso(start - 1),
        "start_date": None if start is None else iso(start),
        "end_date": None if end is None else iso(end),
        "dag_versions": [{"version_number": 1}, {"version_number": 2}],
        **said,
    }


def said(values) -> set[tuple[str, str, float, str]]:
    return {(name.kind, name.variant, point.value, point.run) for name, point in values}


NOW = (NOON + timedelta(minutes=200)).timestamp()


def test_what_has_ended_and_what_grows() -> None:
    values = measured(DAG, [run(2, 60), run(1, 0, 10)], NOW)
    assert said(values.closed) == {
        ("queue", "", 60.0, "run-1"),
        ("failure", "", 0.0, "run-1"),
        ("duration", "", 600.0, "run-1"),
        ("queue", "", 60.0, "run-2"),
        ("interval", "", 3600.0, "run-2"),
    }
    assert said(values.open) == {("duration", "", 8400.0, "run-2"), ("interval", "", 8400.0, "")}
    assert {name.owner for name, _ in (*values.closed, *values.open)} == {"ann"}
    assert {point.version for name, point in values.closed if name.kind == "duration"} == {"2"}


def test_how_long_a_failed_run_took_is_no_duration() -> None:
    values = measured(DAG, [run(1, 0, 10, state="failed")], NOW)
    assert ("failure", "", 1.0, "run-1") in said(values.closed)
    assert "duration" not in {name.kind for name, _ in values.closed}


@pytest.mark.parametrize(
    ("kind", "variant"), [("manual", "manual"), ("backfill", "backfill"), ("asset_triggered", "")]
)
def test_runs_of_another_kind_are_another_series(kind: str, variant: str) -> None:
    values = measured(DAG, [run(1, 0, 10, run_type=kind), run(2, 60, 70, run_type=kind)], NOW)
    assert {name.variant for name, _ in values.closed} == {variant}
    assert "interval" not in {name.kind for name, _ in (*values.closed, *values.open)}


def test_runs_while_something_is_deployed_are_another_series() -> None:
    windows = Window.read([{"start": iso(-5), "end": iso(5)}])
    values = measured(DAG, [run(1, 0, 10), run(2, 60, 70)], NOW, windows)
    assert {(name.variant, point.run) for name, point in values.closed if name.kind == "duration"} == {
        ("deploy", "run-1"),
        ("", "run-2"),
    }


@pytest.mark.parametrize(
    "dag",
    [Dag("load", paused=True, scheduled=True), Dag("load", scheduled=False)],
    ids=["paused", "no schedule"],
)
def test_nothing_is_missing_where_nothing_is_due(dag: Dag) -> None:
    assert [name.kind for name, _ in measured(dag, [run(1, 0, 10)], NOW).open] == []


def test_a_run_in_the_queue_is_not_missing_and_waits() -> None:
    queued = run(2, None, state="queued", queued_at=iso(60))
    assert said(measured(DAG, [run(1, 0, 10), queued], NOW).open) == {("queue", "", 8400.0, "run-2")}


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["dag_run_id", "run_type", "state", "queued_at", "start_date", "end_date", "dag_versions"]
            ),
            st.none()
            | st.integers()
            | st.text(max_size=5)
            | st.sampled_from([iso(0), iso(9), "running", "success"])
            | st.lists(st.dictionaries(st.just("version_number"), st.integers() | st.none()), max_size=2),
        ),
        max_size=5,
    )
)
@settings(max_examples=100, deadline=None)
def test_whatever_an_api_says_no_value_is_negative(runs: list[dict[str, Any]]) -> None:
    values = measured(DAG, runs, NOW)
    assert all(point.value >= 0 for _, point in values.closed)


def test_who_waits_for_whom() -> None:
    assets = [
        {"producing_tasks": [{"dag_id": "load"}], "scheduled_dags": [{"dag_id": "join"}, {"dag_id": "load"}]},
        {"producing_tasks": [{"dag_id": "dates"}], "scheduled_dags": [{"dag_id": "join"}]},
        {"producing_tasks": None, "scheduled_dags": "odd"},
    ]
    assert parents_of(assets) == {"join": {"load", "dates"}, "load": frozenset()}


@pytest.mark.parametrize("value", ["", "soon", None, 7, "2026-03-01T12:00:00"])
def test_a_time_without_a_zone_is_none(value: Any) -> None:
    assert moment(value) is None


@pytest.mark.parametrize(
    "window", [{}, {"start": iso(0)}, {"start": iso(0), "end": iso(0)}, {"start": iso(1), "end": iso(0)}]
)
def test_a_window_that_is_none(window: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="is no window"):
        Window.read([window])


def record(kind: Any, minutes: float, body: dict[str, Any], *parents: Record, **said: Any) -> Record:
    return Record(kind, "shop", body, tuple(one.id for one in parents), at=iso(minutes), **said)


def test_what_records_say() -> None:
    early, late = (record("commit", 5, {"commit": "a" * 40, "time": iso(at)}) for at in (0, 3))
    image = record("image", 10, {"digest": "sha256:1"}, early, late)
    approval = record("approval", 31, {"approved": True, "answered_at": iso(30)}, image)
    change = record("change", 40, {}, approval, environment="production")
    release = record("release", 60, {}, change, environment="production")
    batch = record("batch", 1, {"rows": 1200, "cost": 0.5})
    odd = record("batch", 2, {"rows": "many", "cost": True})
    training = record("training", 3, {"name": "m", "sha256": "1", "seconds": 90.5})
    values = values_of([batch, odd, training, early, late, image, approval, change, release], "ann")
    assert {(name.kind, name.variant, point.value) for name, point in values} == {
        ("rows", "batch", 1200.0),
        ("cost", "batch", 0.5),
        ("duration", "training", 90.5),
        ("lead", "production", 3600.0),
        ("wait", "approval", 1200.0),
    }


def test_what_earlier_looks_told_of() -> None:
    looks = [record("anomaly", at, {"until": iso(at), "open": [f"run {at}", 7]}) for at in (20, 10)]
    assert told_by(looks) == (moment(iso(20)), {"run 10", "run 20"})
    assert told_by([]) == (None, frozenset())


def test_series_that_somebody_measured() -> None:
    ((name, point),) = series_given([{"name": "orders", "kind": "lag", "values": [[iso(0), 7]]}], "ann")
    assert (name.subject, name.kind, name.owner) == ("orders", "lag", "ann")
    assert (point.at, point.value) == (NOON.timestamp(), 7.0)


@pytest.mark.parametrize(
    "series",
    [
        {"name": "orders", "kind": "size", "values": []},
        {"name": "", "kind": "lag", "values": []},
        {"name": "orders", "kind": "lag"},
        {"name": "orders", "kind": "lag", "values": [7]},
        {"name": "orders", "kind": "lag", "values": [["soon", 7]]},
        {"name": "orders", "kind": "lag", "values": [[iso(0), "7"]]},
        {"name": "orders", "kind": "lag", "values": [[iso(0), float("nan")]]},
    ],
)
def test_what_is_no_series(series: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        series_given([series], "")
    assert caught.value.field == "series"
    assert "kind is one of" in caught.value.remedy
