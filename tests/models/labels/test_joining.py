"""Labels that come late, twice, corrected, withdrawn, for unknown keys, and before their prediction."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.labels.joining import Columns, join


def predicted(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["key", "at", "sha256", "score"])


def labels(*rows: tuple[str, str, int | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["key", "at", "label"])


DAY = "2013-04-01T10:00:00Z"
MADE = predicted(
    ("a", DAY, "new", 0.9), ("a", DAY, "old", 0.2), ("b", DAY, "new", 0.4), ("c", DAY, "new", 0.3)
)


def test_each_label_joins_every_model_and_all_others_are_counted():
    came = labels(
        ("a", "2013-04-03", 0),
        ("a", "2013-04-05", 1),  # corrected
        ("a", "2013-04-05", 1),  # twice
        ("b", "2013-03-31", 1),  # known before it was predicted
        ("x", "2013-04-02", 1),  # of nobody
    )
    joined = join(MADE, came)
    assert joined.frame[["key", "sha256", "score"]].to_numpy().tolist() == [
        ["a", "new", 0.9], ["a", "old", 0.2], ["b", "new", 0.4], ["c", "new", 0.3],
    ]  # fmt: skip
    assert [None if pd.isna(one) else one for one in joined.frame["label"]] == [1, 1, None, None]
    assert joined.counts.to_json() == {
        "predictions": 4, "labelled": 2, "waiting": 1, "early": 1, "repeated_predictions": 0,
        "labels": 3, "repeated_labels": 1, "corrected": 1, "withdrawn": 0, "unknown": 1,
    }  # fmt: skip


def test_a_correction_does_not_excuse_a_label_that_was_known_before():
    joined = join(MADE, labels(("b", "2013-03-31", 1), ("b", "2013-04-09", 0)))
    assert (joined.counts.early, joined.counts.labelled) == (1, 0)


def test_a_null_withdraws_the_label_before_it():
    came = labels(("a", "2013-04-03", 1), ("a", "2013-04-04", None))
    counts = join(MADE, came).counts
    assert (counts.labelled, counts.withdrawn, counts.labels) == (0, 1, 0)
    again = pd.concat([came, labels(("a", "2013-04-06", 0))])
    assert join(MADE, again).counts.labelled == 2


def test_labels_before_their_predictions_join_when_these_come():
    came = labels(("d", "2013-04-03", 1))
    assert join(MADE, came).counts.unknown == 1
    later = join(pd.concat([MADE, predicted(("d", DAY, "new", 0.7))]), came)
    assert (later.counts.unknown, later.counts.labelled) == (0, 1)


@given(st.randoms(use_true_random=False))
def test_order_files_and_repetition_change_nothing(random):
    came = [("a", "2013-04-03", 0), ("a", "2013-04-05", 1), ("c", "2013-04-02", 1), ("x", "2013-04-02", 1)]
    expected = join(MADE, labels(*came)).frame
    again = came + random.sample(came, 2)
    random.shuffle(again)
    twice = pd.concat([MADE, MADE]).sample(frac=1, random_state=random.randint(0, 999))
    found = join(twice, labels(*again))
    pd.testing.assert_frame_equal(found.frame, expected)
    assert found.counts.repeated_predictions == len(MADE)


@pytest.mark.parametrize(
    ("made", "came", "said"),
    [
        (predicted(("a", DAY, "new", 0.9), ("a", DAY, "new", 0.8)), labels(), "predicted twice by one model"),
        (MADE, labels(("a", "2013-04-03", 0), ("a", "2013-04-03", 1)), "two labels of one time that differ"),
        (MADE, labels((None, "2013-04-03", 0)), "1 labels have no key"),
        (predicted(("a", None, "new", 0.9)), labels(), "1 predictions have no at"),
        (MADE, labels(("a", "yesterday", 0)), "values that are no times"),
        (MADE, labels((1, "2013-04-03", 0)), "is text in the predictions and an integer in the labels"),
        (MADE.drop(columns="sha256"), labels(), "sha256"),
        (MADE.assign(at=3), labels(), "values that are no times"),
    ],
)
def test_what_cannot_be_joined_is_refused_whole(made, came, said):
    with pytest.raises(InvalidInput, match=said):
        join(made, came)


def test_names_of_ones_own_and_a_key_of_two_columns():
    made = pd.DataFrame(
        {
            "request_id": ["r", "r"],
            "row": [0, 1],
            "when": [pd.Timestamp("2013-04-01")] * 2,
            "digest": "m",
            "p": [0.1, 0.2],
        }
    )
    came = pd.DataFrame({"request_id": ["r"], "row": [1], "when": [pd.Timestamp("2013-04-02")], "late": [1]})
    names = Columns(key=("request_id", "row"), at="when", sha256="digest", score="p", label="late")
    joined = join(made, came, names)
    assert joined.frame["score"][joined.frame["label"].notna()].tolist() == [0.2]
    assert Columns.from_json(names.to_json()) == names


@pytest.mark.parametrize(
    "given",
    [
        {"key": ()},
        {"key": ("key", "key")},
        {"key": ("at",)},
        {"key": ("score",), "score": "p"},
        {"key": ("label",), "label": "late"},
        {"score": "at"},
        {"label": "key"},
    ],
)
def test_columns_that_cannot_be_told_apart_are_refused(given):
    with pytest.raises(InvalidInput, match="tell a key and what it holds apart") as error:
        Columns(**given)
    assert error.value.field == "key"
