"""A comparison and its page open each source once: what is plotted is drawn where it was compared, before that is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from airflow.sdk import ObjectStoragePath

from airflow_pipeops.drift import engine
from airflow_pipeops.drift.comparison import Engine
from airflow_pipeops.drift.engine import compare, profile
from airflow_pipeops.drift.engines import duck, files
from airflow_pipeops.drift.operators import DataDriftOperator
from airflow_pipeops.drift.sources import Files, Frame, TableRef

ROWS = 3000


def batch(seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame({"x": random.normal(shift, 1, ROWS), "kind": random.choice(["a", "b"], ROWS)})


class Hook:
    """A warehouse of one table, which counts its connections and keeps the statements."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.connections = 0
        self.statements: list[str] = []

    def get_records(self, sql: str) -> None:
        raise AssertionError("rows are read by the connection")

    def get_conn(self) -> Connection:
        self.connections += 1
        found = duckdb.connect()
        found.register("rows", self.table)
        return Connection(found, self.statements)


class Connection:
    def __init__(self, connection: duckdb.DuckDBPyConnection, statements: list[str]) -> None:
        self.connection, self.statements = connection, statements

    def cursor(self) -> Connection:
        return self

    def execute(self, sql: str) -> None:
        self.statements.append(sql)
        self.connection.execute(sql)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.connection.fetchall()

    @property
    def description(self) -> Any:
        return self.connection.description

    def close(self) -> None:
        """The table stays: more statements may come."""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__PIPEOPS__EVIDENCE_URI", (tmp_path / "evidence").as_uri())
    return tmp_path


def test_files_are_opened_once_and_their_rows_drawn_once(
    kept: Path, context: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch(0).to_parquet(kept / "before.parquet")
    batch(1, 1.0).to_csv(kept / "after.csv", index=False)
    opened: list[str] = []
    statements: list[str] = []
    execute = duck.DuckSide._execute

    def counting(source: Files, field: str) -> files.Listed:
        opened.append(field)
        return files.listed(source, field)

    def noting(side: duck.DuckSide, sql: str) -> Any:
        statements.append(sql)
        return execute(side, sql)

    monkeypatch.setattr(duck, "listed", counting)
    monkeypatch.setattr(duck.DuckSide, "_execute", noting)
    sides = {"reference": str(kept / "before.parquet"), "current": str(kept / "after.csv")}
    found = DataDriftOperator(task_id="drift", **sides).execute(context)
    assert "drifted" in ObjectStoragePath(found["report"]).read_text()
    assert opened == ["reference", "current"]
    assert sum("USING SAMPLE" in sql for sql in statements) == 2
    assert sum(sql.startswith("DESCRIBE") for sql in statements) == 2
    with_page = len(statements)
    statements.clear()
    DataDriftOperator(task_id="drift", **sides, report=False).execute(context)
    assert with_page == len(statements) + 2


def test_a_warehouse_is_connected_to_once(kept: Path, context: dict) -> None:
    hooks = Hook(batch(0)), Hook(batch(1, 1.0))
    before, after = (TableRef("rows", hook=hook, dialect="duckdb") for hook in hooks)
    found = DataDriftOperator(task_id="drift", reference=before, current=after).execute(context)
    assert (found["verdict"], found["columns_total"]) == ("drift", 2)
    assert "drifted" in ObjectStoragePath(found["report"]).read_text()
    for hook in hooks:
        assert hook.connections == 1
        assert sum("USING SAMPLE" in sql for sql in hook.statements) == 1


def test_the_sample_is_the_same_at_every_look_and_has_the_drifted_columns_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SAMPLE_ROWS", 500)
    left = batch(0).assign(still=range(ROWS))[["still", "kind", "x"]]
    left.to_parquet(tmp_path / "before.parquet", row_group_size=100)
    right = Frame(left.assign(x=left.x + 1))
    sides = Files(str(tmp_path / "before.parquet")), right
    once, again = (compare(*sides, sampled=2, engine=Engine(threads=4)).sample for _ in range(2))
    assert once is not None
    assert again is not None
    assert list(once.reference) == list(once.current) == ["x", "still"]
    assert len(once.reference) == len(once.current) == 500
    pd.testing.assert_frame_equal(once.reference, again.reference)
    pd.testing.assert_frame_equal(once.current, again.current)
    drawn = left.x.to_numpy()[once.reference.still.astype(int)]
    assert np.array_equal(once.reference.x.to_numpy(), drawn)


def test_nothing_is_drawn_unless_asked_for_and_of_two_sides_with_rows() -> None:
    left, right = Frame(batch(0)), Frame(batch(1))
    assert compare(left, right).sample is None
    assert compare(profile(left), right, sampled=40).sample is None
    assert compare(Frame(batch(0)[["kind"]]), right, columns={"kind": ""}, sampled=40).sample is not None
