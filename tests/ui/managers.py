"""Airflow's simple access control, with people who may not read one DAG, or one asset: it knows no such rights itself."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.models.asset import AssetModel
from airflow.utils.session import create_session

#: Who may not read which DAG.
NARROW, OTHERS = "narrow", "other_team"
#: Who may not read which asset.
NARROWER, THEIRS = "narrower", "pipeops://judged/evaluation"


class PerDag(SimpleAuthManager):
    """As it is, but for these people, that DAG and that asset."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **given: Any) -> bool:
        if user.username == NARROW and details is not None and details.id == OTHERS:
            return False
        return super().is_authorized_dag(user=user, details=details, **given)

    def is_authorized_asset(self, *, user: Any, details: Any = None, **given: Any) -> bool:
        if user.username == NARROWER and details is not None and details.id is not None:
            with create_session() as session:
                if session.get(AssetModel, int(details.id)).uri == THEIRS:
                    return False
        return super().is_authorized_asset(user=user, details=details, **given)
