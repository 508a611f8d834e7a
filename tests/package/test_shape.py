"""Rules that keep the code easy to find one's way in.

How long a file may be is guidance and no rule: about 600 lines, and longer only where a split would cut one subject in two.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import airflow_pipeops

PACKAGE = Path(airflow_pipeops.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "seeds" not in path.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text or text.startswith('"""'), "a module begins with its docstring"
