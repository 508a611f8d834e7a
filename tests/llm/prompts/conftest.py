"""Prompts, a desired state in a real repository, and connections to real servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_pipeops.llm.prompts.desired import PromptInGit
from airflow_pipeops.llm.prompts.prompt import Prompt
from tests.git.conftest import Remote, git
from tests.llm.prompts.langfuse_server import Langfuse, serving
from tests.models.mlflow_server import registry_server
from tests.once import mlflow_database

FILE = "apps/notice/overlays/production/prompt.yaml"
TEXT = "ConfigMap/notice-prompt:data['prompt.json']"
DESIRED = PromptInGit(
    FILE,
    {
        TEXT: "content",
        "ConfigMap/notice-prompt:data.sha256": "sha256",
        "Deployment/notice:spec.template.metadata.annotations.prompt": "sha256",
    },
)
MANIFEST = """# Which prompt production has. Written by the pipeline.
apiVersion: v1
kind: ConfigMap
metadata:
  name: notice-prompt
data:
  prompt.json: none
  sha256: none
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: notice
spec:
  template:
    metadata:
      annotations:
        prompt: none
"""


def prompt(text: str = "Flight {{flight}} is late.", **more: Any) -> Prompt:
    """A prompt for a chat, or another one."""
    given = {
        "name": "notice",
        "model": "small-1",
        "template": [{"role": "system", "content": "Be kind: é."}, {"role": "user", "content": text}],
        "variables": {"flight": "string"},
        "parameters": {"temperature": 0, "max_tokens": 100},
    }
    return Prompt.from_json({**given, **more})


@pytest.fixture
def connections(monkeypatch) -> Callable[..., None]:
    """Set Airflow connections by the environment."""

    def add(conn_id: str, conn_type: str, host: str, **fields: Any) -> None:
        said = {"conn_type": conn_type, "host": host, **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(said))

    return add


@pytest.fixture
def langfuse(connections) -> Iterator[Langfuse]:
    """A project of Langfuse, and the connection to it."""
    with serving() as project:
        connections(
            "langfuse_default", "http", project.url, login="pk-lf-1", password="sk-lf-0123456789abcdefghij"
        )
        yield project


@pytest.fixture
def database(tmp_path) -> str:
    """An empty store of MLflow's."""
    return mlflow_database(tmp_path)


@pytest.fixture
def mlflow(database, connections) -> Iterator[str]:
    """MLflow's store behind HTTP, and the connection to it; its SQLite file."""
    with registry_server(database) as (url, _):
        connections("mlflow_default", "mlflow", url)
        yield database


@pytest.fixture
def desired(tmp_path, connections, monkeypatch) -> Remote:
    """The desired state, which wants no prompt yet."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    remote = Remote(tmp_path / "desired.git", tmp_path / "person")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(remote.path))
    git("init", "--quiet", "--initial-branch=main", str(remote.work))
    git("remote", "add", "origin", str(remote.path), cwd=remote.work)
    remote.put(FILE, MANIFEST)
    remote.commit("Begin")
    connections("pipeops_gitops_repo", "git_repository", str(remote.path))
    return remote
