"""One attempt of a release task, in a process of its own, which a test kills where it likes."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any


def main(given: dict[str, Any]) -> None:
    """Run the task."""
    from airflow_pipeops.deploy.helm.operators import HelmReleaseOperator

    operator = HelmReleaseOperator(
        task_id="task", release="web", namespace="shop", kubernetes_conn_id="cluster", deferrable=False,
        timeout=timedelta(seconds=120), settle=timedelta(0), poll_interval=timedelta(milliseconds=20),
        helm_timeout=timedelta(seconds=60), chart="./web", git_conn_id="charts", **given,
    )  # fmt: skip
    ti = SimpleNamespace(dag_id="dag", run_id="run-1", task_id="task", map_index=-1)
    context: Any = {"ti": ti}
    operator.execute(context)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
