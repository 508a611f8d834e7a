"""Git, alias and what runs: which of them lies, by the rule and by the watcher on real sides."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.agreement import Sides, judge
from airflow_pipeops.models.rollback.proof import Proof
from airflow_pipeops.serving.agreement import ModelDisagreementTrigger
from tests.models.rollback.conftest import BAD, DESIRED, OLD, THIRD
from tests.models.rollback.conftest import Sides as Places

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("given", "verdict", "liar"),
    [
        (Sides(A, A), "agree", ""),
        (Sides(A, A, A, asked=True), "agree", ""),
        (Sides("", "", registered=False), "agree", ""),
        (Sides(A, A, None, asked=True, why="refused"), "cannot tell", ""),
        (Sides(None, A, A), "cannot tell", ""),
        (Sides(A, None, A), "cannot tell", ""),
        (Sides(A, B), "disagree", "alias"),
        (Sides(A, ""), "disagree", "alias"),
        (Sides("", B), "disagree", "alias"),
        (Sides(A, B, A), "disagree", "alias"),
        (Sides(A, B, None, asked=True), "disagree", "alias"),
        (Sides(A, A, B), "disagree", "live"),
        (Sides(A, A, ""), "disagree", "live"),
        (Sides(A, B, B), "disagree", "alias and live"),
        (Sides(A, B, C), "disagree", "alias and live"),
        (Sides(A, B, B, registered=False), "disagree", "git"),
    ],
)
def test_who_names_another_model_than_git_lies_once_it_has_lasted(given, verdict, liar):
    found = judge(given, 900, 900)
    assert (found.verdict, found.liar) == (verdict, liar), found.reason
    young = judge(given, 899, 900)
    assert young.verdict == ("settling" if verdict == "disagree" else verdict)
    assert young.liar == ""


@pytest.fixture
def watcher(sides: Places, connections) -> ModelDisagreementTrigger:
    connections("pipeops_gitops_repo", "git_repository", str(sides.remote.path))
    connections("mlflow_default", "mlflow", sides.registry.tracking_uri)
    return ModelDisagreementTrigger(model="m", desired=DESIRED, grace=0.001, poll_interval=0.001)


def told(watcher: ModelDisagreementTrigger, looks: int = 3) -> list[dict[str, Any]]:
    """Look so many times, and return what was told."""

    async def run() -> list[dict[str, Any]]:
        return [payload for _ in range(looks) async for payload in watcher.look(None)]

    return asyncio.run(run())


@pytest.mark.timeout(300)
def test_a_difference_is_told_once_and_the_next_one_again(sides: Places, watcher):
    assert told(watcher) == []
    sides.registry.set_alias("m", "champion", "1")
    (first,) = told(watcher)
    assert (first["liar"], first["git"], first["alias_sha256"]) == ("alias", BAD, OLD)
    assert told(watcher) == []
    sides.registry.set_alias("m", "champion", "3")
    (second,) = told(watcher)
    assert (second["liar"], second["alias_sha256"]) == ("alias", THIRD)
    assert second["key"] != first["key"]
    sides.want("9", "9" * 64)
    (third,) = told(watcher)
    assert third["liar"] == "git"
    sides.want("3", THIRD)
    assert told(watcher) == []


@pytest.mark.timeout(300)
def test_a_rollback_that_died_in_the_middle_is_seen(sides: Places, watcher):
    rollback = sides.rollback()
    commit = rollback.begin("one").commit
    (seen,) = told(watcher)
    assert (seen["liar"], seen["git"], seen["alias_sha256"]) == ("alias", OLD, BAD)
    rollback.finish(Proof("endpoint", OLD, "2100-01-01T00:00:00Z", "http://m"), commit)
    assert told(watcher) == []


@pytest.mark.timeout(300)
def test_what_runs_is_asked_at_its_endpoint(sides: Places, watcher, served, stored, monkeypatch):
    """The server serves a model that neither Git nor the alias names; then the server is gone."""
    monkeypatch.setenv("AIRFLOW_CONN_ENDPOINT", str(served.base_url))
    sides.registry.register("flight-delay", "file:///a", BAD)
    sides.registry.set_alias("flight-delay", "champion", "1")
    watcher.model, watcher.http_conn_id = "flight-delay", "endpoint"
    (seen,) = told(watcher)
    assert (seen["liar"], seen["live"]) == ("live", stored.sha256)
    monkeypatch.setenv("AIRFLOW_CONN_ENDPOINT", "http://127.0.0.1:9")
    assert told(watcher, 1) == [], "what runs cannot be told, and nobody lies"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([Sides(A, B, A), Sides(A, B, None, why="503")] * 4, ["alias"]),
        ([Sides(A, B, None, why=f"the call of {second} s") for second in range(8)], ["alias"]),
        ([Sides(A, B, B), Sides(A, B, None, why="503")] * 4, ["alias", "alias and live"]),
        ([Sides(A, B, B)] * 4 + [Sides(A, B, None, why="503"), Sides(A, B, B)] * 2, ["alias and live"]),
        ([Sides(A, A, B), Sides(A, A, None, why="503")] * 4, ["live"]),
        ([Sides(A, B, None, why="503")] * 4 + [Sides(A, B, A)] * 4, ["alias"]),
        ([Sides(A, B, None, why="503")] * 4 + [Sides(A, B, B)] * 4, ["alias", "alias and live"]),
        ([Sides(A, A, None, why="503")] * 4 + [Sides(A, A, B), Sides(A, A, A)] * 2, []),
    ],
)
def test_an_endpoint_that_answers_now_and_then_hides_nothing_and_repeats_nothing(
    given, expected, monkeypatch
):
    """A look each second; a difference counts after three."""
    watcher = ModelDisagreementTrigger(model="m", desired=DESIRED, http_conn_id="endpoint", grace=3)
    looks, clock = iter(given), itertools.count()

    async def asked() -> Sides:
        return replace(next(looks), asked=True)

    monkeypatch.setattr(watcher, "sides", asked)
    monkeypatch.setattr("airflow_pipeops.serving.agreement.time", SimpleNamespace(time=clock.__next__))
    found = told(watcher, len(given))
    assert [one["liar"] for one in found] == expected
    assert len({one["key"] for one in found}) == len(found)


def test_a_server_that_names_no_digest_does_not_lie(connections, monkeypatch):
    """That of somebody else, whose answer has none: what runs is not known."""
    connections("endpoint", "http", "http://127.0.0.1")
    watcher = ModelDisagreementTrigger(model="m", desired=DESIRED, http_conn_id="endpoint")
    for answer in ({}, {"parameters": None}, {"parameters": {"sha256": 7}}, {"parameters": {"sha256": ""}}):
        monkeypatch.setattr(
            "airflow_pipeops.serving.api.verification.served", lambda *_, said=answer: dict(said)
        )
        live, why = asyncio.run(watcher._live())
        found = judge(Sides(A, A, live, asked=True, why=why), 900, 900)
        assert (found.verdict, "names no digest" in found.reason) == ("cannot tell", True)


def test_it_survives_being_stored_and_refuses_what_is_no_place():
    path, given = ModelDisagreementTrigger(model="m", desired=DESIRED).serialize()
    assert path.endswith("serving.agreement.ModelDisagreementTrigger")
    assert ModelDisagreementTrigger(**given).serialize() == (path, given)
    with pytest.raises(InvalidInput, match="no field holds the digest"):
        ModelDisagreementTrigger(model="m", desired={"file": "f", "fields": {"a": "version"}})
