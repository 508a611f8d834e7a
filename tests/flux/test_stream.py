"""Many waits of one triggerer: one watch per kind, whatever happens to it; nothing lost, nothing told twice, no storm."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_pipeops.flux import stream as flux_stream
from airflow_pipeops.flux.kinds import KINDS, Ref
from airflow_pipeops.flux.stream import joined
from airflow_pipeops.flux.triggers import FluxWaitTrigger
from airflow_pipeops.kubernetes import feeds as feed
from airflow_pipeops.waits.verdict import Expectation
from tests.flux.conftest import NAMESPACE, connect
from tests.flux.objects import NEW, OLD, at, chart, git, hr, ks
from tests.kubernetes.apiserver import ApiServer, Fault

MANY = 60


@pytest.fixture
def many(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    """A cluster with many Kustomizations at the old commit of one repository, and a connection to it."""
    connect(monkeypatch, api.url)
    monkeypatch.setattr(feed, "LINGER", 0.0)
    monkeypatch.setattr(feed, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr("airflow_pipeops.kubernetes.feeds.TICK", 0.02)
    api.put(*KINDS["GitRepository"], git(OLD))
    for number in range(MANY):
        api.put(*KINDS["Kustomization"], ks(OLD, name=f"k{number}"))
    return api


def trigger(number: int, **more: Any) -> FluxWaitTrigger:
    expectation = Expectation(
        revisions={"*": NEW}, settle=0.0, on_suspended="fail", timeout=60.0, transport_grace=30.0
    )
    given = {
        "flux_conn_id": "kubernetes_default",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "dwell": 0.0,
        "poll_interval": 0.5,
    }
    return FluxWaitTrigger(**{**given, "name": f"k{number}", "expectation": expectation.to_json(), **more})


def run(
    triggers: list[FluxWaitTrigger], meanwhile: Callable[[], Awaitable[None]], seconds: float = 160.0
) -> list[list[Any]]:
    """Run triggers in one loop, as a triggerer does; return the payloads of each."""

    async def one(made: FluxWaitTrigger) -> list[Any]:
        return [event.payload async for event in made.run()]

    async def inside() -> list[list[Any]]:
        tasks = [asyncio.ensure_future(one(made)) for made in triggers]
        await meanwhile()
        found = await asyncio.gather(*tasks)
        await closed()
        return found

    return asyncio.run(asyncio.wait_for(inside(), seconds))


async def closed() -> None:
    """Wait until nobody shares a connection any more."""
    await asyncio.gather(*feed._CLOSING)
    assert not feed._SHARED[asyncio.get_running_loop()].feeds


def release(api: ApiServer, numbers: Any = range(MANY)) -> None:
    """What the controllers write when the new commit is applied."""
    fresh = ks(NEW)["status"]
    api.change(
        "gitrepositories",
        NAMESPACE,
        "deploy",
        lambda item: item["status"].update(artifact={"revision": at(NEW)}),
    )
    for number in numbers:
        api.change("kustomizations", NAMESPACE, f"k{number}", lambda item: item.update(status=dict(fresh)))


async def until(check: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def all_done(found: list[list[Any]]) -> bool:
    return [[one["verdict"]["rule"] for one in payloads] for payloads in found] == [["ready"]] * len(found)


def counted(api: ApiServer, begin: str, since: int = 0) -> int:
    return sum(line.startswith(begin) for line in api.requests[since:])


def test_many_waits_cost_one_watch_per_kind(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        await asyncio.sleep(0.3)
        assert many.open_watches == 2
        assert counted(many, "GET") <= 4, many.requests
        release(many)

    found = run([trigger(number) for number in range(MANY)], meanwhile)
    assert all_done(found)
    watches = [line for line in many.requests if line.endswith("?watch")]
    assert len(watches) == 2
    # What ends a wait was read for it.
    assert counted(many, "GET") - len(watches) - 2 <= MANY


def test_a_watch_that_is_cut_again_and_again_loses_nothing(many: ApiServer) -> None:
    async def meanwhile() -> None:
        for number in range(MANY):
            if number % 10 == 0:
                await asyncio.sleep(0.1)
                many.cut()
            release(many, [number])

    assert all_done(run([trigger(number) for number in range(MANY)], meanwhile))


def test_a_watch_that_is_cut_at_once_each_time_does_not_read_the_list_in_a_loop(many: ApiServer) -> None:
    lists = f"GET {_path('Kustomization')}"

    async def meanwhile() -> None:
        async def cut() -> None:
            while True:
                many.cut()
                await asyncio.sleep(0.005)

        cutting, began = asyncio.ensure_future(cut()), time.monotonic()
        await until(lambda: sum(line == lists for line in many.requests) >= 7)
        took = time.monotonic() - began
        cutting.cancel()
        # At least half of 50, 100, 200, ... 1600 ms.
        assert took >= 1.5, "each beginning costs the server all objects"
        release(many)

    assert all_done(run([trigger(number) for number in range(5)], meanwhile))


def test_an_odd_object_does_not_end_the_watch_of_all(many: ApiServer) -> None:
    many.change("kustomizations", NAMESPACE, "k50", lambda item: item.update(status="odd"))

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        many.change("kustomizations", NAMESPACE, "k51", lambda item: item.update(status=["odd"]))
        release(many, range(5))

    assert all_done(run([trigger(number) for number in range(5)], meanwhile))


def test_what_the_shared_watch_logs_is_no_line_of_the_trigger_that_came_first(many: ApiServer) -> None:
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="")
    heard: list[tuple[str, str]] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append((record.getMessage(), mine.get()))

    ear, logger = Ear(), logging.getLogger("airflow_pipeops.kubernetes.feeds")
    level = logger.level
    logger.addHandler(ear)
    logger.setLevel(logging.INFO)
    mine.set("the first trigger")
    try:

        async def meanwhile() -> None:
            await until(lambda: many.open_watches == 2)
            release(many)

        assert all_done(run([trigger(0)], meanwhile))
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)
        mine.set("")
    assert [whose for said, whose in heard if said.startswith("Watching")] == ["", ""]


def test_history_that_the_server_forgot_is_read_anew(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        many.compact()
        many.cut()
        release(many)

    assert all_done(run([trigger(number) for number in range(MANY)], meanwhile))


def test_events_that_come_twice_are_told_once(many: ApiServer) -> None:
    many.faults.append(Fault("twice"))

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        release(many)

    assert all_done(run([trigger(number) for number in range(MANY)], meanwhile))


def test_a_server_that_restarts_meets_no_storm(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        await asyncio.to_thread(many.stop)
        release(many)
        before = len(many.requests)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(many.start)
        await until(lambda: many.open_watches == 2)
        # To come back: a list and a watch for each of two kinds, perhaps tried twice.
        again = [
            line
            for line in many.requests[before:]
            if "/kustomizations/k" not in line and "/gitrepositories/d" not in line
        ]
        assert len(again) <= 8, again

    assert all_done(run([trigger(number) for number in range(MANY)], meanwhile))


def test_while_the_server_is_away_nothing_is_decided_and_at_the_end_it_is_said(many: ApiServer) -> None:
    expectation = Expectation(revisions={"*": NEW}, settle=0.0, transport_grace=1.0).to_json()

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        await asyncio.to_thread(many.stop)

    try:
        ((event,),) = run([trigger(0, expectation=expectation)], meanwhile, 80.0)
    finally:
        many.start()
    assert event["verdict"]["rule"] == "unreachable"


def test_busy_answers_are_outlasted(many: ApiServer) -> None:
    many.faults.append(Fault("status", method="GET", path="*/kustomizations", status=503, count=6))
    many.faults.append(
        Fault("status", method="GET", path="*/kustomizations/*", status=429, retry_after="0", count=6)
    )

    async def meanwhile() -> None:
        release(many)

    assert all_done(run([trigger(number) for number in range(10)], meanwhile))


def test_where_watching_is_not_allowed_each_polls(many: ApiServer) -> None:
    many.tokens["token"] = lambda verb, *_: verb in ("get", "patch")

    async def meanwhile() -> None:
        await until(lambda: counted(many, f"GET {_path('Kustomization')}/k0") > 2)
        release(many)

    found = run([trigger(number, poll_interval=0.05) for number in range(5)], meanwhile)
    assert all_done(found)
    assert many.open_watches == 0


@pytest.mark.parametrize("first", [True, False], ids=["list", "change"])
def test_a_watch_that_dies_of_what_nobody_foresaw_leaves_each_wait_to_read_for_itself(
    many: ApiServer, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Not each fault has a name, and a dead watch that still counts as live would wake nobody."""
    kept, struck = flux_stream._kept, threading.Event()

    def odd(item: dict[str, Any]) -> dict[str, Any]:
        if item["metadata"]["name"] == "k50" and (first or "struck" in item["metadata"].get("labels", {})):
            struck.set()
            raise ZeroDivisionError("nobody foresaw it")
        return kept(item)

    monkeypatch.setattr(flux_stream, "_kept", odd)

    async def meanwhile() -> None:
        if not first:
            await until(lambda: many.open_watches == 2)
            marked = {"labels": {"struck": "yes"}}
            many.change("kustomizations", NAMESPACE, "k50", lambda item: item["metadata"].update(marked))
        await until(struck.is_set)
        release(many, range(5))

    assert all_done(run([trigger(number, poll_interval=0.05) for number in range(5)], meanwhile))


def test_a_token_that_expires_ends_the_waits_with_the_reason(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        many.tokens.clear()
        many.cut()

    found = run([trigger(number, poll_interval=0.05) for number in range(5)], meanwhile)
    for (event,) in found:
        assert event["verdict"]["rule"] == "access_denied"
        assert "401" in event["verdict"]["reason"]
    assert "Bearer" not in json.dumps(found)


def test_a_deleted_object_is_said_to_be_gone(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)

        def delete(item: dict[str, Any]) -> None:
            item["metadata"]["deletionTimestamp"] = "2026-11-01T10:00:00Z"

        many.change("kustomizations", NAMESPACE, "k0", delete)

    ((event,),) = run([trigger(0)], meanwhile)
    assert event["verdict"]["rule"] == "app_deleted"


def test_a_canceled_wait_leaves_the_others_alone(many: ApiServer) -> None:
    async def inside() -> list[Any]:
        async def one(made: FluxWaitTrigger) -> list[Any]:
            return [event.payload async for event in made.run()]

        tasks = [asyncio.ensure_future(one(trigger(number))) for number in range(10)]
        await until(lambda: many.open_watches == 2)
        for task in tasks[:9]:
            task.cancel()
        await asyncio.gather(*tasks[:9], return_exceptions=True)
        release(many)
        found = await tasks[9]
        await closed()
        return found

    (event,) = asyncio.run(asyncio.wait_for(inside(), 30))
    assert event["verdict"]["rule"] == "ready"


def test_the_connection_is_kept_for_a_while_after_the_last_wait(
    many: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LINGER", 0.5)
    release(many)

    async def inside() -> None:
        for number in range(5):
            _ = [event async for event in trigger(number).run()]
        await closed()

    asyncio.run(asyncio.wait_for(inside(), 60))
    assert sum(line.endswith("?watch") for line in many.requests) == 2


def test_a_source_is_asked_once_for_all_waits(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: counted(many, "PATCH") >= 1)
        await asyncio.sleep(0.5)
        release(many)

    expectation = Expectation(revisions={"*": NEW}, settle=0.0, timeout=60.0).to_json()
    waits = [trigger(number, requests=f"me{number}", expectation=expectation) for number in range(MANY)]
    assert all_done(run(waits, meanwhile))
    to_source = [line for line in many.requests if line.startswith("PATCH") and line.endswith("/deploy")]
    assert len(to_source) == 1
    # Once the source holds it, each Kustomization is asked for itself, if it is not there yet.
    assert counted(many, "PATCH") <= 1 + MANY


def test_a_thousand_waits_are_judged_in_little_time(many: ApiServer) -> None:
    """Not a benchmark: that nothing in it grows with the square of the waits."""
    done = threading.Event()

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        release(many, range(10))
        done.set()

    found = run([trigger(number % 10) for number in range(200)], meanwhile)
    assert done.is_set()
    assert all_done(found)
    assert sum(line.endswith("?watch") for line in many.requests) == 2


def _path(kind: str) -> str:
    group, version, plural = KINDS[kind]
    return f"/apis/{group}/{version}/namespaces/{NAMESPACE}/{plural}"


def test_what_ends_a_wait_for_a_release_is_read_for_it_with_all_that_changes_it(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch of Helm releases lags behind that of Kustomizations: an old "ready" must not join a new "applied"."""
    connect(monkeypatch, api.url)
    monkeypatch.setattr(feed, "LINGER", 0.0)
    made = [git(OLD), ks(OLD), ks(OLD, name="root"), hr(), chart(built_from=OLD)]
    made[1]["metadata"]["labels"] = {
        "kustomize.toolkit.fluxcd.io/name": "root",
        "kustomize.toolkit.fluxcd.io/namespace": NAMESPACE,
    }
    for item in made:
        api.put(*KINDS[item["kind"]], item)

    async def inside() -> list[dict[str, Any]]:
        async with joined("kubernetes_default") as cluster:
            ref = Ref("HelmRelease", NAMESPACE, "api")
            assert len(await cluster.gather(ref)) == len(made)
            monkeypatch.setattr(feed.Feed, "_take", lambda *_: None)
            for kind in ("Kustomization", "HelmRelease", "HelmChart", "GitRepository"):
                for item in await cluster.client.all(kind, NAMESPACE):
                    name = item["metadata"]["name"]
                    api.change(KINDS[kind][2], NAMESPACE, name, lambda one: one["status"].update(later=True))
            assert not any(one["status"].get("later") for one in await cluster.gather(ref))
            found = list(await cluster.confirm(ref))
        await closed()
        return found

    found = asyncio.run(asyncio.wait_for(inside(), 60))
    assert [one["kind"] for one in found if not one["status"].get("later")] == []
