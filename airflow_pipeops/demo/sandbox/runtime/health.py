"""Health of one live object, by the rules that Argo CD applies. Pure."""

from __future__ import annotations

from typing import Any

Health = tuple[str | None, str]


def health(live: dict[str, Any]) -> Health:
    """Return (status, message): Healthy, Progressing, Degraded, Suspended or Unknown.

    ``(None, "")`` for a kind that has no health check (a ConfigMap, say): it counts for nothing in the health of
    the application. ``Missing`` is the caller's to say, who knows what should be there.

    :return: the status and its message.
    """
    if live.get("metadata", {}).get("deletionTimestamp"):
        return "Progressing", "Pending deletion"
    group = live.get("apiVersion", "").rpartition("/")[0]
    check = _CHECKS.get((group, live.get("kind", "")))
    return check(live) if check else (None, "")


def condition(live: dict[str, Any], type_: str) -> dict[str, Any] | None:
    """Return the condition of that type from ``status.conditions``, or None."""
    for item in live.get("status", {}).get("conditions", []):
        if item.get("type") == type_:
            return dict(item)
    return None


def _deployment(live: dict[str, Any]) -> Health:
    spec, status, name = live.get("spec", {}), live.get("status", {}), live["metadata"]["name"]
    waiting = "Waiting for rollout to finish: "
    if spec.get("paused"):
        return "Suspended", "Deployment is paused"
    if live["metadata"].get("generation", 0) > status.get("observedGeneration", 0):
        return "Progressing", waiting + "observed deployment generation less than desired generation"
    progressing = condition(live, "Progressing")
    if progressing and progressing.get("reason") == "ProgressDeadlineExceeded":
        return "Degraded", f'Deployment "{name}" exceeded its progress deadline'
    wanted, updated = spec.get("replicas"), status.get("updatedReplicas", 0)
    total, available = status.get("replicas", 0), status.get("availableReplicas", 0)
    if wanted is not None and updated < wanted:
        return "Progressing", waiting + f"{updated} out of {wanted} new replicas have been updated..."
    if total > updated:
        return "Progressing", waiting + f"{total - updated} old replicas are pending termination..."
    if available < updated:
        return "Progressing", waiting + f"{available} of {updated} updated replicas are available..."
    return "Healthy", ""


def _replica_set(live: dict[str, Any]) -> Health:
    spec, status = live.get("spec", {}), live.get("status", {})
    waiting = "Waiting for rollout to finish: "
    if live["metadata"].get("generation", 0) > status.get("observedGeneration", 0):
        return "Progressing", waiting + "observed replica set generation less than desired generation"
    failure = condition(live, "ReplicaFailure")
    if failure and failure.get("status") == "True":
        return "Degraded", failure.get("message", "")
    wanted, available = spec.get("replicas"), status.get("availableReplicas", 0)
    if wanted is not None and available < wanted:
        return "Progressing", waiting + f"{available} out of {wanted} new replicas are available..."
    return "Healthy", ""


def _service(live: dict[str, Any]) -> Health:
    if live.get("spec", {}).get("type") == "LoadBalancer":
        ingress = live.get("status", {}).get("loadBalancer", {}).get("ingress")
        return ("Healthy" if ingress else "Progressing"), ""
    return "Healthy", ""


def _job(live: dict[str, Any]) -> Health:
    found = {c["type"]: c for c in live.get("status", {}).get("conditions", [])}
    if "Failed" in found:
        return "Degraded", found["Failed"].get("message", "")
    if "Suspended" in found and found["Suspended"].get("status") == "True":
        return "Suspended", ""
    if "Complete" in found or "Suspended" in found:
        return "Healthy", found.get("Complete", found.get("Suspended", {})).get("message", "")
    return "Progressing", ""


def _pod(live: dict[str, Any]) -> Health:
    status = live.get("status", {})
    always = live.get("spec", {}).get("restartPolicy", "Always") == "Always"
    message = status.get("message", "")
    containers = status.get("containerStatuses", [])
    # A pod that will be gone after one run (a hook) is judged by its phase alone: it may still recover.
    if always and (stuck := [w for c in containers if (w := _stuck(c)) is not None]):
        return "Degraded", ", ".join(stuck)
    phase = status.get("phase")
    if phase == "Pending":
        return "Progressing", message
    if phase == "Succeeded":
        return "Healthy", message
    if phase == "Failed":
        return "Degraded", message or next(filter(None, map(_fail_message, containers)), "")
    if phase == "Running":
        return _running_pod(live, always, message, containers)
    return "Unknown", message


def _running_pod(
    live: dict[str, Any], always: bool, message: str, containers: list[dict[str, Any]]
) -> Health:
    if not always:
        return "Progressing", message
    ready = condition(live, "Ready")
    if ready and ready.get("status") == "True":
        return "Healthy", message
    if any(c.get("lastState", {}).get("terminated") for c in containers):
        return "Degraded", message
    return "Progressing", message


def _stuck(container: dict[str, Any]) -> str | None:
    waiting = container.get("state", {}).get("waiting")
    if not waiting:
        return None
    reason = waiting.get("reason", "")
    if reason.startswith("Err") or reason.endswith(("Error", "BackOff")):
        return str(waiting.get("message", ""))
    return None


def _fail_message(container: dict[str, Any]) -> str:
    terminated = container.get("state", {}).get("terminated") or {}
    if terminated.get("message"):
        return str(terminated["message"])
    if terminated.get("reason") == "OOMKilled":
        return "OOMKilled"
    if code := terminated.get("exitCode"):
        return f'container "{container["name"]}" failed with exit code {code}'
    return ""


def _volume_claim(live: dict[str, Any]) -> Health:
    phase = live.get("status", {}).get("phase")
    if phase == "Lost":
        return "Degraded", ""
    if phase == "Pending":
        if "volume.beta.kubernetes.io/storage-provisioner" in live["metadata"].get("annotations", {}):
            return "Progressing", "Provisioning volume"
        return "Healthy", "Waiting for consumer"
    return ("Healthy" if phase == "Bound" else "Unknown"), ""


_CHECKS = {
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("batch", "Job"): _job,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("", "PersistentVolumeClaim"): _volume_claim,
}
