"""What a DAG file pays for these operators."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

_PROGRAM = """
import json, sys, time
from airflow.sdk import DAG, Asset, AssetWatcher, BaseOperator, BaseHook, task
import airflow.triggers.base
before, begun = set(sys.modules), time.process_time()
from airflow_pipeops import {names}
spent = time.process_time() - begun
print(json.dumps([spent, sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})]))
"""


@pytest.mark.parametrize(
    "names",
    [
        "ArgoWorkflowFailedTrigger, ArgoWorkflowOperator, ArgoWorkflowSensor",
        "BuildImageOperator, RunTestsOperator",
    ],
)
def test_the_operators_are_light(names: str) -> None:
    """No client comes along; 0.3 s of the processor, which a busy machine does not lengthen much."""
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM.format(names=names)], capture_output=True, text=True, check=True
        )
        spent, came = json.loads(done.stdout.splitlines()[-1])
        assert not {"argo_workflows", "httpx", "kubernetes", "urllib3", "yaml"} & set(came)
        seconds.append(spent)
    assert min(seconds) < 0.3, statistics.median(seconds)
