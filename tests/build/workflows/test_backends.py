"""Builds and test runs as workflows, over the server's REST: begun once, waited for in both ways, read, and explained."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from airflow_pipeops import ArgoWorkflowOperator
from airflow_pipeops.argo_workflows.status import read
from airflow_pipeops.build.backends import BuiltImage, TestResult, Waiting
from airflow_pipeops.build.workflows import judgement
from airflow_pipeops.build.workflows.judgement import hindrance
from airflow_pipeops.build.workflows.parameters import WITH_SOURCE
from airflow_pipeops.exceptions import (
    BadResponse,
    BuildFailed,
    InvalidInput,
    PipeOpsError,
    PodFailed,
    PodLost,
    Unreachable,
    WorkflowFailed,
)
from tests.argo_workflows.conftest import Store, connect
from tests.argo_workflows.objects import workflow
from tests.argo_workflows.running import MANIFEST
from tests.argo_workflows.server import ArgoServer
from tests.build.cluster.running import COMMIT, request, test_request
from tests.build.cluster.test_steps import BUILDKIT, BUILDKIT_PUSH
from tests.build.workflows.playing import (
    BUILT,
    DIGEST,
    TICK,
    Task,
    begins,
    done,
    ends,
    handing_over,
    handles,
    pends,
    playing,
    remembers,
    says,
    until,
    waits,
)
from tests.kubernetes.apiserver import Fault

JUNIT = b'<testsuite tests="1"><testcase classname="t" name="a"/></testsuite>'
FAILING = (
    b'<testsuite tests="1"><testcase classname="t" name="a"><failure message="no"/></testcase></testsuite>'
)
NO_HOST = "Error (exit code 128): fatal: unable to access 'https://git.invalid/': Could not resolve host: git.invalid"


def fired(trigger: Any) -> Any:
    """Run a trigger as the triggerer does: from what the database keeps of it, and on the stream that it would share."""
    path, arguments = trigger.serialize()
    kind = type(trigger)
    assert path == f"{kind.__module__}.{kind.__qualname__}"
    made = kind(**{**json.loads(json.dumps(arguments)), "dwell": 0})

    async def nothing() -> Any:
        await asyncio.Event().wait()
        yield None

    async def first() -> Any:
        async for event in made.filter_shared_stream(nothing()):
            return json.loads(json.dumps(event.payload))

    return asyncio.run(asyncio.wait_for(first(), 120))


def polled(trigger: Any) -> Any:
    """The same where no stream is shared."""

    async def first() -> Any:
        async for event in type(trigger)(**{**trigger.serialize()[1], "dwell": 0}).run():
            return json.loads(json.dumps(event.payload))

    return asyncio.run(asyncio.wait_for(first(), 120))


def built(task: Task, wanted: Any = None, **options: Any) -> BuiltImage:
    found = done(lambda: task.build(**options), wanted or request(), task, fired)
    assert isinstance(found, BuiltImage)
    return found


def ran(task: Task, wanted: Any = None, **options: Any) -> TestResult:
    found = done(lambda: task.tests(**options), wanted or test_request(), task, fired)
    assert isinstance(found, TestResult)
    return found


# ---- builds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_image_is_built_and_its_digest_comes_back(server: ArgoServer, deferrable: bool) -> None:
    task = Task()
    with playing(server, BUILT):
        found = built(task, deferrable=deferrable)
    assert (found.digest, found.builder) == (DIGEST, "buildkit")
    (workflow,) = server.workflows()
    metadata = workflow["metadata"]
    assert found.facts == {
        "workflow": metadata["name"],
        "namespace": "argo",
        "uid": metadata["uid"],
        "template": "pipeops-build",
        "pod": metadata["name"],
        "attestations": ["provenance", "sbom"],
    }
    assert metadata["labels"]["pipeops/commit"] == COMMIT
    assert metadata["annotations"]["airflow-pipeops/task"] == "dag/run/task/-1"
    assert workflow["spec"]["workflowTemplateRef"] == {"name": "pipeops-build"}
    if not deferrable:
        said = [line for line in task.log if "#1 building" in line]
        assert said == [f"[{metadata['name']}] #1 building"]


def test_a_deferred_build_is_waited_for_without_a_stream_too(server: ArgoServer) -> None:
    task = Task()
    with playing(server, BUILT):
        found = done(lambda: task.build(deferrable=True), request(), task, polled)
    assert found.digest == DIGEST


def test_it_is_said_through_the_kubernetes_api_too(server: ArgoServer) -> None:
    with playing(server, BUILT):
        assert built(Task(), argo_workflows_conn_id="kubernetes_default").digest == DIGEST


def test_the_namespace_and_the_template_can_be_others(server: ArgoServer) -> None:
    spec = server.read("workflowtemplates", "argo", "pipeops-build")["spec"]  # type: ignore[index]
    server.template(spec, "ours", cluster=True)
    task = Task()
    with playing(server, BUILT):
        assert built(task, template="ours", cluster_scope=True).facts["template"] == "ours"
    (workflow,) = server.workflows()
    assert workflow["spec"]["workflowTemplateRef"] == {"name": "ours", "clusterScope": True}


# ---- once ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False], ids=["noted", "not noted"])
def test_a_retry_finds_what_was_begun_and_a_cleared_task_begins_anew(server: ArgoServer, kept: bool) -> None:
    store = Store() if kept else None
    waiting = Task(store=store).build(deferrable=True).start(request(), Task(store=store).worker)
    assert isinstance(waiting, Waiting)
    again = Task(store=store)
    with playing(server, BUILT):
        assert built(again).digest == DIGEST
    assert len(server.workflows()) == 1
    assert any("Found our own" in line for line in again.log)
    assert built(Task(store=store)).digest == DIGEST, "after its end, too"
    assert len(server.workflows()) == 1
    with playing(server, (), BUILT):
        built(Task("dag/run/task/-1/cleared"))
    assert len(server.workflows()) == 2


@pytest.mark.parametrize("kind", ["lose", "drop", "truncate"])
def test_a_creation_of_whose_answer_nobody_knows_is_not_done_twice(server: ArgoServer, kind: Any) -> None:
    server.faults.append(Fault(kind, method="POST", path="/api/v1/workflows/argo", count=1))
    with playing(server, BUILT):
        assert built(Task()).digest == DIGEST
    assert len(server.workflows()) == 1


def test_one_that_is_gone_before_its_end_was_seen_is_not_done_again(server: ArgoServer, store: Store) -> None:
    Task().build(deferrable=True).start(request(), Task(store=store).worker)
    server.remove(server.workflows()[0]["metadata"]["name"])
    with pytest.raises(WorkflowFailed, match="its end was not seen"):
        built(Task(store=store))


@contextmanager
def killing(kill: Callable[[], None]) -> Iterator[threading.Event]:
    """Kill by a signal, as the supervisor of a task does, once the event is set."""
    going, before = threading.Event(), signal.signal(signal.SIGTERM, lambda *_: kill())
    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        if going.wait(60):
            signal.pthread_kill(main, signal.SIGTERM)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield going
    finally:
        thread.join(60)
        signal.signal(signal.SIGTERM, before)


def test_what_is_killed_in_the_midst_of_its_wait_is_terminated(server: ArgoServer) -> None:
    task = Task()
    backend = task.build()
    # Its log is followed: whoever is killed now is in the midst of a loop.
    waiting = lambda argo, name: until(lambda: argo.open_logs)  # noqa: E731
    with (
        killing(backend.kill) as going,
        playing(server, (begins, waiting, lambda argo, name: going.set())),
        pytest.raises(PodFailed, match=r"somebody ended it \(Terminate\)"),
    ):
        backend.start(request(), task.worker)
    assert server.workflows()[0]["spec"]["shutdown"] == "Terminate"
    task.build().kill()  # one that has begun nothing has nothing to end


def test_what_is_killed_before_it_is_there_is_terminated_when_it_is(server: ArgoServer) -> None:
    task = Task()
    backend = task.build()

    def say(line: str) -> None:
        if "Not created yet" in line:
            backend.kill()

    server.faults.append(Fault("drop", method="POST", path="/api/v1/workflows/argo", count=1))
    worker = dataclasses.replace(task.worker, say=say)
    with playing(server, (begins,)), pytest.raises(PodFailed, match="somebody ended it"):
        backend.start(request(), worker)
    assert [one["spec"].get("shutdown") for one in server.workflows()] == ["Terminate"]


def test_a_killed_operator_stops_its_workflow_in_the_midst_of_its_wait(
    server: ArgoServer, context: dict[str, Any]
) -> None:
    made = ArgoWorkflowOperator(
        task_id="task", workflow=MANIFEST, deferrable=False, poll_interval=TICK, on_kill="terminate"
    )
    waiting = lambda argo, name: until(lambda: argo.open_logs)  # noqa: E731
    with (
        killing(made.on_kill) as going,
        playing(server, (begins, waiting, lambda argo, name: going.set())),
        pytest.raises(Exception, match="Terminate"),
    ):
        made.execute(context)  # type: ignore[arg-type]
    assert server.workflows()[0]["spec"]["shutdown"] == "Terminate"


def test_a_deferred_one_is_terminated_by_its_trigger(server: ArgoServer) -> None:
    waiting = Task().build(deferrable=True).start(request(), Task().worker)
    asyncio.run(waiting.trigger.on_kill())
    assert server.workflows()[0]["spec"]["shutdown"] == "Terminate"


# ---- failures ------------------------------------------------------------------------------------------------------------


def failing(server: ArgoServer, *steps: Any, **options: Any) -> PipeOpsError:
    with playing(server, steps), pytest.raises(PipeOpsError) as caught:
        built(Task(), **options)
    return caught.value


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failed_build_names_its_step(server: ArgoServer, deferrable: bool) -> None:
    steps = (begins, says(*BUILDKIT.splitlines()), ends(code=1, message="Error (exit code 1)"))
    error = failing(server, *steps, deferrable=deferrable)
    assert isinstance(error, BuildFailed)
    assert not error.retryable
    assert "step [" in str(error)


def test_a_failed_build_without_logs_says_so(server: ArgoServer) -> None:
    error = failing(server, begins, ends(code=2, message="Error (exit code 2)"))
    assert isinstance(error, BuildFailed)
    assert "ended with status 2" in str(error)


def test_a_registry_that_fails_may_do_better_and_is_tried_again(server: ArgoServer) -> None:
    steps = (
        begins,
        says(*BUILDKIT_PUSH.format(said="unexpected status: 503").splitlines()),
        ends(code=1, message="Error (exit code 1)"),
    )
    error = failing(server, *steps)
    assert isinstance(error, Unreachable)
    assert error.retryable
    retried = threading.Event()

    def watch() -> None:
        until(lambda: server.workflows()[0]["status"]["phase"] == "Running")
        name = server.workflows()[0]["metadata"]["name"]
        ends(json.dumps({"digest": DIGEST}))(server, name)
        retried.set()

    thread = threading.Thread(target=watch)
    thread.start()
    task = Task()
    assert built(task).digest == DIGEST
    thread.join(60)
    assert retried.is_set()
    assert len(server.workflows()) == 1
    assert any("may pass" in line for line in task.log)


@pytest.mark.parametrize(
    ("code", "message", "kind", "said"),
    [
        (137, "OOMKilled (exit code 137)", PodFailed, "more memory than its limit"),
        (None, "pod deleted", PodLost, "its machine was lost"),
        (None, "The node was low on resource: memory. Evicted", PodLost, "its machine was lost"),
        (None, 'pods "x" is forbidden: cannot create resource "pods"', PodFailed, "lacks a permission"),
        (None, 'pods "x" is forbidden: violates PodSecurity "baseline:latest"', PodFailed, "namespace must admit"),
        (None, 'Internal error occurred: failed calling webhook "a": EOF', PodLost, "did not answer"),
        (
            None,
            "Error (exit code 128): fatal: Authentication failed for 'https://git.example.com/'",
            PodFailed,
            "source could not be fetched: Error (exit code 128): fatal: Authentication failed",
        ),
        (None, "Pod was active on the node longer than the specified deadline: DeadlineExceeded", BuildFailed,
         "did not end within 30 min"),
        (None, "something new", PodFailed, "nobody says more than: something new"),
        (0, "Error (exit code 1): the answer could not be reported", PodFailed, "the answer could not be reported"),
    ],
)  # fmt: skip
def test_what_was_not_the_build_s_own_fault_is_said_as_such(
    server: ArgoServer, code: int | None, message: str, kind: type[Exception], said: str
) -> None:
    error = failing(server, begins, ends(code=code, message=message))
    assert type(error) is kind
    assert said in str(error)
    assert getattr(error, "retryable", False) is (kind is PodLost)


def test_a_lost_pod_is_not_tried_again_where_its_workflow_cannot_be(server: ArgoServer) -> None:
    """An attempt of the task would find it again, through the Kubernetes API, as lost as it is."""
    steps = (begins, ends(code=None, message="pod deleted"))
    error = failing(server, *steps, argo_workflows_conn_id="kubernetes_default")
    assert type(error) is PodLost
    assert "Clear the task to run it anew" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("message", ["pod deleted", NO_HOST])
def test_a_lost_pod_is_tried_again_in_the_same_workflow(server: ArgoServer, message: str) -> None:
    assert isinstance(failing(server, begins, ends(code=None, message=message)), PodLost)

    def watch() -> None:
        until(lambda: server.workflows()[0]["status"]["phase"] == "Running")
        ends(json.dumps({"digest": DIGEST}))(server, server.workflows()[0]["metadata"]["name"])

    thread = threading.Thread(target=watch)
    thread.start()
    assert built(Task()).digest == DIGEST
    thread.join(60)
    assert len(server.workflows()) == 1


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        ('ErrImagePull: pull access denied for "moby/x"', PodFailed, "cannot be pulled: ErrImagePull"),
        ("ImagePullBackOff: dial tcp: i/o timeout", PodLost, "cannot be pulled"),
        ("Unschedulable: 0/3 nodes are available", PodLost, "has not begun yet: Unschedulable: 0/3"),
        ('pods "x" is forbidden: exceeded quota: q', PodLost, "exceeded quota"),
    ],
)
def test_one_that_cannot_begin_is_not_waited_for(
    server: ArgoServer,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    kind: type[Exception],
    said: str,
    deferrable: bool,
) -> None:
    monkeypatch.setattr(judgement, "PATIENCE", 0.2)
    error = failing(server, pends(message), deferrable=deferrable, startup_timeout=timedelta(seconds=0.4))
    assert type(error) is kind
    assert said in str(error)
    assert server.workflows()[0]["spec"]["shutdown"] == "Terminate", "nobody waits for it any more"


@pytest.mark.parametrize("field", ["offloadNodeStatusVersion", "compressedNodes"])
def test_one_whose_nodes_are_hidden_is_not_taken_for_one_without_a_pod(field: str) -> None:
    assert hindrance(read(workflow("Running", **{field: "fnv:1"})), startup=1.0) is None
    assert hindrance(read(workflow("Running")), startup=1.0) is not None


def test_one_that_begins_late_is_waited_for(server: ArgoServer) -> None:
    may, task = threading.Event(), Task()

    def late() -> None:
        until(
            lambda: (
                sum(one.startswith("GET /api/v1/workflows/argo/pipeops-build-") for one in server.requests)
                > 8
            )
        )
        may.set()

    thread = threading.Thread(target=late)
    thread.start()
    with playing(server, (pends("PodInitializing"), waits(may), *BUILT)):
        assert built(task).digest == DIGEST
    thread.join(60)


def test_one_that_says_no_digest_is_a_bad_response(server: ArgoServer) -> None:
    assert isinstance(failing(server, begins, ends("not JSON")), BadResponse)


# ---- input ---------------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_wrongly_is_said_before_anything_begins(server: ArgoServer) -> None:
    cases: list[tuple[Any, str, str]] = [
        (lambda: built(Task(), template="no-such"), "template", "no-such"),
        (lambda: built(Task(), template="Not_A_Name"), "template", "Not_A_Name"),
        (lambda: built(Task(), request(builder="buildah")), "builder", "buildah"),
        (lambda: built(Task(), request(git_conn_id="folder")), "folder.host", "/srv/git/shop"),
        (lambda: built(Task(), request(repository="", registry_conn_id="reg")), "registry_conn_id", "reg"),
        (lambda: ran(Task(), test_request(image="")), "image", ""),
        (lambda: Task().build(registry_secret="x"), "backend_options", ["deferrable", "poll_interval", "registry_secret"]),
    ]  # fmt: skip
    for case, field, value in cases:
        with pytest.raises(InvalidInput) as caught:
            case()
        assert (caught.value.field, caught.value.value) == (field, value)
    assert server.workflows() == []


def test_a_template_of_another_kind_is_named(server: ArgoServer) -> None:
    with pytest.raises(InvalidInput, match="needs the parameter 'image'"):
        built(Task(), template="pipeops-test")
    assert server.workflows() == []


# ---- tests ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
def test_tests_are_run_and_their_reports_come_back(server: ArgoServer, deferrable: bool) -> None:
    task, answer = Task(), handing_over(junit=JUNIT, coverage=b"<coverage/>")
    with playing(server, (begins, says("1 passed"), ends(answer))):
        result = ran(task, deferrable=deferrable)
    (attempt,) = result.attempts
    assert (attempt.status, attempt.timed_out, attempt.output) == (0, False, "1 passed")
    assert (attempt.report, attempt.coverage) == (JUNIT, b"<coverage/>")
    assert result.facts["image"] == test_request().image
    (workflow,) = server.workflows()
    given = {one["name"]: one["value"] for one in workflow["spec"]["arguments"]["parameters"]}
    assert given["image"] == test_request().image
    assert "entrypoint" not in workflow["spec"]


def test_with_a_checkout_the_other_template_is_run(server: ArgoServer) -> None:
    with playing(server, (begins, ends(handing_over(junit=JUNIT)))):
        ran(Task(), checkout=True)
    assert server.workflows()[0]["spec"]["entrypoint"] == WITH_SOURCE


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_flaky_test_has_two_runs_and_each_is_one_workflow(
    server: ArgoServer, store: Store, deferrable: bool
) -> None:
    bad = (begins, ends(handing_over(junit=FAILING), code=1, message="Error (exit code 1)"))
    good = (begins, ends(handing_over(junit=JUNIT)))
    with playing(server, bad, good):
        result = ran(Task(store=store), test_request(reruns=2), deferrable=deferrable)
    assert [attempt.status for attempt in result.attempts] == [1, 0]
    assert [attempt.report for attempt in result.attempts] == [FAILING, JUNIT]
    again = ran(Task(store=store), test_request(reruns=2), deferrable=deferrable)
    assert again == result
    assert len(server.workflows()) == 2


def test_tests_that_left_no_report_are_not_run_again(server: ArgoServer) -> None:
    """Another run could not show that a test is flaky; the other backends do the same."""
    with playing(server, (begins, ends("", code=139, message="Error (exit code 139)"))):
        (attempt,) = ran(Task(), test_request(reruns=3)).attempts
    assert (attempt.status, attempt.report) == (139, None)
    assert len(server.workflows()) == 1


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_an_exit_handler_is_not_taken_for_the_tests(server: ArgoServer, phase: str) -> None:
    bad = ends(handing_over(junit=FAILING), code=1, message="Error (exit code 1)")
    with playing(server, (begins, handles(phase), bad)):
        (attempt,) = ran(Task()).attempts
    assert (attempt.status, attempt.report) == (1, FAILING)


def test_an_exit_handler_that_fails_is_said_to_be_at_fault(server: ArgoServer) -> None:
    def fails(argo: ArgoServer, name: str) -> None:
        argo.node(name, name, "Succeeded", exit_code=0, outputs={"answer": handing_over(junit=JUNIT)})
        argo.finish(name, "Failed", message="no such channel")

    with (
        playing(server, (begins, handles("Failed"), fails)),
        pytest.raises(PodFailed, match="its work ended well, and an exit handler or a hook did not: no such"),
    ):
        ran(Task())


def test_tests_that_were_not_run_are_not_believed(server: ArgoServer) -> None:
    """A template with ``memoize`` gives the report of another run, of which nobody knows what it ran."""
    good = ends(handing_over(junit=JUNIT))
    with (
        playing(server, (begins, remembers, good)),
        pytest.raises(PodFailed, match=r"nothing was run.*Take memoize out of the template"),
    ):
        ran(Task())


@pytest.mark.parametrize("report", [JUNIT[:-20], JUNIT], ids=["cut", "green"])
def test_what_was_no_failing_test_is_not_run_again(server: ArgoServer, report: bytes) -> None:
    """Another run that passes would say nothing of it."""
    bad = ends(handing_over(junit=report), code=139, message="Error (exit code 139)")
    with playing(server, (begins, bad)):
        (attempt,) = ran(Task(), test_request(reruns=3)).attempts
    assert (attempt.status, attempt.report) == (139, report)


def test_failed_tests_are_no_failure_of_the_workflow_engine(server: ArgoServer) -> None:
    answer = handing_over(junit=FAILING)
    with playing(server, (begins, says("1 failed"), ends(answer, code=1, message="Error (exit code 1)"))):
        (attempt,) = ran(Task()).attempts
    assert (attempt.status, attempt.report, attempt.timed_out) == (1, FAILING, False)
    ran(Task())
    assert not any(one.endswith("/retry") for one in server.requests), "an end is an end"


def test_tests_that_took_too_long_say_so(server: ArgoServer) -> None:
    message = "Pod was active on the node longer than the specified deadline: DeadlineExceeded"
    with playing(server, (begins, says("still at it"), ends(code=None, message=message))):
        (attempt,) = ran(Task()).attempts
    assert (attempt.timed_out, attempt.status, attempt.output) == (True, -1, "still at it")


def test_reports_that_do_not_come_are_named(server: ArgoServer) -> None:
    large = "=== pipeops too-large junit.xml 900000 400000 packed\n=== pipeops all"
    with playing(server, (begins, says("ok"), ends(large))):
        (attempt,) = ran(Task()).attempts
    assert attempt.report is None
    assert (
        "junit.xml was not handed over: it has 900,000 bytes, packed, and there is room for 400,000"
        in attempt.output
    )


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (137, "OOMKilled (exit code 137)", PodFailed),
        (None, "pod deleted", PodLost),
        (None, "Error (exit code 65): this is another commit", PodFailed),
    ],
)
def test_tests_that_could_not_be_run_are_no_failed_tests(
    server: ArgoServer, code: int | None, message: str, kind: type[Exception]
) -> None:
    with playing(server, (begins, ends(code=code, message=message))), pytest.raises(kind):
        ran(Task(), test_request(reruns=2))
    assert len(server.workflows()) == 1


def test_a_log_that_is_gone_is_said_to_be_gone(server: ArgoServer) -> None:
    def collected(argo: ArgoServer, name: str) -> None:
        argo.collect_pods(name)

    with playing(server, (begins, says("1 passed"), collected, ends(handing_over(junit=JUNIT)))):
        (attempt,) = ran(Task()).attempts
    assert attempt.output == "no logs are left"


# ---- secrets -------------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_what_is_sent_said_kept_or_told(
    server: ArgoServer, store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither that of the repository, nor that of the registry, nor the token of the server."""
    token = "argo-t0ken"
    server.tokens[token] = server.tokens["token"]
    connect(monkeypatch, server.url, token)
    told: list[Any] = []
    good = (begins, says("fine"), ends(handing_over(junit=JUNIT)))
    for kind, wanted, steps in (("build", request(), BUILT), ("tests", test_request(), good)):
        task = Task(f"dag/run/{kind}", store)
        options = {"checkout": True} if kind == "tests" else {}
        make = lambda kind=kind, task=task, options=options: getattr(task, kind)(deferrable=True, **options)  # noqa: E731
        waiting = make().start(wanted, task.worker)
        assert isinstance(waiting, Waiting)
        name = waiting.trigger.note["name"]  # type: ignore[attr-defined]
        for step in steps:
            step(server, name)
        event = fired(waiting.trigger)
        result = make().resume(wanted, task.worker, event)
        told += [waiting.trigger.serialize(), event, repr(result), task.log]
    output = capfd.readouterr()
    told += [server.writes, server.workflows(), server.requests, store.kept, output.out, output.err]
    said = json.dumps(told, default=str)
    assert "https://git.example.com/team/shop.git" in said
    for secret in ("s3cr3t", "pa55word", token):
        assert secret not in said
