"""Jobs: pods that run to completion, a limited number of times."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow_pipeops.demo.sandbox.runtime.deployment import Retire, active, make_pod, pods_of
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.runtime.pod import back_off
from airflow_pipeops.demo.sandbox.runtime.rollout import seconds_since
from airflow_pipeops.demo.sandbox.runtime.store import ObjectStore, now


def reconcile_job(store: ObjectStore, key: Key, retire: Retire) -> float | None:
    """Take the next step of a Job; returns when to look again (seconds), or None."""
    live = store.read(key)
    if live is None or live["metadata"].get("deletionTimestamp") or _finished(live):
        return None
    spec, status = live["spec"], live.setdefault("status", {})
    status.setdefault("startTime", now())
    pods = pods_of(store, live)
    running = active(pods)
    failed = [p for p in pods if p.get("status", {}).get("phase") == "Failed"]
    succeeded = sum(p.get("status", {}).get("phase") == "Succeeded" for p in pods)
    age = seconds_since(status["startTime"], datetime.now(timezone.utc))
    again = None
    verdict = _verdict(spec, age, succeeded, len(failed), running)
    if verdict:
        _finish(status, *verdict)
        for pod in running:
            retire(Key.of(pod))
        running = []
    elif not spec.get("suspend"):
        again = _wait(failed)
        missing = min(spec["parallelism"], spec["completions"] - succeeded) - len(running)
        if again is None and missing > 0:
            for _ in range(missing):
                name = {"job-name": key.name, "batch.kubernetes.io/job-name": key.name}
                running.append(store.write(make_pod(live, spec["template"], name)))
        if deadline := spec.get("activeDeadlineSeconds"):
            again = min(filter(None, (again, max(0.1, deadline - age))))
    status.update(active=len(running), succeeded=succeeded, failed=len(failed))
    store.write(live)
    return again


def _finished(live: dict[str, Any]) -> bool:
    return any(c["type"] in ("Complete", "Failed") for c in live.get("status", {}).get("conditions", []))


def _verdict(
    spec: dict[str, Any], age: float, succeeded: int, failed: int, running: list[dict[str, Any]]
) -> tuple[str, str, str] | None:
    """Return (type, reason, message) of the condition that ends the Job, or None."""
    if succeeded >= spec["completions"]:
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    if spec.get("activeDeadlineSeconds") and age >= spec["activeDeadlineSeconds"]:
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    restarts = sum(
        c["restartCount"] for p in running for c in p.get("status", {}).get("containerStatuses", [])
    )
    if failed > spec["backoffLimit"] or restarts > spec["backoffLimit"]:
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    return None


def _wait(failed: list[dict[str, Any]]) -> float | None:
    """Return the seconds to wait before the next attempt, or None for no wait."""
    if not failed:
        return None
    ends = [
        c["state"]["terminated"]["finishedAt"]
        for p in failed
        for c in p["status"]["containerStatuses"]
        if "terminated" in c["state"]
    ]
    since = seconds_since(max(ends), datetime.now(timezone.utc)) if ends else 0.0
    left = back_off(len(failed)) - since
    return left if left > 0 else None


def _finish(status: dict[str, Any], type_: str, reason: str, message: str) -> None:
    stamp = now()
    status.setdefault("conditions", []).append(
        {
            "type": type_,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastProbeTime": stamp,
            "lastTransitionTime": stamp,
        }
    )
    if type_ == "Complete":
        status["completionTime"] = stamp
