"""Every public name is told of on a page, and the README is read where no other file is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import airflow_pipeops
from airflow_pipeops import exceptions

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
#: Errors are in the reference; a page tells of what raises them.
NAMES = [name for name in airflow_pipeops.__all__ if not hasattr(exceptions, name)]
_HERE = re.compile(r"https://github.com/airflow-pipeops/airflow-pipeops/(?:blob|tree|raw)/main/([^#)\s]+)")
_REPOSITORY = re.compile(r"(github\.com/[\w.-]+/airflow-pipeops)\b")
#: Where an address of the repository stands.
_ADDRESSED = ("pyproject.toml", "mkdocs.yml", "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_on_a_page(name: str) -> None:
    assert re.search(rf"\b{name}\b", PAGES), "the reference lists arguments; a page says what it is for"


def test_links_of_the_readme_work_on_the_package_index() -> None:
    """There, nothing stands beside it: a link within the repository has to name the whole address."""
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.mark.parametrize("path", sorted(set(_HERE.findall(README))))
def test_and_lead_to_what_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_one_repository_is_named_and_no_other() -> None:
    home = re.search(r'^Homepage = "https://(\S+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert home
    pages = [*map(ROOT.joinpath, _ADDRESSED), *ROOT.glob("docs/**/*.md"), *ROOT.glob("helm/**/*.md")]
    named = {(name, page.name) for page in pages for name in _REPOSITORY.findall(page.read_text())}
    assert {name for name, _ in named} == {home[1]}, named


def test_the_readme_says_how_to_install_it() -> None:
    assert "pip install airflow-pipeops" in README
