"""Objects as a cluster tells them, for the tests of readiness."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def thing(
    version: str,
    kind: str,
    *,
    generation: int = 2,
    spec: Object | None = None,
    status: Object | None = None,
    **metadata: Any,
) -> Object:
    """Return an object of which generation 2 was applied, with uid ``u1``."""
    named = {"name": "web", "namespace": "shop", "uid": "u1", "generation": generation, **metadata}
    item: Object = {"apiVersion": version, "kind": kind, "metadata": named, "spec": spec or {}}
    return item if status is None else {**item, "status": status}


def conditions(*given: str) -> list[Object]:
    """Return conditions from ``type=status``, ``type=status:reason`` or ``type=status@generation``."""
    found = []
    for one in given:
        head, _, generation = one.partition("@")
        kind, _, rest = head.partition("=")
        status, _, reason = rest.partition(":")
        condition: Object = {"type": kind, "status": status, "reason": reason or "Said"}
        found.append({**condition, "observedGeneration": int(generation)} if generation else condition)
    return found


def deployment(
    *, replicas: int = 2, spec: Object | None = None, said: list[Object] | None = None, **status: Any
) -> Object:
    """Return a Deployment that is rolled out, but for what is given."""
    whole = {"observedGeneration": 2, **dict.fromkeys(COUNTS, replicas), **status}
    usual = conditions("Progressing=True:NewReplicaSetAvailable", "Available=True")
    told = {**whole, "conditions": usual if said is None else said}
    return thing("apps/v1", "Deployment", spec={"replicas": replicas, **(spec or {})}, status=told)


COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


def stateful_set(*, replicas: int = 3, spec: Object | None = None, **status: Any) -> Object:
    """Return a StatefulSet that is rolled out, but for what is given."""
    told = {
        "observedGeneration": 2,
        **dict.fromkeys((*COUNTS, "currentReplicas"), replicas),
        "currentRevision": "web-2",
        "updateRevision": "web-2",
        **status,
    }
    return thing("apps/v1", "StatefulSet", spec={"replicas": replicas, **(spec or {})}, status=told)


DAEMON = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled")


def daemon_set(nodes: int = 3, spec: Object | None = None, **status: Any) -> Object:
    """Return a DaemonSet that is rolled out, but for what is given."""
    counts = dict.fromkeys((*DAEMON, "numberAvailable", "numberReady"), nodes)
    return thing("apps/v1", "DaemonSet", spec=spec, status={"observedGeneration": 2, **counts, **status})


def replica_set(*, replicas: int = 2, **status: Any) -> Object:
    """Return a ReplicaSet that is complete, but for what is given."""
    counts = dict.fromkeys(
        ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"), replicas
    )
    told = {"observedGeneration": 2, **counts, **status}
    return thing("apps/v1", "ReplicaSet", spec={"replicas": replicas}, status=told)


def controller(**status: Any) -> Object:
    """Return a ReplicationController that is complete, but for what is given."""
    return {**replica_set(**status), "apiVersion": "v1", "kind": "ReplicationController"}


def pod(phase: str, *said: str, waiting: str = "", image: str = "", **status: Any) -> Object:
    """Return a pod with one container."""
    container: Object = {"name": "main", "image": "shop/web:1", "imageID": image}
    if waiting:
        container["state"] = {"waiting": {"reason": waiting, "message": "as told"}}
    told = {"phase": phase, "conditions": conditions(*said), "containerStatuses": [container], **status}
    return thing("v1", "Pod", generation=1, status=told)


def job(*said: str, spec: Object | None = None, **status: Any) -> Object:
    """Return a Job."""
    told = {"conditions": conditions(*said), **status}
    return thing("batch/v1", "Job", generation=1, spec=spec, status=told)


def rollout(phase: str = "Healthy", *, spec: Object | None = None, **status: Any) -> Object:
    """Return a Rollout that is healthy at what was applied, but for what is given."""
    told = {
        "observedGeneration": "2",
        "phase": phase,
        "currentPodHash": "new",
        "stableRS": "new",
        **dict.fromkeys(COUNTS, 2),
        **status,
    }
    return thing("argoproj.io/v1alpha1", "Rollout", spec={"replicas": 2, **(spec or {})}, status=told)


def route(*parents: list[str]) -> Object:
    """Return an HTTPRoute with one parent for each list of conditions, and an answer of each."""
    refs = [{"name": f"gate-{number}"} for number, _ in enumerate(parents)]
    answers = [
        {"parentRef": ref, "conditions": conditions(*said)}
        for ref, said in zip(refs, parents, strict=True)
        if said
    ]
    spec: Object = {"parentRefs": refs}
    return thing("gateway.networking.k8s.io/v1", "HTTPRoute", spec=spec, status={"parents": answers})


def policy(*ancestors: list[str]) -> Object:
    """Return a BackendTLSPolicy with an answer of an ancestor for each list of conditions."""
    answers = [{"ancestorRef": {"name": "gate"}, "conditions": conditions(*said)} for said in ancestors]
    return thing(
        "gateway.networking.k8s.io/v1", "BackendTLSPolicy", status={"ancestors": answers} if answers else {}
    )


def signing_request(*said: str, **status: Any) -> Object:
    """Return a CertificateSigningRequest."""
    told = {"conditions": conditions(*said), **status}
    return thing("certificates.k8s.io/v1", "CertificateSigningRequest", generation=1, status=told)


def inference(*said: str, generation: int = 1, **status: Any) -> Object:
    """Return an InferenceService; the observed generation in its status is that of its Deployment."""
    told = {"observedGeneration": 1, "conditions": conditions(*said), **status}
    return thing("serving.kserve.io/v1beta1", "InferenceService", generation=generation, status=told)


def custom(*said: str, generation: int = 2, **status: Any) -> Object:
    """Return an object of a kind that nobody here knows."""
    told = {**({"conditions": conditions(*said)} if said else {}), **status}
    return thing("acme.example/v1", "Widget", generation=generation, status=told)


def application(
    health: str = "Healthy", sync: str = "Synced", revision: str = "v1", place: str = "shop", **status: Any
) -> Object:
    """Return an Application of Argo CD that was compared, and found to be so."""
    source: Object = {"repoURL": "https://git.example.com/shop.git", "path": "deploy", "targetRevision": "v1"}
    cluster: Object = {"name": "here", "server": "https://here.example.com"}
    compared = {"source": source, "destination": {"namespace": "shop", **cluster}}
    told = {"health": {"status": health}, "sync": {"status": sync, "comparedTo": compared}, **status}
    spec: Object = {"source": {**source, "targetRevision": revision, "directory": {}}}
    spec["destination"] = {"name": "here", "namespace": place}
    return thing("argoproj.io/v1alpha1", "Application", spec=spec, status=told)
