"""Tables of features that were made already, found again by what they are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_pipeops.base.documents import map_, parsed, text
from airflow_pipeops.delivery.records import canonical
from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.models import storage


def key_of(made_from: Mapping[str, Any]) -> str:
    """Return the name of a table by everything that decides what is in it, as JSON."""
    return storage.sha256(canonical(made_from, "features", "what features are made from"))


def found(root: Any, key: str) -> dict[str, Any] | None:
    """Find a table that was made before.

    :param root: where artifacts are kept.
    :param key: as :func:`key_of` returned it.
    :return: what :func:`keep` was given; ``None`` if it was not made, or is not there as it was made.
    """
    try:
        facts = map_(parsed(storage.get(storage.uri_of(_path(root, key)))))
        storage.get(text(facts.get("uri")), text(facts.get("sha256")))
    except (NotFound, InvalidInput, ValueError):
        return None  # it is made again, to the same place
    return dict(facts)


def keep(root: Any, key: str, facts: Mapping[str, Any]) -> None:
    """Note where a table is that was made; the table itself is there before.

    :param root: where artifacts are kept.
    :param key: as :func:`key_of` returned it.
    :param facts: as JSON; ``uri`` and ``sha256`` are those of the table.
    """
    storage.put(_path(root, key), json.dumps(dict(facts), sort_keys=True).encode())


def _path(root: Any, key: str) -> Any:
    return root / "features" / f"{key}.json"
