"""How well predictions did: by labels that come late, or by an estimate without any."""

from __future__ import annotations

from airflow_pipeops.models.performance.metrics import METRICS, Performance, measure, rarest

__all__ = ["METRICS", "Performance", "measure", "rarest"]
