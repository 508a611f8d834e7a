"""Airflow's simple access control, with one person who may not read one DAG: it knows no such rights itself."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

#: Who may not read which DAG.
NARROW, OTHERS = "narrow", "other_team"


class PerDag(SimpleAuthManager):
    """As it is, but for that person and that DAG."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **given: Any) -> bool:
        if user.username == NARROW and details is not None and details.id == OTHERS:
            return False
        return super().is_authorized_dag(user=user, details=details, **given)
