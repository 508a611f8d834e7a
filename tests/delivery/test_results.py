"""What a task returns is of bounded size, and what was left out is kept whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_pipeops.delivery.results import MOST, bounded


@pytest.mark.parametrize(
    "result",
    [
        {"a": "x" * MOST, "b": 1},
        {"a": {"deep": {"er": "é" * MOST}}, "b": 1},
        {"a": ["x" * 200] * 1000, "b": 1},
        {"a": {f"n{number}": number for number in range(20_000)}, "c": ["y" * 3000] * 3000, "b": 1},
    ],
    ids=["text", "nested", "list", "many"],
)
def test_what_is_too_large_is_kept_and_the_rest_stays(result: Any) -> None:
    kept: list[str] = []

    def keep(whole: str) -> str:
        kept.append(whole)
        return "file:///kept"

    found = bounded(result, keep)
    assert [json.loads(one) for one in kept] == [result]
    assert len(json.dumps(found)) <= MOST
    assert found["b"] == 1
    assert "file:///kept" in json.dumps(found["a"])


def test_a_result_of_too_many_fields_is_kept_as_a_whole() -> None:
    many = {f"n{number}": "x" * 30 for number in range(20_000)}
    assert bounded(many, lambda _: "there") == {"kept_in": "there", "bytes": len(json.dumps(many))}


def test_a_long_text_that_has_no_form_in_utf_8_is_kept_too() -> None:
    assert bounded({"a": "\ud800" * MOST}, lambda _: "there") == {"a": {"kept_in": "there", "bytes": MOST}}


def test_what_fits_is_left_alone() -> None:
    result = {"a": "x" * 30_000, "b": ["y" * 2000]}
    assert bounded(result, lambda whole: pytest.fail("nothing is kept")) is result


def test_a_result_without_fields_is_kept_as_a_whole() -> None:
    whole = ["x"] * MOST
    assert bounded(whole, lambda _: "there") == {"kept_in": "there", "bytes": len(json.dumps(whole))}
