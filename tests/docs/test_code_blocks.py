"""Every code block in the README and docs/ runs, or is a command that exists."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

from airflow_pipeops.provider.metadata import get_provider_info
from tests.forked import run_text
from tests.warm import programs

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
def test_python_runs(source: str, tmp_path: Path) -> None:
    assert run_text(source, tmp_path) is None


def check_make(words: list[str]) -> None:
    target = [word for word in words[1:] if "=" not in word]
    subprocess.run(["make", "-n", *target], cwd=ROOT, check=True, capture_output=True)


def check_python(words: list[str]) -> None:
    """A program of the repository or the package must at least print its help."""
    script = words[1:3] if words[1] == "-m" else words[1:2]
    if script != ["-m", "pytest"]:
        prints_help(*script)


@cache
def prints_help(*script: str) -> None:
    programs().run(*script, "--help").check_returncode()


def check_pip(words: list[str]) -> None:
    """What is installed must be this package with extras that it has."""
    import importlib.metadata

    known = set(importlib.metadata.metadata("airflow-pipeops").get_all("Provides-Extra") or [])
    for word in words[2:]:
        if match := re.fullmatch(r"airflow-pipeops\[(.*)\]", word):
            assert set(match.group(1).split(",")) <= known


def check_airflow(words: list[str]) -> None:
    """Airflow's own command line takes it, and a connection is of a type that is installed, with extras that are known."""
    from airflow.cli.cli_parser import get_parser

    given = get_parser().parse_args(words[1:])
    if words[1:3] == ["connections", "add"]:
        check_connection(given.conn_id, given.conn_type, given.conn_extra)


def check_export(words: list[str]) -> None:
    """A connection in the environment is JSON, as Airflow reads it."""
    name, _, value = words[1].partition("=")
    assert name.startswith("AIRFLOW_CONN_")
    given = json.loads(value)
    check_connection(name, given["conn_type"], json.dumps(given.get("extra") or {}))


def check_connection(conn_id: str, conn_type: str, extra: str | None) -> None:
    """A connection is of a type that somebody has installed, and its extras are those of the type."""
    from airflow.providers_manager import ProvidersManager

    assert conn_type in ProvidersManager().hooks, conn_id
    declared = {kind["connection-type"]: kind for kind in get_provider_info()["connection-types"]}
    if conn_type in declared:
        assert set(json.loads(extra or "{}")) <= set(declared[conn_type].get("conn-fields") or {}), conn_id


def check_helm(words: list[str]) -> None:
    """What a command takes from the repository is there."""
    for word in words:
        if word.startswith(("helm/", "./helm/")):
            assert (ROOT / word).exists(), word


CHECKS = {
    "airflow": check_airflow,
    "cd": None,
    "export": check_export,
    "git": None,
    "helm": check_helm,
    "helm/image": check_helm,
    "kind": None,
    "kubectl": None,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
}


@pytest.mark.parametrize("source", blocks("bash"))
def test_a_command_exists(source: str) -> None:
    for line in source.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)  # set for this command
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
