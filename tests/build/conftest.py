"""Real Git repositories, reached through real connections."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Commit = Callable[[dict[str, str]], str]


def git(repo: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def context(context: dict[str, Any]) -> dict[str, Any]:
    """A run of its own: what a run left behind on this machine is ended by its next attempt, and tests run at once."""
    context["ti"].run_id = f"run-{uuid.uuid4().hex}"
    return context


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def repo(tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository at connection ``app``, storage at ``store``, and evidence in a folder."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for name, value in {
        "APP": {"conn_type": "git_repository", "host": str(folder)},
        "STORE": {"conn_type": "pipeops_storage", "host": artifacts.as_uri()},
        "S3": {"conn_type": "pipeops_storage", "host": "s3://bucket/prefix"},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(value))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "airflow_pipeops.base.configuration.evidence_uri", lambda: (tmp_path / "evidence").as_uri()
    )
    return folder


@pytest.fixture
def commit(repo: Path) -> Commit:
    """Write files, commit them, return the SHA."""

    def write(files: dict[str, str]) -> str:
        for name, text in files.items():
            path = repo / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "--allow-empty", "-m", "x")
        return git(repo, "rev-parse", "HEAD")

    return write
