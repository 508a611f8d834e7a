"""Read objects by their names, a few of a kind one by one, many by one list; which kinds there are, and what Helm keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.deploy.apply.objects import Served
from airflow_pipeops.deploy.apply.sets import Scope
from airflow_pipeops.deploy.helm.releases import Revision, history_of
from airflow_pipeops.exceptions import AccessDenied
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import SECRETS, Kind, name_of

#: So many objects of one kind and namespace are read by name; more of them by one list.
_FEW = 3


async def listed(
    client: KubernetesClient, kind: Kind, namespace: str, wanted: int
) -> Mapping[str, dict[str, Any]] | None:
    """Read all objects of a kind, where many of them are wanted.

    :param wanted: how many are.
    :return: the objects by name; ``None`` where they are to be read one by one: they are few, or may not be listed.
    """
    if wanted <= _FEW:
        return None
    try:
        listing = await client.find(kind, namespace)
    except AccessDenied:
        return None
    return {name_of(item)[1]: item for item in listing.items}


class Kinds:
    """The kinds that a cluster serves, by what manifests call them; it is asked for each version of a group once.

    :param client: of the cluster.
    """

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client
        self._found: dict[str, dict[str, Served]] = {}

    async def of(self, version: str) -> dict[str, Served]:
        """Read those of one version of a group; none where there is no such version."""
        if version not in self._found:
            found = await self._client.served(version)
            self._found[version] = {
                kind: Served(version, kind, plural, namespaced)
                for kind, (plural, namespaced) in found.items()
            }
        return self._found[version]


async def labelled(
    client: KubernetesClient, selector: str, scope: Scope, kinds: Kinds
) -> tuple[list[tuple[Served, dict[str, Any]]], dict[str, AccessDenied]]:
    """Read all that carries labels, where that may be; a kind that the cluster does not serve any more has no objects.

    :return: the objects, each with its kind; and what the credential may not list, with the refusal.
    """
    found: dict[str, tuple[Served, dict[str, Any]]] = {}
    hidden: dict[str, AccessDenied] = {}
    groups: dict[str, Mapping[str, Served]] = {}
    for group_kind in sorted(scope.kinds):
        kind, _, group = group_kind.partition(".")
        if group not in groups:
            version = await client.preferred(group)
            groups[group] = await kinds.of(version) if version else {}
        served = groups[group].get(kind)
        if served is None:
            continue
        for namespace in sorted(scope.namespaces) if served.namespaced else [""]:
            try:
                listing = await client.find(served.at, namespace, labels=selector)
            except AccessDenied as error:
                hidden[f"{kind} in {namespace}" if namespace else kind] = error
                continue
            for item in listing.items:
                body = {**item, "apiVersion": served.version, "kind": served.kind}
                found[text(map_(item.get("metadata")).get("uid"))] = served, body
    return list(found.values()), hidden


async def history_in(client: KubernetesClient, release: str, namespace: str) -> tuple[Revision, ...]:
    """Read the revisions of a release, the oldest first; none where there is no such release."""
    labels = f"owner=helm,name={release}"
    return history_of((await client.find(SECRETS, namespace, labels=labels)).items)
