"""The same assertions on both ways to Argo CD, over real HTTP: what a caller sees must not depend on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from airflow_pipeops.argocd.application import CORRELATION, REFRESH, observe
from airflow_pipeops.argocd.clients.protocol import AppRef, ArgoCD
from airflow_pipeops.argocd.waits import ArgoCDController
from airflow_pipeops.exceptions import (
    AccessDenied,
    BadResponse,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    SyncFailed,
    Unreachable,
)
from airflow_pipeops.waits.controller import until_decided
from airflow_pipeops.waits.verdict import Expectation
from tests.argocd.chaos import Chaos, between
from tests.argocd.controller import APPLICATIONS, Controller
from tests.argocd.worlds import CoreWorld, RestWorld, World, spec
from tests.kubernetes.apiserver import serving
from tests.waits.judging import Wait

KEY = {"infos": [{"name": CORRELATION, "value": "dag/run/task/-1"}]}


@pytest.fixture(params=["rest", "core"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "rest":
        rest = RestWorld(request.getfixturevalue("sandbox"))
        yield rest
        rest.close()
        return
    with serving(APPLICATIONS, bookmarks=0.2) as api, Controller(api) as controller:
        yield CoreWorld(api, controller)


@pytest.fixture
def chaos(world: World) -> Iterator[Chaos]:
    """The same world, behind a proxy that can be told to misbehave."""
    with between(world.url) as proxy:
        yield proxy


def run(client: ArgoCD, work: Callable[[ArgoCD], Awaitable[Any]], seconds: float = 120.0) -> Any:
    async def inside() -> Any:
        async with client as opened:
            return await asyncio.wait_for(work(opened), seconds)

    return asyncio.run(inside())


async def until(
    client: ArgoCD, app: AppRef, check: Callable[[dict[str, Any]], Any], seconds: float = 120.0
) -> dict[str, Any]:
    """Return the application once it is as wanted."""
    end = time.monotonic() + seconds
    while True:
        found = await client.get(app)
        if check(found):
            return found
        assert time.monotonic() < end, found.get("status")
        await asyncio.sleep(0.05)


def phase(application: dict[str, Any]) -> str:
    return str(((application.get("status") or {}).get("operationState") or {}).get("phase") or "")


def ended(application: dict[str, Any]) -> bool:
    return phase(application) in ("Succeeded", "Failed", "Error") and not application.get("operation")


def compared(application: dict[str, Any]) -> bool:
    return bool(((application.get("status") or {}).get("sync") or {}).get("revision"))


# ---- looking ---------------------------------------------------------------------------------------------------------


def test_get_reads_the_same_facts(world: World) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> None:
        observed = observe(await until(client, app, compared))
        assert (observed.name, observed.project, observed.namespace) == (app.name, "default", "argocd")
        assert (observed.sync, observed.desired, observed.automatic) == ("OutOfSync", (commit,), False)
        assert observed.uid
        assert not observed.refreshed

    run(world.client(), story)


def test_a_missing_application_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="no-such-app"):
        run(world.client(), lambda client: client.get(AppRef("no-such-app", "default")))


def test_a_strange_project_does_not_show_the_application(world: World) -> None:
    app, _ = world.make()
    with pytest.raises((NotFound, AccessDenied)):
        run(world.client(), lambda client: client.get(AppRef(app.name, "other")))


def test_a_wrong_token_is_refused_at_the_first_try_and_not_told(world: World, chaos: Chaos) -> None:
    app, _ = world.make()
    with pytest.raises(AccessDenied) as caught:
        run(world.client("s3cr3t-token", chaos.url), lambda client: client.get(app))
    assert "s3cr3t" not in str(caught.value)
    assert chaos.connections == 1


@pytest.mark.parametrize("act", ["sync", "patch", "delete", "terminate"])
def test_who_may_look_only_is_denied_all_else(world: World, act: str) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> None:
        assert (await client.get(app))["metadata"]["name"] == app.name
        if act == "sync":
            await client.sync(app, {"revision": commit})
        elif act == "patch":
            await client.patch(app, {"metadata": {"labels": {"a": "b"}}})
        elif act == "delete":
            await client.delete(app)
        else:
            await client.terminate(app)

    # That nothing can be terminated may be found out before that one may not.
    errors = (AccessDenied, InvalidInput) if act == "terminate" else AccessDenied
    with pytest.raises(errors):
        run(world.client(world.readonly), story)


def test_applications_are_found_by_project_label_and_name(world: World) -> None:
    first, _ = world.make()
    second, _ = world.make()

    async def story(client: ArgoCD) -> None:
        await client.patch(first, {"metadata": {"labels": {"tier": first.name}}})

        async def names(**given: str) -> set[str]:
            return {item["metadata"]["name"] for item in await client.applications(**given)}

        assert await names(selector=f"tier={first.name}") == {first.name}
        assert await names(name=second.name) == {second.name}
        assert {first.name, second.name} <= await names(project="default")
        assert not await names(project="other")

    run(world.client(), story)


# ---- refreshing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True])
def test_refresh_returns_the_application_once_it_was_compared(world: World, hard: bool) -> None:
    app, _ = world.make()

    async def story(client: ArgoCD) -> None:
        await until(client, app, compared)
        newer = world.commit(app.name)
        application = await client.refresh(app, hard=hard)
        assert application is not None
        observed = observe(application, refreshed=True)
        assert observed.refreshed
        assert observed.desired == (newer,)

    run(world.client(), story)


def test_a_refresh_that_nobody_acknowledges_ends_and_says_so(world: World) -> None:
    app, _ = world.make()

    async def story(client: ArgoCD) -> None:
        await until(client, app, compared)
        world.hang(app)
        begun = time.monotonic()
        assert await client.refresh(app, timeout=0.7) is None
        assert time.monotonic() - begun < 3
        assert REFRESH in (await client.get(app))["metadata"]["annotations"]

    run(world.client(), story)


def test_refreshing_what_is_not_there(world: World) -> None:
    with pytest.raises(NotFound):
        run(world.client(), lambda client: client.refresh(AppRef("no-such-app", "default")))


# ---- operations ------------------------------------------------------------------------------------------------------


def test_sync_applies_the_revision_and_keeps_who_asked(world: World) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> None:
        await until(client, app, compared)
        begun = await client.sync(app, {"revision": commit, "prune": True, **KEY})
        assert begun["operation"]["sync"]["revision"] == commit
        done = await until(client, app, ended)
        operation = observe(done).operation
        assert operation is not None
        assert (operation.phase, operation.at) == ("Succeeded", (commit,))
        assert operation.ids[CORRELATION] == "dag/run/task/-1"
        assert operation.initiated_by
        assert done["status"]["operationState"]["operation"]["sync"]["prune"] is True
        await until(client, app, lambda found: found["status"]["sync"]["status"] == "Synced")

    run(world.client(), story)


def test_sync_without_a_revision_still_has_one(world: World) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> None:
        begun = await client.sync(app, {})
        assert begun["operation"]["sync"]["revision"]
        operation = observe(await until(client, app, ended)).operation
        assert operation is not None
        assert operation.at == (commit,)

    run(world.client(), story)


def test_a_second_operation_is_a_conflict_and_the_first_can_be_found_and_terminated(world: World) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> None:
        await until(client, app, compared)
        world.stick(app)
        await client.sync(app, {"revision": commit, **KEY})
        with pytest.raises(Conflict):
            await client.sync(app, {"revision": commit})
        found = observe(await until(client, app, lambda found: phase(found) == "Running")).operation
        assert found is not None
        assert found.ids[CORRELATION] == "dag/run/task/-1"
        await client.terminate(app)
        world.heal()
        assert phase(await until(client, app, ended)) == "Failed"
        with pytest.raises(InvalidInput, match="No operation is in progress"):
            await client.terminate(app)

    run(world.client(), story)


def test_two_that_start_at_once_start_one(world: World) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> None:
        await until(client, app, compared)
        world.stick(app)
        asked = [client.sync(app, {"revision": commit}) for _ in range(5)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(outcome, dict) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 4

    run(world.client(), story)


def test_auto_sync_lets_nobody_choose_another_revision(world: World) -> None:
    app, _ = world.make(automated={})

    async def story(client: ArgoCD) -> None:
        await until(client, app, lambda found: ended(found) and found["status"]["sync"]["status"] == "Synced")
        with pytest.raises(SyncFailed, match="auto-sync currently set to main"):
            await client.sync(app, {"revision": "a" * 40})
        with pytest.raises(SyncFailed, match="rollback cannot be initiated when auto-sync is enabled"):
            await client.rollback(app, 0)

    run(world.client(), story)


def test_rollback_goes_back_to_an_entry_of_the_history(world: World) -> None:
    app, first = world.make()

    async def story(client: ArgoCD) -> None:
        await client.sync(app, {"revision": first})
        done = await until(client, app, ended)
        number = done["status"]["history"][-1]["id"]
        second = world.commit(app.name)
        await client.sync(app, {"revision": second})
        await until(client, app, lambda found: ended(found) and observe(found).deployed == (second,))
        with pytest.raises(InvalidInput, match="does not have deployment with id 4711"):
            await client.rollback(app, 4711)
        await client.rollback(app, number)
        done = await until(client, app, lambda found: ended(found) and observe(found).deployed == (first,))
        assert done["status"]["operationState"]["operation"]["sync"]["syncStrategy"] == {"apply": {}}

    run(world.client(), story)


# ---- declaring -------------------------------------------------------------------------------------------------------


def test_create_change_and_delete(world: World) -> None:
    app, _ = world.make()
    name = f"{app.name}-declared"
    declared = {"metadata": {"name": name}, "spec": spec(world.repo, app.name)}
    ref = AppRef(name, "default")

    async def story(client: ArgoCD) -> None:
        created = await client.create(declared)
        assert created["metadata"]["uid"]
        assert (await client.create(declared))["metadata"]["uid"] == created["metadata"]["uid"]
        other = {**declared, "spec": {**declared["spec"], "revisionHistoryLimit": 3}}
        with pytest.raises(InvalidInput, match="use upsert flag"):
            await client.create(other)
        assert (await client.create(other, upsert=True))["spec"]["revisionHistoryLimit"] == 3
        found = await until(client, ref, compared)
        changed = await client.set_spec(ref, {**found["spec"], "revisionHistoryLimit": 4})
        assert changed["revisionHistoryLimit"] == 4
        # The status must survive each of them: there is no other copy of it.
        assert compared(await client.get(ref))
        found = await client.get(ref)
        found["spec"].pop("revisionHistoryLimit")
        await client.update(found)
        assert "revisionHistoryLimit" not in (await client.get(ref))["spec"]
        assert compared(await client.get(ref))
        patched = await client.patch(ref, {"metadata": {"labels": {"a": "b"}}})
        assert patched["metadata"]["labels"]["a"] == "b"
        await client.delete(ref)
        with pytest.raises(NotFound):
            await until(client, ref, lambda found: False)

    run(world.client(), story)


def test_delete_without_cascade_leaves_what_is_managed(world: World) -> None:
    app, _ = world.make()
    finalizers = {"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}}

    async def story(client: ArgoCD) -> None:
        await client.patch(app, finalizers)
        async with aclosing(client.watch(name=app.name, project="default")) as events:  # type: ignore[type-var]
            async for event in events:
                if event["type"] == "ADDED":
                    await client.delete(app, cascade=False)
                if event["type"] == "DELETED":
                    assert not event["application"]["metadata"].get("finalizers")
                    return

    run(world.client(), story)


# ---- watching --------------------------------------------------------------------------------------------------------


def test_watch_tells_what_there_is_and_then_what_changes(world: World) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> None:
        await until(client, app, compared)
        types = []
        async with aclosing(client.watch(name=app.name, project="default")) as events:  # type: ignore[type-var]
            async for event in events:
                types.append(event["type"])
                assert event["application"]["metadata"]["name"] == app.name
                if len(types) == 1:
                    await client.sync(app, {"revision": commit})
                if ended(event["application"]):
                    break
        assert types[0] == "ADDED"
        assert set(types[1:]) == {"MODIFIED"}

    run(world.client(), story)


def test_watch_of_another_project_is_silent(world: World) -> None:
    world.make()

    async def story(client: ArgoCD) -> None:
        async for event in client.watch(project="other"):
            raise AssertionError(event)

    with pytest.raises(asyncio.TimeoutError):
        run(world.client(), story, seconds=1.0)


def test_a_watch_that_is_cut_is_unreachable_and_the_next_one_tells_all_again(
    world: World, chaos: Chaos
) -> None:
    """Also every few tenths of a second: nothing that happened meanwhile is lost."""
    app, _ = world.make()
    seen: list[str] = []
    cuts = 0

    async def story(client: ArgoCD) -> None:
        nonlocal cuts
        wanted = [world.commit(app.name) for _ in range(3)]
        for revision in wanted:
            await client.sync(app, {"revision": revision})
            cutter = asyncio.get_running_loop().call_later(0.2, chaos.cut)
            while revision not in seen:
                try:
                    async with aclosing(client.watch(name=app.name, project="default")) as events:  # type: ignore[type-var]
                        async for event in events:
                            observed = observe(event["application"])
                            if ended(event["application"]):
                                seen.extend(observed.deployed)
                            if revision in seen:
                                break
                except Unreachable:
                    cuts += 1
            cutter.cancel()
        # One more that is open when the connection is cut, whatever the others were.
        with pytest.raises(Unreachable):
            await cut_short(client)

    async def cut_short(client: ArgoCD) -> None:
        async with aclosing(client.watch(name=app.name, project="default")) as events:  # type: ignore[type-var]
            async for _ in events:
                asyncio.get_running_loop().call_later(0.5, chaos.cut)

    run(world.client(url=chaos.url, attempts=6, timeout=20.0), story, seconds=120)


# ---- the other side dies, lies, stalls, truncates, answers twice -------------------------------------------------------


def test_a_server_that_restarts_in_mid_call_is_found_again(world: World, chaos: Chaos) -> None:
    app, _ = world.make()

    async def story(client: ArgoCD) -> None:
        assert await client.get(app)
        chaos.down()
        asyncio.get_running_loop().call_later(0.5, chaos.up)
        assert (await client.get(app))["metadata"]["name"] == app.name

    run(world.client(url=chaos.url, attempts=8, pause=0.05), story)


def test_a_server_that_stays_away_is_unreachable_after_so_many_tries(world: World, chaos: Chaos) -> None:
    app, _ = world.make()
    chaos.down()
    with pytest.raises(Unreachable, match="does not answer"):
        run(world.client(url=chaos.url, attempts=3), lambda client: client.get(app))


@pytest.mark.parametrize("status", [429, 503])
def test_a_burst_of_refusals_is_waited_out_as_long_as_the_server_asks(
    world: World, chaos: Chaos, status: int
) -> None:
    app, _ = world.make()
    chaos.answer(status, 2, headers="Retry-After: 1\r\n")
    begun = time.monotonic()
    found = run(world.client(url=chaos.url), lambda client: client.get(app))
    assert found["metadata"]["name"] == app.name
    assert time.monotonic() - begun >= 2
    assert chaos.connections == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_burst_that_does_not_end_is_no_storm(world: World, chaos: Chaos, status: int) -> None:
    app, _ = world.make()
    chaos.endless = True
    chaos.answer(status)
    with pytest.raises(Unreachable):
        run(world.client(url=chaos.url, attempts=4), lambda client: client.get(app))
    assert chaos.canned_served == 4
    # A server that asks for an hour is not asked again at all; the caller is told how long.
    chaos.answer(status, headers="Retry-After: 3600\r\n")
    with pytest.raises(Unreachable) as caught:
        run(world.client(url=chaos.url, attempts=4), lambda client: client.get(app))
    assert chaos.canned_served == 5
    assert caught.value.retry_after == 3600


def test_a_slow_server_is_waited_for_and_a_stalled_one_is_not(world: World, chaos: Chaos) -> None:
    app, _ = world.make()
    chaos.latency = 0.2
    assert run(world.client(url=chaos.url), lambda client: client.get(app))
    chaos.latency = 5.0
    begun = time.monotonic()
    with pytest.raises(Unreachable):
        run(world.client(url=chaos.url, attempts=2, timeout=0.3), lambda client: client.get(app))
    assert time.monotonic() - begun < 3


def test_a_token_that_expires_in_mid_wait_is_told_once_without_a_storm(world: World, chaos: Chaos) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> Wait:
        wait = Wait(app, Expectation(revisions={"0": commit}, settle=0.0, timeout=60.0))
        assert await client.get(app)
        chaos.endless = True
        chaos.answer(401)
        await until_decided(ArgoCDController(client), [wait], 0.05)
        return wait

    wait = run(world.client(url=chaos.url), story)
    assert wait.state.verdict.state == "failed"
    assert "401" in wait.state.verdict.reason
    # Each look asks once; nothing below a look tries again.
    assert chaos.canned_served <= 3


def test_truncated_answers_are_read_again_and_end(world: World, chaos: Chaos) -> None:
    app, _ = world.make()
    chaos.truncate, chaos.truncated = 300, 2
    found = run(world.client(url=chaos.url), lambda client: client.get(app))
    assert found["metadata"]["name"] == app.name
    chaos.truncated = 1000
    with pytest.raises((Unreachable, BadResponse)):
        run(world.client(url=chaos.url, attempts=3), lambda client: client.get(app))
    assert chaos.connections == 6


def test_an_answer_that_comes_twice_is_read_once(world: World, chaos: Chaos) -> None:
    app, _ = world.make()
    chaos.twice = True

    async def story(client: ArgoCD) -> None:
        for _ in range(3):
            assert (await client.get(app))["metadata"]["name"] == app.name

    run(world.client(url=chaos.url), story)


def test_a_sync_whose_answer_was_lost_is_not_repeated_and_can_be_found(world: World, chaos: Chaos) -> None:
    app, commit = world.make()

    async def story(client: ArgoCD) -> PipeOpsError:
        await until(client, app, compared)
        world.stick(app)
        # The first answer to go is that to the write: what was read before has its own.
        if isinstance(world, CoreWorld):
            inner = client.kubernetes.patch  # type: ignore[attr-defined]

            async def patch(*given: Any, **named: Any) -> Any:
                chaos.swallow = 1
                return await inner(*given, **named)

            client.kubernetes.patch = patch  # type: ignore[attr-defined]
        else:
            chaos.swallow = 1
        with pytest.raises(Unreachable) as caught:
            await client.sync(app, {"revision": commit, **KEY})
        found = observe(await client.get(app)).operation
        assert found is not None
        assert found.ids[CORRELATION] == "dag/run/task/-1"
        with pytest.raises(Conflict):
            await client.sync(app, {"revision": commit, **KEY})
        return caught.value

    run(world.client(url=chaos.url), story)
    if isinstance(world, CoreWorld):
        assert world.controller.started.count(app.name) <= 1


def test_a_wait_ends_well_through_all_of_that(world: World, chaos: Chaos) -> None:
    """Cuts, refusals, truncation and a restart while a wait looks every tenth of a second."""
    app, commit = world.make(automated={})

    async def story(client: ArgoCD) -> Wait:
        loop = asyncio.get_running_loop()
        for moment, trouble in (
            (0.1, chaos.cut),
            (0.3, lambda: chaos.answer(503, 3)),
            (0.6, chaos.down),
            (0.9, chaos.up),
            (1.1, lambda: (setattr(chaos, "truncate", 100), setattr(chaos, "truncated", 2))),
            (1.3, lambda: chaos.answer(429, 2, headers="Retry-After: 1\r\n")),
            (1.5, chaos.cut),
        ):
            loop.call_later(moment, trouble)
        expectation = Expectation(revisions={"0": commit}, settle=2.0, timeout=60.0)
        wait = Wait(app, expectation)
        await until_decided(ArgoCDController(client), [wait], 0.1)
        return wait

    wait = run(world.client(url=chaos.url, attempts=2), story, seconds=60)
    assert (wait.state.verdict.state, wait.state.verdict.rule) == ("done", "healthy")


# ---- permissions -------------------------------------------------------------------------------------------------------


def test_trial_says_what_the_credential_lacks(world: World) -> None:
    full = run(world.client(), lambda client: client.trial("default"))
    assert (full.accepted, full.usable, full.lacking) == (True, True, ())
    some = run(world.client(world.readonly), lambda client: client.trial("default"))
    assert some.usable
    assert len(some.lacking) == 1
    assert run(world.client(), lambda client: client.can_i("sync", project="default"))
    assert not run(world.client(world.readonly), lambda client: client.can_i("sync", project="default"))
    assert run(world.client(world.readonly), lambda client: client.can_i("get", project="default"))
