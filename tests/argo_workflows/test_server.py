"""The server for tests: each call answers as the published description says, and its faults are there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.argo_workflows.server import ArgoServer, Plan, fnv, pod_of, serving_argo
from tests.kubernetes.apiserver import Fault

WORKFLOW: dict[str, Any] = {
    "metadata": {"name": "train", "labels": {"team": "ml"}},
    "spec": {
        "entrypoint": "main",
        "archiveLogs": True,
        "templates": [
            {
                "name": "main",
                "dag": {
                    "tasks": [
                        {"name": "prepare", "template": "step"},
                        {"name": "fit", "template": "step", "dependencies": ["prepare"]},
                    ]
                },
            },
            {"name": "step", "container": {"image": "alpine", "command": ["true"]}},
        ],
    },
}


@pytest.fixture
def argo() -> Iterator[ArgoServer]:
    with serving_argo() as server:
        yield server


@pytest.fixture
def http(argo: ArgoServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=argo.url, headers={"Authorization": "Bearer token"}, timeout=20) as client:
        yield client


def create(http: httpx.Client, **workflow: Any) -> httpx.Response:
    return http.post("/api/v1/workflows/argo", json={"workflow": {**WORKFLOW, **workflow}})


def test_each_call_answers_as_the_description_says(argo: ArgoServer, http: httpx.Client) -> None:
    """What does not fit is an error at the end of the fixture."""
    base = "/api/v1/workflows/argo"
    assert http.post(f"{base}/lint", json={"namespace": "argo", "workflow": WORKFLOW}).status_code == 200
    made = create(http).json()
    assert made["status"] == {"startedAt": None, "finishedAt": None}
    argo.begin("train")
    running = http.get(f"{base}/train").json()
    assert (running["status"]["phase"], running["status"]["progress"]) == ("Running", "0/2")
    argo.node("train", "prepare", "Succeeded", exit_code=0, outputs={"rows": "3"}, log=("read 3 rows",))
    argo.node("train", "fit", "Failed", exit_code=1, message="Error (exit code 1)")
    for act in ("suspend", "resume"):
        assert http.put(f"{base}/train/{act}", json={"name": "train", "namespace": "argo"}).status_code == 200
    argo.finish("train", "Failed", message="child failed")
    listed = http.get(base, params={"listOptions.labelSelector": "team=ml"}).json()["items"]
    assert [one["metadata"]["uid"] for one in listed] == [made["metadata"]["uid"]]
    again = http.put(f"{base}/train/retry", json={"name": "train", "namespace": "argo"}).json()
    assert (again["status"]["phase"], again["metadata"]["uid"]) == ("Running", made["metadata"]["uid"])
    assert http.put(f"{base}/train/stop", json={"name": "train"}).json()["spec"]["shutdown"] == "Stop"
    copy = http.put(f"{base}/train/resubmit", json={"name": "train"}).json()
    assert copy["metadata"]["name"].startswith("train-")
    for path in ("version", "info", "userinfo"):
        assert http.get(f"/api/v1/{path}").status_code == 200
    argo.template(WORKFLOW["spec"], "trainer")
    argo.template(WORKFLOW["spec"], "trainer", cluster=True)
    assert http.get("/api/v1/workflow-templates/argo/trainer").json()["spec"]["entrypoint"] == "main"
    assert http.get("/api/v1/cluster-workflow-templates/trainer").status_code == 200
    ref = {"resourceKind": "WorkflowTemplate", "resourceName": "trainer"}
    assert http.post(f"{base}/submit", json={"namespace": "argo", **ref}).status_code == 200
    cron = {
        "metadata": {"name": "nightly"},
        "spec": {"schedules": ["0 2 * * *"], "workflowSpec": WORKFLOW["spec"]},
    }
    crons = "/api/v1/cron-workflows/argo"
    assert http.post(crons, json={"namespace": "argo", "cronWorkflow": cron}).status_code == 200
    assert http.put(f"{crons}/nightly/suspend", json={"name": "nightly"}).json()["spec"]["suspend"] is True
    assert http.delete(f"{base}/train").status_code == 200


def test_an_older_workflow_of_the_name_is_answered_out_of_the_archive(
    argo: ArgoServer, http: httpx.Client
) -> None:
    first = create(http).json()["metadata"]["uid"]
    argo.finish("train")
    argo.remove("train")
    assert http.get("/api/v1/workflows/argo/train").json()["metadata"]["uid"] == first
    second = create(http).json()["metadata"]["uid"]
    assert http.get("/api/v1/workflows/argo/train", params={"uid": first}).json()["metadata"]["uid"] == first
    argo.archiving = False
    argo.remove("train")
    answer = http.get("/api/v1/workflows/argo/train")
    assert answer.json()["metadata"]["uid"] == first != second
    assert http.get("/api/v1/workflows/argo/train", params={"uid": second}).status_code == 404
    argo.knows_uid = False
    assert http.get("/api/v1/workflows/argo/train", params={"uid": second}).status_code == 200
    assert http.get(f"/api/v1/archived-workflows/{first}").status_code == 200
    assert len(http.get("/api/v1/archived-workflows").json()["items"]) == 1


def test_stopping_what_has_ended_is_an_internal_error(argo: ArgoServer, http: httpx.Client) -> None:
    create(http)
    argo.finish("train")
    answer = http.put("/api/v1/workflows/argo/train/stop", json={"name": "train"})
    assert (answer.status_code, answer.json()["message"]) == (500, "cannot shutdown a completed workflow")


def test_a_quota_and_a_duplicate_have_the_same_code(argo: ArgoServer, http: httpx.Client) -> None:
    argo.quota = 1
    refused, made, twice = create(http), create(http), create(http)
    assert (refused.status_code, made.status_code, twice.status_code) == (409, 200, 409)
    assert refused.json()["code"] == twice.json()["code"] == 6


def test_a_lost_answer_leaves_the_workflow(argo: ArgoServer, http: httpx.Client) -> None:
    argo.faults.append(Fault("lose", method="POST", count=1))
    with pytest.raises(httpx.RemoteProtocolError):
        create(http)
    assert [one["metadata"]["name"] for one in argo.workflows()] == ["train"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"entrypoint": "nothing"}, "spec.entrypoint template name 'nothing' undefined"),
        ({"entrypoint": None}, "spec.entrypoint is required"),
        ({"arguments": {"parameters": [{"name": "rows"}]}}, "spec.arguments.rows.value or"),
        ({"workflowTemplateRef": {"name": "nothing"}}, 'workflowtemplates.argoproj.io "nothing" not found'),
    ],
)
def test_lint_says_what_is_wrong(http: httpx.Client, change: dict[str, Any], said: str) -> None:
    spec = {key: value for key, value in {**WORKFLOW["spec"], **change}.items() if value is not None}
    answer = http.post("/api/v1/workflows/argo/lint", json={"workflow": {**WORKFLOW, "spec": spec}})
    assert answer.status_code in (400, 404)
    assert said in answer.json()["message"]


def test_who_may_not_is_told_the_verb(argo: ArgoServer, http: httpx.Client) -> None:
    argo.tokens["token"] = lambda verb, *_: verb != "create"
    assert 'cannot create resource "workflows"' in create(http).json()["message"]
    http.headers["Authorization"] = "Bearer other"
    assert http.get("/api/v1/workflows/argo").status_code == 401


def test_a_busy_server_says_for_how_long(argo: ArgoServer, http: httpx.Client) -> None:
    argo.faults.append(Fault("status", status=429, retry_after="7", count=1))
    answer = http.get("/api/v1/workflows/argo")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


def test_logs_are_told_while_it_runs_and_are_empty_when_pods_are_gone(
    argo: ArgoServer, http: httpx.Client
) -> None:
    create(http)
    argo.begin("train")
    argo.log("train", "prepare", "one", "two")
    path = "/api/v1/workflows/argo/train/log"
    lines = http.get(path, params={"logOptions.container": "main"}).text.splitlines()
    pod = f"train-step-{fnv('train.prepare')}"
    assert [json.loads(line)["result"] for line in lines] == [
        {"content": "one", "podName": pod},
        {"content": "two", "podName": pod},
    ]
    with http.stream("GET", path, params={"logOptions.follow": "true"}) as followed:
        told = followed.iter_lines()
        assert "one" in next(told)
        argo.log("train", "prepare", "three")
        assert ["three" in line for line in (next(told), next(told))] == [False, True]
        argo.finish("train")
        assert list(told) == []
    argo.collect_pods("train", keep_logs=True)
    gone = http.get(path)
    assert (gone.status_code, gone.text) == (200, "")
    node = f"train-{fnv('train.prepare')}"
    kept = http.get(f"/artifact-files/argo/workflows/train/{node}/outputs/main-logs")
    assert kept.text == "one\ntwo\nthree\n"
    argo.remove("train")
    assert http.get(path).status_code == 404


def test_events_are_told_with_the_fields_that_were_asked_for(argo: ArgoServer, http: httpx.Client) -> None:
    create(http)
    fields = {"fields": "result.type,result.object.metadata.name,result.object.status.phase"}
    with http.stream("GET", "/api/v1/workflow-events/argo", params=fields) as events:
        told = (json.loads(line)["result"] for line in events.iter_lines())
        assert next(told) == {"type": "ADDED", "object": {"metadata": {"name": "train"}, "status": {}}}
        argo.begin("train")
        assert next(told)["object"]["status"] == {"phase": "Running"}
        argo.remove("train")
        assert next(told)["type"] == "DELETED"
        argo.cut()
        with pytest.raises(httpx.RemoteProtocolError):
            next(told)


def test_a_stream_may_end_in_an_error(argo: ArgoServer, http: httpx.Client) -> None:
    argo.stream_error = {"grpc_code": 8, "http_code": 429, "message": "EOF"}
    assert json.loads(http.get("/api/v1/workflow-events/argo").text) == {"error": argo.stream_error}


def test_by_a_plan_workflows_run_by_themselves(argo: ArgoServer, http: httpx.Client) -> None:
    argo.plan = Plan(seconds=0.05, outputs={"model": "v1"})
    create(http)
    with http.stream("GET", "/api/v1/workflow-events/argo") as events:
        phases = (
            json.loads(line)["result"]["object"].get("status", {}).get("phase")
            for line in events.iter_lines()
        )
        assert next(phase for phase in phases if phase in ("Succeeded", "Failed")) == "Succeeded"
    assert argo.one("train")["status"]["outputs"] == {"parameters": [{"name": "model", "value": "v1"}]}


def test_what_does_not_fit_is_noted(argo: ArgoServer, http: httpx.Client) -> None:
    create(http, statuz={})
    assert argo.unfit == [
        "create /api/v1/workflows/argo was sent: .workflow.statuz: IoArgoprojWorkflowV1alpha1Workflow has no such field",
        "/api/v1/workflows/argo was answered: .statuz: IoArgoprojWorkflowV1alpha1Workflow has no such field",
    ]
    argo.unfit.clear()


def test_the_same_objects_are_behind_the_kubernetes_api(argo: ArgoServer, http: httpx.Client) -> None:
    create(http)
    argo.begin("train")
    found = http.get("/apis/argoproj.io/v1alpha1/namespaces/argo/workflows/train").json()
    assert found["status"]["phase"] == "Running"
    node = next(one for one in found["status"]["nodes"].values() if one["displayName"] == "fit")
    assert pod_of(found, node) == f"train-step-{fnv('train.fit')}"
