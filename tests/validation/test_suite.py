"""Suites from plain JSON: whatever is wrong is named before data is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.validation.suite import Expectation, build, expectations, project_suite

NOT_NULL = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "temp"}}


def make_suite() -> list[dict]:
    return [NOT_NULL, {**NOT_NULL, "severity": "warning"}]


def test_plain_json_becomes_expectations() -> None:
    built = build(expectations(make_suite()))
    assert [(item.expectation_type, item.column) for item in built] == [(NOT_NULL["type"], "temp")] * 2
    assert [item.severity.value for item in built] == ["critical", "warning"]


def test_functions_and_class_names_are_understood() -> None:
    found = expectations(lambda: [{"type": "ExpectColumnToExist", "kwargs": {"column": "x"}}])
    assert build(found)[0].expectation_type == "expect_column_to_exist"


def test_import_path(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_suite.py").write_text(f"LIST = [{NOT_NULL!r}]\ndef function():\n    return LIST\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert expectations("my_suite:LIST") == expectations("my_suite:function") == expectations([NOT_NULL])
    with pytest.raises(InvalidInput, match=r"my_suite:nothing.*cannot be imported"):
        expectations("my_suite:nothing")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there are no expectations"),
        ({"type": "x"}, "not a list"),
        (3, "not a list"),
        ([{"kwargs": {}}], r"expectations\[0\] has no type"),
        (
            [NOT_NULL, {"type": "expect_x", "column": "temp"}],
            r"expectations\[1\] has the unknown fields column",
        ),
        ([{**NOT_NULL, "severity": "fatal"}], r"severity 'fatal' is unknown"),
        ([{**NOT_NULL, "kwargs": ["temp"]}], r"kwargs is not an object"),
        ([{"type": "expect_magic"}], r"expectations\[0\]: Great Expectations knows no 'expect_magic'"),
        ([{**NOT_NULL, "kwargs": {"colum": "temp"}}], r"expectations\[0\]: wrong arguments .*colum"),
        ([{"type": "expect_column_values_to_be_between", "kwargs": {"column": "t"}}], "cannot both be None"),
    ],
)
def test_wrong_suites_are_refused_by_name(given, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        build(expectations(given))


SUITE = {
    "name": "weather",
    "expectations": [
        {
            "type": "expect_column_to_exist",
            "kwargs": {"column": "temp"},
            "severity": "warning",
            "notes": "why",
            "meta": {},
        }
    ],
    "meta": {"great_expectations_version": "1.24.1"},
}


def test_a_suite_as_great_expectations_writes_it(tmp_path: Path) -> None:
    (tmp_path / "weather.json").write_text(json.dumps(SUITE))
    wanted = [Expectation("expect_column_to_exist", {"column": "temp"}, "warning")]
    assert expectations(SUITE) == wanted
    assert expectations(str(tmp_path / "weather.json")) == wanted
    with pytest.raises(InvalidInput, match=r"nothing\.json' cannot be read"):
        expectations(str(tmp_path / "nothing.json"))


def test_a_suite_of_a_project(tmp_path: Path) -> None:
    import great_expectations as gx

    with pytest.raises(InvalidInput, match="holds no Great Expectations project"):
        project_suite(str(tmp_path), "weather")
    assert not list(tmp_path.iterdir())
    context = gx.get_context(mode="file", project_root_dir=str(tmp_path))
    kind = gx.expectations.ExpectColumnValuesToBeBetween
    context.suites.add(
        gx.ExpectationSuite(name="weather", expectations=[kind(column="temp", min_value=0, severity="info")])
    )
    assert project_suite(str(tmp_path), "weather") == [
        Expectation("expect_column_values_to_be_between", {"column": "temp", "min_value": 0.0}, "info")
    ]
    with pytest.raises(InvalidInput, match=r"no suite 'other'.*It has weather"):
        project_suite(str(tmp_path), "other")
