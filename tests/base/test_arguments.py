"""Every checker takes what is right, and refuses the rest with the field, the value and a remedy."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.base import arguments as check
from airflow_pipeops.base.http import trusting
from airflow_pipeops.exceptions import InvalidInput

_WORD = re.compile("[a-z]+")


@pytest.mark.parametrize(
    ("checked", "field", "says"),
    [
        (lambda: check.positive("timeout", timedelta(0)), "timeout", "timeout is"),
        (lambda: check.positive("timeout", 5), "timeout", "timeout is 5"),  # type: ignore[arg-type]
        (lambda: check.interval("poll_interval", 0), "poll_interval", "poll_interval is 0 s"),
        (lambda: check.one_of("mode", "x", ("a", "b")), "mode", "mode is 'x'. Use one of a, b."),
        (lambda: check.one_of("mode", "x", ("a",), called="the mode"), "mode", "the mode 'x' is unknown"),
        (lambda: check.one_of("mode", "x", ("a",), remedy="Use a."), "mode", "mode is 'x'. Use a."),
        (lambda: check.flag("verify_tls", "no", of="it"), "verify_tls", "verify_tls of it is 'no'"),
        (lambda: check.matching("name", "A", _WORD, "a word", "Use a-z."), "name", "name 'A' is not a word"),
        (lambda: check.matching("name", None, _WORD, "a word", "Use a-z."), "name", "None is not a word"),
        (lambda: check.matching("name", "a\n", _WORD, "a word", "", called="it"), "name", "it 'a.n' is not"),
        (lambda: check.not_empty("set", {}, "nothing is set", "Set it."), "set", "nothing is set. Set it."),
        (lambda: check.one_given("give one", "One.", a="", b=None), "a", "give one. One."),
        (lambda: check.one_given("give one", "One.", a="x", b="y"), "a", "give one. One."),
        (lambda: check.mapping("set", [1], "Give {}."), "set", "set is not a mapping. Give {}."),
        (lambda: check.mapping("set", [1], "", message="no object"), "set", "no object"),
        (lambda: check.files("data", ""), "data", "data names no file"),
        (lambda: check.files("data", []), "data", "data names no file"),
        (lambda: check.files("data", ["a", ""]), "data", "data names no file"),
        (lambda: check.object_name(""), "name", "'' is no name"),
        (lambda: check.object_name(None), "name", "None is no name"),
        (lambda: check.share("confidence", 1, "For example 0.9."), "confidence", "confidence is 1"),
        (lambda: check.share("confidence", float("nan"), ""), "confidence", "confidence is nan"),
        (lambda: check.finite("floor", float("inf")), "floor", "floor is inf, not a finite number"),
        (lambda: check.has_columns("current", ["a"], ["a", "b", "c"]), "current", "no column 'b', 'c'"),
        (lambda: check.at_least("rows", 2, 3, "2 rows are too few", "Give 3."), "rows", "2 rows are too few"),
        (lambda: check.imported("os", "trainer"), "trainer", "'os' is not an import path"),
        (lambda: check.imported("os:nothing", "trainer"), "trainer", "cannot be imported"),
        (lambda: check.imported("no_such_module:x", "trainer"), "trainer", "cannot be imported"),
        (lambda: check.function("os:sep", "trainer"), "trainer", "'os:sep' is not a function"),
    ],
)
def test_what_is_refused(checked: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says.replace("{}", r"\{\}")) as caught:
        checked()
    assert caught.value.field == field


def test_what_is_taken_is_returned() -> None:
    minute = timedelta(minutes=1)
    assert check.positive("timeout", minute) == minute
    assert check.positive("timeout", timedelta(0), zero=True) == timedelta(0)
    assert check.interval("poll_interval", minute) == 60.0
    assert check.one_of("mode", "a", ("a", "b")) == "a"
    assert check.matching("name", "abc", _WORD, "a word", "") == "abc"
    assert check.not_empty("set", {"a": 1}, "nothing is set") == {"a": 1}
    assert check.mapping("set", {"a": 1}, "") == {"a": 1}
    assert check.files("data", "a.csv") == ["a.csv"]
    assert check.files("data", ("a.csv", "b.csv")) == ["a.csv", "b.csv"]
    assert check.object_name("web") == "web"
    assert check.at_least("rows", 3, 3, "too few", "") == 3
    assert check.function("os.path:join", "trainer")("a", "b") == "a/b"
    check.one_given("give one", "", a="x", b="")
    check.finite("floor", None)
    check.finite("floor", 1.0)
    check.has_columns("current", {"a", "b"}, ["a"])


@given(st.floats())
def test_a_share_is_between_nothing_and_all(value: float) -> None:
    if 0 < value < 1:
        assert check.share("share", value, "") == value
    else:
        with pytest.raises(InvalidInput):
            check.share("share", value, "")


@given(st.lists(st.none() | st.text()))
def test_files_are_names_or_refused(value: list[Any]) -> None:
    if value and all(value):
        assert check.files("data", value) == value
    else:
        with pytest.raises(InvalidInput):
            check.files("data", value)


@pytest.mark.parametrize(
    ("value", "yes"),
    [
        (True, True),
        ("true", True),
        ("False", False),
        (False, False),
        ("false", False),
        ("", True),
        (None, True),
    ],
)
def test_a_yes_or_no_may_come_as_a_text_as_in_the_uri_of_a_connection(value: Any, yes: bool) -> None:
    assert check.flag("verify_tls", value) is yes
    assert trusting({"verify_tls": value}) is yes
    if value in (None, ""):
        assert check.flag("any_namespace", value, default=False) is False
