"""Random histories of apply, undo and kills: no orphan, no delete outside the set, no older commit over a newer one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from airflow_pipeops.deploy.apply.engine import Applier, release_of
from airflow_pipeops.deploy.apply.parents import undo_to
from airflow_pipeops.deploy.apply.sets import Scope, scope_told
from airflow_pipeops.deploy.apply.wanted import Wanted
from airflow_pipeops.exceptions import Conflict, InvalidInput
from tests.deploy.apply.cluster import (
    KINDS,
    Died,
    client_of,
    configmap,
    members,
    relation,
    release,
    runtime,
    service,
)
from tests.kubernetes.apiserver import ApiServer

NAMES = ("a", "b", "c", "d")


class History:
    """A cluster, and a model of what must be in it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.server = ApiServer(*KINDS)
        self.foreign = [
            self.server.put("", "v1", "configmaps", configmap("foreign")),
            self.server.put("", "v1", "services", service("foreign")),
        ]
        self.kept: dict[str, list[dict[str, Any]]] = {}
        self.newest = 0
        self.tasks = 0

    def bodies(self, commit: int) -> list[dict[str, Any]]:
        """Return what a commit wants: it is a function of the commit."""
        chosen = random.Random(commit)
        made = [configmap(name, str(chosen.randint(1, 3))) for name in NAMES if chosen.random() < 0.6]
        made += [service(name, str(commit)) for name in NAMES if chosen.random() < 0.5]
        made += [runtime(name, str(commit)) for name in NAMES if chosen.random() < 0.3]
        return made or [configmap("a")]

    def wanted(self, commit: int, **more: Any) -> Wanted:
        self.tasks += 1
        self.kept[f"kept-{commit}"] = self.bodies(commit)
        return Wanted(
            "web", "shop", self.bodies(commit), f"task-{self.tasks}", str(commit), prune_allowed=100, **more
        )

    def attempts(self, wanted: Wanted) -> None:
        """Try a task until it ends, dying at random on the way; nothing may be out of sight at any moment."""
        while True:
            dies = self.random.randint(1, 60) if self.random.random() < 0.7 else 0
            try:
                release(self.server, wanted, dies, acted=self.random.random() < 0.5)
            except Died:
                self.check_scope()
                if self.random.random() < 0.3:
                    self.forget_holder()
                    return
                continue
            break
        self.check(wanted)

    def forget_holder(self) -> None:
        """The task is given up; its lease runs out."""

        _expire(self.server)

    def check(self, wanted: Wanted) -> None:
        """What is there after a release that ended is what it wants, and nothing else of the set."""
        there = {name for name in members(self.server)}
        plural = {"ConfigMap": "configmaps", "Service": "services", "ServingRuntime": "servingruntimes"}
        assert there == {f"{plural[one['kind']]}/{one['metadata']['name']}" for one in wanted.bodies}
        for body in wanted.bodies:
            item = self.server.read(plural[body["kind"]], "shop", body["metadata"]["name"])
            part = "data" if "data" in body else "spec"
            assert item is not None
            assert item[part] == body[part]
        self.check_scope()

    def check_scope(self) -> None:
        """Every member is where the parent says members may be; what is not of the set is as it was."""
        parent = self.server.read("configmaps", "shop", "web")
        scope = scope_told(parent) if parent else Scope()
        kinds = {name.partition("/")[0] for name in members(self.server)}
        assert kinds <= {f"{one.partition('.')[0].lower()}s" for one in scope.kinds}
        assert self.server.read("configmaps", "shop", "foreign") == self.foreign[0]
        assert self.server.read("services", "shop", "foreign") == self.foreign[1]

    def step(self) -> None:
        choice = self.random.random()
        parent = asyncio.run(Applier(client_of(self.server), self.wanted(0), relation).parent())
        if choice < 0.6 or not parent.commit:
            self.newest += 1
            self.attempts(self.wanted(self.newest))
        elif choice < 0.8:
            older = self.wanted(int(parent.commit) - 1)
            before = members(self.server)
            with pytest.raises(InvalidInput, match="is older than"):
                release(self.server, older)
            assert members(self.server) == before
        else:
            key = f"undo-{self.tasks}"
            try:
                target = undo_to(parent, key)
            except InvalidInput:
                return
            commit = int(target.commit)
            undo = self.wanted(commit, undo=target, undone=parent.standing)
            assert undo.bodies == self.kept[target.sha256]
            self.attempts(undo)


@pytest.mark.parametrize("seed", range(200))
def test_a_random_history(seed: int) -> None:
    history = History(seed)
    for _ in range(6):
        history.step()
    history.newest += 1
    last = history.wanted(history.newest)
    release(history.server, last)
    history.check(last)


def test_a_kind_that_is_served_no_more_stays_named_until_it_can_be_looked_for_again() -> None:
    server = ApiServer(*KINDS)
    release(server, Wanted("web", "shop", [configmap("a"), runtime("a")], "first", "1"))
    kept = server.kinds.pop(("serving.kserve.io", "v1alpha1", "servingruntimes"))
    second = Wanted("web", "shop", [configmap("a")], "second", "2")
    look = asyncio.run(Applier(client_of(server), second, relation).look())
    assert look.lost == ("ServingRuntime.serving.kserve.io",)
    release(server, second)
    parent = server.read("configmaps", "shop", "web")
    assert parent is not None
    assert "ServingRuntime.serving.kserve.io" in scope_told(parent).kinds
    server.kinds["serving.kserve.io", "v1alpha1", "servingruntimes"] = kept
    done = release(server, Wanted("web", "shop", [configmap("a")], "third", "3"))
    assert [str(one) for one in done.deleted] == ["ServingRuntime shop/a"]
    parent = server.read("configmaps", "shop", "web")
    assert parent is not None
    assert scope_told(parent).kinds == {"ConfigMap"}


@pytest.mark.parametrize("acted", [False, True])
def test_killed_at_any_request_a_release_is_found_again(acted: bool) -> None:
    """Nothing is deleted before all was applied, and the retry makes one release of it."""
    total = _requests_of_a_release()
    for dies_at in range(1, total + 1):
        server = ApiServer(*KINDS)
        release(server, Wanted("web", "shop", [configmap("a"), configmap("old")], "first", "1"))
        wanted = Wanted("web", "shop", [configmap("a", "2"), configmap("b")], "second", "2")
        with pytest.raises(Died):
            release(server, wanted, dies_at, acted=acted)
        commits = members(server)
        if "configmaps/old" not in commits:
            assert commits == {"configmaps/a": "2", "configmaps/b": "2"}, (
                f"pruned too early, killed at {dies_at}"
            )
        release(server, wanted)
        assert members(server) == {"configmaps/a": "2", "configmaps/b": "2"}
        parent = server.read("configmaps", "shop", "web")
        assert parent is not None
        releases = json.loads(parent["metadata"]["annotations"]["pipeops/releases"])
        assert [one["key"] for one in releases] == ["first", "second"], f"killed at {dies_at}"


def test_a_worker_that_slept_overwrites_nothing_and_deletes_nothing() -> None:
    """The lease of an attempt ran out in its sleep, and a newer release went through meanwhile."""
    total = _requests_of_a_release()
    for wakes_at in range(1, total + 1):
        server = ApiServer(*KINDS)
        release(server, Wanted("web", "shop", [configmap("a"), configmap("old")], "first", "1"))
        slept = Wanted("web", "shop", [configmap("a", "2"), configmap("b")], "slept", "2")
        newer = Wanted("web", "shop", [configmap("a"), configmap("b"), configmap("old")], "newer", "3")
        client = client_of(server)
        _asleep(client, server, newer, wakes_at)
        with contextlib.suppress(Conflict, InvalidInput):
            asyncio.run(_one(client, slept))
        there = server.read("configmaps", "shop", "a")
        assert there is not None
        assert there["data"] == {"value": "1"}, f"woken at request {wakes_at} of {total}"
        assert set(members(server)) == {"configmaps/a", "configmaps/b", "configmaps/old"}, wakes_at


def test_an_undo_that_slept_takes_nothing_back_that_came_since() -> None:
    """It has decided to go back, and at any moment after that a newer commit goes through in place of what it undoes."""
    for wakes_at in itertools.count(1):
        server = ApiServer(*KINDS)
        release(server, Wanted("web", "shop", [configmap("a")], "first", "1"))
        release(server, Wanted("web", "shop", [configmap("a", "2"), configmap("b")], "second", "2"))
        parent = asyncio.run(Applier(client_of(server), Wanted("web", "shop", [], "undo"), relation).parent())
        target = undo_to(parent, "undo")
        undo = Wanted("web", "shop", [configmap("a")], "undo", "1", undo=target, undone="second")
        newer = Wanted("web", "shop", [configmap("a", "3"), configmap("b")], "newer", "3")
        client = client_of(server)
        asked = _asleep(client, server, newer, wakes_at)
        with contextlib.suppress(Conflict, InvalidInput):
            asyncio.run(_one(client, undo))
        if not asked():
            return
        there = server.read("configmaps", "shop", "a")
        assert there is not None
        assert there["data"] == {"value": "3"}, f"woken at request {wakes_at}"
        assert members(server) == {"configmaps/a": "3", "configmaps/b": "3"}


def _requests_of_a_release() -> int:
    server = ApiServer(*KINDS)
    release(server, Wanted("web", "shop", [configmap("a"), configmap("old")], "first", "1"))
    client = client_of(server)
    asyncio.run(_one(client, Wanted("web", "shop", [configmap("a", "2"), configmap("b")], "slept", "2")))
    return len(client._http.requests)  # type: ignore[attr-defined]


def _asleep(client: Any, server: ApiServer, newer: Wanted, wakes_at: int) -> Callable[[], bool]:
    """Let a newer release go through before a client's request of this number; return whether it came to that."""
    ask, asked = client._http.object, 0

    async def sleeping(*args: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == wakes_at:
            _expire(server)
            await _one(client_of(server), newer)
        return await ask(*args, **more)

    client._http.object = sleeping
    return lambda: asked >= wakes_at


def _expire(server: ApiServer) -> None:
    def expire(item: dict[str, Any]) -> None:
        annotations = item["metadata"]["annotations"]
        if "pipeops/holder" in annotations:
            held = json.loads(annotations["pipeops/holder"])
            annotations["pipeops/holder"] = json.dumps({**held, "until": 0})

    server.change("configmaps", "shop", "web", expire)


async def _one(client: Any, wanted: Wanted) -> None:
    applier = Applier(client, wanted, relation)
    look = await applier.look()
    await applier.apply(look, release_of(wanted, look.manifests))
