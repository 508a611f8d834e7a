"""A task that fails leaves word, and is recorded once: on Airflow's own tables, and whatever is killed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferralTimeout
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from airflow_pipeops.delivery import failures
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.failures import WORD, Ended, Failures, about, failure, word
from airflow_pipeops.delivery.operators import DeliveryOperator, no_retry
from airflow_pipeops.delivery.records import MAX_BYTES, Record
from airflow_pipeops.exceptions import GateFailed, NotJudged, ReleaseFailed, Unreachable, WaitTimeout
from airflow_pipeops.redaction import remember

NOW = datetime.now(timezone.utc).replace(microsecond=0)
ENDED = Ended("ti", "dag", "run", "gate", -1, 2, 3, "Gate", NOW)


class Gate(DeliveryOperator):
    emits = ("evaluation", "release")
    error: BaseException | None = None

    def execute(self, context: Any) -> Any:
        page = self.keep(context, "<p>worse</p>", "report.html", "text/html")
        self.emit(context, "evaluation", {"promote": False, "said": "x" * 6000}, evidence=[page])
        self.emit(context, "release", {"said": "x" * 6000})
        if self.error:
            with no_retry():
                raise self.error

    def execute_complete(self, context: Any) -> Any:
        return self.execute(context)


def gate(error: BaseException | None, **given: Any) -> Gate:
    made = Gate(
        task_id="gate",
        deliverable=Deliverable("svc"),
        environment="production",
        parents=["b" * 64, None],
        **given,
    )
    made.error = error
    return made


def test_the_word_has_the_reason_and_what_was_found_and_no_more_than_fits(context: Any) -> None:
    remember("hunter22hunter22")
    context["ti"].try_number = 2
    with pytest.raises(AirflowFailException):
        gate(GateFailed("worse by hunter22hunter22")).execute(context)
    said = context["ti"].xcoms[WORD]
    assert (said["try"], said["outcome"], said["error"]) == (2, "refused", "GateFailed")
    assert "hunter22" not in str(said)
    assert said["parents"] == ["b" * 64]
    assert [(one["kind"], "body" in one) for one in said["found"]] == [
        ("evaluation", True),
        ("release", False),
    ]
    record = failure(ENDED, said, "svc", ["release", "evaluation"], "")
    assert len(record.canonical()) < MAX_BYTES
    assert [one.name for one in record.evidence] == ["report.html"]
    assert (record.environment, record.body["of"]) == ("production", ["evaluation", "release"])
    assert Record.from_extra(record.to_extra()) == record


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ReleaseFailed("Degraded"), "refused"), (WaitTimeout("never healthy"), "refused"),
        (NotJudged("superseded"), "failed"), (Unreachable("no answer"), "failed"), (ValueError("none of ours"), "failed"),
    ],
)  # fmt: skip
def test_only_a_judgement_speaks_against_a_change(error: Exception, outcome: str) -> None:
    said = word(error, number=1, deliverable="svc", environment="production", parents=[], records=[], kept=[])
    assert said["outcome"] == outcome


def test_a_secret_is_out_of_a_reason_before_it_is_cut_and_one_of_any_connection_too(context: Any) -> None:
    from airflow.sdk.log import mask_secret  # type: ignore[attr-defined]

    remember("hunter22hunter22")
    mask_secret("of-another-connection")
    said = "x" * 1990 + "hunter22hunter22"
    for error in (
        RuntimeError(said),
        RuntimeError("of-another-connection"),
        RuntimeError("password=open-sesame"),
    ):
        with pytest.raises(RuntimeError):
            gate(error).execute(context)
        reason = context["ti"].xcoms[WORD]["reason"]
        assert "***" in reason
        assert not any(part in reason for part in ("hunter", "another", "sesame"))


def test_an_error_that_no_record_could_hold_is_told_as_far_as_it_can_be(context: Any) -> None:
    with pytest.raises(ValueError, match="no file"):
        gate(ValueError("no file /data/\udce9.csv")).execute(context)
    said = context["ti"].xcoms[WORD]
    assert failure(ENDED, said, "svc", ["release"], "").body["reason"] == "no file /data/?.csv"


def test_an_error_that_names_another_as_its_cause_is_told_itself(context: Any) -> None:
    error = Unreachable("the registry answers no more")
    error.__cause__ = GateFailed("worse")
    with pytest.raises(Unreachable):
        gate(error).execute(context)
    said = context["ti"].xcoms[WORD]
    assert (said["outcome"], said["error"]) == ("failed", "Unreachable")


def test_what_ends_otherwise_leaves_no_word_and_what_fails_elsewhere_does(context: Any) -> None:
    gate(None).execute(context)
    with pytest.raises(AirflowSkipException):
        gate(AirflowSkipException()).execute(context)
    nobodys = Gate(task_id="gate")
    nobodys.error = Unreachable("down")
    with pytest.raises(Unreachable):
        nobodys.execute(context)
    assert context["ti"].xcoms == {}
    with pytest.raises(TaskDeferralTimeout):
        gate(None).resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert context["ti"].xcoms[WORD]["error"] == "TaskDeferralTimeout"
    with pytest.raises(Unreachable):
        gate(Unreachable("down")).resume_execution("execute_complete", None, context)
    assert (context["ti"].xcoms[WORD]["outcome"], context["ti"].xcoms[WORD]["reason"]) == ("failed", "down")


def test_the_assets_of_a_task_tell_whom_it_is_about() -> None:
    uris = [
        "pipeops://a/release/staging",
        "pipeops://a/change/staging",
        "pipeops://a/retrain",
        "pipeops://b/signal/push",
    ]
    assert about([*uris, "pipeops://c/release/x", "pipeops://c/release/y", "pipeops://d/image"]) == {
        "a": ({"release", "change", "decision"}, "staging"), "c": ({"release"}, ""), "d": ({"image"}, ""),
    }  # fmt: skip


def test_a_worker_that_said_nothing_is_told_of_as_unknown() -> None:
    record = failure(ENDED, {}, "svc", ["release"], "staging")
    assert (record.body["outcome"], record.body["found"], record.environment) == ("unknown", [], "staging")
    assert "Nobody said why" in record.body["reason"]


def test_what_was_found_of_one_deliverable_is_not_told_of_another() -> None:
    found = [{"kind": "release", "id": "a" * 64, "deliverable": "svc", "body": {}}]
    said = {
        "outcome": "refused",
        "reason": "bad",
        "deliverable": "svc",
        "environment": "x",
        "parents": ["b" * 64],
        "found": found,
    }
    own, other = (failure(ENDED, said, name, ["release"], "") for name in ("svc", "other"))
    assert (own.environment, own.parents, len(own.body["found"])) == ("x", ("b" * 64,), 1)
    assert (other.environment, other.parents, other.body["found"], other.body["reason"]) == (
        None,
        (),
        [],
        "bad",
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's own tables, with a task of a deliverable and one of nobody's."""
    from airflow.models import import_all_models
    from airflow.models.asset import AssetModel, TaskOutletAssetReference
    from airflow.models.base import Base

    import_all_models()
    path = tmp_path_factory.mktemp("tables") / "airflow.db"
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(AssetModel(id=1, name="svc.image", uri="pipeops://svc/image", group="pipeops", extra={}))
        session.add(AssetModel(id=2, name="other", uri="s3://bucket/other", group="x", extra={}))
        for task, asset in (("build", 1), ("build", 2), ("elsewhere", 2)):
            session.add(TaskOutletAssetReference(asset_id=asset, dag_id="dag", task_id=task))
        session.commit()
    engine.dispose()
    return path


@pytest.fixture
def airflow(made: Path, tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{shutil.copy(made, tmp_path)}")
    yield engine
    engine.dispose()


def ended(
    engine: Engine,
    task: str = "build",
    number: int = 1,
    state: str = "failed",
    at: datetime = NOW,
    **given: Any,
) -> None:
    """Let Airflow know of a try."""
    from airflow.models.taskinstance import TaskInstance

    known = {
        "id": uuid.uuid4(), "dag_id": "dag", "run_id": "run", "task_id": task, "map_index": -1, "try_number": number,
        "max_tries": 1, "state": state, "end_date": at, "operator": "Gate", "pool": "default", "pool_slots": 1, "queue": "q",
        "priority_weight": 1, "custom_operator_name": "", "executor_config": {}, "updated_at": at, **given,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(TaskInstance.__table__.insert().values(**known))


def told(engine: Engine) -> list[tuple[Any, ...]]:
    """The failures that have an event."""
    from airflow.models.asset import AssetEvent, AssetModel

    columns = (AssetEvent.source_task_id, AssetEvent.source_map_index, AssetEvent.extra)
    with engine.connect() as connection:
        rows = connection.execute(
            select(*columns)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetModel.uri == "pipeops://svc/failure")
        )
        return sorted((task, index, extra["body"]["try"]) for task, index, extra in rows)


def test_each_try_that_failed_for_good_is_recorded_once_by_whoever_looks(airflow: Engine) -> None:
    one, other = Failures(airflow), Failures(airflow)
    ended(airflow)
    ended(airflow, map_index=7, number=3)
    ended(airflow, run_id="good", state="success")
    ended(airflow, run_id="again", state="up_for_retry")
    ended(airflow, run_id="above", state="upstream_failed")
    ended(airflow, run_id="old", at=NOW - timedelta(days=8))
    ended(airflow, task="elsewhere")
    assert one.pending
    assert other.pending
    one.take_up()
    wanted = [("build", -1, 1), ("build", 7, 3)]
    assert told(airflow) == wanted
    for each in (one, other, Failures(airflow)):
        each.take_up()
        each._rests_until = 0.0
        assert not each.pending
    assert told(airflow) == wanted
    with airflow.begin() as connection:  # cleared, and it failed again
        connection.execute(
            text("UPDATE task_instance SET try_number = 2 WHERE map_index = -1 AND run_id = 'run'")
        )
    other.take_up()
    assert told(airflow) == [("build", -1, 1), ("build", -1, 2), ("build", 7, 3)]


def test_a_clock_of_a_worker_that_is_ahead_makes_no_second_record(airflow: Engine) -> None:
    ended(airflow, at=NOW + timedelta(hours=3))
    for _ in range(3):
        Failures(airflow).take_up()
    assert told(airflow) == [("build", -1, 1)]


def test_whoever_is_killed_while_it_writes_leaves_nothing_half_and_nothing_twice(airflow: Engine) -> None:
    for number in range(6):
        ended(airflow, map_index=number)
    airflow.dispose()
    for death in range(1, 7):
        if (pid := os.fork()) == 0:
            failures._AT_ONCE, written, emit = 2, [], failures._emit  # type: ignore[misc]

            def dying(
                *given: Any, emit: Any = emit, written: list[int] = written, death: int = death
            ) -> None:
                emit(*given)
                written.append(1)
                if len(written) == death:
                    os.kill(os.getpid(), 9)

            failures._emit = dying
            Failures(airflow).take_up()
            os._exit(0)
        os.waitpid(pid, 0)
    Failures(airflow).take_up()
    assert told(airflow) == [("build", number, 1) for number in range(6)]


def test_what_makes_no_record_is_said_and_stops_nobody(
    airflow: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.models.xcom import XComModel

    for number, said in enumerate(
        ['{"try": 1, "evidence": [{}]}', '{"try": 1, "parents": 5}', "s3://somewhere", '"text"', "{}"]
    ):
        ended(airflow, map_index=number)
        with airflow.begin() as connection:
            connection.execute(
                XComModel.__table__.insert().values(
                    dag_run_id=1,
                    dag_id="dag",
                    run_id="run",
                    task_id="build",
                    map_index=number,
                    key=WORD,
                    value=said,
                    timestamp=NOW,
                )
            )
    Failures(airflow).take_up()
    assert told(airflow) == [("build", number, 1) for number in range(5)]
    assert caplog.text.count("makes no record") == 1
    with airflow.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM asset WHERE name = 'svc.failure'")).scalar() == 1


def test_a_reason_is_kept_where_the_rest_is_more_than_a_record_has_room_for(
    airflow: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.asset import AssetEvent

    files = [
        {"name": f"{number}.html", "uri": "s3://" + "x" * 900, "sha256": "0" * 64} for number in range(20)
    ]
    left = {"try": 1, "outcome": "refused", "error": "GateFailed", "reason": "worse", "evidence": files}
    monkeypatch.setattr(failures, "_said", lambda session, ended: left)
    ended(airflow)
    Failures(airflow).take_up()
    with Session(airflow) as session:
        (extra,) = session.scalars(select(AssetEvent.extra))
    assert (extra["body"]["outcome"], extra["body"]["reason"], extra["evidence"]) == ("refused", "worse", [])


@pytest.mark.parametrize("body", [{"try": []}, {"try": {"a": 1}}, {"try": True}, [], "x"], ids=str)
def test_an_event_by_hand_is_no_record_of_a_try_and_stops_nobody(airflow: Engine, body: Any) -> None:
    from airflow.models.asset import AssetEvent, AssetModel

    with Session(airflow) as session:
        session.add(AssetModel(id=9, name="svc.failure", uri="pipeops://svc/failure", group="x", extra={}))
        source = {
            f"source_{part}": value for part, value in zip(("dag_id", "run_id"), ("dag", "run"), strict=True)
        }
        session.add(
            AssetEvent(
                asset_id=9, extra={"body": body}, source_task_id="build", source_map_index=-1, **source
            )
        )
        session.commit()
    ended(airflow)
    Failures(airflow).take_up()
    with Session(airflow) as session:
        extras = list(session.scalars(select(AssetEvent.extra).order_by(AssetEvent.id)))
    assert [extra.get("kind") for extra in extras] == [None, "failure"]


@pytest.mark.parametrize("cleared", [False, True])
def test_a_failure_that_a_dag_waits_for_names_its_task_though_it_is_cleared_meanwhile(
    airflow: Engine, monkeypatch: pytest.MonkeyPatch, cleared: bool
) -> None:
    from airflow.models.asset import AssetActive, AssetEvent, AssetModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

    with Session(airflow) as session:
        session.add(AssetModel(id=9, name="svc.failure", uri="pipeops://svc/failure", group="x", extra={}))
        session.add(AssetActive(name="svc.failure", uri="pipeops://svc/failure"))
        run = {"dag_id": "dag", "run_id": "run", "run_type": "manual", "state": "failed", "run_after": NOW}
        session.execute(DagRun.__table__.insert().values(**run))
        session.commit()
    ended(airflow)

    def read(session: Session, ended: Ended) -> dict[str, Any]:
        if cleared:
            session.execute(TaskInstance.__table__.delete())  # it has another id from now on
        return {}

    monkeypatch.setattr(failures, "_said", read)
    Failures(airflow).take_up()
    with Session(airflow) as session:
        event = session.scalars(select(AssetEvent)).one()
        assert (event.source_dag_id, event.source_run_id, event.source_task_id) == ("dag", "run", "build")
