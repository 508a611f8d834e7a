"""The same judgement on pandas, on a real database and on a real Spark."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from airflow_pipeops.exceptions import InvalidInput, SystemFailure
from airflow_pipeops.validation.batches import Batch, FrameBatch, SparkBatch, SqlBatch
from airflow_pipeops.validation.engine import judge
from airflow_pipeops.validation.suite import expectations

SUITE = [
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "temp", "min_value": 30, "max_value": 45},
    },
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "humid"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "origin", "value_set": ["EWR"]}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "origin", "min_value": 1}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "no_such"}},
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}},
]


@pytest.fixture(scope="module")
def frame(weather: pd.DataFrame) -> pd.DataFrame:
    return weather.assign(humid=weather.humid.where(weather.hour != 3))[["temp", "humid", "origin"]]


@pytest.fixture(scope="module")
def database(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{tmp_path_factory.mktemp('database')}/weather.sqlite")
    frame.to_sql("weather", engine, index=False)
    return engine


def told(batch: Batch) -> list:
    """What a record would hold of each finding."""
    return [item.to_json() for item in judge(batch, expectations(SUITE)).findings]


def test_a_table_and_a_query_are_judged_as_the_frame_is(frame: pd.DataFrame, database: sa.Engine) -> None:
    wanted = told(FrameBatch(frame))
    assert [item["outcome"] for item in wanted] == ["failed"] * 5 + ["passed"]
    assert told(SqlBatch(database, table="weather")) == wanted
    assert told(SqlBatch(database, query="SELECT temp, humid, origin FROM weather;")) == wanted


def test_spark_judges_as_pandas_does(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_parquet(tmp_path / "weather.parquet")
    batch = SparkBatch(
        [str(tmp_path / "weather.parquet")],
        {"spark.master": "local[1]", "spark.ui.enabled": "false", "spark.driver.memory": "1g"},
    )
    assert told(batch) == told(FrameBatch(frame))
    # What is there by a name is that, and no pattern.
    frame.head(5).to_parquet(tmp_path / "day[1].parquet")
    frame.to_parquet(tmp_path / "day1.parquet")
    assert SparkBatch([str(tmp_path / "day[1].parquet")]).rows == 5
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "weather.parquet").read_bytes()[:500])
    with pytest.raises(SystemFailure, match=r"Spark cannot read .*cut\.parquet"):
        SparkBatch([str(tmp_path / "cut.parquet")])


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"table": "nowhere"}, "cannot read table 'nowhere'"),
        ({"query": "SELECT nothing FROM weather"}, "cannot read the query"),
        ({"query": "SELECT 'classified-value' FROM"}, "cannot read the query"),
    ],
)
def test_what_the_database_cannot_read_is_told_without_the_statement(
    database: sa.Engine, named: dict, message: str
) -> None:
    with pytest.raises(SystemFailure, match=message) as caught:
        SqlBatch(database, **named)
    assert "classified" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_table_or_a_query(database: sa.Engine) -> None:
    with pytest.raises(InvalidInput, match="a table or a query"):
        SqlBatch(database)


def test_an_empty_table_fails(database: sa.Engine) -> None:
    outcome = judge(
        SqlBatch(database, query="SELECT * FROM weather WHERE temp > 1000"), expectations(SUITE[:1])
    )
    assert [item.reason for item in outcome.findings] == ["the batch is empty"]
