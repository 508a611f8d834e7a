"""Values keep their way: from files, tables and memory through the engine, into statistics and into pandas."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_pipeops.drift.engine import compare, profile
from airflow_pipeops.drift.engines.duck import Database
from airflow_pipeops.drift.engines.opening import opened
from airflow_pipeops.drift.engines.rows import read_rows
from airflow_pipeops.drift.engines.sessions import frame_of
from airflow_pipeops.drift.sources import Files, Frame
from airflow_pipeops.models.operators.performance import ModelPerformanceOperator

#: Beyond 2**53, where doubles leave integers out.
BIG = 2**53 + 1


def hard() -> pa.Table:
    return pa.table(
        {
            "id": pa.array([BIG, None, BIG + 1]),
            "small": pa.array([200, None, 3], pa.uint8()),
            "exact": pa.array([Decimal("1.10"), None, Decimal(BIG)], pa.decimal128(20, 2)),
            "text": pa.array(["a", None, "?"]),
            "flag": pa.array([True, None, False]),
            "at": pa.array([1_000_000_001, None, 3], pa.timestamp("ns", "UTC")),
            "share": pa.array([0.5, None, 1.0]),
        }
    )


@pytest.mark.parametrize("kind", ["file", "arrow", "rows", "reader"])
def test_a_null_stays_a_null_and_every_value_what_it_is(kind: str, tmp_path: Path) -> None:
    table = hard()
    if kind == "file":
        pq.write_table(table, tmp_path / "a.parquet")
        found = read_rows(Files(str(tmp_path / "a.parquet")), "labels")
    elif kind == "arrow":
        found = read_rows(Frame(table), "labels")
    elif kind == "reader":
        found = read_rows(Frame(table.to_reader()), "labels")
    else:
        found = frame_of(table.column_names, [tuple(row.values()) for row in table.to_pylist()])
    assert found.isna().sum().to_dict() == dict.fromkeys(table.column_names, 1)
    assert list(found["id"].dropna()) == [BIG, BIG + 1]
    assert list(found["small"].dropna()) == [200, 3]
    assert list(found["exact"].dropna()) == [Decimal("1.10"), Decimal(BIG)]
    assert list(found["text"].dropna()) == ["a", "?"]
    assert [bool(one) for one in found["flag"].dropna()] == [True, False]
    if kind != "rows":  # Python's own times know no nanoseconds
        assert [one.value for one in found["at"].dropna()] == [1_000_000_001, 3]
    assert list(found["share"].dropna()) == [0.5, 1.0]


def late(tmp_path: Path, labels: list[Any], kind: pa.DataType) -> str:
    """The labels of 1,000 predictions, of which 130 have come."""
    rows = range(len(labels))
    pq.write_table(pa.table({"id": list(rows), "label": pa.array(labels, kind)}), tmp_path / "labels.parquet")
    scores = np.linspace(0, 1, len(labels))
    pq.write_table(pa.table({"id": list(rows), "prediction": scores}), tmp_path / "scores.parquet")
    return str(tmp_path / "labels.parquet")


@pytest.mark.parametrize(
    ("labels", "kind", "positive"),
    [
        (["late" if n % 2 else "on time" for n in range(130)], pa.string(), "late"),
        ([n % 2 for n in range(130)], pa.int64(), None),
        ([bool(n % 2) for n in range(130)], pa.bool_(), None),
        ([Decimal(n % 2) for n in range(130)], pa.decimal128(3, 1), None),
    ],
)
def test_labels_that_have_not_come_are_no_labels(
    labels: list[Any], kind: pa.DataType, positive: str | None, tmp_path: Path, context: dict
) -> None:
    given = late(tmp_path, [*labels, *[None] * 870], kind)
    found = ModelPerformanceOperator(
        task_id="performance",
        predictions=str(tmp_path / "scores.parquet"),
        labels=given,
        key="id",
        positive=positive,
        min_coverage=0.5,
    ).execute(context)
    assert (found["verdict"], found["counts"]["coverage"]) == ("too few labels", 0.13)
    measured = ModelPerformanceOperator(
        task_id="performance",
        predictions=str(tmp_path / "scores.parquet"),
        labels=given,
        key="id",
        positive=positive,
    ).execute(context)
    assert measured["rows"] == 130


def test_a_null_is_no_class(tmp_path: Path, context: dict) -> None:
    classes = ["cat", "dog", "?"]
    frame = pd.DataFrame({"prediction": [classes[n % 3] for n in range(300)]})
    frame["label"] = frame.prediction.where(frame.prediction != "?", None)
    frame.to_parquet(tmp_path / "a.parquet")
    found = ModelPerformanceOperator(
        task_id="performance", predictions=str(tmp_path / "a.parquet"), metric="f1_macro"
    ).execute(context)
    assert found["counts"]["labelled"] == 200
    assert found["value"] == 1.0


def test_a_reader_of_arrow_is_read_by_every_query() -> None:
    table = pa.table({"x": np.arange(500.0), "kind": ["a", "b"] * 250})
    expected = profile(Frame(table))
    found = profile(Frame(table.to_reader()))
    assert found.data_digest == expected.data_digest
    verdicts = compare(Frame(table.to_reader()), Frame(table.to_reader())).columns
    assert {item.column: item.verdict for item in verdicts} == {"x": "no drift", "kind": "no drift"}


def iceberg(folder: Path) -> tuple[str, pa.Table]:
    """A table of two snapshots, as a catalogue in a file keeps it; its last metadata file, and its rows."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("here", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder.as_uri())
    catalog.create_namespace("lake")
    rows = pa.table({"x": np.arange(2000.0), "kind": ["a", "b"] * 1000, "id": range(2000)})
    made = catalog.create_table("lake.rows", schema=rows.schema)
    made.append(rows.slice(0, 1200))
    made.append(rows.slice(1200))
    return made.metadata_location, rows


def test_an_iceberg_table_is_read_by_every_query(tmp_path: Path) -> None:
    location, rows = iceberg(tmp_path)
    source = Files(location, format="iceberg")
    found, expected = profile(source), profile(Frame(rows))
    assert found.rows == {"": 2000}
    assert found.data_digest == expected.data_digest
    assert {item.verdict for item in compare(source, Frame(rows)).columns} == {"no drift"}
    with Database() as database:
        side = opened(source, "reference", duck=database)
        counted = [side.rows(f"SELECT COUNT(*), SUM(x) FROM {side.relation}") for _ in range(3)]
        assert counted == [[(2000, 1999000.0)]] * 3
    assert sorted(read_rows(source, "reference", columns=["id"])["id"]) == list(range(2000))


def test_a_delta_table_is_read_by_every_query(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    rows = pa.table({"x": np.arange(2000.0), "kind": ["a", "b"] * 1000})
    write_deltalake(tmp_path / "lake", rows)
    found = profile(Files(str(tmp_path / "lake"), format="delta"))
    assert found.data_digest == profile(Frame(rows)).data_digest
