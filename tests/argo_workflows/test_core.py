"""The judgements about workflows, without a server: reading, rules, names, causes, reports."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.argo_workflows.causes import cause_of, failed_nodes, infrastructure
from airflow_pipeops.argo_workflows.names import LONGEST, mark_of, marked, name_of
from airflow_pipeops.argo_workflows.reports import failure, for_record, outputs_of
from airflow_pipeops.argo_workflows.rules import RESULTS_WITHIN, Goal
from airflow_pipeops.argo_workflows.status import OVER, Log, Node, observe, read
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import BadResponse
from airflow_pipeops.waits.expectation import Memory, Verdict
from airflow_pipeops.waits.status import Observed, Trouble
from airflow_pipeops.waits.verdict import decide
from tests.argo_workflows.objects import COMPLETED, node, nodes, workflow
from tests.argo_workflows.server import fnv, pod_of


def judged(goal: Goal, *looks: Any, each: float = 1.0) -> tuple[Verdict, Memory]:
    """Judge looks one after another, the clock going on by a second between them."""
    memory, verdict = goal.memory(), Verdict("wait", "", "")
    for at, look in enumerate(looks):
        seen: Observed | Trouble = look if isinstance(look, Trouble) else observe(look)
        verdict, memory = decide(seen, goal.expectation(), memory, 100.0 + at * each, goal.rulebook)
        if verdict.state != "wait":
            break
    return verdict, memory


# ---- rules -------------------------------------------------------------------------------------------------------------


def pending(message: str) -> dict[str, Any]:
    """Return a workflow of which one pod has not begun."""
    return workflow("Running", nodes=nodes(node("fit", "Pending", message=message)))


OLD, NEW = "2026-11-29T10:00:00Z/2026-11-29T11:00:00Z", "2026-11-29T11:30:00Z"
GONE = Trouble("missing", "it is gone, and its end was not seen")
TABLE: list[tuple[str, Goal, list[Any], str, str]] = [
    ("a new one has no phase", Goal(), [workflow("")], "wait", "not_begun"),
    ("pending is said with its reason", Goal(), [workflow("Pending", message="postponed")], "wait", "not_begun"),
    ("running", Goal(), [workflow("Running", progress="1/3")], "wait", "running"),
    ("succeeded", Goal(), [workflow("Succeeded")], "done", "ended"),
    ("succeeded out of the archive",
     Goal(uid="u1"), [workflow("Succeeded", labels={"workflows.argoproj.io/workflow-archiving-status": "Persisted"})],
     "done", "ended"),
    ("failed", Goal(), [workflow("Failed", message="child failed")], "failed", "workflow_failed"),
    ("an error", Goal(), [workflow("Error")], "failed", "workflow_failed"),
    ("any end will do", Goal(phase="any"), [workflow("Error")], "done", "ended"),
    ("results that are not in yet", Goal(), [workflow("Succeeded", labels={})], "wait", "results_awaited"),
    ("results that never come", Goal(), [workflow("Succeeded", labels={})] * int(RESULTS_WITHIN + 3), "done", "ended"),
    ("results that come", Goal(), [workflow("Succeeded", labels={}), workflow("Succeeded")], "done", "ended"),
    ("gone before its end was seen", Goal(uid="u1"), [workflow("Running"), GONE, GONE], "failed", "app_deleted"),
    ("gone before it was seen at all", Goal(uid="u1"), [GONE, GONE], "failed", "app_deleted"),
    ("missing once is no answer", Goal(uid="u1"), [GONE], "wait", "app_deleted"),
    ("one that was never there", Goal(), [GONE, GONE], "failed", "app_not_found"),
    ("another of the name", Goal(uid="u1"), [workflow("Succeeded", uid="u2")], "failed", "another"),
    ("another of the name later", Goal(), [workflow("Running"), workflow("Succeeded", uid="u2")], "failed", "another"),
    ("the end before the retry", Goal(after=OLD), [workflow("Failed")], "wait", "older_end"),
    ("success before the retry", Goal(after=OLD), [workflow("Succeeded")], "wait", "older_end"),
    ("running after the retry", Goal(after=OLD), [workflow("Running", startedAt=NEW)], "wait", "running"),
    ("the end after the retry", Goal(after=OLD),
     [workflow("Succeeded", startedAt=NEW, finishedAt="2026-11-29T11:40:00Z")], "done", "ended"),
    ("it failed again", Goal(after=OLD),
     [workflow("Failed", startedAt=NEW, finishedAt="2026-11-29T11:40:00Z")], "failed", "workflow_failed"),
    ("deleted while it runs", Goal(), [workflow("Running", deleting=True)], "failed", "deleting"),
    ("deleted after its end", Goal(), [workflow("Succeeded", deleting=True)], "done", "ended"),
    ("suspended", Goal(), [workflow("Running", spec={"suspend": True})], "wait", "suspended"),
    ("suspended, which must not be", Goal(on_suspended="fail"),
     [workflow("Running", spec={"suspend": True})], "failed", "suspended"),
    ("waiting at a suspend node", Goal(),
     [workflow("Running", nodes=nodes(node("approve", "Running", type="Suspend")))], "wait", "suspended"),
    ("being stopped", Goal(), [workflow("Running", spec={"shutdown": "Stop"})], "wait", "stopping"),
    ("a proxy's page", Goal(), [Trouble("unreachable", "502")], "wait", "unreachable"),
    ("too long", Goal(timeout=5.0), [workflow("Running")] * 7, "failed", "deadline"),
    ("a pod that begins", Goal(pending_timeout=5.0), [pending("")] * 30, "wait", "running"),
    ("a pod that does not begin, and nobody says why", Goal(pending_timeout=5.0), [pending("")] * 70, "wait", "pending"),
    ("an image that does not come",
     Goal(pending_timeout=5.0), [pending("ErrImagePull: no")] * 7, "failed", "does_not_begin"),
    ("a container that lacks a Secret",
     Goal(pending_timeout=5.0), [pending("CreateContainerConfigError: secret not found")] * 7, "failed", "does_not_begin"),
    ("an image that is another's business", Goal(), [pending("ErrImagePull: no")] * 99, "wait", "pending"),
    ("an image that comes", Goal(pending_timeout=5.0),
     [*[pending("ErrImagePull: no")] * 4, workflow("Running", nodes=nodes(node("fit", "Running"))),
      *[pending("ErrImagePull: no")] * 4], "wait", "pending"),
    ("room that comes late is no image that does not come", Goal(pending_timeout=5.0),
     [*[pending("Unschedulable: preemption: no")] * 99, pending("ErrImagePull: no")], "wait", "pending"),
    ("looks without nodes do not begin the patience anew", Goal(pending_timeout=5.0),
     [pending("ErrImagePull: no"), workflow("Running"), pending("ErrImagePull: no")] * 3, "failed", "does_not_begin"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("goal", "looks", "state", "rule"), [pytest.param(*row[1:], id=row[0]) for row in TABLE]
)
def test_rules(goal: Goal, looks: list[Any], state: str, rule: str) -> None:
    verdict, _ = judged(goal, *looks)
    assert (verdict.state, verdict.rule) == (state, rule)
    assert verdict.reason


def test_the_reason_says_what_is_waited_for() -> None:
    running = workflow(
        "Running",
        progress="1/3",
        nodes=nodes(node("fit", "Running"), node("a", "Succeeded"), node("b", "Pending")),
    )
    assert judged(Goal(), running)[0].reason == "1 of 3 nodes done; running: fit"
    waiting = workflow("Running", progress="1/2", nodes=nodes(node("approve", "Running", type="Suspend")))
    assert "suspended at approve, until somebody resumes it" in judged(Goal(), waiting)[0].reason
    assert (
        "synchronization lock"
        in judged(Goal(), workflow("Pending", message="Waiting for synchronization lock"))[0].reason
    )


phases = st.sampled_from(["", "Pending", "Running", *OVER])
looks = st.builds(
    lambda phase, uid, done, deleting: workflow(
        phase, uid=uid, labels=COMPLETED if done else {}, deleting=deleting
    ),
    phases, st.sampled_from(["u1", "u1", "u2"]), st.booleans(), st.booleans(),
)  # fmt: skip


@given(st.lists(looks, max_size=8), st.sampled_from(["", OLD]))
def test_done_is_only_said_of_our_own_successful_and_newer_end(seen: list[Any], after: str) -> None:
    verdict, _ = judged(Goal(uid="u1", after=after), *seen)
    if verdict.state == "done":
        status = read(
            next(one for one in seen if one["status"]["phase"] in OVER and one["metadata"]["uid"] == "u1")
        )
        assert (status.phase, status.uid, after) == ("Succeeded", "u1", "")


@given(st.lists(looks, max_size=8))
def test_a_wait_goes_on_where_it_was_after_a_deferral(seen: list[Any]) -> None:
    whole = Goal(uid="u1")
    copy = Goal.from_json(json.loads(json.dumps(whole.to_json())))
    memory, other = whole.memory(), copy.memory()
    for at, one in enumerate(seen):
        first, memory = decide(observe(one), whole.expectation(), memory, at, whole.rulebook)
        again = Memory.from_json(json.loads(json.dumps(other.to_json())))
        second, other = decide(observe(one), copy.expectation(), again, at, copy.rulebook)
        assert first == second


# ---- reading -----------------------------------------------------------------------------------------------------------

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["nodes", "phase", "outputs", "parameters", "name", "value", "startedAt"]), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip


@given(junk, junk, junk)
def test_whatever_is_in_it_is_read_or_refused(status: Any, spec: Any, labels: Any) -> None:
    read({"metadata": {"name": "train", "labels": labels}, "spec": spec, "status": status})
    with pytest.raises(BadResponse):
        read({"metadata": spec, "status": status} if not isinstance(spec, dict) else status)


def test_a_node_gives_exit_code_parameters_and_references() -> None:
    produced = {
        "exitCode": "3",
        "parameters": [{"name": "rows", "value": "7"}, {"name": "unset"}],
        "artifacts": [{"name": "model", "s3": {"key": "a/b", "secretKeySecret": {"name": "s", "key": "k"}}}],
    }
    status = read(workflow("Failed", nodes=nodes(node("fit", "Failed", outputs=produced)), outputs=produced))
    found = outputs_of(status)
    assert found["outputs"] == {"rows": "7"}
    assert found["exit_codes"] == {"fit": 3}
    assert found["artifacts"] == [
        {"name": "model", "s3": {"key": "a/b"}},
        {"node": "fit", "name": "model", "s3": {"key": "a/b"}},
    ]


@pytest.mark.parametrize("field", ["offloadNodeStatusVersion", "compressedNodes"])
def test_nodes_that_are_elsewhere_are_said_to_be(field: str) -> None:
    status = read(workflow("Failed", **{field: "fnv:123"}))
    assert status.hidden
    assert "which nodes failed cannot be told" in failure(status, "it is Failed", {}, [])


@pytest.mark.parametrize(
    ("path", "template"), [("train.fit", "step"), ("train[0].fit", "step"), ("train", "main")]
)
def test_a_pod_is_named_as_the_controller_names_it(path: str, template: str) -> None:
    ident = "train" if path == "train" else f"train-{fnv(path)}"
    made = Node(id=ident, name=path, template=template)
    item = {"metadata": {"name": "train"}}
    assert made.pod("train") == pod_of(item, {"name": path, "templateName": template})


def test_a_known_pod_name() -> None:
    """As a cluster named it: workflow, template, and the FNV-1a hash of the node's name."""
    assert Node(id="hello-world-9tql2", name="hello-world-9tql2", template="whalesay").pod(
        "hello-world-9tql2"
    ) == ("hello-world-9tql2")
    assert fnv("") == 2166136261
    assert fnv("a") == 0xE40C292C


# ---- names -------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=120), st.text(max_size=60))
def test_a_name_is_one_that_kubernetes_takes(stem: str, key: str) -> None:
    name = name_of(stem, key)
    assert len(name) <= LONGEST
    assert name[0] in string.ascii_lowercase
    assert set(name) <= set(string.ascii_lowercase + string.digits + "-")
    assert name == name_of(stem, key)
    assert len(mark_of(key)) <= 63


@given(st.text(max_size=30), st.text(max_size=30))
def test_other_keys_have_other_names_and_marks(one: str, other: str) -> None:
    assert (
        (one == other)
        == (name_of("dag-task", one) == name_of("dag-task", other))
        == (mark_of(one) == mark_of(other))
    )


def test_a_manifest_keeps_its_own_labels_and_loses_its_own_name() -> None:
    given_ = {"metadata": {"generateName": "x-", "labels": {"team": "ml"}}, "spec": {}}
    made = marked(given_, "n", "argo", labels={"pipeops/op": "m"}, annotations={"a": "b"})
    assert made["metadata"] == {
        "name": "n",
        "namespace": "argo",
        "labels": {"team": "ml", "pipeops/op": "m"},
        "annotations": {"a": "b"},
    }
    assert given_["metadata"]["generateName"] == "x-"


# ---- causes and reports ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "kind"),
    [
        ("OOMKilled (exit code 137)", 137, "out_of_memory"),
        ("Error (exit code 137)", 137, "out_of_memory"),
        ("Error (exit code 1)", 1, None),
        ("ImagePullBackOff: Back-off pulling image \"x/y:1\"", None, "image"),
        ("ErrImagePull: unauthorized", None, "image"),
        ("pods \"train\" is forbidden: exceeded quota: small", None, "quota"),
        ("pods is forbidden: User \"system:serviceaccount:argo:default\" cannot create resource", None, "permission"),
        ("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot", None, "admission"),
        ("admission webhook \"validate.kyverno.svc-fail\" denied the request: no owner", None, "admission"),
        ("Internal error occurred: failed calling webhook \"a.b\": context deadline exceeded", None, "webhook"),
        ("pod deleted", None, "infrastructure"),
        ("The node was low on resource: memory.", None, "infrastructure"),
        ("Pod was terminated in response to imminent node shutdown.", None, "infrastructure"),
        ("Preempting: preempted by a pod", None, "infrastructure"),
        ("Step exceeded its deadline: DeadlineExceeded", None, "deadline"),
        ("a test that lost its node in a list", 1, None),
        ("Error (exit code 1): pods is forbidden, pod deleted, ErrImagePull", 1, None),
        ("OOMKilled (exit code 1)", 1, "out_of_memory"),
        ("Error (exit code 143): pod deleted", 143, "infrastructure"),
    ],
)  # fmt: skip
def test_causes(message: str, code: int | None, kind: str | None) -> None:
    found = cause_of(Node("n", "n", phase="Failed", message=message, exit_code=code))
    assert (found.kind if found else None) == kind


def test_only_what_was_lost_altogether_is_the_infrastructures_fault() -> None:
    lost, failed = (
        node("fit", "Error", message="pod deleted"),
        node("test", "Failed", message="Error (exit code 1)"),
    )
    assert infrastructure(read(workflow("Error", nodes=nodes(lost)))) == "fit: pod deleted"
    assert infrastructure(read(workflow("Failed", nodes=nodes(lost, failed)))) == ""
    assert infrastructure(read(workflow("Error"))) == ""
    assert infrastructure(read(workflow("Failed", nodes=nodes(lost), spec={"shutdown": "Stop"}))) == ""
    assert infrastructure(read(workflow("Succeeded", nodes=nodes(lost)))) == ""


def test_a_failure_is_told_by_its_nodes_not_by_those_above_them() -> None:
    table = nodes(
        node("train", "Failed", type="DAG", message="child failed"),
        node(
            "fit",
            "Failed",
            message="OOMKilled (exit code 137)",
            exit_code=137,
            finishedAt="2026-11-29T10:30:00Z",
        ),
        node("eval", "Failed", message="Error (exit code 2)", exit_code=2, finishedAt="2026-11-29T10:20:00Z"),
        node("ok", "Succeeded"),
    )
    status = read(workflow("Failed", message="child failed", nodes=table))
    assert [one.shown for one in failed_nodes(status.nodes)] == ["eval", "fit"]
    ids = {one.shown: one.id for one in status.nodes}
    said = failure(
        status,
        "it is Failed: child failed",
        {ids["eval"]: Log(["Traceback", "ValueError: no rows"]), ids["fit"]: Log(None, "who knows")},
        [],
    )
    lines = said.splitlines()
    assert lines[0] == (
        "Argo workflow argo/train failed: it is Failed: child failed (eval: Error (exit code 2))"
    )
    assert lines[1:4] == [
        "nodes that failed:",
        "  eval [step] Failed, exit code 2, Error (exit code 2)",
        "  fit [step] Failed, exit code 137, OOMKilled (exit code 137), it used more memory than its limit and was killed",
    ]
    assert "  ValueError: no rows" in lines
    assert "no logs of fit are left: who knows" in lines
    assert "logs" not in failure(status, "it is Failed", {}, [])  # nobody has read any
    assert "has printed nothing" in failure(status, "it is Failed", {ids["fit"]: Log([])}, [])
    doubted = failure(status, "it is Failed", {ids["fit"]: Log(["a"], "it broke off")}, [])
    assert "the last lines of fit (some may be missing: it broke off):" in doubted


def test_of_several_attempts_the_last_one_counts() -> None:
    lost, good = node("fit(0)", "Error", message="pod deleted"), node("fit(1)", "Succeeded")
    tried = node("fit", "Succeeded", type="Retry", children=[lost["id"], good["id"]])
    failed = node("eval", "Failed", message="Error (exit code 1)", exit_code=1)
    status = read(workflow("Failed", nodes=nodes(lost, good, tried, failed)))
    assert [one.shown for one in failed_nodes(status.nodes)] == ["eval"]
    again = node("fit(1)", "Failed", message="Error (exit code 2)", exit_code=2)
    tried = node("fit", "Failed", type="Retry", children=[lost["id"], again["id"]])
    status = read(workflow("Failed", nodes=nodes(lost, again, tried)))
    assert [one.shown for one in failed_nodes(status.nodes)] == ["fit(1)"]
    assert infrastructure(status) == ""


def test_nodes_of_one_name_are_told_apart() -> None:
    table = nodes(
        node("fit", "Succeeded", exit_code=0),
        {**node("other.fit", "Succeeded", exit_code=3), "displayName": "fit"},
        node("eval", "Succeeded", exit_code=0),
    )
    found = outputs_of(read(workflow("Succeeded", nodes=table)))
    assert found["exit_codes"] == {"train.fit": 0, "train.other.fit": 3, "eval": 0}


def test_secrets_in_messages_and_logs_are_taken_out() -> None:
    status = read(workflow("Failed", nodes=nodes(node("fit", "Failed", message="token=abcdef123"))))
    said = failure(
        status, "password=hunter2hunter2", {status.nodes[0].id: Log(["Bearer abcdefgh12345678"])}, []
    )
    assert not [secret for secret in ("abcdef123", "hunter2", "abcdefgh12345678") if secret in said]


@given(st.integers(0, 60), st.integers(0, 3000))
def test_a_failure_and_a_record_are_of_bounded_size(number: int, length: int) -> None:
    table = nodes(
        *(
            node(
                f"n{at}",
                "Failed",
                message="x" * length,
                outputs={"parameters": [{"name": "p", "value": "y" * length}]},
            )
            for at in range(number)
        )
    )
    outputs = {"parameters": [{"name": f"p{at}", "value": "z" * length} for at in range(number)]}
    status = read(workflow("Failed", nodes=table, outputs=outputs))
    assert (
        len(failure(status, "w" * length, {one.id: Log(["l" * length] * 50) for one in status.nodes}, []))
        <= 8000
    )
    Record("workflow", "api", {**for_record(outputs_of(status)), "name": "train"})


def test_what_is_large_is_named_by_its_digest_in_a_record_and_whole_in_the_result() -> None:
    status = read(workflow("Succeeded", outputs={"parameters": [{"name": "big", "value": "b" * 5000}]}))
    facts = outputs_of(status)
    assert facts["outputs"]["big"] == "b" * 5000
    assert for_record(facts)["outputs"]["big"]["bytes"] == 5000


def test_progress_counts_and_names_what_runs() -> None:
    many = nodes(*(node(f"n{at}", "Running") for at in range(7)))
    status = read(workflow("Running", progress="3/10", nodes=many))
    assert status.progress == "3 of 10 nodes done; running: n0, n1, n2, n3, n4 and 2 more"
    assert replace(status, total=0, nodes=()).progress == "no nodes yet"
