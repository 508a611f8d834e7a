"""Spark scores a table by the same functions: the lines are those of the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.demo import flights
from airflow_pipeops.drift.engines.spark import local_session
from airflow_pipeops.exceptions import DataRejected
from airflow_pipeops.serving.batch.contract import ScoreContract
from airflow_pipeops.serving.batch.manifest import Pinned
from airflow_pipeops.serving.batch.scoring import Order, score
from tests.serving.batch.conftest import lines

#: Of the session that is there already.
CONFIG: dict[str, str] = {}


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    running = local_session(
        2, options={"spark.sql.shuffle.partitions": "2", "spark.python.worker.reuse": "true"}
    )
    running.sparkContext.setLogLevel("OFF")
    yield running
    running.stop()


def test_a_table_of_spark_has_the_scores_of_the_worker(
    session: Any, ordered: Callable[..., Order], february: Path, tmp_path: Path
) -> None:
    session.read.parquet(str(february)).repartition(3).createOrReplaceTempView("february")
    there = score(ordered(data={"table": "february"}, spark=CONFIG), tmp_path / "spark", print)
    here = score(ordered(), tmp_path / "worker", print)
    assert (there["outcome"], there["engine"].split()[0]) == ("scored", "spark")
    for part in ("key", "input_digest", "output_digest", "rows"):
        assert there[part] == here[part]
    one, two = (lines(facts).sort_values("flight").reset_index(drop=True) for facts in (there, here))
    np.testing.assert_array_equal(one["probability"], two["probability"])
    with pytest.raises(DataRejected, match="there is no column 'nonesuch'"):
        score(ordered(data={"table": "february"}, key=("nonesuch",), spark=CONFIG), tmp_path / "spark", print)


def test_the_contract_before_is_judged_in_spark(
    session: Any, ordered: Callable[..., Order], champion: Pinned, february: Path, tmp_path: Path
) -> None:
    session.read.parquet(str(february)).createOrReplaceTempView("judged")
    between = {"column": "hour", "max_value": 12}
    late = [{"type": "expect_column_values_to_be_between", "kwargs": between}]
    given: dict[str, Any] = {"data": {"table": "judged"}, "spark": CONFIG, "expectation_rows": 1}
    with pytest.raises(DataRejected, match="expect_column_values_to_be_between"):
        score(ordered(**given, expectations=late), tmp_path / "store", print)

    same, far = tmp_path / "same.parquet", tmp_path / "far.parquet"
    frame = pd.read_parquet(february)
    frame.to_parquet(same)
    frame[["distance", *flights.WEATHER]] += 5000
    frame.to_parquet(far)
    contract = ScoreContract(on_skew="fail")
    learned = replace(champion, reference_uri=str(far))
    for data in ({"table": "judged"}, str(february)):
        given |= {"data": data, "contract": contract}
        with pytest.raises(DataRejected, match="features have drifted since the training: distance"):
            score(ordered(**given, model=learned), tmp_path / "store", print)
    learned = replace(champion, reference_uri=str(same))
    whole = [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "flight"}}]
    facts = score(ordered(**given, model=learned, expectations=whole), tmp_path / "store", print)
    assert (facts["outcome"], facts["notes"]) == ("scored", [])
    later = [{**late[0], "kwargs": {**between, "max_value": 23}}]
    found = score(ordered(**given, model=learned, expectations=later), tmp_path / "store", print)
    assert found["outcome"] == "found"
    assert found["suite"] not in (None, facts["suite"])
