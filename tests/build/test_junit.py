from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.build import junit
from airflow_pipeops.exceptions import BuildFailed


def test_counts_are_of_the_cases_and_not_of_what_the_file_says() -> None:
    summary = junit.parse(
        b"""<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite tests="99" failures="0">
        <testcase classname="a.B" name="one" time="0.5"/>
        <testcase classname="a.B" name="two" time="nan"><failure message="boom">Trace
        E boom</failure><error message="later"/></testcase>
        <testsuite><testcase name="three" time="-1"><skipped/></testcase></testsuite>
        <testcase name="four"><error>no message here</error></testcase>
        </testsuite></testsuites>"""
    )
    assert (summary.tests, summary.passed, summary.failed, summary.skipped, summary.seconds) == (
        4,
        1,
        2,
        1,
        0.5,
    )
    assert [(f.test, f.kind, f.message) for f in summary.failures] == [
        ("a.B.two", "failure", "boom"),
        ("four", "error", "no message here"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "truncated or not XML"),
        (b"<testsuites><testcase", "truncated or not XML"),
        (b"<html/>", "root element is <html>"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><testsuites>&a;</testsuites>', "document type"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuites/>', "document type"),
        (b" " * (junit.MAX_BYTES + 1), "bytes, more than"),
    ],
)
def test_what_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(BuildFailed, match=says):
        junit.parse(content)


def test_only_the_first_failures_are_told_and_each_is_short() -> None:
    case = '<testcase name="t"><failure message="{0}">{0}</failure></testcase>'.format("x" * 9999)
    summary = junit.parse(f"<testsuite>{case * 50}</testsuite>".encode())
    assert (summary.failed, len(summary.failures)) == (50, 10)
    assert len(summary.failures[0].message) == 500
    assert len(summary.failures[0].detail) == 2000


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_end_in_a_summary_or_one_error(noise: bytes, cut: int) -> None:
    whole = b'<testsuites><testsuite><testcase name="a"/></testsuite></testsuites>'
    for content in (noise, whole[:cut] + noise):
        with contextlib.suppress(BuildFailed):
            assert junit.parse(content).failed >= 0
