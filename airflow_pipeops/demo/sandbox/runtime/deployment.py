"""Deployments and ReplicaSets: from a wanted number of pods to pods."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from airflow_pipeops.demo.sandbox.runtime import rollout
from airflow_pipeops.demo.sandbox.runtime.health import condition
from airflow_pipeops.demo.sandbox.runtime.key import Key
from airflow_pipeops.demo.sandbox.runtime.store import ObjectStore

#: Ends a pod gracefully, in the background.
Retire = Callable[[Key], object]
_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def suffix() -> str:
    """Return the five letters that end the name of a pod."""
    return "".join(secrets.choice(_LETTERS) for _ in range(5))


def owned_by(owner: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the ``ownerReferences`` of what ``owner`` creates."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return [reference]


def make_pod(owner: dict[str, Any], template: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    """Return a new pod of a template."""
    meta = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{owner['metadata']['name']}-{suffix()}",
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(meta.get("labels") or {}), **labels},
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": owned_by(owner),
        },
        "spec": copy.deepcopy(template["spec"]),
    }


def pods_of(store: ObjectStore, owner: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pods of an owner, those being terminated included, oldest first."""
    found = [store.peek(k) for k in store.owned(owner["metadata"]["uid"]) if k.kind == "Pod"]
    return sorted((p for p in found if p is not None), key=lambda p: int(p["metadata"]["resourceVersion"]))


def active(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pods that count: not finished, not being terminated."""
    return [
        p
        for p in pods
        if not p["metadata"].get("deletionTimestamp")
        and p.get("status", {}).get("phase") not in ("Failed", "Succeeded")
    ]


def reconcile_replica_set(store: ObjectStore, key: Key, retire: Retire) -> float | None:
    """Bring the pods of a ReplicaSet to the wanted number; returns when to look again (seconds), or None."""
    live = store.read(key)
    if live is None or live["metadata"].get("deletionTimestamp"):
        return None
    wanted = live["spec"]["replicas"]
    pods = active(pods_of(store, live))
    for _ in range(wanted - len(pods)):
        store.write(make_pod(live, live["spec"]["template"], {}))
    if len(pods) > wanted:
        # The least useful first: not ready before ready, then the youngest.
        ranked = sorted(enumerate(pods), key=lambda item: (_ready_for(item[1]) is not None, -item[0]))
        for _, pod in ranked[: len(pods) - wanted]:
            retire(Key.of(pod))
    pods = active(pods_of(store, live))
    ready = [since for p in pods if (since := _ready_for(p)) is not None]
    patience = live["spec"].get("minReadySeconds") or 0
    young = [patience - since for since in ready if since < patience]
    live["status"] = {
        "replicas": len(pods),
        "fullyLabeledReplicas": len(pods),
        "readyReplicas": len(ready),
        "availableReplicas": len(ready) - len(young),
        "observedGeneration": live["metadata"]["generation"],
    }
    store.write(live)
    return max(0.1, float(min(young))) if young else None


def _ready_for(pod: dict[str, Any]) -> float | None:
    ready = condition(pod, "Ready")
    if not ready or ready["status"] != "True":
        return None
    return rollout.seconds_since(ready["lastTransitionTime"], datetime.now(timezone.utc))


def reconcile_deployment(
    store: ObjectStore, key: Key, starved: Callable[[Key], float] = lambda pod: 0.0
) -> float | None:
    """Take the next step of a Deployment's rollout.

    :param starved: returns the seconds for which a pod got no processor.
    :return: seconds until the next look, or ``None`` where none is due.
    """
    live = store.read(key)
    if live is None or live["metadata"].get("deletionTimestamp"):
        return None
    now = datetime.now(timezone.utc)
    spec = live["spec"]
    name = f"{key.name}-{rollout.template_hash(spec['template'])}"
    sets = _replica_sets(store, live)
    if name not in sets and not spec.get("paused"):
        made = store.write(_make_replica_set(live, name, 1 + max(map(_revision, sets.values()), default=0)))
        sets[name] = made
        rollout.new_rollout(live, name, now)
    elif name in sets and not spec.get("paused"):
        newest = max(map(_revision, sets.values()))
        if _revision(sets[name]) < newest:  # back to an earlier template
            sets[name]["metadata"]["annotations"][_REVISION] = str(newest + 1)
            store.write(sets[name])
    new = _facts(store, sets[name]) if name in sets else rollout.Set(name, 0)
    old = [_facts(store, one) for n, one in sets.items() if n != name]
    for set_name, size in rollout.plan(spec, new, old).scale.items():
        one = store.read(Key("apps", "ReplicaSet", key.namespace, set_name))
        if one is not None:
            one["spec"]["replicas"] = size
            store.write(one)
    if name in sets:
        live["metadata"].setdefault("annotations", {})[_REVISION] = str(_revision(sets[name]))
    pods = active(pods_of(store, sets[name])) if name in sets else []
    lost = max((starved(Key.of(pod)) for pod in pods), default=0.0)
    live["status"] = rollout.status(live, new, old, now, lost)
    store.write(live)
    progressing = condition(live, "Progressing")
    if progressing is None or progressing["reason"] in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        _forget_old(store, sets, name, spec["revisionHistoryLimit"])
        return None
    waited = rollout.seconds_since(progressing["lastUpdateTime"], now) - lost
    return max(0.2, float(spec["progressDeadlineSeconds"]) - waited + 0.1)


def _replica_sets(store: ObjectStore, live: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = [store.read(k) for k in store.owned(live["metadata"]["uid"]) if k.kind == "ReplicaSet"]
    sets = [s for s in found if s is not None and not s["metadata"].get("deletionTimestamp")]
    return {s["metadata"]["name"]: s for s in sorted(sets, key=_revision)}


def _revision(replica_set: dict[str, Any]) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(_REVISION, 0))


def _facts(store: ObjectStore, one: dict[str, Any]) -> rollout.Set:
    status = one.get("status", {})
    return rollout.Set(
        name=one["metadata"]["name"],
        wanted=one["spec"]["replicas"],
        total=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        live_pods=len(pods_of(store, one)),
    )


def _make_replica_set(live: dict[str, Any], name: str, revision: int) -> dict[str, Any]:
    template = copy.deepcopy(live["spec"]["template"])
    mark = {_HASH: name.rpartition("-")[2]}
    labels = {**(template.get("metadata") or {}).get("labels", {}), **mark}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": live["metadata"]["namespace"],
            "labels": labels,
            "annotations": {_REVISION: str(revision)},
            "ownerReferences": owned_by(live),
        },
        "spec": {
            "replicas": 0,
            "minReadySeconds": live["spec"].get("minReadySeconds") or 0,
            "selector": {"matchLabels": {**live["spec"]["selector"]["matchLabels"], **mark}},
            "template": template,
        },
    }


def _forget_old(store: ObjectStore, sets: dict[str, dict[str, Any]], new: str, limit: int) -> None:
    idle = [s for n, s in sets.items() if n != new and not s["spec"]["replicas"] and not pods_of(store, s)]
    for one in idle[: max(0, len(idle) - limit)]:
        store.remove(Key.of(one))
