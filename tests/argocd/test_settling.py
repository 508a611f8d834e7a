"""A release is told when its health has settled, and not a minute later: in each way, in Airflow's own triggerer.

That of automatic synchronisation through the Kubernetes API is in ``test_core_triggerer.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.settling import measure

WAYS = ["by hand, Kubernetes", "by hand, REST", pytest.param("auto, REST", marks=pytest.mark.nightly)]


@pytest.mark.parametrize("way", WAYS)
def test_little_is_added_to_the_settle_window(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ARGOCD_DEFAULT", "")  # so that it is as before afterwards
    found = measure(way, 1, 5.0, "auto", tmp_path)
    # The benchmark says how much it is. A machine may be slow, and not so slow that the gate for refreshes, which opens
    # again after a minute, would let through what was asked for at the wrong moment.
    assert -1.0 <= found["worst"] < 40.0
