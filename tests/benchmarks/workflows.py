"""Two hundred workflows in one triggerer: requests, streams and memory, by one stream and by a poll per wait.

Each way runs in a real TriggerRunner of Airflow in a process of its own; the part of Airflow's supervisor is played. The
server is the one of the tests, in this process. The figures of a way: ``streams`` (most at once), ``requests`` while nothing
happens and over the whole life of all waits, ``kb_per_wait`` (resident memory with all waits over that of a runner without
any), ``latency`` from the end of a workflow to the event at the supervisor.

Run: python tests/benchmarks/workflows.py [--waits 200] [--quiet 30] [--ways shared poll]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from airflow_pipeops.argo_workflows.clients.protocol import WorkflowRef
from airflow_pipeops.argo_workflows.rules import Goal
from airflow_pipeops.argo_workflows.triggers import ArgoWorkflowTrigger
from airflow_pipeops.argo_workflows.waits import WorkflowWait
from tests.argo_workflows.running import MANIFEST
from tests.argo_workflows.server import ArgoServer, serving_argo
from tests.argocd.triggerer import Triggerer


class PollingTrigger(ArgoWorkflowTrigger):
    """Each wait looks for itself."""

    def shared_stream_key(self) -> None:
        """Share nothing."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments; a triggerer does not know this program as its main module."""
        return "tests.benchmarks.workflows.PollingTrigger", super().serialize()[1]


WAYS: dict[str, type[ArgoWorkflowTrigger]] = {"shared": ArgoWorkflowTrigger, "poll": PollingTrigger}


def memory(pid: int) -> int:
    """Return the resident memory of a process in kB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def measured(argo: ArgoServer, way: type[ArgoWorkflowTrigger], waits: int, quiet: float) -> dict[str, Any]:
    """Wait for workflows in one way."""
    connection = {"conn_type": "argo_workflows", "host": argo.url, "password": "token"}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        triggerer = Triggerer(Path(folder), {"argo_workflows_default": connection})
        triggerer.start()
        triggerer.until(lambda: triggerer.asked["TriggerStateChanges"] > 3, 120)
        empty = memory(triggerer.pid)
        names = [f"{way.__name__.lower()}-{at}" for at in range(waits)]
        for name in names:
            uid = argo.submit({**MANIFEST, "metadata": {"name": name}})["metadata"]["uid"]
            argo.begin(name)
            wait = WorkflowWait(WorkflowRef(name, "argo", uid), Goal(uid=uid, timeout=3600.0))
            triggerer.add(
                way(
                    argo_workflows_conn_id="argo_workflows_default",
                    namespace="argo",
                    wait=wait.to_json(),
                    dwell=0,
                )
            )
        before = len(argo.requests)
        triggerer.until(lambda: len(triggerer.rows) == len(triggerer._given) == waits, 120)
        time.sleep(10)
        settled = len(argo.requests)
        time.sleep(quiet)
        found["requests_while_quiet"] = len(argo.requests) - settled
        found["kb_per_wait"] = round((memory(triggerer.pid) - empty) / waits, 1)
        found["streams"] = argo.most_events
        ended = {}
        for name in names:
            argo.finish(name)
            ended[name] = time.monotonic()
        triggerer.until(lambda: len(triggerer.events) == waits, 300)
        numbers = {number: name for number, name in enumerate(names, 1)}
        late = [at - ended[numbers[number]] for number, _, at in triggerer.events]
        found["requests"] = len(argo.requests) - before
        found["latency_median"] = round(statistics.median(late), 2)
        found["latency_worst"] = round(max(late), 2)
        triggerer.stop()
    return found


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waits", type=int, default=200)
    parser.add_argument("--quiet", type=float, default=30.0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    for name in given.ways:
        with serving_argo() as argo:
            print(json.dumps({name: measured(argo, WAYS[name], given.waits, given.quiet)}), flush=True)


if __name__ == "__main__":
    main()
