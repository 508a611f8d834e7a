"""``ArgoWorkflowOperator`` over real HTTP: once, whatever happens; what it gives; and what it says when it fails."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.argo_workflows.operators import ArgoWorkflowOperator
from airflow_pipeops.argo_workflows.sensors import ArgoWorkflowSensor
from airflow_pipeops.argo_workflows.triggers import ArgoWorkflowTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import InvalidInput, WorkflowFailed
from tests.argo_workflows.conftest import Store
from tests.argo_workflows.running import MANIFEST, Play, cleared, fired, restored, run, task, until
from tests.argo_workflows.server import ArgoServer, Plan, pod_of
from tests.kubernetes.apiserver import Fault

operator = partial(task, ArgoWorkflowOperator, workflow=MANIFEST)
kubernetes = {"argo_workflows_conn_id": "kubernetes_default"}
#: Each way in which a task waits, and each door it may go through.
WAYS = [
    pytest.param({"deferrable": deferrable, **door}, id=f"{'triggerer' if deferrable else 'worker'}-{name}")
    for deferrable in (False, True)
    for name, door in (("argo", {}), ("kubernetes", kubernetes))
]


def door(way: dict[str, Any]) -> str:
    return str(way.get("argo_workflows_conn_id", ""))


def only(argo: ArgoServer) -> dict[str, Any]:
    (found,) = argo.workflows()
    return found


# ---- the way to a result -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "version"),
    [
        *(pytest.param(*way.values, "v4.1.2", id=way.id) for way in WAYS),
        *(
            pytest.param({"deferrable": one}, version, id=f"{version}-{one}")
            for one in (False, True)
            for version in ("v3.6.19", "v9.9.0")
        ),
    ],
)  # fmt: skip
def test_a_workflow_is_run_and_its_outputs_are_returned_and_recorded(
    argo: ArgoServer,
    context: dict[str, Any],
    way: dict[str, Any],
    version: str,
    log: pytest.LogCaptureFixture,
) -> None:
    """By the oldest version, which knows no uid; by the newest; and by one that says what none says yet."""
    argo.version_said, argo.knows_uid, argo.newer = version, version > "v3.7", version > "v9"
    deliverable, commit = Deliverable("api"), "a" * 40
    made = operator(
        **way, parameters={"rows": 5}, deliverable=deliverable, commit=commit, labels={"stage": "test"}
    )

    def work(name: str) -> None:
        argo.begin(name)
        model = {"name": "model", "s3": {"key": "a/b"}}
        argo.node(name, "prepare", "Succeeded", exit_code=0, outputs={"rows": "5"}, log=("read 5 rows",))
        argo.node(name, "fit", "Succeeded", exit_code=0, artifacts=(model,))
        argo.finish(name, outputs={"accuracy": "0.9"})

    with Play(argo, work):
        found = run(made, context)
    created = only(argo)
    metadata = created["metadata"]
    assert metadata["name"] == found["name"]
    assert metadata["name"].startswith("dag-task-")
    assert metadata["labels"].items() >= {"team": "ml", "stage": "test", "pipeops/commit": commit}.items()
    assert len(metadata["labels"]["pipeops/op"]) == 40
    run_id = context["ti"].run_id
    assert metadata["annotations"]["pipeops/run"].endswith(f"/dags/dag/runs/{run_id}/tasks/task")
    assert created["spec"]["arguments"]["parameters"] == [{"name": "rows", "value": "5"}]
    assert found["outputs"] == {"accuracy": "0.9"}
    assert found["node_outputs"] == {"prepare": {"rows": "5"}}
    assert found["artifacts"] == [{"node": "fit", "name": "model", "s3": {"key": "a/b"}}]
    assert found["exit_codes"] == {"prepare": 0, "fit": 0}
    assert (found["phase"], found["progress"], found["attached"]) == ("Succeeded", "2 of 2 nodes done", False)
    extra = context["outlet_events"][deliverable.asset("workflow")].extra
    assert (extra["id"], extra["kind"], extra["commit"]) == (found["record_id"], "workflow", commit)
    assert extra["body"]["outputs"] == {"accuracy": "0.9"}
    assert context["workflow"] == {
        "name": found["name"],
        "phase": "Succeeded",
        "progress": "2 of 2 nodes done",
    }
    kept = context["task_state_store"].get("pipeops_argo_workflow")
    assert kept["uid"] == metadata["uid"] == found["uid"]
    if not way.get("argo_workflows_conn_id"):
        assert found["url"] == f"{argo.url}/workflows/argo/{found['name']}?uid={found['uid']}"
        assert made.operator_extra_links[0].get_link(made, ti_key=None) == found["url"]
        assert any(path.endswith("/lint") for path, _ in argo.writes)
        assert "read 5 rows" in log.text
    assert "2 of 2 nodes done" in log.text


@pytest.mark.parametrize("door", [{}, kubernetes], ids=["argo", "kubernetes"])
def test_outputs_that_are_no_row_of_a_database_become_evidence(
    argo: ArgoServer,
    context: dict[str, Any],
    door: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    table = "row," * 50_000
    many = [{"name": f"part-{number}", "s3": {"key": "a" * 500}} for number in range(300)]

    def work(name: str) -> None:
        argo.begin(name)
        argo.node(name, "fit", "Succeeded", outputs={"log": table}, artifacts=tuple(many), exit_code=0)
        argo.finish(name, outputs={"accuracy": "0.9", "table": table})

    with Play(argo, work):
        found = run(operator(**door, deliverable=Deliverable("api")), context)
    assert len(json.dumps(found)) < 64 * 1024
    assert (found["outputs"]["accuracy"], found["phase"]) == ("0.9", "Succeeded")
    left = found["outputs"]["table"]
    assert left["bytes"] == len(table)
    assert found["node_outputs"]["fit"]["log"] == left
    whole = json.loads(ObjectStoragePath(left["kept_in"]).read_text())
    assert (whole["outputs"]["table"], whole["record_id"]) == (table, found["record_id"])
    assert len(whole["artifacts"]) == len(many)


def test_progress_is_said_while_it_runs(
    argo: ArgoServer, context: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:

    def work(name: str) -> None:
        argo.begin(name)
        argo.node(name, "prepare", "Succeeded")
        until(lambda: "1 of 2 nodes done; running: fit" in log.text)
        argo.finish(name)

    with Play(argo, work):
        run(operator(), context)


@pytest.mark.parametrize("deferrable", [False, True])
def test_logs_are_in_the_tasks_log_while_it_runs(
    argo: ArgoServer, context: dict[str, Any], deferrable: bool, log: pytest.LogCaptureFixture
) -> None:

    def work(name: str) -> None:
        argo.begin(name)
        argo.log(name, "fit", "epoch 1", "password=hunter2hunter2")
        until(lambda: "epoch 1" in log.text)
        argo.cut()  # a proxy ends the stream, and nothing is said twice
        argo.log(name, "fit", "epoch 2")
        until(lambda: "epoch 2" in log.text)
        argo.finish(name)

    with Play(argo, work):
        run(operator(deferrable=deferrable), context)
    lines = [record.getMessage() for record in log.records]
    assert sum("epoch 1" in line for line in lines) == sum("epoch 2" in line for line in lines) == 1
    assert "hunter2" not in log.text


def test_a_log_whose_stream_ended_early_is_said_to_its_end(
    argo: ArgoServer, context: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    """What was said while it ran is not said again, and the rest is not left out."""
    lines = [f"line {at}" for at in range(6)]

    def work(name: str) -> None:
        argo.begin(name)
        argo.log(name, "fit", *lines[:3])
        until(lambda: "line 2" in log.text)
        argo.faults.append(Fault("status", path="*/log", status=403, count=1))
        argo.cut()
        until(lambda: "cannot be followed" in log.text)
        argo.log(name, "fit", *lines[3:])
        argo.finish(name)

    with Play(argo, work):
        run(operator(), context)
    said = [record.getMessage() for record in log.records]
    assert [sum(line in one for one in said) for line in lines] == [1] * 6


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("collected", [False, True])
def test_a_stream_that_ends_with_the_workflow_may_have_ended_before_it(
    argo: ArgoServer,
    context: dict[str, Any],
    deferrable: bool,
    collected: bool,
    log: pytest.LogCaptureFixture,
) -> None:
    """A proxy closes it properly, and what was written since is read from the pods; or it is said that it may be missing."""
    argo.loses_ends = True

    def work(name: str) -> None:
        argo.begin(name)
        argo.log(name, "fit", "epoch 1")
        until(lambda: "epoch 1" in log.text)
        argo.log(name, "fit", "epoch 2")
        if collected:
            argo.collect_pods(name)
        argo.finish(name)

    with Play(argo, work):
        run(operator(deferrable=deferrable), context)
    said = [record.getMessage() for record in log.records]
    assert [sum(line in one for one in said) for line in ("epoch 1", "epoch 2")] == [1, 0 if collected else 1]
    assert any("the log may be incomplete: its pod is gone" in one for one in said) is collected


def test_a_log_whose_reading_breaks_off_is_said_to_be_incomplete(
    argo: ArgoServer, context: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    argo.logs_break_after = 5

    def work(name: str) -> None:
        argo.begin(name)
        argo.node(name, "fit", "Succeeded", exit_code=0, log=tuple(f"line {at}" for at in range(20)))
        argo.finish(name)

    with Play(argo, work):
        run(operator(logs="end"), context)
    said = [record.getMessage() for record in log.records]
    assert any("line 0" in one for one in said)
    assert any("the log may be incomplete: reading it broke off" in one for one in said)


def test_a_large_log_is_read_to_its_end_through_the_kubernetes_api(
    argo: ArgoServer, context: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    """One answer of the end of a log holds no more than 256 KiB."""

    def work(name: str) -> None:
        argo.begin(name)
        argo.node(name, "fit", "Succeeded", exit_code=0)
        nodes = argo.one(name)["status"]["nodes"].values()
        pod = pod_of(argo.one(name), next(one for one in nodes if one["displayName"] == "fit"))
        spec = {"containers": [{"name": "main", "image": "alpine"}]}
        status = {"phase": "Succeeded"}
        argo.put(
            "", "v1", "pods", {"metadata": {"name": pod, "namespace": "argo"}, "spec": spec, "status": status}
        )
        for at in range(1000):
            argo.say("argo", pod, "main", f"{at} " + "x" * 600)
        argo.finish(name)

    with Play(argo, work):
        run(operator(**kubernetes), context)
    said = [record.getMessage().split(" x")[0] for record in log.records]
    assert [one for one in said if one.startswith("[fit] ")] == [f"[fit] {at}" for at in range(1000)]


@pytest.mark.parametrize(("archived", "said"), [(True, "kept line"), (False, "no logs are left")])
def test_when_pods_are_gone_the_archived_log_is_read_or_its_loss_is_said(
    argo: ArgoServer, context: dict[str, Any], archived: bool, said: str, log: pytest.LogCaptureFixture
) -> None:

    def work(name: str) -> None:
        argo.begin(name)
        argo.log(name, "fit", "kept line")
        argo.collect_pods(name, keep_logs=archived)
        argo.finish(name)

    with Play(argo, work):
        run(operator(logs="end"), context)
    assert said in log.text


def test_what_was_remembered_or_borne_is_said(
    argo: ArgoServer, context: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    """A node of an earlier run has no log to be missed, and one that failed may fail where the template goes on."""

    def remembered(item: dict[str, Any]) -> None:
        found = next(one for one in item["status"]["nodes"].values() if one["displayName"] == "prepare")
        found["memoizationStatus"] = {"hit": True, "key": "k", "cacheName": "c"}

    def work(name: str) -> None:
        argo.begin(name)
        argo.change("workflows", "argo", name, remembered)
        argo.node(name, "fit", "Failed", message="Error (exit code 1)", exit_code=1)
        argo.finish(name)

    with Play(argo, work):
        assert run(operator(logs="end"), context)["phase"] == "Succeeded"
    assert "[prepare] was not run: its outputs are remembered (memoize)" in log.text
    assert "[prepare] no logs are left" not in log.text
    assert "It is Succeeded although fit is Failed (continueOn)" in log.text


@pytest.mark.parametrize(
    ("archived", "faults", "door", "said"),
    [
        (None, (), {}, "no logs of fit are left: its pod is gone, or has printed nothing, and none was archived"),
        (b"", (), {}, "fit has printed nothing"),
        (b"", (Fault("status", path="/artifact-files/*", status=403),), {}, "and the archived one cannot be read: "),
        (b"", (Fault("status", path="/artifact-files/*", status=503),), {}, "and the archived one cannot be read: "),
        (b"x", (), kubernetes, "and the archived one cannot be read: the Kubernetes API has no artifacts"),
    ],
)  # fmt: skip
def test_a_failure_says_what_became_of_a_log_that_is_not_there(
    argo: ArgoServer, context: dict[str, Any], archived: bytes | None, faults: Any, door: Any, said: str
) -> None:
    def work(name: str) -> None:
        argo.begin(name)
        kept = ({"name": "main-logs", "s3": {"key": "a"}},) if archived is not None else ()
        argo.node(name, "fit", "Failed", exit_code=1, message="Error (exit code 1)", artifacts=kept)
        fit = next(one for one in argo.one(name)["status"]["nodes"].values() if one["displayName"] == "fit")
        if archived is not None:
            argo.artifacts[argo.one(name)["metadata"]["uid"], fit["id"], "main-logs"] = archived
        argo.faults.extend(faults)
        argo.finish(name, "Failed")

    with Play(argo, work), pytest.raises(AirflowFailException) as caught:
        run(operator(logs="none", **door), context)
    assert said in str(caught.value)


def test_a_sensor_says_nothing_of_logs_that_it_has_not_read(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    argo.submit({**MANIFEST, "metadata": {"name": "theirs"}})
    failing(argo, "theirs")
    with pytest.raises(AirflowFailException, match="fit: Error") as caught:
        run(task(ArgoWorkflowSensor, name="theirs"), context)
    assert "logs" not in str(caught.value)
    assert "printed" not in str(caught.value)


# ---- once --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_retry_attaches_and_a_cleared_task_runs_anew(
    argo: ArgoServer, context: dict[str, Any], way: dict[str, Any]
) -> None:
    argo.plan = Plan(outputs={"n": "1"})
    first, again = run(operator(**way), context), run(operator(**way), context)
    assert (first["uid"], first["attached"], again["attached"]) == (again["uid"], False, True)
    assert len(argo.workflows()) == 1
    other = run(operator(**way), cleared(context))
    assert other["uid"] != first["uid"]
    assert other["name"] != first["name"]
    assert len(argo.workflows()) == 2


def test_a_retry_without_a_store_attaches_by_name_and_label(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    argo.plan = Plan()
    del context["task_state_store"]
    assert run(operator(), context)["uid"] == run(operator(), context)["uid"]


def test_the_uid_is_asked_for_after_the_workflow_was_archived(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    argo.plan = Plan(outputs={"n": "1"})
    first = run(operator(), context)
    argo.remove(first["name"])
    again = run(operator(), context)
    assert (again["uid"], again["outputs"], again["attached"]) == (first["uid"], {"n": "1"}, True)
    assert argo.workflows() == []


def test_one_that_is_gone_before_its_end_was_seen_is_not_run_again(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    argo.archiving = False
    with pytest.raises(TaskDeferred):
        operator(deferrable=True).execute(context)
    argo.remove(only(argo)["metadata"]["name"])
    with pytest.raises(AirflowFailException, match="is gone, and its end was not seen"):
        run(operator(), context)
    assert argo.workflows() == []


@pytest.mark.parametrize("deferrable", [False, True])
def test_one_that_goes_while_it_is_waited_for_fails_the_task(
    argo: ArgoServer, context: dict[str, Any], deferrable: bool
) -> None:
    argo.archiving = False

    def work(name: str) -> None:
        argo.begin(name)
        argo.remove(name)

    with (
        Play(argo, work),
        pytest.raises(AirflowFailException, match="its end was not seen"),
    ):
        run(operator(deferrable=deferrable, logs="none"), context)


@pytest.mark.parametrize("cls", [ArgoWorkflowOperator, ArgoWorkflowSensor])
@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_one_that_is_deleted_after_its_end_was_seen_has_ended(
    argo: ArgoServer, context: dict[str, Any], phase: str, cls: Any
) -> None:
    """The end is known, and only what it gave is not."""
    argo.archiving = False
    if cls is ArgoWorkflowSensor:
        argo.submit({**MANIFEST, "metadata": {"name": "theirs"}})
        made = task(cls, name="theirs", deferrable=True)
    else:
        made = operator(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        made.execute(context)
    name = only(argo)["metadata"]["name"]
    argo.begin(name)
    argo.finish(name, phase, message="as it is")
    event = fired(deferred.value.trigger)
    argo.remove(name)
    if phase == "Failed":
        with pytest.raises(AirflowFailException, match=r"WorkflowFailed: .*it is Failed: as it is"):
            made.execute_complete(context, event=event)
    else:
        found = made.execute_complete(context, event=event)
        assert (found["phase"], found["outputs"]) == ("Succeeded", {})
        assert found["not_shown"] == "it was deleted before its outputs and nodes were read"


def test_another_workflow_of_the_name_is_not_taken_over(argo: ArgoServer, context: dict[str, Any]) -> None:
    argo.plan = Plan()
    name = run(operator(), context)["name"]
    argo.archiving = False
    argo.remove(name)
    argo.submit({"metadata": {"name": name}, "spec": MANIFEST["spec"]})
    context["task_state_store"] = Store()
    with pytest.raises(
        AirflowFailException, match="is not that of this task: its label pipeops/op is missing"
    ):
        run(operator(), context)
    assert only(argo)["metadata"].get("labels", {}).get("pipeops/op") is None


def test_already_exists_for_a_quota_is_told_from_a_duplicate(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    argo.plan = Plan()
    argo.quota = 2
    assert run(operator(), context)["attached"] is False
    assert len(argo.workflows()) == 1


def test_a_quota_that_stays_full_is_an_error_that_may_pass(
    argo: ArgoServer, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_pipeops.argo_workflows.submission.pause", lambda attempt: 0.01)
    argo.quota = 100
    from airflow_pipeops.exceptions import Conflict

    with pytest.raises(Conflict, match="a quota of the namespace is full"):
        run(operator(), context)
    assert argo.workflows() == []


@pytest.mark.parametrize("way", WAYS[:1])
def test_a_lost_answer_leaves_one_workflow(
    argo: ArgoServer, context: dict[str, Any], way: dict[str, Any]
) -> None:
    argo.plan = Plan()
    argo.faults.append(Fault("lose", method="POST", path="/api/v1/workflows/argo", count=1))
    assert run(operator(**way), context)["attached"] is True
    assert len(argo.workflows()) == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_goes_wrong_in_between_is_outlasted(
    argo: ArgoServer, context: dict[str, Any], deferrable: bool
) -> None:
    def work(name: str) -> None:
        argo.faults.append(Fault("status", method="GET", status=503, count=3))
        argo.faults.append(Fault("status", method="GET", status=429, retry_after="0", count=1))
        argo.begin(name)
        argo.cut()
        argo.stop()
        argo.start()
        argo.finish(name)

    with Play(argo, work):
        assert run(operator(deferrable=deferrable, logs="none"), context)["phase"] == "Succeeded"


# ---- failure -----------------------------------------------------------------------------------------------------------


def failing(argo: ArgoServer, name: str) -> None:
    argo.begin(name)
    argo.node(name, "prepare", "Succeeded", exit_code=0)
    printed = (
        "loading",
        "Traceback (most recent call last):",
        "  File x",
        "ValueError: no rows",
        "token=abcdef12345",
    )
    argo.node(name, "fit", "Failed", exit_code=1, message="Error (exit code 1)", log=printed)
    argo.finish(name, "Failed", message="child 'fit' failed")


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failure_is_told_with_its_nodes_and_their_last_lines(
    argo: ArgoServer, context: dict[str, Any], deferrable: bool
) -> None:
    with Play(argo, partial(failing, argo)), pytest.raises(AirflowFailException) as caught:
        run(operator(deferrable=deferrable), context)
    lines = str(caught.value).splitlines()
    first = f"WorkflowFailed: Argo workflow argo/{only(argo)['metadata']['name']} failed: "
    assert lines[0] == f"{first}it is Failed: child 'fit' failed (fit: Error (exit code 1))"
    assert "  fit [step] Failed, exit code 1, Error (exit code 1)" in lines
    assert "  ValueError: no rows" in lines
    assert not [line for line in lines if "prepare" in line]
    assert "abcdef12345" not in str(caught.value)
    assert f"{argo.url}/workflows/argo/" in str(caught.value)
    assert lines[-1] == lines[0].removeprefix("WorkflowFailed: ")


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        ("OOMKilled (exit code 137)", 137, "it used more memory than its limit and was killed"),
        ("ImagePullBackOff: Back-off pulling image", None, "its image cannot be pulled"),
        ("pods \"x\" is forbidden: exceeded quota: small", None, "a quota of the namespace refuses its pod"),
    ],
)  # fmt: skip
def test_what_kubernetes_did_is_said_as_such(
    argo: ArgoServer, context: dict[str, Any], message: str, code: int | None, said: str
) -> None:
    def work(name: str) -> None:
        argo.begin(name)
        argo.node(name, "fit", "Failed", exit_code=code, message=message)
        argo.finish(name, "Failed")

    with Play(argo, work), pytest.raises(AirflowFailException, match=said):
        run(operator(logs="none"), context)


@pytest.mark.parametrize("deferrable", [False, True])
def test_airflows_retry_becomes_the_workflows_retry(
    argo: ArgoServer, context: dict[str, Any], deferrable: bool
) -> None:
    made = partial(operator, deferrable=deferrable, on_failure="retry_failed_nodes")
    with Play(argo, partial(failing, argo)), pytest.raises(WorkflowFailed, match="no rows"):
        run(made(), context)
    before = only(argo)
    prepared = next(n for n in before["status"]["nodes"].values() if n["displayName"] == "prepare")

    def work(name: str) -> None:
        until(lambda: argo.one(name)["status"]["phase"] == "Running")
        argo.finish(name, outputs={"accuracy": "0.8"})

    with Play(argo, work):
        found = run(made(), context)
    after = only(argo)
    assert (found["uid"], found["attached"], found["outputs"]) == (
        before["metadata"]["uid"],
        True,
        {"accuracy": "0.8"},
    )
    # What had succeeded was not done again.
    assert after["status"]["nodes"][prepared["id"]]["finishedAt"] == prepared["finishedAt"]


def test_by_default_a_failure_is_not_retried(argo: ArgoServer, context: dict[str, Any]) -> None:
    with Play(argo, partial(failing, argo)), pytest.raises(AirflowFailException):
        run(operator(), context)
    with pytest.raises(AirflowFailException, match="no rows"):
        run(operator(), context)
    assert not [path for path in argo.requests if path.endswith("/retry")]


def test_a_lost_machine_is_retried_as_such(argo: ArgoServer, context: dict[str, Any]) -> None:
    def lost(name: str) -> None:
        argo.begin(name)
        argo.node(name, "prepare", "Succeeded")
        argo.node(name, "fit", "Error", message="Pod was terminated in response to imminent node shutdown.")
        argo.finish(name, "Error", message="child 'fit' errored")

    with (
        Play(argo, lost),
        pytest.raises(WorkflowFailed, match="not the work itself failed, but what it ran on: fit"),
    ):
        run(operator(), context)

    def work(name: str) -> None:
        until(lambda: argo.one(name)["status"]["phase"] == "Running")
        argo.finish(name)

    with Play(argo, work):
        assert run(operator(), context)["phase"] == "Succeeded"


def test_without_a_server_a_lost_machine_is_no_promise_of_a_retry(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    """The next attempt of the task would find the same workflow, failed as it is."""

    def lost(name: str) -> None:
        argo.begin(name)
        argo.node(name, "prepare", "Succeeded")
        argo.node(name, "fit", "Error", message="Pod was terminated in response to imminent node shutdown.")
        argo.finish(name, "Error", message="child 'fit' errored")

    with Play(argo, lost), pytest.raises(AirflowFailException, match="clear the task to run it anew"):
        run(operator(**kubernetes), context)


def test_a_lost_answer_to_the_retry_retries_once(argo: ArgoServer, context: dict[str, Any]) -> None:
    made = partial(operator, on_failure="retry_failed_nodes")
    with Play(argo, partial(failing, argo)), pytest.raises(WorkflowFailed):
        run(made(), context)
    argo.faults.append(Fault("lose", method="PUT", count=1))

    def work(name: str) -> None:
        until(lambda: argo.one(name)["status"]["phase"] == "Running")
        argo.finish(name)

    with Play(argo, work):
        assert run(made(), context)["phase"] == "Succeeded"
    assert sum(path.endswith("/retry") for path in argo.requests) == 1


def test_without_a_server_retrying_nodes_is_refused_before_anything_is_done(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match="needs the server of Argo Workflows"):
        run(operator(on_failure="retry_failed_nodes", **kubernetes), context)
    assert argo.workflows() == []


# ---- the end of the task -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_kill", "shutdown"), [("stop", "Stop"), ("terminate", "Terminate"), ("leave", None)]
)
@pytest.mark.parametrize("where", ["worker", "triggerer"])
def test_when_somebody_ends_the_task(
    argo: ArgoServer, context: dict[str, Any], where: str, on_kill: str, shutdown: str | None
) -> None:
    made = operator(deferrable=True, on_kill=on_kill)
    with pytest.raises(TaskDeferred) as deferred:
        made.execute(context)
    name = only(argo)["metadata"]["name"]
    argo.begin(name)
    if where == "worker":
        made.on_kill()
    else:
        asyncio.run(restored(deferred.value.trigger).on_kill())
    assert argo.one(name)["spec"].get("shutdown") == shutdown


def test_a_task_that_is_ended_before_it_has_heard_of_its_workflow_ends_it(
    argo: ArgoServer, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    argo.quota = 1  # so that it is created at the second try, and the task is ended before

    def pause(attempt: int) -> float:
        made.on_kill()
        return 0.01

    made = operator(logs="none")
    monkeypatch.setattr("airflow_pipeops.argo_workflows.submission.pause", pause)
    with pytest.raises(AirflowFailException, match="Stopped"):
        run(made, context)
    assert only(argo)["spec"]["shutdown"] == "Stop"


def test_a_workflow_that_was_stopped_with_its_worker_goes_on_with_the_retry(
    argo: ArgoServer, context: dict[str, Any]
) -> None:
    made = operator(deferrable=True)
    with pytest.raises(TaskDeferred):
        made.execute(context)
    name = only(argo)["metadata"]["name"]
    argo.begin(name)
    made.on_kill()
    until(lambda: argo.one(name)["status"]["phase"] == "Failed")

    def work(name: str) -> None:
        until(lambda: argo.one(name)["status"]["phase"] == "Running")
        argo.finish(name)

    with Play(argo, work):
        assert run(operator(), context)["phase"] == "Succeeded"
    assert len(argo.workflows()) == 1


def test_nothing_is_left_running_that_nobody_waits_for(argo: ArgoServer, context: dict[str, Any]) -> None:
    made = operator(timeout=timedelta(milliseconds=300), logs="none")
    with (
        Play(argo, argo.begin),
        pytest.raises(AirflowFailException, match=r"WaitTimeout(.|\n)*0 of 2 nodes done"),
    ):
        run(made, context)
    until(lambda: only(argo)["status"]["phase"] == "Failed")


def test_a_suspended_workflow_is_waited_for_or_fails(argo: ArgoServer, context: dict[str, Any]) -> None:
    spec = {**MANIFEST["spec"], "suspend": True}
    with pytest.raises(AirflowFailException, match="until somebody resumes it"):
        run(operator(workflow={"spec": spec}, on_suspended="fail", logs="none"), context)
    until(lambda: only(argo)["status"].get("phase") == "Failed")


def deferred(argo: ArgoServer, way: dict[str, Any]) -> None:
    """Wait until the task is deferred, where it is: what comes now is told by the stream."""
    if way["deferrable"]:
        until(lambda: argo.open_events)


BY_ARGO = [pytest.param({"deferrable": one}, id="triggerer" if one else "worker") for one in (False, True)]


@pytest.mark.parametrize("way", BY_ARGO)
def test_a_step_that_waits_for_somebody_fails_the_task_where_none_may(
    argo: ArgoServer, context: dict[str, Any], way: dict[str, Any]
) -> None:
    def work(name: str) -> None:
        deferred(argo, way)
        argo.begin(name)
        argo.node(name, "fit", "Running", kind="Suspend")

    made = operator(**way, on_suspended="fail", logs="none")
    with Play(argo, work), pytest.raises(AirflowFailException, match="it is suspended at fit"):
        run(made, context)
    until(lambda: only(argo)["status"].get("phase") == "Failed")


def test_what_runs_is_said_while_the_task_is_deferred(
    argo: ArgoServer, context: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    def work(name: str) -> None:
        deferred(argo, {"deferrable": True})
        argo.begin(name)
        argo.node(name, "prepare", "Succeeded")
        until(lambda: "1 of 2 nodes done; running: fit" in log.text)
        argo.finish(name)

    with Play(argo, work):
        run(operator(deferrable=True, logs="none"), context)


# ---- pods that do not begin: Argo leaves their nodes pending, and waits ------------------------------------------------

PULLING = 'ImagePullBackOff: Back-off pulling image "registry/fit:1"'
NO_ROOM = "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available"


@pytest.mark.parametrize("way", WAYS)
def test_an_image_that_cannot_be_pulled_ends_the_wait(
    argo: ArgoServer, context: dict[str, Any], way: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    def work(name: str) -> None:
        if not door(way):
            deferred(argo, way)
        argo.begin(name)
        argo.node(name, "fit", "Pending", message=PULLING)

    made = operator(**way, logs="none", pending_timeout=timedelta(milliseconds=300))
    with Play(argo, work), pytest.raises(AirflowFailException) as caught:
        run(made, context)
    said = "fit does not begin: its image cannot be pulled"
    assert said in str(caught.value)
    assert PULLING in str(caught.value)
    assert "0 of 2 nodes done" in str(caught.value)
    assert f"wait: 0 of 2 nodes done; running: prepare; {said}" in log.text
    until(lambda: only(argo)["spec"].get("shutdown") == "Stop")


@pytest.mark.parametrize("way", BY_ARGO)
def test_what_waits_for_room_is_waited_for_and_named_at_the_deadline(
    argo: ArgoServer, context: dict[str, Any], way: dict[str, Any]
) -> None:
    def work(name: str) -> None:
        deferred(argo, way)
        argo.begin(name)
        argo.node(name, "fit", "Pending", message=NO_ROOM)

    patience = {"timeout": timedelta(seconds=4), "pending_timeout": timedelta(milliseconds=1)}
    with (
        Play(argo, work),
        pytest.raises(
            AirflowFailException, match=r"WaitTimeout(.|\n)*fit does not begin: no machine takes its pod"
        ),
    ):
        run(operator(**way, **patience, logs="none"), context)


@pytest.mark.parametrize("way", BY_ARGO)
def test_an_image_that_comes_after_all_ends_nothing(
    argo: ArgoServer, context: dict[str, Any], way: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    def work(name: str) -> None:
        deferred(argo, way)
        argo.begin(name)
        argo.node(name, "fit", "Pending", message=PULLING)
        until(lambda: "fit does not begin" in log.text)
        argo.node(name, "fit", "Running")
        argo.node(name, "prepare", "Succeeded")
        argo.finish(name)

    with Play(argo, work):
        assert run(operator(**way, logs="none"), context)["phase"] == "Succeeded"


# ---- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"workflow": {"spec": {"entrypoint": "x", "templates": []}}}, "template name 'x' undefined"),
        ({"workflow": "a: ["}, "is no YAML"),
        ({"workflow": {"kind": "Pod", "spec": {}}}, "of kind 'Pod'"),
        ({"parameters": {"row": 1}}, "Did you mean 'rows'"),
        ({"parameters": ["rows"]}, "parameters is not a mapping"),
        ({"workflow": None, "template": "nothing"}, "WorkflowTemplate argo/nothing does not exist"),
        (
            {"workflow": None, "template": "nothing", "cluster_scope": True},
            "ClusterWorkflowTemplate nothing does not exist",
        ),
        ({"workflow": None, "template": "trainer"}, "needs the parameter 'model'"),
        ({"workflow": None, "template": "trainer", "parameters": {"modl": 1}}, "Did you mean 'model'"),
        ({"namespace": "../argo"}, "'../argo' is no name"),
        ({"workflow": None, "template": "../x"}, "'../x' is no name"),
        ({"namespace": "gone"}, 'namespaces "gone" not found'),
        ({"workflow": {**MANIFEST, "metadata": {"namespace": "a"}}, "namespace": "b"}, "the task for 'b'"),
    ],
)
def test_bad_input_has_one_clear_error_and_leaves_nothing(
    argo: ArgoServer, context: dict[str, Any], arguments: dict[str, Any], said: str
) -> None:
    parameters = [{"name": "model"}, {"name": "rows", "value": "1"}]
    argo.template({**MANIFEST["spec"], "arguments": {"parameters": parameters}}, "trainer")
    argo.gone.add("gone")
    with pytest.raises(AirflowFailException) as caught:
        run(operator(**arguments), context)
    assert said in str(caught.value)
    assert argo.workflows() == []


def test_a_template_is_run_with_its_parameters(argo: ArgoServer, context: dict[str, Any]) -> None:
    argo.plan = Plan()
    argo.template(
        {**MANIFEST["spec"], "arguments": {"parameters": [{"name": "model"}]}}, "trainer", cluster=True
    )
    made = operator(workflow=None, template="trainer", cluster_scope=True, parameters={"model": "gbm"})
    run(made, context)
    assert only(argo)["spec"] == {
        "workflowTemplateRef": {"name": "trainer", "clusterScope": True},
        "arguments": {"parameters": [{"name": "model", "value": "gbm"}]},
    }


def test_a_permission_that_is_missing_is_named(argo: ArgoServer, context: dict[str, Any]) -> None:
    argo.tokens["token"] = lambda verb, *_: verb != "create"
    with pytest.raises(
        AirflowFailException, match=r"AccessDenied: the token lacks a permission(.|\n)*cannot create"
    ):
        run(operator(), context)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"workflow": None}, "give either a workflow, or the name of a template"),
        ({"template": "x"}, "give either"),
        ({"on_failure": "again"}, "Use one of fail, retry_failed_nodes"),
        ({"on_kill": "delete"}, "Use one of stop, terminate, leave"),
        ({"logs": "all"}, "Use one of follow, end, none"),
        ({"timeout": timedelta(0)}, "Give a positive timedelta"),
    ],
)
def test_an_argument_that_is_none_is_refused_where_the_dag_is_parsed(
    arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        operator(**arguments)


def test_argos_own_braces_are_not_airflows(argo: ArgoServer, context: dict[str, Any], tmp_path: Path) -> None:
    """Airflow would render a file that a template field names, and what Argo reads as a variable would be gone."""
    assert "workflow" not in ArgoWorkflowOperator.template_fields
    argo.plan = Plan()
    file = tmp_path / "train.yaml"
    file.write_text(json.dumps(MANIFEST))
    run(operator(workflow=str(file)), context)
    assert only(argo)["spec"]["templates"][1]["container"]["args"] == ["{{workflow.parameters.rows}}"]


def test_a_trigger_that_comes_back_twice_tells_the_same(argo: ArgoServer, context: dict[str, Any]) -> None:
    argo.plan = Plan()
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True, logs="none").execute(context)
    assert isinstance(deferred.value.trigger, ArgoWorkflowTrigger)
    first, again = fired(deferred.value.trigger), fired(deferred.value.trigger)
    assert first["decided"]["verdict"]["rule"] == again["decided"]["verdict"]["rule"] == "ended"
