"""Every code block in the README and docs/ runs, or is a command that exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "helm").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list:
    """All code blocks of one language, as pytest parameters named by page and position."""
    found = []
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text()), 1):
            if match.group(2) == language:
                text = "\n".join(line.removeprefix(match.group(1)) for line in match.group(3).splitlines())
                found.append(pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}"))
    return found


@pytest.mark.parametrize("source", blocks("python"))
def test_python_runs(source: str, tmp_path) -> None:
    subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", source], check=True, cwd=tmp_path, timeout=120
    )


def check_make(words: list[str]) -> None:
    target = [word for word in words[1:] if "=" not in word]
    subprocess.run(["make", "-n", *target], cwd=ROOT, check=True, capture_output=True)


def check_python(words: list[str]) -> None:
    """A program of the repository or the package must at least print its help."""
    script = words[1:3] if words[1] == "-m" else words[1:2]
    if script == ["-m", "pytest"]:
        return
    subprocess.run(
        [sys.executable, *script, "--help"], cwd=ROOT, check=True, capture_output=True, timeout=120
    )


def check_pip(words: list[str]) -> None:
    """What is installed must be this package with extras that it has."""
    import importlib.metadata

    known = set(importlib.metadata.metadata("airflow-pipeops").get_all("Provides-Extra") or [])
    for word in words[2:]:
        if match := re.fullmatch(r"airflow-pipeops\[(.*)\]", word):
            assert set(match.group(1).split(",")) <= known


CHECKS = {"make": check_make, "python": check_python, "pip": check_pip, "git": None, "cd": None, "helm": None}


@pytest.mark.parametrize("source", blocks("bash"))
def test_a_command_exists(source: str) -> None:
    for line in source.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] in CHECKS, f"no check for the command {words[0]!r}"
        if check := CHECKS[words[0]]:
            check(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
