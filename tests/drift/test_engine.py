"""The embedded engine on real files: the same aggregates as in memory, findings, refusals, a memory limit, cancellation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from airflow_pipeops.drift.comparison import Comparison, Engine
from airflow_pipeops.drift.engine import compare, profile
from airflow_pipeops.drift.engines.duck import Database
from airflow_pipeops.drift.engines.sessions import Cancellation, Cancelled
from airflow_pipeops.drift.engines.sql import RESOLUTION, Map
from airflow_pipeops.drift.engines.templates import disjoint, mended_map
from airflow_pipeops.drift.settings import Settings
from airflow_pipeops.drift.sources import Files, Frame, Query, TableRef
from airflow_pipeops.drift.statistics.aggregates import (
    CategoricalAggregate,
    NumericAggregate,
    from_categories,
    from_values,
)
from airflow_pipeops.exceptions import InvalidInput, MissingExtra, NotFound
from tests.drift.adversarial import ROWS, table


def verdicts(found: Comparison) -> dict[str, str]:
    return {item.column: item.verdict for item in found.whole}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The adversarial table, without and with a shift."""
    pq.write_table(table(0), tmp_path / "reference.parquet", row_group_size=1000)
    pq.write_table(table(1, shift=1.0), tmp_path / "current.parquet", row_group_size=1000)
    return tmp_path / "reference.parquet", tmp_path / "current.parquet"


def test_aggregates_are_those_of_the_values(files: tuple[Path, Path]) -> None:
    given, found = table(0), profile(Files(str(files[0])))
    for name, kind in found.kinds.items():
        aggregate, column = found.columns[""][name], given[name]
        assert aggregate.rows == ROWS
        if kind == "categorical":
            assert isinstance(aggregate, CategoricalAggregate)
            counts = column.drop_null().value_counts().to_pylist()
            expected = {
                json.dumps(c["values"]).lower() if name == "flag" else c["values"]: c["counts"]
                for c in counts
            }
            assert aggregate.counts == expected
            assert aggregate.missing == column.null_count
            continue
        assert isinstance(aggregate, NumericAggregate)
        if pa.types.is_temporal(column.type):
            days = pa.types.is_date(column.type)
            raw = column.cast(pa.int32() if days else pa.int64()).to_numpy()
            numbers = raw * 86400.0 if days else raw / 1e6
        else:
            # Not by Arrow: its doubles of decimals are off by a last bit.
            numbers = np.array([np.nan if one is None else float(one) for one in column.to_pylist()])
        null = column.is_null().to_numpy(zero_copy_only=False)
        where = found.maps[name]
        kept = numbers[~null]
        kept = np.where(
            np.abs(kept) <= where.bound, kept, np.nan
        )  # beyond the horizon it counts as not finite
        masked = np.ma.masked_array(
            np.r_[kept, np.zeros(null.sum())], mask=np.r_[np.zeros(len(kept)), np.ones(null.sum())]
        )
        expected = from_values(masked, centre=where.centre, scale=where.scale, resolution=RESOLUTION)
        assert (aggregate.missing, aggregate.not_finite) == (expected.missing, expected.not_finite), name
        for part in ("key", "count", "low", "high"):
            assert (getattr(aggregate, part) == getattr(expected, part)).all(), (name, part)
        for part in ("total", "squares"):
            assert getattr(aggregate, part) == pytest.approx(getattr(expected, part), rel=1e-12, abs=1e-12), (
                name
            )


def test_what_moved_is_drift_and_what_did_not_is_not(files: tuple[Path, Path]) -> None:
    found = compare(Files(str(files[0])), Files(str(files[1])))
    moved = {
        "normal",
        "outlier",
        "odd",
        "nulls",
        "epoch",
        "tiny",
        "single",
        "ties",
        'Weird "name" `of` it\'s',
    }
    assert {name for name, verdict in verdicts(found).items() if verdict == "drift"} == moved
    assert set(verdicts(found).values()) == {"drift", "no drift"}
    assert found.rows == {"reference": {"": ROWS}, "current": {"": ROWS}}
    text = json.dumps(found.to_json(), allow_nan=False)
    assert found.reference["data_digest"] in text
    assert found.settings["maps"]["epoch"][0] == pytest.approx(1.7e9, abs=1)


def test_it_is_the_same_every_time(files: tuple[Path, Path]) -> None:
    first, again = (compare(Files(str(files[0])), Files(str(files[1]))).to_json() for _ in range(2))
    for one in (first, again):
        del one["seconds"]
    assert first == again


@pytest.mark.parametrize("kind", ["pandas", "arrow", "stream", "csv", "folder", "pattern", "memory"])
def test_every_way_in_gives_the_same(kind: str, tmp_path: Path) -> None:
    plain = table(0).select(["normal", "nulls", "ties", "small", "group", "at"])
    pq.write_table(plain, tmp_path / "a.parquet")
    expected = profile(Files(str(tmp_path / "a.parquet")))
    if kind == "pandas":
        found = profile(Frame(plain.to_pandas()))
    elif kind == "arrow":
        found = profile(Frame(plain))
    elif kind == "stream":

        class Stream:
            def __arrow_c_stream__(self, schema=None):
                return plain.__arrow_c_stream__(schema)

        found = profile(Frame(Stream()))
    elif kind == "csv":
        pyarrow.csv.write_csv(plain, tmp_path / "a.csv")
        found = profile(Files(str(tmp_path / "a.csv")))
    elif kind == "memory":
        import fsspec
        from airflow.sdk.io import attach

        attach("memory", fs=fsspec.filesystem("memory"))
        with fsspec.filesystem("memory").open("/bucket/a.parquet", "wb") as stream:
            stream.write((tmp_path / "a.parquet").read_bytes())
        found = profile(Files("memory://bucket/a.parquet", checksum=True))
        assert len(found.source["sha256"]) == 64
    else:
        (tmp_path / "lake" / "_temporary").mkdir(parents=True)
        (tmp_path / "lake" / "_temporary" / "half.parquet").write_bytes(b"half")
        for part in range(3):
            pq.write_table(plain.slice(part * 1000, 1000), tmp_path / "lake" / f"part-{part}.parquet")
        found = profile(Files(str(tmp_path / "lake" / ("*.parquet" if kind == "pattern" else ""))))
        assert found.source["files"] == 3
    assert found.rows == expected.rows
    for name, aggregate in expected.columns[""].items():
        other = found.columns[""][name]
        if isinstance(aggregate, CategoricalAggregate):
            assert other.counts == aggregate.counts
        else:
            assert (other.finite, other.missing) == (aggregate.finite, aggregate.missing), name
            assert other.low[0] == aggregate.low[0]


@pytest.mark.parametrize(
    "dtype", ["Int64", "uint8", "uint64", "Float64", "float32", "boolean", "category", "object", "int64"]
)
def test_no_type_is_left_out_in_silence(dtype: str) -> None:
    generator = np.random.default_rng(0)
    left = pd.Series(generator.integers(0, 2 if dtype == "boolean" else 50, 500))
    right = pd.Series(np.full(500, 1))
    sides = [Frame(pd.DataFrame({"x": side.astype(dtype)})) for side in (left, right)]
    assert verdicts(compare(*sides)) == {"x": "drift"}


def test_what_changed_in_the_schema_is_a_finding() -> None:
    left = table(0).select(["normal", "nulls", "text", "small", "day", "single", "flag"])
    names = [name for name in left.column_names if name not in ("normal", "nulls", "text", "small")]
    right = left.select(names).append_column("new", left["normal"])
    right = right.append_column("nulls", pa.nulls(ROWS, pa.float64())).append_column("text", left["normal"])
    right = right.append_column("small", left["small"].cast(pa.float64()))
    found = compare(Frame(left), Frame(right))
    assert verdicts(found) == {
        "normal": "missing",
        "nulls": "all null",
        "text": "retyped",
        "small": "no drift",  # still numbers
        "day": "no drift",
        "single": "no drift",
        "flag": "no drift",
        "new": "extra",
    }
    assert found.drifted
    assert found.dataset.broken == ("normal", "nulls", "text")


def test_types_that_cannot_be_compared_are_refused_by_name() -> None:
    rows = 200
    given = pa.table(
        {
            "x": pa.array(np.arange(rows) / 7),
            "list": pa.array([[1]] * rows),
            "struct": pa.array([{"a": 1}] * rows),
            "map": pa.array([[("k", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
            "bytes": pa.array([b"x"] * rows),
            "nothing": pa.nulls(rows),
            "took": pa.array(np.arange(rows), pa.duration("s")),
            "clock": pa.array((np.arange(rows) * 1000).astype("int32"), pa.time32("ms")),
            "enum": pa.array(["a", "b"] * (rows // 2)).dictionary_encode(),
        }
    )
    found = compare(Frame(given), Frame(given))
    said = verdicts(found)
    assert [name for name, verdict in said.items() if verdict == "unsupported"] == [
        "list",
        "struct",
        "map",
        "bytes",
    ]
    # Nothing before and nothing now is no change.
    assert said["nothing"] == "no drift"
    assert {said[name] for name in ("x", "took", "clock", "enum")} == {"no drift"}
    assert "BLOB" in next(item.detail for item in found.columns if item.column == "bytes")


def test_kinds_can_be_asked_for() -> None:
    sides = Frame(table(0)), Frame(table(1))
    found = profile(
        sides[0], columns={"small": "categorical", "normal": "", "day": "categorical", "price": "categorical"}
    )
    assert found.kinds == {
        "small": "categorical",
        "normal": "numerical",
        "day": "categorical",
        "price": "categorical",
    }
    small = found.columns[""]["small"]
    assert small.counts == from_categories(table(0)["small"].to_pandas()).counts
    assert set(verdicts(compare(*sides, columns={"text": "numerical", "normal": ""}))) == {"text", "normal"}
    assert verdicts(compare(*sides, columns={"text": "numerical", "normal": ""}))["text"] == "retyped"
    by_settings = compare(*sides, settings=Settings(kinds={"small": "categorical"}))
    assert len(by_settings.columns) == len(table(0).column_names)


def test_rare_categories_are_put_together_and_those_of_the_other_side_are_counted() -> None:
    r = np.random.default_rng(0)
    names = np.array([f"it's-{i}\\" for i in range(400)])
    weight = 1 / np.arange(1, 401)
    left = pa.table({"c": r.choice(names, 20_000, p=weight / weight.sum())})
    right = pa.table({"c": r.choice(names[::-1], 20_000, p=weight / weight.sum())})
    capped = Engine(categories=50)
    found = profile(Frame(left), engine=capped).columns[""]["c"]
    assert (len(found.counts), found.capped) == (50, True)
    assert found.distinct == len(set(left["c"].to_pylist()))
    assert found.counts == dict(from_categories(left["c"].to_pandas(), top=50).counts)
    whole, part = (compare(Frame(left), Frame(right), engine=engine) for engine in (Engine(), capped))
    assert verdicts(whole) == verdicts(part) == {"c": "drift"}
    # Total variation of categories that are put together is never more than of all.
    total = Settings(method="total_variation")
    whole, part = (
        compare(Frame(left), Frame(right), engine=e, settings=total).columns[0] for e in (Engine(), capped)
    )
    assert whole.score - 0.2 <= part.score <= whole.score


def test_segments_are_compared_for_themselves() -> None:
    left, right = table(0).to_pandas(), table(1).to_pandas()
    right.loc[right.group == "y", "normal"] += 3
    left.loc[:9, "group"], right.loc[:9, "group"] = "gone", "new"
    names = {"normal": "", "text": "", "nulls": ""}
    found = compare(Frame(left), Frame(right), columns=names, segment_by="group")
    by = {(item.column, item.segment): item.verdict for item in found.columns}
    assert by["normal", "x"] == "no drift"
    assert by["normal", "y"] == by["normal", ""] == "drift"
    assert by["text", "x"] == by["text", "y"] == "no drift"
    assert (by["group", "gone"], by["group", "new"]) == ("missing", "extra")
    assert found.segments["x"].verdict == "no drift"
    assert found.rows["reference"]["x"] == int((left.group == "x").sum())
    whole = compare(Frame(left), Frame(right), columns=names)
    assert {i.column: i.score for i in whole.columns} == {i.column: i.score for i in found.whole}


def test_too_many_segments_are_a_mistake() -> None:
    frame = pd.DataFrame({"id": range(1000), "x": 1.0})
    with pytest.raises(InvalidInput, match="more than 200 segments"):
        profile(Frame(frame), segment_by="id")
    with pytest.raises(InvalidInput, match="no column 'nope'"):
        profile(Frame(frame), segment_by="nope")
    with pytest.raises(InvalidInput, match="no column 'nope'"):
        compare(Frame(frame), Frame(frame), segment_by="nope")


def test_a_sample_that_misleads_is_found_out() -> None:
    """A sorted column: its first rows are nothing like the rest, so all others would share a few cells."""
    values = np.sort(np.random.default_rng(0).normal(0, 1, 200_000))
    values[:30_000] = np.linspace(-1e-6, 0, 30_000) - 1e6
    found = profile(Frame(pa.table({"x": values})))
    aggregate = found.columns[""]["x"]
    wide = aggregate.low < aggregate.high
    assert (aggregate.count[wide] / aggregate.finite).max() < 0.2
    assert (aggregate.count[wide & (aggregate.low > -10)] / aggregate.finite).max() < 0.02
    assert mended_map(from_values(np.ones(10)), Map()) is None


def test_an_open_verdict_is_settled_by_looking_up_values() -> None:
    """A threshold within the certified interval: only single values can tell on which side the score is."""
    r = np.random.default_rng(3)
    sides = [Frame(pa.table({"x": r.standard_cauchy(5000) * 1e6 + shift})) for shift in (0.0, 4e5)]
    coarse = Engine(resolution=64, refine=False)
    settings = Settings(mode="evidently-compatible", method="wasserstein", threshold=0.1)
    first = compare(*sides, settings=settings, engine=coarse).columns[0]
    assert first.low < first.high
    settings = Settings(
        mode="evidently-compatible", method="wasserstein", threshold=(first.low + first.high) / 2
    )
    assert compare(*sides, settings=settings, engine=coarse).columns[0].verdict == "undecided"
    found = compare(*sides, settings=settings, engine=Engine(resolution=64))
    assert found.columns[0].verdict in ("drift", "no drift")
    assert found.refined == ("x",)


def test_cells_that_overlap_by_a_last_bit_are_put_together() -> None:
    cells = {
        "key": np.array([1, 2, 3]),
        "count": np.array([1, 2, 3]),
        "total": np.array([1.0, 2.0, 3.0]),
        "squares": np.array([1.0, 4.0, 9.0]),
        "low": np.array([0.0, 1.0, 2.0]),
        "high": np.array([1.0, 1.5, 3.0]),
    }
    found = disjoint(cells)
    assert found["count"].tolist() == [3, 3]
    assert found["high"].tolist() == [1.5, 3.0]


@pytest.mark.parametrize("side", ["reference", "current"])
def test_an_empty_side_is_refused(side: str) -> None:
    empty, full = Frame(table(0).slice(0, 0)), Frame(table(0))
    with pytest.raises(InvalidInput, match=f"{side} has no rows"):
        compare(*((empty, full) if side == "reference" else (full, empty)))


def test_one_row_is_undecided() -> None:
    found = compare(Frame(table(0)), Frame(table(1).slice(100, 1)))
    assert set(verdicts(found).values()) <= {"undecided", "all null"}
    assert found.rows["current"] == {"": 1}


def test_bad_input_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    left = Files(str(files[0]))
    with pytest.raises(InvalidInput, match="no column in common"):
        compare(left, Frame(pa.table({"other": [1.0]})))
    with pytest.raises(InvalidInput, match="upper and lower case only"):
        compare(Frame(pa.table({"A": [1.0]})), Frame(pa.table({"a": [1.0]})))
    with pytest.raises(InvalidInput, match="'nrmal' are in neither"):
        compare(left, left, columns={"nrmal": ""})
    with pytest.raises(InvalidInput, match=r"thresholds names 'nrmal', which neither side has"):
        compare(left, left, settings=Settings(thresholds={"nrmal": 0.1}))
    with pytest.raises(NotFound, match=r"there is no file .*nope\.parquet"):
        compare(left, Files(str(tmp_path / "nope.parquet")))
    with pytest.raises(NotFound, match="no parquet file matches"):
        compare(left, Files(str(tmp_path / "nope-*.parquet")))
    with pytest.raises(InvalidInput, match="two columns named 'normal'"):
        compare(
            left, Frame(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["normal", "normal"]))
        )
    with pytest.raises(InvalidInput, match="is no frame"):
        compare(left, Frame([1, 2, 3]))
    with pytest.raises(InvalidInput, match="current is no source"):
        compare(left, "s3://a.parquet")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="names no connection"):
        compare(left, TableRef("t"))


@pytest.mark.parametrize("damage", ["truncated", "page", "text", "empty"])
def test_a_damaged_file_is_named_and_nothing_stays_behind(damage: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    good, bad = tmp_path / "a.parquet", tmp_path / "b.parquet"
    pq.write_table(table(0), good, compression="zstd")
    content = bytearray(good.read_bytes())
    if damage == "page":
        content[4:4000] = b"\x07" * 3996
    bad.write_bytes({"truncated": content[:5000], "page": content, "text": b"hello", "empty": b""}[damage])
    with pytest.raises(InvalidInput, match=r"b\.parquet is damaged") as caught:
        compare(Files(str(good)), Files([str(good), str(bad)]))
    assert caught.value.remedy
    assert list((tmp_path / "tmp").iterdir()) == []


def test_files_below_the_root_of_a_storage_connection(files: tuple[Path, Path], monkeypatch) -> None:
    connection = {"conn_type": "pipeops_storage", "host": files[0].parent.as_uri()}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    found = profile(Files("reference.parquet", storage_conn_id="lake"), columns={"normal": ""})
    assert found.data_digest == profile(Files(str(files[0])), columns={"normal": ""}).data_digest


def test_files_of_two_schemas_are_refused(tmp_path: Path) -> None:
    pq.write_table(table(0), tmp_path / "a.parquet")
    other = table(0).drop_columns(["price"]).append_column("price", table(0)["normal"])
    pq.write_table(other, tmp_path / "b.parquet")
    with pytest.raises(InvalidInput, match=r"b\.parquet and a\.parquet differ in the columns price"):
        profile(Files(str(tmp_path)))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "c" / "b.csv").write_text("x,z\n1,2\n")
    with pytest.raises(InvalidInput, match="differ in the columns y, z"):
        profile(Files(str(tmp_path / "c" / "*.csv")))


def test_sources_are_checked_when_they_are_made() -> None:
    for wrong in ((), "", [""], [1]):
        with pytest.raises(InvalidInput, match="names no file"):
            Files(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no known format"):
        Files("a.xlsx")
    with pytest.raises(InvalidInput, match="mixes formats"):
        Files(["a.csv", "b.parquet"])
    with pytest.raises(InvalidInput, match="'orc' is unknown"):
        Files("a", format="orc")
    with pytest.raises(InvalidInput, match="is one table"):
        Files(["a", "b"], format="delta")
    with pytest.raises(InvalidInput, match="holds no query"):
        Query(" ; ")
    with pytest.raises(InvalidInput, match="names no table"):
        TableRef("a..b")
    assert Query("SELECT 1 ; ").sql == "SELECT 1"
    assert Files("s3://b/day=1").format == "parquet"
    with pytest.raises(InvalidInput, match="no amount of memory"):
        Database("lots")
    with pytest.raises(InvalidInput, match="resolution 5"):
        Engine(resolution=5)


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_lake_without_its_library_says_what_to_install(kind: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    monkeypatch.setitem(sys.modules, "pyiceberg.table", None)
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    with pytest.raises(MissingExtra, match=rf"airflow-pipeops\[{kind}\]"):
        profile(Files("/lake/t", format=kind))


def test_progress_is_told_and_a_run_can_be_stopped(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    sides = Files(str(files[0])), Files(str(files[1]))
    told: list[tuple[int, int, str]] = []
    compare(*sides, progress=lambda *facts: told.append(facts))
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    assert told[-1][1] == len(told) == 2 * len(table(0).column_names)
    stop = Cancellation()
    with pytest.raises(Cancelled):
        compare(*sides, progress=lambda done, *_: stop.cancel() if done == 3 else None, cancellation=stop)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_long_query_is_interrupted(tmp_path: Path) -> None:
    stop = Cancellation()
    with Database() as database:
        from airflow_pipeops.drift.engines.duck import DuckSide

        side = DuckSide(Frame(pa.table({"x": [1]})), "reference", database)
        stop.watch(side)
        timer = threading.Timer(0.5, stop.cancel)
        timer.start()
        with pytest.raises(Cancelled):
            side.rows("SELECT SUM(a.range * b.range) FROM range(10000000) a, range(10000000) b")
        timer.join()


LIMITED = """
import json, re, sys
from airflow_pipeops.drift.comparison import Engine
from airflow_pipeops.drift.engine import compare
from airflow_pipeops.drift.sources import Files
found = compare(Files(sys.argv[1]), Files(sys.argv[2]))
# Not ru_maxrss, which begins with what the parent process had.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) // 1024
print(json.dumps([peak, len(found.columns), [item.detail for item in found.columns][:3]]))
"""


def peak_of(left: Path, right: Path) -> tuple[int, int]:
    """Megabytes of a process that compares, and the columns it compared."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(left), str(right)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    peak, columns, _ = json.loads(run.stdout.splitlines()[-1])
    return peak, columns


def test_memory_stays_within_the_limit_whatever_the_size(tmp_path: Path) -> None:
    """Four times the rows, the same memory: 250 MB for everything, Python and NumPy too."""
    r = np.random.default_rng(0)
    peaks = []
    for parts in (1, 4):
        folder = tmp_path / str(parts)
        folder.mkdir()
        for part in range(parts):
            columns = {f"x{i}": r.normal(size=250_000) for i in range(4)}
            columns["id"] = np.char.add("customer-", r.integers(0, 500_000, 250_000).astype(str))
            pq.write_table(pa.table(columns), folder / f"{part}.parquet")
        peaks.append(peak_of(folder, folder)[0])
    assert max(peaks) <= 250, peaks


@pytest.mark.timeout(900)
@pytest.mark.nightly
def test_a_million_categories_complete_within_the_limit(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    ids = np.char.add("category-number-", r.integers(0, 1_000_000, 6_000_000).astype(str))
    pq.write_table(pa.table({"id": ids, "x": r.normal(size=len(ids))}), tmp_path / "a.parquet")
    peak, columns = peak_of(tmp_path / "a.parquet", tmp_path / "a.parquet")
    assert peak <= 250
    assert columns == 2


@pytest.mark.timeout(1200)  # 60 seconds of CPU: DuckDB binds a thousand columns for each query
@pytest.mark.nightly
def test_a_thousand_columns_complete_within_the_limit(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    pq.write_table(pa.table({f"x{i}": r.normal(size=20_000) for i in range(1000)}), tmp_path / "a.parquet")
    peak, columns = peak_of(tmp_path / "a.parquet", tmp_path / "a.parquet")
    assert peak <= 250
    assert columns == 1000
