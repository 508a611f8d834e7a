"""The operator, the watcher and the callback, with a real API server and its database."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops import AnomalyPolicy, Deliverable, JudgeRun, RunAnomalyOperator, RunAnomalyTrigger
from airflow_pipeops.operations.remediation.findings import Finding
from airflow_pipeops.operations.remediation.judges import seen_in_airflow
from tests.ledgers import event as as_read
from tests.ui.conftest import Server, running

#: A DAG that loads each hour, one that waits for it, and one of somebody else.
_DAGS = """
from airflow.sdk import DAG, Asset
from airflow.providers.standard.operators.empty import EmptyOperator
made = Asset("made")
with DAG("load", schedule="@hourly", tags=["watched"], catchup=False, is_paused_upon_creation=False):
    EmptyOperator(task_id="load", outlets=[made], owner="ann")
with DAG("report", schedule=[made], tags=["watched"], is_paused_upon_creation=False):
    EmptyOperator(task_id="report", owner="ann")
with DAG("other", schedule=None):
    EmptyOperator(task_id="other", owner="joann")
"""
#: 150 hourly runs; the last ended one of both took six times as long, and one has been running for five hours.
_RUNS = """
import random
from datetime import datetime, timedelta, timezone
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
rng, now = random.Random(1), datetime.now(timezone.utc)
with create_session() as session:
    for dag, kind, usual in (("load", "scheduled", 600), ("report", "asset_triggered", 300)):
        for back in range(150, 4, -1):
            start = now - timedelta(hours=back)
            took = timedelta(seconds=usual * rng.lognormvariate(0, 0.1) * (6 if back == 8 else 1))
            ended = back > 5 or dag == "report"
            run = DagRun(
                dag_id=dag, run_id=f"{dag}-{back}h", run_type=kind, state="success" if ended else "running",
                run_after=start, logical_date=start if kind == "scheduled" else None,
                start_date=start, queued_at=start - timedelta(seconds=rng.uniform(5, 9)),
            )
            run.end_date = start + took if ended else None
            session.add(run)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("airflow"), dags=_DAGS, people="") as found:
        found.python(_RUNS)
        yield found


@pytest.fixture
def connection(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    given = {"conn_type": "http", "host": server.url, "login": "admin", "password": "pass"}
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps(given))
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", tmp_path.as_uri())
    return server.url


SHOP = Deliverable("shop")


@pytest.mark.usefixtures("connection")
def test_a_look_finds_what_hangs_together_and_tells_it_once(context: dict[str, Any], tmp_path: Path) -> None:
    context["inlet_events"] = defaultdict(list)
    look = RunAnomalyOperator(task_id="look", deliverable=SHOP, tags=["watched"])
    found = look.execute(context)
    assert found["cannot_tell"] == 0
    slow = next(alarm for alarm in found["alarms"] if alarm["root"] == "load")
    assert slow["subjects"] == ["load", "report"]
    assert "1 downstream are unusual, too" in slow["reason"]
    kept = json.loads(next(tmp_path.rglob("anomalies.json")).read_text())
    findings = {(one["subject"], one["finding"], one["run"]) for one in kept["verdicts"]}
    assert ("load", "too slow", "load-8h") in findings
    assert ("report", "too slow", "report-8h") in findings
    assert ("load", "too slow", "load-5h") in findings, "it still runs"
    assert ("load", "missing", "") in findings
    page = next(tmp_path.rglob("anomalies.html")).read_text()
    assert "still runs after" in page
    assert found["record_id"]

    asset = SHOP.asset("anomaly")
    told = context["outlet_events"][asset].extra
    assert told["body"]["open"]
    assert len([path for path in told["evidence"]]) == 2
    again = dict(context, outlet_events=context["outlet_events"])
    again["inlet_events"] = defaultdict(list, {asset: [event(told, asset)]})
    next_look = RunAnomalyOperator(task_id="look", deliverable=SHOP, tags=["watched"])
    assert next_look.execute(again)["count"] == 0


@pytest.mark.usefixtures("connection")
def test_a_look_goes_back_to_the_one_before_however_long_ago(context: dict[str, Any]) -> None:
    def roots(hours: float | None) -> set[str]:
        at = time.time() - 3600 * (hours or 0)
        said = [datetime.fromtimestamp(back, timezone.utc).isoformat() for back in (at, at - 86400)]
        context["ti"].xcoms["until"] = None if hours is None else said  # of all its earlier runs
        look = RunAnomalyOperator(task_id="look", tags=["watched"], lookback=timedelta(hours=1))
        alarms = look.execute(context)["alarms"]
        return {alarm["run"] for alarm in alarms if alarm["finding"] == "too slow"}

    assert "load-8h" in roots(20), "after an outage that is longer than the lookback"
    assert "load-8h" not in roots(0.5), "it was judged before"
    assert "load-8h" not in roots(None), "the first look goes back by the lookback alone"


def event(extra: dict[str, Any], asset: Any) -> Any:
    return as_read(extra, time.time(), SimpleNamespace(name=asset.name, uri=asset.uri))


@pytest.mark.usefixtures("connection")
def test_a_failed_run_is_looked_up_by_its_name_however_many_came_since(server: Server) -> None:
    add = """
from datetime import datetime, timedelta, timezone
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
with create_session() as session:
    for back in range(350):
        state = {349: "failed", 348: "success"}.get(back, "queued")
        at = datetime.now(timezone.utc) - timedelta(hours=back)
        session.add(DagRun(dag_id="other", run_id=f"by-hand:{back}", run_type="manual", state=state, run_after=at))
"""
    server.python(add)
    sights = {}
    for run in ("by-hand:349", "by-hand:348", "by-hand:0", "gone"):
        target = {"dag": "other", "run": run}
        at = datetime.now(timezone.utc).isoformat()
        sights[run] = seen_in_airflow(Finding("failed_run", "shop", "production", at, "", target).to_json())
    assert {run: one["sight"] for run, one in sights.items()} == {
        "by-hand:349": "still",
        "by-hand:348": "clear",
        "by-hand:0": "cannot tell",
        "gone": "cannot tell",
    }
    assert sights["gone"]["reason"] == "The run gone is not there any more."


@pytest.mark.usefixtures("connection")
def test_one_dag_or_those_of_an_owner(context: dict[str, Any]) -> None:
    named = RunAnomalyOperator(task_id="look", dag_ids=["report"]).execute(context)
    assert {alarm["root"] for alarm in named["alarms"]} == {"report"}
    assert named["record_id"] is None
    assert RunAnomalyOperator(task_id="look", owners=["joann"]).execute(context)["looked"] == 0
    with pytest.raises(AirflowFailException, match="has no DAG gone"):
        RunAnomalyOperator(task_id="look", dag_ids=["gone"]).execute(context)


def test_who_may_not_log_in_is_told_so(
    server: Server, monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    given = {"conn_type": "http", "host": server.url, "login": "admin", "password": "s3cret-word"}
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps(given))
    with pytest.raises(AirflowFailException, match=r"AccessDenied: .*refused a token") as caught:
        RunAnomalyOperator(task_id="look", tags=["watched"]).execute(context)
    assert "s3cret-word" not in str(caught.value)


def looked(trigger: RunAnomalyTrigger) -> list[dict[str, Any]]:
    async def once() -> list[dict[str, Any]]:
        return [payload async for payload in trigger.look(None)]

    return asyncio.run(once())


@pytest.mark.usefixtures("connection")
def test_the_watcher_tells_of_a_hanging_run_once() -> None:
    trigger = RunAnomalyTrigger(tags=["watched"], policy=AnomalyPolicy(budget=5))
    path, arguments = trigger.serialize()
    assert path.endswith("watchers.RunAnomalyTrigger")
    told = looked(RunAnomalyTrigger(**json.loads(json.dumps(arguments))))
    first = looked(trigger)
    assert {(one["finding"], one["run"]) for one in first} == {("too slow", "load-5h"), ("missing", "")}
    assert [one["key"] for one in told] == [one["key"] for one in first], "told again, it has the same key"
    assert looked(trigger) == []


@pytest.mark.usefixtures("connection")
def test_the_callback_judges_the_run_that_ends(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []
    judge = JudgeRun(then=lambda verdict, context: heard.append(verdict["finding"]))
    judge({"ti": SimpleNamespace(dag_id="load", run_id="load-5h")})
    assert heard == ["too slow"]
    verdict = judge.judged("load", "load-5h")
    alone = JudgeRun(sharing=1).judged("load", "load-5h")
    assert verdict.alpha == pytest.approx(alone.alpha / 2, rel=1e-3), (
        "the budget is that of both of ann's DAGs"
    )
    judge({"ti": SimpleNamespace(dag_id="load", run_id="gone")})
    assert "run 'gone' is not among the last runs of load" in caplog.text
    assert heard == ["too slow"]


def test_a_callback_fails_no_task_when_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AIRFLOW_API", raising=False)
    JudgeRun(airflow_conn_id="nobody_made")({"ti": SimpleNamespace(dag_id="load", run_id="1")})
    assert "Nobody can tell whether this run is unusual" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"deploys": "nothing"}, "deploys"),
        ({"series": [{"name": "x"}]}, "series"),
        ({"series": [7]}, "series"),
        (
            {"series": [{"name": "x", "kind": "cost", "values": [["2026-03-01T00:00:00Z", 10**400]]}]},
            "is no value",
        ),
        (
            {"series": [{"name": "x", "kind": "cost", "values": [["0001-01-01T00:00:00+23:00", 1]]}]},
            "is no value",
        ),
        ({"tags": "nightly"}, "tags is 'nightly'"),
        ({"dag_ids": [None]}, "dag_ids is"),
    ],
)
def test_what_cannot_be_read_is_said_before_anything_is_asked(
    arguments: dict[str, Any], field: str, context: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match=field):
        RunAnomalyOperator(
            task_id="look", airflow_conn_id="nobody_made", **{"tags": ["watched"], **arguments}
        ).execute(context)


def test_series_that_are_handed_over(context: dict[str, Any]) -> None:
    now = time.time()
    values = [[_iso(now - (60 - hour) * 3600), 100.0 + hour % 3] for hour in range(60)]
    values[-1][1] = 5000.0
    series = json.dumps([{"name": "orders", "kind": "lag", "values": values}])
    found = RunAnomalyOperator(task_id="look", series=series).execute(context)
    assert [(alarm["root"], alarm["finding"]) for alarm in found["alarms"]] == [("orders", "too far behind")]


def _iso(seconds: float) -> str:
    from airflow_pipeops.operations.anomalies.verdict import iso

    return iso(seconds)


def test_a_watcher_of_nothing_is_refused() -> None:
    from airflow_pipeops.exceptions import InvalidInput

    with pytest.raises(InvalidInput, match="no DAG is named"):
        RunAnomalyTrigger()
    with pytest.raises(InvalidInput, match="tags is 'nightly'"):
        RunAnomalyTrigger(tags="nightly")
