"""The items of a dataset in batches, for a gate that looks after each. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from airflow_pipeops.exceptions import InvalidInput


def batches(items: Mapping[str, str], size: int, seed: str = "") -> list[list[str]]:
    """Part items into batches, in an order that has nothing to do with what they are.

    The clusters of items stay whole: half a conversation would be judged as one.

    :param items: id -> cluster; empty for an item of its own.
    :param size: of a batch, at least; in items.
    :param seed: of the order, fixed before anything is asked; for example the dataset's digest.
    :return: the ids of each batch.
    :raises InvalidInput: for a size below one.
    """
    if size < 1:
        raise InvalidInput(f"size is {size}", field="size", value=size, remedy="Use one or more.")
    groups: dict[tuple[bool, str], list[str]] = {}
    for item in sorted(items):
        groups.setdefault((bool(items[item]), items[item] or item), []).append(item)
    found: list[list[str]] = []
    for group in sorted(groups, key=lambda one: hashlib.sha256(f"{seed}|{one}".encode()).digest()):
        if not found or len(found[-1]) >= size:
            found.append([])
        found[-1] += groups[group]
    return found
