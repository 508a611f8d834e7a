"""Reads and steers Flux's objects through the Kubernetes API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from airflow_pipeops.exceptions import AccessDenied, NotFound
from airflow_pipeops.flux.kinds import FORCE_AT, KINDS, REQUESTED_AT, RESET_AT, Ref, owner_of, references
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import Kind

log = logging.getLogger(__name__)

#: Of one look, so many objects are read at most: dependencies may form long chains.
MOST = 40
#: So many at the same time.
_AT_ONCE = 4


class Gathered(list[dict[str, Any]]):
    """The objects of one look, the one that is meant first.

    :param missing: what they refer to and is not there.
    :param hidden: what they refer to and the credential may not see.
    """

    def __init__(self) -> None:
        super().__init__()
        self.missing: list[Ref] = []
        self.hidden: list[Ref] = []


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
        :raises AccessDenied: if it, or what applies it, may not be seen: nothing could be said then.
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

    async def _patch(self, ref: Ref, patch: Mapping[str, Any]) -> None:
        await self.kubernetes.patch(kind_of(ref.kind), ref.name, patch, ref.namespace)


def kind_of(kind: str) -> Kind:
    """Return where a kind is served."""
    return Kind(*KINDS[kind])


async def gather(ref: Ref, get: Any) -> Gathered:
    """Read an object and all that decides about it.

    :param get: reads one object.
    """
    found = Gathered()
    main = await get(ref)
    found.append(main)
    needed = set(owner_of(main))
    known, wave = {ref}, references(main)
    while wave:
        wave = [one for one in dict.fromkeys(wave) if one not in known][: MOST - len(known)]
        known.update(wave)
        following: list[Ref] = []
        for start in range(0, len(wave), _AT_ONCE):
            part = wave[start : start + _AT_ONCE]
            answers = await asyncio.gather(*(_read(one, get, one in needed) for one in part))
            for one, answer in zip(part, answers, strict=True):
                if isinstance(answer, dict):
                    found.append(answer)
                    following += references(answer)
                elif answer:
                    found.hidden.append(one)
                else:
                    found.missing.append(one)
        wave = following
    return found


async def _read(ref: Ref, get: Any, needed: bool) -> dict[str, Any] | bool:
    """Return an object; ``False`` if it is not there, ``True`` if it may not be seen."""
    try:
        answer: dict[str, Any] = await get(ref)
        return answer
    except NotFound:
        return False
    except AccessDenied:
        if needed:
            raise
        return True
