"""The part of the suite that drives no fault: against a real server where ``PIPEOPS_TEST_ARGO_WORKFLOWS`` names one.

Each test says in its name which of the two it ran against. A real server needs the image ``alpine``, and
a token that may do all that the operators do in the namespace. Beside the server's URL there are

- ``PIPEOPS_TEST_ARGO_WORKFLOWS_TOKEN``: that token;
- ``PIPEOPS_TEST_ARGO_WORKFLOWS_NAMESPACE``: the namespace (``argo``);
- ``PIPEOPS_TEST_ARGO_WORKFLOWS_ACCOUNT``: a service account that pods can run as (that of the namespace);
- ``PIPEOPS_TEST_ARGO_WORKFLOWS_EXTRA``: what else the connection is to say, as JSON: ``{"ca_file": "/path/of/ca.pem"}``,
  since a server that was just installed has signed its certificate itself.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
from airflow_pipeops.argo_workflows.operators import (
    ArgoCronWorkflowOperator,
    ArgoCronWorkflowSuspendOperator,
    ArgoWorkflowOperator,
    ArgoWorkflowResumeOperator,
    ArgoWorkflowRetryOperator,
    ArgoWorkflowStopOperator,
    ArgoWorkflowSuspendOperator,
)
from airflow_pipeops.argo_workflows.sensors import ArgoWorkflowSensor
from tests.argo_workflows.conftest import connect
from tests.argo_workflows.running import run, task
from tests.argo_workflows.server import Plan, serving_argo

REAL = os.environ.get("PIPEOPS_TEST_ARGO_WORKFLOWS", "")
NAMESPACE = os.environ.get("PIPEOPS_TEST_ARGO_WORKFLOWS_NAMESPACE", "argo")
ACCOUNT = os.environ.get("PIPEOPS_TEST_ARGO_WORKFLOWS_ACCOUNT", "")
EXTRA = json.loads(os.environ.get("PIPEOPS_TEST_ARGO_WORKFLOWS_EXTRA", "{}"))
AS: dict[str, Any] = {"serviceAccountName": ACCOUNT} if ACCOUNT else {}
HELLO: dict[str, Any] = {
    "spec": {
        **AS,
        "entrypoint": "main",
        "arguments": {"parameters": [{"name": "who", "value": "world"}]},
        "templates": [
            {
                "name": "main",
                "container": {
                    "image": "alpine",
                    "command": ["echo"],
                    "args": ["hello {{workflow.parameters.who}}"],
                },
            }
        ],
    }
}
PAUSE: dict[str, Any] = {
    "spec": {**AS, "entrypoint": "main", "templates": [{"name": "main", "suspend": {"duration": "600"}}]}
}

FAILS: dict[str, Any] = {
    "spec": {
        **AS,
        "entrypoint": "main",
        "templates": [
            {
                "name": "main",
                "container": {"image": "alpine", "command": ["sh", "-c"], "args": ["echo no rows; exit 3"]},
            }
        ],
    }
}


def reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the connection to the real server."""
    token = os.environ.get("PIPEOPS_TEST_ARGO_WORKFLOWS_TOKEN", "")
    connect(monkeypatch, REAL, token, **{"namespace": NAMESPACE, **EXTRA})


@pytest.fixture(params=["a real server" if REAL else "the server for tests"])
def plan(request: pytest.FixtureRequest, warm: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """How the server for tests runs workflows; a real one does as it does."""
    if REAL:
        reach(monkeypatch)
        yield Plan()
        return
    with serving_argo() as server:
        connect(monkeypatch, server.url)
        server.plan = Plan()
        yield server.plan


operator = partial(task, ArgoWorkflowOperator, workflow=HELLO, timeout=timedelta(minutes=5))


def test_the_connection_is_good(plan: Plan) -> None:
    passed, message = ArgoWorkflowsHook().test_connection()
    assert passed, message
    assert message.startswith("Argo Workflows v")


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_workflow_is_run_once(plan: Plan, context: dict[str, Any], deferrable: bool) -> None:
    first = run(operator(deferrable=deferrable, parameters={"who": "you"}), context)
    again = run(operator(deferrable=deferrable), context)
    assert (first["phase"], first["uid"], first["attached"]) == ("Succeeded", again["uid"], False)
    assert again["attached"] is True
    assert first["progress"] == "1 of 1 nodes done"


@pytest.mark.skipif(not REAL, reason="the server for tests runs no containers, so nothing is printed")
def test_what_it_prints_is_in_the_tasks_log(
    plan: Plan, context: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    log.set_level(logging.INFO)
    run(operator(), context)
    assert "hello world" in log.text


def test_a_failure_is_told(plan: Plan, context: dict[str, Any]) -> None:
    plan.phase = "Failed"
    with pytest.raises(AirflowFailException, match="nodes that failed"):
        run(operator(workflow=FAILS), context)


def test_what_lint_finds(plan: Plan, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="nothing"):
        run(operator(workflow={"spec": {**HELLO["spec"], "entrypoint": "nothing"}}), context)


def test_a_workflow_is_suspended_resumed_and_stopped(plan: Plan, context: dict[str, Any]) -> None:
    plan.seconds = 600
    label = f"t{uuid.uuid4().hex[:8]}"
    made = operator(
        workflow=PAUSE, labels={"pipeops-test": label}, timeout=timedelta(seconds=1), on_kill="leave"
    )
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        run(made, context)
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        run(task(ArgoWorkflowSensor, labels=f"pipeops-test={label}", timeout=timedelta(seconds=1)), context)
    hook = ArgoWorkflowsHook()
    (item,) = hook.run(lambda client: client.find(hook.namespace, f"pipeops-test={label}"))
    name = item["metadata"]["name"]
    for cls, suspended in ((ArgoWorkflowSuspendOperator, True), (ArgoWorkflowResumeOperator, False)):
        assert run(cls(task_id="task", name=name), context)["suspended"] is suspended
    assert run(task(ArgoWorkflowStopOperator, name=name), context)["phase"] in ("Failed", "Succeeded")


def test_a_stopped_workflow_is_retried(plan: Plan, context: dict[str, Any]) -> None:
    plan.phase = "Failed"
    with pytest.raises(AirflowFailException):
        run(operator(workflow=FAILS), context)
    noted = context["task_state_store"].get("pipeops_argo_workflow")
    made = task(ArgoWorkflowRetryOperator, name=noted["name"], wait=False)
    assert run(made, context)["uid"] == noted["uid"]


def test_a_cron_workflow(plan: Plan, context: dict[str, Any]) -> None:
    name = f"pipeops-{uuid.uuid4().hex[:8]}"
    cron = {"metadata": {"name": name}, "spec": {"schedules": ["0 0 1 1 *"], "workflowSpec": HELLO["spec"]}}
    assert run(ArgoCronWorkflowOperator(task_id="task", manifest=cron), context)["changed"] is True
    assert run(ArgoCronWorkflowOperator(task_id="task", manifest=cron), context)["changed"] is False
    assert run(ArgoCronWorkflowSuspendOperator(task_id="task", name=name), context)["suspended"] is True
    left = run(ArgoCronWorkflowOperator(task_id="task", manifest=cron), context)
    assert (left["changed"], left["suspended"]) == (False, True)
