"""The registry on MLflow's real SQLite store, also from several processes at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_pipeops.exceptions import InvalidInput, NotFound, Unreachable
from airflow_pipeops.models.hook import MLflowHook
from airflow_pipeops.models.registry import Registry

ROOT = Path(__file__).parents[2]
ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """A migrated, empty store: its migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Registry(f"sqlite:///{path}").ping()
    return path


@pytest.fixture
def registry(database, tmp_path) -> Registry:
    shutil.copy(database, tmp_path / "mlflow.db")
    return Registry(f"sqlite:///{tmp_path}/mlflow.db")


def test_an_artifact_is_registered_once(registry):
    first = registry.register(
        "m", "file:///a/1", ONE, key="d/r/t/-1", reference_uri="file:///ref", metrics={"auc": 0.7}
    )
    assert registry.register("m", "file:///a/1", ONE, key="d/r/t/-1") == first
    assert (first.version, first.sha256, first.reference_uri) == ("1", ONE, "file:///ref")
    assert first.metrics == {"auc": 0.7}
    assert registry.register("m", "file:///a/2", TWO).version == "2"
    assert registry.register("other", "file:///a/1", ONE).version == "1"


def test_aliases(registry):
    assert registry.by_alias("m", "champion") is None
    registry.register("m", "file:///a/1", ONE)
    registry.register("m", "file:///a/2", TWO)
    assert registry.by_alias("m", "champion") is None
    assert registry.set_alias("m", "champion", "1") is None
    assert registry.set_alias("m", "champion", "1") == "1"
    assert registry.set_alias("m", "champion", "2") == "1"
    found = registry.by_alias("m", "champion")
    assert found is not None
    assert found == registry.version("m", "2")
    with pytest.raises(NotFound):
        registry.set_alias("m", "champion", "7")


@pytest.mark.timeout(180)
def test_several_processes_registering_the_same_leave_one_version(registry, tmp_path):
    code = (
        "import sys; from airflow_pipeops.models.registry import Registry; r = Registry(sys.argv[1]); r.ping();"
        "print('ready', flush=True); sys.stdin.readline();"
        f"print(r.register('m', 'file:///a', '{ONE}', key='k').version, flush=True)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, registry.tracking_uri],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["1"] * 3
    assert [item.version for item in registry._with_digest("m", ONE)] == ["1"]


def test_a_duplicate_that_a_dead_process_left_is_taken_back(registry):
    registry.register("m", "file:///a", ONE)
    registry._call(
        lambda client: client.create_model_version("m", source="file:///a", tags={"pipeops.sha256": ONE})
    )
    assert registry.register("m", "file:///a", ONE).version == "1"
    assert len(registry._with_digest("m", ONE)) == 1


def test_credentials_are_in_the_environment_for_one_call_only(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "before")
    registry = Registry(f"sqlite:///{database}", username="robot", password="s3cret")
    seen = registry._call(lambda _: dict(os.environ))
    assert (seen["MLFLOW_TRACKING_USERNAME"], seen["MLFLOW_TRACKING_PASSWORD"]) == ("robot", "s3cret")
    assert seen["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "before"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


def test_a_server_that_is_not_there_is_unreachable(monkeypatch):
    monkeypatch.setattr("airflow_pipeops.models.registry._ATTEMPTS", 1)
    registry = Registry("http://127.0.0.1:9", password="s3cret")
    with pytest.raises(Unreachable) as caught:
        registry.ping()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["", "mlflow.db", "sqlite:///relative.db", "file:///x"])
def test_a_uri_that_is_none(uri):
    with pytest.raises(InvalidInput, match="no tracking URI"):
        Registry(uri)


def test_the_hook(connections, database):
    connections("mlflow_default", "mlflow", f"sqlite:///{database}")
    assert MLflowHook().test_connection() == (True, f"sqlite:///{database} answers; registered models: 0")
    connections("mlflow_default", "mlflow", "")
    ok, why = MLflowHook().test_connection()
    assert not ok
    assert "no tracking URI in its host field" in why
    connections("mlflow_default", "mlflow", "http://me:s3cret@host/")
    with pytest.raises(InvalidInput, match="credentials inside its URI") as caught:
        MLflowHook().get_registry()
    assert "s3cret" not in str(caught.value)
