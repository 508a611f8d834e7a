"""The registry on MLflow's real stores, SQLite and PostgreSQL, also from several processes at once."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from airflow_pipeops.exceptions import InvalidInput, ModelRejected, NotFound, SystemFailure, Unreachable
from airflow_pipeops.models.hook import MLflowHook
from airflow_pipeops.models.registry import Registry, Run
from tests.models.mlflow_server import registry_server
from tests.once import mlflow_database
from tests.servers import Postgres, postgres

ROOT = Path(__file__).parents[2]
ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(mlflow_database(tmp_path))


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL with a migrated, empty store, from which others are copied."""
    with postgres() as server:
        _create(server, "migrated")
        _on(server, "migrated").ping()
        yield server


def _on(server: Postgres, database: str) -> Registry:
    return Registry(f"postgresql://tester@/{database}?host={server.folder}/socket")


def _create(server: Postgres, name: str, *, like: str = "template1") -> None:
    connection = server.connect()
    connection.autocommit = True
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (like,))
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {like}")


@pytest.fixture
def on_postgresql(server) -> Registry:
    name = f"copy_{uuid.uuid4().hex}"
    _create(server, name, like="migrated")
    return _on(server, name)


@pytest.fixture(params=["store", "server", "postgresql"])
def either(request) -> Iterator[Registry]:
    """The store itself, the same behind HTTP, and one on PostgreSQL."""
    if request.param == "postgresql":
        yield request.getfixturevalue("on_postgresql")
        return
    registry = request.getfixturevalue("registry")
    if request.param == "store":
        yield registry
        return
    with registry_server(registry.tracking_uri) as (url, _):
        yield Registry(url)


def test_an_artifact_is_registered_once(either):
    first = either.register(
        "m", "file:///a/1", ONE, key="d/r/t/-1", reference_uri="file:///ref", metrics={"auc": 0.7}
    )
    assert either.register("m", "file:///a/1", ONE, key="d/r/t/-1") == first
    assert (first.version, first.sha256, first.reference_uri) == ("1", ONE, "file:///ref")
    assert first.metrics == {"auc": 0.7}
    assert either.register("m", "file:///a/2", TWO).version == "2"
    assert either.register("other", "file:///a/1", ONE).version == "1"


def test_a_training_is_logged_once_with_its_parameters_metrics_and_curves(either, request):
    run = Run(
        {"C": 0.5, "trainer": "m:train", "nothing": None},
        {"auc": 0.7},
        {"loss_curve": [[step, 1 / (step + 1)] for step in range(2500)]},
        {"sha256": ONE, "commit": "c" * 40, "image": ""},
    )
    first = either.register("m", "file:///a/1", ONE, training_uri="file:///t.json", run=run)
    assert either.log("m", run) == either.log("m", run), "once more, as after a crash"
    behind_http = either.tracking_uri.startswith("http")
    kept = request.getfixturevalue("registry") if behind_http else either
    client = kept._client()
    experiment = client.get_experiment_by_name("m").experiment_id
    (found,) = client.search_runs([experiment])
    assert client.get_model_version("m", first.version).run_id == found.info.run_id
    assert client.get_model_version("m", first.version).tags["pipeops.training_uri"] == "file:///t.json"
    assert found.info.status == "FINISHED"
    assert found.data.params == {"C": "0.5", "trainer": "m:train"}
    assert found.data.metrics == {"auc": 0.7, "loss_curve": pytest.approx(1 / 2500)}
    assert {name: found.data.tags.get(f"pipeops.{name}") for name in ("sha256", "commit", "image")} == {
        "sha256": ONE,
        "commit": "c" * 40,
        "image": None,
    }
    curve = client.get_metric_history(found.info.run_id, "loss_curve")
    assert [(point.step, point.value) for point in curve] == [(n, 1 / (n + 1)) for n in range(2500)]


def test_a_version_that_was_taken_back_is_promoted_by_nothing_until_it_is_free_again(either):
    either.register("m", "file:///a/1", ONE)
    either.block("m", "1", "worse than version 0")
    either.block("m", "1", "worse than version 0")
    assert either.version("m", "1").blocked == "worse than version 0"
    with pytest.raises(ModelRejected, match="version 1 of 'm' was taken back: worse than version 0"):
        either.set_alias("m", "champion", "1")
    either.block("m", "1", "")
    either.set_alias("m", "champion", "1")
    with pytest.raises(NotFound):
        either.block("m", "9", "no such version")


def test_aliases(either):
    assert either.by_alias("m", "champion") is None
    either.register("m", "file:///a/1", ONE)
    either.register("m", "file:///a/2", TWO)
    assert either.by_alias("m", "champion") is None
    assert either.set_alias("m", "champion", "1") is None
    assert either.set_alias("m", "champion", "1") == "1"
    assert either.set_alias("m", "champion", "2") == "1"
    found = either.by_alias("m", "champion")
    assert found is not None
    assert found == either.version("m", "2")
    with pytest.raises(NotFound):
        either.set_alias("m", "champion", "7")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("store", ["registry", "on_postgresql"])
def test_several_processes_registering_the_same_leave_one_version(request, store, mlflow_python):
    registry = request.getfixturevalue(store)
    code = (
        "import sys; from airflow_pipeops.models.registry import Registry; r = Registry(sys.argv[1]); r.ping();"
        "print('ready', flush=True); sys.stdin.readline();"
        f"print(r.register('m', 'file:///a', '{ONE}', key='k').version, flush=True)"
    )
    processes = [
        subprocess.Popen(
            [mlflow_python, "-c", code, registry.tracking_uri],
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


def test_a_duplicate_that_a_dead_process_left_is_taken_back(either):
    either.register("m", "file:///a", ONE)
    either.call(
        lambda client: client.create_model_version("m", source="file:///a", tags={"pipeops.sha256": ONE})
    )
    assert either.register("m", "file:///a", ONE).version == "1"
    assert len(either._with_digest("m", ONE)) == 1


def test_credentials_are_in_the_environment_for_one_call_only(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "before")
    registry = Registry(mlflow_database(tmp_path), username="robot", password="s3cret")
    seen = registry.call(lambda _: dict(os.environ))
    assert (seen["MLFLOW_TRACKING_USERNAME"], seen["MLFLOW_TRACKING_PASSWORD"]) == ("robot", "s3cret")
    assert seen["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "before"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


@pytest.mark.parametrize(
    ("username", "password", "sent"),
    [("robot", "s3cret", "Basic cm9ib3Q6czNjcmV0"), (None, "s3cret", "Bearer s3cret"), (None, None, "")],
)
def test_a_server_is_told_who_asks(registry, username, password, sent):
    with registry_server(registry.tracking_uri) as (url, seen):
        assert Registry(url, username=username, password=password).ping() == 0
    assert seen == [sent]


def test_mlflows_own_client_and_ours_say_the_same_of_a_server(registry):
    """So the server here speaks as MLflow's does, as far as MLflow's client can tell."""
    from mlflow import MlflowClient

    registry.register("m", "file:///a/1", ONE, metrics={"auc": 0.7})
    registry.set_alias("m", "champion", "1")
    with registry_server(registry.tracking_uri) as (url, _):
        theirs, ours = MlflowClient(url, url), Registry(url)
        theirs.create_registered_model("other")
        theirs.create_model_version("m", source="file:///a/2", tags={"pipeops.sha256": TWO})
        assert ours.ping() == 2
        assert ours.find("m", TWO).version == "2"
        assert ours.set_alias("m", "champion", "2") == "1"
        assert theirs.get_model_version_by_alias("m", "champion").version == "2"
        assert [one.version for one in theirs.search_model_versions("name = 'm'")] == ["2", "1"]
    assert registry.by_alias("m", "champion").version == "2"


def test_a_url_that_is_no_registry_is_not_one_without_a_champion(registry):
    with registry_server(registry.tracking_uri) as (url, _):
        with pytest.raises(NotFound, match="that of an MLflow server"):
            Registry(f"{url}/elsewhere").by_alias("m", "champion")
        assert Registry(url).by_alias("m", "champion") is None


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


def test_the_hook(connections, tmp_path):
    connections("mlflow_default", "mlflow", mlflow_database(tmp_path))
    found = f"sqlite:///{tmp_path}/mlflow.db answers; registered models: 0"
    assert MLflowHook().test_connection() == (True, found)
    connections("mlflow_default", "mlflow", "")
    ok, why = MLflowHook().test_connection()
    assert not ok
    assert "no tracking URI in its host field" in why
    connections("mlflow_default", "mlflow", "http://me:s3cret@host/")
    with pytest.raises(InvalidInput, match="credentials inside its URI") as caught:
        MLflowHook().get_registry()
    assert "s3cret" not in str(caught.value)


def test_a_tag_that_somebody_damaged_is_named(registry):
    registry.register("m", "file:///a/1", ONE, metrics={"auc": 0.7})
    registry.call(lambda client: client.set_model_version_tag("m", "1", "pipeops.metrics", "{0.7"))
    with pytest.raises(
        SystemFailure, match=r"the tag pipeops.metrics of version 1 of 'm' is no JSON"
    ) as caught:
        registry.version("m", "1")
    assert not caught.value.retryable
