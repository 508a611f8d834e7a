"""The provider's own operators, mixed with the record: run for real against the API, deferred or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.sdk.exceptions import TaskDeferred

from airflow_pipeops.build.cluster.operators import RecordedJobOperator, RecordedPodOperator
from airflow_pipeops.build.cluster.recorded import RecordedPod, ran
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import InvalidInput
from tests.build.cluster.test_backends import always, connect
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.workloads import playing

MODEL = Deliverable("flight-delay")
DIGEST = "sha256:" + "e" * 64
IMAGE = f"registry.example.com/train@{DIGEST}"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with serving() as server:
        connect(monkeypatch, server)
        yield server


@pytest.fixture
def running(context: dict[str, Any]) -> dict[str, Any]:
    """A task's context with what the provider asks of it."""
    ti = context["ti"]
    ti.try_number, ti.render_template_fields = 1, lambda *_: None
    context["dag"], context["task"] = None, None
    context["run_id"] = context["dag_run"].run_id
    context["dag_run"].logical_date = None
    return context


GIVEN: dict[str, Any] = {
    "task_id": "train",
    "name": "train",
    "image": IMAGE,
    "deliverable": MODEL,
    "record": "model",
    "facts": {"epochs": 3},
    "log_events_on_failure": False,
    "startup_check_interval_seconds": 1,
}


#: The provider looks for the pods of a Job so often, without a pause; the Job controller takes a moment.
AT_ONCE: dict[str, Any] = {"parallelism": 1, "job_poll_interval": 0.2, "discover_pods_retry_number": 1000}


def operator(kind: str, **more: Any) -> Any:
    if kind == "pod":
        return RecordedPodOperator(**{**GIVEN, **more})
    return RecordedJobOperator(**{**GIVEN, **AT_ONCE, **more})


def resumed(made: Any, deferred: TaskDeferred, context: Any) -> Any:
    """Do what Airflow does: run the trigger, and go on with its event."""
    path, arguments = deferred.trigger.serialize()
    trigger = type(deferred.trigger)(**arguments)

    async def event() -> Mapping[str, Any]:
        async for one in trigger.run():
            payload: Mapping[str, Any] = one.payload
            return payload
        raise AssertionError(f"{path} ended without an event")

    return getattr(made, deferred.method_name)(context, event=asyncio.run(event()))


def run(made: Any, context: Any) -> Any:
    try:
        return type(made).execute(made, context)
    except TaskDeferred as deferred:
        return resumed(made, deferred, context)


def record_of(context: dict[str, Any], made: Any) -> dict[str, Any]:
    extra = context["outlet_events"][MODEL.asset("model")].extra
    found: dict[str, Any] = extra.get("pipeops", extra)
    return found


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("kind", ["pod", "job"])
def test_what_ran_becomes_a_record_with_its_digests(
    api: ApiServer, running: dict[str, Any], kind: str, deferrable: bool
) -> None:
    made = operator(kind, deferrable=deferrable)
    with playing(api, always(pods.runs(), pods.says("epoch 3"), pods.ends())):
        run(made, running)
    xcoms = running["ti"].xcoms
    assert xcoms["images"] == [{"container": "base", "image": IMAGE, "digest": DIGEST}]
    assert len(xcoms["record_id"]) == 64
    said = json.dumps(record_of(running, made))
    assert DIGEST in said
    assert '"epochs": 3' in said


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("kind", ["pod", "job"])
def test_what_failed_is_not_recorded(
    api: ApiServer, running: dict[str, Any], kind: str, deferrable: bool
) -> None:
    made = operator(kind, deferrable=deferrable)
    with playing(api, always(pods.runs(), pods.ends(1))), pytest.raises(Exception, match=r"fail|Fail|error"):
        run(made, running)
    assert "record_id" not in running["ti"].xcoms


def test_a_job_that_nobody_waits_for_is_not_recorded_as_done() -> None:
    class Mixed(RecordedPod, KubernetesJobOperator):
        """As a user mixes it; the provider's own default is not to wait."""

    for make in (partial(operator, "job", wait_until_job_complete=False), partial(Mixed, **GIVEN)):
        with pytest.raises(InvalidInput, match="what has only begun cannot be recorded"):
            make()


def test_an_unknown_kind_of_record_is_refused() -> None:
    with pytest.raises(InvalidInput, match="record kind 'pod' is unknown"):
        operator("pod", record="pod")


def pod(image: str, image_id: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "ci"},
        "spec": {"nodeName": "n", "containers": [{"name": "base", "image": image}]},
        "status": {
            "containerStatuses": [
                {"name": "base", "image": "docker.io/" + image, "imageID": image_id},
                {"name": "airflow-xcom-sidecar", "image": "alpine", "imageID": "alpine@" + DIGEST},
            ]
        },
    }


@pytest.mark.parametrize(
    ("image", "image_id", "digest"),
    [
        ("train:1", f"docker.io/library/train@{DIGEST}", DIGEST),
        ("train:1", f"docker-pullable://train@{DIGEST}", DIGEST),
        # The id of a configuration is no digest of a manifest: it says nothing that a registry would understand.
        ("train:1", DIGEST, ""),
        (f"train@{DIGEST}", "sha256:" + "f" * 64, DIGEST),
        ("train:1", "", ""),
    ],
)
def test_the_digest_is_what_the_kubelet_says_and_nothing_else(image: str, image_id: str, digest: str) -> None:
    assert ran(pod(image, image_id)) == {
        "pod": "p",
        "namespace": "ci",
        "node": "n",
        "images": [{"container": "base", "image": image, "digest": digest}],
    }


def test_a_pod_that_says_nothing_is_recorded_as_that() -> None:
    assert ran({"status": "?"})["images"] == []
