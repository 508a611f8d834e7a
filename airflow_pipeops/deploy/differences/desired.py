"""What was pushed last, and is to be there: the manifest that Helm keeps, or the manifests that a set kept as evidence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_
from airflow_pipeops.deploy.apply.cluster import MANAGER, PARENTS
from airflow_pipeops.deploy.apply.hooks import HOOK
from airflow_pipeops.deploy.apply.parents import COMMIT, Parent
from airflow_pipeops.deploy.apply.sets import PART_OF, set_id
from airflow_pipeops.deploy.differences.fields import Path
from airflow_pipeops.deploy.helm.manifests import objects_of
from airflow_pipeops.deploy.helm.releases import Revision
from airflow_pipeops.exceptions import NotFound

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient

_RELEASE = "meta.helm.sh/release-name"


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
    """

    app: str
    revision: str
    namespace: str
    bodies: Sequence[Mapping[str, Any]] = ()
    mark: Path = ()
    manager: str = ""
    unclear: str = ""


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
    return Desired(app, str(newest.number), namespace, objects_of(newest.manifest), mark, "helm")


async def of_set(client: KubernetesClient, name: str, namespace: str) -> Desired:
    """Return what the last release of an applied set wants: the manifests that were kept of it.

    :return: its objects, or why nobody can tell.
    :raises NotFound: if there is no such set.
    """
    app = f"{namespace}/{name}"
    parent = Parent.of(await client.get(PARENTS, name, namespace))
    if not parent.releases:
        raise NotFound(
            f"ConfigMap {app} is of no set that was applied", remedy="Check its name and namespace."
        )
    last = parent.releases[-1]
    kept = await asyncio.to_thread(_kept, last.sha256) if last.sha256 else None
    unclear = ""
    if parent.intent is not None:
        unclear = f"a release of {app} by {parent.intent.key} is under way, or was never ended"
    elif kept is None:
        unclear = f"the manifests of the last release of {app} are not kept, or cannot be read here"
    if kept is None or unclear:
        return Desired(app, last.commit, namespace, unclear=unclear)
    labels = {PART_OF: set_id(name, namespace)}
    annotations = {COMMIT: last.commit} if last.commit else {}
    # A Job that ran before or after the release has had its time.
    applied = [
        body for body in json.loads(kept) if HOOK not in map_(map_(body["metadata"]).get("annotations"))
    ]
    bodies = [_marked(body, labels, annotations) for body in applied]
    return Desired(app, last.commit, namespace, bodies, ("metadata", "labels", PART_OF), MANAGER)


def _marked(
    body: Mapping[str, Any], labels: Mapping[str, str], annotations: Mapping[str, str]
) -> dict[str, Any]:
    """Return an object with what is written on each member of a set."""
    metadata = dict(map_(body.get("metadata")))
    for part, more in (("labels", labels), ("annotations", annotations)):
        if more:
            metadata[part] = {**map_(metadata.get(part)), **more}
    return {**body, "metadata": metadata}


def _kept(sha256: str) -> bytes | None:
    from airflow_pipeops.delivery.evidence import kept
    from airflow_pipeops.deploy.apply.operators import KEPT

    return kept(sha256, KEPT)
