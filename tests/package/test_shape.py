"""Rules that keep the code easy to find one's way in."""

from __future__ import annotations

from pathlib import Path

import pytest

import airflow_pipeops

PACKAGE = Path(airflow_pipeops.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "seeds" not in path.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_stays_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert not text or text.startswith('"""'), "a module begins with its docstring"
