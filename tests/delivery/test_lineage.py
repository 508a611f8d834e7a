"""What Airflow's own provider of OpenLineage tells of a run of our operators, by its file transport."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from airflow_pipeops.delivery.lineage import named, uris
from tests.once import airflow_database
from tests.warm import DAGS, Warm

DAG = """
from airflow.sdk import DAG, Asset
from airflow_pipeops import Deliverable, RecordOperator, ValidateDataOperator

with DAG("ship", schedule=None) as dag:
    shop = Deliverable("shop")
    gate = ValidateDataOperator(
        task_id="gate", deliverable=shop, data="{data}",
        expectations=[{{"type": "expect_column_values_to_not_be_null", "kwargs": {{"column": "price"}}}}],
    )
    RecordOperator(
        task_id="ship", deliverable=shop, kind="release", environment="staging", body={{"app": "shop"}},
        commit="{commit}", parents=[gate.output["record_id"]], inlets=[Asset("s3://lake/prices.parquet")],
    )
if __name__ == "__main__":
    print(dag.test().state)
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run a DAG; return the event of each task's end."""
    home = tmp_path_factory.mktemp("airflow")
    data, told = home / "prices.csv", home / "events"
    data.write_text("item,price\na,1\nb,2\n")
    (home / "dags").mkdir()
    (home / "dags" / "ship.py").write_text(DAG.format(data=data.as_uri(), commit="a" * 40))
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__PIPEOPS__EVIDENCE_URI": (home / "evidence").as_uri(),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(told), "append": True}
        ),
    }
    airflow_database(home)
    python = Warm(environment, DAGS)
    python.run("-m", "airflow", "dags", "reserialize").check_returncode()
    ran = python.run(str(home / "dags" / "ship.py"))
    python.stop()
    assert "success" in ran.stdout.splitlines(), ran.stdout + ran.stderr
    found = [json.loads(line) for line in told.read_text().splitlines()]
    return {one["job"]["name"]: one for one in found if one["eventType"] == "COMPLETE"}


def outputs(event: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["namespace"], one["name"]): one["facets"] for one in event["outputs"]}


def test_a_gate_read_the_data_and_says_whether_they_are_good(events: dict[str, dict[str, Any]]) -> None:
    (data,) = [one for one in events["ship.gate"]["inputs"] if one["namespace"] == "file"]
    assert data["name"].endswith("/prices.csv")
    (said,) = data["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (said["assertion"], said["success"]) == ("data", True)
    assert {name for _, name in outputs(events["ship.gate"])} == {"batch", "dataset", "validation"}


def test_records_are_the_versions_of_datasets_and_lead_to_what_they_were_made_from(
    events: dict[str, dict[str, Any]],
) -> None:
    gate = outputs(events["ship.gate"])["pipeops://shop", "validation"]
    release = outputs(events["ship.ship"])["pipeops://shop", "release/staging"]
    tags = [(one["key"], one["value"]) for one in release["tags"]["tags"]]
    assert ("parent", gate["version"]["datasetVersion"]) in tags
    assert ("commit", "a" * 40) in tags
    read = {(one["namespace"], one["name"]) for one in events["ship.ship"]["inputs"]}
    assert {("pipeops://shop", "validation"), ("s3://lake", "prices.parquet")} <= read


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3a://conn@lake/a/b.parquet", ("s3://lake", "a/b.parquet")),
        ("file:///data/a.csv", ("file", "/data/a.csv")),
        ("/data/a.csv", ("file", "/data/a.csv")),
        ("gcs://lake/a", ("gs://lake", "a")),
        ("postgres://db.example.com:5432/shop/orders", ("postgres://db.example.com:5432", "/shop/orders")),
        ("pipeops://shop/release/staging", ("pipeops://shop", "release/staging")),
    ],
)
def test_datasets_are_named_as_other_tools_name_them(uri: str, name: tuple[str, str]) -> None:
    assert named(uri) == name


def test_what_names_no_data_is_none() -> None:
    assert list(
        uris(["s3://a/b", {"table": "t", "conn_id": "c"}, {"profile": "s3://a/p"}, "june", None, 3])
    ) == [
        "s3://a/b",
        "s3://a/p",
    ]
