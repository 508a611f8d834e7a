"""Reading what others wrote never fails but in one way, whatever they wrote."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.base.documents import map_, maps, number, parsed, text, time_of, whole

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_every_value_has_every_reading(value: object) -> None:
    assert map_(value) == (value if isinstance(value, dict) else {})
    assert all(isinstance(item, dict) for item in maps(value))
    assert text(value) == (value if isinstance(value, str) else "")
    assert whole(value) == (value if type(value) is int else None)
    figure = value if type(value) in (int, float) else None
    assert number(value) == (None if figure in (math.inf, -math.inf) else figure)


@given(VALUES)
def test_what_json_holds_is_read_as_it_was(value: object) -> None:
    assert parsed(json.dumps(value)) == value
    assert parsed(json.dumps(value).encode()) == value


@given(st.binary() | st.text())
def test_anything_else_is_a_value_error(content: bytes | str) -> None:
    with contextlib.suppress(ValueError):
        parsed(content)


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a":' * 200_000, "9" * 10_000, "", b"\xff", "{"])
def test_hostile_texts_are_value_errors(content: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parsed(content)


def test_what_is_too_long_is_not_read() -> None:
    assert parsed("[1]", limit=3) == [1]
    with pytest.raises(ValueError, match="longer than 3"):
        parsed("[12]", limit=3)


@pytest.mark.parametrize("value", [10**400, -(10**400), math.inf, math.nan, True, "1", None])
def test_what_is_no_finite_number_is_none(value: object) -> None:
    assert number(value) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00+00:00"), ("2026-03-01T12:00:00", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01T12:00:00+02:00", "2026-03-01T12:00:00+02:00"), ("yesterday", None), ("", None), (7, None), (None, None),
    ],
)  # fmt: skip
def test_a_time_without_a_zone_is_in_utc_and_anything_else_is_none(value: object, found: str | None) -> None:
    time = time_of(value)
    assert (time and time.isoformat()) == found


def test_a_text_is_cut() -> None:
    assert text("abcdef", limit=3) == "abc"
    assert text(7, limit=3) == ""


def test_a_list_loses_what_is_no_object() -> None:
    assert maps([{"a": 1}, 2, None, [{}], {}]) == [{"a": 1}, {}]
    assert maps({"a": {}}) == []
