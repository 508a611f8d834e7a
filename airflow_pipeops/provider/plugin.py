"""The Airflow plugin: what Airflow must know beyond the provider metadata."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_pipeops.provider import notes
from airflow_pipeops.ui.views import VIEWS


class PipeOpsPlugin(AirflowPlugin):
    """Registers PipeOps with Airflow, and mounts its routes in the API server."""

    name = "pipeops"
    listeners = [notes]
    external_views = VIEWS

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The application, imported by the API server alone: schedulers and workers load plugins too."""
        from airflow_pipeops.ui.app import PREFIX, app

        return [{"app": app, "url_prefix": PREFIX, "name": "PipeOps"}]
