"""Apply manifests as a set: look, hold, apply all, prune, let go. Whatever dies in between is taken up by its retry.

Nothing is touched before all was looked at, and nothing is deleted before all was applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.base.documents import map_, maps, text
from airflow_pipeops.deploy.apply.commits import Relation, may_apply
from airflow_pipeops.deploy.apply.differences import contested, differences, may_force
from airflow_pipeops.deploy.apply.objects import Manifest, Served, digest, placed, rank
from airflow_pipeops.deploy.apply.parents import COMMIT, Holder, Parent, Release, may_undo
from airflow_pipeops.deploy.apply.sets import (
    PART_OF,
    Member,
    Prune,
    Scope,
    check_members,
    check_parent,
    prune,
    scope_of,
    set_id,
)
from airflow_pipeops.exceptions import Conflict, InvalidInput, NotFound
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.errors import FieldConflict
from airflow_pipeops.kubernetes.kinds import Kind, name_of, version_of

MANAGER = "pipeops"
PARENTS = Kind("", "v1", "configmaps")
#: Seconds for which a set is held without a sign of life.
LEASE = 300.0
_ATTEMPTS = 5
#: Seconds for which a kind may not be served yet whose definition is of the same release.
_DEFINED = 30.0


@dataclass(frozen=True)
class Wanted:
    """What is to be applied.

    :param name: of the set, and of the ConfigMap that is its parent.
    :param namespace: of the parent, and of the objects that name none.
    :param bodies: the objects.
    :param key: of the task.
    :param commit: they are of; empty for none.
    :param rollback: the commit may be older than the one that was applied.
    :param undo: it is a release of before, as the parent remembers it.
    :param undone: key of the release that it takes the place of, and of no other.
    :param prune_named: objects of guarded kinds that may be pruned.
    :param prune_allowed: so many objects may be pruned.
    :param force_from: managers from whom fields may be taken.
    :param take_over: a tool whose set may be taken over.
    :param keep_kinds: kinds whose objects stay members as they are, without being wanted.
    """

    name: str
    namespace: str
    bodies: Sequence[Mapping[str, Any]]
    key: str
    commit: str = ""
    rollback: bool = False
    undo: Release | None = None
    undone: str = ""
    prune_named: Collection[str] = ()
    prune_allowed: int | None = None
    force_from: Collection[str] = ()
    take_over: str = ""
    keep_kinds: Collection[str] = ()


@dataclass(frozen=True)
class Look:
    """What an apply comes to.

    :param manifests: in the order to apply them.
    :param live: what is there of them, by what they are called.
    :param lines: what differs.
    :param parent: of the set.
    :param pruned: what would go.
    """

    manifests: tuple[Manifest, ...]
    live: Mapping[str, Mapping[str, Any]]
    lines: tuple[str, ...]
    parent: Parent
    pruned: Prune


@dataclass
class Done:
    """What was done.

    :param answers: the objects as the server returned them, each with its manifest.
    :param deleted: what was pruned.
    :param kept: what would have been, were it named.
    """

    answers: list[tuple[Manifest, dict[str, Any]]] = field(default_factory=list)
    deleted: tuple[Member, ...] = ()
    kept: tuple[Member, ...] = ()


class Applier:
    """Applies one set.

    :param client: of the cluster.
    :param wanted: what is to be applied.
    :param relation: says how the wanted commit stands to a recorded one: ``(recorded, wanted)``.
    """

    def __init__(
        self, client: KubernetesClient, wanted: Wanted, relation: Callable[[str, str], Relation]
    ) -> None:
        self._client, self._wanted, self._relation = client, wanted, relation
        self._id = set_id(wanted.name, wanted.namespace)
        self._token = uuid.uuid4().hex
        self._served: dict[str, dict[str, Served]] = {}

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def look(self) -> Look:
        """Find out what would change, and refuse what may not be done; nothing is touched.

        :return: what there is, and what would change.
        :raises PipeOpsError: if the release may not be.
        """
        wanted = self._wanted
        manifests = placed(wanted.bodies, await self._kinds(), wanted.namespace)
        check_members(manifests, self._id)
        parent = await self.parent()
        self._may(parent)
        live, lines, conflicts = {}, [], []
        for one in manifests:
            found = await self._get(one)
            if found is not None:
                live[str(one)] = found
                other = text(map_(map_(found.get("metadata")).get("labels")).get(PART_OF))
                if other not in ("", self._id):
                    raise InvalidInput(
                        f"{one} belongs to another apply set, {other}", field="manifests", value=str(one)
                    )
            try:
                after = await self._tried(one)
            except FieldConflict as error:
                found_conflicts = contested(error.causes)
                if may_force(found_conflicts, wanted.force_from):
                    after = await self._tried(one, force=True)
                else:
                    conflicts += [f"{one}: {each}" for each in found_conflicts]
                    continue
            lines += differences(str(one), found, after if after is not None else one.body)
        if conflicts:
            raise InvalidInput(
                f"{len(conflicts)} fields are held by others: {'; '.join(conflicts[:50])}",
                field="manifests",
                remedy="Take the field out of the manifest, or name its owner in force_from.",
            )
        pruned = await self._plan(parent.scope, self._visited(live.values()))
        if pruned.refused:
            raise InvalidInput(
                pruned.refused,
                field="prune_allowed",
                remedy="Allow so many with prune_allowed, if that is meant.",
            )
        lines += [line for one in pruned.delete for line in differences(str(one), {}, None)]
        return Look(tuple(manifests), live, tuple(lines), parent, pruned)

    async def parent(self) -> Parent:
        """Read the parent; an empty one where there is none."""
        wanted = self._wanted
        try:
            found = await self._client.get(PARENTS, wanted.name, wanted.namespace)
        except NotFound:
            return Parent()
        check_parent(found, wanted.take_over)
        return Parent.of(found)

    def _may(self, parent: Parent) -> None:
        wanted = self._wanted
        if wanted.undo is not None:
            may_undo(parent, wanted.key, wanted.undone)
        relation: Relation = "unknown"
        rollback = wanted.rollback or wanted.undo is not None
        if parent.commit and wanted.commit and not rollback:
            same = parent.commit == wanted.commit
            relation = "same" if same else self._relation(parent.commit, wanted.commit)
        allowed = may_apply(parent.commit, wanted.commit, relation, rollback=rollback)
        if not allowed.ok:
            raise InvalidInput(
                allowed.reason,
                field="commit",
                value=wanted.commit,
                remedy="If it is to go back, say rollback=True.",
            )

    async def _kinds(self) -> dict[tuple[str, str], Served]:
        """Return the kinds that are wanted, as the cluster serves them or a definition among them says."""
        found: dict[tuple[str, str], Served] = {}
        defined = _defined(self._wanted.bodies)
        for body in self._wanted.bodies:
            version, kind = text(body["apiVersion"]), text(body["kind"])
            served = (await self._resources(version)).get(kind) or defined.get((version, kind))
            if served is None:
                raise InvalidInput(
                    f"the cluster serves no {kind} of {version}",
                    field="apiVersion",
                    value=version,
                    remedy="Install what defines it, or name a version that the cluster has (kubectl api-resources).",
                )
            found[version, kind] = served
        return found

    async def _resources(self, version: str) -> dict[str, Served]:
        if version not in self._served:
            self._served[version] = {}
            with contextlib.suppress(NotFound):
                for one in await self._client.resources(version):
                    kind, plural = text(one.get("kind")), text(one.get("name"))
                    if "/" not in plural:
                        served = Served(version, kind, plural, one.get("namespaced") is True)
                        self._served[version][kind] = served
        return self._served[version]

    async def _get(self, one: Manifest) -> dict[str, Any] | None:
        try:
            found = await self._client.get(one.served.at, one.name, one.namespace)
        except NotFound:
            return None
        return {**found, "apiVersion": one.served.version, "kind": one.served.kind}

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
            if one.namespace in namespaces or (one.served.version, one.served.kind) in _defined(
                self._wanted.bodies
            ):
                return None
            raise

    def _labelled(self, one: Manifest, version: str = "") -> dict[str, Any]:
        metadata = map_(one.body.get("metadata"))
        labels = {**map_(metadata.get("labels")), PART_OF: self._id}
        more: dict[str, Any] = {"resourceVersion": version} if version else {}
        if self._wanted.commit:
            # With each commit, each object changes: of a worker that slept, no version that it has read holds any more.
            more["annotations"] = {**map_(metadata.get("annotations")), COMMIT: self._wanted.commit}
        return {**one.body, "metadata": {**metadata, "labels": labels, **more}}

    # ---- doing -------------------------------------------------------------------------------------------------------

    async def apply(self, look: Look, release: Release) -> Done:
        """Do it.

        :param look: what was found before.
        :param release: that is to be remembered.
        :return: what was done.
        """
        scope = scope_of(look.manifests)
        parent = await self._hold(look, release, scope)
        done = Done()
        renewed = time.time()
        for one in look.manifests:
            if time.time() - renewed > LEASE / 3:
                parent, renewed = await self._write(self._held(parent)), time.time()
            done.answers.append((one, await self._put(one, look.live.get(str(one)))))
        visited = self._visited(answer for _, answer in done.answers)
        plan = await self._plan(parent.scope, visited)
        if plan.refused:
            raise InvalidInput(
                plan.refused, field="prune_allowed", remedy="Allow so many with prune_allowed."
            )
        for member in sorted(plan.delete, key=lambda one: rank(one.served.kind), reverse=True):
            await self._still_ours()
            with contextlib.suppress(NotFound):
                await self._client.delete(
                    member.served.at,
                    member.name,
                    member.namespace,
                    uid=member.uid,
                    resource_version=member.version,
                    propagation="Background",
                )
        left = [one for one in await self._members(parent.scope) if one.uid not in visited]
        after = replace(scope, kinds=scope.kinds | {one.served.group_kind for one in left})
        after = after | Scope(namespaces=frozenset(one.namespace for one in left if one.namespace))
        await self._write(parent.ended(release, after, undo=self._wanted.undo is not None))
        done.deleted, done.kept = plan.delete, plan.keep
        return done

    def _held(self, parent: Parent) -> Parent:
        now = time.time()
        return parent.held(Holder(self._wanted.key, self._token, now + LEASE), now)

    async def _hold(self, look: Look, release: Release, scope: Scope) -> Parent:
        """Take the set, and name all places where members may be before any is there."""
        parent = look.parent
        for attempt in range(_ATTEMPTS):
            self._may(parent)
            try:
                return await self._write(self._held(parent).begun(release, scope))
            except Conflict:
                if attempt == _ATTEMPTS - 1 or parent == (parent := await self.parent()):
                    raise
        raise AssertionError("unreachable")

    async def _write(self, parent: Parent) -> Parent:
        wanted = self._wanted
        body = parent.written(wanted.name, wanted.namespace)
        if parent.resource_version:
            answer = await self._client.patch(
                PARENTS, wanted.name, body, wanted.namespace, resource_version=parent.resource_version
            )
        else:
            told = {key: value for key, value in body["metadata"]["annotations"].items() if value is not None}
            metadata = {
                **body["metadata"],
                "name": wanted.name,
                "namespace": wanted.namespace,
                "annotations": told,
            }
            answer = await self._client.create(PARENTS, {**body, "metadata": metadata}, wanted.namespace)
        return replace(parent, resource_version=version_of(answer))

    async def _still_ours(self) -> None:
        holder = (await self.parent()).holder
        if holder is None or holder.token != self._token:
            raise Conflict(f"the apply set was taken by {holder.key if holder else 'nobody'} meanwhile")

    async def _put(self, one: Manifest, live: Mapping[str, Any] | None) -> dict[str, Any]:
        """Apply one object over what was read of it: a worker that slept does not overwrite what came since."""
        began = time.monotonic()
        for attempt in range(_ATTEMPTS):
            version = version_of(live) if live else ""
            body, force = self._labelled(one, version), False
            try:
                try:
                    answer = await self._client.apply(one.served.at, body, MANAGER)
                except FieldConflict as error:
                    force = may_force(contested(error.causes), self._wanted.force_from)
                    if not force:
                        raise
                    answer = await self._client.apply(one.served.at, body, MANAGER, force=True)
                return {**answer, "apiVersion": one.served.version, "kind": one.served.kind}
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
            except NotFound:
                fresh = (one.served.version, one.served.kind) in _defined(self._wanted.bodies)
                if live is None and (not fresh or time.monotonic() - began > _DEFINED):
                    raise
                await asyncio.sleep(0.5 if fresh else 0)
            live = await self._get(one)
            await self._still_ours()
        raise AssertionError("unreachable")

    # ---- members -----------------------------------------------------------------------------------------------------

    def _visited(self, items: Any) -> frozenset[str]:
        return frozenset(text(map_(one.get("metadata")).get("uid")) for one in items)

    async def _plan(self, scope: Scope, visited: Collection[str]) -> Prune:
        members = await self._members(scope)
        kept = [one.uid for one in members if one.served.kind in self._wanted.keep_kinds]
        wanted = self._wanted
        return prune(members, {*visited, *kept}, named=wanted.prune_named, allowed=wanted.prune_allowed)

    async def _members(self, scope: Scope) -> list[Member]:
        """Return all that carry the label of the set where its members may be."""
        found: dict[str, Member] = {}
        for group_kind in sorted(scope.kinds):
            served = await self._kind_of(group_kind)
            if served is None:
                continue  # a kind that is gone has no objects
            for namespace in sorted(scope.namespaces) if served.namespaced else [""]:
                listing = await self._client.find(served.at, namespace, labels=f"{PART_OF}={self._id}")
                for item in listing.items:
                    metadata = map_(item.get("metadata"))
                    place, name = name_of(item)
                    uid, leaving = text(metadata.get("uid")), "deletionTimestamp" in metadata
                    found[uid] = Member(served, place, name, uid, leaving, version_of(item))
        return list(found.values())

    async def _kind_of(self, group_kind: str) -> Served | None:
        """Return a kind in the version that the cluster prefers."""
        kind, _, group = group_kind.partition(".")
        version = await self._client.preferred(group)
        return (await self._resources(version)).get(kind) if version else None


def _defined(bodies: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Served]:
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


def release_of(wanted: Wanted, manifests: Sequence[Manifest], sha256: str = "") -> Release:
    """Return what the parent is to remember of a release."""
    return Release(wanted.key, wanted.commit, digest(manifests), sha256)
