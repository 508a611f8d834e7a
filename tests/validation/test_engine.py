"""The gate's judgement, with the real Great Expectations on real data."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from airflow_pipeops.validation import engine
from airflow_pipeops.validation.batches import FrameBatch
from airflow_pipeops.validation.engine import Outcome
from airflow_pipeops.validation.suite import Expectation, expectations


def judge(frame: pd.DataFrame, wanted: list[Expectation]) -> Outcome:
    return engine.judge(FrameBatch(frame), wanted)


def between(column: str, low: float, high: float, severity: str = "critical", **more) -> dict:
    kwargs = {"column": column, "min_value": low, "max_value": high, **more}
    return {"type": "expect_column_values_to_be_between", "kwargs": kwargs, "severity": severity}


def in_set(column: str, *values: str) -> dict:
    return {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": column, "value_set": list(values)},
    }


def outcomes(frame: pd.DataFrame, *wanted: dict) -> list[tuple[str, str]]:
    return [(item.outcome, item.reason) for item in judge(frame, expectations(wanted)).findings]


def test_a_sound_batch_passes(weather: pd.DataFrame) -> None:
    outcome = judge(
        weather,
        expectations(
            [
                between("temp", -20, 110),
                {
                    "type": "expect_column_values_to_be_in_set",
                    "kwargs": {"column": "origin", "value_set": ["EWR", "JFK", "LGA"]},
                },
                {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}},
            ]
        ),
    )
    assert outcome.passed
    assert [item.outcome for item in outcome.findings] == ["passed"] * 3
    assert outcome.rows == len(weather)
    assert outcome.findings[2].figures == {"observed_value": len(weather)}


def test_only_critical_fails_the_gate(weather: pd.DataFrame) -> None:
    outcome = judge(
        weather, expectations([between("temp", 90, 91, "warning"), between("humid", 0, 1, "info")])
    )
    assert outcome.passed
    assert len(outcome.failures) == 2
    assert not judge(weather, expectations([between("temp", 90, 91)])).passed


def test_figures_and_never_values(weather: pd.DataFrame) -> None:
    secret = weather.assign(origin="classified-value", temp=12345.678)
    outcome = judge(
        secret,
        expectations(
            [
                between("temp", 0, 100),
                {
                    "type": "expect_column_values_to_be_in_set",
                    "kwargs": {"column": "origin", "value_set": ["EWR"]},
                },
                {"type": "expect_column_max_to_be_between", "kwargs": {"column": "temp", "max_value": 100}},
                {
                    "type": "expect_column_distinct_values_to_be_in_set",
                    "kwargs": {"column": "origin", "value_set": ["E"]},
                },
            ]
        ),
    )
    text = json.dumps([item.to_json() for item in outcome.findings])
    assert [item.outcome for item in outcome.findings] == ["failed"] * 4
    assert "classified" not in text
    assert "12345" not in text
    assert outcome.findings[0].figures["unexpected_count"] == len(weather)
    assert outcome.findings[0].figures["unexpected_percent"] == 100


def test_a_missing_column_is_a_finding(weather: pd.DataFrame) -> None:
    exist = {"type": "expect_column_to_exist", "kwargs": {"column": "visib"}}
    assert outcomes(weather, between("visib", 0, 1), between("temp", -20, 110), exist) == [
        ("failed", "there is no column 'visib'"),
        ("passed", ""),
        ("failed", "not as expected in column 'visib'"),
    ]


def test_a_wrong_type_is_a_finding(weather: pd.DataFrame) -> None:
    text = weather.assign(temp=weather.temp.astype(str))
    assert outcomes(text, between("temp", 0, 1)) == [
        ("failed", "column 'temp' holds text where numbers are expected")
    ]


def test_an_empty_batch_fails(weather: pd.DataFrame) -> None:
    for empty in (weather.head(0), pd.DataFrame()):
        outcome = judge(empty, expectations([between("temp", 0, 1)]))
        assert not outcome.passed
        assert outcome.failures[0].reason == "the batch is empty"


def test_an_exception_inside_a_metric_is_an_error(weather: pd.DataFrame) -> None:
    regex = {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "origin", "regex": "("}}
    outcome = judge(weather, expectations([regex, between("temp", -20, 110)]))
    assert [item.outcome for item in outcome.findings] == ["error", "passed"]
    assert outcome.findings[0].reason.startswith("it could not be judged: ")
    assert "Traceback" not in outcome.docs
    assert "missing )" not in outcome.docs
    assert not outcome.passed
    assert not outcome.failures
    assert judge(weather, expectations([{**regex, "severity": "warning"}])).passed


@pytest.mark.parametrize("rows", [1, 2])
def test_tiny_batches_are_judged(weather: pd.DataFrame, rows: int) -> None:
    assert judge(weather.head(rows), expectations([between("temp", -20, 110)])).passed


def test_the_data_docs_page_shows_each_number_logs_nothing_and_leads_nowhere_else(
    weather: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = [
        ("expect_column_mean_to_be_between", {"column": "temp", "min_value": -100, "max_value": 200}),
        ("expect_column_stdev_to_be_between", {"column": "temp", "min_value": 0, "max_value": 200}),
        ("expect_column_max_to_be_between", {"column": "hour", "min_value": 0, "max_value": 23}),
        ("expect_column_proportion_of_unique_values_to_be_between", {"column": "hour", "min_value": 0}),
    ]
    outcome = judge(weather, expectations([{"type": kind, "kwargs": kwargs} for kind, kwargs in kinds]))
    assert outcome.passed
    assert f"{weather['temp'].mean():.4f}"[:6] in outcome.docs
    assert not re.findall(r">\s*--\s*<", outcome.docs), "a number is lost"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert [link for link in re.findall(r'(?:src|href)="([^"]*)"', outcome.docs) if link[0] != "#"] == []


def test_the_data_docs_page_shows_counts_and_no_samples(weather: pd.DataFrame) -> None:
    outcome = judge(weather.assign(origin="classified-value"), expectations([in_set("origin", "EWR")]))
    assert "classified" not in outcome.docs
    assert "100%" in outcome.docs
    assert "<html" in outcome.docs
    assert not re.findall(r"(?:src|href)=.https?://", outcome.docs.replace('href="https://docs.', ""))


def test_names_and_values_of_data_are_texts_in_the_page(weather: pd.DataFrame) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    batch = weather.assign(**{hostile: "</td><script>alert(2)</script>"})
    kinds = [
        in_set(hostile, "</td><script>alert(2)</script>"),
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": hostile, "regex": "<b>.*"}},
    ]
    outcome = judge(batch, expectations(kinds))
    assert "onerror" in outcome.docs
    assert "<img src=x" not in outcome.docs
    assert "<script>alert" not in outcome.docs
    assert "<b>.*" not in outcome.docs
