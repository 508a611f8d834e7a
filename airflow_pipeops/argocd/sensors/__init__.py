"""Wait for Argo CD applications: until a revision is live and healthy, or for as long as a release must prove itself."""

from __future__ import annotations

from airflow_pipeops.argocd.sensors.app import ArgoCDAppSensor
from airflow_pipeops.argocd.sensors.steady import ArgoCDSteadySensor

__all__ = ["ArgoCDAppSensor", "ArgoCDSteadySensor"]
