"""What was measured, as series: what is held against what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_pipeops.delivery.queries.timeline import performance
from airflow_pipeops.delivery.records import Record
from tests.ledgers import entries, indexed, record


def test_a_performance_is_held_against_the_level_that_was_agreed_and_a_guard_measures_none(
    tmp_path: Path,
) -> None:
    def measured(minutes: float, value: float, **body: Any) -> Record:
        return record(
            "evaluation", {"metric": "auc", "value": value, "reference": 0.6, **body}, minutes=minutes
        )

    first, alone = measured(1, 0.65), measured(3, 0.66, subject="performance")
    decision = record("decision", {"action": "hold", "policy": {"target": 0.7}}, first, minutes=2)
    free = record("decision", {"action": "hold", "policy": {"target": None}}, alone, minutes=4)
    guard = measured(5, -0.07, subject="guard")
    challenger = measured(6, 0.8, promote=True)
    ledger = indexed(tmp_path / "index.db", entries([first, decision, alone, free, guard, challenger]))
    (series,) = performance(ledger, "delay-api")
    assert (series.name, [(one.value, one.threshold) for one in series.points]) == (
        "auc",
        [(0.65, 0.7), (0.66, 0.6)],
    )
    ledger.close()
