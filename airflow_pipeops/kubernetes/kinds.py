"""Kinds of Kubernetes objects, and where the API serves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

#: In place of a namespace: all of them.
ALL_NAMESPACES = "*"


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    :param group: its API group; empty for the core group.
    :param version: the version of the group.
    :param plural: its name in paths, in plural.
    """

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", *more: str) -> str:
        """Build the path of all objects of a namespace, of one of them, or of something below that.

        :param namespace: :data:`ALL_NAMESPACES` or empty for the whole cluster.
        :return: the path, without the server.
        """
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace and namespace != ALL_NAMESPACES:
            parts += ["namespaces", namespace]
        parts += [self.plural, *([name] if name else []), *more]
        return "/" + "/".join(quote(part, safe="") for part in parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True)
class Listing:
    """All objects that were asked for.

    :param items: the objects, as the server sent them.
    :param resource_version: from which on a watch tells what changed since.
    """

    items: list[dict[str, Any]]
    resource_version: str


PODS = Kind("", "v1", "pods")
EVENTS = Kind("", "v1", "events")
SECRETS = Kind("", "v1", "secrets")
JOBS = Kind("batch", "v1", "jobs")
ACCESS_REVIEWS = Kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews")


def name_of(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return namespace and name of an object."""
    metadata = item.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def version_of(item: Mapping[str, Any]) -> str:
    """Return the ``resourceVersion`` of an object or of a list."""
    return str((item.get("metadata") or {}).get("resourceVersion") or "")


def event_time(event: Mapping[str, Any]) -> str:
    """Return when a Kubernetes event was last seen."""
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        (event.get("metadata") or {}).get("creationTimestamp"),
    )
    return next((str(time) for time in times if time), "")
