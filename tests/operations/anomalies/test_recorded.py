"""Values of deliveries, made of their records."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_pipeops.operations.anomalies.recorded import values_of
from tests.ledgers import at, record


@pytest.mark.parametrize(
    ("change", "lead"),
    [
        ({"commit": "r2"}, [1200.0]),
        ({"commit": "r2", "reverts": "r1"}, []),
        ({"commit": "r2", "reverts": None, "order": "o"}, []),
    ],
    ids=["delivered", "reverted", "a model that came back"],
)
def test_what_came_back_took_no_lead_time(change: dict[str, Any], lead: list[float]) -> None:
    commit = record("commit", {"commit": "c", "time": at(0)}, minutes=1)
    model = record("model", {"version": "1"}, commit, minutes=2)
    made = record("change", change, model, environment="production", minutes=19)
    release = record("release", {"revision": "r2"}, made, environment="production", minutes=20)
    found = values_of([commit, model, made, release], "team")
    assert [point.value for name, point in found if name.kind == "lead"] == lead
