"""Rows are split by time, and not by how a time is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.times import after, latest
from airflow_pipeops.models.training import split


def frame(times: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"at": times, "number": range(len(times))}).sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    "written",
    [
        lambda at: f"{at:%Y-%m-%d}T{at:%H:%M}{['Z', '+00:00'][at.hour % 2]}",
        # In the east the same instants have later clocks: as texts they would come last.
        lambda at: str(at.tz_localize("UTC").tz_convert(["Asia/Tokyo", "America/New_York"][at.hour % 2])),
        lambda at: at.isoformat() if at.hour else f"{at:%Y-%m-%d}",
        lambda at: at,
        lambda at: at.tz_localize("UTC"),
        lambda at: at.timestamp(),
        lambda at: at.date(),
    ],
)
def test_nothing_of_a_later_time_is_learned_from(written: Any) -> None:
    hours = pd.date_range("2026-01-01", periods=480, freq="h")
    earlier, tail = split(frame([written(at) for at in hours]), 0.25, "at")
    assert earlier.number.max() < tail.number.min()
    assert len(earlier) == 360
    assert sorted([*earlier.number, *tail.number]) == list(range(480))


def test_texts_whose_order_is_another_are_refused() -> None:
    days = pd.date_range("2025-06-01", periods=200)
    for pattern, said in (
        ("%d.%m.%Y", "are no times"),
        ("%m/%d/%Y", "are no times"),
        ("day %j", "are no times"),
    ):
        with pytest.raises(InvalidInput, match=said) as caught:
            split(frame([day.strftime(pattern) for day in days]), 0.25, "at")
        assert (caught.value.field, caught.value.value) == ("time_column", "at")
        assert "2026-01-31" in caught.value.remedy
    with pytest.raises(InvalidInput, match="1 rows without a time"):
        split(frame([None, *days[1:]]), 0.25, "at")
    with pytest.raises(InvalidInput, match="with and without a zone"):
        split(frame([f"{day:%Y-%m-%dT%H:%M}{'Z' * (n % 2)}" for n, day in enumerate(days)]), 0.25, "at")


def test_equal_times_stay_together() -> None:
    days = np.repeat([f"2026-01-{day:02}" for day in range(1, 11)], 30)
    earlier, tail = split(frame(list(days)), 0.25, "at")
    assert (set(earlier["at"]) & set(tail["at"]), len(tail)) == (set(), 90)


@pytest.mark.parametrize(
    ("seen", "held_out", "later"),
    [
        (["2026-01-01", "2026-01-03"], ["2026-01-04"], True),
        (["2026-01-01", "2026-01-03"], ["2026-01-03", "2026-01-04"], False),
        (["2026-01-01T10:00Z"], ["2026-01-01T12:00+01:00"], True),
        (["2026-01-01T10:00Z"], ["2026-01-01T10:30+01:00"], False),
        ([1, 2], [3, 4], True),
        ([1.5, 2.5], [2.5], False),
        (["2026-01-01T10:00Z"], ["2026-01-02T10:00"], None),
        (["2026-01-01"], [7], None),
    ],
)
def test_rows_that_come_after_what_was_learned_from(seen: list[Any], held_out: list[Any], later: Any) -> None:
    assert after(pd.Series(held_out), "at", latest(pd.Series(seen), "at")) is later
