"""What Flux released is watched: it stays ready, its workloads fall ill, it is deleted, a newer commit takes its place."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.flux.steady import FluxSteadySensor
from airflow_pipeops.flux.triggers import FluxSteadyTrigger
from tests.flux.conftest import NAMESPACE, Flux, connect
from tests.flux.test_operators import retrying
from tests.flux.world import Commit
from tests.git.conftest import FILE, Remote, remote

__all__ = ["remote"]


def watch(**arguments: Any) -> Any:
    given = {
        "task_id": "watch",
        "name": "apps",
        "deferrable": False,
        "poll_interval": timedelta(milliseconds=20),
        "duration": timedelta(seconds=60),
        "grace": timedelta(0),
    }
    return FluxSteadySensor(**{**given, **arguments})


def released(flux: Flux, commit: Commit | None = None, **options: Any) -> Commit:
    """Let Flux bring a commit to life, and rest."""
    flux.install(**options)
    if commit is None:
        commit = flux.world.commit()
    else:
        flux.world.commits.append(commit)
    flux.start()
    flux.until_ready()
    return commit


def meanwhile(flux: Flux, act: Callable[[], Any]) -> threading.Thread:
    """Do something as soon as the watch has looked."""
    begin = flux.api.requests.count(LOOK)

    def wait_and_act() -> None:
        while flux.api.requests.count(LOOK) <= begin + 1:
            threading.Event().wait(0.005)
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


LOOK = f"GET /apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{NAMESPACE}/kustomizations/apps"


def fall_ill(flux: Flux, commit: Commit) -> None:
    """Let the next health check of the same commit fail, as after a while of good health."""
    commit.health = None
    flux.kustomize.due = True


def test_what_stays_ready_is_steady(flux: Flux, context: dict[str, Any]) -> None:
    made = released(flux)
    result = watch(revision=made.sha, duration=timedelta(milliseconds=300)).execute(context)
    assert (result["verdict"], result["rule"], result["unhealthy_for"]) == ("steady", "healthy", 0.0)
    assert result | {"reason": ""} == {
        "verdict": "steady",
        "rule": "healthy",
        "reason": "",
        "unhealthy_for": 0.0,
        "app": "apps",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "revision": made.sha,
    }


def test_workloads_that_fall_ill_afterwards_are_told(flux: Flux, context: dict[str, Any]) -> None:
    made = released(flux)
    meanwhile(flux, lambda: fall_ill(flux, made))
    result = watch(revision=made.sha, grace=timedelta(milliseconds=300)).execute(context)
    assert (result["verdict"], result["rule"]) == ("degraded", "unhealthy")
    assert "Deployment/api Progressing" in result["reason"]


def test_a_check_that_passes_within_the_grace_is_none_of_its_business(
    flux: Flux, context: dict[str, Any]
) -> None:
    made = released(flux)
    flux.kustomize.due = True
    with retrying(flux):
        result = watch(revision=made.sha, grace=timedelta(seconds=30), duration=timedelta(seconds=1)).execute(
            context
        )
    assert result["verdict"] == "steady"


def test_what_is_deleted_has_degraded(flux: Flux, context: dict[str, Any]) -> None:
    made = released(flux)
    headers = {"Authorization": "Bearer controller"}
    meanwhile(flux, lambda: httpx.delete(flux.api.url + LOOK.removeprefix("GET "), headers=headers))
    result = watch(revision=made.sha).execute(context)
    assert result["verdict"] == "degraded"
    assert result["reason"].startswith("Missing for ")


def test_what_was_never_there_is_an_error(flux: Flux, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="Kustomization flux-system/apps is not there"):
        watch().execute(context)


def test_it_goes_on_in_the_triggerer(flux: Flux, context: dict[str, Any]) -> None:
    made = released(flux)
    sensor = watch(revision=made.sha, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_pipeops.flux.triggers.FluxSteadyTrigger"
    assert json.loads(json.dumps(arguments)) == arguments
    meanwhile(flux, lambda: fall_ill(flux, made))
    fall_ill(flux, made)

    async def fired() -> Any:
        trigger = FluxSteadyTrigger(**{**arguments, "dwell": 0.0})
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(fired())
    result = sensor.execute_complete(context, event)
    assert (result["verdict"], result["rule"], result["revision"]) == ("degraded", "unhealthy", made.sha)


def test_what_nobody_may_see_fails_the_task(
    flux: Flux, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = released(flux)
    flux.api.tokens["blind"] = lambda *_: False
    connect(monkeypatch, flux.api.url, "blind")
    with pytest.raises(AirflowFailException, match=r"Kustomization apps could not be watched.*permission"):
        watch(revision=made.sha).execute(context)


@pytest.mark.parametrize(
    ("values", "verdict"), [({FILE: "image: another"}, "steady"), ({"other.yaml": "a: 1"}, "degraded")]
)
def test_a_newer_commit_ends_the_watch_where_it_took_the_place_of_the_watched_one(
    flux: Flux,
    context: dict[str, Any],
    remote: Remote,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    values: dict[str, str],
    verdict: str,
) -> None:
    connection = {"conn_type": "git_repository", "host": str(remote.path)}
    monkeypatch.setenv("AIRFLOW_CONN_DESIRED", json.dumps(connection))
    first = remote.commit("release", **{FILE: "image: mine"})
    released(flux, Commit(first))
    newer = Commit(remote.commit("another", **values), health=None)
    meanwhile(flux, lambda: flux.world.commits.append(newer))
    result = watch(revision=first, git_conn_id="desired", grace=timedelta(seconds=1)).execute(context)
    assert result["verdict"] == verdict
    assert result["rule"] == ("superseded" if verdict == "steady" else "unhealthy")
    if verdict == "steady":
        assert f"a newer commit, {newer.sha[:8]}, has taken its place" in result["reason"]


def test_what_git_does_not_know_has_taken_no_place(
    flux: Flux, context: dict[str, Any], remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "git_repository", "host": str(remote.path)}
    monkeypatch.setenv("AIRFLOW_CONN_DESIRED", json.dumps(connection))
    first = remote.commit("release", **{FILE: "image: mine"})
    released(flux, Commit(first))
    meanwhile(flux, lambda: flux.world.commits.append(Commit("f" * 40, health=None)))
    result = watch(revision=first, git_conn_id="desired", grace=timedelta(seconds=1)).execute(context)
    assert (result["verdict"], result["rule"]) == ("degraded", "unhealthy")
