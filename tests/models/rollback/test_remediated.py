"""The model before is let run again by the remediator: its operator, a real repository, and a real registry behind HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.models.rollback.proof import Proof
from airflow_pipeops.operations.remediation.operators import RemediateOperator, VerifyRemediationOperator
from tests.models.rollback.conftest import BAD, DESIRED, FILE, OLD, Sides

MODEL = Deliverable("m")
POLICY = {
    "mode": "act",
    "rules": [
        {
            "name": "model before", "finding": "drift", "action": "roll_back_model", "patience": 0.001,
            "window": 0.001, "parameters": {"file": FILE, "fields": dict(DESIRED.fields)},
        }
    ],
}  # fmt: skip


@pytest.fixture
def ready(sides: Sides, connections: Any, tmp_path: Path) -> Sides:
    """Both sides, and the history, by their connections."""
    (tmp_path / "history").mkdir()
    connections("pipeops_remediation", "pipeops_storage", (tmp_path / "history").as_uri())
    connections("pipeops_gitops_repo", "git_repository", str(sides.remote.path))
    connections("mlflow_default", "mlflow", sides.registry.tracking_uri)
    return sides


def answer(context: Any, order: Any) -> RemediateOperator:
    at = datetime.now(timezone.utc).isoformat()
    operator = RemediateOperator(
        task_id="remediate",
        finding={"kind": "drift", "at": at, "reason": "worse on 20 days", "target": {"order": order}},
        policy=POLICY,
        deliverable=MODEL,
        environment="production",
    )
    context["inlet_events"] = dict.fromkeys(operator._read(), ())
    return operator


def test_the_model_before_runs_again_and_helps(ready: Sides, context: Any) -> None:
    act = answer(context, ready.order.to_json())
    found = act.execute(context)
    assert (found["outcome"], found["state"]) == ("act", "acted")
    assert found["result"]["set"] == {"model.uri": "file:///a/1", "model.sha256": OLD, "model.version": "1"}
    assert ready.state() == (OLD, "2", True), (
        "Git wants it, the bad one is blocked, the alias waits for a proof"
    )
    assert ready.remote.show(FILE).startswith("replicas: 1  # stays\n")
    (_, said), (asset, change) = act.emitted
    assert (asset, change.body["commit"]) == (MODEL.changed("production"), ready.remote.tip())
    assert change.parents == (said.id,)
    again = act.execute(context)  # as after a death
    assert (again["outcome"], again["operation"]) == ("go on", found["operation"])
    assert ready.remote.tip() == found["result"]["commit"], "one commit"

    def judge(finding: Any) -> str:
        return (
            "clear" if DESIRED.digest(ready.git()) == finding["target"]["order"]["before_sha256"] else "still"
        )

    ended = VerifyRemediationOperator(
        task_id="verify",
        remediation=found,
        judge=judge,
        policy=POLICY,
        deliverable=MODEL,
        environment="production",
        interval=timedelta(seconds=1),
    )
    with pytest.raises(TaskDeferred):
        ended.execute(context)
    assert ended.execute_look(context)["state"] == "helped"
    seen = Proof("endpoint", OLD, datetime.now(timezone.utc).isoformat(), "http://m")
    ready.rollback().finish(seen, found["result"]["commit"])
    assert ready.state() == (OLD, "1", True), "the alias follows, as docs/remediation.md says"


@pytest.mark.parametrize("verdict", ["no worse", "cannot tell", ""])
def test_a_release_that_was_not_found_worse_is_not_taken_back(
    ready: Sides, context: Any, verdict: str
) -> None:
    """The guard writes an order whatever it has found."""
    tip = ready.remote.tip()
    found = answer(context, {**ready.order.to_json(), "verdict": verdict}).execute(context)
    assert (found["outcome"], found["stage"]) == ("refuse", "precondition")
    assert "found worse" in found["reason"]
    assert (ready.remote.tip(), ready.state()) == (tip, (BAD, "2", False))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"before_sha256": "9" * 64}, "was ordered"),
        ({"model": None}, "the order has no model"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_a_persons(
    ready: Sides, context: Any, wrong: dict[str, Any], said: str
) -> None:
    tip = ready.remote.tip()
    found = answer(context, {**ready.order.to_json(), **wrong}).execute(context)
    assert (found["state"], found["helped"], found["called"]) == ("handed_over", False, 1)
    assert ready.remote.tip() == tip
    assert ready.state() == (BAD, "2", False), "neither side was touched"
    refused = answer(context, ready.order.to_json()).execute(context)
    assert (refused["stage"], said in refused["reason"]) == ("lock", True), refused["reason"]
