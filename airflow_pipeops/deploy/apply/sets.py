"""Apply sets, as KEP-3659 has them, so that ``kubectl apply --applyset`` reads ours and we read its. Pure.

A set is a parent object, which says where members may be, and a label on each member. The parent names a superset before
anything is applied, and what is left after all was pruned: whatever dies in between, no member is ever out of sight.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.deploy.apply.objects import Manifest, Served
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.kubernetes.kinds import SECRETS, Kind

ID = "applyset.kubernetes.io/id"
PART_OF = "applyset.kubernetes.io/part-of"
TOOLING = "applyset.kubernetes.io/tooling"
KINDS = "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
#: What a parent may be, as a set's name says it before a slash: its kind, and where the API serves it.
_PARENTS = {"configmaps": ("ConfigMap", Kind("", "v1", "configmaps")), "secrets": ("Secret", SECRETS)}
#: What the parent's tooling annotation says of us.
TOOL = "pipeops/v1"
#: Kinds that take much else with them: pruned only where somebody names the object.
GUARDED = frozenset({"Namespace", "CustomResourceDefinition", "PersistentVolumeClaim"})
#: So many objects may be pruned at once, or this share of the set, whichever is more.
FEW, SHARE = 3, 0.2


@dataclass(frozen=True)
class Ref:
    """The parent of a set, by its name.

    :param kind: ``ConfigMap`` or ``Secret``.
    :param at: where the API serves that.
    :param name: of the object.
    :param namespace: it is in.
    """

    kind: str
    at: Kind
    name: str
    namespace: str

    @classmethod
    def of(cls, name: str, namespace: str) -> Ref:
        """Read a set's name: of a ConfigMap, or ``secrets/NAME`` where its parent is a Secret.

        :return: the parent.
        :raises InvalidInput: for a parent of another kind.
        """
        resource, _, plain = name.rpartition("/")
        if (resource or "configmaps") not in _PARENTS or not plain:
            raise InvalidInput(
                f"{name!r} names no parent of an apply set",
                field="name",
                value=name,
                remedy="Give the name of a ConfigMap, or secrets/NAME where the parent is a Secret.",
            )
        return cls(*_PARENTS[resource or "configmaps"], plain, namespace)

    @property
    def id(self) -> str:
        """The id of the set."""
        return set_id(self.name, self.namespace, self.kind)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Scope:
    """Where members of a set may be.

    :param kinds: as ``Kind.group``, or ``Kind`` of the core group.
    :param namespaces: of members.
    """

    kinds: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def __or__(self, other: Scope) -> Scope:
        return Scope(self.kinds | other.kinds, self.namespaces | other.namespaces)


@dataclass(frozen=True)
class Member:
    """An object of the cluster that carries the label of a set.

    :param served: its kind.
    :param namespace: it is in; empty for none.
    :param name: of it.
    :param uid: of it.
    :param leaving: it is being deleted already.
    :param version: its ``resourceVersion``.
    """

    served: Served
    namespace: str
    name: str
    uid: str
    leaving: bool = False
    version: str = ""

    def __str__(self) -> str:
        return f"{self.served.kind} {self.namespace}/{self.name}".replace(" /", " ")


@dataclass(frozen=True)
class Prune:
    """What pruning comes to.

    :param delete: what goes.
    :param keep: what would go, were it named: it stays a member.
    :param refused: why nothing may go at all; empty if it may.
    """

    delete: tuple[Member, ...] = ()
    keep: tuple[Member, ...] = ()
    refused: str = ""


def set_id(name: str, namespace: str, kind: str = "ConfigMap", group: str = "") -> str:
    """Return the id of the set whose parent this is."""
    digest = hashlib.sha256(f"{name}.{namespace}.{kind}.{group}".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def scope_of(manifests: Iterable[Manifest]) -> Scope:
    """Return where these manifests are."""
    found = list(manifests)
    return Scope(
        frozenset(one.served.group_kind for one in found),
        frozenset(one.namespace for one in found if one.namespace),
    )


def scope_told(parent: Mapping[str, Any]) -> Scope:
    """Read where the members of a set may be, as its parent says."""
    metadata = map_(parent.get("metadata"))
    annotations = map_(metadata.get("annotations"))
    home = text(metadata.get("namespace"))
    return Scope(
        frozenset(_split(annotations.get(KINDS))),
        frozenset([*_split(annotations.get(NAMESPACES)), *([home] if home else [])]),
    )


def parent_fields(ref: Ref, scope: Scope, tooling: str = TOOL) -> dict[str, dict[str, str]]:
    """Return the labels and annotations of a parent."""
    return {
        "labels": {ID: ref.id},
        "annotations": {
            TOOLING: tooling,
            KINDS: ",".join(sorted(scope.kinds)),
            NAMESPACES: ",".join(sorted(scope.namespaces - {ref.namespace})),
        },
    }


def check_parent(parent: Mapping[str, Any], ref: Ref, take_over: str = "") -> str:
    """Refuse a parent that is not ours to use.

    :param ref: by which it was read.
    :param take_over: a tool whose sets may be taken over, for example ``kubectl``.
    :return: what its tooling annotation is to say.
    :raises InvalidInput: for a set of another tool, for one of which nobody can tell whose it is, and for a wrong id.
    """
    metadata = map_(parent.get("metadata"))
    told = text(map_(metadata.get("labels")).get(ID))
    if told and told != ref.id:
        raise InvalidInput(
            f"{ref} carries the id {told} of another apply set",
            field="name",
            value=ref.name,
            remedy="It was copied or renamed: take the label away, or use another name.",
        )
    tooling = text(map_(metadata.get("annotations")).get(TOOLING))
    tool = tooling.partition("/")[0]
    if not tooling and not told:
        raise InvalidInput(
            f"{ref} is there, and is no apply set's parent",
            field="name",
            value=ref.name,
            remedy="Use another name for the set.",
        )
    if not tool:
        raise InvalidInput(
            f"the apply set of {ref} does not say which tool it belongs to: its annotation {TOOLING} is {tooling!r}",
            field="name",
            value=ref.name,
            remedy=f"Write its tool there ({TOOLING}={TOOL}, if it is to be ours), or use another name.",
        )
    if tool not in (TOOL.partition("/")[0], take_over):
        raise InvalidInput(
            f"the apply set of {ref} belongs to {tooling}",
            field="name",
            value=ref.name,
            remedy=f"Use another name, or take it over with take_over={tool!r}.",
        )
    return TOOL


def check_members(manifests: Iterable[Manifest], mine: str) -> None:
    """Refuse a manifest that says it belongs to another set.

    :raises InvalidInput: naming it.
    """
    for one in manifests:
        told = text(map_(map_(one.body.get("metadata")).get("labels")).get(PART_OF))
        if told not in ("", mine):
            raise InvalidInput(
                f"{one} carries the label of another apply set, {told}",
                field="manifests",
                value=str(one),
                remedy=f"Take the label {PART_OF} out of the manifest.",
            )


def prune(
    members: Sequence[Member],
    visited: Collection[str],
    *,
    named: Collection[str] = (),
    allowed: int | None = None,
) -> Prune:
    """Decide what goes: members that were not applied this time.

    :param members: all that carry the label of the set, where the superset says they may be.
    :param visited: the uids that were applied.
    :param named: what may go of the kinds that are guarded, as ``Kind namespace/name`` or ``Kind name``.
    :param allowed: so many may go; by default three, or a fifth of the set.
    :return: what goes and what stays; and why nothing may go, if it is too much.
    """
    old = [one for one in members if one.uid not in visited and not one.leaving]
    keep = tuple(one for one in old if one.served.kind in GUARDED and str(one) not in named)
    delete = tuple(one for one in old if one not in keep)
    budget = max(FEW, int(SHARE * len(members))) if allowed is None else allowed
    if len(delete) <= budget:
        return Prune(delete, keep)
    listed = ", ".join(map(str, delete[:50])) + (f" and {len(delete) - 50} more" if len(delete) > 50 else "")
    said = (
        f"{len(delete)} of {len(members)} objects of the set would be deleted, more than {budget}: {listed}"
    )
    return Prune((), (*keep, *delete), said)


def _split(value: Any) -> list[str]:
    return [part.strip() for part in text(value).split(",") if part.strip()]
