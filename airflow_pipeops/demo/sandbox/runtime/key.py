"""The identity of a live object."""

from __future__ import annotations

from typing import Any, NamedTuple

#: Kinds without a namespace; everything else lands in ``default`` when the manifest names none.
CLUSTER_SCOPED = frozenset(
    {
        "APIService",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "IngressClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "StorageClass",
        "ValidatingWebhookConfiguration",
    }
)


class Key(NamedTuple):
    """What names one live object; versions of an API group share their objects, so no version here."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """``Deployment.apps staging/delay-api``: the way Kubernetes writes it in messages."""
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        return f"{kind} {self.namespace}/{self.name}" if self.namespace else f"{kind} {self.name}"

    @classmethod
    def of(cls, obj: dict[str, Any]) -> Key:
        """Return the key of a manifest or live object that has passed validation."""
        group = obj["apiVersion"].rpartition("/")[0]
        meta = obj["metadata"]
        namespace = "" if obj["kind"] in CLUSTER_SCOPED else meta.get("namespace") or "default"
        return cls(group, obj["kind"], namespace, meta["name"])
