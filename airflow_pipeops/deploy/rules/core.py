"""Kinds of Kubernetes itself that run no pods."""

from __future__ import annotations

from collections.abc import Callable

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.seen import Readiness, Seen, failed, ready, unknown, waiting

#: Groups of Kubernetes whose other kinds nobody reconciles: what is stored is in force.
PASSIVE = frozenset(
    {
        "",
        "admissionregistration.k8s.io",
        "apps",
        "authorization.k8s.io",
        "batch",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
    }
)


def exists(seen: Seen) -> Readiness:
    """It is in force once it is stored."""
    return ready("exists", f"{seen} is there")


def claim(seen: Seen) -> Readiness:
    """It is bound, and of the size that is asked for."""
    phase, resizing = text(seen.status.get("phase")), seen.condition("Resizing")
    if phase == "Lost":
        return failed("volume_lost", f"the volume of {seen} is lost")
    if phase != "Bound":
        return waiting(
            "not_bound", f"{seen} is not bound; some classes bind only once a pod wants the volume"
        )
    if resizing is not None and resizing.status == "True":
        return waiting("resizing", resizing.words)
    return ready("bound", f"{seen} is bound")


def service(seen: Seen) -> Readiness:
    """It has its address; a load balancer has one that is reached from outside."""
    kind = text(seen.spec.get("type")) or "ClusterIP"
    if kind == "ExternalName":
        return exists(seen)
    if not seen.spec.get("clusterIP"):
        return waiting("no_cluster_ip", f"{seen} has no cluster IP yet")
    if kind == "LoadBalancer" and not _addresses(seen):
        return waiting("no_address", f"{seen} has no address of a load balancer yet")
    return ready("addressed", f"{seen} has its address")


def ingress(seen: Seen) -> Readiness:
    """It has an address; where none comes, its controller may be one that tells none."""
    if _addresses(seen):
        return ready("addressed", f"{seen} has its address")
    if seen.settled:
        return unknown("no_address", f"nobody told an address of {seen}; some ingress controllers tell none")
    return waiting("no_address", f"{seen} has no address yet")


def autoscaler(seen: Seen) -> Readiness:
    """It can read its metrics, and scale."""
    able, active = seen.condition("AbleToScale"), seen.condition("ScalingActive")
    if able is None:
        return waiting("not_observed", f"the controller of {seen} has not looked at it yet")
    if able.status != "True":
        return waiting("unable_to_scale", able.words)
    if active is not None and active.status == "False" and active.reason == "ScalingDisabled":
        return ready("scaling_disabled", active.words)
    if active is None or active.status != "True":
        return waiting("scaling_inactive", active.words if active else f"{seen} has read no metric yet")
    return ready("scaling", f"{seen} reads its metrics, and scales")


def disruption_budget(seen: Seen) -> Readiness:
    """Its controller has counted the pods that it is about; whether they are well is said by what runs them."""
    allowed = seen.condition("DisruptionAllowed")
    if allowed is not None and allowed.reason == "SyncFailed":
        return failed("sync_failed", allowed.words)
    if seen.observed is None:
        return waiting("not_observed", f"the controller of {seen} has not looked at it yet")
    return ready("observed", f"{seen} is in force")


def definition(seen: Seen) -> Readiness:
    """Its API is served."""
    names = seen.condition("NamesAccepted")
    if names is not None and names.status == "False":
        return failed("names_refused", names.words)
    if not seen.is_true("Established"):
        return waiting("not_established", f"the API of {seen} is not served yet")
    return ready("established", f"the API of {seen} is served")


def api_service(seen: Seen) -> Readiness:
    """Its server answers."""
    found = seen.condition("Available")
    if found is None or found.status != "True":
        return waiting("api_unavailable", found.words if found else f"nobody has tried {seen} yet")
    return ready("available", f"{seen} answers")


def signing_request(seen: Seen) -> Readiness:
    """It is approved, and its certificate is there."""
    for name in ("Denied", "Failed"):
        found = seen.condition(name)
        if found is not None and found.status == "True":
            return failed("not_signed", f"{seen} is {name.lower()}: {found.words}")
    if not seen.is_true("Approved"):
        return waiting("not_approved", f"nobody has approved {seen} yet")
    if not seen.status.get("certificate"):
        return waiting("not_signed", f"{seen} is approved, and its signer has not signed it yet")
    return ready("signed", f"{seen} is signed")


def namespace(seen: Seen) -> Readiness:
    """It is not being deleted."""
    if text(seen.status.get("phase")) == "Terminating":
        return failed("deleting", f"{seen} is being deleted")
    return exists(seen)


def _addresses(seen: Seen) -> list[str]:
    entries = maps(map_(seen.status.get("loadBalancer")).get("ingress"))
    return [address for one in entries if (address := text(one.get("ip")) or text(one.get("hostname")))]


CORE: dict[tuple[str, str], Callable[[Seen], Readiness]] = {
    ("", "Namespace"): namespace,
    ("", "PersistentVolumeClaim"): claim,
    ("", "Service"): service,
    ("networking.k8s.io", "Ingress"): ingress,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaler,
    ("policy", "PodDisruptionBudget"): disruption_budget,
    ("certificates.k8s.io", "CertificateSigningRequest"): signing_request,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): definition,
    ("apiregistration.k8s.io", "APIService"): api_service,
}
