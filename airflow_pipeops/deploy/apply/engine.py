"""Apply manifests as a set: look, hold, apply all, prune, let go. Whatever dies in between is taken up by its retry.

Nothing is touched before all was looked at, and nothing is deleted before all was applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_pipeops.base.parallel import in_parallel
from airflow_pipeops.deploy.apply.cluster import (
    MANAGER,
    defined,
    gone,
    members_of,
    propagation_of,
    removed,
    uid_of,
)
from airflow_pipeops.deploy.apply.commits import Relation
from airflow_pipeops.deploy.apply.differences import contested, may_force
from airflow_pipeops.deploy.apply.hooks import Hook, begun_by, marked
from airflow_pipeops.deploy.apply.looking import Looker
from airflow_pipeops.deploy.apply.objects import Manifest, digest, rank, waves
from airflow_pipeops.deploy.apply.ownership import moved
from airflow_pipeops.deploy.apply.parents import Holder, Parent, Release
from airflow_pipeops.deploy.apply.sets import Member, Scope, scope_of
from airflow_pipeops.deploy.apply.wanted import Done, Look, Wanted
from airflow_pipeops.deploy.readiness import judge
from airflow_pipeops.deploy.seen import Applied
from airflow_pipeops.exceptions import Conflict, InvalidInput, NotFound, ReleaseFailed
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.errors import FieldConflict
from airflow_pipeops.kubernetes.kinds import version_of

#: Seconds for which a set is held without a sign of life.
LEASE = 300.0
_ATTEMPTS = 5
#: Seconds for which a kind may not be served yet whose definition is of the same release.
_DEFINED = 30.0
#: A version that no object has: with it, an apply makes what is not there, and is refused where something is.
_ABSENT = "1"
#: Nothing can run without these: they are applied before the Jobs that run before all else.
FOUNDATIONS = frozenset({"CustomResourceDefinition", "Namespace"})


class Applier(Looker):
    """Applies one set.

    :param client: of the cluster.
    :param wanted: what is to be applied.
    :param relation: says how the wanted commit stands to a recorded one: ``(recorded, wanted)``.
    """

    def __init__(
        self, client: KubernetesClient, wanted: Wanted, relation: Callable[[str, str], Relation]
    ) -> None:
        super().__init__(client, wanted, relation)
        self._token, self._lease = uuid.uuid4().hex, LEASE

    async def apply(self, look: Look, release: Release) -> Done:
        """Do it.

        :param look: what was found before.
        :param release: that is to be remembered.
        :return: what was done; with a ``pending`` Job, that has to end before the rest.
        """
        scope = scope_of(look.all)
        if any(hook.when == "before" for hook in look.hooks):
            self._lease = max(LEASE, self._wanted.lease)
        parent, done = await self._hold(look, release, scope), Done()
        begins = next(
            (place for place, one in enumerate(look.manifests) if one.served.kind not in FOUNDATIONS),
            len(look.manifests),
        )
        parent = await self._put_all(look.manifests[:begins], look, parent, done)
        await self._established(done)
        hooks = [hook for hook in look.hooks if hook.when == "before" and self._wanted.undo is None]
        if hooks:
            done.pending = await self._run(hooks, parent)
            if done.pending:
                return done
            parent = await self._still_ours()
        parent = await self._put_all(look.manifests[begins:], look, parent, done)
        await self._prune(look, parent, done, release, scope)
        return done

    async def _put_all(self, manifests: Sequence[Manifest], look: Look, parent: Parent, done: Done) -> Parent:
        """Apply in waves: all of a kind side by side, and what others need before them."""
        renewed, renewing = time.time(), asyncio.Lock()

        async def put(one: Manifest) -> tuple[dict[str, Any], str]:
            nonlocal parent, renewed
            async with renewing:
                if time.time() - renewed > LEASE / 3:
                    parent, renewed = await self._write(self._held(parent)), time.time()
            live = look.live.get(str(one))
            if live is None or str(one) not in look.replaced:
                return await self._put(one, live), ""
            await self._still_ours()
            await gone(self._client, one, live, propagation_of(one, live))
            return await self._put(one, None), uid_of(live)

        for wave in waves(manifests):
            for one, (answer, before) in zip(wave, await in_parallel(put, wave), strict=True):
                if before:
                    done.replaced.append((one, before, uid_of(answer)))
                done.answers.append((one, answer))
        return parent

    async def _established(self, done: Done) -> None:
        """Wait until the cluster serves the kinds that this release defines: before, it takes no object of them."""
        end = time.monotonic() + _DEFINED
        for one, answer in done.answers:
            seen: Mapping[str, Any] = answer
            while one.served.kind == "CustomResourceDefinition":
                found = judge(seen, Applied(uid_of(answer)))
                if found.state == "ready":
                    break
                if found.state == "failed" or time.monotonic() > end:
                    raise ReleaseFailed(
                        f"{one} does not come to be served: {found.reason}",
                        remedy="See its conditions; nothing of its kind was applied.",
                    )
                await asyncio.sleep(0.2)
                seen = await self._get(one) or answer

    async def _prune(self, look: Look, parent: Parent, done: Done, release: Release, scope: Scope) -> None:
        """Delete what left the set, and let go."""
        visited = self._visited(answer for _, answer in done.answers) | await self._hooked(look.hooks)
        found = await self._labelled_in(parent.scope)
        plan = self._plan(members_of(found.items), visited)
        if plan.refused:
            raise InvalidInput(
                plan.refused, field="prune_allowed", remedy="Allow so many with prune_allowed."
            )

        async def delete(member: Member) -> None:
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

        for wave in waves(sorted(plan.delete, key=lambda one: rank(one.served.kind), reverse=True)):
            await in_parallel(delete, wave)
        # A kind that was lost before anything was deleted stays named: its objects may come to light again.
        seen = replace(parent.scope, kinds=parent.scope.kinds - set(found.lost))
        left = [one for one in members_of((await self._labelled_in(seen)).items) if one.uid not in visited]
        after = replace(scope, kinds=scope.kinds.union(found.lost, (one.served.group_kind for one in left)))
        after = after | Scope(namespaces=frozenset(one.namespace for one in left if one.namespace))
        if found.lost:
            after = after | Scope(namespaces=parent.scope.namespaces)
        await self._write(parent.ended(release, after, undo=self._wanted.undo is not None))
        done.deleted, done.kept = plan.delete, plan.keep

    async def after(self, hooks: Sequence[Hook]) -> tuple[Manifest, dict[str, Any]] | None:
        """Run the Jobs after a release that is ready.

        :return: the first that has not ended, as the server returned it; ``None`` where all have ended well.
        """
        parent, self._lease = await self.parent(), max(LEASE, self._wanted.lease)
        if parent.standing != self._wanted.key:
            raise Conflict(f"the release of {parent.standing} came before the Jobs after this one have run")
        parent = await self._write(self._held(parent))
        pending = await self._run(hooks, parent)
        if pending is None:
            await self.let_go()
        return pending

    async def let_go(self, *, mine: bool = False) -> None:
        """Hold the set no longer, though its release has not come to its end.

        :param mine: only if this very attempt holds it.
        """
        parent = await self.parent()
        if mine and (parent.holder is None or parent.holder.token != self._token):
            return
        if parent != (after := parent.let_go(self._wanted.key)):
            await self._write(after)

    async def _run(self, hooks: Sequence[Hook], parent: Parent) -> tuple[Manifest, dict[str, Any]] | None:
        for hook in hooks:
            if hook.manifest.name in parent.jobs_of(self._wanted.key):
                if hook.cleanup == "succeeded" and (left := await self._get(hook.manifest)):
                    await removed(self._client, hook.manifest, left)
                continue
            job = await self._begun(hook)
            seen = {**job, "apiVersion": hook.manifest.served.version, "kind": hook.manifest.served.kind}
            if judge(seen, Applied.of(seen)).state != "ready":
                return hook.manifest, seen
            # Before it goes: a retry runs nothing twice.
            parent = await self._write(parent.with_job(self._wanted.key, hook.manifest.name))
            if hook.cleanup == "succeeded":
                await removed(self._client, hook.manifest, job)
        return None

    async def _begun(self, hook: Hook) -> dict[str, Any]:
        """Begin a Job, or find what an earlier attempt of this task has begun."""
        one = hook.manifest
        live = await self._get(one)
        if live is not None and begun_by(live, self._wanted.key):
            return live
        if live is not None:
            self._may_replace(one, live)
            await self._still_ours()
            await gone(self._client, one, live)
        body = marked(self._labelled(one, resourceVersion=_ABSENT), self._wanted.key)
        return await self._client.apply(one.served.at, body, MANAGER)

    def _held(self, parent: Parent) -> Parent:
        now = time.time()
        return parent.held(Holder(self._wanted.key, self._token, now + self._lease), now)

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
        ref = self._parent
        body = parent.written(ref)
        if parent.resource_version:
            answer = await self._client.patch(
                ref.at, ref.name, body, ref.namespace, resource_version=parent.resource_version
            )
        else:
            told = {key: value for key, value in body["metadata"]["annotations"].items() if value is not None}
            named = {"name": ref.name, "namespace": ref.namespace, "annotations": told}
            body["metadata"] |= named
            answer = await self._client.create(ref.at, body, ref.namespace)
        return replace(parent, resource_version=version_of(answer))

    async def _still_ours(self) -> Parent:
        """Read the parent, which has to be in the hands of this attempt."""
        parent = await self.parent()
        holder = parent.holder
        if holder is None or holder.token != self._token:
            raise Conflict(f"the apply set was taken by {holder.key if holder else 'nobody'} meanwhile")
        return parent

    async def _put(self, one: Manifest, live: Mapping[str, Any] | None) -> dict[str, Any]:
        """Apply one object over what was read of it: a worker that slept does not overwrite what came since."""
        began, absent = time.monotonic(), _ABSENT
        for attempt in range(_ATTEMPTS):
            try:
                answer = await self._over(one, live) if live else await self._made(one, absent)
                return {**answer, "apiVersion": one.served.version, "kind": one.served.kind}
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
                refused = live is None
            except NotFound:
                refused, fresh = False, (one.served.version, one.served.kind) in defined(self._wanted.bodies)
                if live is None and (not fresh or time.monotonic() - began > _DEFINED):
                    raise
                await asyncio.sleep(0.5 if fresh else 0)
            live = await self._get(one)
            await self._still_ours()
            if live is not None:
                self._may_change(one, live)
            elif refused:
                absent = ""  # this server takes no version for what is not there
        raise AssertionError("unreachable")

    async def _made(self, one: Manifest, absent: str) -> dict[str, Any]:
        """Create an object, which must not be there: all sets have one manager, and so contest no field of each other's."""
        return await self._client.apply(one.served.at, self._labelled(one, resourceVersion=absent), MANAGER)

    async def _over(self, one: Manifest, live: Mapping[str, Any]) -> dict[str, Any]:
        """Apply over this very state of an object."""
        owners, tool = self._owners(live)
        if (fields := moved(live, MANAGER, owners, tool)) is not None:
            patch = {"metadata": {"managedFields": fields}}
            live = await self._client.patch(
                one.served.at, one.name, patch, one.namespace, resource_version=version_of(live)
            )
        body = self._labelled(one, uid=uid_of(live), resourceVersion=version_of(live))
        try:
            return await self._client.apply(one.served.at, body, MANAGER)
        except FieldConflict as error:
            if not may_force(contested(error.causes), {*owners, tool}):
                raise
            return await self._client.apply(one.served.at, body, MANAGER, force=True)


def release_of(wanted: Wanted, manifests: Sequence[Manifest], sha256: str = "") -> Release:
    """Return what the parent is to remember of a release."""
    return Release(wanted.key, wanted.commit, digest(manifests), sha256)
