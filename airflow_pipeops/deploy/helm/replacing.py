"""Make way for a manifest: what has fields that cannot be changed is found out by a trial, and deleted before Helm comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.base.parallel import in_parallel
from airflow_pipeops.deploy.apply.cluster import gone, held_by, live_of, propagation_of, uid_of
from airflow_pipeops.deploy.apply.hooks import as_another
from airflow_pipeops.deploy.apply.objects import Manifest, Served, placed
from airflow_pipeops.deploy.apply.sets import GUARDED
from airflow_pipeops.deploy.reading import Kinds
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.errors import FieldsImmutable
from airflow_pipeops.kubernetes.kinds import name_of

#: What is done with an object that has fields that cannot be changed.
OnImmutable = Literal["fail", "replace"]
#: Whose fields they are in a trial.
_MANAGER = "helm"
#: Helm leaves an object with this annotation alone when its release goes.
_KEPT = "helm.sh/resource-policy"


@dataclass(frozen=True)
class Fixed:
    """An object that cannot become what is wanted.

    :param manifest: what is wanted.
    :param live: what is there.
    :param fields: that cannot be changed, each with what the server says of it.
    """

    manifest: Manifest
    live: Mapping[str, Any]
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.manifest}: {'; '.join(self.fields)}"


def guarded(one: Fixed) -> str:
    """Say why an object is deleted by nobody but a person; empty where it may be."""
    if one.manifest.served.kind in GUARDED:
        return "its kind takes much else with it"
    told = [map_(map_(item.get("metadata")).get("annotations")) for item in (one.live, one.manifest.body)]
    return f"{_KEPT} says that it stays" if any(text(each.get(_KEPT)) == "keep" for each in told) else ""


def of_release(live: Mapping[str, Any], release: str, namespace: str) -> bool:
    """Whether Helm made an object for this release; it takes no other one."""
    told = map_(map_(live.get("metadata")).get("annotations"))
    owner = (told.get("meta.helm.sh/release-name"), told.get("meta.helm.sh/release-namespace"))
    return owner == (release, namespace)


async def make_way(
    client: KubernetesClient, bodies: Sequence[Mapping[str, Any]], release: str, namespace: str
) -> list[dict[str, str]]:
    """Delete what cannot become what a manifest wants, all of it known before any goes; Helm makes it anew.

    :param bodies: the objects that are wanted.
    :param release: they are of.
    :param namespace: of the release.
    :return: what was deleted: its name as ``object``, and its uid as ``before``.
    :raises InvalidInput: for what is not deleted; then nothing was.
    """
    wanted = await _rendered(client, bodies, namespace)

    async def tried(one: Manifest) -> Fixed | None:
        try:
            await _try(client, one)
        except FieldsImmutable as error:
            live = await live_of(client, one)
            mine = live is not None and of_release(live, release, namespace)
            return Fixed(one, live, error.fields) if live is not None and mine else None
        except (NotFound, InvalidInput):
            return None  # Helm says it, too, and knows the template
        return None

    fixed = [one for one in await in_parallel(tried, wanted) if one is not None]
    if stays := [f"{one} ({why})" for one in fixed if (why := guarded(one))]:
        raise InvalidInput(
            f"{len(stays)} objects have fields that cannot be changed, and are not deleted: {'; '.join(stays[:50])}",
            field="chart",
            remedy="Leave these fields as they are, or delete the object yourself; nothing was touched.",
        )
    for one in fixed:
        if one.manifest.served.kind != "Service":  # its address is taken while it is there
            await _try(client, replace(one.manifest, body=as_another(one.manifest.body)))
    for one in reversed(fixed):
        await gone(client, one.manifest, one.live, propagation_of(one.manifest, one.live))
    return [{"object": str(one.manifest), "before": uid_of(one.live)} for one in fixed]


async def left_of(
    client: KubernetesClient, bodies: Sequence[Mapping[str, Any]], namespace: str, seconds: float
) -> list[str]:
    """Wait until what is being deleted of a release is gone.

    :param bodies: its objects.
    :param namespace: of the release.
    :param seconds: for which it is waited.
    :return: what does not go, each with the finalizers that hold it.
    """
    end = time.monotonic() + seconds
    rendered = await _rendered(client, bodies, namespace)
    while True:
        found = zip(rendered, await in_parallel(lambda one: live_of(client, one), rendered), strict=True)
        going = [
            (one, live) for one, live in found if live and "deletionTimestamp" in map_(live.get("metadata"))
        ]
        if not going or time.monotonic() > end:
            return [f"{one}{held_by(live)}" for one, live in going]
        rendered = [one for one, _ in going]
        await asyncio.sleep(1.0)


async def _rendered(
    client: KubernetesClient, bodies: Sequence[Mapping[str, Any]], namespace: str
) -> list[Manifest]:
    """Return rendered objects, each with its kind and its namespace."""
    kinds, served = Kinds(client), dict[tuple[str, str], Served]()
    known = dict[tuple[str, ...], Mapping[str, Any]]()
    for body in bodies:
        version, kind = text(body.get("apiVersion")), text(body.get("kind"))
        # Of a kind that the cluster lacks there is no object; Helm says what it thinks of it.
        if found := (await kinds.of(version)).get(kind):
            served[version, kind] = found
            place, name = name_of(body)
            # Helm takes an object that is there twice, and the last one stays.
            known[found.group_kind, (place or namespace) if found.namespaced else "", name] = body
    return placed([*known.values()], served, namespace)


async def _try(client: KubernetesClient, one: Manifest) -> None:
    # As Helm does: fields are taken from whoever has them, and one that the kind lacks is no error.
    await client.apply(one.served.at, one.body, _MANAGER, force=True, dry=True, strict=False)
