"""How a failed wait speaks: the decisive line first and last, and a crash loop in few lines."""

from __future__ import annotations

import pytest

from airflow_pipeops.exceptions import InvalidInput, SyncFailed
from airflow_pipeops.waits.expectation import Expectation, Memory, Verdict
from airflow_pipeops.waits.messages import decisive_last, folded
from airflow_pipeops.waits.wait import Decided


def test_the_decisive_line_is_first_and_last_however_often_a_message_is_put_together() -> None:
    assert decisive_last("app: it failed\n  sync Synced") == "app: it failed\n  sync Synced\napp: it failed"
    assert decisive_last("app: it failed") == "app: it failed"
    again = decisive_last(decisive_last("app: it failed\n  sync Synced") + "\nothers: 2 live")
    assert again == "app: it failed\n  sync Synced\nothers: 2 live\napp: it failed"


@pytest.mark.parametrize(("rule", "kind"), [("sync_failed", SyncFailed), ("revision_missing", InvalidInput)])
def test_each_error_of_a_wait_says_so(rule: str, kind: type[Exception]) -> None:
    decided = Decided(Verdict("failed", rule, "why"), Memory(), Expectation({"*": "a" * 40}))
    error = decided.error("app: it failed\n  more")
    assert isinstance(error, kind)
    assert str(error).splitlines()[-1] == "app: it failed"


def trace(at: int, why: str = "no database") -> list[str]:
    return [
        "Traceback (most recent call last):",
        f'  File "/app/main.py", line {at}, in <module>',
        f"    connect(0x{at:x}ff)",
        f"ConnectionError: {why} after {at} s",
    ]


def test_equal_traces_of_a_crash_loop_become_the_last_one_with_its_count() -> None:
    log = ["starting", *trace(1), "starting", *trace(22), "starting", *trace(333), "exiting"]
    assert folded(log) == ["starting"] * 3 + [*trace(333), "(this trace: 3 times)", "exiting"]


def test_another_error_is_another_trace() -> None:
    log = [*trace(1), *trace(1, "no table"), *trace(2)]
    assert folded(log) == [*trace(1, "no table"), *trace(2), "(this trace: 2 times)"]


def test_traces_of_other_languages_are_folded_too() -> None:
    java = [
        "java.lang.IllegalStateException: no database",
        "\tat a.B.c(B.java:12)",
        "\tat a.B.main(B.java:3)",
    ]
    assert folded([*java, *java, "bye"]) == [*java, "(this trace: 2 times)", "bye"]


@pytest.mark.parametrize("log", [[], [""], ["a", "a", "a"], ["  indented from the start"], trace(1)])
def test_what_is_no_repeated_trace_stays(log: list[str]) -> None:
    assert folded(log) == log
