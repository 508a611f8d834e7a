"""The comparison with the real Evidently, on real weather, and what Evidently would pass over in silence."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.drift.columns import wanted
from airflow_pipeops.drift.evidently_report import compare
from airflow_pipeops.exceptions import InvalidInput

LIST_OF_COLUMNS = ["temp", "humid"]


def verdicts(found) -> dict[str, str]:
    return {item.column: item.verdict for item in found.columns}


def test_scores_are_those_of_the_evidently_preset(winter: pd.DataFrame, summer: pd.DataFrame) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    found = compare(winter, summer)
    numerical = [name for name in winter.columns if name != "origin"]
    definition = DataDefinition(numerical_columns=numerical, categorical_columns=["origin"])
    current, reference = (Dataset.from_pandas(side, data_definition=definition) for side in (summer, winter))
    metrics = Report([DataDriftPreset()]).run(current, reference).dict()["metrics"]

    counted = metrics[0]["value"]
    assert sum(item.drifted for item in found.columns) == counted["count"]
    assert found.share == pytest.approx(counted["share"])
    theirs = {metric["config"]["column"]: metric["value"] for metric in metrics[1:]}
    assert {item.column: item.score for item in found.columns} == pytest.approx(theirs, abs=1e-6)
    assert found.drifted
    assert "<html" in found.html[:2000].lower()


def test_the_same_season_does_not_drift(winter: pd.DataFrame) -> None:
    half = winter.sample(frac=0.5, random_state=1)
    found = compare(winter.drop(half.index), half)
    assert found.share < 0.2
    assert not found.drifted


def test_what_changed_in_the_schema_is_a_finding(winter: pd.DataFrame, summer: pd.DataFrame) -> None:
    current = summer.drop(columns="visib").assign(
        pressure=np.nan, wind_speed=summer.wind_speed.astype(str), gust=1.0, humid=summer.humid
    )
    found = compare(winter, current)
    said = verdicts(found)
    assert said["visib"] == "missing"
    assert said["gust"] == "extra"
    assert said["pressure"] == "all null"
    assert said["wind_speed"] == "retyped"
    assert said["temp"] == "drift"
    assert [item.column for item in found.broken] == ["wind_speed", "pressure", "visib"]
    assert found.drifted
    assert not next(item for item in found.columns if item.column == "gust").drifted


def test_a_missing_column_alone_makes_the_batch_drifted(winter: pd.DataFrame) -> None:
    found = compare(winter, winter.drop(columns="visib"))
    assert found.share == pytest.approx(1 / 8)
    assert found.drifted


@pytest.mark.parametrize(
    "dtype", ["Int64", "uint8", "Float64", "float32", "boolean", "category", "object", "double[pyarrow]"]
)
def test_no_type_is_left_out_in_silence(dtype: str) -> None:
    generator = np.random.default_rng(0)
    left = pd.Series(generator.integers(0, 2 if dtype == "boolean" else 50, 500))
    right = pd.Series(np.full(500, 1))
    found = compare(pd.DataFrame({"x": left.astype(dtype)}), pd.DataFrame({"x": right.astype(dtype)}))
    assert verdicts(found) == {"x": "drift"}


def test_dates_decimals_and_durations_are_numbers(winter: pd.DataFrame) -> None:
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
    assert verdicts(compare(left, right)) == {
        "at": "drift",
        "day": "drift",
        "price": "no drift",
        "took": "no drift",
    }


def test_what_cannot_be_compared_is_said(winter: pd.DataFrame) -> None:
    many = [f"id-{number}" for number in range(2000)]
    left = pd.DataFrame({"x": range(2000), "id": many, "list": [[1]] * 2000})
    found = compare(left, left)
    assert verdicts(found) == {"x": "no drift", "id": "unsupported", "list": "unsupported"}
    assert "2,000 distinct values" in found.columns[1].detail
    assert found.share == 0.0


def test_infinities_and_constants() -> None:
    left = pd.DataFrame({"x": [1.0, 2.0, np.inf] * 100, "same": 5.0, "never": [np.inf] * 300})
    found = compare(left, left)
    assert verdicts(found) == {"x": "no drift", "same": "no drift", "never": "all null"}


def test_one_row_is_compared(winter: pd.DataFrame) -> None:
    found = compare(winter, winter.head(1))
    assert set(verdicts(found).values()) <= {"drift", "no drift", "undecided"}
    assert found.rows["current"] == 1


def test_a_large_side_is_sampled_with_a_seed_and_says_so(winter: pd.DataFrame, summer: pd.DataFrame) -> None:
    first = compare(winter, summer, columns={"temp": "", "origin": ""}, sample_rows=500)
    again = compare(winter, summer, columns={"temp": "", "origin": ""}, sample_rows=500)
    assert [item.score for item in first.columns] == [item.score for item in again.columns]
    assert first.rows == {
        "reference": len(winter),
        "current": len(summer),
        "compared": {"reference": 500, "current": 500},
        "seed": 0,
    }
    assert compare(winter, summer, columns={"temp": ""}).rows["seed"] is None


def test_a_column_can_be_compared_as_a_category(winter: pd.DataFrame, summer: pd.DataFrame) -> None:
    found = compare(winter, summer, columns={"hour": "categorical"})
    assert found.columns[0].method == "Jensen-Shannon distance"
    asked = compare(winter, summer, columns={"origin": "numerical", "hour": ""})
    assert verdicts(asked) == {"origin": "retyped", "hour": "no drift"}


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


def test_bad_input_is_refused(winter: pd.DataFrame) -> None:
    with pytest.raises(InvalidInput, match="current has no rows"):
        compare(winter, winter.head(0))
    with pytest.raises(InvalidInput, match="'tempp' are in neither"):
        compare(winter, winter, columns={"tempp": ""})
    with pytest.raises(InvalidInput, match="no column in common"):
        compare(winter[["temp"]], winter[["humid"]])
