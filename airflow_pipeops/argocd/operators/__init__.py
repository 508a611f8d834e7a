"""Act on an Argo CD application: one operator per act, each safe to try again."""

from __future__ import annotations

from airflow_pipeops.argocd.operators.sync import ArgoCDSyncOperator

__all__ = ["ArgoCDSyncOperator"]
