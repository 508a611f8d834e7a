"""Every row is in one of the counts."""

from __future__ import annotations

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
