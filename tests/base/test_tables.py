"""The one reader of CSV files: what it tells of values, and what it refuses by name; and Parquet beside it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_pipeops.base.delimited import Csv
from airflow_pipeops.base.tables import read
from airflow_pipeops.drift.engine import profile
from airflow_pipeops.drift.engines.duck import Database
from airflow_pipeops.drift.engines.opening import opened
from airflow_pipeops.drift.sources import Files
from airflow_pipeops.exceptions import InvalidInput

HARD = """id,zip,na,day,at,instant,flag,empty,share,phone,big,code
1,01234,NA,2026-01-01,2026-01-01 10:00,2026-01-01T10:00:00Z,True,,1.5,+49123,9223372036854775808,1e5
2,00001,null,2026-12-31,2026-01-01 10:00:01.5,2026-01-01T10:00:00+02:00,false,"",,+1,1,x
"""

#: Column -> dtype in pandas, and family in the drift engine.
TOLD = {
    "id": ("int64", "integer"),
    "zip": ("str", "text"),  # a number would lose its zero
    "na": ("str", "text"),  # only what is empty is null
    "day": ("datetime64[ms]", "date"),
    "at": ("datetime64[us]", "timestamp"),
    "instant": ("datetime64[us, UTC]", "timestamptz"),
    "flag": ("bool", "boolean"),
    "empty": ("float64", "null"),
    "share": ("float64", "number"),
    "phone": ("str", "text"),
    "big": ("str", "text"),  # no type of 64 bits holds it
    "code": ("str", "text"),
}


def written(folder: Path, content: str | bytes, name: str = "a.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def families(source: Files) -> dict[str, str]:
    with Database() as database:
        return {one.name: one.family for one in opened(source, "reference", duck=database).schema()}


def test_the_gate_and_the_drift_reader_have_one_opinion(tmp_path: Path) -> None:
    path = written(tmp_path, HARD)
    frame = read(path).frame
    kinds = {name: str(kind).replace("object", "str") for name, kind in frame.dtypes.items()}
    assert kinds == {name: kind for name, (kind, _) in TOLD.items()}
    assert families(Files(path)) == {name: kind for name, (_, kind) in TOLD.items()}
    assert list(frame["zip"]) == ["01234", "00001"]
    assert list(frame["na"]) == ["NA", "null"]
    assert frame["empty"].isna().all()
    assert frame["instant"][1] == pd.Timestamp("2026-01-01T08:00Z")


def test_every_value_is_looked_at_before_a_type_is_told(tmp_path: Path) -> None:
    """Integers in the first 30,000 rows and fractions after them, as no sample of the beginning shows."""
    rows = [*range(30_000), *(n + 0.25 for n in range(14_020))]
    path = written(tmp_path, "x\n" + "\n".join(map(str, rows)) + "\n")
    assert read(path).frame["x"].sum() == sum(rows)
    aggregate = profile(Files(path)).columns[""]["x"]
    assert aggregate.dtype == "float64"
    assert aggregate.high[-1] == 29_999
    assert (aggregate.low % 1 == 0.25).any()


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("name;share\r\nä;1,5\r\nb;2\r\n", {"decimal": ","}),
        ("sep=;\r\nname;share\r\nä;1.5\r\nb;2\r\n", {}),
        ("name\tshare\nä\t1.5\nb\t2\n", {}),
        ("\n\nname|share\nä|1.5\n\nb|2", {}),
        ('"name",share\n"ä",1.5\n"b","2"\n', {}),
        ("\ufeffname,share\nä,1.5\nb,2\n", {}),
        ("name,share\nä,1.5\nb,2\n".encode("utf-16"), {}),
        ("name,share\nä,1.5\nb,2\n".encode("latin-1"), {"encoding": "latin-1"}),
        (
            "name;share\nä;1,5\nb;2\n".encode("cp1252"),
            {"encoding": "cp1252", "decimal": ",", "delimiter": ";"},
        ),
        (gzip.compress("name,share\nä,1.5\nb,2\n".encode(), mtime=0), {}),
        (gzip.compress("name,share\nä,1.5\nb,2\n".encode("utf-16"), mtime=0), {}),
    ],
)
def test_what_spreadsheets_write_is_read(content: Any, options: dict[str, Any], tmp_path: Path) -> None:
    packed = isinstance(content, bytes) and content[:2] == b"\x1f\x8b"
    path = written(tmp_path, content, "a.csv.gz" if packed else "a.csv")
    frame = read(path, options=options).frame
    assert frame.to_dict("list") == {"name": ["ä", "b"], "share": [1.5, 2.0]}
    found = profile(Files(path, csv=options))
    assert found.columns[""]["name"].counts == {"ä": 1, "b": 1}
    assert (found.columns[""]["share"].low[0], found.columns[""]["share"].high[-1]) == (1.5, 2.0)


@pytest.mark.parametrize(
    ("content", "said", "remedy"),
    [
        ("a;b\n1,5;x\n", "column 'a' of .* holds values such as 1,5", "'decimal': ','"),
        ('a,b\n"1,234",x\n', "column 'a' of .* holds values such as 1,5", "'a': 'text'"),
        ("a,b;c\n1,2\n", "its delimiter cannot be told", "'delimiter': ','"),
        ("a,b,a\n1,2,3\n", "two columns named 'a'", "Rename"),
        ("a,b,A\n1,2,3\n", "two columns that differ in case only, 'a' and 'A'", "Rename"),
        ("ä,b\nö,2\n".encode("latin-1"), "is not in UTF-8", "'encoding': 'cp1252'"),
        (b"a,b\n" + b"x,1\n" * 5000 + "ö,2\n".encode("latin-1"), "is not in UTF-8", "'encoding'"),
        ("a,b\n1,2\n3\n", "line 3 has 1 values, and the header has 2 names", "double quotes"),
        ("a,b\n1,2,3\n", "line 2 has 3 values", "double quotes"),
        ('a,b\n1,"2\n', "a quote that is never closed", "double quotes"),
        (b"a,b\r\n1,2\n3,4\r\n", "ends in another way", "double quotes"),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_settles_it(
    content: Any, said: str, remedy: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    for reading in (lambda: read(path), lambda: profile(Files(path))):
        with pytest.raises(InvalidInput, match=said) as caught:
            reading()
        assert remedy in caught.value.remedy
        assert "1,234" not in str(caught.value)


def test_options_settle_what_is_open(tmp_path: Path) -> None:
    path = written(tmp_path, 'a,b,c\n"1,234",NA,007\n"2,5",3,x\n')
    options = {"types": {"a": "text", "b": "number"}, "nulls": ["NA"]}
    frame = read(path, options=options).frame
    assert list(frame["a"]) == ["1,234", "2,5"]
    assert (frame["b"].isna().sum(), frame["b"].sum()) == (1, 3)
    with pytest.raises(InvalidInput, match=r"column 'b' of .* has values that are no number"):
        read(path, options={"types": {"b": "number", "a": "text"}})
    with pytest.raises(InvalidInput, match="has no column 'z', of which csv says the type"):
        read(path, options={"types": {"z": "number"}})
    for wrong in (
        {"delimiter": ";;"},
        {"decimal": ";"},
        {"encoding": "klingon"},
        {"types": {"a": "int"}},
        {"sep": ";"},
    ):
        with pytest.raises(InvalidInput, match="csv") as caught:
            Csv.of(wrong)
        assert caught.value.remedy


def test_files_are_told_together_and_columns_by_name(tmp_path: Path) -> None:
    first = written(tmp_path, "zip,x\n12345,1\n", "a.csv")
    second = written(tmp_path, "x;zip\n2.5;01234\n", "b.csv")
    third = written(tmp_path, gzip.compress(b"zip,x\n00001,7\n"), "c.csv.gz")
    frame = read([first, second, third]).frame
    assert frame.to_dict("list") == {"zip": ["12345", "01234", "00001"], "x": [1.0, 2.5, 7.0]}
    found = profile(Files([first, second, third]))
    assert found.columns[""]["zip"].counts == {"12345": 1, "01234": 1, "00001": 1}
    assert found.columns[""]["x"].high[-1] == 7


def test_integers_that_no_double_holds_stay_themselves(tmp_path: Path) -> None:
    big = 2**53 + 1
    pq.write_table(pa.table({"id": [big, None], "small": [1, None]}), tmp_path / "a.parquet")
    path = written(tmp_path, f"id,small\n{big},1\n,\n")
    for name in (path, str(tmp_path / "a.parquet")):
        frame = read(name).frame
        assert [int(one) for one in frame["id"].dropna()] == [big]
        assert str(frame["small"].dtype) == "float64"


def test_parquet_has_the_columns_that_the_drift_reader_sees(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    frame[frame.x > 1].to_parquet(tmp_path / "numbered.parquet")  # pandas keeps the numbers of the rows
    frame.set_index(pd.Index(["a", "b", "c"], name="id")).to_parquet(tmp_path / "named.parquet")
    for name, columns in (("numbered", {"x"}), ("named", {"x", "id"})):
        path = str(tmp_path / f"{name}.parquet")
        assert set(read(path).frame.columns) == columns
        assert set(families(Files(path))) == columns


def test_names_that_differ_in_case_only_are_refused_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1], "s": [{"X": 1, "x": 2}], "X": [2]}), tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    for reading in (lambda: read(path), lambda: profile(Files(path))):
        with pytest.raises(InvalidInput, match="differ in case only, 'x' and 'X'"):
            reading()
