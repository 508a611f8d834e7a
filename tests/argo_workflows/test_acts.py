"""The operators that act on a workflow, the sensor, cron workflows: over real HTTP."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.argo_workflows.operators import (
    ArgoCronWorkflowOperator,
    ArgoCronWorkflowSuspendOperator,
    ArgoWorkflowResubmitOperator,
    ArgoWorkflowResumeOperator,
    ArgoWorkflowRetryOperator,
    ArgoWorkflowStopOperator,
    ArgoWorkflowSuspendOperator,
    ArgoWorkflowTerminateOperator,
)
from airflow_pipeops.argo_workflows.operators.cron import bare
from airflow_pipeops.argo_workflows.sensors import ArgoWorkflowSensor
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError
from tests.argo_workflows.running import MANIFEST, Play, run, task, until
from tests.argo_workflows.server import ArgoServer, Plan
from tests.kubernetes.apiserver import Fault

BOTH = ("argo_workflows_default", "kubernetes_default")


def submitted(argo: ArgoServer, name: str = "theirs", **metadata: Any) -> str:
    return str(argo.submit({**MANIFEST, "metadata": {"name": name, **metadata}})["metadata"]["uid"])


# ---- stop, terminate ---------------------------------------------------------------------------------------------------


def test_a_copy_is_of_a_workflow_and_takes_no_manifest() -> None:
    assert {"workflow", "template"}.isdisjoint(ArgoWorkflowResubmitOperator.template_fields)
    assert "resubmit" in ArgoWorkflowResubmitOperator.template_fields
    for extra in ({"template": "train"}, {"workflow": MANIFEST}):
        with pytest.raises(TypeError):
            ArgoWorkflowResubmitOperator(task_id="copy", resubmit="theirs", **extra)


@pytest.mark.parametrize("conn_id", BOTH)
@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("cls", "shutdown"), [(ArgoWorkflowStopOperator, "Stop"), (ArgoWorkflowTerminateOperator, "Terminate")]
)
def test_a_workflow_is_ended_and_its_end_waited_for(
    argo: ArgoServer, context: dict[str, Any], cls: Any, shutdown: str, deferrable: bool, conn_id: str
) -> None:
    uid = submitted(argo)
    argo.begin("theirs")
    found = run(task(cls, name="theirs", deferrable=deferrable, argo_workflows_conn_id=conn_id), context)
    assert (found["phase"], found["uid"], found["changed"]) == ("Failed", uid, True)
    assert argo.one("theirs")["spec"]["shutdown"] == shutdown


def test_what_has_ended_is_left_as_it_is(argo: ArgoServer, context: dict[str, Any]) -> None:
    submitted(argo)
    argo.finish("theirs")
    found = run(task(ArgoWorkflowStopOperator, name="theirs"), context)
    assert (found["phase"], found["changed"]) == ("Succeeded", False)


def test_one_that_ends_while_it_is_stopped_is_no_error(argo: ArgoServer, context: dict[str, Any]) -> None:
    """The server says 500 of stopping what has ended."""
    submitted(argo)
    argo.begin("theirs")
    argo.faults.append(Fault("delay", method="PUT", seconds=1.0, count=1))

    def work(name: str) -> None:
        until(lambda: any(one.startswith("PUT") for one in argo.requests))
        argo.finish(name)

    with Play(argo, work):
        found = run(task(ArgoWorkflowStopOperator, name="theirs"), context)
    assert (found["phase"], found["changed"]) == ("Succeeded", False)


def test_a_lost_answer_to_a_stop_is_looked_up(argo: ArgoServer, context: dict[str, Any]) -> None:
    submitted(argo)
    argo.begin("theirs")
    argo.faults.append(Fault("lose", method="PUT", count=1))
    assert run(task(ArgoWorkflowStopOperator, name="theirs"), context)["changed"] is True


@pytest.mark.parametrize(("name", "said"), [("nothing", "does not exist"), ("", "is no name")])
def test_one_that_is_not_there(argo: ArgoServer, context: dict[str, Any], name: str, said: str) -> None:
    with pytest.raises(AirflowFailException, match=said):
        run(task(ArgoWorkflowStopOperator, name=name), context)


@pytest.mark.parametrize("knows_uid", [True, False])
@pytest.mark.parametrize("conn_id", BOTH)
@pytest.mark.parametrize(
    ("cls", "phase"),
    [
        (ArgoWorkflowStopOperator, ""),
        (ArgoWorkflowTerminateOperator, ""),
        (ArgoWorkflowSuspendOperator, ""),
        (ArgoWorkflowResumeOperator, ""),
        (ArgoWorkflowRetryOperator, "Failed"),
    ],
)
def test_with_a_uid_no_other_of_the_name_is_acted_on(
    argo: ArgoServer, context: dict[str, Any], cls: Any, phase: str, conn_id: str, knows_uid: bool
) -> None:
    """The server's acts know names alone: one of a workflow that is gone would meet the one that has its name now."""
    argo.knows_uid = knows_uid
    uid = submitted(argo)
    argo.finish("theirs", "Failed")
    argo.remove("theirs")
    submitted(argo)
    argo.begin("theirs")
    if phase:
        argo.finish("theirs", phase)
    before = argo.one("theirs")
    with contextlib.suppress(AirflowFailException, PipeOpsError):
        run(cls(task_id="task", name="theirs", uid=uid, argo_workflows_conn_id=conn_id), context)
    assert argo.one("theirs") == before


EMPTY: list[Any] = [
    (ArgoWorkflowStopOperator, {"name": "theirs"}, "uid"),
    (ArgoWorkflowRetryOperator, {"name": "theirs"}, "uid"),
    (ArgoWorkflowResubmitOperator, {"resubmit": "theirs"}, "uid"),
    (ArgoWorkflowSensor, {"name": "theirs"}, "uid"),
    (ArgoWorkflowSensor, {}, "name"),
    (ArgoWorkflowSensor, {}, "labels"),
]


@pytest.mark.parametrize("value", ["", None, "None"])
@pytest.mark.parametrize(("cls", "arguments", "field"), EMPTY)
def test_a_template_that_finds_no_value_means_no_workflow_and_not_any(
    argo: ArgoServer, context: dict[str, Any], cls: Any, arguments: dict[str, str], field: str, value: Any
) -> None:
    submitted(argo)
    argo.finish("theirs")
    made = task(cls, **arguments, **{field: "{{ params.nothing }}"})
    setattr(made, field, value)  # as Airflow renders it
    with pytest.raises(AirflowFailException, match=f"{field} was given, and is empty when the task runs"):
        run(made, context)
    assert len(argo.workflows()) == 1


# ---- suspend, resume ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conn_id", BOTH)
@pytest.mark.parametrize("lose", [False, True])
def test_a_workflow_is_suspended_and_resumed(
    argo: ArgoServer, context: dict[str, Any], conn_id: str, lose: bool
) -> None:
    submitted(argo)
    argo.begin("theirs")
    for cls, suspended in ((ArgoWorkflowSuspendOperator, True), (ArgoWorkflowResumeOperator, False)):
        if lose:
            argo.faults.append(Fault("lose", method="P*", count=1))
            argo.faults.append(Fault("lose", method="PUT", count=1))
        made = cls(task_id="task", name="theirs", argo_workflows_conn_id=conn_id)
        assert run(made, context)["suspended"] is suspended
        assert argo.one("theirs")["spec"].get("suspend", False) is suspended
        argo.faults.clear()


def test_what_has_ended_cannot_be_suspended(argo: ArgoServer, context: dict[str, Any]) -> None:
    submitted(argo)
    argo.finish("theirs")
    with pytest.raises(AirflowFailException, match="has ended already"):
        run(ArgoWorkflowSuspendOperator(task_id="task", name="theirs"), context)


def test_only_some_suspend_nodes_are_resumed(argo: ArgoServer, context: dict[str, Any]) -> None:
    submitted(argo)
    made = partial(
        ArgoWorkflowResumeOperator, task_id="task", name="theirs", node_selector="displayName=approve"
    )
    run(made(), context)
    assert argo.writes[-1][1]["nodeFieldSelector"] == "displayName=approve"
    with pytest.raises(AirflowFailException, match="cannot resume with nodeFieldSelector"):
        run(made(argo_workflows_conn_id="kubernetes_default"), context)


# ---- retry, resubmit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failed_workflow_is_retried_once_and_waited_for(
    argo: ArgoServer, context: dict[str, Any], deferrable: bool
) -> None:
    uid = submitted(argo)
    argo.finish("theirs", "Failed")
    argo.faults.append(Fault("lose", method="PUT", count=1))

    def work(name: str) -> None:
        until(lambda: argo.one(name)["status"]["phase"] == "Running")
        argo.finish(name)

    with Play(argo, work):
        found = run(task(ArgoWorkflowRetryOperator, name="theirs", deferrable=deferrable), context)
    assert (found["phase"], found["uid"]) == ("Succeeded", uid)
    # The next attempt of the same task finds that it was done.
    assert run(task(ArgoWorkflowRetryOperator, name="theirs"), context)["phase"] == "Succeeded"
    assert sum(one.endswith("/retry") for one in argo.requests) == 1


def test_the_retry_may_name_nodes(argo: ArgoServer, context: dict[str, Any]) -> None:
    submitted(argo)
    argo.finish("theirs", "Failed")
    made = task(
        ArgoWorkflowRetryOperator,
        name="theirs",
        wait=False,
        restart_successful=True,
        node_selector="displayName=fit",
    )
    run(made, context)
    sent = argo.writes[-1][1]
    assert (sent["restartSuccessful"], sent["nodeFieldSelector"]) == (True, "displayName=fit")
    with pytest.raises(InvalidInput, match="of no use without node_selector"):
        task(ArgoWorkflowRetryOperator, name="theirs", restart_successful=True)


def test_what_runs_or_has_succeeded_is_not_retried(argo: ArgoServer, context: dict[str, Any]) -> None:
    submitted(argo)
    argo.begin("theirs")
    with pytest.raises(AirflowFailException, match="is Running, and only one that failed can be retried"):
        run(task(ArgoWorkflowRetryOperator, name="theirs"), context)


def test_one_that_fails_again_fails_the_task(argo: ArgoServer, context: dict[str, Any]) -> None:
    submitted(argo)
    argo.finish("theirs", "Failed")

    def work(name: str) -> None:
        until(lambda: argo.one(name)["status"]["phase"] == "Running")
        argo.finish(name, "Failed", message="again")

    with Play(argo, work), pytest.raises(AirflowFailException, match="it is Failed: again"):
        run(task(ArgoWorkflowRetryOperator, name="theirs"), context)


@pytest.mark.parametrize("conn_id", BOTH)
def test_a_copy_is_run_once_also_of_what_was_archived(
    argo: ArgoServer, context: dict[str, Any], conn_id: str
) -> None:
    uid = submitted(argo, labels={"team": "ml"})
    argo.finish("theirs", "Failed")
    if conn_id == "argo_workflows_default":
        argo.remove("theirs")
    argo.plan = Plan()
    made = partial(
        task,
        ArgoWorkflowResubmitOperator,
        resubmit="theirs",
        parameters={"rows": 9},
        argo_workflows_conn_id=conn_id,
    )
    first, again = run(made(), context), run(made(), context)
    assert first["uid"] == again["uid"] != uid
    copy = argo.one(first["name"])
    assert copy["spec"]["arguments"]["parameters"] == [{"name": "rows", "value": "9"}]
    assert copy["metadata"]["labels"]["team"] == "ml"
    assert copy["metadata"]["labels"]["workflows.argoproj.io/resubmitted-from-workflow"] == "theirs"


# ---- the sensor --------------------------------------------------------------------------------------------------------

sensor = partial(task, ArgoWorkflowSensor)


@pytest.mark.parametrize("conn_id", BOTH)
@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("given", [{"name": "theirs"}, {"labels": "team=ml"}])
def test_a_workflow_of_somebody_else_is_waited_for_also_before_it_is_there(
    argo: ArgoServer, context: dict[str, Any], given: dict[str, str], deferrable: bool, conn_id: str
) -> None:
    import threading

    seen = len(argo.requests)

    def later() -> None:
        until(lambda: len(argo.requests) > seen + 1)
        submitted(argo, labels={"team": "ml"})
        argo.begin("theirs")
        argo.finish("theirs", outputs={"n": "1"})

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    found = run(sensor(**given, deferrable=deferrable, argo_workflows_conn_id=conn_id), context)
    thread.join(30)
    assert (found["name"], found["outputs"]) == ("theirs", {"n": "1"})


def test_of_several_with_the_labels_the_newest_is_meant(argo: ArgoServer, context: dict[str, Any]) -> None:
    for at in (1, 2, 3):
        created = f"2026-11-29T10:00:0{at}Z"
        submitted(argo, f"n{at}", labels={"team": "ml"}, creationTimestamp=created)
        argo.finish(f"n{at}", "Failed" if at < 3 else "Succeeded")
    assert run(sensor(labels="team=ml"), context)["name"] == "n3"


def test_with_a_uid_no_other_of_the_name_will_do(argo: ArgoServer, context: dict[str, Any]) -> None:
    first = submitted(argo)
    argo.finish("theirs")
    argo.remove("theirs")
    submitted(argo)
    assert run(sensor(name="theirs", uid=first), context)["phase"] == "Succeeded"
    with pytest.raises(AirflowFailException, match="its end was not seen"):
        run(sensor(name="theirs", uid="another"), context)


@pytest.mark.parametrize("deferrable", [False, True])
def test_it_fails_as_soon_as_the_workflow_does(
    argo: ArgoServer, context: dict[str, Any], deferrable: bool
) -> None:
    submitted(argo)
    argo.begin("theirs")
    argo.node("theirs", "fit", "Failed", message="Error (exit code 2)", exit_code=2)
    argo.finish("theirs", "Failed")
    with pytest.raises(AirflowFailException, match="fit \\[step\\] Failed, exit code 2"):
        run(sensor(name="theirs", deferrable=deferrable), context)
    assert run(sensor(name="theirs", expect="any", deferrable=deferrable), context)["phase"] == "Failed"


@pytest.mark.parametrize("deferrable", [False, True])
def test_one_that_never_comes_ends_the_wait(
    argo: ArgoServer, context: dict[str, Any], deferrable: bool
) -> None:
    made = sensor(name="nothing", deferrable=deferrable, timeout=timedelta(milliseconds=300))
    with pytest.raises(AirflowFailException, match="nothing in namespace argo was not there within"):
        run(made, context)


@pytest.mark.parametrize("given", [{}, {"name": "a", "labels": "b"}, {"labels": "b", "uid": "u"}])
def test_which_workflow_must_be_said(given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        sensor(**given)


# ---- cron workflows ----------------------------------------------------------------------------------------------------

CRON: dict[str, Any] = {
    "metadata": {"name": "nightly", "labels": {"team": "ml"}},
    "spec": {"schedules": ["0 2 * * *"], "workflowSpec": {"workflowTemplateRef": {"name": "train"}}},
}


def declare(conn_id: str, manifest: Any) -> Any:
    return ArgoCronWorkflowOperator(task_id="task", manifest=manifest, argo_workflows_conn_id=conn_id)


@pytest.mark.parametrize("conn_id", BOTH)
def test_a_cron_workflow_is_created_changed_or_left(
    argo: ArgoServer, context: dict[str, Any], conn_id: str
) -> None:
    assert run(declare(conn_id, CRON), context)["changed"] is True
    assert run(declare(conn_id, CRON), context)["changed"] is False
    rest = partial(
        ArgoCronWorkflowSuspendOperator, task_id="task", name="nightly", argo_workflows_conn_id=conn_id
    )
    assert run(rest(), context)["suspended"] is True
    later = {**CRON, "spec": {**CRON["spec"], "schedules": ["0 3 * * *"]}}
    again = run(declare(conn_id, later), context)
    assert (again["changed"], again["suspended"]) == (True, True)
    found = argo.read("cronworkflows", "argo", "nightly")
    assert found is not None
    # The pause of a person stays.
    assert (found["spec"]["schedules"], found["spec"]["suspend"]) == (["0 3 * * *"], True)
    assert found["metadata"]["labels"] == {"team": "ml"}
    run(rest(suspend=False), context)
    assert argo.read("cronworkflows", "argo", "nightly")["spec"]["suspend"] is False  # type: ignore[index]


def test_a_cron_workflow_with_templates_of_its_own_is_left_as_the_server_writes_it(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    whole = {**CRON, "spec": {**CRON["spec"], "workflowSpec": MANIFEST["spec"]}}
    assert run(declare("argo_workflows_default", whole), context)["changed"] is True
    stored = argo.read("cronworkflows", "argo", "nightly")
    assert stored is not None
    assert stored["spec"]["workflowSpec"]["templates"][1]["container"]["resources"] == {}
    assert run(declare("argo_workflows_default", whole), context)["changed"] is False


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ({"a": 1, "resources": {}, "name": "", "at": None}, {"a": 1}, True),
        ({"a": [{"b": 1, "inputs": {}}]}, {"a": [{"b": 1}]}, True),
        ({}, {"labels": {}, "suspend": False}, True),
        ({"a": 1, "image": "x"}, {"a": 1}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"limit": 0}, {}, False),
        ({"limit": 0}, {"limit": 3}, False),
        ({"suspend": True}, {}, False),
        ({"a": {"b": 1}}, {"a": [1]}, False),
    ],
)
def test_what_is_empty_may_be_written_or_left_out(found: Any, wanted: Any, same: bool) -> None:
    assert (bare(found) == bare(wanted)) is same


@pytest.mark.parametrize(("version", "knows"), [("v3.7.14", True), ("v4.1.2", False)])
def test_the_schedule_of_old_is_none_to_a_newer_server(
    argo: ArgoServer, context: dict[str, Any], version: str, knows: bool
) -> None:
    argo.version_said = version
    spec = {"schedule": "0 2 * * *", "workflowSpec": CRON["spec"]["workflowSpec"]}
    made = declare("argo_workflows_default", {**CRON, "spec": spec})
    if knows:
        assert run(made, context)["changed"] is True
    else:
        with pytest.raises(AirflowFailException, match="at least one schedule"):
            run(made, context)


@pytest.mark.parametrize("conn_id", BOTH)
def test_a_cron_workflow_is_in_the_namespace_that_it_names(
    argo: ArgoServer, context: dict[str, Any], conn_id: str
) -> None:
    theirs = {**CRON, "metadata": {"name": "nightly", "namespace": "ml"}}
    found = run(declare(conn_id, theirs), context)
    assert (found["namespace"], argo.all("cronworkflows")[0]["metadata"]["namespace"]) == ("ml", "ml")
    other = ArgoCronWorkflowOperator(
        task_id="task", manifest=theirs, namespace="argo", argo_workflows_conn_id=conn_id
    )
    with pytest.raises(AirflowFailException, match="for namespace 'ml', and the task for 'argo'"):
        run(other, context)
    assert len(argo.all("cronworkflows")) == 1


def test_a_lost_answer_leaves_one_cron_workflow(argo: ArgoServer, context: dict[str, Any]) -> None:
    argo.faults.append(Fault("lose", method="POST", count=1))
    run(declare("argo_workflows_default", CRON), context)
    assert len(argo.all("cronworkflows")) == 1


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"kind": "Workflow", "spec": {}}, "of kind 'Workflow', and no CronWorkflow"),
        ({"spec": {"schedules": ["x"]}}, "is no name"),
        ({"metadata": {"name": "a"}, "spec": {"workflowSpec": {}}}, "at least one schedule"),
    ],
)
def test_what_is_no_cron_workflow(
    argo: ArgoServer, context: dict[str, Any], manifest: Any, said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        run(declare("argo_workflows_default", manifest), context)
