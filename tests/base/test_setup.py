"""Connections that nobody made are told once, by whoever needs them, with the page that explains them."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.base.connections import aread, read
from airflow_pipeops.base.setup import MissingConnectionTrigger
from airflow_pipeops.base.storage import StorageHook
from airflow_pipeops.base.watchers import LONGEST_PAUSE
from airflow_pipeops.build.operators import SmokeTestOperator
from airflow_pipeops.delivery.events import triggering_records, triggering_signals
from airflow_pipeops.delivery.ledger.hook import SigningKeyHook
from airflow_pipeops.exceptions import InvalidInput, NotConfigured
from airflow_pipeops.flux.hook import FluxHook
from airflow_pipeops.git.hook import GitHook
from airflow_pipeops.git.operators import ResolveCommitOperator
from airflow_pipeops.git.triggers import GitPushTrigger
from airflow_pipeops.models.hook import MLflowHook
from airflow_pipeops.provider.examples import example_dags

PAGE = "https://github.com/airflow-pipeops/airflow-pipeops/blob/main/docs/connections.md"


@pytest.mark.parametrize(
    ("need", "kind", "heading"),
    [
        (lambda: GitHook("nobody_made_it").get_conn(), "Git repository (git_repository)", "git-repository"),
        (lambda: asyncio.run(GitHook("nobody_made_it").aget_conn()), "git_repository", "git-repository"),
        (lambda: ArgoCDHook("nobody_made_it").settings(), "Argo CD (argocd)", "argo-cd"),
        (lambda: asyncio.run(ArgoCDHook("nobody_made_it").asettings()), "Argo CD (argocd)", "argo-cd"),
        (lambda: FluxHook("nobody_made_it").client(), "kubernetes", "kubernetes"),
        (lambda: asyncio.run(FluxHook("nobody_made_it").aclient()), "kubernetes", "kubernetes"),
        (lambda: MLflowHook("nobody_made_it").get_registry(), "MLflow (mlflow)", "mlflow"),
        (lambda: StorageHook("nobody_made_it").get_conn(), "pipeops_storage", "folder-or-object-storage"),
        (lambda: SigningKeyHook("nobody_made_it").get_conn(), "pipeops_signing_key", "signing-key"),
        (
            lambda: SmokeTestOperator(task_id="x", http_conn_id="nobody_made_it", checks=[{"path": "/"}])._endpoint(),
            "HTTP (http)",
            "http",
        ),
    ],
)  # fmt: skip
def test_whoever_needs_it_names_id_type_and_page(need: Any, kind: str, heading: str) -> None:
    with pytest.raises(NotConfigured) as said:
        need()
    assert not said.value.retryable
    assert "'nobody_made_it'" in str(said.value)
    assert kind in str(said.value)
    assert str(said.value).endswith(f"{PAGE}#{heading}")


def test_one_whose_type_may_vary_is_named_without_one() -> None:
    with pytest.raises(NotConfigured) as said:
        read("nobody_made_it")
    assert str(said.value).startswith("a connection is missing: 'nobody_made_it'. ")
    assert str(said.value).endswith(PAGE)


def test_a_task_fails_at_once(context) -> None:
    with pytest.raises(AirflowFailException, match="'nobody_made_it' of type Git repository"):
        ResolveCommitOperator(task_id="commit", git_conn_id="nobody_made_it").execute(context)


def connect(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "http", "host": "x"}))


async def looks(trigger: MissingConnectionTrigger) -> tuple[list[Any], float]:
    async with aclosing(trigger.look(None)) as told:
        return [payload async for payload in told], trigger.interval()


def test_it_is_said_once_and_looked_for_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "here")
    trigger = MissingConnectionTrigger({"here": "http", "away": "argocd", "too": "mlflow"}, poll_interval=1)
    told, pause = asyncio.run(looks(trigger))
    assert [payload["missing"] for payload in told] == [{"away": "argocd", "too": "mlflow"}]
    pauses = [pause]
    for _ in range(12):
        again, pause = asyncio.run(looks(trigger))
        assert again == []
        pauses.append(pause)
    assert all(later > 1.5 * sooner for sooner, later in pairwise(pauses[:8]))
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, rel=0.1)


def test_it_is_said_again_after_all_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = MissingConnectionTrigger({"away": "argocd"}, poll_interval=1)
    assert len(asyncio.run(looks(trigger))[0]) == 1
    connect(monkeypatch, "away")
    assert asyncio.run(looks(trigger)) == ([], 1)
    monkeypatch.delenv("AIRFLOW_CONN_AWAY")
    assert len(asyncio.run(looks(trigger))[0]) == 1


def test_airflow_can_store_the_trigger() -> None:
    path, arguments = MissingConnectionTrigger({"a": "http"}).serialize()
    assert path == "airflow_pipeops.base.setup.MissingConnectionTrigger"
    assert MissingConnectionTrigger(**json.loads(json.dumps(arguments))).connections == {"a": "http"}
    with pytest.raises(InvalidInput, match="connections"):
        MissingConnectionTrigger(["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize("ask", [triggering_signals, triggering_records])
def test_the_run_that_it_starts_fails_and_names_them(context, ask: Any) -> None:
    payload = {"missing": {"away": "argocd", "too": "mlflow"}, "key": "k"}
    event = SimpleNamespace(extra={"from_trigger": True, "payload": payload}, timestamp=1)
    context["triggering_asset_events"] = {"x": [event]}
    with pytest.raises(AirflowFailException) as said:
        ask(context)
    assert str(said.value).startswith(
        "connections are missing: 'away' of type Argo CD (argocd), 'too' of type MLflow (mlflow). "
    )
    assert str(said.value).endswith(PAGE)


def test_a_watcher_without_its_connection_says_which_and_slows_down(capsys) -> None:
    async def pauses() -> list[float]:
        async with aclosing(GitPushTrigger("nobody_made_it", poll_interval=1)._steps()) as steps:
            return [await anext(steps) for _ in range(9)]

    found = asyncio.run(pauses())
    assert found[0] > 5
    assert found[-1] == pytest.approx(LONGEST_PAUSE, rel=0.11)
    said = [line for line in capsys.readouterr().out.splitlines() if "nobody_made_it" in line]
    assert len(said) == 1
    assert "of type Git repository (git_repository)" in said[0]


def test_each_example_names_the_connections_that_it_uses() -> None:
    """What a file names in an argument ``..._conn_id`` is among those it asks for."""
    for path in example_dags().glob("*.py"):
        text = path.read_text()
        assert "MissingConnectionTrigger(" in text, path.name
        needed = text[text.index("needed = ") if "needed = " in text else text.index("MissingConnection") :]
        for name in re.findall(r'_conn_id="(\w+)"', text):
            assert f'"{name}": "' in needed, (path.name, name)


def test_reading_is_the_same_in_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "here")
    assert asyncio.run(aread("here", "http")).host == read("here", "http").host == "x"
