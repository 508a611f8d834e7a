"""Reads and steers Flux's objects through the Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from airflow_pipeops.exceptions import AccessDenied, NotFound, Unreachable
from airflow_pipeops.flux.kinds import (
    FORCE_AT,
    KINDS,
    REQUESTED_AT,
    RESET_AT,
    Ref,
    dependencies,
    owner_of,
    ref_of,
    references,
)
from airflow_pipeops.flux.stages import says_applied
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import Kind

log = logging.getLogger(__name__)

#: Where Flux itself is usually configured.
HOME = "flux-system"

#: Reads all objects of a kind in a namespace.
All = Callable[[str, str], Awaitable[list[dict[str, Any]]]]
#: Reads one object.
Get = Callable[[Ref], Awaitable[dict[str, Any]]]

#: Of one look, so many objects are read at most: dependencies may form long chains.
MOST = 40
#: So many at the same time.
_AT_ONCE = 4
#: An object whose owners change while it is read is read so often, in one look.
_ROUNDS = 5


class Gathered(list[dict[str, Any]]):
    """The objects of one look, the one that is meant first.

    :param missing: what they refer to and is not there.
    :param hidden: what they refer to and nobody could look at, and why.
    :param deciding: what decides about the object that is meant; of anything else, some of these merely depend on it.
    :param owners: the Kustomizations that apply any of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.missing: list[Ref] = []
        self.hidden: dict[Ref, str] = {}
        self.deciding: set[Ref] = set()
        self.owners: set[Ref] = set()


class FluxClient:
    """Flux in one cluster. Use it as ``async with``.

    :param kubernetes: a client of the cluster's API; closed with this one.
    """

    def __init__(self, kubernetes: KubernetesClient) -> None:
        self.kubernetes = kubernetes

    async def __aenter__(self) -> FluxClient:
        await self.kubernetes.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.kubernetes.__aexit__(*error)

    async def get(self, ref: Ref) -> dict[str, Any]:
        """Return an object as it is now."""
        found = await self.kubernetes.get(kind_of(ref.kind), ref.name, ref.namespace)
        # A single object names its kind, one out of a list does not.
        return {**found, "kind": ref.kind}

    async def all(self, kind: str, namespace: str, *, selector: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind in a namespace."""
        found = await self.kubernetes.find(kind_of(kind), namespace, labels=selector)
        return [{**item, "kind": kind} for item in found.items]

    async def gather(self, ref: Ref) -> Gathered:
        """Return an object and all that decides about it: source, chart, owner, dependencies, each with their own.

        :raises NotFound: if the object itself is not there.
        :raises AccessDenied: if it may not be seen.
        :return: the objects, the one that is meant first.
        """
        return await gather(ref, self.get)

    async def request(self, ref: Ref, token: str, *, force: bool = False, reset: bool = False) -> str:
        """Ask the controller of an object to reconcile it now; asking again with the same token asks for nothing new.

        :param force: of a Helm release: install or upgrade even if nothing has changed.
        :param reset: of a Helm release: count failures from zero.
        :return: the token.
        """
        annotations = {REQUESTED_AT: token}
        if force:
            annotations[FORCE_AT] = token
        if reset:
            annotations[RESET_AT] = token
        await self._patch(ref, {"metadata": {"annotations": annotations}})
        log.info("Asked %s to reconcile: %s", ref, token)
        return token

    async def suspend(self, ref: Ref) -> None:
        """Have the controller leave an object alone."""
        await self._patch(ref, {"spec": {"suspend": True}})

    async def resume(self, ref: Ref, token: str) -> None:
        """Have the controller look after an object again, and ask it to begin now."""
        await self._patch(
            ref, {"metadata": {"annotations": {REQUESTED_AT: token}}, "spec": {"suspend": False}}
        )

    async def events(self, ref: Ref) -> list[dict[str, Any]]:
        """Return the events about an object that the cluster still keeps (an hour, by default), the latest last."""
        return await self.kubernetes.events(ref.namespace, name=ref.name, kind=ref.kind)

    async def with_events(self, ref: Ref) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return an object and the events about it, as both were while it applied nothing else.

        :param ref: the object.
        :return: the object, and its events, the latest last.
        :raises Unreachable: if it changes faster than that can be read.
        """
        item = await self.get(ref)
        for _ in range(_ROUNDS):
            events, before = await self.events(ref), item
            item = await self.get(ref)
            if says_applied(before) == says_applied(item):
                return before, events
        raise Unreachable(f"{ref} changes faster than it and its events can be read")

    async def _patch(self, ref: Ref, patch: Mapping[str, Any]) -> None:
        await self.kubernetes.patch(kind_of(ref.kind), ref.name, patch, ref.namespace)


def kind_of(kind: str) -> Kind:
    """Return where a kind is served."""
    return Kind(*KINDS[kind])


async def gather(ref: Ref, get: Get) -> Gathered:
    """Read an object and all that decides about it, as all of them were at one moment.

    What a commit changes in an object shows in that object alone, and that the commit was applied shows in its owners
    alone. So the object is read again after its owners, and they after it, until none has moved in between: else an old
    "ready" could join a new "applied".

    :param ref: the object.
    :param get: reads one object.
    :return: the objects.
    :raises Unreachable: if they change faster than they can be read.
    """
    found = await _around(ref, get)
    for _ in range(_ROUNDS):
        places = [place for place, item in enumerate(found) if place and ref_of(item) in found.owners]
        if not places:
            return found
        before = found[0]
        found[0] = await get(ref)
        again = [await get(ref_of(found[place])) for place in places]
        if references(before) != references(found[0]):
            found = await _around(ref, get)
            continue
        if all(
            says_applied(found[place]) == says_applied(item)
            for place, item in zip(places, again, strict=True)
        ):
            return found
        for place, item in zip(places, again, strict=True):
            found[place] = item
    raise Unreachable(f"{ref} and what applies it change faster than they can be read")


async def fetchers(ref: Ref, all_of: All) -> list[dict[str, Any]]:
    """Return what may fetch the commit that brings an object: the sources beside it, and those of Flux itself.

    :param ref: the object that is not there.
    :param all_of: reads all objects of a kind in a namespace.
    :return: the sources, as far as the credential may see them.
    """
    found: list[dict[str, Any]] = []
    for namespace in dict.fromkeys([ref.namespace, HOME]):
        for kind in ("GitRepository", "OCIRepository", "Bucket"):
            with contextlib.suppress(AccessDenied, NotFound):
                found += await all_of(kind, namespace)
    return found[:MOST]


async def _around(ref: Ref, get: Get) -> Gathered:
    """Read an object, and wave by wave what decides about it; of what it only depends on, the dependencies alone."""
    found = Gathered()
    main = await get(ref)
    found.append(main)
    found.deciding = deciding = set(references(main))
    found.owners.update(owner_of(main))
    known, wave = {ref}, [*references(main), *dependencies(main)]
    while wave:
        # Long lists of dependencies leave out none of those that decide.
        wave = sorted(
            (one for one in dict.fromkeys(wave) if one not in known), key=lambda one: one not in deciding
        )
        wave, rest = wave[: MOST - len(known)], wave[MOST - len(known) :]
        found.hidden |= {one: f"only {MOST} objects are looked at" for one in rest if one in deciding}
        known.update(wave)
        following: list[Ref] = []
        for start in range(0, len(wave), _AT_ONCE):
            part = wave[start : start + _AT_ONCE]
            answers = await asyncio.gather(*(_read(one, get) for one in part))
            for one, answer in zip(part, answers, strict=True):
                if isinstance(answer, NotFound):
                    found.missing.append(one)
                elif isinstance(answer, AccessDenied):
                    found.hidden[one] = str(answer)
                else:
                    found.append(answer)
                    if one in deciding:
                        found.owners.update(owner_of(answer))
                        deciding.update(references(answer))
                        following += references(answer)
                    following += dependencies(answer)
        wave = following
    found.owners.discard(ref)
    return found


async def _read(ref: Ref, get: Get) -> dict[str, Any] | NotFound | AccessDenied:
    """Return an object, or why there is none to be seen."""
    try:
        return await get(ref)
    except (NotFound, AccessDenied) as error:
        return error
