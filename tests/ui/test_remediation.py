"""The remediator's hands on a real API server: each act finds itself if it was done."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_pipeops.base.connections import work_with
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, Unreachable
from airflow_pipeops.operations.airflow_api import AirflowApi
from airflow_pipeops.operations.remediation.operators import RemediateOperator
from tests.ui.conftest import Server

DAG = "code_to_release"


def asked(server: Server, method: str, path: str, **sent: Any) -> Any:
    """Ask Airflow itself."""
    headers = {"Authorization": f"Bearer {server.token('admin')}"}
    answer = httpx.request(
        method, f"{server.url}/api/v2{path}", headers=headers, json=sent or None, timeout=60
    )
    assert answer.is_success, answer.text
    return answer.json()


def failed(server: Server, run: str) -> str:
    """Start a run of which a task has failed."""
    asked(server, "POST", f"/dags/{DAG}/dagRuns", dag_run_id=run, logical_date=None)
    fail(server, run)
    return run


def fail(server: Server, run: str) -> None:
    asked(server, "PATCH", f"/dags/{DAG}/dagRuns/{run}/taskInstances/approve", new_state="failed")


def state(server: Server, run: str) -> str | None:
    found: str | None = asked(server, "GET", f"/dags/{DAG}/dagRuns/{run}/taskInstances/approve")["state"]
    return found


class Calls:
    """Calls of the client, from tests that are not asynchronous; opened for each, as the hands do it."""

    def __init__(self, url: str, username: str, password: str, timeout: float = 20) -> None:
        self.api = AirflowApi(url, username, password, timeout=timeout)

    def __getattr__(self, name: str) -> Any:
        return lambda *given: work_with(self.api, lambda opened: getattr(opened, name)(*given))


@pytest.fixture
def api(server: Server) -> Calls:
    return Calls(server.url, "admin", "pass", timeout=60)


def test_a_task_is_cleared_once_for_each_operation(server: Server, api: Calls) -> None:
    run = failed(server, "retry")
    assert api.retry_task(DAG, run, "approve", -1, "remediation one")
    assert state(server, run) is None
    fail(server, run)
    assert api.retry_task(DAG, run, "approve", -1, "remediation one")
    assert state(server, run) == "failed", "it was cleared before, and has failed again"
    assert api.retry_task(DAG, run, "approve", -1, "remediation two")
    assert state(server, run) is None
    assert not api.retry_task(DAG, run, "approve", -1, "remediation three"), "it has not failed"


def test_what_failed_in_a_run_is_cleared_once(server: Server, api: Calls) -> None:
    run = failed(server, "clear")
    assert api.clear_failed(DAG, run, "remediation one")
    fail(server, run)
    assert api.clear_failed(DAG, run, "remediation one")
    assert state(server, run) == "failed"


def test_a_dag_is_paused_and_resumed(api: Calls) -> None:
    before = api.paused(DAG)
    api.pause(DAG, True)
    assert api.paused(DAG)
    api.pause(DAG, False)
    assert not api.paused(DAG)
    api.pause(DAG, before)


def test_an_upstream_is_started_once(server: Server, api: Calls) -> None:
    assert api.start("drift_to_retrain", "remediation__1", {"month": 3}, "remediation 1")
    assert not api.start("drift_to_retrain", "remediation__1", {"month": 3}, "remediation 1")
    runs = asked(server, "GET", "/dags/drift_to_retrain/dagRuns?run_id_pattern=remediation__1")["dag_runs"]
    assert [run["conf"] for run in runs] == [{"month": 3}]


def test_errors_say_what_is_wrong(server: Server, api: Calls) -> None:
    with pytest.raises(NotFound, match="DAG nowhere"):
        api.paused("nowhere")
    with pytest.raises(NotFound):
        api.retry_task(DAG, "no-run", "approve", -1, "x")
    for name in ("..", "~", "", None):
        with pytest.raises(InvalidInput, match="names nothing"):
            api.paused(name)
    with pytest.raises(NotFound):
        api.paused("a/../code_to_release")
    with pytest.raises(AccessDenied):
        Calls(server.url, "admin", "wrong").paused(DAG)
    with pytest.raises(AccessDenied):
        Calls(server.url, "viewer", "pass", timeout=60).pause(DAG, True)
    with pytest.raises(AccessDenied) as refused:
        Calls(server.url, "", "made-up-token").paused(DAG)
    assert "made-up-token" not in str(refused.value)
    with pytest.raises(Unreachable):
        Calls("http://127.0.0.1:1", "", "x", timeout=2).pause(DAG, True)


def test_a_finding_leads_to_one_act(server: Server, tmp_path: Any, context: Any, monkeypatch: Any) -> None:
    """The whole way: a task, its connections, the policy, Airflow; and the task once more, as after a death."""
    host = {
        "conn_type": "http",
        "host": server.url,
        "login": "admin",
        "password": "pass",
        "extra": {"timeout": 60},
    }
    (tmp_path / "history").mkdir()
    root = {"conn_type": "pipeops_storage", "host": (tmp_path / "history").as_uri()}
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps(host))
    monkeypatch.setenv("AIRFLOW_CONN_PIPEOPS_REMEDIATION", json.dumps(root))
    from datetime import datetime, timezone

    run = failed(server, "whole")
    operator = RemediateOperator(
        task_id="remediate",
        finding={
            "kind": "failed_run", "at": datetime.now(timezone.utc).isoformat(), "reason": "approve has failed",
            "target": {"dag": DAG, "run": run},
        },
        policy={"mode": "act", "rules": [{"name": "again", "finding": "failed_run", "action": "clear_failed"}]},
        deliverable=Deliverable("delays"), environment="production",
    )  # fmt: skip
    context["inlet_events"] = dict.fromkeys(operator._read(), ())
    found = operator.execute(context)
    assert (found["outcome"], found["state"], found["result"]) == ("act", "acted", {"changed": True})
    assert state(server, run) is None
    fail(server, run)
    again = operator.execute(context)
    assert (again["outcome"], again["operation"]) == ("go on", found["operation"])
    assert state(server, run) == "failed", "it is not cleared again"
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps({**host, "extra": {"remediation": "stop"}}))
    assert operator.execute(context)["stage"] == "kill_switch"
