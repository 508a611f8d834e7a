"""Each command of ``airflow pipeops``: nothing but its answer on the standard output, and one sentence for what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import structlog
from airflow.cli.cli_config import ActionCommand, GroupCommand
from rich.text import Text

from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.provider import commands


def each(found: Iterable[ActionCommand | GroupCommand], before: str = "") -> Iterator[tuple[str, Any]]:
    for one in found:
        called = f"{before}{one.name}"
        if isinstance(one, GroupCommand):
            yield from each(one.subcommands, f"{called} ")
        else:
            yield called, one.func


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], int]], Iterator[tuple[str, Any]]]:
    """Put a function in the place of what every command does; return the commands."""

    def put(work: Callable[[Any], int]) -> Iterator[tuple[str, Any]]:
        monkeypatch.setattr(commands, "lazy_load_command", lambda path: work)
        return each(commands.commands())

    return put


def test_what_airflow_logs_is_no_part_of_an_answer(works: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def work(args: Any) -> int:
        structlog.get_logger("airflow").error("a line of the log")
        print("the answer")
        return 0

    found = list(works(work))
    assert len(found) == 16
    for called, command in found:
        command(argparse.Namespace(verbose=False))
        assert capsys.readouterr() == ("the answer\n", ""), called


@pytest.mark.parametrize(
    ("wrong", "code"),
    [(InvalidInput("no such thing"), 2), (NotFound("no such thing"), 3)],
)
def test_what_is_wrong_is_one_sentence_and_a_code(
    wrong: Exception, code: int, works: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(args: Any) -> int:
        raise wrong

    for called, command in works(work):
        with pytest.raises(SystemExit) as ended:
            command(argparse.Namespace(verbose=False))
        assert ended.value.code == code
        assert capsys.readouterr() == ("", f"airflow {called}: no such thing\n")


def test_help_says_what_stands_in_brackets() -> None:
    """Airflow prints it as markup, in which a word in brackets would be a style."""
    said = [Text.from_markup(arg.kwargs["help"]).plain for arg in (commands._REF, commands._URL)]
    assert said[0].endswith("DELIVERABLE@ENVIRONMENT[@TIME]")
    assert said[1].endswith("by default [api] base_url")
