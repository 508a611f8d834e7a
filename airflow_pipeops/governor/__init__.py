"""When to retrain: a pure decision over what was observed, batch by batch, under the numbers that people agreed on."""

from __future__ import annotations

from airflow_pipeops.governor.decision import Decision, decide, decided
from airflow_pipeops.governor.history import (
    ACTIONS,
    HOLD,
    INVESTIGATE,
    RETRAIN,
    ROLLBACK,
    Observation,
    deduplicated,
)
from airflow_pipeops.governor.policy import ACT, MODES, OBSERVE, PROPOSE, RetrainPolicy

__all__ = [
    "ACT",
    "ACTIONS",
    "HOLD",
    "INVESTIGATE",
    "MODES",
    "OBSERVE",
    "PROPOSE",
    "RETRAIN",
    "ROLLBACK",
    "Decision",
    "Observation",
    "RetrainPolicy",
    "decide",
    "decided",
    "deduplicated",
]
