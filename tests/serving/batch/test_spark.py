"""Spark scores a table by the same functions: the lines are those of the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_pipeops.drift.engines.spark import local_session
from airflow_pipeops.exceptions import DataRejected
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
