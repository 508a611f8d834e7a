"""Read objects by their names, a few of a kind one by one, many by one list; which kinds there are, and what Helm keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.deploy.apply.objects import Served
from airflow_pipeops.deploy.apply.sets import Scope
from airflow_pipeops.deploy.helm.releases import Revision, history_of
from airflow_pipeops.exceptions import AccessDenied, NotFound, PipeOpsError
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import PODS, SECRETS, Kind, name_of

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

    async def find(self, kind: str, versions: Sequence[str]) -> Served | None:
        """Return a kind in the first of these versions that has it: not every version of a group has all of its kinds."""
        for version in versions:
            if found := (await self.of(version)).get(kind):
                return found
        return None


@dataclass
class Labelled:
    """What carries labels.

    :param items: the objects, each with its kind.
    :param hidden: what the credential may not list, with the refusal.
    :param lost: kinds that the cluster serves in no version, as the scope names them: of these nothing is known.
    """

    items: list[tuple[Served, dict[str, Any]]] = field(default_factory=list)
    hidden: dict[str, AccessDenied] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


async def labelled(client: KubernetesClient, selector: str, scope: Scope, kinds: Kinds) -> Labelled:
    """Read all that carries labels, where that may be."""
    found, seen = Labelled(), dict[str, tuple[Served, dict[str, Any]]]()
    groups: dict[str, Sequence[str]] = {}
    for group_kind in sorted(scope.kinds):
        kind, _, group = group_kind.partition(".")
        if group not in groups:
            groups[group] = await client.versions(group)
        served = await kinds.find(kind, groups[group])
        if served is None:
            found.lost = (*found.lost, group_kind)
            continue
        for namespace in sorted(scope.namespaces) if served.namespaced else [""]:
            try:
                listing = await client.find(served.at, namespace, labels=selector)
            except AccessDenied as error:
                found.hidden[f"{kind} in {namespace}" if namespace else kind] = error
                continue
            except NotFound:  # its definition went since the kinds were read
                found.lost = (*found.lost, group_kind)
                break
            for item in listing.items:
                body = {**item, "apiVersion": served.version, "kind": served.kind}
                seen[text(map_(item.get("metadata")).get("uid"))] = served, body
    found.items = list(seen.values())
    return found


async def history_in(client: KubernetesClient, release: str, namespace: str) -> tuple[Revision, ...]:
    """Read the revisions of a release, the oldest first; none where there is no such release."""
    labels = f"owner=helm,name={release}"
    return history_of((await client.find(SECRETS, namespace, labels=labels)).items)


async def logs_of(client: KubernetesClient, items: Sequence[Mapping[str, Any]], namespace: str) -> str:
    """Read the logs of Pods and of those of Jobs, as far as they are there and may be read.

    :param namespace: of those that name none.
    :return: the logs, each under the name of its pod.
    """
    said = []
    for item in items:
        place, name = name_of(item)
        place = place or namespace
        with contextlib.suppress(PipeOpsError):
            pods = [name]
            if item.get("kind") == "Job":
                found = await client.find(PODS, place, labels=f"job-name={name}")
                pods = [name_of(pod)[1] for pod in found.items]
            for pod in pods:
                said.append(f"{pod}:\n" + "\n".join(await client.logs(place, pod)))
    return "\n".join(said)
