"""How a Deployment moves from its old pods to its new ones, and what its status says. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any


def template_hash(template: dict[str, Any]) -> str:
    """Return the short hash that names the ReplicaSet of a pod template."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Set:
    """What the plan needs to know of one ReplicaSet; ``wanted`` is its spec, the rest its status.

    :param name: of the ReplicaSet.
    :param wanted: replicas of its spec.
    :param total: pods that exist.
    :param ready: pods that are ready.
    :param available: pods that were ready for long enough.
    :param live_pods: pods whose process has not ended yet, those being terminated included.
    """

    name: str
    wanted: int
    total: int = 0
    ready: int = 0
    available: int = 0
    live_pods: int = 0


@dataclass(frozen=True)
class Plan:
    """The sizes to set: ReplicaSet name -> replicas (only those that change).

    :param scale: ReplicaSet name -> replicas.
    """

    scale: dict[str, int] = field(default_factory=dict)


def bounds(spec: dict[str, Any]) -> tuple[int, int]:
    """Return (maxSurge, maxUnavailable) in pods; if both would be 0, one pod may be unavailable."""
    replicas = spec["replicas"]
    if spec["strategy"]["type"] == "Recreate":
        return 0, replicas
    rolling = spec["strategy"]["rollingUpdate"]

    def resolve(value: Any, rounding: Any) -> int:
        text = str(value)
        return rounding(int(text[:-1]) * replicas / 100) if text.endswith("%") else int(text)

    surge, unavailable = (
        resolve(rolling["maxSurge"], math.ceil),
        resolve(rolling["maxUnavailable"], math.floor),
    )
    return surge, (1 if surge == unavailable == 0 else min(unavailable, replicas))


def plan(spec: dict[str, Any], new: Set, old: list[Set]) -> Plan:
    """Return the next sizes of the ReplicaSets of a Deployment, oldest first in ``old``."""
    replicas = spec["replicas"]
    if spec.get("paused"):
        return Plan()
    if spec["strategy"]["type"] == "Recreate":
        if any(s.wanted or s.live_pods for s in old):
            return Plan({s.name: 0 for s in old if s.wanted})
        return Plan({new.name: replicas} if new.wanted != replicas else {})
    surge, unavailable = bounds(spec)
    scale: dict[str, int] = {}
    total = new.wanted + sum(s.wanted for s in old)
    if new.wanted > replicas:
        scale[new.name] = replicas
    elif new.wanted < replicas and (room := replicas + surge - total) > 0:
        scale[new.name] = min(replicas, new.wanted + room)
    if scale:
        return Plan(scale)
    return Plan(_shrink(total - (replicas - unavailable), replicas - unavailable, new, old))


def _shrink(spare: int, least: int, new: Set, old: list[Set]) -> dict[str, int]:
    """Return the smaller sizes of old ReplicaSets such that ``least`` pods stay available."""
    spare -= new.wanted - new.available
    sizes = {s.name: s.wanted for s in old}
    # Old pods that do not work are of no use to anybody: they go first.
    for one in old:
        broken = max(0, min(spare, one.wanted - min(one.available, one.wanted)))
        sizes[one.name] -= broken
        spare -= broken
    spare = min(spare, new.available + sum(s.available for s in old) - least)
    for one in old:
        cut = max(0, min(spare, sizes[one.name]))
        sizes[one.name] -= cut
        spare -= cut
    return {s.name: sizes[s.name] for s in old if sizes[s.name] != s.wanted}


def seconds_since(stamp: str, now: datetime) -> float:
    """Return the seconds from a Kubernetes timestamp to ``now`` (aware)."""
    return (now - datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)).total_seconds()


def status(
    live: dict[str, Any], new: Set, old: list[Set], now: datetime, starved: float = 0.0
) -> dict[str, Any]:
    """Return the status of a Deployment after the ReplicaSets' facts, with its conditions.

    A rollout that once completed does not exceed its deadline when its pods break later, as in Kubernetes.

    :param starved: seconds for which the machine had no processor for the new pods; the deadline is later by so much.
    :return: the new ``status``.
    """
    spec, before = live["spec"], live.get("status", {})
    sets = [new, *old]
    replicas, available = sum(s.total for s in sets), sum(s.available for s in sets)
    out: dict[str, Any] = {
        "observedGeneration": live["metadata"]["generation"],
        "replicas": replicas,
        "updatedReplicas": new.total,
        "readyReplicas": sum(s.ready for s in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, spec["replicas"] - available),
    }
    conditions = {c["type"]: c for c in before.get("conditions", [])}
    enough = available >= spec["replicas"] - bounds(spec)[1]
    _set(
        conditions,
        now,
        "Available",
        enough,
        "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        f"Deployment {'has' if enough else 'does not have'} minimum availability.",
    )
    _progress(conditions, spec, before, out, new, now, starved)
    out["conditions"] = [conditions[k] for k in ("Available", "Progressing") if k in conditions]
    return out


def _progress(
    conditions: dict[str, Any],
    spec: dict[str, Any],
    before: dict[str, Any],
    out: dict[str, Any],
    new: Set,
    now: datetime,
    starved: float,
) -> None:
    current = conditions.get("Progressing")
    if (
        current
        and current["reason"] == "NewReplicaSetAvailable"
        and out["replicas"] == out["updatedReplicas"]
    ):
        return
    name = f'ReplicaSet "{new.name}"'
    complete = out["updatedReplicas"] == out["replicas"] == out["availableReplicas"] == spec["replicas"]

    def olds(status_: dict[str, Any]) -> int:
        return int(status_.get("replicas", 0)) - int(status_.get("updatedReplicas", 0))

    moved = any(
        out[f] > before.get(f, 0) for f in ("updatedReplicas", "readyReplicas", "availableReplicas")
    ) or olds(out) < olds(before)
    if complete:
        _set(
            conditions,
            now,
            "Progressing",
            True,
            "NewReplicaSetAvailable",
            f"{name} has successfully progressed.",
        )
    elif current is None or moved:
        _set(conditions, now, "Progressing", True, "ReplicaSetUpdated", f"{name} is progressing.", touch=True)
    elif current["reason"] != "NewReplicaSetAvailable" and (
        seconds_since(current["lastUpdateTime"], now) - starved > spec["progressDeadlineSeconds"]
    ):
        _set(
            conditions,
            now,
            "Progressing",
            False,
            "ProgressDeadlineExceeded",
            f"{name} has timed out progressing.",
        )


def new_rollout(live: dict[str, Any], name: str, now: datetime) -> None:
    """Note in the Deployment's status that a new ReplicaSet was made: the deadline runs from here."""
    status_ = live.setdefault("status", {})
    conditions = {c["type"]: c for c in status_.get("conditions", [])}
    message = f'Created new replica set "{name}"'
    _set(conditions, now, "Progressing", True, "NewReplicaSetCreated", message, touch=True)
    status_["conditions"] = list(conditions.values())


def _set(
    conditions: dict[str, Any],
    now: datetime,
    type_: str,
    true: bool,
    reason: str,
    message: str,
    *,
    touch: bool = False,
) -> None:
    stamp, value = now.strftime("%Y-%m-%dT%H:%M:%SZ"), "True" if true else "False"
    old = conditions.get(type_)
    if old and old["status"] == value and old["reason"] == reason and not touch:
        return
    conditions[type_] = {
        "type": type_,
        "status": value,
        "reason": reason,
        "message": message,
        "lastUpdateTime": stamp,
        "lastTransitionTime": old["lastTransitionTime"] if old and old["status"] == value else stamp,
    }
