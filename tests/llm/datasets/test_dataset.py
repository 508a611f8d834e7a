"""A dataset is its items, whatever their order, and each of them once."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.datasets.dataset import of_rows
from airflow_pipeops.llm.datasets.reading import read
from tests.llm.evaluation.conftest import rows

items = st.lists(
    st.fixed_dictionaries(
        {"id": st.text(min_size=1, max_size=5), "inputs": st.fixed_dictionaries({"q": st.text(max_size=9)})}
    ),
    min_size=1,
    max_size=9,
    unique_by=(lambda row: row["id"], lambda row: " ".join(normalize("NFC", row["inputs"]["q"]).split())),
)


@given(items, st.integers(1, 4), st.randoms(use_true_random=False))
def test_order_changes_neither_digest_nor_shards(
    given: list[dict[str, Any]], shards: int, chance: random.Random
) -> None:
    dataset = of_rows(given)
    shuffled = list(given)
    chance.shuffle(shuffled)
    other = of_rows(shuffled)
    assert other.sha256 == dataset.sha256
    parts = [dataset.shard(number, shards) for number in range(shards)]
    assert [other.shard(number, shards) for number in range(shards)] == parts
    assert sorted(item.id for part in parts for item in part) == sorted(item.id for item in dataset.items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    changed = [{**given[0], "expected": "another"}, *given[1:]]
    assert of_rows(changed).sha256 != dataset.sha256


def test_jsonl_and_parquet_of_the_same_items_are_one_dataset(tmp_path: Path) -> None:
    lines, parquet = tmp_path / "a.jsonl", tmp_path / "a.parquet"
    lines.write_text("\n\n".join(json.dumps(row) for row in rows(5)))
    pd.DataFrame(rows(5)).to_parquet(parquet)
    assert read(lines.as_uri()).sha256 == read(parquet.as_uri()).sha256


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "has no items"),
        ([{"q": "x"}], "row 1 of the dataset has no id"),
        ([{"id": "a"}], "row 1 of the dataset has no inputs"),
        ([{"id": "a", "q": "x"}, {"id": "a", "q": "y"}], "items 'a' and 'a' of dataset have the same id"),
        ([{"id": "a", "q": "x  y"}, {"id": "b", "q": " x y"}], "items 'a' and 'b' of dataset ask the same"),
        ([{"id": "a", "q": "x", "hard": 3}], "row 1 of the dataset has hard 3"),
        ([{"id": "a", "q": 2**60}], "is not JSON"),
    ],
)
def test_what_is_no_dataset_is_refused_by_name(given: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        of_rows(given)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"id": "a", "q": "x"}\n{"id": ', "row 2 of the dataset is no JSON"),
        ("a.jsonl", b"[1]", "row 1 of the dataset is no object"),
        ("a.jsonl", b"\xff\xfe", "row 1 of the dataset is no JSON"),
        ("a.parquet", b"PAR1", "is damaged or no Parquet file"),
        ("a.txt", b"", "is of no known format"),
    ],
)
def test_a_file_that_is_none_is_refused(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        read((tmp_path / name).as_uri())
