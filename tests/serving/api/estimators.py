"""Models that behave badly, and servers for them within the test's process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor

from airflow_pipeops.models.artifact import Loaded, Manifest
from airflow_pipeops.serving.api.server import Service, application
from airflow_pipeops.serving.api.settings import Role, Served

MODULE = "tests.serving.api.estimators"
FEATURES = {"x": "FP64"}
LABELS = ("model", "version", "sha256", "role", "outcome", "reason")


class Gated(BaseEstimator):
    """Predicts once a file is there, and says by another one that it has begun."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def predict(self, frame: Any) -> Any:
        """Wait, and give zeros."""
        Path(self.folder, "began").touch()
        while not Path(self.folder, "go").exists():
            time.sleep(0.01)
        return np.zeros(len(frame))


class Dying(BaseEstimator):
    """Takes its process with it."""

    def __init__(self, status: int = 3) -> None:
        self.status = status

    def predict(self, frame: Any) -> Any:
        """End."""
        os._exit(self.status)


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    while not path.exists():
        time.sleep(0.01)


@contextmanager
def running(service: Service) -> Iterator[httpx.Client]:
    """Serve within this process, over real HTTP; the service is closed at the end."""
    config = uvicorn.Config(application(service), host="127.0.0.1", port=0, log_level="critical")
    listening = config.bind_socket()
    listening.listen()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=120) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        service.close()


def constant(value: float, name: str, version: str, role: Role = "default") -> tuple[Loaded, Served]:
    """A model that always says the same."""
    digest = f"{int(value):064x}"
    model = DummyRegressor(strategy="constant", constant=value).fit([[0.0]], [value])
    return Loaded(model, Manifest(name, FEATURES), digest), Served(name, version, "none", digest, role)


def figures(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Name and labels of each figure -> its value."""
    return {
        (sample.name, *(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
