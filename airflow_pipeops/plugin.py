"""The Airflow plugin: what Airflow must know beyond the provider metadata."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class PipeOpsPlugin(AirflowPlugin):
    """Registers PipeOps with Airflow, so that it is listed under *Admin - Plugins*."""

    name = "pipeops"
