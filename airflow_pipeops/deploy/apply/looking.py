"""Find out what an apply comes to, and refuse what may not be done, before anything is touched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.parallel import in_parallel
from airflow_pipeops.deploy.apply.cluster import MANAGER, SetCluster, held_by, members_of
from airflow_pipeops.deploy.apply.commits import Relation, may_apply
from airflow_pipeops.deploy.apply.differences import contested, differences, may_force
from airflow_pipeops.deploy.apply.hooks import Hook, as_another, hooks_of
from airflow_pipeops.deploy.apply.objects import Manifest, placed
from airflow_pipeops.deploy.apply.ownership import going
from airflow_pipeops.deploy.apply.parents import Parent, may_undo
from airflow_pipeops.deploy.apply.sets import GUARDED, PART_OF, check_members
from airflow_pipeops.deploy.apply.wanted import Look, Wanted
from airflow_pipeops.exceptions import Conflict, InvalidInput
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.errors import FieldConflict, FieldsImmutable
from airflow_pipeops.kubernetes.kinds import name_of

#: Kinds that cannot be tried under another name.
_UNTRIED = GUARDED | {"Service"}


@dataclass
class _Found:
    """What was found out of the objects.

    :param live: what is there of them, by what they are called.
    :param lines: what differs.
    :param conflicts: fields that others hold.
    :param fixed: fields that cannot be changed.
    :param replaced: what is deleted and made anew.
    """

    live: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)

    def take(self, other: _Found) -> None:
        """Take in what was found out of others."""
        self.live |= other.live
        self.lines += other.lines
        self.conflicts += other.conflicts
        self.fixed += other.fixed
        self.replaced |= other.replaced

    def check(self) -> None:
        """Refuse what may not be, all of it at once."""
        if self.conflicts:
            raise InvalidInput(
                f"{len(self.conflicts)} fields are held by others: {'; '.join(self.conflicts[:50])}",
                field="manifests",
                remedy="Take the field out of the manifest, or name its owner in force_from.",
            )
        if self.fixed:
            raise InvalidInput(
                f"{len(self.fixed)} objects have fields that cannot be changed: {'; '.join(self.fixed[:50])}",
                field="manifests",
                remedy='Leave these fields, or say on_immutable="replace": such objects are deleted, and made anew.',
            )


def set_of(live: Mapping[str, Any]) -> str:
    """Return the id of the apply set that an object is a member of; empty for none."""
    return text(map_(map_(live.get("metadata")).get("labels")).get(PART_OF))


class Looker(SetCluster):
    """Looks at what an apply comes to.

    :param client: of the cluster.
    :param wanted: what is to be applied.
    :param relation: says how the wanted commit stands to a recorded one: ``(recorded, wanted)``.
    """

    def __init__(
        self, client: KubernetesClient, wanted: Wanted, relation: Callable[[str, str], Relation]
    ) -> None:
        super().__init__(client, wanted)
        self._relation = relation

    async def look(self) -> Look:
        """Find out what would change, and refuse what may not be done; nothing is touched.

        :return: what there is, and what would change.
        :raises PipeOpsError: if the release may not be.
        """
        plain, hooks = await self.parted()
        parent = await self.parent()
        self._may(parent)
        found = _Found()
        for hook in hooks if self._wanted.undo is None else ():
            if live := await self._get(hook.manifest):
                self._may_replace(hook.manifest, live)
            # Under a free name: that of the release before, which cannot be changed, is still there.
            await self._tried(replace(hook.manifest, body=as_another(hook.manifest.body)))
            found.lines.append(f"! {hook} runs {hook.when}")
        members = await self._labelled_in(parent.scope)
        known = {(served, *name_of(item)): item for served, item in members.items}

        async def tried(one: Manifest) -> _Found:
            # What is a member has been read with all others; any other object is asked for by its name.
            live = known.get((one.served, one.namespace, one.name)) or await self._get(one)
            return await self._try_one(one, live)

        # Nothing is touched, so that the order is of no account.
        for part in await in_parallel(tried, plain):
            found.take(part)
        found.check()
        visited = {*self._visited(found.live.values()), *await self._hooked(hooks)}
        pruned = self._plan(members_of(members.items), visited)
        if pruned.refused:
            raise InvalidInput(
                pruned.refused,
                field="prune_allowed",
                remedy="Allow so many with prune_allowed, if that is meant.",
            )
        found.lines += [line for one in pruned.delete for line in differences(str(one), {}, None)]
        return Look(
            tuple(plain),
            tuple(hooks),
            frozenset(found.replaced),
            found.live,
            tuple(found.lines),
            parent,
            pruned,
            members.lost,
        )

    async def _try_one(self, one: Manifest, live: Mapping[str, Any] | None) -> _Found:
        wanted, found = self._wanted, _Found()
        if live is not None:
            found.live[str(one)] = live
            self._may_change(one, live)
        after: Mapping[str, Any] | None
        owners, tool = self._owners(live)
        try:
            after = await self._tried(one)
        except FieldConflict as error:
            contests = contested(error.causes)
            if not may_force(contests, {*owners, tool}):
                found.conflicts += [f"{one}: {each}" for each in contests]
                return found
            after = await self._tried(one, force=True)
        except FieldsImmutable as error:
            said = f"{one}: {'; '.join(error.fields)}"
            guarded = one.served.kind in GUARDED and str(one) not in wanted.prune_named
            if wanted.replace and live is not None:
                self._may_replace(one, live)
            if guarded or not wanted.replace:
                found.fixed.append(
                    said + (" (its kind is deleted only where prune_named names it)" if guarded else "")
                )
                return found
            if one.served.kind not in _UNTRIED:
                await self._tried(replace(one, body=as_another(one.body)))
            found.replaced.add(str(one))
            found.lines.append(f"! {said}; it is deleted and made anew")
            after = one.body
        if live and after and (lost := going(live, after, MANAGER, owners, tool)):
            found.lines.append(
                f"! {one}: what another tool applied is taken over, and these go: {', '.join(lost)}"
            )
        found.lines += differences(str(one), live, after if after is not None else one.body)
        return found

    def _owners(self, live: Mapping[str, Any] | None) -> tuple[Collection[str], str]:
        """Say from whom fields of an object may be taken: which managers, and the tool whose set is taken over."""
        mine = live is not None and set_of(live) == self._id
        return self._wanted.force_from, self._wanted.take_over if mine else ""

    def _may_change(self, one: Manifest, live: Mapping[str, Any]) -> None:
        metadata = map_(live.get("metadata"))
        if "deletionTimestamp" in metadata:
            raise Conflict(
                f"{one} is being deleted{held_by(live)}",
                remedy="Wait until it is gone, or take away what holds it; nothing was touched.",
            )
        if set_of(live) not in ("", self._id):
            raise self._not_ours(one, live)

    def _may_replace(self, one: Manifest, live: Mapping[str, Any]) -> None:
        """Refuse to delete what was never a member, to make it anew."""
        if set_of(live) != self._id:
            raise self._not_ours(one, live)

    def _not_ours(self, one: Manifest, live: Mapping[str, Any]) -> InvalidInput:
        other = set_of(live)
        return InvalidInput(
            f"{one} belongs to another apply set, {other}"
            if other
            else f"{one} is there, and would be deleted and made anew, and is no member of the set",
            field="manifests",
            value=str(one),
            remedy="Give it another name, or delete what is there yourself.",
        )

    async def parted(self) -> tuple[list[Manifest], list[Hook]]:
        """Return what is wanted, in order: what is applied, and the Jobs before and after."""
        manifests = placed(self._wanted.bodies, await self._kinds(), self._wanted.namespace)
        check_members(manifests, self._id)
        return hooks_of(manifests)

    async def _hooked(self, hooks: Sequence[Hook]) -> frozenset[str]:
        """Return the uids of the Jobs that are there; they are members, and not pruned while they are wanted."""
        return self._visited([one for hook in hooks if (one := await self._get(hook.manifest))])

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
