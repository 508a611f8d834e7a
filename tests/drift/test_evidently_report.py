"""Evidently's page about two samples, and what it would pass over in silence: here it is a finding, or it is compared."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.drift import engine
from airflow_pipeops.drift.columns import wanted
from airflow_pipeops.drift.evidently_report import page
from airflow_pipeops.drift.sources import Frame
from airflow_pipeops.exceptions import InvalidInput


def verdicts(left: pd.DataFrame, right: pd.DataFrame) -> dict[str, str]:
    return {item.column: item.verdict for item in engine.compare(Frame(left), Frame(right)).columns}


def test_the_page_shows_the_verdict_and_every_column(winter: pd.DataFrame, summer: pd.DataFrame) -> None:
    found = page(winter[["temp", "origin"]], summer[["temp", "origin"]], "It <drifted>.")
    assert "<b>It &lt;drifted&gt;.</b>" in found
    assert "<title>It &lt;drifted&gt;.</title>" in found.partition("<body>")[0]
    assert found.partition("<body>")[0].count("<title>") == 1  # its scripts speak of titles too
    assert f"a sample of {len(winter):,} and {len(summer):,} rows" in found
    assert "<html" in found[:2000].lower()
    for column in ("temp", "origin"):
        assert f"Drift in column '{column}'" in found or column in found


def test_a_column_that_evidently_cannot_plot_does_not_end_the_page(winter: pd.DataFrame) -> None:
    odd = winter.assign(list=[[1]] * len(winter))
    assert "temp" in page(odd[["temp", "list"]], odd[["temp", "list"]], "Fine.")
    assert page(odd[["list"]], odd[["list"]], "Fine.") == ""


@pytest.mark.parametrize(
    "dtype", ["Int64", "uint8", "Float64", "float32", "boolean", "category", "object", "double[pyarrow]"]
)
def test_no_type_is_left_out_in_silence(dtype: str) -> None:
    generator = np.random.default_rng(0)
    left = pd.Series(generator.integers(0, 2 if dtype == "boolean" else 50, 500))
    right = pd.Series(np.full(500, 1))
    found = verdicts(pd.DataFrame({"x": left.astype(dtype)}), pd.DataFrame({"x": right.astype(dtype)}))
    assert found == {"x": "drift"}


def test_dates_decimals_and_durations_are_numbers() -> None:
    days = pd.date_range("2013-01-01", periods=300)
    left = pd.DataFrame(
        {
            "at": days,
            "day": days.date,
            "price": [decimal.Decimal(n) for n in range(300)],
            "took": days - days[0],
        }
    )
    right = left.assign(at=days + pd.Timedelta(days=400), day=(days + pd.Timedelta(days=400)).date)
    assert verdicts(left, right) == {"at": "drift", "day": "drift", "price": "no drift", "took": "no drift"}


def test_columns_by_import_path() -> None:
    assert wanted("airflow_pipeops.drift.columns:KINDS") == {"numerical": "", "categorical": ""}
    assert wanted(None) is None
    with pytest.raises(InvalidInput, match="cannot be imported"):
        wanted("airflow_pipeops.drift.columns:NOTHING")
    with pytest.raises(InvalidInput, match="not an import path"):
        wanted("temp")
    with pytest.raises(InvalidInput, match="is not understood"):
        wanted({"temp": "embedding"})
    with pytest.raises(InvalidInput, match="names no column"):
        wanted([])


def test_names_and_values_of_data_are_texts_in_the_page(winter: pd.DataFrame) -> None:
    hostile = "</script><script>alert(1)</script>"
    left = pd.DataFrame({hostile: winter["temp"], "origin": winter["origin"].astype(str) + hostile})
    found = page(left, left, "Fine.")
    assert "alert(1)" in found
    assert "<script>alert" not in found
    assert "</script><script>alert" not in found
    # Two names that look alike afterwards are two columns.
    twins = pd.DataFrame({"a<": winter["temp"], "a\u2039": winter["temp"]})
    assert "a\\u2039 (2)" in page(twins, twins, "Fine.") or "a\u2039 (2)" in page(twins, twins, "Fine.")
