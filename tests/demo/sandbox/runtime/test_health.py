"""Argo CD's health rules, by table."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_pipeops.demo.sandbox.runtime.health import health
from tests.deploy.test_readiness import TABLE


def obj(
    kind: str, spec: dict[str, Any], status: dict[str, Any], generation: int = 1, **meta: Any
) -> dict[str, Any]:
    group = {"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "Job": "batch/v1"}.get(kind, "v1")
    metadata = {"name": "x", "generation": generation, **meta}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec, "status": status}


def deployed(updated: int, total: int, available: int, observed: int = 1, **more: Any) -> dict[str, Any]:
    counts = {"updatedReplicas": updated, "replicas": total, "availableReplicas": available}
    return {"observedGeneration": observed, **counts, **more}


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "c", "state": state, **more}]}


LATE = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
READY = [{"type": "Ready", "status": "True"}]
ALWAYS, NEVER = {"restartPolicy": "Always"}, {"restartPolicy": "Never"}
ROLL = "Waiting for rollout to finish: "

CASES = [
    ("deployment: complete", obj("Deployment", {"replicas": 1}, deployed(1, 1, 1)), "Healthy", ""),
    ("deployment: scaled to 0", obj("Deployment", {"replicas": 0}, deployed(0, 0, 0)), "Healthy", ""),
    ("deployment: paused", obj("Deployment", {"paused": True}, {}), "Suspended", "Deployment is paused"),
    (
        "deployment: not observed",
        obj("Deployment", {"replicas": 1}, deployed(1, 1, 1), 2),
        "Progressing",
        ROLL + "observed deployment generation less than desired generation",
    ),
    (
        "deployment: no status at all",
        obj("Deployment", {"replicas": 1}, {}),
        "Progressing",
        ROLL + "observed deployment generation less than desired generation",
    ),
    (
        "deployment: deadline",
        obj("Deployment", {"replicas": 1}, deployed(1, 2, 1, conditions=LATE)),
        "Degraded",
        'Deployment "x" exceeded its progress deadline',
    ),
    (
        "deployment: deadline of an older generation",
        obj("Deployment", {"replicas": 1}, deployed(1, 2, 1, conditions=LATE), 2),
        "Progressing",
        ROLL + "observed deployment generation less than desired generation",
    ),
    (
        "deployment: updating",
        obj("Deployment", {"replicas": 3}, deployed(1, 3, 3)),
        "Progressing",
        ROLL + "1 out of 3 new replicas have been updated...",
    ),
    (
        "deployment: old left",
        obj("Deployment", {"replicas": 1}, deployed(1, 2, 2)),
        "Progressing",
        ROLL + "1 old replicas are pending termination...",
    ),
    (
        "deployment: not available",
        obj("Deployment", {"replicas": 2}, deployed(2, 2, 1)),
        "Progressing",
        ROLL + "1 of 2 updated replicas are available...",
    ),
    (
        "replica set: short",
        obj("ReplicaSet", {"replicas": 2}, {"availableReplicas": 1, "observedGeneration": 1}),
        "Progressing",
        ROLL + "1 out of 2 new replicas are available...",
    ),
    (
        "replica set: complete",
        obj("ReplicaSet", {"replicas": 2}, {"availableReplicas": 2, "observedGeneration": 1}),
        "Healthy",
        "",
    ),
    (
        "replica set: not observed",
        obj("ReplicaSet", {"replicas": 2}, {}),
        "Progressing",
        ROLL + "observed replica set generation less than desired generation",
    ),
    (
        "replica set: failure",
        obj(
            "ReplicaSet",
            {"replicas": 1},
            {
                "observedGeneration": 1,
                "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "no"}],
            },
        ),
        "Degraded",
        "no",
    ),
    ("pod: ready", obj("Pod", ALWAYS, {"phase": "Running", "conditions": READY}), "Healthy", ""),
    ("pod: pending", obj("Pod", ALWAYS, {"phase": "Pending"}), "Progressing", ""),
    ("pod: running, not ready", obj("Pod", ALWAYS, {"phase": "Running"}), "Progressing", ""),
    (
        "pod: running again after a crash",
        obj("Pod", ALWAYS, {"phase": "Running", **container({"running": {}}, lastState={"terminated": {}})}),
        "Progressing",
        "",
    ),
    (
        "pod: running again after a recorded crash",
        obj("Pod", ALWAYS, {"phase": "Running", **container({}, lastState={"terminated": {"exitCode": 1}})}),
        "Degraded",
        "",
    ),
    (
        "pod: crash loop",
        obj(
            "Pod",
            ALWAYS,
            {"phase": "Running", **container({"waiting": {"reason": "CrashLoopBackOff", "message": "m"}})},
        ),
        "Degraded",
        "m",
    ),
    (
        "pod: no image",
        obj(
            "Pod",
            ALWAYS,
            {"phase": "Pending", **container({"waiting": {"reason": "ErrImagePull", "message": "m"}})},
        ),
        "Degraded",
        "m",
    ),
    (
        "pod: no image, but a hook",
        obj(
            "Pod",
            NEVER,
            {"phase": "Pending", **container({"waiting": {"reason": "ErrImagePull", "message": "m"}})},
        ),
        "Progressing",
        "",
    ),
    ("pod: a hook runs", obj("Pod", NEVER, {"phase": "Running", "conditions": READY}), "Progressing", ""),
    ("pod: succeeded", obj("Pod", NEVER, {"phase": "Succeeded"}), "Healthy", ""),
    (
        "pod: failed",
        obj("Pod", NEVER, {"phase": "Failed", **container({"terminated": {"exitCode": 3}})}),
        "Degraded",
        'container "c" failed with exit code 3',
    ),
    (
        "pod: failed with a message",
        obj(
            "Pod",
            NEVER,
            {"phase": "Failed", "message": "evicted", **container({"terminated": {"exitCode": 3}})},
        ),
        "Degraded",
        "evicted",
    ),
    ("pod: no phase", obj("Pod", ALWAYS, {}), "Unknown", ""),
    ("job: running", obj("Job", {}, {"active": 1}), "Progressing", ""),
    (
        "job: complete",
        obj("Job", {}, {"conditions": [{"type": "Complete", "message": "done"}]}),
        "Healthy",
        "done",
    ),
    ("job: failed", obj("Job", {}, {"conditions": [{"type": "Failed", "message": "no"}]}), "Degraded", "no"),
    (
        "job: suspended",
        obj("Job", {}, {"conditions": [{"type": "Suspended", "status": "True"}]}),
        "Suspended",
        "",
    ),
    ("service", obj("Service", {"type": "NodePort"}, {}), "Healthy", ""),
    ("service: balancer without address", obj("Service", {"type": "LoadBalancer"}, {}), "Progressing", ""),
    (
        "service: balancer",
        obj("Service", {"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}),
        "Healthy",
        "",
    ),
    ("claim: bound", obj("PersistentVolumeClaim", {}, {"phase": "Bound"}), "Healthy", ""),
    ("claim: lost", obj("PersistentVolumeClaim", {}, {"phase": "Lost"}), "Degraded", ""),
    ("config map", obj("ConfigMap", {}, {}), None, ""),
    (
        "deleted",
        obj("Deployment", {"replicas": 1}, deployed(1, 1, 1), deletionTimestamp="2026-01-01T00:00:00Z"),
        "Progressing",
        "Pending deletion",
    ),
]


@pytest.mark.parametrize(("live", "status", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_health(live: dict[str, Any], status: str | None, message: str) -> None:
    assert health(live) == (status, message)


#: Where Argo CD's health and our readiness say different things, by kind and rule: what Argo CD says, and why that is so.
DIFFERENT = {
    ("Deployment", "zero_replicas"): ("Healthy", "nothing is wanted, so nothing is missing"),
    ("Deployment", "rolling_out"): ("Healthy", "it asks for available pods, and never for ready ones"),
    ("Deployment", "old_pods"): (
        "Healthy",
        "it compares all pods with updated ones, and not with those wanted",
    ),
    ("Deployment", "replica_failure"): ("Healthy", "of conditions it reads the progress deadline alone"),
    ("Deployment", "progressing"): ("Healthy", "as above"),
    ("Deployment", "not_available"): ("Healthy", "as above"),
    ("ReplicaSet", "rolling_out"): ("Healthy", "it asks for available pods alone"),
    ("ReplicaSet", "replica_failure"): ("Degraded", "it does not wait for a quota to be raised"),
    ("ReplicaSet", "zero_replicas"): ("Healthy", "nothing is wanted, so nothing is missing"),
    ("Pod", "bad_image"): ("Progressing", "it reads words that begin with Err or end in Error or BackOff"),
    ("Pod", "pod_not_ready"): (
        "Degraded",
        "an image that cannot be pulled is no failure here before its time is up",
    ),
    ("PersistentVolumeClaim", "not_bound"): ("Healthy", "it may wait for its first consumer"),
    ("Service", "no_cluster_ip"): ("Healthy", "only a LoadBalancer is looked at"),
}
_SAME = {
    "ready": ("Healthy",),
    "waiting": ("Progressing", "Suspended"),
    "failed": ("Degraded",),
    "unknown": ("Unknown",),
}


def test_it_differs_from_our_readiness_only_where_that_is_known() -> None:
    """The sandbox tells what Argo CD does; ``docs/decisions/0023-the-sandbox-tells-argo-cds-health.md`` says why."""
    compared, different = 0, {}
    for item, state, rule in TABLE:
        if not isinstance((item.get("status") or {}).get("observedGeneration", 0), int):
            continue  # no API server keeps such a status of a kind that has a health here
        told, _ = health(item)
        compared += told is not None
        if told not in (None, *_SAME[state]):
            different[item["kind"], rule] = told
    assert compared > 35
    assert different == {key: told for key, (told, _) in DIFFERENT.items()}
