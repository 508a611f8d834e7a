"""The generated SQL, dialect by dialect: its text is kept, since most of these engines are not run here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.drift.engines import sql
from airflow_pipeops.drift.engines.dialects import DIALECTS, SECONDS, TIMES, coin, family, known, numpy_type
from airflow_pipeops.exceptions import InvalidInput

KEPT = Path(__file__).parent / "sql"
NAME = 'a "b" `c`'
MAP = sql.Map(-1.5, 0.125)


def generated(dialect: str) -> str:
    value = sql.as_number(NAME, "number", dialect)
    column, group = sql.identifier(NAME, dialect), sql.identifier("group", dialect)
    texts = [sql.text(text, dialect) for text in ("it's", "back\\slash", "line\nbreak", "日本")]
    statements = {
        "rows": sql.rows(dialect, "lake.t"),
        "segments": sql.segments(dialect, "lake.t", group, 200),
        "map": sql.tiles(dialect, "lake.t", value),
        "cells": sql.cells(dialect, "lake.t", value, MAP),
        "cells by segment": sql.cells(dialect, "lake.t", value, MAP, segment=group),
        "present": sql.present(dialect, "lake.t", value),
        "values": sql.values(dialect, "lake.t", value, [(-1.0, 2.5), (1e300, 2e300)]),
        "categories": sql.categories(dialect, "lake.t", column, 1001),
        "categories by segment": sql.categories(dialect, "lake.t", column, 1001, group),
        "among": sql.among(dialect, "lake.t", column, texts),
        **{f"seconds of {kind}": sql.as_number("c", kind, dialect) or "refused" for kind in TIMES},
    }
    return "".join(f"-- {name}\n{text}\n" for name, text in statements.items())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_text_is_what_was_reviewed(dialect: str) -> None:
    path = KEPT / f"{dialect}.sql"
    found = generated(dialect)
    if os.environ.get("PIPEOPS_KEEP_SQL"):  # after a change that was meant: look at the diff
        path.write_text(found)
    assert found == path.read_text()


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "duckdb"])
def test_a_coin_is_an_expression_of_its_dialect(dialect: str) -> None:
    before, toss = coin(dialect, 2**19)
    for query in filter(None, (before, f"SELECT a FROM t WHERE {toss} < 1E-3 ORDER BY {toss} LIMIT 5")):
        sqlglot.parse_one(query, read=dialect)
    assert ("524288" in toss or "0.5" in before) == (dialect not in ("redshift", "trino", "bigquery"))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_its_own_dialect_can_parse_it(dialect: str) -> None:
    for line in generated(dialect).split("-- ")[1:]:
        name, _, statement = line.partition("\n")
        if not name.startswith("seconds"):
            assert len(sqlglot.parse(statement, read=dialect)) == 1, name


@pytest.mark.parametrize("dialect", DIALECTS)
@given(text=st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_a_text_is_one_literal_and_means_itself(dialect: str, text: str) -> None:
    """Whatever a category holds, it stays inside its quotes, by the rules of the dialect's own tokenizer."""
    tokens = sqlglot.tokenize(f"SELECT {sql.text(text, dialect)}", read=dialect)
    assert [token.text for token in tokens[1:]] == [text]


@pytest.mark.parametrize("dialect", DIALECTS)
@given(
    name=st.text(min_size=1, alphabet=st.characters(exclude_characters="\x00\\", exclude_categories=["Cs"]))
)
def test_a_name_is_one_identifier(dialect: str, name: str) -> None:
    tokens = sqlglot.tokenize(f"SELECT {sql.identifier(name, dialect)}", read=dialect)
    assert [token.text for token in tokens[1:]] == [name]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_to_the_last_bit(value: float) -> None:
    text = sql.number(value)
    assert "E" in text  # else some engines read a decimal
    assert float(text.strip("()")) == value


def test_what_is_spliced_in_is_not_looked_through_again() -> None:
    found = sql.rows("duckdb", "pipeops_value")
    assert found == "SELECT COUNT(*) AS n FROM pipeops_value"


def test_a_nul_character_is_refused() -> None:
    with pytest.raises(InvalidInput, match="NUL"):
        sql.text("a\x00b", "postgres")


@pytest.mark.parametrize(
    ("name", "dialect", "expected"),
    [
        ("DECIMAL(18,2)", "duckdb", "number"),
        ("UBIGINT", "duckdb", "integer"),
        ("TIMESTAMP WITH TIME ZONE", "duckdb", "timestamptz"),
        ("TIMESTAMP_NS", "duckdb", "timestamp"),
        ("ENUM('a', 'b')", "duckdb", "text"),
        ("INTEGER[]", "duckdb", "nested"),
        ("INTEGER[3]", "duckdb", "nested"),
        ("STRUCT(a INTEGER)", "duckdb", "nested"),
        ("NULL", "duckdb", "null"),
        ("BLOB", "duckdb", "binary"),
        ("array<int>", "spark", "nested"),
        ("timestamp", "spark", "timestamptz"),
        ("timestamp_ntz", "spark", "timestamp"),
        ("interval day to second", "spark", "interval"),
        ("void", "spark", "null"),
        ("decimal(10,2)", "trino", "number"),
        ("timestamp(3) with time zone", "trino", "timestamptz"),
        ("varchar(10)", "trino", "text"),
        ("row(a bigint)", "trino", "nested"),
        ("_int4", "postgres", "nested"),
        ("bpchar", "postgres", "text"),
        ("bytea", "postgres", "binary"),
        ("uuid", "postgres", "uuid"),
        ("TIMESTAMP", "bigquery", "timestamptz"),
        ("DATETIME", "bigquery", "timestamp"),
        ("Nullable(Decimal(9, 2))", "clickhouse", "number"),
        ("LowCardinality(Nullable(String))", "clickhouse", "text"),
        ("DateTime64(6)", "clickhouse", "timestamptz"),
        ("Array(Int8)", "clickhouse", "nested"),
        ("code 600", "postgres", "unknown"),
        ("point", "postgres", "unknown"),
    ],
)
def test_families(name: str, dialect: str, expected: str) -> None:
    assert family(name, dialect) == expected


def test_numpy_names() -> None:
    assert [numpy_type(name) for name in ("FLOAT", "real", "UTINYINT", "DECIMAL(4,1)")] == [
        "float32",
        "float32",
        "uint8",
        "float64",
    ]


def test_an_unknown_dialect_is_refused() -> None:
    assert set(SECONDS) == set(DIALECTS)
    with pytest.raises(InvalidInput, match="'oracle'"):
        known("oracle")
