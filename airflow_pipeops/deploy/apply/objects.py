"""Manifests as they are read: one object each, of a kind that the cluster serves, in the order to apply them. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, TypeVar

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.kubernetes.kinds import Kind
from airflow_pipeops.kubernetes.manifests import documents_of

#: What others need is applied before them, and deleted after them; a kind that is not here comes after those above, and
#: before those below.
_FIRST = (
    "CustomResourceDefinition",
    "Namespace",
    "ResourceQuota",
    "LimitRange",
    "PriorityClass",
    "StorageClass",
    "ServiceAccount",
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
    "Secret",
    "ConfigMap",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "NetworkPolicy",
    "Service",
)
_LAST = (
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "Ingress",
    "HTTPRoute",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)
_BETWEEN = len(_FIRST)
_RANKS = {kind: rank for rank, kind in enumerate(_FIRST)} | {
    kind: _BETWEEN + 1 + rank for rank, kind in enumerate(_LAST)
}
MASK = "(masked)"


@dataclass(frozen=True)
class Served:
    """A kind, as manifests and as paths call it.

    :param version: API group and version, as a manifest says them.
    :param kind: as a manifest says it.
    :param plural: its name in paths.
    :param namespaced: whether its objects are in namespaces.
    """

    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def at(self) -> Kind:
        """Where the API serves it."""
        group, _, version = self.version.rpartition("/")
        return Kind(group, version, self.plural)

    @property
    def group_kind(self) -> str:
        """Kind and group, as apply sets write them."""
        return f"{self.kind}.{self.at.group}".rstrip(".")


class _OfKind(Protocol):
    @property
    def served(self) -> Served: ...


Placed = TypeVar("Placed", bound=_OfKind)


@dataclass(frozen=True)
class Manifest:
    """One object that is wanted.

    :param body: as it is written, with its namespace.
    :param served: its kind.
    """

    body: Mapping[str, Any]
    served: Served

    @property
    def name(self) -> str:
        """Its name."""
        return text(map_(self.body.get("metadata")).get("name"))

    @property
    def namespace(self) -> str:
        """The namespace it is in; empty for none."""
        return text(map_(self.body.get("metadata")).get("namespace"))

    def __str__(self) -> str:
        return f"{self.served.kind} {self.namespace}/{self.name}".replace(" /", " ")


def parse(content: str, where: str = "manifests") -> list[dict[str, Any]]:
    """Read the documents of a YAML text; a ``List`` stands for its items.

    :param where: what a message calls the text.
    :return: the objects, in their order.
    :raises InvalidInput: for what is no YAML, has a field twice, or is no object with apiVersion, kind and a name.
    """
    found: list[dict[str, Any]] = []
    for place, document in enumerate(documents_of(content, where), 1):
        if document is None:
            continue
        items, kind = map_(document).get("items"), text(map_(document).get("kind"))
        # A kind of somebody's own may end in List, too.
        listed = kind == "List" or (kind.endswith("List") and isinstance(items, list))
        found += [
            _checked(item, f"{where}, document {place}") for item in (maps(items) if listed else [document])
        ]
    return found


def _checked(item: Any, where: str) -> dict[str, Any]:
    body = map_(item)
    for field, value in (
        ("apiVersion", body.get("apiVersion")),
        ("kind", body.get("kind")),
        ("metadata.name", map_(body.get("metadata")).get("name")),
    ):
        if not text(value):
            raise InvalidInput(
                f"{where}: {text(body.get('kind')) or 'it'} has no {field}",
                field=field,
                value=value,
                remedy="An object that is applied needs apiVersion, kind and metadata.name.",
            )
    return json.loads(json.dumps(body, default=str))  # type: ignore[no-any-return]


def placed(
    bodies: Sequence[Mapping[str, Any]], served: Mapping[tuple[str, str], Served], namespace: str
) -> list[Manifest]:
    """Give each object its kind and its namespace, and put them in order.

    :param served: (apiVersion, kind) -> the kind.
    :param namespace: of those that name none.
    :return: the objects, those first that others need, and each kind together.
    :raises InvalidInput: for two of the same object.
    """
    found: dict[str, Manifest] = {}
    for body in bodies:
        kind = served[text(body["apiVersion"]), text(body["kind"])]
        metadata = {key: value for key, value in map_(body["metadata"]).items() if key not in _SERVERS}
        if kind.namespaced:
            metadata["namespace"] = text(metadata.get("namespace")) or namespace
        else:
            metadata.pop("namespace", None)
        one = Manifest({**_stored(body), "metadata": metadata}, kind)
        identity = f"{kind.group_kind} {one.namespace}/{one.name}"
        if identity in found:
            raise InvalidInput(
                f"{one} is there twice", field="manifests", value=str(one), remedy="Leave one of them."
            )
        found[identity] = one
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(one.served for one in found.values()))}
    return sorted(found.values(), key=lambda one: (rank(one.served.kind), kinds[one.served]))


def _stored(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object as the server keeps it: of what ``stringData`` becomes, nobody would hold the fields."""
    kept, given = {key: value for key, value in body.items() if key != "status"}, map_(body.get("stringData"))
    if body.get("kind") == "Secret" and given and all(isinstance(value, str) for value in given.values()):
        coded = {key: base64.b64encode(value.encode()).decode() for key, value in given.items()}
        kept = {**kept, "data": {**map_(kept.get("data")), **coded}}
        kept.pop("stringData")
    return kept


#: The server writes these itself; an apply that carries them is refused, or meant for another object.
_SERVERS = frozenset(
    {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "selfLink",
        "deletionTimestamp",
    }
)


def rank(kind: str) -> int:
    """Return the place of a kind in the order of applying; deletion is the other way round."""
    return _RANKS.get(kind, _BETWEEN)


def waves(ordered: Iterable[Placed]) -> list[list[Placed]]:
    """Part what is in order into what may be done side by side: objects of one kind do not need each other.

    :return: the waves, one after the other.
    """
    return [list(wave) for _, wave in groupby(ordered, lambda one: one.served)]


def masked(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without what a Secret holds; also not in the copy that ``kubectl`` keeps in an annotation."""
    after = dict(body)
    if text(body.get("kind")) == "Secret":
        for part in ("data", "stringData"):
            if part in after:
                after[part] = dict.fromkeys(map_(after[part]), MASK)
    metadata = dict(map_(after.get("metadata")))
    metadata.pop("managedFields", None)
    annotations = dict(map_(metadata.get("annotations")))
    if annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None) is not None:
        metadata["annotations"] = annotations
    return {**after, "metadata": metadata}


def written(manifests: Sequence[Manifest]) -> str:
    """Write manifests down, to be kept and applied again: what Secrets hold is not among it."""
    return json.dumps([masked(one.body) for one in manifests], sort_keys=True, indent=1, ensure_ascii=False)


def digest(manifests: Sequence[Manifest]) -> str:
    """Return the SHA-256 of what manifests say, without what Secrets hold: others read it, and could guess that from it."""
    text_ = json.dumps([masked(one.body) for one in manifests], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text_.encode()).hexdigest()
