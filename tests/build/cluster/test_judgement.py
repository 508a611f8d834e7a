"""What a Job and its pod say, case by case; and each verdict again over the API, as the cluster for tests plays it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_pipeops.build.cluster.client import JobRef, waiting
from airflow_pipeops.build.cluster.judgement import LOST, PATIENCE, RULEBOOK, Seen, observed
from airflow_pipeops.kubernetes.logs import Position, after
from airflow_pipeops.waits.expectation import Memory
from airflow_pipeops.waits.verdict import decide

REF = JobRef("ci", "pipeops-build-1")


def condition(kind: str, reason: str = "", message: str = "", status: str = "True") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def job(*conditions: dict[str, Any], uid: str = "u1", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": REF.name, "uid": uid, **metadata},
        "status": {"conditions": list(conditions)},
    }


FAILED = job(condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"))


def pod(
    phase: str,
    *states: dict[str, Any],
    conditions: tuple[dict[str, Any], ...] = (),
    init: Any = None,
    **status: Any,
) -> dict[str, Any]:
    limits = {"limits": {"memory": "2Gi"}}
    spec = {
        "containers": [{"name": "main", "image": "buildkit", "resources": limits}],
        "initContainers": [{"name": "source", "image": "git"}],
    }
    statuses = [{"name": "main", "image": "buildkit", "state": state} for state in states]
    body = {"phase": phase, "containerStatuses": statuses, "conditions": list(conditions), **status}
    if init is not None:
        body["initContainerStatuses"] = [{"name": "source", "image": "git", "state": init}]
    return {"metadata": {"name": "p"}, "spec": spec, "status": body}


def beside(
    found: dict[str, Any], name: str, state: dict[str, Any], *, first: bool = False, init: bool = False
) -> dict[str, Any]:
    """Put a container beside those of a pod: a mesh puts its own first, and a sidecar is an init container."""
    spec, status = found["spec"], found["status"]
    part, states = (
        ("initContainers", "initContainerStatuses") if init else ("containers", "containerStatuses")
    )
    at = 0 if first else len(spec[part])
    spec[part].insert(at, {"name": name, "image": "x", **({"restartPolicy": "Always"} if init else {})})
    status.setdefault(states, []).insert(at, {"name": name, "image": "x", "state": state})
    return found


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def event(reason: str, message: str) -> dict[str, Any]:
    return {"reason": reason, "message": message, "type": "Warning"}


RUNS = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
QUOTA = 'Error creating: pods "p" is forbidden: exceeded quota: team, requested: pods=1'
WEBHOOK = (
    'Error creating: Internal error occurred: failed calling webhook "mutate.example.com": failed to call webhook: '
    'no endpoints available for service "mutate"'
)
TAKEN = condition(
    "DisruptionTarget", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"
)
NO_NODE = condition(
    "PodScheduled", "Unschedulable", "0/3 nodes are available: 3 Insufficient memory.", "False"
)

#: what is seen -> the verdict at once, and the one when nothing has changed for ten minutes; what its reason says.
CASES: list[Any] = [
    (
        "complete",
        Seen(job(condition("Complete")), pod("Succeeded", ended(0))),
        "done complete",
        "",
        "ended well",
    ),
    ("pod first", Seen(job(), pod("Succeeded", ended(0))), "done complete", "", "ended well"),
    ("no pod yet", Seen(job(), {}), "wait starting", "failed starting", "no pod yet"),
    (
        "creating",
        Seen(job(), pod("Pending", waits("ContainerCreating"))),
        "wait starting",
        "failed starting",
        "not begun",
    ),
    ("running", Seen(job(), pod("Running", RUNS)), "wait running", "wait running", "it runs"),
    (
        "fetching",
        Seen(job(), pod("Pending", waits("PodInitializing"), init=RUNS)),
        "wait preparing",
        "wait preparing",
        "source",
    ),
    ("no answer", Seen(job(), pod("Unknown", RUNS)), "wait running", "wait running", "node does not answer"),
    (
        "no node",
        Seen(job(), pod("Pending", conditions=(NO_NODE,))),
        "wait unschedulable",
        "failed unschedulable",
        "Insufficient",
    ),
    (
        "quota",
        Seen(job(), {}, (event("FailedCreate", QUOTA),)),
        "wait quota",
        "failed quota",
        "exceeded quota: team",
    ),
    (
        "refused",
        Seen(job(), {}, (event("FailedCreate", 'violates PodSecurity "baseline:latest": seccompProfile'),)),
        "wait refused",
        "failed refused",
        "PodSecurity",
    ),
    (
        "no webhook",
        Seen(job(), {}, (event("FailedCreate", WEBHOOK),)),
        "wait webhook_unreachable",
        "failed webhook_unreachable",
        "no endpoints available",
    ),
    (
        "queued",
        Seen({**job(), "spec": {"suspend": True}}, {}),
        "wait suspended",
        "failed suspended",
        "suspended, as a queue of the cluster does it",
    ),
    (
        "no image",
        Seen(
            job(),
            pod("Pending", waits("ImagePullBackOff", "Back-off pulling image")),
            # As the kubelet tells it: the cause first, then the states that follow from it.
            (
                event("Failed", "manifest unknown"),
                event("Failed", "Error: ErrImagePull"),
                event("Failed", "Error: ImagePullBackOff"),
            ),
        ),
        "wait image",
        "failed image",
        "image buildkit of container main cannot be pulled: manifest unknown",
    ),
    (
        "registry down",
        Seen(job(), pod("Pending", waits("ErrImagePull", "dial tcp: i/o timeout"))),
        "wait image_unreachable",
        "failed image_unreachable",
        "i/o timeout",
    ),
    (
        "bad name",
        Seen(job(), pod("Pending", waits("InvalidImageName", "x y"))),
        "failed image",
        "",
        "InvalidImageName",
    ),
    (
        "no secret",
        Seen(
            job(),
            pod("Pending", waits("PodInitializing"), init=waits("PodInitializing")),
            (
                event(
                    "FailedMount", 'MountVolume.SetUp failed for volume "git" : secret "git-login" not found'
                ),
            ),
        ),
        "wait mount",
        "failed mount",
        'secret "git-login" not found',
    ),
    (
        "config",
        Seen(job(), pod("Pending", waits("CreateContainerConfigError", "no key"))),
        "wait cannot_run",
        "failed cannot_run",
        "no key",
    ),
    (
        "memory",
        Seen(FAILED, pod("Failed", ended(137, "OOMKilled"))),
        "failed memory",
        "",
        "main ran out of memory, and was killed; its limit is 2Gi",
    ),
    ("exit", Seen(FAILED, pod("Failed", ended(1))), "failed exit", "", "status 1"),
    ("killed", Seen(FAILED, pod("Failed", ended(137))), "failed exit", "", "status 137"),
    (
        "source",
        Seen(FAILED, pod("Failed", waits("PodInitializing"), init=ended(128, message="fatal: no\n"))),
        "failed source",
        "",
        "container source failed with status 128: fatal: no",
    ),
    (
        "no program",
        Seen(FAILED, pod("Failed", ended(128, "StartError", "exec: pytest: not found"))),
        "failed cannot_run",
        "",
        "pytest: not found",
    ),
    (
        "too long",
        Seen(FAILED, pod("Failed", ended(137), reason="DeadlineExceeded")),
        "failed too_long",
        "",
        "did not end within its time",
    ),
    (
        "never began",
        Seen(job(condition("Failed", "DeadlineExceeded")), {}),
        "failed starting",
        "",
        "never began",
    ),
    (
        "evicted",
        Seen(FAILED, pod("Failed", ended(137), reason="Evicted", message="low on memory")),
        "failed lost",
        "",
        "Evicted: low on memory",
    ),
    (
        "disrupted",
        Seen(FAILED, pod("Failed", ended(137), conditions=(TAKEN,))),
        "failed lost",
        "",
        "DeletionByTaintManager",
    ),
    (
        "being taken",
        Seen(job(), pod("Running", RUNS, conditions=(TAKEN,))),
        "wait being_lost",
        "wait being_lost",
        "taken away",
    ),
    (
        "gone",
        Seen(FAILED, {}, (event("NodeNotReady", "Node is not ready"),)),
        "failed gone",
        "",
        "Node is not ready",
    ),
    (
        "shutdown",
        Seen(FAILED, pod("Failed", reason="NodeShutdown", message="Pod was terminated")),
        "failed lost",
        "",
        "NodeShutdown",
    ),
    (
        "source down",
        Seen(
            FAILED,
            pod(
                "Failed",
                waits("PodInitializing"),
                init=ended(128, message="fatal: Could not resolve host: git"),
            ),
        ),
        "failed source_unreachable",
        "",
        "Could not resolve host",
    ),
    (
        "a mesh before the tests",
        Seen(FAILED, beside(pod("Failed", ended(1)), "istio-proxy", ended(0), first=True)),
        "failed exit",
        "",
        "status 1",
    ),
    (
        "a mesh that fails with the tests",
        Seen(FAILED, beside(pod("Failed", ended(1)), "istio-proxy", ended(2), first=True)),
        "failed exit",
        "",
        "status 1",
    ),
    (
        "only what is beside it fails",
        Seen(FAILED, beside(pod("Failed", ended(0)), "istio-proxy", ended(2), first=True)),
        "failed beside",
        "",
        "container istio-proxy failed with status 2",
    ),
    (
        "the sidecar is killed after the tests",
        Seen(FAILED, beside(pod("Failed", ended(1), init=ended(0)), "reports", ended(137), init=True)),
        "failed exit",
        "",
        "status 1",
    ),
    (
        "the sidecar runs out of memory after the tests",
        Seen(
            FAILED,
            beside(pod("Failed", ended(1), init=ended(0)), "reports", ended(137, "OOMKilled"), init=True),
        ),
        "failed exit",
        "",
        "status 1",
    ),
    (
        "complete and gone",
        Seen(job(condition("Complete")), {}),
        "failed gone",
        "",
        "ended well, and its pod is gone",
    ),
    (
        "unexplained",
        Seen(FAILED, pod("Failed", ended(0))),
        "failed unexplained",
        "",
        "nobody says why (BackoffLimitExceeded)",
    ),
    (
        "deleted",
        Seen(job(deletionTimestamp="2026-01-01T00:00:00Z"), pod("Running", RUNS)),
        "failed deleted",
        "",
        "was deleted",
    ),
    (
        "nonsense",
        Seen({"metadata": []}, {"status": {"phase": 3, "containerStatuses": [1]}}),
        "wait starting",
        "failed starting",
        "",
    ),
]


@pytest.mark.parametrize(
    ("seen", "first", "later", "said"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_what_is_seen_is_judged(seen: Seen, first: str, later: str, said: str) -> None:
    expectation = waiting(REF, 3600.0).state.expectation
    look = observed("ci", REF.name, seen)
    verdict, memory = decide(look, expectation, Memory(), 1000.0, RULEBOOK)
    assert f"{verdict.state} {verdict.rule}" == first
    assert said in verdict.reason
    if later:
        verdict, memory = decide(look, expectation, memory, 1000.0 + PATIENCE / 2, RULEBOOK)
        assert verdict.state == "wait"
        verdict, _ = decide(look, expectation, memory, 1000.0 + 600.0, RULEBOOK)
        assert f"{verdict.state} {verdict.rule}" == later


def test_what_another_attempt_may_pass_is_told_from_what_none_does() -> None:
    lost = {case[0] for case in CASES if (case[3] or case[2]).split()[1] in LOST}
    assert lost == {
        "no pod yet", "queued", "creating", "no node", "no webhook", "quota", "registry down", "never began",
        "evicted", "disrupted", "gone",
        "source down", "complete and gone", "shutdown", "nonsense",
    }  # fmt: skip


def test_an_image_that_comes_after_all_is_no_failure() -> None:
    expectation, memory = waiting(REF, 3600.0).state.expectation, Memory()
    states = [waits("ErrImagePull"), RUNS, waits("ErrImagePull")]
    for at, state in enumerate(states):
        seen = Seen(job(), pod("Pending" if "waiting" in state else "Running", state))
        verdict, memory = decide(observed("ci", REF.name, seen), expectation, memory, 50.0 * at, RULEBOOK)
        assert verdict.state == "wait"


def test_another_job_of_the_name_is_not_the_one_that_is_waited_for() -> None:
    expectation = waiting(REF, 3600.0).state.expectation
    _, memory = decide(observed("ci", REF.name, Seen(job(), {})), expectation, Memory(), 0.0, RULEBOOK)
    other = Seen(job(condition("Complete"), uid="u2"), pod("Succeeded", ended(0)))
    verdict, _ = decide(observed("ci", REF.name, other), expectation, memory, 1.0, RULEBOOK)
    assert (verdict.state, verdict.rule) == ("failed", "recreated")


# ---- logs, read on -------------------------------------------------------------------------------------------------------

LINES = [
    "2026-01-01T00:00:01.000000005Z one",
    "2026-01-01T00:00:01.000000005Z two",
    "2026-01-01T00:00:01.5Z three",
    "2026-01-01T00:00:02.000000001Z  indented",
    "2026-01-01T00:00:03Z",
    "2026-01-01T00:00:03.100000000+00:00 six",
]
SAID = ["one", "two", "three", " indented", "", "six"]


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2, 3, 4, 5), (3, 3), (6, 6)])
def test_a_log_that_is_read_in_parts_is_told_once(cuts: tuple[int, ...]) -> None:
    position, told = Position(), []
    for cut in (*cuts, len(LINES)):
        # The server begins at the whole second of the last line that was read.
        begin = position.since[:19]
        part = [line for line in LINES[:cut] if line[:19] >= begin]
        fresh, position = after(part, Position.from_json(position.to_json()))
        told += fresh
    assert told == SAID
