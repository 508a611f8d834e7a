"""``airflow pipeops`` in the process of a test."""

from __future__ import annotations

import pytest


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run what the real command runs, by the real parser: its exit code, and what it prints."""
    from airflow.cli.cli_parser import get_parser

    args = get_parser().parse_args(["pipeops", *arguments])
    code = 0
    try:
        args.func(args)
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
