"""Killed at any line, an attempt leaves nothing that readers could mistake; the next one leaves one output."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.demo import flights
from airflow_pipeops.serving.batch.scoring import Order
from tests.mortal import HERE
from tests.serving.batch.conftest import partition

SCRIPT = Path(__file__).with_name("killed.py")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [15, pytest.param(100, marks=pytest.mark.nightly)])
def test_whenever_it_is_killed_there_is_one_output(
    kills: int, ordered: Callable[..., Order], tmp_path: Path
) -> None:
    small = flights.write(partition(2, 300), tmp_path / "data" / "small.parquet")
    (tmp_path / "order.json").write_text(json.dumps(ordered(data=str(small)).to_json()))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(kills)],
        capture_output=True,
        text=True,
        check=False,
        env=HERE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["whole"] == {**found["whole"], "parquet": 1, "manifests": 1, "history": 1, "shown": True}
    assert len(found["outcomes"]) == kills
    for one in found["outcomes"]:
        assert (one["status"], one["again"], one["half"], one["same"]) == (-9, 0, False, True), one
