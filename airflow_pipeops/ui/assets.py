"""Of which deliverables a person may not read every asset: asked one by one, where the auth manager tells assets apart.

Airflow has no question about many assets at once. Its simple auth manager and FAB's know a right to assets in general alone,
which each route demands before; others are handed the id of each asset of ours, and what they say is kept for a minute: an
open page asks every two seconds, and a manager may have to ask another server.
"""

from __future__ import annotations

import time
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AssetDetails
from airflow.models.asset import AssetModel
from sqlalchemy import func, select
from sqlalchemy.orm import Session

#: Where managers are at home that do not look at which asset is asked for.
_IN_GENERAL = ("airflow.api_fastapi.auth.managers.simple.", "airflow.providers.fab.")
_OURS = "pipeops://"
_KEPT_SECONDS = 60.0
#: By person and newest asset, what was said, and when.
_SAID: dict[tuple[str, int], tuple[frozenset[str], float]] = {}


def closed(user: Any, session: Session) -> frozenset[str]:
    """Name the deliverables that have an asset which a person may not read.

    :param user: the person.
    :param session: of Airflow's database; an asset that it knows no more closes nothing.
    :return: their names.
    """
    manager = get_auth_manager()
    if type(manager).is_authorized_asset.__module__.startswith(_IN_GENERAL):
        return frozenset()
    key = (str(user.get_id()), session.scalar(select(func.max(AssetModel.id))) or 0)
    said = _SAID.get(key)
    if said is None or said[1] < time.monotonic() - _KEPT_SECONDS:
        if len(_SAID) >= 1000:
            _SAID.clear()
        said = _SAID[key] = (_asked(manager, user, session), time.monotonic())
    return said[0]


def _asked(manager: Any, user: Any, session: Session) -> frozenset[str]:
    found: set[str] = set()
    for ident, uri in session.execute(
        select(AssetModel.id, AssetModel.uri).where(AssetModel.uri.startswith(_OURS))
    ):
        name = uri.removeprefix(_OURS).partition("/")[0]
        if name not in found and not manager.is_authorized_asset(
            method="GET", details=AssetDetails(id=str(ident)), user=user
        ):
            found.add(name)
    return frozenset(found)
