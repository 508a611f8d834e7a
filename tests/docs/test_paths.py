"""Every path that the pages for developers name is there: below the repository, or below the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airflow_pipeops"
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")

#: The controller whose files stand for those of any controller.
CONTROLLER = "flux"

_QUOTED = re.compile(r"`([^`\s]+)`")
_PICTURE = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"[\w.<>-]+/[\w./<>-]*|[\w-]+\.(?:py|md|toml|txt)")


def paths(page: str) -> list[str]:
    """The paths that a page names: in backticks, or in its picture of the house."""
    text = (ROOT / page).read_text()
    drawn = [word.strip(",;:") for picture in _PICTURE.findall(text) for word in picture.split()]
    found = [word for word in (*_QUOTED.findall(text), *drawn) if _PATH.fullmatch(word)]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("page", "path"), [(page, path) for page in PAGES for path in paths(page)])
def test_a_path_that_is_named_exists(page: str, path: str) -> None:
    file = path.replace("<controller>", CONTROLLER)
    assert (ROOT / file).exists() or (PACKAGE / file).exists()


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_name_paths(page: str) -> None:
    assert len(paths(page)) > 20
