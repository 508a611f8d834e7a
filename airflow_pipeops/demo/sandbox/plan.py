"""What a sync does, in which order: phases, waves, kinds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from airflow_pipeops.demo.sandbox.compare import ResourceState
from airflow_pipeops.demo.sandbox.manifests import (
    HOOK_DELETE_POLICY,
    SYNC_OPTIONS,
    Manifest,
    adopt,
    hook_phases,
    wave,
    words,
)
from airflow_pipeops.demo.sandbox.runtime.key import Key

_KIND_ORDER = (
    "Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "PodDisruptionBudget", "ServiceAccount", "Secret",
    "ConfigMap", "StorageClass", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition",
    "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service", "DaemonSet", "Pod", "ReplicaSet",
    "Deployment", "HorizontalPodAutoscaler", "StatefulSet", "Job", "CronJob", "Ingress", "APIService",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One step of a sync: apply a manifest, run a hook, or remove what is not wanted.

    :param phase: of the sync in which it happens.
    :param wave: within the phase; lower ones first.
    :param key: the object that it is about.
    :param manifest: of that object.
    :param hook: whether the object is a hook, which is run and not kept.
    :param prune: whether the object is removed.
    """

    phase: str
    wave: int
    key: Key
    manifest: Manifest
    hook: bool = False
    prune: bool = False
    #: Whether a prune may happen; otherwise it is only reported.
    allowed: bool = True

    @property
    def delete_policies(self) -> list[str]:
        """When the hook's object is removed."""
        return words(self.manifest, HOOK_DELETE_POLICY) or ["BeforeHookCreation"]

    def result(self) -> dict[str, Any]:
        """Return the identity part of its entry in ``syncResult.resources``."""
        group, _, version = self.manifest["apiVersion"].rpartition("/")
        entry: dict[str, Any] = {
            "group": group,
            "version": version,
            "kind": self.key.kind,
            "namespace": self.key.namespace,
            "name": self.key.name,
            "syncPhase": self.phase,
        }
        if self.hook:
            entry["hookType"] = self.phase
        return entry

    def is_result(self, entry: dict[str, Any]) -> bool:
        """Say whether an entry of ``syncResult.resources`` is this task's."""
        return all(entry.get(name) == value for name, value in self.result().items())


def plan(
    app: str,
    namespace: str,
    targets: Iterable[Manifest],
    states: Iterable[ResourceState],
    sync: dict[str, Any],
    stamp: str,
) -> list[Task]:
    """Return all tasks of a sync, in order.

    :param sync: the operation's ``sync`` part: ``prune``, ``resources`` and ``syncStrategy`` matter here.
    :param stamp: makes the names of hooks with ``generateName`` unique to this operation.
    :return: the tasks, by phase, wave, kind and name.
    """
    chosen = sync.get("resources")
    tasks = []
    for state in states:
        if chosen is not None and not any(_selected(state.key, selector) for selector in chosen):
            continue
        if state.target is not None:
            tasks.append(Task("Sync", wave(state.target), state.key, state.target))
        elif state.live is not None:
            allowed = bool(sync.get("prune")) and "Prune=false" not in words(state.live, SYNC_OPTIONS)
            tasks.append(Task("Sync", wave(state.live), state.key, state.live, prune=True, allowed=allowed))
    # Neither a partial sync nor one with the Apply strategy (a rollback) runs hooks.
    if chosen is None and "apply" not in (sync.get("syncStrategy") or {}):
        tasks += _hooks(app, namespace, targets, stamp)
    return sorted(tasks, key=_order)


def groups(tasks: Iterable[Task], phase: str) -> list[list[Task]]:
    """Return the tasks of a phase, one list for each wave."""
    return [list(group) for _, group in groupby((t for t in tasks if t.phase == phase), key=lambda t: t.wave)]


def _hooks(app: str, namespace: str, targets: Iterable[Manifest], stamp: str) -> Iterable[Task]:
    for target in targets:
        for phase in hook_phases(target):
            if phase == "Skip":
                continue
            metadata = dict(target["metadata"])
            if not metadata.get("name"):
                metadata["name"] = f"{metadata.pop('generateName')}{stamp}-{phase.lower()}"
            manifest = adopt({**target, "metadata": metadata}, app, namespace)
            yield Task(phase, wave(target), Key.of(manifest), manifest, hook=True)


def _order(task: Task) -> tuple[Any, ...]:
    phase = ("PreSync", "Sync", "PostSync", "SyncFail").index(task.phase)
    kind = _KIND_ORDER.index(task.key.kind) if task.key.kind in _KIND_ORDER else len(_KIND_ORDER)
    # Within a wave what is new comes first, and what goes, goes in the opposite order.
    return (phase, task.wave, task.prune, -kind if task.prune else kind, task.key.name, task.key.namespace)


def _selected(key: Key, selector: dict[str, str]) -> bool:
    same = selector.get("kind") == key.kind and selector.get("name") == key.name
    same = same and (selector.get("group") or "") == key.group
    return same and selector.get("namespace") in (None, "", key.namespace)
