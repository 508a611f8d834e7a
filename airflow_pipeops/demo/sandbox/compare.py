"""Desired against live, resource by resource. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.demo.sandbox.manifests import (
    COMPARE_OPTIONS,
    Manifest,
    hook_phases,
    owner,
    wave,
    words,
)
from airflow_pipeops.demo.sandbox.runtime.key import Key

Health = tuple["str | None", str]
#: From best to worst, as Argo CD orders them.
HEALTH_ORDER = ("Healthy", "Suspended", "Progressing", "Missing", "Degraded", "Unknown")
#: Lists of objects that are merged by a key instead of by position.
_LIST_KEYS = ("name", "containerPort", "port", "key", "mountPath", "ip", "type")


@dataclass(frozen=True)
class ResourceState:
    """One resource of an Application: what is wanted, what is there, and what follows.

    :param key: which resource.
    :param target: its manifest in Git; ``None`` where Git has none.
    :param live: its live object; ``None`` where there is none.
    :param modified: whether the live object differs from the manifest.
    :param health: of the live object; ``None`` for a kind without a health check.
    :param message: what goes with the health.
    """

    key: Key
    target: Manifest | None
    live: Manifest | None
    modified: bool
    health: str | None
    message: str
    #: The Application that holds the live object, where that is another one.
    shared_with: str = ""

    @property
    def requires_pruning(self) -> bool:
        """Whether it is live, tracked by the Application, and no longer wanted."""
        return self.target is None

    @property
    def ignored(self) -> bool:
        """Whether it is left out of the Application's sync status although nobody wants it."""
        return (
            self.live is not None
            and self.target is None
            and "IgnoreExtraneous" in words(self.live, COMPARE_OPTIONS)
        )

    @property
    def synced(self) -> bool:
        """Whether live is as wanted."""
        return (
            self.target is not None and self.live is not None and not self.modified and not self.shared_with
        )

    def describe(self) -> dict[str, Any]:
        """Return the entry of ``status.resources``."""
        manifest = self.target or self.live or {}
        group, _, version = manifest["apiVersion"].rpartition("/")
        entry: dict[str, Any] = {"version": version, "kind": self.key.kind, "name": self.key.name}
        if group:
            entry["group"] = group
        if self.key.namespace:
            entry["namespace"] = self.key.namespace
        entry["status"] = "Synced" if self.synced else "OutOfSync"
        if self.health:
            entry["health"] = {"status": self.health, **({"message": self.message} if self.message else {})}
        if self.requires_pruning:
            entry["requiresPruning"] = True
        if wave(manifest):
            entry["syncWave"] = wave(manifest)
        return entry


def compare(
    app: str,
    targets: Iterable[Manifest],
    live: Iterable[Manifest],
    health: Callable[[Manifest], Health],
    last_applied: Callable[[Key], Manifest | None],
) -> list[ResourceState]:
    """Return the state of each resource, wanted or live; hooks are left out.

    :param targets: manifests of the desired state, with namespaces filled in.
    :param live: all live objects.
    :param health: judges a live object.
    :param last_applied: gives the manifest applied before, to see a field that was taken out of Git.
    :return: the states, by kind, namespace and name.
    """
    by_key = {Key.of(item): item for item in live}
    wanted = {Key.of(item): item for item in targets if not hook_phases(item)}
    states = []
    for key, target in wanted.items():
        found = by_key.get(key)
        status, message = health(found) if found is not None else ("Missing", "")
        other = owner(found) if found is not None else ""
        modified = found is not None and is_modified(target, found, last_applied(key))
        states.append(
            ResourceState(key, target, found, modified, status, message, other if other != app else "")
        )
    for key, found in by_key.items():
        if key not in wanted and owner(found) == app and not hook_phases(found):
            status, message = health(found)
            states.append(ResourceState(key, None, found, False, status, message))
    return sorted(states, key=lambda state: (state.key.kind, state.key.namespace, state.key.name))


def is_modified(target: Manifest, live: Manifest, last_applied: Manifest | None) -> bool:
    """Say whether ``live`` differs from ``target`` in a field that the target states, or stated when last applied.

    Fields that only the cluster knows (defaults, status) do not count.

    :return: whether it differs.
    """
    wanted, real = _normal(target), _normal(live)
    if not _covers(wanted, real):
        return True
    return last_applied is not None and _leftover(_normal(last_applied), wanted, real)


def predict(target: Manifest | None, live: Manifest | None, last_applied: Manifest | None) -> Manifest | None:
    """Return what would be live after a sync."""
    if target is None or live is None:
        return target
    after: Manifest = _overlay(_normal(target), _normal(live), _normal(last_applied or {}))
    return {**after, "status": live["status"]} if "status" in live else after


def _normal(manifest: Manifest) -> Manifest:
    """Return a manifest without status, and a Secret's ``stringData`` folded into ``data``."""
    plain = {name: value for name, value in manifest.items() if name != "status"}
    if plain.get("kind") == "Secret" and isinstance(plain.get("stringData"), dict):
        import base64

        extra = {k: base64.b64encode(str(v).encode()).decode() for k, v in plain.pop("stringData").items()}
        plain["data"] = {**(plain.get("data") or {}), **extra}
    return plain


def _empty(value: Any) -> bool:
    return value is None or value == {} or value == []


def _covers(wanted: Any, real: Any, *, quantities: bool = False) -> bool:
    if _empty(wanted):
        return _empty(real) or isinstance(wanted, dict) or wanted is None
    if isinstance(wanted, dict):
        return isinstance(real, dict) and all(
            _covers(value, real.get(name), quantities=quantities or name in ("limits", "requests"))
            for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(real, list) and _covers_list(wanted, real)
    if quantities:
        return bool(_quantity(wanted) == _quantity(real))
    # A False may be left out by the cluster; True and 1 are not the same.
    if wanted is False and real is None:
        return True
    same: bool = wanted == real and isinstance(wanted, bool) == isinstance(real, bool)
    return same


def _covers_list(wanted: list[Any], real: list[Any]) -> bool:
    key = _list_key(wanted)
    if key is None:
        return len(wanted) == len(real) and all(map(_covers, wanted, real))
    there = {item.get(key): item for item in real if isinstance(item, dict)}
    return all(item[key] in there and _covers(item, there[item[key]]) for item in wanted)


def _leftover(before: Any, wanted: Any, real: Any) -> bool:
    """Say whether something that was applied before, and is wanted no more, is still there."""
    if isinstance(before, dict) and isinstance(real, dict):
        wanted = wanted if isinstance(wanted, dict) else {}
        return any(
            (name in real and not _empty(real[name]))
            if name not in wanted
            else _leftover(value, wanted[name], real.get(name))
            for name, value in before.items()
        )
    if isinstance(before, list) and isinstance(real, list) and isinstance(wanted, list):
        key = _list_key(before)
        if key is None:
            return False
        there = {item.get(key): item for item in real if isinstance(item, dict)}
        keep = {item.get(key): item for item in wanted if isinstance(item, dict)}
        return any(
            item[key] in there
            and (item[key] not in keep or _leftover(item, keep[item[key]], there[item[key]]))
            for item in before
        )
    return False


def _overlay(target: Any, live: Any, before: Any) -> Any:
    if isinstance(target, dict) and isinstance(live, dict):
        before = before if isinstance(before, dict) else {}
        kept = {
            k: v for k, v in live.items() if k in target or k not in before or k in ("apiVersion", "kind")
        }
        return {**kept, **{k: _overlay(v, live.get(k), before.get(k)) for k, v in target.items()}}
    if isinstance(target, list) and isinstance(live, list):
        key = _list_key(target)
        if key is None:
            return target
        there = {item.get(key): item for item in live if isinstance(item, dict)}
        old = {item.get(key): item for item in before or [] if isinstance(item, dict)}
        merged = [_overlay(item, there.get(item[key]), old.get(item[key])) for item in target]
        names = {item[key] for item in target}
        return merged + [item for name, item in there.items() if name not in names and name not in old]
    return target


def _list_key(items: list[Any]) -> str | None:
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for key in _LIST_KEYS:
        values = [item.get(key) for item in items]
        if all(isinstance(value, (str, int)) for value in values) and len(set(values)) == len(values):
            return key
    return None


_SUFFIX = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|Ki|Mi|Gi)?")


def _quantity(value: Any) -> Any:
    """Return a Kubernetes quantity as a number, so that ``1`` and ``1000m`` are equal; other values unchanged."""
    found = _QUANTITY.fullmatch(str(value))
    return round(float(found[1]) * _SUFFIX.get(found[2], 1), 6) if found else value


def app_health(states: Iterable[ResourceState]) -> str:
    """Return the worst health of all resources; missing ones count only where all are missing."""
    known = [state.health for state in states if state.health]
    present = [status for status in known if status != "Missing"]
    if known and not present:
        return "Missing"
    return max(present, key=HEALTH_ORDER.index, default="Healthy")


def sync_status(states: Iterable[ResourceState]) -> str:
    """Return ``Synced`` where every resource is; hooks were never in the list."""
    return "Synced" if all(state.synced or state.ignored for state in states) else "OutOfSync"
