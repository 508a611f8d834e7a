"""The kinds of object that Flux 2.6 and later serves, and which of them one object refers to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from airflow_pipeops.base.arguments import one_of
from airflow_pipeops.base.documents import Json, map_, maps, text
from airflow_pipeops.exceptions import BadResponse

#: Where each kind is served: API group, version, plural.
KINDS: Mapping[str, tuple[str, str, str]] = {
    "Kustomization": ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
    "HelmRelease": ("helm.toolkit.fluxcd.io", "v2", "helmreleases"),
    "GitRepository": ("source.toolkit.fluxcd.io", "v1", "gitrepositories"),
    "OCIRepository": ("source.toolkit.fluxcd.io", "v1", "ocirepositories"),
    "Bucket": ("source.toolkit.fluxcd.io", "v1", "buckets"),
    "HelmRepository": ("source.toolkit.fluxcd.io", "v1", "helmrepositories"),
    "HelmChart": ("source.toolkit.fluxcd.io", "v1", "helmcharts"),
    "ExternalArtifact": ("source.toolkit.fluxcd.io", "v1", "externalartifacts"),
}
#: What one can wait for.
WAITABLE = ("Kustomization", "HelmRelease")

#: Labels by which the kustomize-controller marks what it applies.
OWNER_NAME, OWNER_NAMESPACE = "kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace"

#: Annotations that ask for a reconciliation; the last two count only where they equal the first.
REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"
FORCE_AT, RESET_AT = "reconcile.fluxcd.io/forceAt", "reconcile.fluxcd.io/resetAt"


class Ref(NamedTuple):
    """Which object is meant."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def waitable(kind: str) -> str:
    """Return a kind that one can wait for.

    :return: the kind.
    :raises InvalidInput: for any other.
    """
    return one_of("kind", kind, WAITABLE)


def ref_of(item: Json) -> Ref:
    """Return which object this is.

    :return: the reference.
    :raises BadResponse: if it is no object of Flux.
    """
    metadata = map_(item.get("metadata"))
    kind, name = text(item.get("kind")), text(metadata.get("name"))
    if kind not in KINDS or not name:
        raise BadResponse("the answer is no object of Flux: it has no known kind, or no metadata.name")
    return Ref(kind, text(metadata.get("namespace")), name)


def references(item: Json) -> list[Ref]:
    """Return the objects that decide what becomes of this one: source, chart, owner."""
    me = ref_of(item)
    spec, status = map_(item.get("spec")), map_(item.get("status"))
    found = owner_of(item)
    if me.kind in ("Kustomization", "HelmChart"):
        found += _given(spec.get("sourceRef"), me.namespace)
    elif me.kind == "HelmRelease":
        chart = chart_of(spec, status, me.namespace)
        found += [chart] if chart else []
    return list(dict.fromkeys(found))


def dependencies(item: Json) -> list[Ref]:
    """Return the objects of the same kind that must be ready first."""
    me = ref_of(item)
    if me.kind not in WAITABLE:
        return []
    return [
        Ref(me.kind, text(one.get("namespace")) or me.namespace, text(one.get("name")))
        for one in maps(map_(item.get("spec")).get("dependsOn"))
        if text(one.get("name"))
    ]


def owner_of(item: Json) -> list[Ref]:
    """Return the Kustomization that applies an object, if one does; one may apply itself, which says nothing more."""
    labels = map_(map_(item.get("metadata")).get("labels"))
    name, namespace = text(labels.get(OWNER_NAME)), text(labels.get(OWNER_NAMESPACE))
    owner = Ref("Kustomization", namespace, name)
    return [owner] if name and namespace and owner != ref_of(item) else []


def source_of(item: Json) -> Ref | None:
    """Return the source that a Kustomization or a chart is made from."""
    found = _given(map_(item.get("spec")).get("sourceRef"), ref_of(item).namespace)
    return found[0] if found else None


def chart_of(spec: Json, status: Json, namespace: str) -> Ref | None:
    """Return the object that holds the chart of a HelmRelease; the controller makes one where the spec names none."""
    given = _given(spec.get("chartRef"), namespace)
    if given:
        return given[0]
    at, slash, name = text(status.get("helmChart")).partition("/")
    return Ref("HelmChart", at, name) if slash and at and name else None


def _given(reference: Any, namespace: str) -> list[Ref]:
    given = map_(reference)
    kind, name = text(given.get("kind")), text(given.get("name"))
    return [Ref(kind, text(given.get("namespace")) or namespace, name)] if kind in KINDS and name else []
