"""Read objects by their names: a few of a kind one by one, many by one list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_pipeops.exceptions import AccessDenied
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.kinds import Kind, name_of

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
