"""A table and a query of a real PostgreSQL are scored over an Airflow connection: the lines are those of a file."""

from __future__ import annotations

import hashlib
import importlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from airflow_pipeops.drift.engines.warehouse import Warehouse
from airflow_pipeops.drift.sources import Query
from airflow_pipeops.exceptions import DataRejected, Unreachable
from airflow_pipeops.serving.batch import rows
from airflow_pipeops.serving.batch.scoring import Order, score
from tests.servers import Hook, Postgres, postgres
from tests.serving.batch.conftest import lines

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(autouse=True)
def lake(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = str(server.folder / "socket").replace("/", "%2F")
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", f"postgres://tester@{socket}/postgres")
    monkeypatch.setattr(rows, "BATCH", 700)  # five batches, the last of which is smaller


_TYPES = {"int64": "bigint", "float64": "double precision", "bool": "boolean"}


@pytest.fixture
def february_there(server: Postgres, february: Path) -> str:
    """The partition, as a table."""
    frame = pd.read_parquet(february)
    columns = ", ".join(f'"{name}" {_TYPES.get(str(kind), "text")}' for name, kind in frame.dtypes.items())
    connection = server.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS february; CREATE TABLE february ({columns})")
        content = io.StringIO(frame.to_csv(index=False, header=False))
        cursor.copy_expert("COPY february FROM STDIN (FORMAT csv)", content)
    connection.close()
    return "february"


@pytest.mark.parametrize(
    "given", [{"table": "february"}, {"query": "SELECT * FROM february WHERE 'a%' <> 'b'"}]
)
def test_a_table_and_a_query_have_the_scores_of_a_file(
    given: dict[str, str], run: Run, ordered: Callable[..., Order], february_there: str, tmp_path: Path
) -> None:
    there = score(ordered(data={**given, "conn_id": "lake"}), tmp_path / "lake", print)
    here = run()
    assert (there["outcome"], there["engine"]) == ("scored", "postgres")
    for part in ("key", "input_digest", "output_digest", "rows"):
        assert there[part] == here[part]
    one, two = (lines(facts).sort_values("flight").reset_index(drop=True) for facts in (there, here))
    np.testing.assert_array_equal(one["probability"], two["probability"])


def test_a_suite_is_judged_in_the_warehouse(
    ordered: Callable[..., Order], february_there: str, tmp_path: Path
) -> None:
    hours = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "hour", "max_value": 23}}
    late = {**hours, "kwargs": {"column": "hour", "max_value": 12}}
    order = ordered(
        data={"table": february_there, "conn_id": "lake"}, expectation_rows=1, expectations=[hours]
    )
    assert score(order, tmp_path / "lake", print)["outcome"] == "scored"
    with pytest.raises(DataRejected, match="expect_column_values_to_be_between"):
        score(replace(order, expectations=[late]), tmp_path / "other", print)


#: Columns of the types that PostgreSQL may name a row by, or carry.
MANY = """
SELECT february.*, md5(flight::text)::uuid AS id, (flight % 3 + 0.5)::numeric(10, 2) AS price,
  (CASE flight % 3 WHEN 0 THEN 1.5 WHEN 1 THEN 1.25 END)::numeric AS rate, (flight % 2 = 0)::boolean AS even,
  timestamptz '2013-02-01 06:00+02' AS at, timestamp '2013-02-01 06:00' AS local, date '2013-02-01' AS date,
  NULL::text AS nothing, 'x'::varchar(3) AS letter, 1.5::real AS small
FROM february"""


def test_rows_are_named_by_whatever_a_warehouse_has(
    ordered: Callable[..., Order], february_there: str, tmp_path: Path
) -> None:
    carry = ("flight", "price", "rate", "even", "at", "local", "date", "nothing", "letter", "small")
    facts = []
    # In each order, other rows are in a batch together.
    for place, order in enumerate(("flight", "flight % 3, flight DESC")):
        data = {"query": f"{MANY} ORDER BY {order}", "conn_id": "lake"}
        facts.append(score(ordered(data=data, key=("id",), carry=carry), tmp_path / str(place), print))
    assert facts[0]["key"] == facts[1]["key"]
    found = lines(facts[0]).set_index("flight").loc[2_000_000 + 1]
    utc = pd.Timestamp("2013-02-01 04:00", tz="UTC")
    assert found["id"] == str(UUID(hashlib.md5(b"2000001").hexdigest()))
    assert (found["price"], found["rate"], found["even"], found["at"]) == ("0.50", "1.5", False, utc)
    assert (found["local"], found["date"]) == (pd.Timestamp("2013-02-01 06:00"), date(2013, 2, 1))
    assert (pd.isna(found["nothing"]), found["letter"], found["small"]) == (True, "x", 1.5)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_rows_come_as_they_are_asked_for_and_in_time(driver: str, server: Postgres) -> None:
    class Named(Hook):
        """A hook over this driver."""

        def get_conn(self) -> Any:
            made = importlib.import_module(driver)
            return made.connect(host=str(server.folder / "socket"), user="tester", dbname="postgres")

    query = "SELECT n, pg_sleep(CASE WHEN n > 2000 THEN 60 ELSE 0 END)::text AS slept FROM generate_series(1, 3000) AS n"
    side = Warehouse(Query(query, hook=Named(server)), "data", timeout=2)
    read = side.batches(f"SELECT * FROM {side.relation}", ["n", "slept"], 700)
    # The server keeps what nobody has asked for yet.
    assert [next(read).num_rows, next(read).num_rows] == [700, 700]
    began = time.monotonic()
    with pytest.raises(Unreachable, match="longer than 2 seconds"):
        next(read)
    assert time.monotonic() - began < 20
    side.close()
