"""Many waits of one triggerer for applied objects: one watch per kind, whatever happens to it; nothing lost, no storm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from airflow_pipeops.deploy.stream import Told
from airflow_pipeops.deploy.targets import AppliedSet, Target
from airflow_pipeops.deploy.triggers import AppliedTrigger
from airflow_pipeops.kubernetes import feeds
from airflow_pipeops.waits.verdict import Expectation
from tests.deploy.conftest import Cluster
from tests.deploy.objects import NEW, OLD, Object
from tests.kubernetes.apiserver import ApiServer, Fault

MANY = 20
DEPLOYMENTS = ("apps", "v1", "deployments")
LISTS = "GET /apis/apps/v1/namespaces/shop/deployments"


@pytest.fixture
def many(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    """A cluster whose controllers stand still, and a connection to it."""
    monkeypatch.setattr(feeds, "LINGER", 0.0)
    monkeypatch.setattr(feeds, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(feeds, "TICK", 0.02)
    return cluster.api


def image(number: int) -> str:
    return f"shop/w{number}@{NEW}"


def trigger(api: ApiServer, number: int, **more: Any) -> AppliedTrigger:
    """Create a Deployment, and return what waits for it."""
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"w{number}", "namespace": "shop"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": f"w{number}"}},
            "template": {"spec": {"containers": [{"name": "web", "image": image(number)}]}},
        },
    }
    target = Target.of(api.put(*DEPLOYMENTS, body), "deployments", body)
    expectation = Expectation(match="any", settle=0.0, timeout=60.0, transport_grace=30.0)
    given = {"kubernetes_conn_id": "kubernetes_default", "dwell": 0.0, "poll_interval": 0.05}
    return AppliedTrigger(
        **{
            **given,
            "applied": AppliedSet(f"w{number}", (target,), "shop").to_json(),
            "expectation": expectation.to_json(),
            **more,
        }
    )


def run_out(api: ApiServer, numbers: Iterable[int], digest: str = NEW) -> None:
    """What controllers write when Deployments have come about."""
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
    for number in numbers:
        container = {"name": "web", "image": image(number), "imageID": f"docker.io/shop/w{number}@{digest}"}
        pod = {
            "metadata": {"name": f"w{number}-0", "namespace": "shop", "labels": {"app": f"w{number}"}},
            "status": {"phase": "Running", "containerStatuses": [{**container, "ready": True}]},
        }
        api.put("", "v1", "pods", pod)
        status = {"observedGeneration": 1, **counts}
        api.change(
            "deployments", "shop", f"w{number}", lambda item, status=status: item.update(status=status)
        )  # type: ignore[misc]


def run(
    triggers: list[AppliedTrigger], meanwhile: Callable[[], Awaitable[None]], seconds: float = 100.0
) -> list[dict[str, Any]]:
    """Run triggers in one loop, as a triggerer does; return the verdict of each."""

    async def one(made: AppliedTrigger) -> dict[str, Any]:
        (payload,) = [event.payload async for event in made.run()]
        found: dict[str, Any] = payload["decided"]["verdict"]
        return found

    async def inside() -> list[dict[str, Any]]:
        tasks = [asyncio.ensure_future(one(made)) for made in triggers]
        await meanwhile()
        found = await asyncio.gather(*tasks)
        await asyncio.gather(*feeds._CLOSING)
        assert not feeds._SHARED[asyncio.get_running_loop()].feeds
        return found

    return asyncio.run(asyncio.wait_for(inside(), seconds))


async def until(check: Callable[[], bool], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def all_ready(found: list[dict[str, Any]]) -> bool:
    return {one["rule"] for one in found} == {"ready"}


def test_two_hundred_waits_cost_one_watch_per_kind_and_what_ends_each(
    many: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, looks, read = 200, 0, Told.read
    monkeypatch.setattr(feeds, "LONGEST", 0.5)

    async def counted(self: Told, targets: Any) -> Any:
        nonlocal looks
        looks += 1
        return await read(self, targets)

    monkeypatch.setattr(Told, "read", counted)

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        await until(lambda: looks >= 5 * number)
        # Two lists and two watches, however often the waits have looked.
        assert len(many.requests) == 4, many.requests[:20]
        run_out(many, range(number))

    assert all_ready(run([trigger(many, one) for one in range(number)], meanwhile))
    # What ends a wait was read for it: the object, and its pods.
    assert len(many.requests) <= 4 + 2 * number
    assert sum(one.endswith("?watch") for one in many.requests) == 2


def test_a_tag_that_moved_is_found_by_watches_too(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        run_out(many, [0], OLD)

    (found,) = run([trigger(many, 0)], meanwhile)
    assert found["state"] == "failed"
    assert "other_image" in found["reason"]


def test_a_watch_that_is_cut_again_and_again_loses_nothing(many: ApiServer) -> None:
    async def meanwhile() -> None:
        for number in range(MANY):
            if number % 4 == 0:
                await until(lambda: many.open_watches > 0)
                many.cut()
            run_out(many, [number])

    assert all_ready(run([trigger(many, number) for number in range(MANY)], meanwhile))


def test_history_that_the_server_forgot_is_read_anew(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        run_out(many, range(MANY // 2))
        many.compact()
        many.cut()
        run_out(many, range(MANY // 2, MANY))

    assert all_ready(run([trigger(many, number) for number in range(MANY)], meanwhile))


def test_a_watch_that_stalls_is_given_up(many: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "WATCH_SECONDS", 1)

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        stall = Fault("stall")
        many.faults.append(stall)
        run_out(many, range(MANY))
        lists = many.requests.count(LISTS)
        await until(lambda: many.requests.count(LISTS) > lists)
        many.faults.remove(stall)

    assert all_ready(run([trigger(many, number) for number in range(MANY)], meanwhile))


def test_events_that_a_server_dropped_are_found_by_reading_the_list_again(
    many: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "WATCH_SECONDS", 1)
    monkeypatch.setattr(feeds, "RELIST", 2.0)

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        many.faults.append(Fault("swallow"))
        run_out(many, range(MANY))

    assert all_ready(run([trigger(many, number) for number in range(MANY)], meanwhile))


def test_a_server_that_restarts_meets_no_storm(many: ApiServer) -> None:
    triggers = [trigger(many, number) for number in range(MANY)]

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        await asyncio.to_thread(many.stop)
        before = len(many.requests)
        await asyncio.to_thread(many.start)
        await until(lambda: many.open_watches == 2)
        # To come back: a list and a watch for each of two kinds, perhaps tried twice.
        assert len(many.requests) - before <= 8, many.requests[before:]
        run_out(many, range(MANY))

    assert all_ready(run(triggers, meanwhile))


def test_while_the_server_is_away_nothing_is_decided_and_at_the_end_it_is_said(many: ApiServer) -> None:
    expectation = Expectation(match="any", settle=0.0, transport_grace=1.0).to_json()
    made = trigger(many, 0, expectation=expectation)

    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        await asyncio.to_thread(many.stop)

    try:
        (found,) = run([made], meanwhile)
    finally:
        many.start()
    assert (found["state"], found["rule"]) == ("failed", "unreachable")


@pytest.mark.parametrize("verbs", [("get",), ("get", "list")])
def test_where_watching_is_not_allowed_each_polls(many: ApiServer, verbs: tuple[str, ...]) -> None:
    many.tokens["token"] = lambda verb, target, _: verb in verbs or target == "pods"

    async def meanwhile() -> None:
        await until(lambda: many.requests.count(f"{LISTS}/w0") > 2)
        run_out(many, range(5))

    assert all_ready(run([trigger(many, number) for number in range(5)], meanwhile))


def test_one_that_is_deleted_ends_its_wait_and_no_other(many: ApiServer) -> None:
    async def meanwhile() -> None:
        await until(lambda: many.open_watches == 2)
        kind = many.kinds[DEPLOYMENTS]
        with many.lock:
            many._delete(kind, kind.objects["shop", "w0"], {})
        run_out(many, range(1, 5))

    gone, *others = run([trigger(many, number) for number in range(5)], meanwhile)
    assert gone["state"] == "failed"
    assert "gone" in gone["reason"]
    assert all_ready(others)


def test_a_canceled_wait_leaves_the_others_alone(many: ApiServer) -> None:
    made = [trigger(many, number) for number in range(5)]

    async def inside() -> list[Any]:
        async def one(which: AppliedTrigger) -> list[Any]:
            return [event.payload async for event in which.run()]

        tasks = [asyncio.ensure_future(one(which)) for which in made]
        await until(lambda: many.open_watches == 2)
        for task in tasks[:4]:
            task.cancel()
        await asyncio.gather(*tasks[:4], return_exceptions=True)
        run_out(many, range(5))
        found = await tasks[4]
        await asyncio.gather(*feeds._CLOSING)
        return found

    (payload,) = asyncio.run(asyncio.wait_for(inside(), 60))
    assert payload["decided"]["verdict"]["rule"] == "ready"
