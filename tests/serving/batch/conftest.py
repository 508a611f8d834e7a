"""A partition of real flights, models that learned from January, and orders to score it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

# Set before scikit-learn is loaded: on a busy machine its threads wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

from airflow_pipeops.demo import flights
from airflow_pipeops.models import artifact, storage
from airflow_pipeops.serving.batch.manifest import Pinned
from airflow_pipeops.serving.batch.scoring import Order, score
from tests.models.conftest import connections, fitted, table

__all__ = ["connections", "fitted", "table"]

JANUARY = "2026-01-01T00:00:00+00:00"


def partition(month: int, rows: int) -> pd.DataFrame:
    """Flights of a month, each with a number of its own."""
    found = flights.month(month, rows)
    return found.assign(flight=np.arange(len(found)) + 1_000_000 * month)


def pinned(model: Any, table: pd.DataFrame, root: Path, version: str, **more: str) -> Pinned:
    """Store a model, and name its version."""
    manifest = artifact.Manifest(
        "flight-delay",
        artifact.features_of(table, flights.FEATURES),
        flights.TARGET,
        {"number": float(version)},
    )
    found = artifact.save(model, manifest, root)
    return Pinned("flight-delay", version, found.sha256, found.uri, **{"pinned_at": JANUARY, **more})


@pytest.fixture(scope="session")
def champion(table: pd.DataFrame, fitted: Any, tmp_path_factory: pytest.TempPathFactory) -> Pinned:
    """The version that is promoted."""
    return pinned(fitted, table, tmp_path_factory.mktemp("champion"), "1")


@pytest.fixture(scope="session")
def challenger(tmp_path_factory: pytest.TempPathFactory) -> Pinned:
    """A version that learned from other flights."""
    table = flights.features(flights.month(6, 1500))
    return pinned(flights.train(table, 1), table, tmp_path_factory.mktemp("challenger"), "2")


@pytest.fixture
def february(tmp_path: Path) -> Path:
    """A partition of 3,000 flights, as a file."""
    return flights.write(partition(2, 3000), tmp_path / "data" / "2013-02.parquet")


@pytest.fixture
def ordered(champion: Pinned, february: Path) -> Callable[..., Order]:
    """Make an order."""

    def make(**more: Any) -> Order:
        given: dict[str, Any] = {
            "partition": "2013-02",
            "data": str(february),
            "model": champion,
            "key": ("flight",),
        }
        return Order(**{**given, **more})

    return make


@pytest.fixture
def run(ordered: Callable[..., Order], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Carry an order out."""

    def act(**more: Any) -> dict[str, Any]:
        return score(ordered(**more), tmp_path / "store", print)

    return act


def lines(facts: dict[str, Any]) -> pd.DataFrame:
    """Read what an order has put in place, by its manifest."""
    from airflow_pipeops.serving.batch.manifest import Manifest

    manifest = Manifest.from_bytes(storage.get(facts["manifest"]), facts["manifest"])
    folder = storage.at(facts["manifest"].rpartition("/")[0])
    return pd.concat([pd.read_parquet(folder / part.name) for part in manifest.parts], ignore_index=True)
