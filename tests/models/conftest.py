"""A trained model on a small sample of the real data, its stored parts, connections, and a real server process."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from airflow_pipeops.demo import flights
from airflow_pipeops.models import artifact
from tests.once import mlflow_database
from tests.warm import Warm, programs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """A sample of January."""
    return flights.features(flights.month(1, 1500))


@pytest.fixture(scope="session")
def fitted(table: pd.DataFrame) -> Any:
    """A model of it."""
    return flights.train(table, 0)


@pytest.fixture(scope="session")
def stored(table, fitted, tmp_path_factory) -> artifact.Stored:
    """The model as an artifact."""
    manifest = artifact.Manifest(
        "flight-delay", artifact.features_of(table, flights.FEATURES), flights.TARGET, {"auc": 0.6}
    )
    return artifact.save(fitted, manifest, tmp_path_factory.mktemp("artifacts"))


@pytest.fixture
def connections(monkeypatch, tmp_path) -> Callable[..., None]:
    """Set Airflow connections by the environment; a registry and a store are there."""

    def add(conn_id: str, conn_type: str, host: str, **fields: Any) -> None:
        import json

        monkeypatch.setenv(
            f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": conn_type, "host": host, **fields})
        )

    add("mlflow_default", "mlflow", mlflow_database(tmp_path))
    add("pipeops_artifacts", "pipeops_storage", f"file://{tmp_path}/store")
    return add


@pytest.fixture(scope="session")
def mlflow_python() -> Iterator[str]:
    """A program that runs as Python does, in a fork of one that has loaded MLflow and Airflow's tasks."""
    warm = Warm(os.environ, ("airflow.sdk", "mlflow.store.tracking.sqlalchemy_store", "psycopg2"))
    yield warm.command()
    warm.stop()


class Server:
    """A model server in its own process."""

    def __init__(self, stored: artifact.Stored, **environment: str) -> None:
        settings = {
            "MODEL_URI": stored.uri,
            "MODEL_SHA256": stored.sha256,
            "MODEL_NAME": "flight-delay",
            "MODEL_VERSION": "3",
            "PORT": "0",
            **environment,
        }
        self.process = subprocess.Popen(
            [programs().command(), "-m", "airflow_pipeops.serving.api.server"],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self) -> str:
        """Wait for the line that names the address, and return that."""
        killer = threading.Timer(240, self.process.kill)
        killer.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        killer.cancel()
        assert "http://" in line, self.process.stderr.read() if self.process.stderr else ""
        return "http://" + line.partition("http://")[2].partition(",")[0]

    def stop(self) -> int:
        """End it as Kubernetes does."""
        self.process.terminate()
        status = self.process.wait(30)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return status


@pytest.fixture(scope="session")
def served(stored) -> Iterator[httpx.Client]:
    """A client of a running server."""
    server = Server(stored, MODEL_MAX_BYTES="200000")
    try:
        with httpx.Client(base_url=server.wait_ready(), timeout=20) as client:
            yield client
    finally:
        server.stop()
