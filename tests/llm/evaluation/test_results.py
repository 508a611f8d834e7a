"""The table between an evaluation and its gate: typed, in one order, and read back as it was written."""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.llm import results


def row(**more: Any) -> dict[str, Any]:
    """One score."""
    return {"item": "a", "arm": "baseline", "run": 0, "scorer": "exact", "hard": False, **more}


rows = st.lists(
    st.fixed_dictionaries(
        {
            "item": st.text(min_size=1, max_size=4),
            "arm": st.sampled_from(["baseline", "candidate"]),
            "run": st.integers(0, 3),
            "scorer": st.sampled_from(["exact", "judge"]),
            "hard": st.booleans(),
            "value": st.none() | st.floats(-1, 1),
            "label": st.none() | st.text(max_size=3),
            "error": st.none() | st.text(max_size=3),
            "cost": st.none() | st.floats(0, 10),
            "tokens_in": st.none() | st.integers(0, 2**40),
        }
    ),
    max_size=12,
    unique_by=lambda row: tuple(row[name] for name in results.KEY),
)


@settings(max_examples=30)
@given(rows, st.randoms(use_true_random=False))
def test_what_is_written_is_read_in_whatever_order_it_came(
    rows: list[dict[str, Any]], chance: random.Random
) -> None:
    content = results.to_bytes(results.table(rows))
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert results.to_bytes(results.table(shuffled)) == content
    frame = results.of_bytes(content)
    pd.testing.assert_frame_equal(frame, results.table(rows))
    wanted = {tuple(row[name] for name in results.KEY): row for row in rows}
    assert len(frame) == len(rows)
    for found in frame.to_dict("records"):
        row = wanted[tuple(found[name] for name in results.KEY)]
        for name in ("value", "cost", "tokens_in"):
            assert row[name] == found[name] or (row[name] is None and pd.isna(found[name]))
        assert (row["label"], row["error"]) == (found["label"], found["error"])


def test_a_value_that_is_missing_is_no_zero() -> None:
    frame = results.of_bytes(results.to_bytes(results.table([row(error="judge: outside its scale")])))
    assert math.isnan(frame["value"][0])
    assert frame["error"][0] == "judge: outside its scale"
    assert frame["cluster"][0] is None


def test_attributes_of_items_stay() -> None:
    frame = results.table([row(language="de", topic=None), row(item="b", language="en")])
    assert list(results.of_bytes(results.to_bytes(frame))["language"]) == ["de", "en"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(), row()], "hold a score twice"),
        ([{**row(), "item": None}], "column 'item' of the results is empty in 1 rows"),
        ([{**row(), "run": None}], "column 'run' of the results is empty in 1 rows"),
    ],
)
def test_what_is_no_table_is_refused(rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        results.table(rows)


def test_a_file_is_what_was_recorded_or_refused(tmp_path: Path) -> None:
    content = results.to_bytes(results.table([row(value=1.0)]))
    path = tmp_path / results.FILE
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert len(results.load(path.as_uri(), digest)) == 1
    with pytest.raises(InvalidInput, match="not those that were recorded"):
        results.load(path.as_uri(), "0" * 64)
    with pytest.raises(NotFound):
        results.load((tmp_path / "other.parquet").as_uri())
    path.write_bytes(content[:40])
    with pytest.raises(InvalidInput, match="damaged or no Parquet file"):
        results.load(path.as_uri())
    pd.DataFrame({"item": ["a"]}).to_parquet(path)
    with pytest.raises(InvalidInput, match="have no column 'cluster'"):
        results.load(path.as_uri())
