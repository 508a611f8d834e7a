"""A cluster for Helm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.helm.running import chart
from tests.kubernetes.apiserver import ApiServer, serving


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A cluster, at connection ``cluster``; Helm itself shows no token without TLS, and may all."""
    with serving(("apps", "v1", "deployments", True), ("", "v1", "namespaces")) as server:
        server.tokens[""] = lambda *_: True
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "users": [{"name": "u", "user": {"token": "token"}}],
        }
        connection = {"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(config)}}
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps(connection))
        yield server


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository at connection ``charts``, with the chart ``web``; evidence in a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "airflow_pipeops.base.configuration.evidence_uri", lambda: (tmp_path / "evidence").as_uri()
    )
    found = Repository(tmp_path / "repo")
    found.folder.mkdir()
    found.git("init", "-q", "-b", "main")
    chart(found.folder / "web")
    found.commit()
    connection = {"conn_type": "git_repository", "host": str(found.folder)}
    monkeypatch.setenv("AIRFLOW_CONN_CHARTS", json.dumps(connection))
    return found


@dataclass
class Repository:
    """Charts in Git."""

    folder: Path

    def git(self, *arguments: str) -> str:
        """Run Git in it."""
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        command = ["git", "-C", str(self.folder), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        """Commit all that is in it."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(params=["helm3", "helm4"])
def major(request: pytest.FixtureRequest) -> str:
    """Each major version of Helm."""
    return str(request.param)
