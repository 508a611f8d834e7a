"""The API server for tests with its Jobs, pods and logs, asked by the client that Airflow's provider uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client as k8s

from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.objects import selected
from tests.openapi import problems


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        yield server


@pytest.fixture
def batch(api: ApiServer) -> k8s.BatchV1Api:
    return k8s.BatchV1Api(connected(api))


@pytest.fixture
def core(api: ApiServer) -> k8s.CoreV1Api:
    return k8s.CoreV1Api(connected(api))


def connected(api: ApiServer) -> k8s.ApiClient:
    configuration = k8s.Configuration(host=api.url)
    configuration.api_key = {"authorization": "Bearer token"}
    return k8s.ApiClient(configuration)


def job(name: str = "build") -> dict[str, Any]:
    template = {
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [
                {"name": "fetch", "image": "alpine/git"},
                {"name": "reports", "image": "alpine", "restartPolicy": "Always"},
            ],
            "containers": [{"name": "main", "image": "registry.example.com/shop:1"}],
        }
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "ci"},
        "spec": {"backoffLimit": 0, "template": template},
    }


def until(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + 120
    while not (found := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
    return found


def finished(api: ApiServer, name: str = "build") -> dict[str, Any]:
    def look() -> Any:
        item = api.read("jobs", "ci", name)
        conditions = ((item or {}).get("status") or {}).get("conditions")
        return item if conditions else None

    found: dict[str, Any] = until(look)
    return found


def only_pod(api: ApiServer) -> dict[str, Any]:
    (found,) = api.all("pods")
    return found


@pytest.mark.parametrize(
    ("steps", "condition", "phase"),
    [
        ([pods.runs(), pods.says("hello"), pods.ends()], ("Complete", "CompletionsReached"), "Succeeded"),
        ([pods.runs(), pods.ends(3)], ("Failed", "BackoffLimitExceeded"), "Failed"),
        ([pods.runs(), pods.out_of_memory()], ("Failed", "BackoffLimitExceeded"), "Failed"),
        ([pods.runs(), pods.evicted()], ("Failed", "BackoffLimitExceeded"), "Failed"),
        ([pods.init_fails("fetch", 128, "no")], ("Failed", "BackoffLimitExceeded"), "Failed"),
        ([pods.runs(), pods.too_long()], ("Failed", "BackoffLimitExceeded"), "Failed"),
    ],
)
def test_a_job_ends_as_its_pod_does(
    api: ApiServer, batch: k8s.BatchV1Api, steps: list[Any], condition: tuple[str, str], phase: str
) -> None:
    with pods.playing(api, lambda pod: steps):
        batch.create_namespaced_job("ci", job())
        said = finished(api)["status"]["conditions"][0]
    assert (said["type"], said["reason"]) == condition
    assert only_pod(api)["status"]["phase"] == phase
    # What is served has the form that the published description gives to it.
    assert problems(api.read("jobs", "ci", "build"), k8s.V1Job) == []
    assert problems(only_pod(api), k8s.V1Pod) == []


def test_a_node_that_is_lost_takes_the_pod_and_its_log_with_it(
    api: ApiServer, batch: k8s.BatchV1Api, core: k8s.CoreV1Api
) -> None:
    with pods.playing(api, lambda pod: [pods.runs(), pods.says("half"), pods.node_lost()]):
        batch.create_namespaced_job("ci", job())
        assert finished(api)["status"]["conditions"][0]["reason"] == "BackoffLimitExceeded"
    assert api.all("pods") == []
    assert {event.reason for event in core.list_namespaced_event("ci").items} == {
        "NodeNotReady",
        "TaintManagerEviction",
    }


def test_what_waits_for_quota_begins_when_there_is_room(
    api: ApiServer, batch: k8s.BatchV1Api, core: k8s.CoreV1Api
) -> None:
    api.admission.append(pods.quota())
    with pods.playing(api, lambda pod: [pods.runs(), pods.ends()]):
        batch.create_namespaced_job("ci", job())
        (event,) = until(lambda: core.list_namespaced_event("ci").items)
        assert (event.reason, event.involved_object.kind) == ("FailedCreate", "Job")
        assert "exceeded quota: team" in event.message
        api.admission.clear()
        assert finished(api)["status"]["conditions"][0]["type"] == "Complete"


@pytest.mark.parametrize(
    ("arranged", "code", "said"),
    [
        (lambda api: api.admission.append(pods.quota("count/jobs.batch", "jobs")), 403, "exceeded quota"),
        (lambda api: api.no_namespaces.add("ci"), 404, 'namespaces \\"ci\\" not found'),
        (lambda api: api.ending_namespaces.add("ci"), 403, "being terminated"),
    ],
)
def test_a_job_is_refused(
    api: ApiServer, batch: k8s.BatchV1Api, arranged: Callable[[ApiServer], None], code: int, said: str
) -> None:
    arranged(api)
    with pytest.raises(k8s.ApiException) as refused:
        batch.create_namespaced_job("ci", job())
    assert refused.value.status == code
    assert said in refused.value.body


def test_a_log_is_followed_and_read_from_a_moment_on(
    api: ApiServer, batch: k8s.BatchV1Api, core: k8s.CoreV1Api
) -> None:
    more = threading.Event()
    steps = [pods.runs(), pods.says("one", "two"), pods.waits(more), pods.says("three"), pods.ends()]
    with pods.playing(api, lambda pod: steps):
        batch.create_namespaced_job("ci", job())
        until(lambda: api.all("pods") and only_pod(api)["status"]["phase"] == "Running")
        name = only_pod(api)["metadata"]["name"]
        until(lambda: "two" in core.read_namespaced_pod_log(name, "ci", container="main"))
        stream = core.read_namespaced_pod_log(
            name, "ci", container="main", follow=True, timestamps=True, _preload_content=False
        )
        lines = []
        for chunk in stream.stream():
            lines += chunk.decode().splitlines()
            more.set()
        assert [line.partition(" ")[2] for line in lines] == ["one", "two", "three"]
        last = core.read_namespaced_pod_log(
            name, "ci", container="main", tail_lines=1, _preload_content=False
        )
        assert last.data == b"three\n"
        with pytest.raises(k8s.ApiException, match="choose one of"):
            core.read_namespaced_pod_log(name, "ci", container="nonesuch")


def test_a_container_that_has_not_begun_has_no_log(
    api: ApiServer, batch: k8s.BatchV1Api, core: k8s.CoreV1Api
) -> None:
    with pods.playing(api, lambda pod: [pods.cannot_pull()]):
        batch.create_namespaced_job("ci", job())
        until(lambda: api.all("pods") and only_pod(api)["status"].get("containerStatuses"))
        with pytest.raises(k8s.ApiException, match="waiting to start") as refused:
            core.read_namespaced_pod_log(only_pod(api)["metadata"]["name"], "ci", container="main")
        assert refused.value.status == 400


@pytest.mark.parametrize(("policy", "left"), [(None, 1), ("Background", 0), ("Orphan", 1)])
def test_a_job_that_is_deleted_leaves_its_pods_unless_told(
    api: ApiServer, batch: k8s.BatchV1Api, policy: str | None, left: int
) -> None:
    with pods.playing(api, lambda pod: [pods.runs()]):
        batch.create_namespaced_job("ci", job())
        until(lambda: api.all("pods"))
        given = {} if policy is None else {"propagation_policy": policy}
        batch.delete_namespaced_job("build", "ci", **given)
    assert api.all("jobs") == []
    assert len(api.all("pods")) == left


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=web", True),
        ("app==web,tier", True),
        ("app!=web", False),
        ("color!=red", True),
        ("!color", True),
        ("!app", False),
        ("app in (api, web),tier notin (back)", True),
        ("tier notin (front)", False),
    ],
)
def test_label_selectors_select_as_the_server_does(selector: str, found: bool) -> None:
    item = {"metadata": {"labels": {"app": "web", "tier": "front"}}}
    assert selected(item, "", {"labelSelector": selector}) is found
