"""Dataclasses go to JSON and come back the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.base.serialisation import JsonForm


@dataclass(frozen=True)
class Inner(JsonForm):
    name: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer(JsonForm):
    number: float
    pause: timedelta = timedelta(0)
    longest: timedelta | None = None
    first: Inner | None = None
    all: tuple[Inner, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)


INNER = st.builds(Inner, st.text(), st.lists(st.text(), max_size=3).map(tuple))
SECONDS = st.integers(0, 10**8).map(lambda seconds: timedelta(seconds=seconds))
OUTER = st.builds(
    Outer,
    st.floats(allow_nan=False),
    SECONDS,
    st.none() | SECONDS,
    st.none() | INNER,
    st.lists(INNER, max_size=3).map(tuple),
    st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3),
)


@given(OUTER)
def test_there_and_back(value: Outer) -> None:
    assert Outer.from_json(json.loads(json.dumps(value.to_json()))) == value


def test_the_form() -> None:
    assert Outer(1.5, timedelta(minutes=1), first=Inner("a", ("b",))).to_json() == {
        "number": 1.5,
        "pause": 60.0,
        "longest": None,
        "first": {"name": "a", "marks": ["b"]},
        "all": [],
        "weights": {},
    }


def test_fields_of_later_versions_are_left_out() -> None:
    assert Inner.from_json({"name": "a", "colour": "red"}) == Inner("a")


@pytest.mark.parametrize("data", [{}, None, [], "x", {"marks": []}])
def test_what_is_incomplete_is_a_type_error(data: object) -> None:
    with pytest.raises(TypeError):
        Inner.from_json(data)
