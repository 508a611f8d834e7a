"""What is in records that nobody expects ends no member: it is told apart, with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from airflow_pipeops.models.artifact import Loaded, Manifest
from airflow_pipeops.serving.stream.scoring import score

HUGE = "1" + "0" * 400


class Picky(BaseEstimator):
    """Fails on some values, each time as it pleases."""

    def predict(self, frame: Any) -> Any:
        """Give the values, where they are such as it takes."""
        if (frame["x"] == 13).any():
            raise KeyError("13")
        if (frame["x"] == 14).any():
            raise MemoryError
        return np.asarray(frame["x"])


def scored(*records: str, kind: str = "FP64"):
    loaded = Loaded(Picky(), Manifest("picky", {"x": kind}), "a" * 64)
    return score(loaded, [one.encode() for one in records])


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("FP64", HUGE, f"x is {HUGE[:40]!r}, which is no FP64"),
        ("FP64", "true", "x is 'True', which is no FP64"),
        ("INT64", HUGE, f"x is {HUGE[:40]!r}, which is no INT64"),
        ("BYTES", r'"\ud800"', "which is no BYTES"),
    ],
)
def test_a_value_that_is_none_of_its_kind_is_told_apart(kind, value, why):
    (found,) = scored(f'{{"x": {value}}}', kind=kind)
    assert found.outputs is None
    assert why in found.reason


def test_a_record_on_which_the_model_fails_is_told_apart_from_the_others():
    found = scored('{"x": 1}', '{"x": 13}', '{"x": 3}')
    assert [one.outputs for one in found] == [{"probability": 1.0}, None, {"probability": 3.0}]
    assert found[1].reason == "the model failed: KeyError: '13'"


def test_a_machine_without_memory_is_no_fault_of_the_record():
    with pytest.raises(MemoryError):
        scored('{"x": 14}')
