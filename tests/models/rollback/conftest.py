"""A manifest in a real repository, and two versions in a real registry behind HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.git.repository import GitRepository
from airflow_pipeops.models.desired import ModelInGit, WantedModel
from airflow_pipeops.models.registry import Registry
from airflow_pipeops.models.rollback.saga import ModelRollback, RollbackOrder
from tests.git.conftest import Remote, git
from tests.models.mlflow_server import registry_server
from tests.mortal import started
from tests.once import mlflow_database

FILE = "apps/flight-delay/model.yaml"
DESIRED = ModelInGit(
    FILE, {"model.uri": "artifact_uri", "model.sha256": "sha256", "model.version": "version"}
)
#: Makes attempts whose proof is an endpoint's.
BY_ENDPOINT = Path(__file__).with_name("two_sides.py")
OLD, BAD, THIRD = "1" * 64, "2" * 64, "3" * 64


def manifest(version: str, sha256: str) -> str:
    return f'replicas: 1  # stays\nmodel:\n  uri: file:///a/{version}\n  sha256: "{sha256}"\n  version: "{version}"\n'


@dataclass
class Sides:
    """Both sides, with version 2 live, and what an attempt leaves there.

    The script makes the attempts, and ``more`` is what it wants to know beside what all of them do.
    """

    remote: Remote
    registry: Registry
    folder: Path
    model: str = "m"
    old: str = OLD
    bad: str = BAD
    desired: WantedModel = DESIRED
    script: Path = BY_ENDPOINT
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> RollbackOrder:
        return RollbackOrder(self.model, "2", self.bad, "1", self.old, "worse on 20 days", verdict="worse")

    def rollback(self, order: RollbackOrder | None = None) -> ModelRollback:
        return ModelRollback(self.git(), self.registry, self.desired, order or self.order)

    def git(self) -> GitRepository:
        return self.remote.client(self.folder / "cache")

    def want(self, version: str, sha256: str) -> None:
        """Somebody commits a model."""
        self.remote.pull()
        self.remote.put(FILE, manifest(version, sha256))
        self.remote.commit(f"Deploy version {version}")

    def reset(self, key: str) -> None:
        """Version 2 is live again, and nothing has happened that attempts of this key would know of."""
        self.live(key)
        self.registry.block(self.model, "2", "")
        self.registry.set_alias(self.model, "champion", "2")

    def live(self, key: str) -> None:
        """Let version 2 be wanted, and run."""
        self.want("2", self.bad)

    def proven(self, key: str) -> None:
        """Hold what the tasks that prove have left against what one attempt leaves that nobody kills."""

    def attempts(self) -> subprocess.Popen[str]:
        """Start what makes attempts in processes of their own."""
        (self.folder / "returned").mkdir(exist_ok=True)
        return started(self.script, self.folder / "attempts.log")

    def ask(self, attempts: subprocess.Popen[str], key: str, kill: int = 0) -> None:
        """Begin an attempt."""
        settings: dict[str, Any] = {
            "git": str(self.remote.path),
            "registry": self.registry.tracking_uri,
            "cache": str(self.folder / "cache"),
            "desired": self.desired.to_json(),
            "order": self.order.to_json(),
            "key": key,
            "returned": str(self.folder / "returned"),
            "kill": kill,
            **self.more,
        }
        assert attempts.stdin is not None
        attempts.stdin.write(json.dumps(settings) + "\n")
        attempts.stdin.flush()

    def answer(self, attempts: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for the end of an attempt."""
        assert attempts.stdout is not None
        while not (line := attempts.stdout.readline()).startswith("{"):
            assert line, (self.folder / "attempts.log").read_text()[-3000:]
        found: dict[str, Any] = json.loads(line)
        assert found.get("killed") is not False, (self.folder / "attempts.log").read_text()[-3000:]
        return found

    def state(self) -> tuple[str, str, bool]:
        """The digest that Git wants, the version of the alias, and whether the bad one is blocked."""
        found = self.registry.by_alias(self.model, "champion")
        assert found is not None
        blocked = self.registry.version(self.model, "2").blocked
        return self.desired.digest(self.git()), found.version, bool(blocked)

    def records(self) -> list[str]:
        """The keys of the attempts that have left a record."""
        return sorted(path.stem for path in (self.folder / "returned").glob("*.finish"))

    def rollbacks(self, since: str) -> int:
        """Commits of a rollback after another commit."""
        log = git("log", "--format=%(trailers:key=PipeOps-Rollback)", f"{since}..main", cwd=self.remote.path)
        return log.count("PipeOps-Rollback")


@pytest.fixture(scope="session")
def versions(tmp_path_factory) -> Path:
    """A registry with three versions, of which the second is the champion: its migrations take seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    registry = Registry(mlflow_database(folder))
    for number, sha256 in (("1", OLD), ("2", BAD), ("3", THIRD)):
        registry.register("m", f"file:///a/{number}", sha256)
    registry.set_alias("m", "champion", "2")
    return folder / "mlflow.db"


@pytest.fixture
def sides(versions, tmp_path) -> Iterator[Sides]:
    remote = Remote(tmp_path / "remote.git", tmp_path / "person")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(remote.path))
    git("init", "--quiet", "--initial-branch=main", str(remote.work))
    git("remote", "add", "origin", str(remote.path), cwd=remote.work)
    for version, sha256 in (("1", OLD), ("2", BAD)):
        remote.put(FILE, manifest(version, sha256))
        remote.commit(f"Deploy version {version}")
    shutil.copy(versions, tmp_path / "mlflow.db")
    with registry_server(f"sqlite:///{tmp_path}/mlflow.db") as (url, _):
        yield Sides(remote, Registry(url), tmp_path)
