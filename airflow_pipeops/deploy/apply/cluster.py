"""The cluster as one set sees it: its objects, its members, and the trial of a manifest."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.apply.objects import Manifest, Served
from airflow_pipeops.deploy.apply.parents import COMMIT, Parent
from airflow_pipeops.deploy.apply.sets import PART_OF, Member, Prune, Ref, Scope, check_parent, prune
from airflow_pipeops.deploy.apply.wanted import Wanted
from airflow_pipeops.deploy.reading import Kinds, Labelled, labelled
from airflow_pipeops.exceptions import InvalidInput, NotFound, PipeOpsError, ReleaseFailed
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import name_of, version_of

MANAGER = "pipeops"
#: Seconds in which an object must be gone, once it was deleted to be made anew.
_GONE = 60.0


class SetCluster:
    """What one set is in a cluster.

    :param client: of the cluster.
    :param wanted: what is to be applied.
    """

    def __init__(self, client: KubernetesClient, wanted: Wanted) -> None:
        self._client, self._wanted = client, wanted
        self._parent = Ref.of(wanted.name, wanted.namespace)
        self._id = self._parent.id
        self._served = Kinds(client)

    async def parent(self) -> Parent:
        """Read the parent; an empty one where there is none."""
        ref = self._parent
        try:
            found = await self._client.get(ref.at, ref.name, ref.namespace)
        except NotFound:
            return Parent()
        check_parent(found, ref, self._wanted.take_over)
        return Parent.of(found)

    async def _kinds(self) -> dict[tuple[str, str], Served]:
        """Return the kinds that are wanted, as the cluster serves them or a definition among them says."""
        found: dict[tuple[str, str], Served] = {}
        brought = defined(self._wanted.bodies)
        for body in self._wanted.bodies:
            version, kind = text(body["apiVersion"]), text(body["kind"])
            served = (await self._served.of(version)).get(kind) or brought.get((version, kind))
            if served is None:
                raise InvalidInput(
                    f"the cluster serves no {kind} of {version}",
                    field="apiVersion",
                    value=version,
                    remedy="Install what defines it, or name a version that the cluster has (kubectl api-resources).",
                )
            found[version, kind] = served
        return found

    async def _get(self, one: Manifest) -> dict[str, Any] | None:
        return await live_of(self._client, one)

    async def _tried(self, one: Manifest, *, force: bool = False) -> dict[str, Any] | None:
        """Apply without doing so; ``None`` where its namespace or its kind comes with this very release."""
        try:
            return await self._client.apply(
                one.served.at, self._labelled(one), MANAGER, force=force, dry=True
            )
        except NotFound:
            namespaces = {
                str(body["metadata"]["name"]) for body in self._wanted.bodies if body["kind"] == "Namespace"
            }
            if one.namespace in namespaces or (one.served.version, one.served.kind) in defined(
                self._wanted.bodies
            ):
                return None
            raise

    def _labelled(self, one: Manifest, **only: str) -> dict[str, Any]:
        """Return an object with what is written on each member.

        :param only: ``uid`` and ``resourceVersion`` that it must have.
        :return: the object.
        """
        metadata = map_(one.body.get("metadata"))
        labels = {**map_(metadata.get("labels")), PART_OF: self._id}
        more: dict[str, Any] = {key: value for key, value in only.items() if value}
        if self._wanted.commit:
            # With each commit, each object changes: of a worker that slept, no version that it has read holds any more.
            more["annotations"] = {**map_(metadata.get("annotations")), COMMIT: self._wanted.commit}
        return {**one.body, "metadata": {**metadata, "labels": labels, **more}}

    def _visited(self, items: Any) -> frozenset[str]:
        return frozenset(text(map_(one.get("metadata")).get("uid")) for one in items)

    def _plan(self, members: Sequence[Member], visited: Collection[str]) -> Prune:
        kept = [one.uid for one in members if one.served.kind in self._wanted.keep_kinds]
        wanted = self._wanted
        return prune(members, {*visited, *kept}, named=wanted.prune_named, allowed=wanted.prune_allowed)

    async def _labelled_in(self, scope: Scope) -> Labelled:
        """Return all that carry the label of the set where its members may be, each with its kind."""
        found = await labelled(self._client, f"{PART_OF}={self._id}", scope, self._served)
        if found.hidden:
            raise PipeOpsError.together([*found.hidden.values()])
        return found


def members_of(found: Sequence[tuple[Served, Mapping[str, Any]]]) -> list[Member]:
    """Return what objects, each with its kind, are of their set."""
    members = []
    for served, item in found:
        (place, name), leaving = name_of(item), "deletionTimestamp" in map_(item.get("metadata"))
        members.append(Member(served, place, name, uid_of(item), leaving, version_of(item)))
    return members


async def live_of(client: KubernetesClient, one: Manifest) -> dict[str, Any] | None:
    """Read an object as it is now; ``None`` where it is not there."""
    try:
        found = await client.get(one.served.at, one.name, one.namespace)
    except NotFound:
        return None
    return {**found, "apiVersion": one.served.version, "kind": one.served.kind}


async def removed(
    client: KubernetesClient, one: Manifest, live: Mapping[str, Any], propagation: str = "Foreground"
) -> None:
    """Delete this very object, if it is still there."""
    with contextlib.suppress(NotFound):
        await client.delete(one.served.at, one.name, one.namespace, uid=uid_of(live), propagation=propagation)


async def gone(
    client: KubernetesClient, one: Manifest, live: Mapping[str, Any], propagation: str = "Foreground"
) -> None:
    """Delete this very object, and wait until it is gone.

    :raises ReleaseFailed: if it does not go.
    """
    await removed(client, one, live, propagation)
    end = time.monotonic() + _GONE
    while (left := await live_of(client, one)) is not None and uid_of(left) == uid_of(live):
        if time.monotonic() > end:
            raise ReleaseFailed(
                f"{one} is to be made anew, and does not go{held_by(left)}",
                remedy="Take away what holds it, and try again.",
            )
        await asyncio.sleep(0.2)


def propagation_of(one: Manifest, live: Mapping[str, Any]) -> str:
    """Say what becomes of what an object has made: pods that a new StatefulSet takes over run on, others go first."""
    selectors = [map_(item.get("spec")).get("selector") for item in (one.body, live)]
    return "Orphan" if one.served.kind == "StatefulSet" and selectors[0] == selectors[1] else "Foreground"


def defined(bodies: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Served]:
    """Return the kinds that definitions among these objects bring."""
    found = {}
    for body in bodies:
        spec = map_(body.get("spec"))
        if body.get("kind") == "CustomResourceDefinition":
            names = map_(spec.get("names"))
            for one in maps(spec.get("versions")):
                version, kind = f"{text(spec.get('group'))}/{text(one.get('name'))}", text(names.get("kind"))
                namespaced = spec.get("scope") == "Namespaced"
                found[version, kind] = Served(version, kind, text(names.get("plural")), namespaced)
    return found


def uid_of(item: Mapping[str, Any]) -> str:
    """Return the uid of an object."""
    return text(map_(item.get("metadata")).get("uid"))


def held_by(item: Mapping[str, Any]) -> str:
    """Say which finalizers hold an object that is being deleted; empty for none."""
    held = map_(item.get("metadata")).get("finalizers") or ()
    return f": finalizers hold it: {', '.join(map(str, held))}" if held else ""
