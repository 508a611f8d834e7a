"""The data-quality gate as a task, on real files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.links import ReportLink
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.validation.operators import ValidateDataOperator

MODEL = Deliverable("flight-delay")
GOOD = [
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "temp", "min_value": -20, "max_value": 110},
    }
]
BAD = [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "temp", "min_value": 200}}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch, weather: pd.DataFrame) -> Path:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    weather.to_parquet(tmp_path / "a.parquet")
    weather.to_csv(tmp_path / "b.csv", index=False)
    weather.to_csv(tmp_path / "c.csv.gz", index=False)
    return tmp_path


def gate(data, expectations=GOOD, **kwargs) -> ValidateDataOperator:
    return ValidateDataOperator(
        task_id="validate", data=data, expectations=expectations, **{"deliverable": MODEL, **kwargs}
    )


def emitted(context: dict, asset) -> Record:
    return Record.from_extra(context["outlet_events"][asset].extra)


def test_an_accepted_batch_is_a_dataset_and_its_validation(
    folder: Path, context: dict, weather: pd.DataFrame
) -> None:
    operator = gate((folder / "a.parquet").as_uri())
    found = operator.execute(context)
    assert found["passed"]
    assert found["rows"] == len(weather)
    assert found["batch"] == "a.parquet"
    assert found["digest"] == hashlib.sha256((folder / "a.parquet").read_bytes()).hexdigest()
    dataset, validation = emitted(context, MODEL.data), emitted(context, MODEL.asset("validation"))
    assert (dataset.id, validation.id) == (found["dataset_record_id"], found["record_id"])
    assert validation.parents == (dataset.id,)
    stored = json.loads(ObjectStoragePath(validation.evidence[0].uri).read_text())
    assert stored["findings"][0]["outcome"] == "passed"
    names = [asset.name for asset in operator.outlets]
    assert names == ["flight-delay.arrival", "flight-delay.dataset", "flight-delay.validation"]
    batch = emitted(context, MODEL.asset("batch"))
    assert (batch.body, dataset.parents) == (dataset.body, (batch.id,))


def test_several_files_are_one_batch(folder: Path, context: dict, weather: pd.DataFrame) -> None:
    names = [str(folder / name) for name in ("c.csv.gz", "a.parquet", "b.csv")]
    found = gate(names).execute(context)
    assert found["rows"] == 3 * len(weather)
    digests = sorted(hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in names)
    assert found["digest"] == hashlib.sha256("\n".join(digests).encode()).hexdigest()


def test_a_refused_batch_fails_without_a_record(folder: Path, context: dict) -> None:
    with pytest.raises(
        AirflowFailException, match=r"DataRejected: batch a.parquet of 216 rows is refused: .*temp"
    ):
        gate(str(folder / "a.parquet"), BAD).execute(context)
    assert len(context["outlet_events"]) == 0


def test_a_refused_batch_may_be_recorded_but_is_no_dataset(folder: Path, context: dict) -> None:
    operator = gate(str(folder / "a.parquet"), BAD, on_failure="record")
    found = operator.execute(context)
    assert (found["passed"], found["dataset_record_id"]) == (False, None)
    assert emitted(context, MODEL.asset("validation")).body["failed"] == 1
    operator.post_execute(context, found)
    assert [asset.name for asset in operator.outlets] == ["flight-delay.arrival", "flight-delay.validation"]
    assert emitted(context, MODEL.asset("validation")).parents == (emitted(context, MODEL.asset("batch")).id,)


def test_warnings_pass(folder: Path, context: dict) -> None:
    found = gate(str(folder / "a.parquet"), [{**BAD[0], "severity": "warning"}]).execute(context)
    assert found["passed"]
    assert found["failures"][0]["severity"] == "warning"


def test_a_wrong_suite_is_told_before_data_is_read(folder: Path, context: dict) -> None:
    operator = gate(str(folder / "there-is-no-such.parquet"), [{"type": "expect_magic"}])
    with pytest.raises(AirflowFailException, match=r"InvalidInput: .*expect_magic"):
        operator.execute(context)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.parquet", "half", "InvalidInput: .*cut.parquet is damaged or not parquet"),
        ("text.parquet", b"hello", "InvalidInput: .*text.parquet is damaged"),
        ("cut.csv.gz", "half", "InvalidInput: .*cut.csv.gz is damaged"),
        ("empty.csv", b"", "DataRejected: .*the batch is empty"),
        ("header.csv", b"temp,humid\n", "DataRejected: .*the batch is empty"),
        ("words.csv", b"temp\nwarm\ncold\n", "DataRejected: .*holds text where numbers are expected"),
        ("other.csv", b"humid\n1\n", "DataRejected: .*there is no column 'temp'"),
        ("table.xlsx", b"x", "InvalidInput: .*of no known format"),
    ],
)
def test_bad_batches_end_in_one_clear_error(
    folder: Path, context: dict, name: str, content, message: str
) -> None:
    if content == "half":
        whole = (folder / ("c.csv.gz" if name.endswith("gz") else "a.parquet")).read_bytes()
        content = whole[: len(whole) // 2]
    (folder / name).write_bytes(content)
    with pytest.raises(AirflowFailException, match=message):
        gate(str(folder / name)).execute(context)
    assert len(context["outlet_events"]) == 0


def test_files_of_different_schemas_are_refused(folder: Path, context: dict) -> None:
    (folder / "other.csv").write_text("humid\n1\n")
    with pytest.raises(AirflowFailException, match="have different columns: day, hour"):
        gate([str(folder / "a.parquet"), str(folder / "other.csv")]).execute(context)


def test_missing_file_and_no_file(folder: Path, context: dict) -> None:
    with pytest.raises(AirflowFailException, match=r"NotFound: .*no file"):
        gate(str(folder / "none.parquet")).execute(context)
    with pytest.raises(AirflowFailException, match="InvalidInput: data names no file"):
        gate([]).execute(context)


def test_relative_names_are_below_the_storage(folder: Path, context: dict, monkeypatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_BATCHES", json.dumps({"conn_type": "pipeops_storage", "host": folder.as_uri()})
    )
    found = gate("a.parquet", storage_conn_id="batches", deliverable=None).execute(context)
    assert (found["passed"], found["record_id"], found["dataset_record_id"]) == (True, None, None)


def test_wrong_argument_is_refused_at_parse() -> None:
    with pytest.raises(InvalidInput, match="on_failure"):
        gate("a.parquet", on_failure="shrug")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"engine": "abacus"}, "engine"),
        ({"data": (), "table": "t"}, "sql_conn_id"),
        ({"project": "/srv/gx"}, "project"),
    ],
)
def test_what_does_not_go_together_is_refused_at_parse(wrong: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        gate(**{"data": "a.parquet", **wrong})
    assert caught.value.field == field


def test_two_batches_are_refused(context: dict) -> None:
    with pytest.raises(AirflowFailException, match="data and query are given"):
        gate("a.parquet", query="SELECT 1", sql_conn_id="db").execute(context)


def test_the_data_docs_are_kept_and_linked(folder: Path, context: dict) -> None:
    operator = gate(str(folder / "a.parquet"))
    found = operator.execute(context)
    page = ObjectStoragePath(found["docs"]).read_text()
    assert "temp" in page
    assert (
        ReportLink()
        .get_link(operator, ti_key=None)
        .endswith(f"/pipeops/evidence/dag/{found['docs'].split('/')[-2]}/data-docs.html")
    )
    refused = gate(str(folder / "a.parquet"), BAD)
    with pytest.raises(AirflowFailException, match="Evidence: "):
        refused.execute(context)
    assert refused.report_url


def test_a_function_names_the_batch(folder: Path, context: dict) -> None:
    from airflow.sdk import DAG, task

    with DAG("decorated"):

        @task.validate_data(expectations=GOOD, deliverable=MODEL)
        def batch(name: str, ti=None) -> str:
            return str(folder / f"{name}.parquet")

        batch("a")
    operator = batch("a").operator
    found = operator.execute(context)
    assert found["passed"]
    assert found["batch"] == "a.parquet"
    assert operator.multiple_outputs


def test_what_a_csv_file_does_not_say_is_said_by_the_task(folder: Path, context: dict) -> None:
    (folder / "excel.csv").write_text("temp;place\n50,5;NA\n-10,25;x\n", encoding="utf-8")
    with pytest.raises(AirflowFailException, match=r"'temp' of .* holds values such as 1,5.*'decimal': ','"):
        gate(str(folder / "excel.csv")).execute(context)
    known = [*GOOD, {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "place"}}]
    found = gate(str(folder / "excel.csv"), known, csv={"decimal": ","}).execute(context)
    assert (found["passed"], found["rows"]) == (True, 2)
    options = {"decimal": ",", "nulls": ["NA"]}
    found = gate(str(folder / "excel.csv"), known, csv=options, on_failure="record").execute(context)
    assert [item["unexpected_count"] for item in found["failures"]] == [1]
    with pytest.raises(InvalidInput, match="csv: option 'sep' is unknown"):
        gate("a.csv", csv={"sep": ";"})
