"""Sensors, the sync operator and the triggers, against a server that replays application JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.clients.protocol import AppRef
from airflow_pipeops.argocd.clients.rest import ArgoCDClient
from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.argocd.operators import ArgoCDDiffOperator, ArgoCDSyncOperator
from airflow_pipeops.argocd.sensors import ArgoCDAppSensor, ArgoCDSteadySensor
from airflow_pipeops.argocd.watchers import ArgoCDDriftTrigger
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import BadResponse, Conflict, InvalidInput, Unreachable

NEW, OLD = "a" * 40, "b" * 40
ME = "dag/run-1/task/-1"


def application(**status: Any) -> dict[str, Any]:
    """Return an Application that is live and healthy at NEW; keyword arguments replace parts of its status."""
    base = {
        "sync": {"status": "Synced", "revision": NEW},
        "health": {"status": "Healthy", "lastTransitionTime": "2026-11-01T10:00:10Z"},
        "reconciledAt": "2026-11-01T10:01:00Z",
        "operationState": operation("Succeeded"),
        "summary": {"images": ["delay-api@sha256:1"]},
        "history": [{"id": 1, "revision": NEW}],
    }
    spec = {
        "project": "ml",
        "source": {"repoURL": "https://git/x", "targetRevision": "main", "path": "a"},
        "syncPolicy": {"automated": {"selfHeal": True}},
    }
    return {
        "metadata": {"name": "api", "namespace": "team", "uid": "u"},
        "spec": spec,
        "status": {**base, **status},
    }


def operation(phase: str, revision: str = NEW, **more: Any) -> dict[str, Any]:
    ended = {} if phase == "Running" else {"finishedAt": "2026-11-01T10:00:05Z"}
    return {
        "phase": phase,
        "message": "said",
        "startedAt": "2026-11-01T10:00:01Z",
        "operation": {"sync": {"revision": revision}, "info": more.pop("info", [])},
        "syncResult": {"revision": revision, "resources": more.pop("resources", [])},
        **ended,
        **more,
    }


def sensor(cls: Callable[..., Any] = ArgoCDAppSensor, **arguments: Any) -> Any:
    defaults = {
        "task_id": "task",
        "app": "api",
        "poll_interval": timedelta(milliseconds=20),
        "deferrable": False,
    }
    if cls is ArgoCDAppSensor:
        defaults.update(revision=NEW, timeout=timedelta(seconds=5), settle=timedelta(0))
    return cls(**{**defaults, **arguments})


def test_release_is_recorded_with_its_facts(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application())]
    deliverable = Deliverable("delay-api")
    result = sensor(deliverable=deliverable, environment="staging").execute(context)
    assert result["revision"] == result["compared"] == NEW
    assert (result["health"], result["sync"], result["rule"]) == ("Healthy", "Synced", "healthy")
    assert result["url"] == f"{scripted.url}/applications/team/api"
    extra = context["outlet_events"][deliverable.released("staging")].extra
    assert extra["id"] == result["record_id"]
    assert extra["kind"] == "release"
    assert extra["body"]["images"] == ["delay-api@sha256:1"]
    assert "s3cr3t" not in json.dumps(extra)


def test_old_revision_that_is_green_is_waited_out(scripted: Any, context: dict[str, Any]) -> None:
    old = application(sync={"status": "Synced", "revision": OLD}, operationState=operation("Succeeded", OLD))
    running = application(operationState=operation("Running"))
    progressing = application(health={"status": "Progressing"})
    scripted.answers = [
        (200, old),
        (200, old),
        (200, running),
        (503, b""),
        (200, progressing),
        (200, application()),
    ]
    assert sensor().execute(context)["rule"] == "healthy"
    assert len(scripted.requests) >= 6


def test_failure_says_everything_once_and_is_not_tried_again(scripted: Any, context: dict[str, Any]) -> None:
    hook = {
        "kind": "Job",
        "name": "migrate",
        "hookType": "PreSync",
        "hookPhase": "Failed",
        "message": "BackoffLimitExceeded",
    }
    conditions = [{"type": "OrphanedResourceWarning", "message": "x" * 20000}]
    scripted.answers = [
        (200, application(operationState=operation("Failed", resources=[hook]), conditions=conditions))
    ]
    with pytest.raises(AirflowFailException) as caught:
        sensor().execute(context)
    text = str(caught.value)
    first = text.splitlines()[0]
    assert first.startswith(
        "SyncFailed: Argo CD app api (project default): sync FAILED at aaaaaaaa (expected aaaaaaaa):"
    )
    assert "Job/migrate PreSync hook failed: BackoffLimitExceeded" in first
    assert f"{scripted.url}/applications/team/api" in text
    assert "decided by rule operation_failed" in text
    assert len(text.encode()) < 9000
    assert "s3cr3t" not in text


def test_deadline_names_the_rule(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application(health={"status": "Progressing"}))]
    with pytest.raises(AirflowFailException, match=r"WaitTimeout.*waited(.|\n)*last rule progressing"):
        sensor(timeout=timedelta(milliseconds=300)).execute(context)


@pytest.mark.parametrize("revision", ["", None, "main", "a" * 8, {"7": NEW}])
def test_a_revision_that_is_none_ends_at_once(revision: Any, scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application())]
    with pytest.raises(AirflowFailException, match="InvalidInput"):
        sensor(revision=revision).execute(context)


def test_no_json_is_waited_out_and_fails_after_the_grace_of_the_deadline(
    scripted: Any, context: dict[str, Any]
) -> None:
    scripted.answers = [(200, b"<html>")]
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        sensor(timeout=timedelta(milliseconds=200)).execute(context)


@pytest.mark.parametrize(
    "arguments",
    [
        {"match": "roughly"},
        {"timeout": 5},
        {"timeout": timedelta(0)},
        {"on_manual": "accept"},
        {"settle": None},
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        sensor(**arguments)
    assert caught.value.field in arguments


def test_contains_is_the_default_with_a_repository() -> None:
    assert sensor(git_conn_id="pipeops_gitops_repo").match == "contains"
    assert sensor().match == "exact"


def deferred(task: Any, context: dict[str, Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context)
    return caught.value


def fire(trigger: Any, *, dwell: float = 0.0) -> dict[str, Any]:
    """Run a trigger as the triggerer does: rebuilt from its arguments, which must be JSON."""
    _, arguments = trigger.serialize()
    revived = type(trigger)(**json.loads(json.dumps({**arguments, "dwell": dwell})))

    async def first() -> dict[str, Any]:
        async for event in revived.run():
            return json.loads(json.dumps(event.payload))
        raise AssertionError("no event")

    return asyncio.run(asyncio.wait_for(first(), 20))


def test_deferred_wait(scripted: Any, context: dict[str, Any]) -> None:
    progressing = application(health={"status": "Progressing"})
    scripted.answers = [(200, progressing)]
    task = sensor(deferrable=True)
    exit_ = deferred(task, context)
    assert task.argocd_url == f"{scripted.url}/applications/argocd/api"
    assert exit_.timeout is not None
    assert "s3cr3t" not in json.dumps(exit_.trigger.serialize())
    scripted.answers = [(200, progressing), (503, b""), (200, application())]
    event = fire(exit_.trigger)
    result = getattr(sensor(deferrable=True), exit_.method_name)(context, event=event)
    assert result["rule"] == "healthy"


def test_done_at_the_first_look_does_not_defer(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application())]
    assert sensor(deferrable=True).execute(context)["rule"] == "healthy"


def test_trigger_dwells_before_it_fires(scripted: Any, context: dict[str, Any]) -> None:
    import time

    scripted.answers = [(200, application(health={"status": "Progressing"}))]
    exit_ = deferred(sensor(deferrable=True), context)
    scripted.answers = [(200, application())]
    begun = time.monotonic()
    fire(exit_.trigger, dwell=1.0)
    assert time.monotonic() - begun >= 1.0


def test_error_in_the_trigger_reaches_the_task(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application(health={"status": "Progressing"}))]
    exit_ = deferred(sensor(deferrable=True), context)
    scripted.answers = [(302, b"")]
    event = fire(exit_.trigger)
    with pytest.raises(AirflowFailException, match=r"InvalidInput.*redirects"):
        sensor().execute_complete(context, event=event)
    with pytest.raises(BadResponse):
        sensor().execute_complete(context, event=None)


def steady(**arguments: Any) -> Any:
    return sensor(
        ArgoCDSteadySensor,
        duration=timedelta(milliseconds=400),
        grace=timedelta(milliseconds=200),
        **arguments,
    )


def test_steady_is_a_result(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application())]
    result = steady().execute(context)
    assert (result["verdict"], result["rule"], result["revision"]) == ("steady", "healthy", NEW)


def test_degraded_is_a_result(scripted: Any, context: dict[str, Any]) -> None:
    ill = [{"kind": "Deployment", "name": "api", "health": {"status": "Degraded", "message": "probe failed"}}]
    scripted.answers = [
        (200, application()),
        (200, application(health={"status": "Degraded"}, resources=ill)),
    ]
    result = steady().execute(context)
    assert result["verdict"] == "degraded"
    assert "probe failed" in result["reason"]
    assert result["unhealthy_for"] >= 0.2


def test_steady_deferred_and_superseded(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application())]
    exit_ = deferred(steady(deferrable=True), context)
    newer = application(history=[{"id": 1, "revision": NEW}, {"id": 2, "revision": OLD}])
    scripted.answers = [(200, newer)]
    result = getattr(steady(), exit_.method_name)(context, event=fire(exit_.trigger))
    assert (result["verdict"], result["rule"]) == ("steady", "superseded")


def test_nothing_seen_is_no_verdict(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(401, {"code": 16, "message": "expired"})]
    with pytest.raises(AirflowFailException, match="AccessDenied"):
        steady().execute(context)


def manual(**status: Any) -> dict[str, Any]:
    app = application(**status)
    app["spec"]["syncPolicy"] = {}
    return app


def sync(**arguments: Any) -> Any:
    return sensor(
        ArgoCDSyncOperator, revision=NEW, timeout=timedelta(seconds=5), settle=timedelta(0), **arguments
    )


def mine(phase: str = "Succeeded", revision: str = NEW) -> dict[str, Any]:
    return operation(phase, revision, info=[{"name": "pipeops.airflow/id", "value": ME}])


def test_sync_sends_an_explicit_revision_and_its_identity(scripted: Any, context: dict[str, Any]) -> None:
    old = manual(sync={"status": "OutOfSync", "revision": NEW}, operationState=operation("Succeeded", OLD))
    scripted.answers = [(200, old), (200, old), (200, manual(operationState=mine()))]
    result = sync(prune=True).execute(context)
    assert (result["revision"], result["attached"], result["operation_id"]) == (NEW, False, ME)
    (body,) = [json.loads(body) for method, _, body in scripted.requests if method == "POST"]
    assert body["revision"] == NEW
    assert body["infos"] == [{"name": "pipeops.airflow/id", "value": ME}]
    assert body["prune"] is True
    assert not {"syncOptions", "retryStrategy"} & body.keys()


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_a_worker_that_died_finds_its_operation_again(
    phase: str, scripted: Any, context: dict[str, Any]
) -> None:
    scripted.answers = [(200, manual(operationState=mine(phase))), (200, manual(operationState=mine()))]
    assert sync().execute(context)["attached"] is True
    assert all(method == "GET" for method, _, _ in scripted.requests)


def test_a_failed_operation_of_ours_is_started_anew(scripted: Any, context: dict[str, Any]) -> None:
    failed = manual(operationState=mine("Failed"))
    scripted.answers = [(200, failed), (200, failed), (200, manual(operationState=mine()))]
    assert sync().execute(context)["attached"] is False


def test_an_operation_of_somebody_else_at_the_same_revision_is_joined(
    scripted: Any, context: dict[str, Any]
) -> None:
    running = manual(operationState=operation("Running"))
    scripted.answers = [(200, running), (200, running), (200, manual())]
    assert sync().execute(context)["attached"] is True


def test_a_partial_operation_at_the_same_revision_is_not_joined(
    scripted: Any, context: dict[str, Any]
) -> None:
    part = operation("Running")
    part["operation"]["sync"]["resources"] = [{"kind": "ConfigMap", "name": "x"}]
    idle = manual(operationState=operation("Succeeded", OLD))
    scripted.answers = [(200, manual(operationState=part))] * 2 + [(200, idle)] * 3
    scripted.answers.append((200, manual(operationState=mine())))
    assert sync().execute(context)["attached"] is False


def test_an_operation_at_another_revision_is_waited_for(scripted: Any, context: dict[str, Any]) -> None:
    other, idle = (
        manual(operationState=operation("Running", OLD)),
        manual(operationState=operation("Succeeded", OLD)),
    )
    scripted.answers = [
        (200, other),
        (200, other),
        (200, idle),
        (200, idle),
        (200, idle),
        (200, manual(operationState=mine())),
    ]
    assert sync().execute(context)["attached"] is False
    assert [method for method, _, _ in scripted.requests].count("POST") == 1


def test_waiting_for_another_operation_defers(scripted: Any, context: dict[str, Any]) -> None:
    other, idle = (
        manual(operationState=operation("Running", OLD)),
        manual(operationState=operation("Succeeded", OLD)),
    )
    scripted.answers = [(200, other)]
    exit_ = deferred(sync(deferrable=True), context)
    assert exit_.method_name == "execute_idle"
    scripted.answers = [(200, idle)]
    event = fire(exit_.trigger)
    scripted.answers = [(200, idle), (200, idle), (200, manual(operationState=mine()))]
    assert sync(deferrable=True).execute_idle(context, event=event)["attached"] is False


def test_an_answer_that_is_lost_after_the_server_acted_is_looked_up(
    scripted: Any, context: dict[str, Any]
) -> None:
    old = manual(operationState=operation("Succeeded", OLD))
    scripted.answers = [(200, old), (503, b""), (200, manual(operationState=mine()))]
    assert sync().execute(context)["rule"] == "healthy"
    assert [method for method, _, _ in scripted.requests].count("POST") == 1


def test_an_answer_that_is_lost_before_it_acted_is_worth_a_retry(
    scripted: Any, context: dict[str, Any]
) -> None:
    old = manual(operationState=operation("Succeeded", OLD))
    scripted.answers = [(200, old), (503, b""), (200, old)]
    with pytest.raises(Unreachable):
        sync().execute(context)


def test_an_operation_of_an_earlier_attempt_is_not_taken_for_one_that_was_lost(
    scripted: Any, context: dict[str, Any]
) -> None:
    failed = manual(operationState=mine("Failed"))
    scripted.answers = [(200, failed), (503, b""), (200, failed)]
    with pytest.raises(Unreachable):
        sync().execute(context)


def test_a_closed_window_says_when_it_changes(scripted: Any, context: dict[str, Any]) -> None:
    old = manual(operationState=operation("Succeeded", OLD))
    window = {"kind": "deny", "schedule": "0 8 * * *", "duration": "12h"}
    scripted.routes = {
        "/sync": (403, {"code": 7, "message": "cannot sync: blocked by sync window"}),
        "/syncwindows": (200, {"assignedWindows": [window]}),
    }
    scripted.answers = [(200, old)]
    with pytest.raises(AirflowFailException, match=r"SyncFailed(.|\n)*deny 0 8 \* \* \* for 12h, open"):
        sync().execute(context)


def test_auto_sync_and_another_revision_end_at_once(scripted: Any, context: dict[str, Any]) -> None:
    scripted.answers = [(200, application(sync={"status": "Synced", "revision": OLD}))]
    with pytest.raises(AirflowFailException, match=r"InvalidInput.*auto-sync"):
        sync().execute(context)


def test_sync_without_revision_makes_the_compared_one_explicit(
    scripted: Any, context: dict[str, Any]
) -> None:
    old = manual(sync={"status": "OutOfSync", "revision": NEW}, operationState=operation("Succeeded", OLD))
    scripted.answers = [(200, old), (200, old), (200, manual(operationState=mine()))]
    task = sync()
    task.revision = ""
    task.execute(context)
    assert [json.loads(body)["revision"] for method, _, body in scripted.requests if method == "POST"] == [
        NEW
    ]


def version(number: int, sync: str, revision: str) -> tuple[int, Any]:
    """Return an answer: the application as its controller wrote it so many times."""
    found = application(
        sync={"status": sync, "revision": revision}, operationState=operation("Succeeded", revision)
    )
    found["metadata"]["resourceVersion"] = str(number)
    return 200, found


def managed(differs: bool) -> tuple[int, Any]:
    """Return an answer: the application's one object."""
    live = {"kind": "ConfigMap", "data": {"value": "by hand" if differs else "1"}}
    wanted = {"kind": "ConfigMap", "data": {"value": "1"}}
    states = {"liveState": json.dumps(live), "targetState": json.dumps(wanted)}
    return 200, {"items": [{"kind": "ConfigMap", "name": "settings", "modified": differs, **states}]}


def diff(**arguments: Any) -> Any:
    return ArgoCDDiffOperator(task_id="task", app="api", refresh=False, **arguments)


def test_objects_of_one_revision_are_not_told_as_those_of_another(
    scripted: Any, context: dict[str, Any]
) -> None:
    """The application is read before a synchronisation, and its objects after it; the other way round is as bad."""
    still = [version(2, "Synced", NEW), managed(False), version(2, "Synced", NEW)]
    scripted.answers = [version(1, "OutOfSync", OLD), managed(False), *still]
    clean = diff().execute(context)
    assert (clean["verdict"], clean["revision"], clean["sync"]) == ("clean", NEW, "Synced")
    still = [version(2, "Synced", NEW), managed(False), version(2, "Synced", NEW)]
    scripted.answers = [version(1, "OutOfSync", OLD), managed(True), *still]
    clean = diff(on_difference="fail").execute(context)
    assert (clean["verdict"], clean["revision"], clean["differences"]) == ("clean", NEW, [])


def test_what_never_stands_still_is_not_told_to_differ(scripted: Any, context: dict[str, Any]) -> None:
    def moving() -> list[tuple[int, Any]]:
        return [one for n in range(9) for one in (version(n, "OutOfSync", NEW), managed(True))]

    scripted.answers = moving()
    found = diff().execute(context)
    assert (found["verdict"], found["differences"], found["fingerprint"]) == ("unknown", [], "")
    assert "changed each of" in found["reason"]
    scripted.answers = moving()
    with pytest.raises(AirflowFailException, match=r"cannot be compared with Git: .* changed each of"):
        diff(on_difference="fail").execute(context)
    scripted.answers = moving()
    with pytest.raises(Conflict, match="changed each of"):
        ArgoCDHook().difference("api")


def test_a_watcher_compares_objects_with_the_revision_that_they_are_of(scripted: Any) -> None:
    """It is told of a difference; before the objects are read, a commit comes, and they differ by that."""
    trigger = ArgoCDDriftTrigger(argocd_conn_id="argocd_default", apps=["api"])
    _, told = version(1, "OutOfSync", OLD)
    _, synced = version(1, "Synced", OLD)
    del told["spec"]["syncPolicy"]

    def judged(*answers: tuple[int, Any]) -> Any:
        async def story() -> Any:
            async with ArgoCDClient(scripted.url, "token", attempts=1) as client:
                _, memory = await trigger.judge(
                    client, ref, observe(synced), trigger.remembered({}), resumed=False
                )
                return await trigger.judge(client, ref, observe(told), memory, resumed=False)

        scripted.answers = list(answers)
        return asyncio.run(story())

    ref = AppRef("api", "ml")
    same = [managed(True), (200, told), managed(True), (200, told)]
    payload, _ = judged(*same)
    assert [one["name"] for one in payload["resources"]] == ["settings"]
    commit = application(
        sync={"status": "OutOfSync", "revision": NEW}, operationState=operation("Succeeded", OLD)
    )
    commit["metadata"]["resourceVersion"] = "2"
    moved = [(200, told), managed(True), (200, commit), managed(True), (200, commit)]
    payload, memory = judged(managed(True), *moved)
    assert payload is None
    assert memory.reported == ""


def test_drift_trigger_names_its_applications() -> None:
    with pytest.raises(InvalidInput):
        ArgoCDDriftTrigger()
    with pytest.raises(InvalidInput):
        ArgoCDDriftTrigger(apps="api")
    path, arguments = ArgoCDDriftTrigger(apps=["api"]).serialize()
    assert path == "airflow_pipeops.argocd.watchers.ArgoCDDriftTrigger"
    assert ArgoCDDriftTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)
