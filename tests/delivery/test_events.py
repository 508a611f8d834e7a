"""What counts among the events on assets: neither forged, nor misplaced, nor told before."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.events import (
    read_on,
    records_on,
    started_by,
    triggering_records,
    triggering_signals,
)
from airflow_pipeops.delivery.records import KINDS, PER_ENVIRONMENT, Record, placed_by
from airflow_pipeops.exceptions import InvalidInput
from tests.ledgers import event as as_read

WEB, OTHER = Deliverable("web"), Deliverable("other")
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
RELEASE = Record("release", "web", {"revision": "a" * 40}, environment="production")
DECISION = Record("decision", "web", {"action": "retrain"})


def event(extra: Any, second: int = 0) -> SimpleNamespace:
    return as_read(extra or {}, START + timedelta(seconds=second))


def test_a_record_counts_by_the_task_that_has_emitted_it(context) -> None:
    asset, source = WEB.asset("validation"), {"dag": "gate", "run": "r", "task": "test", "map_index": -1}
    record = Record("validation", "web", {"passed": True}, source=source)

    def read(**by: Any) -> tuple[list[Record], list[str]]:
        context["inlet_events"] = {asset: [as_read(record.to_extra(), START, asset, **by)]}
        return read_on(context, asset)

    assert read() == ([record], [])
    for part, value in {"dag": "another", "run": "later", "task": "other", "map_index": 3}.items():
        found, (why,) = read(**{part: value})
        assert found == []
        assert (
            why
            == f"{asset.name}: it says that its {part} was {source[part]!r}, and Airflow that it was {value!r}"
        )
    assert read(task=None) == ([], [f"{asset.name}: no task has emitted it"])


def test_a_record_that_says_nothing_of_its_source_is_read_as_before(context) -> None:
    asset = WEB.asset("validation")
    old = Record("validation", "web", {"passed": True}, source={"dag": "gate"})
    context["inlet_events"] = {asset: [as_read(old.to_extra(), START, asset, dag="gate", run="r", task="t")]}
    assert records_on(context, asset) == [old]


def told(payload: Any, **more: Any) -> dict[str, Any]:
    """As Airflow stores what a watcher has told."""
    return {"from_trigger": True, "payload": payload, **more}


def posted(extra: dict[str, Any]) -> dict[str, Any]:
    """As Airflow stores what was posted to its API: it sets the stamp, whatever is in the body."""
    from airflow.api_fastapi.core_api.datamodels.assets import CreateAssetEventsBody

    return CreateAssetEventsBody(asset_id=1, extra=json.loads(json.dumps(extra))).extra


@pytest.fixture
def push():
    from airflow_pipeops.git.triggers import GitPushTrigger

    return WEB.signal("push", GitPushTrigger("repo"))


def test_what_is_posted_is_no_signal_and_no_record(context, push, caplog) -> None:
    released, retrain = WEB.released("production"), WEB.retrain
    context["triggering_asset_events"] = {
        push: [event(posted(told({"uri": "http://169.254.169.254/"})))],
        released: [event(posted(RELEASE.to_extra()))],
        retrain: [event(posted(DECISION.to_extra()))],
        WEB.data: [event(posted({}))],
    }
    started = started_by(context)
    assert (started.signals, started.records, started.by_nothing) == ((), (), True)
    assert len(started.left_out) == 4
    assert "accept_posted_events" in caplog.text
    context["inlet_events"] = {released: [event(posted(RELEASE.to_extra()))], retrain: []}
    assert records_on(context, released, retrain) == []


def test_a_setting_accepts_it_for_one_asset(context, push, monkeypatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW__PIPEOPS__ACCEPT_POSTED_EVENTS", f"{push.name} , pipeops://web/release/production"
    )
    batch = WEB.signal("batch", push.watchers[0].trigger)
    released = WEB.released("production")
    context["triggering_asset_events"] = {
        push: [event(posted({"payload": {"commit": "c"}}))],
        batch: [event(posted({"payload": {"uri": "x"}}))],
        released: [event(posted(RELEASE.to_extra()))],
        WEB.retrain: [event(posted(DECISION.to_extra()))],
    }
    started = started_by(context)
    assert (started.signals, started.records) == (({"commit": "c"},), (RELEASE,))
    assert len(started.left_out) == 2


@pytest.mark.parametrize("payload", ["a text", ["a list"], 5, True, {}, None])
def test_a_payload_that_is_no_object_stops_nothing(context, push, payload) -> None:
    context["triggering_asset_events"] = {push: [event(told(payload)), event(told({"commit": "c"}), 1)]}
    assert triggering_signals(context) == [{"commit": "c"}]


def test_a_run_that_something_else_started_is_as_by_hand(context) -> None:
    context["triggering_asset_events"] = {"s3://bucket/table": [event({"rows": 5}), event(None)]}
    assert not started_by(context).by_nothing
    context["triggering_asset_events"] = {}
    assert not started_by(context).by_nothing


@pytest.mark.parametrize("name", ["drift", "arrival", "retrain", "change.staging"])
def test_a_signal_takes_no_name_of_an_asset_that_carries_records(push, name: str) -> None:
    trigger = push.watchers[0].trigger
    with pytest.raises(InvalidInput, match=f"web.{name} carries records") as caught:
        WEB.signal(name, trigger)
    assert (caught.value.field, caught.value.value) == ("name", name)
    for free in ("batch", "drifted", "change", "change.qa"):
        assert WEB.signal(free, trigger).name == f"web.{free}"
    for kind in KINDS:
        for place in WEB.environments if kind in PER_ENVIRONMENT else (None,):
            with pytest.raises(InvalidInput, match="carries records"):
                WEB.signal(WEB.asset(kind, place).name.removeprefix("web."), trigger)


@pytest.mark.parametrize(
    ("record", "asset", "stays"),
    [
        (RELEASE, WEB.released("production"), True),
        (RELEASE, WEB.released("staging"), False),
        (RELEASE, OTHER.released("production"), False),
        (RELEASE, WEB.changed("production"), False),
        (DECISION, WEB.decision, True),
        (DECISION, WEB.retrain, True),
        (DECISION, OTHER.retrain, False),
        (DECISION, WEB.drift, False),
        (Record("differences", "web", {}), WEB.differences, True),
        (Record("differences", "web", {}), WEB.drift, False),
        (Record("evaluation", "web", {}), WEB.retrain, False),
        (Record("image", "web", {}, environment="staging"), WEB.image, True),
    ],
)
def test_a_record_belongs_to_the_asset_of_its_deliverable_and_kind(context, record, asset, stays) -> None:
    assert (placed_by(record.to_extra(), asset.uri) == "") is stays
    context["inlet_events"] = {asset: [event(record.to_extra())]}
    found, left_out = read_on(context, asset)
    assert (found, len(left_out)) == (([record], 0) if stays else ([], 1))
    context["triggering_asset_events"] = {asset: [event(record.to_extra())]}
    assert triggering_records(context) == ([record] if stays else [])


def test_an_altered_record_is_counted_and_said(context, caplog) -> None:
    asset = WEB.released("production")
    context["inlet_events"] = {
        asset: [event({**RELEASE.to_extra(), "at": "2030"}), event({"schema": "pipeops/v2"}), event({"x": 1})]
    }
    found, left_out = read_on(context, asset)
    assert (found, len(left_out)) == ([], 2)
    assert "has been altered" in caplog.text


def test_a_repeated_event_counts_once(context, push) -> None:
    again = {"commit": "a", "key": "k1"}
    context["triggering_asset_events"] = {
        push: [event(told(again), 1), event(told({"commit": "b", "key": "k2"}), 2), event(told(again), 3)]
    }
    started = started_by(context)
    assert started.signals == (again, {"commit": "b", "key": "k2"})
    assert len(started.left_out) == 1
    context["triggering_asset_events"] = {
        WEB.retrain: [event(DECISION.to_extra(), 1), event(DECISION.to_extra(), 2)]
    }
    assert triggering_records(context) == [DECISION]


def test_what_another_run_was_started_by_counts_in_none_after_it(context, push, monkeypatch, caplog) -> None:
    """The ledger of Airflow tells: an earlier event on the asset has the same key."""
    from airflow.sdk.api.datamodels._generated import AssetEventResponse, AssetEventsResponse, AssetResponse
    from airflow.sdk.execution_time.comms import AssetEventsResult

    asked, ledger = [], []

    class Supervisor:
        def send(self, message: Any) -> AssetEventsResult:
            asked.append(message)
            answer = AssetEventsResponse(
                asset_events=[one for one in ledger if one.timestamp < message.before]
            )
            return AssetEventsResult.from_asset_events_response(answer)

    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", Supervisor(), raising=False
    )

    def stored(extra: Any, second: int) -> None:
        asset = AssetResponse(name=push.name, uri=push.uri, group="", extra={})
        at = START + timedelta(seconds=second)
        ledger.append(
            AssetEventResponse(id=second, timestamp=at, extra=extra, asset=asset, created_dagruns=[])
        )

    again = told({"commit": "a", "key": "k1"})
    stored(posted(told({"key": "k2"})), 1)  # nobody can have an event dropped by posting its key
    stored(again, 2)
    stored(again, 5)
    stored(told({"commit": "b", "key": "k2"}), 6)
    context["triggering_asset_events"] = {push: [event(again, 2)]}
    assert [one["commit"] for one in triggering_signals(context)] == ["a"]
    context["triggering_asset_events"] = {push: [event(again, 5)]}
    started = started_by(context)
    assert (started.signals, started.by_nothing) == ((), True)
    assert "told before" in caplog.text
    context["triggering_asset_events"] = {push: [event(again, 5), event(ledger[-1].extra, 6)]}
    assert [one["commit"] for one in triggering_signals(context)] == ["b"]
    assert {(one.name, one.uri) for one in asked} == {(push.name, push.uri)}
    asked.clear()
    context["triggering_asset_events"] = {push: [event(again, 5), event(ledger[-1].extra, 6)]}
    for _ in range(3):
        assert [one["commit"] for one in triggering_signals(context)] == ["b"]
        assert triggering_records(context) == []
    assert len(asked) == 2, "one question for each key, however often the task's code reads"


def test_where_nobody_can_tell_it_counts(context, push, caplog) -> None:
    caplog.set_level(logging.INFO)
    context["triggering_asset_events"] = {push: [event(told({"commit": "a", "key": "k1"}))]}
    assert len(triggering_signals(context)) == 1
    assert "Nobody can tell" in caplog.text
