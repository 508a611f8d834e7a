"""What a DAG file pays for these operators."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from tests.forked import run_text

_PROGRAM = """
import json, sys, time
from airflow.sdk import DAG, Asset, AssetWatcher, BaseOperator, BaseHook, task
import airflow.triggers.base
before, begun = set(sys.modules), time.process_time()
from airflow_pipeops import {names}
spent = time.process_time() - begun
came = sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})
open("found", "w", encoding="utf-8").write(json.dumps([spent, came]))
"""


@pytest.mark.parametrize(
    "names",
    [
        "ArgoWorkflowFailedTrigger, ArgoWorkflowOperator, ArgoWorkflowSensor",
        "BuildImageOperator, RunTestsOperator",
    ],
)
def test_the_operators_are_light(names: str, tmp_path: Path) -> None:
    """No client comes along; 0.3 s of the processor, which a busy machine does not lengthen much."""
    seconds = []
    for _ in range(3):
        assert run_text(_PROGRAM.format(names=names), tmp_path) is None
        spent, came = json.loads((tmp_path / "found").read_text())
        assert not {"argo_workflows", "httpx", "kubernetes", "urllib3", "yaml"} & set(came)
        seconds.append(spent)
    assert min(seconds) < 0.3, statistics.median(seconds)
