"""What an AssetWatcher is told: each thing once, also over a restart of the triggerer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.flux.differences import Correction, changes, corrections
from airflow_pipeops.flux.kinds import KINDS
from airflow_pipeops.flux.novelty import NewsMemory, drifted, failed, ready
from airflow_pipeops.flux.objects import observe
from airflow_pipeops.flux.triggers import FluxDriftTrigger, FluxFailedTrigger, FluxReadyTrigger
from airflow_pipeops.kubernetes import feeds as feed
from tests.flux.conftest import NAMESPACE, connect
from tests.flux.objects import NEW, NEWER, OLD, T1, T2, at, chart, cond, git, hr, ks, snapshot, working
from tests.flux.objects import failed as failing
from tests.kubernetes.apiserver import ApiServer

DRIFTED = cond(
    "Drifted",
    True,
    "DriftDetected",
    "drift:\nDeployment/apps/api changed (1 changes)\npassword=s3cr3t",
    since=T1,
)


def tell(
    judgement: Callable[..., Any], *looks: list[Any], memory: NewsMemory | None = None, **more: Any
) -> list[Any]:
    """Return what is told of looks in a row, each with the memory through JSON."""
    told, memory = [], memory or NewsMemory()
    for look in looks:
        payload, memory = judgement(observe(look), memory=memory, **more)
        memory = NewsMemory.from_json(json.loads(json.dumps(memory.to_json())))
        told.append(payload)
    return told


def told(found: list[Any]) -> list[bool]:
    return [payload is not None for payload in found]


def test_what_is_ready_at_first_is_no_news() -> None:
    assert told(tell(ready, [ks(OLD), git(OLD)], [ks(OLD), git(OLD)])) == [False, False]


def test_ready_at_another_revision_is_told_once() -> None:
    found = tell(
        ready, [ks(OLD), git(OLD)], [ks(OLD, NEW, *working()), git()], [ks(NEW), git()], [ks(NEW), git(NEWER)]
    )
    assert told(found) == [False, False, True, False]
    assert (found[2]["revision"], found[2]["kind"], found[2]["name"]) == (NEW, "Kustomization", "apps")


def test_what_is_on_its_way_at_first_is_told() -> None:
    assert told(tell(ready, [ks(OLD, NEW, *working()), git()], [ks(NEW), git()])) == [False, True]


def test_ready_again_at_the_same_revision_is_no_news() -> None:
    looks = [[ks(OLD), git()], [ks(NEW), git()], [ks(NEW, NEW, *working()), git()], [ks(NEW), git()]]
    assert told(tell(ready, *looks)) == [False, True, False, False]


def test_a_new_release_of_the_same_chart_is_news() -> None:
    looks = [[hr(history=[snapshot(number=number)]), chart()] for number in (1, 1, 2)]
    found = tell(ready, *looks)
    assert told(found) == [False, False, True]
    assert found[2]["chart"] == "1.2.3"


def test_a_release_is_told_with_the_revision_that_its_waiting_owner_has_applied() -> None:
    waiting = ks(OLD, NEW, *working(NEW, "Running health checks"))
    looks = [[hr(history=[snapshot(number=number)]), chart(), waiting, git()] for number in (1, 2)]
    assert [one and one["revision"] for one in tell(ready, *looks)] == [None, NEW]


def test_a_failure_is_told_after_so_many_attempts_and_once_until_it_is_ready() -> None:
    looks = [[ks(OLD, NEW, *failing("HealthCheckFailed", since=f"t{n}")), git()] for n in range(4)]
    found = tell(failed, *looks, [ks(NEW), git()], *looks)
    assert told(found) == [False, True, False, False, False, False, True, False, False]
    assert found[1]["reason"] == "HealthCheckFailed"
    assert found[1]["attempts"] == 2
    assert found[1]["tried"] == NEW


def test_a_failed_build_is_told_at_once_and_without_secrets() -> None:
    found = tell(failed, [ks(OLD, NEW, *failing("BuildFailed", "no: password=s3cr3t")), git()])
    assert told(found) == [True]
    assert "s3cr3t" not in json.dumps(found)


def test_a_stalled_release_is_told_at_once() -> None:
    stalled = [cond("Ready", False, "UpgradeFailed", "x"), cond("Stalled", True, "RetriesExceeded", "x")]
    found = tell(failed, [hr("1.2.2", *stalled, attempted="1.2.3"), chart()])
    assert found[0]["stalled"]


def test_a_failure_at_the_revision_before_is_no_failure_of_the_new_one() -> None:
    old = [ks(OLD, OLD, *failing("HealthCheckFailed", commit=OLD, since=f"t{n}")) for n in range(3)]
    assert told(tell(failed, *[[one, git(NEW)] for one in old])) == [False] * 3


def test_drift_of_a_release_is_told_once_and_again_when_it_comes_back() -> None:
    good, bad = [hr(), chart()], [hr("1.2.3", cond("Ready"), DRIFTED), chart()]
    found = tell(drifted, good, bad, bad, good, bad, found=[])
    assert told(found) == [False, True, False, False, True]
    assert found[1]["resources"] == [
        {"kind": "Deployment", "namespace": "apps", "name": "api", "change": "modified"}
    ]
    assert "s3cr3t" not in json.dumps(found)


def correction(
    when: str, revision: str = NEW, message: str = "Deployment/apps/api configured"
) -> dict[str, Any]:
    annotations = {"kustomize.toolkit.fluxcd.io/revision": at(revision)}
    return {
        "metadata": {"annotations": annotations},
        "message": message,
        "lastTimestamp": when,
        "type": "Normal",
    }


def applied_since(when: str) -> dict[str, Any]:
    entry = {
        "firstReconciled": when,
        "lastReconciledStatus": "ReconciliationSucceeded",
        "metadata": {"revision": at(NEW)},
    }
    return ks(NEW, status={"history": [entry]})


def put_right(item: dict[str, Any], events: list[Any], since: str = "") -> list[Correction]:
    return list(corrections(item, events, since).corrections)


def test_a_change_after_the_revision_was_applied_is_a_correction() -> None:
    item = applied_since(T1)
    others = [correction(T1), correction(T2, OLD), correction(T2, message="Reconciliation finished")]
    found = corrections(item, [correction(T2), *others]).corrections
    assert [one.at for one in found] == [T2]
    assert found[0].revision == NEW
    assert corrections(item, [correction(T2)], since=T2).corrections == ()


def test_messages_name_objects_in_several_ways() -> None:
    message = "Namespace/apps created\nDeployment/apps/api configured\nService/apps/old deleted\nJob/apps/x skipped\nnothing"
    assert [(one.kind, one.namespace, one.name, one.change) for one in changes(message)] == [
        ("Namespace", "", "apps", "missing"),
        ("Deployment", "apps", "api", "modified"),
        ("Service", "apps", "old", "extra"),
    ]


def test_corrections_of_before_the_watch_are_no_news() -> None:
    item = applied_since(T1)
    observed = observe([item, git()])
    payload, memory = drifted(observed, put_right(item, [correction(T2)]), NewsMemory())
    assert payload is None
    later = "2026-11-01T11:00:00Z"
    events = [correction(T2), correction(later)]
    payload, memory = drifted(observed, put_right(item, events, memory.at), memory)
    assert payload is not None
    assert payload["corrected"]
    assert payload["at"] == later
    payload, _ = drifted(observed, put_right(item, events, memory.at), memory)
    assert payload is None


@pytest.mark.parametrize("data", [None, 7, "x", {"unknown": 1}, []])
def test_a_memory_that_cannot_be_read_is_empty(data: Any) -> None:
    assert NewsMemory.from_json(data) == NewsMemory()


# ---- the triggers, for real ----------------------------------------------------------------------------------------------


class Store:
    """An asset state store."""

    def __init__(self, *, broken: bool = False) -> None:
        self.kept: dict[str, Any] = {}
        self.broken = broken
        self.asked = 0

    async def aget(self, key: str) -> Any:
        self.asked += 1
        if self.broken:
            raise RuntimeError("no store")
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        if self.broken:
            raise RuntimeError("no store")
        self.kept[key] = json.loads(json.dumps(value))


@pytest.fixture
def cluster(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    connect(monkeypatch, api.url)
    monkeypatch.setattr(feed, "LINGER", 0.0)
    monkeypatch.setattr(feed, "FIRST_PAUSE", 0.05)
    api.put(*KINDS["GitRepository"], git(OLD))
    api.put(*KINDS["Kustomization"], ks(OLD))
    return api


def watch(
    made: Any,
    store: Any,
    meanwhile: Callable[[Callable[[int], Awaitable[None]]], Awaitable[None]],
    seconds: float = 120.0,
) -> list[Any]:
    """Run a trigger as a triggerer does until ``meanwhile`` is over; return what it told."""
    path, arguments = made.serialize()
    anew = type(made)(**json.loads(json.dumps(arguments)))
    assert path.endswith(type(made).__name__)
    anew.asset_state_store = store
    found: list[Any] = []

    async def inside() -> None:
        async def listen() -> None:
            async for event in anew.run():
                found.append(event.payload)

        async def count(number: int) -> None:
            while len(found) < number:
                await asyncio.sleep(0.01)

        task = asyncio.ensure_future(listen())
        await meanwhile(count)
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*feed._CLOSING)

    asyncio.run(asyncio.wait_for(inside(), seconds))
    return found


def put(api: ApiServer, item: dict[str, Any]) -> None:
    """Replace spec and status of an object."""
    plural = KINDS[item["kind"]][2]
    api.change(
        plural,
        NAMESPACE,
        item["metadata"]["name"],
        lambda one: one.update(spec=item["spec"], status=item["status"]),
    )


async def looked_at(store: Store) -> None:
    while not store.kept:
        await asyncio.sleep(0.01)


def test_readiness_is_told_once_and_not_again_after_a_restart(cluster: ApiServer) -> None:
    made, store = FluxReadyTrigger(names=["apps"], poll_interval=0.05), Store()

    async def release(count: Any) -> None:
        await looked_at(store)
        put(cluster, git(NEW))
        put(cluster, ks(NEW))
        await count(1)
        cluster.cut()

    async def nothing(_: Any) -> None:
        await asyncio.sleep(0.5)

    async def another(count: Any) -> None:
        put(cluster, ks(NEWER))
        await count(1)

    assert [one["revision"] for one in watch(made, store, release)] == [NEW]
    assert watch(made, store, nothing) == []
    # What happened while nobody watched is told.
    put(cluster, ks(NEWER))
    assert [one["revision"] for one in watch(made, store, another)] == [NEWER]


def test_a_store_that_is_broken_stops_nothing(cluster: ApiServer) -> None:
    store = Store(broken=True)

    async def release(count: Any) -> None:
        while store.asked < 2:  # it is asked again at the second look
            await asyncio.sleep(0.01)
        put(cluster, ks(NEW))
        await count(1)

    assert len(watch(FluxReadyTrigger(names=["apps"], poll_interval=0.05), store, release)) == 1


def test_a_failure_is_told(cluster: ApiServer) -> None:
    store = Store()

    def attempts() -> int:
        return max((len(kept["attempts"]) for kept in store.kept.values()), default=0)

    async def fail(count: Any) -> None:
        put(cluster, git(NEW))
        put(cluster, ks(OLD, NEW, *failing("HealthCheckFailed", since=T1)))
        while attempts() < 1:
            await asyncio.sleep(0.01)
        put(cluster, ks(OLD, NEW, *failing("HealthCheckFailed", since=T2)))
        await count(1)

    (event,) = watch(FluxFailedTrigger(names=["apps"], poll_interval=0.05, attempts=2), store, fail)
    assert (event["reason"], event["attempts"]) == ("HealthCheckFailed", 2)


def test_a_correction_is_told_and_an_absent_object_waited_for(cluster: ApiServer) -> None:
    store = Store()

    async def correct(count: Any) -> None:
        put(cluster, applied_since(T1))
        await looked_at(store)
        event = correction("2999-01-01T00:00:00Z")
        event["metadata"].update(name="e", namespace=NAMESPACE)
        about = {"kind": "Kustomization", "name": "apps", "namespace": NAMESPACE}
        cluster.put("", "v1", "events", {**event, "involvedObject": about})
        await count(1)

    (found,) = watch(FluxDriftTrigger(names=["absent", "apps"], poll_interval=0.05), store, correct)
    assert found["corrected"]
    assert found["resources"][0]["name"] == "api"


def test_corrections_of_a_release_are_told_however_short_the_condition_stood(cluster: ApiServer) -> None:
    store = Store()
    cluster.put(*KINDS["HelmRelease"], hr(owned=False))
    cluster.put(*KINDS["HelmChart"], chart())

    def corrected(name: str, when: str) -> None:
        event = {
            "metadata": {"name": name, "namespace": NAMESPACE},
            "involvedObject": {"kind": "HelmRelease", "name": "api", "namespace": NAMESPACE},
            "reason": "DriftCorrected",
            "message": "Cluster state of release apps/api.v10 has been corrected:\nDeployment/apps/api created",
            "lastTimestamp": when,
            "count": 1,
            "type": "Normal",
        }
        cluster.put("", "v1", "events", event)

    async def correct(count: Any) -> None:
        await looked_at(store)
        corrected("one", "2999-01-01T00:00:00Z")
        await count(1)
        # The cluster merges the next one into it.
        again = {"lastTimestamp": "2999-01-01T00:10:00Z", "count": 2}
        cluster.change("events", NAMESPACE, "one", lambda event: event.update(again))
        await count(2)

    first, second = watch(
        FluxDriftTrigger(kind="HelmRelease", names=["api"], poll_interval=0.05), store, correct
    )
    assert first["corrected"]
    assert first["resources"] == [
        {"kind": "Deployment", "namespace": "apps", "name": "api", "change": "missing"}
    ]
    assert second["at"] == "2999-01-01T00:10:00Z"


def test_a_server_that_is_away_for_a_while_ends_no_watch(cluster: ApiServer) -> None:
    store = Store()

    async def restart(count: Any) -> None:
        await looked_at(store)
        await asyncio.to_thread(cluster.stop)
        put(cluster, ks(NEW))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(cluster.start)
        await count(1)

    assert len(watch(FluxReadyTrigger(names=["apps"], poll_interval=0.05), store, restart)) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"names": []},
        {"names": "apps"},
        {"names": [""]},
        {"names": ["a"], "poll_interval": 0},
        {"names": ["a"], "kind": "Deployment"},
        {"names": ["a"], "attempts": 0},
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        FluxFailedTrigger(**arguments)
