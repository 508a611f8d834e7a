"""Look once for what differs between the cluster and what was pushed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.differences import Difference
from airflow_pipeops.deploy.apply.objects import Manifest, Served, placed
from airflow_pipeops.deploy.differences.desired import Desired
from airflow_pipeops.deploy.differences.fields import Compared, changed, value_at
from airflow_pipeops.deploy.reading import Kinds, labelled, listed
from airflow_pipeops.exceptions import NotFound, PipeOpsError
from airflow_pipeops.kubernetes.kinds import Kind, name_of

if TYPE_CHECKING:
    from airflow_pipeops.kubernetes.client import KubernetesClient

#: Says what is to be there now.
Wanting = Callable[["KubernetesClient"], Awaitable[Desired]]


@dataclass(frozen=True)
class Finding:
    """What one look has found.

    :param desired: what is to be there.
    :param compared: the objects that differ.
    :param unclear: why nobody can tell; empty otherwise.
    :param unlisted: where something that was not pushed may be, and the credential may not look.
    """

    desired: Desired
    compared: tuple[Compared, ...] = ()
    unclear: str = ""
    unlisted: tuple[str, ...] = ()

    @property
    def differences(self) -> list[Difference]:
        """What differs, in a stable order."""
        found = [one.difference for one in self.compared]
        return sorted(found, key=lambda one: (one.group, one.kind, one.namespace, one.name))


async def look(
    client: KubernetesClient, wanting: Wanting, ignored: Collection[str] = (), *, sure: bool = True
) -> Finding:
    """Compare what is there with what was pushed last.

    :param wanting: says what that is; it is asked again afterwards, since a release may have come in between.
    :param ignored: managers that may hold fields that were pushed.
    :param sure: have the server say what an apply would change; where it does not, what the fields' managers say stands.
    :return: what differs.
    """
    desired = await wanting(client)
    if desired.unclear:
        return Finding(desired, unclear=desired.unclear)
    kinds = Kinds(client)
    served = await _served(kinds, desired.bodies)
    known = [one for one in desired.bodies if _key(one) in served]
    manifests = placed(known, served, desired.namespace)
    lives = await _read(client, manifests)
    # A kind that the cluster does not serve any more has no objects.
    found = [Compared(one, None) for one in desired.bodies if _key(one) not in served]
    for one in manifests:
        live = lives[str(one)]
        if live is None:
            if "ttlSecondsAfterFinished" not in map_(one.body.get("spec")):
                found.append(Compared(one.body, None))
            continue
        fields = changed(one.body, live, desired.mark, ignored)
        compared = Compared(one.body, live, fields)
        if fields and sure:
            compared = await _asked(client, one, compared, desired.manager)
        if compared.fields:
            found.append(compared)
    strays, unlisted = await _strays(client, desired, manifests, kinds)
    found += strays
    if found and (again := await wanting(client)) != desired:
        return Finding(again, unclear=f"{desired.app} was released anew while it was looked at")
    return Finding(desired, tuple(found), unlisted=tuple(unlisted))


async def _strays(
    client: KubernetesClient, desired: Desired, manifests: Sequence[Manifest], kinds: Kinds
) -> tuple[list[Compared], Collection[str]]:
    """Return what carries the labels of what was pushed, and is none of it."""
    wanted = {(one.served.group_kind, one.namespace, one.name) for one in manifests}
    there = await labelled(client, desired.selector, desired.scope, kinds)
    strays = []
    for served, item in there.items:
        namespace, name = name_of(item)
        if (served.group_kind, namespace, name) not in wanted and desired.is_stray(item):
            called = {"namespace": namespace, "name": name}
            body = {"apiVersion": served.version, "kind": served.kind, "metadata": called}
            strays.append(Compared(body, item))
    return strays, there.hidden


def _key(body: Mapping[str, Any]) -> tuple[str, str]:
    return text(body.get("apiVersion")), text(body.get("kind"))


async def _served(kinds: Kinds, bodies: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Served]:
    """Return the kinds of these objects, as far as the cluster serves them."""
    found = {}
    for version in dict.fromkeys(_key(body)[0] for body in bodies):
        for kind, served in (await kinds.of(version)).items():
            found[version, kind] = served
    return found


async def _read(
    client: KubernetesClient, manifests: Sequence[Manifest]
) -> dict[str, Mapping[str, Any] | None]:
    groups: dict[tuple[Kind, str], list[Manifest]] = {}
    for one in manifests:
        groups.setdefault((one.served.at, one.namespace), []).append(one)
    found: dict[str, Mapping[str, Any] | None] = {}
    for (kind, namespace), wanted in groups.items():
        there = await listed(client, kind, namespace, len(wanted))
        for one in wanted:
            if there is not None:
                found[str(one)] = there.get(one.name)
                continue
            try:
                found[str(one)] = await client.get(kind, one.name, namespace)
            except NotFound:
                found[str(one)] = None
    return found


async def _asked(client: KubernetesClient, one: Manifest, compared: Compared, manager: str) -> Compared:
    """Return what differs by the server's own word: what an apply of the same would change."""
    if one.served.kind == "Secret":  # what it holds is masked, or may be
        return compared
    try:
        after = await client.apply(one.served.at, one.body, manager, force=True, dry=True)
    except PipeOpsError as error:
        if error.retryable:
            raise
        return compared  # it may not be asked, or it cannot be applied again as it is
    fields = [
        field
        for field in compared.fields
        if value_at(after, field.path) != value_at(compared.live, field.path)
    ]
    return Compared(compared.body, compared.live, tuple(fields))
