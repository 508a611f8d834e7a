"""The operators and the sensor, for real: against a Kubernetes API over HTTP, with controllers that work, fail and stall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import InvalidInput, Unreachable
from airflow_pipeops.flux.hook import FluxHook
from airflow_pipeops.flux.kinds import KINDS
from airflow_pipeops.flux.operators import (
    FluxDriftOperator,
    FluxReconcileOperator,
    FluxResumeOperator,
    FluxSuspendOperator,
)
from airflow_pipeops.flux.sensors import FluxReadySensor
from tests.flux.conftest import NAMESPACE, Flux, connect
from tests.kubernetes.apiserver import ApiServer, Fault
from tests.threads import repeated

NEVER = "f" * 40


def task(cls: Callable[..., Any], **arguments: Any) -> Any:
    """Return a task; a short one, in the worker."""
    given = {
        "task_id": "task",
        "name": "apps",
        "poll_interval": timedelta(milliseconds=20),
        "deferrable": False,
    }
    if cls in (FluxSuspendOperator, FluxDriftOperator):
        del given["poll_interval"], given["deferrable"]
    else:
        given["timeout"] = timedelta(seconds=15)
    return cls(**{**given, **arguments})


def annotation(flux: Flux, kind: str = "Kustomization", name: str = "apps") -> str:
    return str(
        (flux.get(kind, name)["metadata"].get("annotations") or {}).get("reconcile.fluxcd.io/requestedAt", "")
    )


# ---- the sensor --------------------------------------------------------------------------------------------------------


def test_a_revision_is_waited_for_until_it_is_applied_and_recorded(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    made = flux.world.commit()
    deliverable = Deliverable("api")
    result = task(FluxReadySensor, revision=made.sha, deliverable=deliverable, environment="staging").execute(
        context
    )
    assert result["revision"] == made.sha == flux.world.healthy
    assert (result["rule"], result["health"], result["warnings"]) == ("ready", "Healthy", [])
    extra = context["outlet_events"][deliverable.released("staging")].extra
    assert (extra["kind"], extra["id"]) == ("release", result["record_id"])


def test_ready_at_the_revision_before_is_not_taken_for_done(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    flux.pause()
    made = flux.world.commit()
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        task(FluxReadySensor, revision=made.sha, timeout=timedelta(milliseconds=200)).execute(context)
    flux.go_on()
    assert task(FluxReadySensor, revision=made.sha).execute(context)["revision"] == made.sha


def test_a_release_is_waited_for_through_its_kustomization(flux: Flux, context: dict[str, Any]) -> None:
    flux.install(helm=True)
    made = flux.world.commit(chart="2.0.0")
    flux.world.charts["2.0.0"] = 1
    flux.start()
    result = task(FluxReadySensor, kind="HelmRelease", name="api", revision=made.sha).execute(context)
    assert (result["chart"], result["revision"]) == ("2.0.0", made.sha)
    assert flux.world.released == "2.0.0"


def test_a_release_is_waited_for_by_its_chart(flux: Flux, context: dict[str, Any]) -> None:
    flux.install(helm=True)
    flux.world.commit(chart="2.0.0")
    flux.start()
    result = task(FluxReadySensor, kind="HelmRelease", name="api", chart_version="2.0.0").execute(context)
    assert result["chart"] == "2.0.0"


def test_a_failed_build_fails_at_once_and_says_everything(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    made = flux.world.commit(build="bad")
    event = {
        "involvedObject": {"kind": "Kustomization", "name": "apps", "namespace": NAMESPACE},
        "metadata": {"name": "e1", "namespace": NAMESPACE},
        "reason": "BuildFailed",
        "message": "kustomize build failed; token=s3cr3t-value " + "x" * 20000,
        "lastTimestamp": "2026-11-01T10:00:00Z",
    }
    flux.api.put("", "v1", "events", event)
    flux.start()
    with pytest.raises(AirflowFailException) as caught:
        task(FluxReadySensor, revision=made.sha).execute(context)
    text = str(caught.value)
    first = text.splitlines()[0]
    assert first.startswith(
        "SyncFailed: Flux Kustomization flux-system/apps: Kustomization flux-system/apps failed at"
    )
    assert "(BuildFailed): kustomize build failed" in first
    assert f"expected {made.sha[:8]}" in text
    assert "condition Ready: False, BuildFailed" in text
    assert "event 2026-11-01T10:00:00Z BuildFailed" in text
    assert "decided by rule attempt_failed" in text
    assert "s3cr3t" not in text
    assert len(text.encode()) < 8400


def test_health_must_fail_in_two_attempts(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    made = flux.world.commit(health=None)
    flux.start()
    flux.until(lambda: len(flux.world.failures) == 1)
    with pytest.raises(TaskDeferred):
        task(FluxReadySensor, revision=made.sha, deferrable=True).execute(context)
    with (
        retrying(flux),
        pytest.raises(
            AirflowFailException, match=r"2 attempts have failed(.|\n)*Deployment/api is Progressing in apps"
        ),
    ):
        task(FluxReadySensor, revision=made.sha, timeout=timedelta(seconds=60)).execute(context)


@contextmanager
def retrying(flux: Flux) -> Iterator[None]:
    """Have the kustomize-controller try again whenever it is idle, as at a short retry interval."""

    def work() -> None:
        flux.kustomize.due = flux.kustomize.phase == "idle"

    with repeated(0.1, work):
        yield


def test_a_suspended_object_fails_at_once(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    made = flux.world.commit()
    flux.set("Kustomization", "apps", suspend=True)
    flux.start()
    with pytest.raises(AirflowFailException, match="is suspended"):
        task(FluxReadySensor, revision=made.sha).execute(context)


def test_without_permission_to_ask_it_waits_all_the_same(
    flux: Flux, context: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    flux.api.tokens["token"] = lambda verb, *_: verb in ("get", "list", "watch")
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    made = flux.world.commit()
    assert task(FluxReadySensor, revision=made.sha).execute(context)["revision"] == made.sha
    assert annotation(flux) == ""


def test_a_sensor_that_may_not_ask_asks_nobody(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    flux.pause()
    sensor = task(
        FluxReadySensor, revision=NEVER, request_reconcile=False, timeout=timedelta(milliseconds=300)
    )
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        sensor.execute(context)
    assert not [
        line for line in flux.api.requests if line.startswith("PATCH") and not line.endswith("/status")
    ]


@pytest.mark.parametrize("revision", ["", None, "main", "a" * 8, {"https://elsewhere": "a" * 40}])
def test_a_revision_that_is_none_ends_at_once(flux: Flux, context: dict[str, Any], revision: Any) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    with pytest.raises(AirflowFailException, match="InvalidInput"):
        task(FluxReadySensor, revision=revision).execute(context)


def test_an_object_that_is_not_there(flux: Flux, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match=r"NotFound.*flux-system/absent does not exist"):
        task(FluxReadySensor, name="absent", revision=NEVER, source_grace=timedelta(0)).execute(context)


def test_an_object_that_the_commit_brings_is_waited_for_and_its_source_asked(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install()
    brought = flux.get("Kustomization", "apps")
    del flux.api._by_plural("kustomizations").objects[NAMESPACE, "apps"]
    made = flux.world.commit()
    sensor = task(FluxReadySensor, revision=made.sha, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    assert annotation(flux, "GitRepository", "deploy").endswith(".ask1")
    del brought["metadata"]["uid"]
    flux.api.put("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", brought)
    flux.start()
    event = run_trigger(deferred.value.trigger)
    assert event["verdict"]["rule"] == "ready"


def test_an_object_that_is_deleted_in_the_middle_is_said_to_be_gone(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install()
    made = flux.world.commit()
    with pytest.raises(TaskDeferred) as deferred:
        task(FluxReadySensor, revision=made.sha, deferrable=True).execute(context)
    del flux.api._by_plural("kustomizations").objects[NAMESPACE, "apps"]
    event = run_trigger(deferred.value.trigger)
    assert event["verdict"]["rule"] == "app_deleted"
    assert "Kustomization flux-system/apps is gone" in event["verdict"]["reason"]


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (FluxReadySensor, {"match": "nearly"}),
        (FluxReadySensor, {"on_drift": "maybe"}),
        (FluxReadySensor, {"on_drift": "fail"}),  # nobody can tell of a Kustomization
        (FluxDriftOperator, {"on_unknown": "maybe"}),
        (FluxReadySensor, {"on_suspended": "maybe"}),
        (FluxReadySensor, {"on_unknown": "maybe"}),
        (FluxReadySensor, {"failed_attempts": 0}),
        (FluxReadySensor, {"timeout": 5}),
        (FluxReadySensor, {"chart_version": "1.0.0"}),
        (FluxReconcileOperator, {"force": True}),
        (FluxDriftOperator, {"on_drift": "wait"}),
        (FluxDriftOperator, {"since": timedelta(0)}),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_read(cls: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(arguments)).split("_")[0]):
        task(cls, **arguments)


def test_a_kind_that_nobody_can_wait_for(flux: Flux, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match=r"InvalidInput.*kind"):
        task(FluxReadySensor, kind="Deployment", revision=NEVER).execute(context)


# ---- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", method="GET", path="*/kustomizations/*", status=503, count=6),
        Fault("status", method="GET", path="*", status=429, retry_after="0", count=6),
        Fault("drop", method="GET", path="*/kustomizations/*", count=4),
        Fault("truncate", method="GET", path="*/gitrepositories/*", count=4),
        Fault("status", method="PATCH", path="*/gitrepositories/deploy", status=503, count=3),
        Fault("lose", method="PATCH", path="*/kustomizations/apps", count=1),
        Fault("status", method="PATCH", path="*/status", status=409, count=5),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.method}-{fault.status}",
)
def test_a_server_that_fails_for_a_while_is_outlasted(
    flux: Flux, context: dict[str, Any], fault: Fault
) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    made = flux.world.commit()
    flux.api.faults.append(fault)
    assert (
        task(FluxReadySensor, revision=made.sha, timeout=timedelta(seconds=40)).execute(context)["revision"]
        == made.sha
    )


def test_a_token_that_expires_in_the_middle_ends_the_wait_with_the_reason(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    flux.pause()
    flux.api.tokens.pop("token")
    with pytest.raises(AirflowFailException, match=r"AccessDenied.*refuses the credential \(401\)"):
        task(FluxReadySensor, revision=NEVER).execute(context)
    tries = [line for line in flux.api.requests if "kustomizations/apps" in line]
    assert len(tries) < 12


def test_deleted_and_created_again_in_the_middle_is_said(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit()
    with pytest.raises(TaskDeferred) as deferred:
        task(FluxReadySensor, revision=flux.world.commits[0].sha, deferrable=True).execute(context)
    again = flux.get("Kustomization", "apps")
    again["metadata"].update(uid="another", labels={"new": "yes"})
    del flux.api._by_plural("kustomizations").objects[NAMESPACE, "apps"]
    flux.api.put("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", again)
    event = run_trigger(deferred.value.trigger)
    assert event["verdict"]["rule"] == "recreated"


# ---- deferral ----------------------------------------------------------------------------------------------------------


def run_trigger(trigger: Any, seconds: float = 120.0) -> Any:
    """Run a trigger as a triggerer does: made anew from what was stored, until its one event."""
    path, arguments = trigger.serialize()
    stored = json.loads(json.dumps(arguments))
    assert "s3cr3t" not in json.dumps(stored)
    assert path == f"{type(trigger).__module__}.{type(trigger).__qualname__}"
    stored["dwell"] = 0.0
    anew = type(trigger)(**stored)

    async def inside() -> Any:
        async for event in anew.run():
            return event.payload
        raise AssertionError("no event")

    return asyncio.run(asyncio.wait_for(inside(), seconds))


def test_a_deferred_wait_goes_on_in_the_triggerer(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    flux.pause()
    made = flux.world.commit()
    sensor = task(FluxReadySensor, revision=made.sha, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    flux.go_on()
    event = run_trigger(deferred.value.trigger)
    result = getattr(sensor, deferred.value.method_name)(context, event)
    assert result["revision"] == made.sha == flux.world.applied


def test_what_is_done_already_defers_nothing(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    made = flux.world.commit()
    flux.start()
    flux.until_ready()
    assert task(FluxReadySensor, revision=made.sha, deferrable=True).execute(context)["rule"] == "ready"


def test_an_error_of_the_trigger_arrives_as_itself(context: dict[str, Any]) -> None:
    sensor = task(FluxReadySensor, revision=NEVER)
    with pytest.raises(Unreachable, match="gone"):
        sensor.execute_complete(context, {"error": "gone", "type": "Unreachable"})


# ---- reconcile ---------------------------------------------------------------------------------------------------------


def test_a_request_is_answered_and_waited_for(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    result = task(FluxReconcileOperator, with_source=True).execute(context)
    assert result["request"] == annotation(flux) == annotation(flux, "GitRepository", "deploy")
    assert flux.get("Kustomization", "apps")["status"]["lastHandledReconcileAt"] == result["request"]
    assert not result["attached"]


def test_answered_is_not_ready(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit(health=None)
    flux.start()
    flux.until(lambda: len(flux.world.failures) == 1)
    operator = task(FluxReconcileOperator, failed_attempts=50, timeout=timedelta(seconds=1))
    with pytest.raises(AirflowFailException, match="WaitTimeout"):
        operator.execute(context)
    assert flux.get("Kustomization", "apps")["status"]["lastHandledReconcileAt"] == annotation(flux)


def test_a_worker_that_died_finds_its_request_again(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    flux.pause()
    operator = task(FluxReconcileOperator, deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(context)
    first = annotation(flux)
    before = len(_own_patches(flux))
    with pytest.raises(TaskDeferred) as again:
        operator.execute(context)
    assert annotation(flux) == first
    assert len(_own_patches(flux)) == before
    flux.go_on()
    result = getattr(operator, again.value.method_name)(context, run_trigger(again.value.trigger))
    assert result["attached"]


def test_a_request_whose_answer_was_lost_is_found_and_not_made_twice(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    flux.api.faults.append(Fault("lose", method="PATCH", path="*/kustomizations/apps", count=1))
    result = task(FluxReconcileOperator).execute(context)
    assert result["request"].endswith(".1")
    assert len(_own_patches(flux)) == 1


def test_another_task_makes_a_request_of_its_own(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    one = task(FluxReconcileOperator).execute(context)["request"]
    context["ti"].run_id = "run-2"
    other = task(FluxReconcileOperator).execute(context)["request"]
    assert one != other
    assert "run" not in one


def test_a_release_that_has_given_up_is_taken_up_with_a_new_request(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install(helm=True)
    flux.world.commit(chart="2.0.0")
    flux.world.charts["2.0.0"] = None
    flux.start()
    operator = task(FluxReconcileOperator, kind="HelmRelease", name="api", reset=True)
    with pytest.raises(AirflowFailException, match="has given up: RetriesExceeded"):
        operator.execute(context)
    first = annotation(flux, "HelmRelease", "api")
    flux.until(lambda: flux.get("HelmRelease", "api")["status"].get("lastHandledReconcileAt") == first)
    with pytest.raises(AirflowFailException):
        operator.execute(context)
    annotations = flux.get("HelmRelease", "api")["metadata"]["annotations"]
    second = annotations["reconcile.fluxcd.io/requestedAt"]
    assert second != first
    assert annotations["reconcile.fluxcd.io/resetAt"] == second


def _own_patches(flux: Flux) -> list[str]:
    return [
        line
        for line in flux.api.requests
        if line.startswith("PATCH") and line.endswith("kustomizations/apps")
    ]


# ---- suspend, resume ---------------------------------------------------------------------------------------------------


def test_suspend_and_resume_change_something_once(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    assert [task(FluxSuspendOperator).execute(context)["changed"] for _ in range(2)] == [True, False]
    made = flux.world.commit()
    flux.until(lambda: made.sha in flux.get("GitRepository", "deploy")["status"]["artifact"]["revision"])
    assert flux.world.applied != made.sha
    result = task(FluxResumeOperator).execute(context)
    assert result["changed"]
    assert result["revision"] == made.sha
    assert not task(FluxResumeOperator, wait_for_ready=False).execute(context)["changed"]


def test_a_worker_that_died_in_resuming_waits_for_its_own_resumption(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    task(FluxSuspendOperator).execute(context)
    flux.pause()
    operator = task(FluxResumeOperator, deferrable=True)
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(context)
    assert deferred.value.trigger.expectation["operation_id"] == annotation(flux)
    flux.go_on()
    assert run_trigger(deferred.value.trigger)["verdict"]["state"] == "done"


# ---- drift -------------------------------------------------------------------------------------------------------------


def test_drift_of_a_release(flux: Flux, context: dict[str, Any]) -> None:
    flux.install(helm=True)
    flux.world.commit()
    flux.start()
    flux.until_ready("HelmRelease", "api")
    operator = task(FluxDriftOperator, kind="HelmRelease", name="api")
    assert operator.execute(context)["verdict"] == "clean"
    flux.pause()
    drifted = {
        "type": "Drifted",
        "status": "True",
        "reason": "DriftDetected",
        "message": "Cluster state has drifted:\nDeployment/apps/api changed (0 additions, 1 changes, 0 removals)",
    }
    flux.api.change(
        "helmreleases", NAMESPACE, "api", lambda item: item["status"]["conditions"].append(drifted)
    )
    found = operator.execute(context)
    assert found["verdict"] == "drifted"
    assert found["resources"] == [
        {"kind": "Deployment", "namespace": "apps", "name": "api", "change": "modified"}
    ]
    with pytest.raises(AirflowFailException, match=r"DriftFound.*Deployment/api"):
        task(FluxDriftOperator, kind="HelmRelease", name="api", on_drift="fail").execute(context)
    flux.set("HelmRelease", "api", driftDetection=None)
    found = operator.execute(context)
    assert found["verdict"] == "unknown"
    assert "drift detection off" in found["warning"]
    gate = {"kind": "HelmRelease", "name": "api", "on_drift": "fail"}
    with pytest.raises(AirflowFailException, match=r"DriftFound: nobody can tell .*drift detection off"):
        task(FluxDriftOperator, **gate).execute(context)
    assert task(FluxDriftOperator, **gate, on_unknown="accept").execute(context)["verdict"] == "unknown"


def test_corrections_of_a_kustomization(flux: Flux, context: dict[str, Any]) -> None:
    flux.install()
    made = flux.world.commit()
    flux.start()
    flux.until_ready()
    flux.pause()
    revision = f"main@sha1:{made.sha}"
    entry = {
        "firstReconciled": "2999-01-01T10:00:00Z",
        "lastReconciledStatus": "ReconciliationSucceeded",
        "metadata": {"revision": revision},
    }
    flux.api.change("kustomizations", NAMESPACE, "apps", lambda item: item["status"].update(history=[entry]))
    # The story is set in another time than that of the controllers.
    flux.api._by_plural("events").objects.clear()

    def event(name: str, at: str, message: str) -> None:
        flux.api.put(
            "",
            "v1",
            "events",
            {
                "involvedObject": {"kind": "Kustomization", "name": "apps", "namespace": NAMESPACE},
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "annotations": {"kustomize.toolkit.fluxcd.io/revision": revision},
                },
                "reason": "Progressing",
                "type": "Normal",
                "message": message,
                "lastTimestamp": at,
            },
        )

    event(
        "the-release-itself",
        "2999-01-01T09:59:59Z",
        "Deployment/apps/api configured\nService/apps/api created",
    )
    operator = task(FluxDriftOperator)
    assert operator.execute(context)["verdict"] == "clean"
    event(
        "a-correction",
        "2999-01-01T10:10:00Z",
        "Deployment/apps/api configured\nConfigMap/apps/settings created",
    )
    found = operator.execute(context)
    assert (found["verdict"], found["warning"]) == ("corrected", "")
    assert [(one["name"], one["change"]) for one in found["resources"]] == [
        ("api", "modified"),
        ("settings", "missing"),
    ]


# ---- what the credential may not see ----------------------------------------------------------------------------------


def owned_by(flux: Flux, kind: str, name: str, namespace: str) -> None:
    """Have a Kustomization of another namespace apply an object."""
    labels = {
        "kustomize.toolkit.fluxcd.io/name": "fleet",
        "kustomize.toolkit.fluxcd.io/namespace": namespace,
    }
    flux.api.change(KINDS[kind][2], NAMESPACE, name, lambda item: item["metadata"].update(labels=labels))


def forbid(flux: Flux, plural: str, namespace: str) -> None:
    flux.api.tokens["token"] = lambda verb, what, where: (
        not (what.startswith(f"{plural}.") and where == namespace)
    )


@pytest.mark.parametrize("owned", ["Kustomization", "GitRepository"])
def test_no_gate_opens_while_what_applies_an_object_may_not_be_seen(
    flux: Flux, context: dict[str, Any], owned: str
) -> None:
    flux.install()
    made = flux.world.commit()
    owned_by(flux, owned, "apps" if owned == "Kustomization" else "deploy", "tenants")
    forbid(flux, "kustomizations", "tenants")
    flux.start()
    flux.until_ready(commit=made.sha)
    lacking = "cannot get resource 'kustomizations.kustomize.toolkit.fluxcd.io' in namespace 'tenants'"
    with pytest.raises(AirflowFailException, match=lacking) as caught:
        task(FluxReadySensor, revision=made.sha, timeout=timedelta(milliseconds=500)).execute(context)
    assert "WaitTimeout" in str(caught.value)
    with pytest.raises(AirflowFailException, match=lacking) as caught:
        task(FluxReadySensor, revision=made.sha, on_unknown="fail").execute(context)
    assert "NotJudged" in str(caught.value)
    # An explicit choice, which the result repeats.
    result = task(FluxReadySensor, revision=made.sha, on_unknown="accept").execute(context)
    assert result["rule"] == "ready"
    assert any(lacking in one for one in result["warnings"])
    # Where any revision will do, it is of no account who applies it.
    assert task(FluxReadySensor, match="any").execute(context)["rule"] == "ready"
    # Once it may be seen, it is told.
    flux.api.tokens["token"] = lambda *_: True
    assert task(FluxReadySensor, revision=made.sha).execute(context)["warnings"] == []


def test_what_a_source_holds_cannot_be_told_where_it_may_not_be_seen(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install()
    flux.world.commit()
    flux.start()
    flux.until_ready()
    forbid(flux, "gitrepositories", NAMESPACE)
    with pytest.raises(AirflowFailException, match=r"cannot get resource 'gitrepositories\.source"):
        task(FluxReadySensor, match="any", on_unknown="fail").execute(context)


def test_a_release_is_not_taken_for_ready_of_a_commit_while_its_owner_may_not_be_seen(
    flux: Flux, context: dict[str, Any]
) -> None:
    flux.install(helm=True)
    made = flux.world.commit(chart="2.0.0")
    flux.start()
    flux.until(lambda: flux.world.released == "2.0.0")
    forbid(flux, "kustomizations", NAMESPACE)
    given = {"kind": "HelmRelease", "name": "api"}
    for choice, error in (("fail", "NotJudged"), ("accept", "WaitTimeout")):
        with pytest.raises(AirflowFailException, match="cannot get resource 'kustomizations") as caught:
            task(
                FluxReadySensor,
                **given,
                revision=made.sha,
                on_unknown=choice,
                timeout=timedelta(milliseconds=500),
            ).execute(context)
        assert error in str(caught.value)
    # What it says of its chart needs no owner.
    assert task(FluxReadySensor, **given, chart_version="2.0.0").execute(context)["chart"] == "2.0.0"


# ---- the connection ----------------------------------------------------------------------------------------------------


def test_the_connection_says_what_it_may_and_lacks(flux: Flux) -> None:
    works, said = FluxHook().test_connection()
    assert works
    assert said == "Kubernetes v1.34.1, namespace flux-system; the credential can look, watch and reconcile"
    flux.api.tokens["token"] = lambda verb, *_: verb == "get"
    works, said = FluxHook().test_connection()
    assert works
    assert "lacks: list kustomizations" in said
    assert "watch kustomizations" in said
    assert "list events (for messages and drift)" in said
    assert "patch kustomizations, helmreleases, gitrepositories, ocirepositories (to reconcile" in said
    flux.api.tokens["token"] = lambda verb, what, _: "kustom" not in what
    works, said = FluxHook().test_connection()
    assert not works
    assert "get kustomizations (to wait)" in said


def test_a_connection_with_a_refused_token_says_so(flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, flux.api.url, "another-token")
    works, said = FluxHook().test_connection()
    assert not works
    assert "refuses the credential (401)" in said
    assert "another-token" not in said


def test_a_server_that_is_not_there_says_so(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "http://127.0.0.1:9")
    works, said = FluxHook().test_connection()
    assert not works
    assert "127.0.0.1:9" in said


def test_the_documented_permissions_are_enough(flux: Flux, context: dict[str, Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "flux.md").read_text()
    rules = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])["rules"]
    allowed = {
        (verb, f"{plural}.{group}".rstrip("."))
        for rule in rules
        for group in rule["apiGroups"]
        for plural in rule["resources"]
        for verb in rule["verbs"]
    }
    flux.api.tokens["token"] = lambda verb, what, _: (verb, what) in allowed
    flux.install(helm=True)
    made = flux.world.commit()
    flux.start()
    assert FluxHook().test_connection()[1].endswith("can look, watch and reconcile")
    assert task(FluxReadySensor, revision=made.sha).execute(context)["rule"] == "ready"
    assert task(FluxReconcileOperator, with_source=True).execute(context)["rule"] == "ready"
    assert task(FluxSuspendOperator, kind="HelmRelease", name="api").execute(context)["changed"]
    assert task(FluxResumeOperator, kind="HelmRelease", name="api").execute(context)["changed"]
    assert task(FluxDriftOperator).execute(context)["verdict"] == "clean"
