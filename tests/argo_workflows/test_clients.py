"""The ways to Argo Workflows, each over real HTTP: from a worker, from a triggerer, and through the Kubernetes API."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import airflow_pipeops
from airflow_pipeops.argo_workflows.clients.errors import Ended, error_of
from airflow_pipeops.argo_workflows.clients.protocol import ArgoWorkflows, WorkflowRef
from airflow_pipeops.argo_workflows.clients.rest import ArgoWorkflowsClient, LoopHttp
from airflow_pipeops.argo_workflows.clients.worker import WorkerHttp
from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook
from airflow_pipeops.argo_workflows.names import marked
from airflow_pipeops.argo_workflows.status import read
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    SystemFailure,
    Unreachable,
    Unsupported,
)
from tests.argo_workflows.conftest import connect
from tests.argo_workflows.running import MANIFEST
from tests.argo_workflows.server import ArgoServer
from tests.argo_workflows.test_server import WORKFLOW
from tests.kubernetes.apiserver import Fault

REF = WorkflowRef("train", "argo")
SERVER = ("worker", "triggerer")
ALL = (*SERVER, "kubernetes")


@contextlib.asynccontextmanager
async def opened(way: str, **options: Any) -> AsyncIterator[ArgoWorkflows]:
    given = {"attempts": 3, "pause": 0.01, **options}
    conn_id = "kubernetes_default" if way == "kubernetes" else "argo_workflows_default"
    hook = ArgoWorkflowsHook(conn_id)
    made = hook.client(**given) if way == "worker" else await hook.aclient(**given)
    async with made as client:
        yield client


def run(way: str, work: Callable[[ArgoWorkflows], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with opened(way, **options) as client:
            return await work(client)

    return asyncio.run(inside())


def manifest(name: str = "train") -> dict[str, Any]:
    return marked(WORKFLOW, name, "argo", labels={}, annotations={})


@pytest.mark.parametrize("way", ALL)
def test_a_workflow_is_created_and_read_while_it_runs(argo: ArgoServer, way: str) -> None:
    """What decodes, fails on one that runs: its end is ``null``."""
    made = run(way, lambda client: client.create("argo", manifest()))
    argo.begin("train")
    found = run(way, lambda client: client.get(REF, whole=True))
    assert found["status"]["finishedAt"] is None
    assert len(found["status"]["nodes"]) == 3
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    assert run(way, lambda client: client.get(WorkflowRef("train", "argo", made["metadata"]["uid"])))
    with pytest.raises(Conflict):
        run(way, lambda client: client.create("argo", manifest()))
    assert len(argo.workflows()) == 1


@pytest.mark.parametrize("way", SERVER)
def test_a_judgement_asks_for_no_nodes(argo: ArgoServer, way: str) -> None:
    argo.submit(manifest())
    argo.begin("train")
    found = run(way, lambda client: client.get(REF))
    assert found["status"]["progress"] == "0/2"
    assert "nodes" not in found["status"]
    listed = run(way, lambda client: client.find("argo", "team=ml"))
    assert [one["status"]["phase"] for one in listed] == ["Running"]


@pytest.mark.parametrize("knows_uid", [True, False])
@pytest.mark.parametrize("way", SERVER)
def test_the_uid_decides_which_workflow_of_a_name_is_meant(
    argo: ArgoServer, way: str, knows_uid: bool
) -> None:
    argo.knows_uid = knows_uid
    first = argo.submit(manifest())["metadata"]["uid"]
    argo.finish("train")
    argo.remove("train")
    second = argo.submit(manifest())["metadata"]["uid"]
    found = run(way, lambda client: client.get(WorkflowRef("train", "argo", first)))
    assert (found["metadata"]["uid"], found["status"]["phase"]) == (first, "Succeeded")
    argo.archiving = False
    argo.remove("train")
    with pytest.raises(NotFound, match="its end was not seen"):
        run(way, lambda client: client.get(WorkflowRef("train", "argo", second)))
    with pytest.raises(NotFound):
        run(way, lambda client: client.get(WorkflowRef("other", "argo")))


@pytest.mark.parametrize("way", SERVER)
def test_a_server_without_an_archive_has_nothing_in_it(argo: ArgoServer, way: str) -> None:
    """It says so as an internal error, which is no reason to try on."""
    argo.has_archive = argo.archiving = False
    uid = argo.submit(manifest())["metadata"]["uid"]
    argo.remove("train")
    with pytest.raises(NotFound, match=r"its end was not seen(.*)this server keeps none"):
        run(way, lambda client: client.get(WorkflowRef("train", "argo", uid)))
    assert argo.requests.count(f"GET /api/v1/archived-workflows/{uid}") == 1


def test_through_kubernetes_another_of_the_name_is_not_taken_for_ours(argo: ArgoServer) -> None:
    first = argo.submit(manifest())["metadata"]["uid"]
    argo.remove("train")
    argo.submit(manifest())
    with pytest.raises(NotFound, match="its end was not seen: under its name there is another one"):
        run("kubernetes", lambda client: client.get(WorkflowRef("train", "argo", first)))


@pytest.mark.parametrize("way", SERVER)
@pytest.mark.parametrize(
    ("fault", "error", "tries"),
    [
        (Fault("status", status=503), Unreachable, 3),
        (Fault("status", status=429, retry_after="0"), Unreachable, 3),
        (Fault("status", status=401), AccessDenied, 1),
        (Fault("status", status=403), AccessDenied, 1),
        (Fault("status", status=302), InvalidInput, 1),
        (Fault("drop"), Unreachable, 3),
        (Fault("truncate"), Unreachable, 3),
        (Fault("delay", seconds=1.5), Unreachable, 3),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else None,
)
def test_a_read_that_goes_wrong(argo: ArgoServer, way: str, fault: Fault, error: type, tries: int) -> None:
    argo.submit(manifest())
    argo.faults.append(Fault(**{**vars(fault), "method": "GET"}))
    with pytest.raises(error):
        run(way, lambda client: client.get(REF), timeout=0.5)
    assert argo.requests.count("GET /api/v1/workflows/argo/train") == tries


@pytest.mark.parametrize("way", SERVER)
def test_a_write_is_repeated_only_where_the_server_cannot_have_acted(argo: ArgoServer, way: str) -> None:
    argo.faults.append(Fault("status", method="POST", status=429, retry_after="0", count=2))
    run(way, lambda client: client.create("argo", manifest()))
    argo.faults.append(Fault("lose", method="POST"))
    with pytest.raises(Unreachable):
        run(way, lambda client: client.create("argo", manifest("other")))
    assert argo.requests.count("POST /api/v1/workflows/argo") == 4
    assert len(argo.workflows()) == 2


@pytest.mark.parametrize("way", ALL)
def test_a_server_that_is_not_there(argo: ArgoServer, way: str) -> None:
    argo.stop()
    with pytest.raises(Unreachable, match="Is the server up"):
        run(way, lambda client: client.create("argo", manifest()))
    argo.start()


@pytest.mark.parametrize("way", SERVER)
def test_an_answer_without_an_end_is_not_read(
    argo: ArgoServer, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    argo.submit(manifest())
    argo.begin("train")
    argo.artifacts[argo.one("train")["metadata"]["uid"], "n", "main-logs"] = b"x" * 3_000_000
    monkeypatch.setattr("airflow_pipeops.argo_workflows.clients.rest.MANY", 1_000_000)
    with pytest.raises(SystemFailure, match="the rest was not read"):
        run(way, lambda client: client.artifact(REF, "n", "main-logs", archived=False))


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            "forbidden: exceeded quota: team, requested: count/workflows.argoproj.io=1",
            Conflict,
            "no room for",
        ),
        (
            "forbidden: unable to create new content in namespace ml because it is being terminated",
            NotFound,
            "deleted",
        ),
        (
            'workflows.argoproj.io is forbidden: cannot create resource "workflows"',
            AccessDenied,
            "lacks a permission",
        ),
        (
            'admission webhook "validate.kyverno.svc-fail" denied the request: every workflow has an owner',
            InvalidInput,
            "every workflow has an owner",
        ),
    ],
)
def test_what_kubernetes_forbids_is_told_from_a_permission(said: str, kind: type, words: str) -> None:
    found = error_of(0, json.dumps({"code": 7, "message": said}).encode(), "the workflow", "https://argo")
    assert type(found) is kind
    assert words in str(found)


@pytest.mark.parametrize("way", SERVER)
def test_what_lint_finds_is_said(argo: ArgoServer, way: str) -> None:
    run(way, lambda client: client.lint("argo", manifest()))
    wrong = {**manifest(), "spec": {**WORKFLOW["spec"], "entrypoint": "nothing"}}
    with pytest.raises(InvalidInput, match="template name 'nothing' undefined"):
        run(way, lambda client: client.lint("argo", wrong))
    refers = {**manifest(), "spec": {"workflowTemplateRef": {"name": "nothing"}}}
    with pytest.raises(InvalidInput, match="refers to what is not there"):
        run(way, lambda client: client.lint("argo", refers))
    assert argo.workflows() == []


@pytest.mark.parametrize("way", ALL)
def test_a_workflow_that_waits_at_a_step_is_resumed_or_it_is_said_who_can(argo: ArgoServer, way: str) -> None:
    argo.submit({**manifest(), "spec": MANIFEST["spec"]})
    argo.begin("train")
    argo.node("train", "fit", "Running", kind="Suspend")
    if way == "kubernetes":
        with pytest.raises(Unsupported, match="cannot resume workflow argo/train: it waits at fit") as caught:
            run(way, lambda client: client.act(REF, "resume"))
        assert "to the server of Argo Workflows" in str(caught.value)
        argo._change("train", "argo", lambda item: item["status"].update(nodes=None, compressedNodes="H4sI"))
        with pytest.raises(Unsupported, match="whether it waits at a step cannot be told"):
            run(way, lambda client: client.act(REF, "resume"))
        return
    run(way, lambda client: client.act(REF, "resume"))
    assert read(argo.one("train")).waiting == ()


@pytest.mark.parametrize("way", ALL)
def test_acts(argo: ArgoServer, way: str) -> None:
    argo.submit(manifest())
    assert run(way, lambda client: client.act(REF, "suspend"))["spec"]["suspend"] is True
    assert not run(way, lambda client: client.act(REF, "resume"))["spec"].get("suspend")
    assert run(way, lambda client: client.act(REF, "stop"))["spec"]["shutdown"] == "Stop"
    argo.finish("train", "Failed")
    for act in ("stop", "terminate", "suspend"):
        with pytest.raises(Ended):
            run(way, lambda client, act=act: client.act(REF, act))
    copy = run(way, lambda client: client.act(REF, "resubmit")) if way != "kubernetes" else None
    if copy:
        assert copy["metadata"]["name"] != "train"
        assert run(way, lambda client: client.act(REF, "retry"))["status"]["phase"] == "Running"
    else:
        with pytest.raises(Unsupported, match="cannot retry a workflow"):
            run(way, lambda client: client.act(REF, "retry"))


@pytest.mark.parametrize("way", SERVER)
def test_what_was_archived_is_retried_and_resubmitted_by_its_uid(argo: ArgoServer, way: str) -> None:
    uid = argo.submit(manifest())["metadata"]["uid"]
    argo.finish("train", "Failed")
    argo.remove("train")
    ref = WorkflowRef("train", "argo", uid)
    assert run(way, lambda client: client.act(ref, "resubmit"))["metadata"]["uid"] != uid
    assert run(way, lambda client: client.act(ref, "retry"))["metadata"]["uid"] == uid
    assert argo.one("train")["status"]["phase"] == "Running"


@pytest.mark.parametrize("way", ALL)
def test_templates_and_cron_workflows(argo: ArgoServer, way: str) -> None:
    argo.template(WORKFLOW["spec"], "trainer")
    argo.template(WORKFLOW["spec"], "trainer", cluster=True)
    for scope in (True, False):
        found = run(way, lambda client, scope=scope: client.template("argo", "trainer", cluster_scope=scope))
        assert found["spec"]["entrypoint"] == "main"
    with pytest.raises(NotFound, match="other"):
        run(way, lambda client: client.template("argo", "other", cluster_scope=False))
    cron = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": {"name": "nightly", "namespace": "argo"},
        "spec": {"schedules": ["0 2 * * *"], "workflowSpec": WORKFLOW["spec"]},
    }
    run(way, lambda client: client.create_cron("argo", cron))
    assert (
        run(way, lambda client: client.suspend_cron("argo", "nightly", suspend=True))["spec"]["suspend"]
        is True
    )
    found = run(way, lambda client: client.cron("argo", "nightly"))
    changed = {**found, "spec": {**found["spec"], "schedules": ["0 3 * * *"]}}
    assert run(way, lambda client: client.replace_cron("argo", changed))["spec"]["schedules"] == ["0 3 * * *"]


# ---- logs and streams --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", SERVER)
def test_a_log_is_followed_line_by_line(argo: ArgoServer, way: str) -> None:
    argo.submit(manifest())
    argo.begin("train")

    async def story(client: ArgoWorkflows) -> list[str]:
        seen = []
        argo.log("train", "fit", "line 0")
        async with aclosing(client.logs(REF, follow=True)) as lines:
            async for _, line in lines:
                seen.append(line)
                if len(seen) < 4:
                    # Each line is only printed once the one before has arrived.
                    argo.log("train", "fit", f"line {len(seen)}")
                else:
                    argo.finish("train")
        return seen

    assert run(way, story) == ["line 0", "line 1", "line 2", "line 3"]


@pytest.mark.parametrize("way", SERVER)
def test_whoever_leaves_a_log_leaves_it_at_once(argo: ArgoServer, way: str) -> None:
    argo.submit(manifest())
    argo.begin("train")
    argo.log("train", "fit", "one")

    async def story(client: ArgoWorkflows) -> None:
        async with aclosing(client.logs(REF, follow=True)) as lines:
            async for _ in lines:
                return

    run(way, lambda client: asyncio.wait_for(story(client), 20))


@pytest.mark.parametrize("way", ALL)
def test_the_end_of_one_pods_log(argo: ArgoServer, way: str) -> None:
    argo.submit(manifest())
    argo.begin("train")
    argo.log("train", "fit", *(f"line {at}" for at in range(30)))
    ((_, _, pod),) = argo.logs
    argo.pod_logs["argo", pod] = "".join(f"line {at}\n" for at in range(30))

    async def story(client: ArgoWorkflows) -> list[str]:
        async with aclosing(client.logs(REF, pod=pod, tail=2)) as lines:
            return [line async for _, line in lines]

    assert run(way, story) == ["line 28", "line 29"]


@pytest.mark.parametrize("way", ALL)
def test_changes_are_told(argo: ArgoServer, way: str) -> None:
    argo.submit(manifest())

    async def story(client: ArgoWorkflows) -> list[Any]:
        seen = []
        async with aclosing(client.watch("argo")) as events:
            async for event in events:
                seen.append((event["type"], (event["object"].get("status") or {}).get("phase")))
                if len(seen) == 1:
                    argo.begin("train")
                elif len(seen) == 2:
                    argo.remove("train")
                else:
                    return seen
        return seen

    assert run(way, story) == [("ADDED", None), ("MODIFIED", "Running"), ("DELETED", "Running")]


@pytest.mark.parametrize("way", SERVER)
@pytest.mark.parametrize("how", ["cut", "error"])
def test_a_stream_that_ends_is_said_to(argo: ArgoServer, way: str, how: str) -> None:
    argo.submit(manifest())
    if how == "error":
        argo.stream_error = {"grpc_code": 8, "http_code": 429, "message": "EOF"}

    async def story(client: ArgoWorkflows) -> None:
        async with aclosing(client.watch("argo")) as events:
            async for _ in events:
                if how == "cut":
                    argo.cut()

    with pytest.raises(Unreachable):
        run(way, story)


@pytest.mark.parametrize("http", [WorkerHttp, LoopHttp])
def test_a_stream_that_has_fallen_silent_is_opened_anew(argo: ArgoServer, http: Any) -> None:
    argo.submit(manifest())
    argo.silent = True

    async def story() -> str:
        made = http(argo.url, "Bearer token", timeout=5.0, attempts=1, pause=0.01)
        async with ArgoWorkflowsClient(made, silence=0.3) as client, aclosing(client.watch("argo")) as events:
            first = asyncio.ensure_future(anext(events))
            while argo.open_events == 0:
                await asyncio.sleep(0.01)
            argo.silent = False
            return str((await asyncio.wait_for(first, 20))["type"])

    assert asyncio.run(story()) == "ADDED"


# ---- what the connection can do ----------------------------------------------------------------------------------------


def lacking(*refused: tuple[str, str]) -> Callable[[str, str, str], bool]:
    return lambda verb, resource, _: (verb, resource.partition(".")[0]) not in refused


@pytest.mark.parametrize(
    ("refused", "usable", "said"),
    [
        (
            (),
            True,
            "Argo Workflows v4.1.2, namespace argo; the token can look, watch and create; whether it may stop",
        ),
        ((("create", "workflows"),), True, "lacks: create workflows (for ArgoWorkflowOperator);"),
        ((("watch", "workflows"),), True, "lacks: watch workflows (for one stream in place of polling);"),
        ((("list", "workflows"),), False, "lacks: get and list workflows (to wait)"),
        (
            (("get", "workflowtemplates"),),
            True,
            "lacks: get workflowtemplates (to run a template by its name)",
        ),
        (
            (("get", "clusterworkflowtemplates"),),
            True,
            "lacks: get clusterworkflowtemplates (with cluster_scope)",
        ),
        (
            (("get", "cronworkflows"),),
            True,
            "lacks: get cronworkflows (for cron workflows); whether it may stop",
        ),
        ((), True, "read logs (pods/log), and create and change cronworkflows shows only where it does"),
    ],
)
def test_trying_the_connection_names_the_verbs_that_are_missing(
    argo: ArgoServer, refused: Any, usable: bool, said: str
) -> None:
    argo.tokens["token"] = lacking(*refused)
    passed, message = ArgoWorkflowsHook().test_connection()
    assert (passed, said in message) == (usable, True), message
    assert argo.workflows() == []


def test_trying_a_connection_to_kubernetes_names_verbs_and_what_it_cannot_show(argo: ArgoServer) -> None:
    argo.tokens["token"] = lacking(
        ("patch", "workflows"),
        ("update", "cronworkflows"),
        ("list", "pods"),
        ("get", "clusterworkflowtemplates"),
    )
    passed, message = ArgoWorkflowsHook("kubernetes_default").test_connection()
    assert passed
    assert "lacks: patch workflows (to stop, terminate, suspend and resume); " in message
    assert (
        "get clusterworkflowtemplates (with cluster_scope); update cronworkflows (for cron workflows)"
        in message
    )
    assert "; list pods (for logs);" in message
    assert "nodes that are offloaded or compressed" in message


def test_a_token_that_is_refused(argo: ArgoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, argo.url, "wrong")
    passed, message = ArgoWorkflowsHook().test_connection()
    assert not passed
    assert "refuses the token (401)" in message


@pytest.mark.parametrize("token", ["token", "Bearer token"])
def test_a_token_is_given_with_its_scheme_or_without(
    argo: ArgoServer, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, argo.url, token)
    assert ArgoWorkflowsHook().test_connection()[0]


@pytest.mark.parametrize(
    ("extra", "host", "said"),
    [
        ({"tiemout": 5}, None, "Did you mean 'timeout'"),
        ({"timeout": "soon"}, None, "has timeout 'soon'"),
        ({"mode": "push"}, None, "Use one of auto, stream, poll"),
        ({"verify_tls": "perhaps"}, None, "Use one of true, false"),
        ({"ca_file": "/nothing.pem"}, "https://127.0.0.1:1", "/nothing.pem"),
        ({}, "ftp://x", "is no base URL"),
        ({}, "", "has no host"),
    ],
)
def test_a_connection_that_is_wrong_is_named_by_its_field(
    argo: ArgoServer, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], host: str | None, said: str
) -> None:
    connect(monkeypatch, argo.url if host is None else host, **extra)
    passed, message = ArgoWorkflowsHook().test_connection()
    assert not passed
    assert said in message


# ---- one place ---------------------------------------------------------------------------------------------------------

PACKAGE = Path(airflow_pipeops.__file__).parent
PLACE = PACKAGE / "argo_workflows" / "clients" / "worker.py"


def calls(source: str) -> tuple[bool, list[ast.Call]]:
    """Whether a module imports the client, and its calls of it."""
    tree = ast.parse(source)
    imports = any(
        (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "argo_workflows")
        or (
            isinstance(node, ast.Import)
            and any(a.name.partition(".")[0] == "argo_workflows" for a in node.names)
        )
        for node in ast.walk(tree)
    )
    made = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "call_api"
    ]
    return imports, made


def test_the_client_of_the_package_is_called_in_one_place_and_never_decodes() -> None:
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    found = {
        path: calls(text) for path, text in texts.items() if "argo_workflows" in text or "call_api" in text
    }
    assert [path for path, (imports, _) in found.items() if imports] == [PLACE]
    assert [path for path, (_, made) in found.items() if made] == [PLACE]
    (call,) = found[PLACE][1]
    (raw,) = [one.value for one in call.keywords if one.arg == "_preload_content"]
    assert isinstance(raw, ast.Constant)
    assert raw.value is False
    # The generated classes of its API decode whatever they are told.
    assert "argo_workflows.api." not in texts[PLACE]
    assert "_api import" not in texts[PLACE]


def test_what_the_package_itself_decodes_fails_on_a_workflow_that_runs(argo: ArgoServer) -> None:
    """Why there is one place: once this passes no more, the place may go."""
    import argo_workflows
    from argo_workflows.api.workflow_service_api import WorkflowServiceApi
    from argo_workflows.exceptions import ApiTypeError

    argo.submit(manifest())
    argo.begin("train")
    configuration = argo_workflows.Configuration(host=argo.url)
    configuration.api_key["BearerToken"] = "Bearer token"
    with argo_workflows.ApiClient(configuration) as api, pytest.raises(ApiTypeError, match="finished_at"):
        WorkflowServiceApi(api).get_workflow("argo", "train")
