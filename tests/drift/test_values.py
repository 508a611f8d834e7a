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
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.drift.comparison import Engine
from airflow_pipeops.drift.engine import compare, profile
from airflow_pipeops.drift.engines.duck import Database
from airflow_pipeops.drift.engines.opening import opened
from airflow_pipeops.drift.engines.rows import read_rows
from airflow_pipeops.drift.engines.sessions import frame_of
from airflow_pipeops.drift.operators import DataDriftOperator, DriftProfileOperator
from airflow_pipeops.drift.profile import Profile
from airflow_pipeops.drift.settings import Settings
from airflow_pipeops.drift.sources import Files, Frame
from airflow_pipeops.exceptions import InvalidInput
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


def test_an_iceberg_table_is_scanned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.table import DataScan

    location, rows = iceberg(tmp_path)
    scans, scan = [], DataScan.to_arrow_batch_reader
    monkeypatch.setattr(DataScan, "to_arrow_batch_reader", lambda self: scans.append(1) or scan(self))
    source = Files(location, format="iceberg")
    found = compare(source, Frame(rows), segment_by="kind", sampled=3)
    assert {item.verdict for item in found.columns} == {"no drift"}
    assert found.sample is not None
    assert sorted(found.sample.reference["x"]) == rows["x"].to_pylist()
    assert len(scans) == 1
    assert profile(source).data_digest == profile(Frame(rows)).data_digest
    assert len(scans) == 2


def test_columns_of_iceberg_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("here", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=tmp_path.as_uri())
    catalog.create_namespace("lake")
    rows = pa.table({"x": [1.0], "X": [2.0]})
    made = catalog.create_table("lake.rows", schema=rows.schema)
    made.append(rows)
    with pytest.raises(InvalidInput, match="differ in case only, 'x' and 'X'"):
        profile(Files(made.metadata_location, format="iceberg"))


def test_a_delta_table_is_read_by_every_query(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    rows = pa.table({"x": np.arange(2000.0), "kind": ["a", "b"] * 1000})
    write_deltalake(tmp_path / "lake", rows)
    found = profile(Files(str(tmp_path / "lake"), format="delta"))
    assert found.data_digest == profile(Frame(rows)).data_digest


def test_a_segment_may_have_any_value() -> None:
    """Of the empty text, of what looks like our own names, and of null: each its own rows, and the whole is all rows."""
    names = ["", "(null)", None, "'", "''", "a"]
    rows = pd.DataFrame({"g": names * 300, "x": np.arange(1800.0) % 97, "c": ["p", "q", "r"] * 600})
    moved = rows.assign(x=np.where(rows.g == "", rows.x + 500, rows.x))
    found = compare(Frame(rows), Frame(moved), segment_by="g")
    assert found.rows["current"][""] == 1800
    assert sorted(n for name, n in found.rows["current"].items() if name) == [300] * 6
    by = {item.segment: item.verdict for item in found.columns if item.column == "x"}
    assert by.pop("") == by.pop("''") == "drift"
    assert set(by.values()) == {"no drift"}
    assert len(by) == 5
    made = profile(Frame(rows), segment_by="g")
    again = compare(made, Frame(moved), segment_by="g")
    assert {item.segment for item in again.columns} == {item.segment for item in found.columns}


def test_a_name_is_a_name_before_it_is_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = tmp_path / "day[1]"
    lake.mkdir()
    names = ["part[1].parquet", "part1.parquet", "a*b?.parquet"]
    for number, name in enumerate(names):
        pq.write_table(pa.table({"x": [10.0**number]}), lake / name)

    def seen(source: Files) -> float:
        return float(read_rows(source, "reference")["x"].sum())

    assert seen(Files(str(lake))) == 111
    assert seen(Files(str(lake / names[0]))) == 1
    assert seen(Files(str(lake / names[2]))) == 100
    monkeypatch.chdir(lake)
    assert seen(Files("*.parquet")) == 111
    assert seen(Files("part*.parquet")) == 11
    assert seen(Files("part[0-9].parquet")) == 10
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", f'{{"conn_type": "pipeops_storage", "host": "file://{lake}"}}')
    assert seen(Files("part*.parquet", storage_conn_id="lake")) == 11
    assert seen(Files("part[1].parquet", storage_conn_id="lake")) == 1


def csv(folder: Path, name: str, **columns: list[Any]) -> Files:
    pd.DataFrame(columns).to_csv(folder / name, index=False)
    return Files(str(folder / name))


def test_the_types_of_the_reference_rule(tmp_path: Path) -> None:
    rows = 400
    reference = pa.table(
        {
            "zip": [f"{n % 50:05}" for n in range(rows)],
            "amount": pa.array([n % 7 / 2 for n in range(rows)]),
            "flag": pa.array([n % 2 == 0 for n in range(rows)]),
            "at": pa.array([n * 1_000_000 for n in range(rows)], pa.timestamp("us")),
            "gone": pa.array([None] * rows, pa.float64()),
            "word": ["a", "b"] * (rows // 2),
        }
    )
    current = csv(
        tmp_path,
        "a.csv",
        zip=[f"{n % 50 + 10_000}" for n in range(rows)],  # all of them look like numbers
        amount=[str(n % 7 // 2) for n in range(rows)],  # and these like integers
        flag=[n % 2 for n in range(rows)],
        at=[str(pd.Timestamp(n, unit="s")) for n in range(rows)],
        gone=[None] * rows,
        word=[None] * rows,
    )
    expected = {
        "zip": "drift",
        "amount": "drift",
        "flag": "no drift",
        "at": "no drift",
        "gone": "no drift",  # nothing on both sides is no change
        "word": "all null",
    }
    found = compare(Frame(reference), current)
    assert {item.column: item.verdict for item in found.columns} == expected
    again = compare(profile(Frame(reference)), current)
    assert {item.column: item.verdict for item in again.columns} == expected


def test_null_on_both_sides_is_no_change(tmp_path: Path) -> None:
    rows = 300
    empty = csv(tmp_path, "a.csv", x=list(range(rows)), gone=[None] * rows)
    for kind in (pa.float64(), pa.string(), pa.null(), pa.date32()):
        typed = Frame(pa.table({"x": range(rows), "gone": pa.array([None] * rows, kind)}))
        known = Frame(
            pa.table({"x": range(rows), "gone": pa.array([None] * 10 + [1] * (rows - 10)).cast(pa.int64())})
        )
        for left, right, verdict in (
            (empty, empty, "no drift"),
            (empty, typed, "no drift"),
            (typed, empty, "no drift"),
            (typed, typed, "no drift"),
            (profile(empty), typed, "no drift"),
            (empty, known, "all null"),
            (known, empty, "all null"),
            (profile(empty), known, "all null"),
        ):
            found = compare(left, right)
            assert {item.column: item.verdict for item in found.columns} == {"x": "no drift", "gone": verdict}


def test_times_of_any_unit_and_zone_are_compared(tmp_path: Path) -> None:
    at = pd.Series(pd.date_range("2026-01-01", periods=400, freq="h"))
    frame = pd.DataFrame(
        {
            "utc": at.dt.tz_localize("UTC").astype("datetime64[ns, UTC]"),
            "berlin": at.dt.tz_localize("UTC")
            .dt.tz_convert("Europe/Berlin")
            .astype("datetime64[ns, Europe/Berlin]"),
            "plain": at.astype("datetime64[ns]"),
            "seconds": at.astype("datetime64[s]"),
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    for source in (Files(str(tmp_path / "a.parquet")), Frame(frame)):
        found = compare(source, Frame(frame))
        assert {item.verdict for item in found.columns} == {"no drift"}
        lows = {name: one.low[0] for name, one in profile(source).columns[""].items()}
        assert set(lows.values()) == {at[0].timestamp()}


def test_a_column_beyond_the_memory_limit_costs_its_own_verdict(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    ids = np.char.add("customer-number-of-some-length-", r.permutation(2_000_000).astype(str))
    for name in ("a", "b"):
        pq.write_table(
            pa.table({"id": ids, "x": r.normal(size=len(ids)), "y": r.normal(size=len(ids))}),
            tmp_path / f"{name}.parquet",
        )
    sides = Files(str(tmp_path / "a.parquet")), Files(str(tmp_path / "b.parquet"))
    small = Engine(memory_limit="24MB", threads=1)
    found = compare(*sides, engine=small)
    by = {item.column: item for item in found.columns}
    assert by["x"].verdict == by["y"].verdict == "no drift"
    assert by["id"].verdict == "undecided"
    assert "more than the memory limit of 24MB" in by["id"].detail
    assert found.dataset.verdict == "no drift"
    critical = compare(*sides, engine=small, settings=Settings(critical=("id",)))
    assert critical.dataset.verdict == "undecided"

    made = Profile.from_bytes(profile(sides[0], engine=small).to_bytes())
    assert (set(made.columns[""]), set(made.unmeasured)) == ({"x", "y"}, {"id"})
    with_profile = compare(made, sides[1], engine=small)
    by = {item.column: item for item in with_profile.columns}
    assert by["x"].verdict == by["y"].verdict == "no drift"
    assert by["id"].verdict == "undecided"
    assert "when the profile was made, source needs more than the memory limit of 24MB" in by["id"].detail
    assert with_profile.dataset.verdict == "no drift"
    with pytest.raises(InvalidInput, match="more than the memory limit"):
        profile(sides[0], columns={"id": ""}, engine=small)


def test_an_operator_says_what_a_csv_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: dict
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    rows = "".join(f"{n % 13},5;{n:05}\n" for n in range(400))
    (tmp_path / "a.csv").write_text("price;zip\n" + rows)
    given = {"files": str(tmp_path / "a.csv"), "csv": {"decimal": ",", "types": {"zip": "text"}}}
    found = DataDriftOperator(task_id="drift", reference=given, current=given).execute(context)
    assert {item["column"]: item["verdict"] for item in found["columns"]} == {
        "price": "no drift",
        "zip": "no drift",
    }
    name, csv = given.values()
    same = DataDriftOperator(task_id="drift", reference=name, current={"files": name}, csv=csv).execute(
        context
    )
    assert same["columns"] == found["columns"]
    made = DriftProfileOperator(task_id="profile", source=name, csv=csv).execute(context)
    assert (made["columns"], made["unmeasured"]) == (2, [])


def test_late_labels_of_a_csv_file_with_its_options(tmp_path: Path, context: dict) -> None:
    rows = [(n, n % 100 / 100, n % 100 >= 50) for n in range(400)]
    (tmp_path / "scores.csv").write_text(
        "id;prediction\n" + "".join(f"{n:03};{score:.2f}\n".replace(".", ",") for n, score, _ in rows)
    )
    (tmp_path / "labels.csv").write_text("id;label\n" + "".join(f"{n:03};{int(y)}\n" for n, _, y in rows))
    how = {"predictions": str(tmp_path / "scores.csv"), "labels": str(tmp_path / "labels.csv"), "key": "id"}
    with pytest.raises(AirflowFailException, match="decimals, thousands or texts"):
        ModelPerformanceOperator(task_id="performance", **how).execute(context)
    found = ModelPerformanceOperator(task_id="performance", csv={"decimal": ","}, **how).execute(context)
    assert (found["counts"]["coverage"], found["value"]) == (1.0, 1.0)
