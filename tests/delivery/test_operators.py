from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from airflow_pipeops.argocd.sensors.app import ArgoCDAppSensor
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.operators import DeliveryOperator, RecordOperator, no_retry
from airflow_pipeops.delivery.records import Record, parent_ids
from airflow_pipeops.delivery.results import MOST
from airflow_pipeops.exceptions import DataRejected, InvalidInput, Unreachable
from airflow_pipeops.governor.operators import ApprovedRetrainOperator, RetrainGovernorOperator
from airflow_pipeops.redaction import remember

service = Deliverable("svc")
SHA = "a" * 40


class Emitter(DeliveryOperator):
    emits = ("image", "release")

    def execute(self, context):
        return self.emit(context, "image", {"digest": "sha256:1"}, commit=SHA)


def emitted(context, asset) -> tuple[Record, set[str]]:
    accessor = context["outlet_events"][asset]
    return Record.from_extra(accessor.extra), accessor.partition_keys


def test_a_record_born_from_code_travels_under_its_commit(context) -> None:
    op = Emitter(
        task_id="t", deliverable=service, environment="staging", parents=["b" * 64, None, ["c" * 64, ""]]
    )
    identifier = op.execute(context)
    record, keys = emitted(context, service.image)
    assert record.id == identifier
    assert record.parents == ("b" * 64, "c" * 64)
    by = {"dag": "dag", "run": "run-1", "task": "task", "map_index": -1}
    assert {name: record.source[name] for name in by} == by
    assert keys == {SHA}


def test_what_ends_by_skipping_the_rest_leaves_a_result_of_bounded_size_too(context) -> None:
    class Large(DeliveryOperator):
        def execute(self, context):
            self.skip_rest(context, {"said": "x" * MOST, "password": "hunter22hunter22"})

    remember("hunter22hunter22")
    with DAG("skips"):
        task = Large(task_id="large")
        task >> Emitter(task_id="next")
    with pytest.raises(DownstreamTasksSkipped):
        task.execute(context)
    left = context["ti"].xcoms
    assert left["return_value"] == {"said": left["said"], "password": "***"}
    assert left["said"]["bytes"] == MOST
    assert "result.json" in left["said"]["kept_in"]
    assert task.returned == left["return_value"]


def test_outlets_are_the_assets_of_what_it_emits() -> None:
    op = Emitter(task_id="t", deliverable=service, environment="staging")
    assert {asset.uri for asset in op.outlets} == {"pipeops://svc/image", "pipeops://svc/release/staging"}
    assert Emitter(task_id="t").outlets == []


def test_a_mapped_task_names_the_assets_that_it_may_emit_before_it_is_made() -> None:
    both = Deliverable("svc", environments=("staging", "production"))
    with DAG("mapped"):
        one = Emitter.partial(task_id="one", deliverable=both, environment="staging").expand(parents=[[], []])
        each = Emitter.partial(task_id="each", deliverable=both).expand(environment=["staging", "production"])
        none = Emitter.partial(task_id="none").expand(parents=[[], []])
        told = RecordOperator.partial(task_id="told", kind="model", deliverable=both).expand(body=[{}, {}])
    assert [asset.uri for asset in one.outlets] == ["pipeops://svc/image", "pipeops://svc/release/staging"]
    assert [asset.uri for asset in each.outlets] == [
        "pipeops://svc/image",
        "pipeops://svc/release/staging",
        "pipeops://svc/release/production",
    ]
    assert none.outlets == []
    assert [asset.uri for asset in told.outlets] == ["pipeops://svc/model"]
    made = Emitter(task_id="made", deliverable=both, environment="production", outlets=each.outlets)
    assert [asset.uri for asset in made.outlets] == [
        "pipeops://svc/image",
        "pipeops://svc/release/production",
    ]


def test_a_mapped_task_names_the_assets_that_are_not_of_its_own_kinds_or_deliverable() -> None:
    both, other = (Deliverable(name, environments=("staging", "production")) for name in ("svc", "other"))
    with DAG("mapped"):
        waits = ArgoCDAppSensor.partial(
            task_id="waits", deliverables={"a": both, "b": other, "c": other}, environment="staging"
        ).expand(revision=["1", "2"])
        each = ArgoCDAppSensor.partial(task_id="each", deliverables={"a": both}, apps=["a"]).expand(
            environment=["staging", "production"]
        )
        decides = RetrainGovernorOperator.partial(task_id="decides", deliverable=both).expand(
            batch=["1", "2"]
        )
        starts = ApprovedRetrainOperator.partial(task_id="starts", deliverable=both).expand(decision=[1, 2])
    assert [asset.uri for asset in waits.outlets] == [
        "pipeops://svc/release/staging",
        "pipeops://other/release/staging",
    ]
    assert len(each.outlets) == 2
    made = ArgoCDAppSensor(
        task_id="m", deliverables={"a": both}, apps=["a"], environment="production", outlets=each.outlets
    )
    assert [asset.uri for asset in made.outlets] == ["pipeops://svc/release/production"]
    assert list(decides.outlets) == [both.decision, both.retrain]
    assert list(starts.outlets) == [both.retrain]
    for kind, mapped, given in (
        (RetrainGovernorOperator, decides, {}),
        (ApprovedRetrainOperator, starts, {"decision": 1}),
    ):
        made = kind(task_id=f"made-{kind.__name__}", deliverable=both, outlets=mapped.outlets, **given)
        assert sorted(asset.uri for asset in made.outlets) == sorted(asset.uri for asset in mapped.outlets)


def test_a_mapped_task_is_told_the_kind_of_its_records_before_it_is_mapped() -> None:
    with pytest.raises(InvalidInput, match="the kind of a mapped task's records is not told"):
        RecordOperator.partial(task_id="told", deliverable=Deliverable("svc"))


def test_without_a_deliverable_nothing_is_recorded(context) -> None:
    assert Emitter(task_id="t").execute(context) is None
    assert len(context["outlet_events"]) == 0


def test_a_release_needs_an_environment_at_parse_time() -> None:
    with pytest.raises(InvalidInput, match="no environment None"):
        Emitter(task_id="t", deliverable=service)


def test_an_incident_is_recorded_where_it_happened(context) -> None:
    op = RecordOperator(
        task_id="t", kind="incident", body={"what": "x"}, deliverable=service, environment="production"
    )
    result = op.execute(context)
    record, keys = emitted(context, service.incident("production"))
    assert result["record_id"] == record.id
    assert record.environment == "production"
    assert not keys


def test_errors_that_no_retry_can_mend_do_not_retry() -> None:
    with pytest.raises(AirflowFailException, match="DataRejected: 3 expectations failed"), no_retry():
        raise DataRejected("3 expectations failed")
    with pytest.raises(Unreachable), no_retry():
        raise Unreachable("no answer")


def test_a_parent_that_is_no_id_says_what_to_pass() -> None:
    with pytest.raises(InvalidInput, match="record_id"):
        parent_ids([{"record_id": "x"}])


@pytest.mark.parametrize("name", ["", "Upper", "under_score", "-dash", "dash-", "x" * 54, "with space"])
def test_names_are_checked(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Deliverable(name)
    assert caught.value.field == "name"


def test_assets_are_equal_wherever_they_are_named() -> None:
    assert Deliverable("svc").released("production") == service.released("production")
    with pytest.raises(InvalidInput, match="Use one of staging, production"):
        service.released("prod")


def test_an_outlet_without_a_record_gets_no_event(context) -> None:
    op = Emitter(task_id="t", deliverable=service, environment="staging")
    op.post_execute(context, op.execute(context))
    assert op.outlets == [service.image]


class Telling(DeliveryOperator):
    """Repeats what a server said, as an operator would that forgot to look at it."""

    emits = ("incident",)

    def execute(self, context):
        said = {"said": f"refused {TOKEN}", "list": [{"deep": TOKEN}]}
        self.kept = self.keep(context, f"<p>{TOKEN}</p>", "page.html", "text/html")
        return {**said, "record_id": self.emit(context, "incident", said)}

    def execute_complete(self, context, event=None):
        return self.execute(context)


class Further(Telling):
    """Goes on with what its parent returned."""

    def execute(self, context):
        return {**super().execute(context), "more": TOKEN}


TOKEN = "glsa-Zq81kfPw02"


@pytest.mark.parametrize("method", ["execute", "execute_complete"])
def test_nothing_leaves_with_a_secret(context, method: str) -> None:
    from urllib.parse import urlsplit

    remember(TOKEN)
    op = Further(task_id="t", deliverable=service, environment="production")
    result = getattr(op, method)(context)
    record, _ = emitted(context, service.incident("production"))
    assert record.id == result["record_id"]
    kept = Path(urlsplit(op.kept.uri).path).read_text(encoding="utf-8")
    assert record.body == {"said": "refused ***", "list": [{"deep": "***"}]}
    assert kept == "<p>***</p>"
    assert TOKEN not in json.dumps(result)
