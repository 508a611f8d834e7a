"""A program that fails in a fork is seen to fail, and touches nothing of the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forked import run_text


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
    left = "import os, airflow.sdk; os.environ['LEFT'] = airflow.sdk.LEFT = 'left'; mine = 1"
    seen = "import os, airflow.sdk; assert 'LEFT' not in os.environ; assert 'LEFT' not in vars(airflow.sdk); mine"
    assert run_text(left, tmp_path) is None
    assert "NameError: name 'mine'" in (run_text(seen, tmp_path) or "")


def test_airflow_is_loaded_before(tmp_path: Path) -> None:
    assert (
        run_text(
            "import sys; assert 'airflow.sdk' in sys.modules; assert 'airflow_pipeops.argocd' not in sys.modules",
            tmp_path,
        )
        is None
    )
