"""A program that fails in a fork is seen to fail, and touches nothing of the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forked import run_program, run_text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("print('before'); 1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os._exit(4)", "exit code 4"),
        ("if __name__ == '__main__': raise KeyError('main')", "KeyError: 'main'"),
        ("1 is 1", "SyntaxError"),
        ("tell(", "SyntaxError"),
    ],
)
def test_a_failure_is_told(text: str, printed: str, tmp_path: Path) -> None:
    assert printed in (run_text(text, tmp_path) or "")


def test_what_one_program_leaves_the_next_does_not_see(tmp_path: Path) -> None:
    left = "import os, airflow_pipeops; os.environ['LEFT'] = airflow_pipeops.LEFT = 'left'; mine = 1"
    seen = "import os, airflow_pipeops; assert 'LEFT' not in os.environ; assert not hasattr(airflow_pipeops, 'LEFT'); mine"
    assert run_text(left, tmp_path) is None
    assert "NameError: name 'mine'" in (run_text(seen, tmp_path) or "")


def test_a_program_gets_its_arguments(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys, beside; sys.exit(sys.argv[1:] != ['--help'] or beside.code)")
    (tmp_path / "beside.py").write_text("code = 0")
    assert run_program([str(program), "--help"], tmp_path) is None
    assert "exit code 1" in (run_program([str(program)], tmp_path) or "")
    assert "No module named" in (run_program(["-m", "no_such_module"], tmp_path) or "")
