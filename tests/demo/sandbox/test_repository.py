"""How often a repository is asked what it has, counted where Git is run."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from airflow_pipeops.demo.sandbox.repository import Repositories, RepositoryError
from tests.demo.sandbox.conftest import Repository


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each run of Git."""
    real, lines, folder = shutil.which("git"), tmp_path / "asked", tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(f'#!/bin/sh\necho "$@" >> {lines}\nexec {real} "$@"\n')
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return lines


def runs(asked: Path, command: str = "") -> int:
    return sum(command in line for line in asked.read_text(encoding="utf-8").splitlines())


def test_who_asks_at_the_same_time_shares_an_answer(tmp_path: Path, asked: Path) -> None:
    desired = Repository(tmp_path / "desired")
    tip = desired.write({"a": "1"})
    repositories = Repositories(tmp_path / "mirrors")

    async def all_at_once() -> set[str]:
        return set(await asyncio.gather(*(repositories.resolve(desired.url, "main") for _ in range(30))))

    assert asyncio.run(all_at_once()) == {tip}
    assert runs(asked, "ls-remote") <= 3, "one, but for who was late to ask"
    before = runs(asked)
    assert asyncio.run(repositories.resolve(desired.url, "HEAD")) == tip
    assert runs(asked) == before + 1, "what a commit is need not be asked twice"


def test_an_answer_is_as_new_as_it_must_be(tmp_path: Path, asked: Path) -> None:
    desired = Repository(tmp_path / "desired")
    first = desired.write({"a": "1"})
    repositories = Repositories(tmp_path / "mirrors")
    assert asyncio.run(repositories.resolve(desired.url, "main")) == first
    second = desired.write({"a": "2"})
    before = runs(asked)
    assert asyncio.run(repositories.resolve(desired.url, "main", max_age=3600)) == first
    assert runs(asked) == before
    assert asyncio.run(repositories.resolve(desired.url, "main")) == second
    assert asyncio.run(repositories.resolve(desired.url, first)) == first
    with pytest.raises(RepositoryError, match="unable to resolve 'gone'"):
        asyncio.run(repositories.resolve(desired.url, "gone", max_age=3600))
    shutil.rmtree(desired.path)
    with pytest.raises(RepositoryError):
        asyncio.run(repositories.resolve(desired.url, "main"))
