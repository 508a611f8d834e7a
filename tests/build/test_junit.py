# ruff: noqa: E501
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


@pytest.mark.parametrize(
    "attributes",
    [
        'status="notrun"',
        'status="disabled"',
        'status="notrun" result="suppressed"',
        'status="NotRun"',
        'status="run" result="skipped"',
        'status="not_run"',
        'result="Ignored"',
    ],
)
def test_what_did_not_run_did_not_pass(attributes: str) -> None:
    summary = junit.parse(f'<testsuite><testcase name="a" {attributes}/></testsuite>'.encode())
    assert (summary.tests, summary.passed, summary.skipped) == (1, 0, 1)


def test_what_ran_passed_and_what_says_that_it_failed_did_not() -> None:
    cases = "".join(
        f'<testcase name="t-{status}" status="{status}"/>'
        for status in ("run", "passed", "completed", "failed")
    )
    summary = junit.parse(f"<testsuite>{cases}</testsuite>".encode())
    assert (summary.passed, summary.failed) == (3, 1)
    assert summary.failures[0].test == "t-failed"


@pytest.mark.parametrize(
    "suite",
    [
        '<testsuite name="s"><testcase name="a"/><error message="boom">Trace</error></testsuite>',
        '<testsuite name="s"><failure>boom</failure><testcase name="a"/></testsuite>',
        '<testsuites><testsuite name="s"><error message="boom"/></testsuite><testsuite><testcase name="a"/></testsuite></testsuites>',
        '<testsuite name="s" errors="1"><properties/><testcase name="a"/></testsuite>',
    ],
)
def test_an_error_of_a_suite_fails(suite: str) -> None:
    summary = junit.parse(suite.encode())
    assert (summary.passed, summary.failed) == (1, 1)
    assert summary.failures[0].test == "s"
    assert "boom" in summary.failures[0].message or "states 1" in summary.failures[0].message


@pytest.mark.parametrize(
    "encoding", ["GBK", "utf-8", "utf-16", "utf-16-le", "windows-1251", "iso-8859-1", "Shift_JIS"]
)
def test_a_failure_keeps_its_name_in_any_encoding(encoding: str) -> None:
    name = {"windows-1251": "тест", "iso-8859-1": "prüfung"}.get(encoding, "日本")
    text = f'<?xml version="1.0" encoding="{encoding}"?><testsuite><testcase name="{name}"><failure message="{name}"/></testcase></testsuite>'
    failure = junit.parse(text.encode(encoding)).failures[0]
    assert (failure.test, failure.message) == (name, name)


@pytest.mark.parametrize(
    "message",
    [b"\x1b[31mred\x1b[0m", b"&#x1b;[31mred", b"&#0;red", b"\xff\xfered", b"\xed\xa0\x80red", b"&#xFFFFFFFF;red", "红".encode("gbk") + b" red"],
)  # fmt: skip
def test_a_failure_keeps_its_name_whatever_it_printed(message: bytes) -> None:
    content = (
        b'<testsuite><testcase name="t"><failure message="'
        + message
        + b'">'
        + message
        + b"</failure></testcase></testsuite>"
    )
    failure = junit.parse(content).failures[0]
    assert failure.test == "t"
    assert "red" in failure.message
    assert failure.message.encode()


@pytest.mark.parametrize(
    "encoding", ["utf-7", "idna", "punycode", "zip", "base64", "unicode_escape", "no-such"]
)
def test_an_encoding_that_is_none_of_texts_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(BuildFailed, match=f"encoding '{encoding}'"):
        junit.parse(f'<?xml version="1.0" encoding="{encoding}"?><testsuite/>'.encode())


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_end_in_a_summary_or_one_error(noise: bytes, cut: int) -> None:
    whole = b'<testsuites><testsuite><testcase name="a"/></testsuite></testsuites>'
    for content in (noise, whole[:cut] + noise):
        with contextlib.suppress(BuildFailed):
            assert junit.parse(content).failed >= 0
