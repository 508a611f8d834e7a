"""What a DAG file pays for the cluster: nothing, until a task runs there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import airflow.sdk
from airflow.sdk import BaseOperator, BaseHook
before = set(sys.modules)
from airflow_pipeops import {name}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = (
    "kubernetes",
    "kubernetes_asyncio",
    "airflow.providers.cncf",
    "airflow_pipeops.build.cluster.backends",
    "httpx",
)


@pytest.mark.parametrize("name", ["BuildImageOperator", "RunTestsOperator", "RecordedPod"])
def test_a_dag_file_imports_no_client_of_a_cluster(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)], capture_output=True, text=True, check=True
    )
    came = json.loads(done.stdout.splitlines()[-1])
    assert [module for module in came if module.startswith("airflow_pipeops.")]
    assert [module for module in came if module.startswith(HEAVY)] == []
