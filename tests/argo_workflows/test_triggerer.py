"""Airflow's own triggerer: many workflows on one stream, killed in the middle, and none told twice or lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.argo_workflows.clients.protocol import WorkflowRef
from airflow_pipeops.argo_workflows.rules import Goal
from airflow_pipeops.argo_workflows.triggers import ArgoWorkflowTrigger
from airflow_pipeops.argo_workflows.waits import WorkflowWait
from tests.argo_workflows.running import MANIFEST, until
from tests.argo_workflows.server import ArgoServer
from tests.argocd.triggerer import Triggerer

CONNECTION = "argo_workflows_default"


def waiting(argo: ArgoServer, name: str, namespace: str = "argo") -> ArgoWorkflowTrigger:
    uid = argo.submit({**MANIFEST, "metadata": {"name": name}}, namespace)["metadata"]["uid"]
    argo.begin(name, namespace)
    wait = WorkflowWait(WorkflowRef(name, namespace, uid), Goal(uid=uid, timeout=600.0))
    return ArgoWorkflowTrigger(
        argo_workflows_conn_id=CONNECTION,
        namespace=namespace,
        wait=wait.to_json(),
        poll_interval=5.0,
        dwell=0.0,
    )


def outcomes(triggerer: Triggerer) -> dict[str, Any]:
    """Return the state of each wait that was told, by the number of its row."""
    found: dict[str, Any] = {}
    for number, payload, _ in triggerer.events:
        assert str(number) not in found, f"row {number} was told twice"
        found[str(number)] = payload["decided"]["verdict"]["state"]
    return found


def triggerer_of(argo: ArgoServer, folder: Path) -> Triggerer:
    connection = {"conn_type": "argo_workflows", "host": argo.url, "password": "token"}
    return Triggerer(folder, {CONNECTION: connection}, pace={"arrival": 1.0})


@pytest.mark.timeout(300)
def test_two_hundred_waits_in_two_namespaces_share_two_streams(argo: ArgoServer, tmp_path: Path) -> None:
    triggerer = triggerer_of(argo, tmp_path)
    try:
        for at in range(100):
            for namespace in ("argo", "other"):
                triggerer.add(waiting(argo, f"w{at}", namespace))
        triggerer.start()
        triggerer.until(lambda: argo.open_events == 2, 120)
        for at in range(50):
            for namespace in ("argo", "other"):
                argo.finish(f"w{at}", "Succeeded" if at % 2 else "Failed", namespace=namespace)
        triggerer.until(lambda: len(triggerer.events) == 100, 120)
        triggerer.kill()
        # Some end while nobody looks.
        for at in range(50, 100):
            for namespace in ("argo", "other"):
                argo.finish(f"w{at}", namespace=namespace)
        until(lambda: argo.open_events == 0)
        triggerer.start()
        triggerer.until(lambda: len(triggerer.events) == 200, 120)
    finally:
        triggerer.stop()
    states = list(outcomes(triggerer).values())
    assert (states.count("done"), states.count("failed")) == (150, 50)
    assert argo.most_events == 2
    assert triggerer.failures == []


@pytest.mark.timeout(300)
def test_a_server_that_goes_away_ends_no_wait(argo: ArgoServer, tmp_path: Path) -> None:
    triggerer = triggerer_of(argo, tmp_path)
    try:
        for at in range(3):
            triggerer.add(waiting(argo, f"w{at}"))
        triggerer.start()
        triggerer.until(lambda: argo.open_events == 1, 120)
        argo.finish("w0")
        triggerer.until(lambda: len(triggerer.events) == 1)
        argo.stop()
        argo.start()
        argo.finish("w1")
        triggerer.until(lambda: len(triggerer.events) == 2, 120)
        argo.stream_error = {"grpc_code": 8, "http_code": 429, "message": "EOF"}
        argo.cut()
        argo.finish("w2", "Error")
        triggerer.until(lambda: len(triggerer.events) == 3, 120)
    finally:
        triggerer.stop()
    assert list(outcomes(triggerer).values()) == ["done", "done", "failed"]
