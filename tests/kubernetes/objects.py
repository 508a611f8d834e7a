"""The objects of the API server for tests: versions, optimistic locking, finalizers, history, selectors."""

from __future__ import annotations

import copy
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
#: Kinds of which a server counts no generation.
_UNCOUNTED = frozenset({"configmaps", "secrets", "serviceaccounts", "roles", "rolebindings", "events"})


class Refused(Exception):
    """An answer that is a ``Status``."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.body = code, status(code, reason, message)


def status(code: int, reason: str, message: str) -> Object:
    """Return a ``Status`` of a failure."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


@dataclass
class Kept:
    group: str
    version: str
    plural: str
    subresource: bool = False
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    history: list[tuple[int, str, Object, Object | None]] = field(default_factory=list)
    #: Events older than this version were forgotten.
    oldest: int = 0


class Objects:
    """All objects of all kinds.

    :param kinds: ``(group, version, plural)``; a fourth ``True`` gives a kind a status subresource.
    """

    def __init__(self, *kinds: tuple[Any, ...]) -> None:
        self.kinds = {tuple(kind[:3]): Kept(*kind) for kind in kinds}
        self.version = 100
        self.lock = threading.RLock()
        #: Pods are made of it by the hundred; an object that gives ``generateName`` gets a name of its own.
        self._named = 0

    def put(self, group: str, version: str, plural: str, body: Object) -> Object:
        """Create an object without asking anybody, its status included."""
        with self.lock:
            return self.insert(self.kinds[group, version, plural], copy.deepcopy(body))

    def read(self, plural: str, namespace: str, name: str) -> Object | None:
        """Return a copy of an object, or ``None``."""
        with self.lock:
            found = self._by_plural(plural).objects.get((namespace, name))
            return copy.deepcopy(found)

    def all(self, plural: str) -> list[Object]:
        """Return copies of all objects of a kind."""
        with self.lock:
            return copy.deepcopy(list(self._by_plural(plural).objects.values()))

    def change(
        self, plural: str, namespace: str, name: str, change: Callable[[Object], None]
    ) -> Object | None:
        """Change an object atomically, as a controller does that tries again on each conflict."""
        with self.lock:
            kind = self._by_plural(plural)
            found = kind.objects.get((namespace, name))
            if found is None:
                return None
            after = copy.deepcopy(found)
            change(after)
            return self.store(kind, found, after)

    def compact(self) -> None:
        """Forget all history: who asks for changes since an earlier version gets 410."""
        with self.lock:
            self.version += 1
            for kind in self.kinds.values():
                kind.oldest = self.version
                kind.history.clear()

    def _by_plural(self, plural: str) -> Kept:
        return next(kind for kind in self.kinds.values() if kind.plural == plural)

    def insert(self, kind: Kept, body: Object) -> Object:
        metadata = body.setdefault("metadata", {})
        if metadata.get("generateName") and not metadata.get("name"):
            self._named += 1
            metadata["name"] = f"{metadata['generateName']}{self._named:05x}"
        key = (str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
        if not key[1]:
            raise Refused(422, "Invalid", "metadata.name: Required value: name or generateName is required")
        if key in kind.objects:
            raise Refused(409, "AlreadyExists", f'{kind.plural} "{key[1]}" already exists')
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", now())
        if kind.plural not in _UNCOUNTED:
            metadata["generation"] = 1
        self._record(kind, "ADDED", body, None)
        kind.objects[key] = body
        return copy.deepcopy(body)

    def store(self, kind: Kept, before: Object, after: Object) -> Object:
        key = (str(before["metadata"].get("namespace") or ""), before["metadata"]["name"])
        for name in ("uid", "creationTimestamp", "resourceVersion", "generation", "name", "namespace"):
            if name in before["metadata"]:
                after["metadata"][name] = before["metadata"][name]
        if after == before:
            return copy.deepcopy(before)
        if after.get("spec") != before.get("spec") and kind.plural not in _UNCOUNTED:
            after["metadata"]["generation"] = before["metadata"]["generation"] + 1
        if after["metadata"].get("deletionTimestamp") and not after["metadata"].get("finalizers"):
            del kind.objects[key]
            self._record(kind, "DELETED", after, before)
        else:
            kind.objects[key] = after
            self._record(kind, "MODIFIED", after, before)
        return copy.deepcopy(after)

    def _record(self, kind: Kept, event: str, item: Object, before: Object | None) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        kind.history.append((self.version, event, copy.deepcopy(item), copy.deepcopy(before)))


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def as_seen(event: str, item: Object, before: Object | None, namespace: str, query: dict[str, str]) -> str:
    """Return how an event looks through a selector, into which an object may come and out of which it may go."""
    now = event != "DELETED" and selected(item, namespace, query)
    then = before is not None and selected(before, namespace, query)
    if now:
        return "MODIFIED" if then else "ADDED"
    return "DELETED" if then else ""


def selected(item: Object, namespace: str, query: dict[str, str]) -> bool:
    metadata = item.get("metadata") or {}
    if namespace and metadata.get("namespace") != namespace:
        return False
    labels = metadata.get("labels") or {}
    if not all(_labelled(labels, part) for part in _requirements(query.get("labelSelector", ""))):
        return False
    for part in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, value = part.partition("=")
        found: Any = item
        for step in key.split("."):
            found = (found or {}).get(step)
        if str(found or "") != value:
            return False
    return True


def _requirements(selector: str) -> list[str]:
    """Split a label selector at the commas that are not between parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _labelled(labels: Object, part: str) -> bool:
    """Whether labels meet one requirement of a selector, in each form that the server knows."""
    if match := re.fullmatch(r"(\S+) (in|notin) \((.*)\)", part):
        within = labels.get(match[1]) in [value.strip() for value in match[3].split(",")]
        return within == (match[2] == "in")
    if match := re.fullmatch(r"([^=!]+)(!=|==?)(.*)", part):
        return bool((labels.get(match[1]) == match[3]) == (match[2] != "!="))
    return (part.lstrip("!") in labels) != part.startswith("!")


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
