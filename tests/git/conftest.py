"""Real repositories, and a real Git server over HTTP with basic authentication."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_pipeops.demo.cluster.gitserver import GitServer, Handler
from airflow_pipeops.git.repository import GitRepository

FILE = "apps/web/kustomization.yaml"
CONTENT = "images:\n  - name: web  # the app\n    digest: old\nreplicas:\n  - name: web\n    count: 1\n"


def git(*arguments: str, cwd: Path | None = None, stdin: str | None = None) -> str:
    """Run git as a person would, with a configuration of its own."""
    environment = {
        **os.environ,
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
    }
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass
class Remote:
    """A bare repository, and what a person does to it.

    :param path: the bare repository.
    :param work: the person's clone.
    """

    path: Path
    work: Path

    def commit(self, message: str, *, push: bool = True, **files: str | bytes) -> str:
        """Commit files (their paths with ``__`` for a slash are given by :meth:`put`)."""
        for name, content in files.items():
            self.put(name, content)
        git("add", "--all", cwd=self.work)
        git("commit", "--quiet", "--allow-empty", "-m", message, cwd=self.work)
        if push:
            git("push", "--quiet", "origin", "HEAD:main", cwd=self.work)
        return git("rev-parse", "HEAD", cwd=self.work)

    def put(self, name: str, content: str | bytes) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def pull(self) -> None:
        git("fetch", "--quiet", "origin", cwd=self.work)
        git("reset", "--quiet", "--hard", "origin/main", cwd=self.work)

    def tip(self) -> str:
        return git("rev-parse", "main", cwd=self.path)

    def show(self, file: str = FILE, revision: str = "main") -> str:
        return git("show", f"{revision}:{file}", cwd=self.path) + "\n"

    def log(self, form: str = "%s") -> list[str]:
        return git("log", f"--format={form}", "main", cwd=self.path).splitlines()

    def hook(self, name: str, script: str) -> None:
        path = self.path / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def client(self, cache: Path, **options) -> GitRepository:
        return GitRepository(str(self.path), cache_dir=cache, **options)


@pytest.fixture
def remote(tmp_path) -> Remote:
    """A repository with one file and one commit on main."""
    made = Remote(tmp_path / "remote.git", tmp_path / "person")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(made.path))
    git("init", "--quiet", "--initial-branch=main", str(made.work))
    git("remote", "add", "origin", str(made.path), cwd=made.work)
    made.put(FILE, CONTENT)
    made.commit("first")
    return made


@pytest.fixture
def client(remote, tmp_path) -> GitRepository:
    return remote.client(tmp_path / "cache")


@dataclass
class HttpGit:
    """A Git server over HTTP: :attr:`url` of the repository, and what it saw."""

    url: str
    requests: list[tuple[str, str]]
    failing: list[int]


class _Handler(Handler):
    """Notes what it is asked, fails where it is told to, and wants a login for reads too."""

    def permitted(self) -> bool:
        return self.server.knows(self.headers.get("Authorization", ""))

    def _serve(self) -> None:
        state: HttpGit = self.server.state  # type: ignore[attr-defined]
        state.requests.append((self.path, self.headers.get("Authorization", "")))
        if state.failing:
            self._body()
            self.send_error(state.failing.pop(0))
        else:
            super()._serve()


@contextmanager
def over_http(repository: Path) -> Iterator[HttpGit]:
    """Serve a bare repository over HTTP; user ``airflow``, password ``s3cret/tok+en``."""
    server = GitServer(repository.parent, ["airflow:s3cret/tok+en"], ("127.0.0.1", 0), _Handler)
    state = HttpGit(f"http://127.0.0.1:{server.server_port}/{repository.name}", [], [])
    server.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def http_git(remote) -> Iterator[HttpGit]:
    """The same repository over HTTP."""
    with over_http(remote.path) as state:
        yield state
