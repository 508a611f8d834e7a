"""The operators on a real PostgreSQL behind an Airflow connection: the rows stay there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.drift.operators import DataDriftOperator, DriftProfileOperator
from airflow_pipeops.validation.operators import ValidateDataOperator
from tests.servers import Postgres, postgres

MODEL = Deliverable("flight-delay")
BEFORE = {"table": "weather", "conn_id": "lake", "where": "month <= 2"}
AFTER = {"query": "SELECT month, temp, origin FROM weather WHERE month > 2", "conn_id": "lake"}
SUITE = [
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "temp", "min_value": -40, "max_value": 130},
    },
    {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "origin", "value_set": ["EWR", "JFK", "LGA"]},
    },
]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    chance = np.random.default_rng(0)
    with postgres() as running:
        connection = running.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE weather (month int, temp double precision, origin text)")
            for month in (1, 2, 3, 4):
                for origin in ("EWR", "JFK", "LGA"):
                    warmth = 30.0 + (40.0 if month > 2 else 0.0)
                    rows = [(month, float(chance.normal(warmth, 5.0)), origin) for _ in range(400)]
                    cursor.executemany("INSERT INTO weather VALUES (%s, %s, %s)", rows)
        connection.close()
        yield running


@pytest.fixture(autouse=True)
def lake(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = str(server.folder / "socket").replace("/", "%2F")
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", f"postgres://tester@{socket}/postgres")
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())


def test_two_sides_of_a_warehouse_are_compared_there(context: dict) -> None:
    operator = DataDriftOperator(
        task_id="drift", reference=BEFORE, current=AFTER, columns=["temp", "origin"], deliverable=MODEL
    )
    found = operator.execute(context)
    verdicts = {item["column"]: item["verdict"] for item in found["columns"]}
    assert verdicts == {"temp": "drift", "origin": "no drift"}
    assert found["rows"] == {"reference": 2400, "current": 2400}
    record = Record.from_extra(context["outlet_events"][MODEL.drift].extra)
    assert record.body["current"]["engine"] == "postgres"
    # The report is of a sample, and nothing of it is in what Airflow keeps.
    page = ObjectStoragePath(found["report"]).read_text()
    assert "drifted" in page
    assert len(json.dumps(found)) < 5000


def test_a_profile_of_a_table_stands_for_it(context: dict) -> None:
    saved = DriftProfileOperator(
        task_id="profile", source=BEFORE, columns=["temp", "origin"], deliverable=MODEL
    ).execute(context)
    found = DataDriftOperator(
        task_id="drift", reference={"profile": saved["profile"]}, current=AFTER, report=False
    ).execute(context)
    assert {item["column"]: item["verdict"] for item in found["columns"] if item["column"] != "month"} == {
        "temp": "drift",
        "origin": "no drift",
    }


@pytest.mark.parametrize("batch", [{"table": "weather"}, {"query": "SELECT * FROM weather WHERE month > 2"}])
def test_a_table_and_a_query_are_validated_there(batch: dict[str, str], context: dict) -> None:
    operator = ValidateDataOperator(
        task_id="validate", **batch, sql_conn_id="lake", expectations=SUITE, deliverable=MODEL
    )
    found = operator.execute(context)
    assert found["passed"] is True
    assert found["rows"] == (4800 if "table" in batch else 2400)


def test_a_query_that_fails_in_the_warehouse_is_one_clear_error(context: dict) -> None:
    wrong = {"query": "SELECT nope FROM weather", "conn_id": "lake"}
    with pytest.raises(AirflowFailException, match="nope"):
        DataDriftOperator(task_id="drift", reference=BEFORE, current=wrong, deliverable=MODEL).execute(
            context
        )
    with pytest.raises(AirflowFailException, match="cannot read the query"):
        ValidateDataOperator(
            task_id="validate", query=wrong["query"], sql_conn_id="lake", expectations=SUITE
        ).execute(context)
    assert len(context["outlet_events"]) == 0
