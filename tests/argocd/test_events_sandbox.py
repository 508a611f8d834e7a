"""The watchers' triggers against the sandbox: releases and degradations, each told once, also over restarts and faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_pipeops.argocd import triggers
from airflow_pipeops.argocd.stream import watch_of
from airflow_pipeops.argocd.watchers import (
    ArgoCDDegradedTrigger,
    ArgoCDDriftTrigger,
    ArgoCDReleasedTrigger,
)
from airflow_pipeops.exceptions import InvalidInput


class Store:
    """Stands where Airflow keeps the state of a watched asset."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.broken = False

    async def aget(self, key: str, default: Any = None) -> Any:
        if self.broken:
            raise RuntimeError("the store is down")
        return self.values.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        if self.broken:
            raise RuntimeError("the store is down")
        self.values[key] = json.loads(json.dumps(value))


class Watching:
    """A trigger that runs, as the triggerer runs it: rebuilt from its arguments, which must be JSON."""

    def __init__(self, trigger: Any, store: Store) -> None:
        _, arguments = trigger.serialize()
        self.trigger = type(trigger)(**json.loads(json.dumps(arguments)))
        self.trigger.asset_state_store = store
        self.store, self.told = store, []
        self.looks, self.revision = 0, ""
        judge = self.trigger.judge

        async def counted(*given: Any, **more: Any) -> Any:
            found = await judge(*given, **more)
            self.looks += 1
            return found

        self.trigger.judge = counted

    async def __aenter__(self) -> Watching:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async for event in self.trigger.run():
            self.told.append(json.loads(json.dumps(event.payload)))

    async def until(self, check: Callable[[], bool]) -> None:
        """Wait for a fact."""
        for _ in range(1500):
            if check():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(
            f"it did not come to that; told {self.told}, {self.looks} looks, kept {self.store.values}"
        )

    async def more(self, looks: int) -> None:
        """Wait for so many looks more."""
        goal = self.looks + looks
        await self.until(lambda: self.looks >= goal)


def watch(trigger: Any, store: Store, story: Callable[[Watching], Any]) -> list[dict[str, Any]]:
    """Run a trigger through a story, end it, and return what it told."""

    async def inside() -> list[dict[str, Any]]:
        async with Watching(trigger, store) as watching:
            await story(watching)
            return watching.told

    return asyncio.run(asyncio.wait_for(inside(), 60))


def deploy(sandbox: Any, app: str, files: dict[str, str]) -> str:
    """Commit, and return the commit once it is released."""
    revision = sandbox.repository.commit({f"{app}/{name}": text for name, text in files.items()})
    sandbox.call("GET", f"/api/v1/applications/{app}?project=default&refresh=normal")
    sandbox.until(
        app, lambda found: [e["revision"] for e in found["status"].get("history") or ()][-1:] == [revision]
    )
    return str(revision)


def test_a_release_is_told_once(connected: Any, manifests: Any) -> None:
    sandbox, app = connected, "told-release"
    sandbox.repository.commit({f"{app}/a.yaml": manifests.config_map("1")})
    sandbox.create(app, automated={})
    # Live already when the watch begins: compared after the end of the operation, in whole seconds.
    sandbox.until(
        app,
        lambda found: (
            found["status"].get("health", {}).get("status") == "Healthy"
            and found["status"].get("history")
            and found["status"]["reconciledAt"] > found["status"]["operationState"].get("finishedAt", "9")
        ),
    )
    store, trigger = Store(), ArgoCDReleasedTrigger(apps=[app], poll_interval=0.1)

    async def second(watching: Watching) -> None:
        await watching.more(2)
        assert watching.told == []
        files = {"a.yaml": manifests.config_map("2")}
        watching.revision = await asyncio.to_thread(deploy, sandbox, app, files)
        sandbox.fault(kind="error", path=f"/api/v1/applications/{app}", status=500, count=5)
        await watching.until(lambda: len(watching.told) == 1)
        await watching.more(3)
        assert watching.told[0]["revision"] == watching.revision

    (told,) = watch(trigger, store, second)
    assert (told["app"], told["health"], told["skipped"]) == (app, "Healthy", [])

    async def nothing(watching: Watching) -> None:
        await watching.more(4)

    assert watch(trigger, store, nothing) == [], "a restart repeats nothing"

    # Two releases while no triggerer runs: the newest is told, and the other is named.
    third = deploy(sandbox, app, {"a.yaml": manifests.config_map("3")})
    fourth = deploy(sandbox, app, {"a.yaml": manifests.config_map("4")})

    async def one(watching: Watching) -> None:
        await watching.until(lambda: len(watching.told) == 1)
        await watching.more(3)

    (told,) = watch(trigger, store, one)
    assert (told["revision"], told["skipped"]) == (fourth, [third])

    # A commit for somebody else is no release of this application.
    sandbox.repository.commit({"elsewhere/told.yaml": manifests.config_map("x")})
    sandbox.call("GET", f"/api/v1/applications/{app}?project=default&refresh=normal")
    assert watch(trigger, store, nothing) == []


def test_a_degradation_is_told_once(connected: Any, manifests: Any) -> None:
    sandbox, app = connected, "told-degraded"
    sandbox.repository.commit({f"{app}/api.yaml": manifests.deployment()})
    sandbox.create(app, automated={})
    sandbox.until(app, lambda found: found["status"].get("health", {}).get("status") == "Healthy")
    store = Store()
    trigger = ArgoCDDegradedTrigger(project="default", poll_interval=0.1, grace=0.3)

    async def breaks(watching: Watching) -> None:
        await watching.more(2)
        broken = manifests.deployment("raise SystemExit(3)", deadline=1)
        await asyncio.to_thread(sandbox.repository.commit, {f"{app}/api.yaml": broken})
        await watching.until(lambda: any(one["app"] == app for one in watching.told))
        await watching.more(8)

    told = [one for one in watch(trigger, store, breaks) if one["app"] == app]
    assert len(told) == 1
    assert told[0]["health"] == "Degraded"
    assert told[0]["resources"][0]["kind"] == "Deployment"
    assert told[0]["lasted"] >= 0.3

    async def nothing(watching: Watching) -> None:
        await watching.more(8)

    again = [one for one in watch(trigger, store, nothing) if one["app"] == app]
    assert again == []
    sandbox.call("DELETE", f"/api/v1/applications/{app}?project=default&cascade=true")


def test_a_store_that_is_down_costs_a_repetition_at_most(scripted: Any) -> None:
    store = Store()
    store.broken = True

    def live(number: int, revision: str) -> dict[str, Any]:
        return {
            "metadata": {"name": "api", "uid": "u"},
            "spec": {"project": "default", "source": {"repoURL": "https://git/x"}},
            "status": {
                "health": {"status": "Healthy"},
                "sync": {"status": "Synced", "revision": revision},
                "history": [{"id": number, "revision": revision}],
            },
        }

    scripted.answers = [(404, {"code": 5, "message": "no stream here"})]
    scripted.routes = {"/applications/api": (200, live(1, "a" * 40))}

    async def one(watching: Watching) -> None:
        await watching.more(2)
        scripted.routes = {"/applications/api": (200, live(2, "b" * 40))}
        await watching.until(lambda: len(watching.told) == 1)
        await watching.more(3)

    (told,) = watch(ArgoCDReleasedTrigger(apps=["api"], poll_interval=0.02), store, one)
    assert told["number"] == 2
    assert "s3cr3t" not in json.dumps(ArgoCDReleasedTrigger(apps=["api"]).serialize())


def test_watchers_share_one_stream(connected: Any, manifests: Any) -> None:
    for app in ("shared-1", "shared-2", "shared-3"):
        connected.repository.commit({f"{app}/a.yaml": manifests.config_map("1")})
        connected.create(app, automated={})
    apps = ["shared-1", "shared-2", "shared-3"]
    kinds = (ArgoCDReleasedTrigger, ArgoCDDegradedTrigger, ArgoCDDriftTrigger)

    async def inside() -> Any:
        stream = watch_of("argocd_default", "")
        watching = [Watching(kind(apps=apps, poll_interval=0.05), Store()) for kind in kinds]
        async with watching[0], watching[1], watching[2]:
            for one in watching:
                await one.more(60)
        return stream.requests, sum(one.looks for one in watching)

    requests, looks = asyncio.run(asyncio.wait_for(inside(), 60))
    assert requests["streams"] == 1
    assert looks >= 180
    assert requests["reads"] <= len(apps) * 2, "looking costs the server nothing"


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        (ArgoCDReleasedTrigger, {}, "apps"),
        (ArgoCDReleasedTrigger, {"apps": "api"}, "apps"),
        (ArgoCDDriftTrigger, {"apps": ["api"], "selector": "a=b"}, "selector"),
        (ArgoCDDriftTrigger, {"apps": ["api"], "poll_interval": 0}, "poll_interval"),
        (ArgoCDDegradedTrigger, {"apps": ["api"], "poll_interval": True}, "poll_interval"),
        (ArgoCDDegradedTrigger, {"apps": ["api"], "grace": -1}, "grace"),
    ],
)
def test_wrong_arguments_are_named(kind: Any, given: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        kind(**given)
    assert caught.value.field == field


def test_the_old_import_path_works() -> None:
    assert triggers.ArgoCDDriftTrigger is ArgoCDDriftTrigger


@pytest.mark.parametrize("kind", [ArgoCDReleasedTrigger, ArgoCDDegradedTrigger, ArgoCDDriftTrigger])
def test_a_trigger_survives_its_serialisation(kind: Any) -> None:
    path, arguments = kind(selector="team=ml", project="ml").serialize()
    assert path == f"airflow_pipeops.argocd.watchers.{kind.__name__}"
    assert kind(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)
