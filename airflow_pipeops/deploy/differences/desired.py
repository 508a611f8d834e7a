"""What was pushed last, and is to be there: the manifest that Helm keeps, or the manifests that a set kept as evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.deploy.apply.cluster import MANAGER
from airflow_pipeops.deploy.apply.hooks import HOOK
from airflow_pipeops.deploy.apply.parents import COMMIT, Parent
from airflow_pipeops.deploy.apply.sets import GUARDED, PART_OF, Ref, Scope
from airflow_pipeops.deploy.apply.sources import from_release
from airflow_pipeops.deploy.differences.fields import Path
from airflow_pipeops.deploy.helm.manifests import objects_of
from airflow_pipeops.deploy.helm.releases import Revision
from airflow_pipeops.exceptions import NotFound

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient

_RELEASE, _PLACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
_HELM_HOOK, _KEEP = "helm.sh/hook", "helm.sh/resource-policy"


@dataclass(frozen=True)
class Desired:
    """What is to be there.

    :param app: what a message calls it.
    :param revision: of Helm its number, of a set its commit.
    :param namespace: of objects that name none.
    :param bodies: the objects.
    :param mark: a field that only whoever pushed it writes.
    :param manager: whose fields they are.
    :param unclear: why nobody can tell what is to be there now; empty where that is known.
    :param selector: of labels that all of it carries.
    :param carries: annotations that all of it carries, too.
    :param scope: where some of it may be.
    """

    app: str
    revision: str
    namespace: str
    bodies: Sequence[Mapping[str, Any]] = ()
    mark: Path = ()
    manager: str = ""
    unclear: str = ""
    selector: str = ""
    carries: Mapping[str, str] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)

    def is_stray(self, item: Mapping[str, Any]) -> bool:
        """Whether an object that carries the labels is one too many: nobody pushed it, or it should have been pruned.

        :param item: the object.
        :return: so. Never of what is kept on purpose: what only goes where somebody names it, hooks, what a chart keeps.
        """
        metadata = map_(item.get("metadata"))
        told = map_(metadata.get("annotations"))
        if item.get("kind") in GUARDED or "deletionTimestamp" in metadata or metadata.get("ownerReferences"):
            return False
        return self.carries.items() <= told.items() and not {HOOK, _HELM_HOOK, _KEEP} & told.keys()


def of_release(history: Sequence[Revision], release: str, namespace: str) -> Desired:
    """Return what a Helm release wants: the manifest of its newest revision, if that is deployed.

    :param history: of the release, the oldest revision first.
    :return: its objects, or why nobody can tell.
    :raises NotFound: if there is no such release.
    """
    app = f"{namespace}/{release}"
    if not history:
        raise NotFound(f"there is no Helm release {app}", remedy="Check its name and namespace.")
    newest = history[-1]
    if newest.status != "deployed":
        unclear = f"revision {newest.number} of release {app} is {newest.status}"
        return Desired(app, str(newest.number), namespace, unclear=unclear)
    mark = ("metadata", "annotations", _RELEASE)
    bodies = objects_of(newest.manifest)
    # What an earlier revision had may be left over.
    seen = [*bodies, *(body for one in history[:-1] for body in objects_of(one.manifest))]
    kinds = {
        f"{text(one.get('kind'))}.{text(one.get('apiVersion')).rpartition('/')[0]}".rstrip(".")
        for one in seen
    }
    places = {text(map_(one.get("metadata")).get("namespace")) or namespace for one in seen}
    return Desired(
        app,
        str(newest.number),
        namespace,
        bodies,
        mark,
        "helm",
        selector="app.kubernetes.io/managed-by=Helm",
        carries={_RELEASE: release, _PLACE: namespace},
        scope=Scope(frozenset(kinds), frozenset(places)),
    )


async def of_set(client: KubernetesClient, name: str, namespace: str) -> Desired:
    """Return what the last release of an applied set wants: the manifests that were kept of it.

    :return: its objects, or why nobody can tell.
    :raises NotFound: if there is no such set.
    """
    ref = Ref.of(name, namespace)
    app = f"{namespace}/{ref.name}"
    parent = Parent.of(await client.get(ref.at, ref.name, namespace))
    if not parent.releases:
        raise NotFound(f"{ref} is of no set that was applied", remedy="Check its name and namespace.")
    last = parent.releases[-1]
    if parent.intent is not None:
        unclear = f"a release of {app} by {parent.intent.key} is under way, or was never ended"
        return Desired(app, last.commit, namespace, unclear=unclear)
    kept = await asyncio.to_thread(from_release, last)
    if kept is None:
        unclear = f"the manifests of the last release of {app} are not kept, or cannot be read here"
        return Desired(app, last.commit, namespace, unclear=unclear)
    labels = {PART_OF: ref.id}
    annotations = {COMMIT: last.commit} if last.commit else {}
    # A Job that ran before or after the release has had its time.
    applied = [body for body in kept if HOOK not in map_(map_(body["metadata"]).get("annotations"))]
    bodies = [_marked(body, labels, annotations) for body in applied]
    mark = ("metadata", "labels", PART_OF)
    selector = f"{PART_OF}={labels[PART_OF]}"
    return Desired(app, last.commit, namespace, bodies, mark, MANAGER, selector=selector, scope=parent.scope)


def _marked(
    body: Mapping[str, Any], labels: Mapping[str, str], annotations: Mapping[str, str]
) -> dict[str, Any]:
    """Return an object with what is written on each member of a set."""
    metadata = dict(map_(body.get("metadata")))
    for part, more in (("labels", labels), ("annotations", annotations)):
        if more:
            metadata[part] = {**map_(metadata.get(part)), **more}
    return {**body, "metadata": metadata}
