"""Every row is in one of the counts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.performance.labelled import join, positives

KEY = {"key": ["id"], "prediction": "score", "label": "late"}


@given(
    st.dictionaries(st.integers(0, 20), st.none() | st.floats(0, 1), min_size=1),
    st.dictionaries(st.integers(0, 20), st.none() | st.integers(0, 1)),
)
def test_nothing_is_lost_and_nothing_is_made_up(scores: dict, labels: dict) -> None:
    left = pd.DataFrame({"id": list(scores), "score": pd.Series(list(scores.values()), dtype="float64")})
    right = pd.DataFrame({"id": list(labels), "late": pd.Series(list(labels.values()), dtype="float64")})
    found = join(left, right, **KEY)
    predicted = {key for key, score in scores.items() if score is not None}
    labelled = {key for key, label in labels.items() if label is not None}
    assert found.predicted == len(predicted)
    assert found.unpredicted == len(scores) - len(predicted)
    assert len(found.labels) == len(predicted & labelled)
    assert found.unlabelled == len(predicted - labelled)
    assert found.orphans == len(labelled - predicted)
    assert 0 <= found.coverage <= 1
    pairs = sorted(zip(found.predictions, found.labels, strict=True))
    assert pairs == sorted((scores[key], labels[key]) for key in predicted & labelled)


def test_a_label_delivered_twice_is_one_label_and_two_that_differ_are_refused() -> None:
    scores = pd.DataFrame({"id": [1, 2], "score": [0.1, 0.9]})
    twice = pd.DataFrame({"id": [1, 1, 2], "late": [0, 0, 1]})
    assert list(join(scores, twice, **KEY).labels) == [0, 1]
    with pytest.raises(InvalidInput, match="1 times a key of id has labels that differ") as caught:
        join(scores, pd.DataFrame({"id": [1, 1], "late": [0, 1]}), **KEY)
    assert caught.value.field == "labels"
    with pytest.raises(InvalidInput, match="was predicted more than once"):
        join(pd.concat([scores, scores]), twice, **KEY)


def test_labels_beside_the_predictions_need_no_key() -> None:
    rows = pd.DataFrame({"score": [0.1, 0.9, None], "late": [0, None, 1]})
    found = join(rows, None, key=(), prediction="score", label="late")
    assert found.to_json() == {
        "labelled": 1,
        "predicted": 2,
        "unlabelled": 1,
        "orphans": 0,
        "unpredicted": 1,
        "coverage": 0.5,
    }


def test_which_label_is_the_positive_one() -> None:
    assert list(positives(["late", "on time"], "late")) == [1, 0]
    assert list(positives([True, False], None)) == [1, 0]
    assert list(positives(["on time", "on time"], "late")) == [0, 0], "a day without one is a day"
    with pytest.raises(InvalidInput, match="no label is 'x'; there are 'late', 'on time'"):
        positives(["late", "on time"], "x")
    with pytest.raises(InvalidInput, match="positive="):
        positives(["late"], None)


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        ([1, 2], ["1", "2"], "an integer in the predictions and text in the labels"),
        ([1, 2], [1.0, 2.0], "an integer in the predictions and float64 in the labels"),
        ([Decimal("1.1"), Decimal(2)], [1.1, 2.0], "a decimal in the predictions and float64"),
        ([True, False], [1, 0], "boolean in the predictions and an integer"),
        (
            pd.to_datetime(["2026-01-01"]),
            pd.to_datetime(["2026-01-01T00:00Z"]),
            "timestamp with time zone in the labels",
        ),
        ([UUID(int=1)], [str(UUID(int=1))], "UUID in the predictions and text in the labels"),
    ],
)
def test_keys_of_unlike_types_are_refused_by_name(left: Any, right: Any, said: str) -> None:
    scores = pd.DataFrame({"id": left, "score": 0.5})
    with pytest.raises(InvalidInput, match=f"key 'id' is .*{said}") as caught:
        join(scores, pd.DataFrame({"id": right, "late": 1}), **KEY)
    assert caught.value.field == "key"
    assert "CAST" in caught.value.remedy


def test_keys_that_doubles_cannot_tell_apart_meet_only_their_own() -> None:
    """Decimals of 30 digits, and integers beyond 2**53, signed beside unsigned."""
    keys = [Decimal(f"123456789012345678901234567.{n:03}") for n in range(100)]
    scores = pd.DataFrame({"id": keys[:50], "score": 0.5})
    assert join(scores, pd.DataFrame({"id": keys[50:], "late": 1}), **KEY).coverage == 0
    assert join(scores, pd.DataFrame({"id": keys, "late": 1}), **KEY).coverage == 1
    big = range(2**53, 2**53 + 100)
    scores = pd.DataFrame({"id": pd.Series(big[0::2], dtype="int64"), "score": 0.5})
    for unsigned in ("uint64", "UInt64", "Int64"):
        odd = pd.DataFrame({"id": pd.Series(big[1::2], dtype=unsigned), "late": 1})
        assert join(scores, odd, **KEY).to_json()["orphans"] == 50
        even = pd.DataFrame({"id": pd.Series(big[0::2], dtype=unsigned), "late": 1})
        assert join(scores, even, **KEY).coverage == 1


def test_a_key_that_is_null_meets_no_other() -> None:
    scores = pd.DataFrame({"id": ["a", None, None], "score": [0.1, 0.2, 0.3]})
    labels = pd.DataFrame({"id": ["a", None], "late": [1, 0]})
    found = join(scores, labels, **KEY)
    assert (list(found.labels), found.predicted, found.unlabelled, found.orphans) == ([1], 3, 2, 1)
