"""The demo's data and domain code, on the real data."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from airflow_pipeops.demo import flights
from airflow_pipeops.exceptions import InvalidInput


@pytest.fixture(scope="module")
def january() -> pd.DataFrame:
    return flights.month(1, 4000)


def test_the_year_is_whole_and_its_late_shares_are_the_known_ones():
    months = [flights.month(n) for n in range(1, 13)]
    assert sum(map(len, months)) == 327_346
    shares = [round(float(frame["late"].mean()), 3) for frame in months]
    assert shares[:4] == [0.227, 0.229, 0.228, 0.279]
    assert shares[8] == 0.132


def test_nothing_known_only_after_departure_is_there(january):
    assert list(january.columns) == list(flights.TYPES)
    assert not {"arr_delay", "dep_delay", "air_time", "dep_time"} & set(january.columns)


def test_types_survive_parquet_and_bytes_are_the_same_each_time(tmp_path):
    first = flights.write_month(3, tmp_path / "a", 1000)
    second = flights.write_month(3, tmp_path / "b", 1000)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["flights-2013-03.parquet"]
    read = pd.read_parquet(first)
    pd.testing.assert_frame_equal(read, flights.month(3, 1000))
    assert {str(kind) for kind in read.dtypes} <= {"int64", "float64", "str", "object"}
    assert read[flights.DAY].is_monotonic_increasing


def test_a_sample_depends_on_its_seed_only():
    assert flights.month(2, 50).equals(flights.month(2, 50))
    assert not flights.month(2, 50).equals(flights.month(2, 50, seed=1))


@pytest.mark.parametrize("n", [0, 13, "1"])
def test_a_month_that_does_not_exist(n):
    with pytest.raises(InvalidInput, match="no month"):
        flights.month(n)


def test_expectations_are_plain_json():
    assert json.loads(json.dumps(flights.EXPECTATIONS)) == flights.EXPECTATIONS
    assert {item["severity"] for item in flights.EXPECTATIONS} == {"critical", "warning"}


def test_features_order_types_and_what_is_missing(january):
    shuffled = january[list(reversed(january.columns))].assign(extra=1)
    pd.testing.assert_frame_equal(flights.features(shuffled), january)
    with pytest.raises(InvalidInput, match="lack the columns temp, dest"):
        flights.features(january.drop(columns=["temp", "dest"]))
    with pytest.raises(InvalidInput, match="wrong type"):
        flights.features(january.assign(hour="noon"))


def test_training_is_deterministic_learns_and_takes_the_unknown(january):
    later = flights.month(2, 3000)
    one, two = flights.train(january, 7), flights.train(january, 7)
    assert flights.score(one, later) == flights.score(two, later)
    assert flights.score(one, later) > 0.55
    strange = later.head(3).assign(dest="XXX", carrier="ZZ", temp=float("nan"))
    assert one.predict_proba(strange[list(flights.FEATURES)]).shape == (3, 2)


def test_one_label_only_has_no_auc(january):
    with pytest.raises(InvalidInput, match="no AUC"):
        flights.score(None, january[january["late"] == 0])
