"""The Kubernetes client against an API server over real HTTP that also dies, stalls, lies and forgets."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PipeOpsError,
    Unreachable,
)
from airflow_pipeops.kubernetes.client import KubernetesClient
from airflow_pipeops.kubernetes.errors import Expired, error_of
from airflow_pipeops.kubernetes.kinds import PODS, Kind
from airflow_pipeops.kubernetes.kubeconfig import Endpoint
from tests.kubernetes.apiserver import ApiServer, Fault, serving
from tests.threads import repeated

THINGS = Kind("example.com", "v1", "things")
PLAIN = ("example.com", "v1", "things")
STATED = Kind("example.com", "v1", "stateds")


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(PLAIN, ("example.com", "v1", "stateds", True), bookmarks=0.1) as server:
        yield server


#: Clients for a few calls, and for hundreds.
BOTH = pytest.mark.parametrize("many", [False, True], ids=["few", "many"])


def run(api: ApiServer, work: Callable[[KubernetesClient], Awaitable[Any]], **options: Any) -> Any:
    async def source() -> Endpoint:
        return Endpoint(api.url, options.pop("authorization", "Bearer token"))

    async def inside() -> Any:
        given = {"pause": 0.01, "timeout": 5.0, **options}
        given.pop("authorization", None)
        async with KubernetesClient(source, **given) as client:
            return await asyncio.wait_for(work(client), 30)

    return asyncio.run(inside())


def thing(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "labels": {"team": "a"}}, "spec": spec}


@BOTH
def test_create_get_list_patch_replace_delete(api: ApiServer, many: bool) -> None:
    async def story(client: KubernetesClient) -> None:
        made = await client.create(THINGS, thing("one", size=1), "ns")
        assert made["metadata"]["uid"]
        with pytest.raises(Conflict):
            await client.create(THINGS, thing("one"), "ns")
        patched = await client.patch(THINGS, "one", {"spec": {"size": None, "more": [1]}}, "ns")
        assert patched["spec"] == {"more": [1]}
        assert [item["metadata"]["name"] for item in (await client.find(THINGS, "ns")).items] == ["one"]
        assert (await client.find(THINGS, "other")).items == []
        assert (await client.find(THINGS, labels="team=b")).items == []
        replaced = await client.replace(THINGS, {**patched, "spec": {}}, "ns")
        assert replaced["spec"] == {}
        with pytest.raises(Conflict):
            await client.replace(THINGS, patched, "ns")
        with pytest.raises(Conflict):
            await client.delete(THINGS, "one", "ns", uid="of another")
        await client.delete(THINGS, "one", "ns", uid=made["metadata"]["uid"])
        with pytest.raises(NotFound, match=r"things.example.com ns/one does not exist"):
            await client.get(THINGS, "one", "ns")

    run(api, story, many=many)


@BOTH
def test_a_patch_with_a_precondition_holds_only_for_that_version(api: ApiServer, many: bool) -> None:
    api.put(*PLAIN, thing("one", size=1))

    async def story(client: KubernetesClient) -> None:
        version = (await client.get(THINGS, "one", "ns"))["metadata"]["resourceVersion"]
        api.change("things", "ns", "one", lambda item: item["spec"].update(size=2))
        with pytest.raises(Conflict):
            await client.patch(THINGS, "one", {"spec": {"size": 3}}, "ns", resource_version=version)

    run(api, story, many=many)
    assert api.read("things", "ns", "one")["spec"] == {"size": 2}  # type: ignore[index]


def test_the_status_subresource_is_a_path_of_its_own(api: ApiServer) -> None:
    api.put("example.com", "v1", "stateds", thing("one", size=1))

    async def story(client: KubernetesClient) -> None:
        patch = {"spec": {"size": 2}, "status": {"ready": True}}
        assert "ready" not in (await client.patch(STATED, "one", patch, "ns"))["status"]
        after = await client.patch(STATED, "one", {"status": {"ready": True}}, "ns", subresource="status")
        assert (after["spec"], after["status"]) == ({"size": 2}, {"ready": True})

    run(api, story)


@BOTH
def test_a_long_list_comes_in_pages_and_starts_over_when_it_expired(api: ApiServer, many: bool) -> None:
    for number in range(600):
        api.put(*PLAIN, thing(f"t{number:03}"))

    async def story(client: KubernetesClient) -> None:
        listing = await client.find(THINGS, "ns")
        assert len(listing.items) == len({item["metadata"]["name"] for item in listing.items}) == 600
        assert listing.resource_version

    run(api, story, many=many)
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, InvalidInput),
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (409, Conflict),
        (410, Expired),
        (422, InvalidInput),
        (429, Unreachable),
        (500, Unreachable),
        (504, Unreachable),
        (302, InvalidInput),
    ],
)
def test_every_status_becomes_the_error_that_it_means(code: int, error: type[PipeOpsError]) -> None:
    said = {"kind": "Status", "message": "because", "reason": "R", "code": code}
    found = error_of(code, json.dumps(said).encode(), "x", "http://c")
    assert type(found) is error
    assert "because" in str(found)
    assert type(error_of(code, b"<html>", "x", "http://c")) is error


@BOTH
def test_a_cluster_without_the_kind_says_so(api: ApiServer, many: bool) -> None:
    with pytest.raises(NotFound, match="CRDs installed"):
        run(
            api,
            lambda client: client.get(Kind("argoproj.io", "v1alpha1", "applications"), "x", "ns"),
            many=many,
        )


@pytest.mark.parametrize("name", ["", None])
def test_a_missing_name_never_becomes_a_call_about_all(api: ApiServer, name: Any) -> None:
    with pytest.raises(InvalidInput):
        run(api, lambda client: client.delete(THINGS, name, "ns"))
    assert api.requests == []


@BOTH
def test_a_refused_credential_is_tried_once_and_not_told(api: ApiServer, many: bool) -> None:
    with pytest.raises(AccessDenied) as caught:
        run(api, lambda client: client.get(THINGS, "one", "ns"), authorization="Bearer s3cr3t", many=many)
    assert "s3cr3t" not in str(caught.value)
    assert len(api.requests) == 1


@BOTH
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(api: ApiServer, many: bool) -> None:
    api.put(*PLAIN, thing("one"))
    api.faults = [Fault("status", status=429, retry_after="1", count=1)]
    begun = time.monotonic()
    assert run(api, lambda client: client.get(THINGS, "one", "ns"), many=many)
    assert time.monotonic() - begun >= 1
    # Longer than a call may take: given up at once, and how long it asked for is known.
    api.faults, api.requests = [Fault("status", status=503, retry_after="3600")], []
    with pytest.raises(Unreachable) as caught:
        run(api, lambda client: client.get(THINGS, "one", "ns"), many=many)
    assert caught.value.retry_after == 3600
    assert len(api.requests) == 1


@BOTH
@pytest.mark.parametrize("kind", ["drop", "truncate", "status"])
def test_reads_survive_a_server_that_dies_in_mid_answer(api: ApiServer, kind: str, many: bool) -> None:
    api.put(*PLAIN, thing("one"))
    api.faults = [Fault(kind, count=2)]
    assert run(api, lambda client: client.get(THINGS, "one", "ns"), many=many)["metadata"]["name"] == "one"
    assert len(api.requests) == 3


@BOTH
def test_a_write_whose_answer_was_lost_is_not_repeated(api: ApiServer, many: bool) -> None:
    api.put(*PLAIN, thing("one", size=1))
    api.faults = [Fault("lose", method="PATCH", count=1)]
    with pytest.raises(Unreachable):
        run(api, lambda client: client.patch(THINGS, "one", {"spec": {"size": 2}}, "ns"), many=many)
    assert api.requests == ["PATCH /apis/example.com/v1/namespaces/ns/things/one"]
    assert api.read("things", "ns", "one")["spec"] == {"size": 2}  # type: ignore[index]


@BOTH
@pytest.mark.parametrize(
    ("method", "write"),
    [
        ("PUT", lambda client: client.replace(THINGS, thing("one", size=2), "ns")),
        ("DELETE", lambda client: client.delete(THINGS, "one", "ns")),
    ],
    ids=["replace", "delete"],
)
def test_nor_is_one_that_libraries_think_harmless(
    api: ApiServer, method: str, write: Callable[[KubernetesClient], Awaitable[Any]], many: bool
) -> None:
    api.put(*PLAIN, thing("one", size=1))
    api.faults = [Fault("lose", method=method)]
    with pytest.raises(Unreachable, match=r"gave no whole answer"):
        run(api, write, many=many)
    assert api.requests == [f"{method} /apis/example.com/v1/namespaces/ns/things/one"]


@BOTH
def test_a_read_is_tried_as_often_as_was_told(api: ApiServer, many: bool) -> None:
    api.faults = [Fault("drop")]
    with pytest.raises(Unreachable, match=r"gave no whole answer"):
        run(api, lambda client: client.get(THINGS, "one", "ns"), attempts=3, many=many)
    assert len(api.requests) == 3


@BOTH
def test_a_stalled_answer_ends(api: ApiServer, many: bool) -> None:
    api.faults = [Fault("delay", seconds=2)]
    with pytest.raises(Unreachable):
        run(api, lambda client: client.get(THINGS, "one", "ns"), timeout=0.2, attempts=1, many=many)


@BOTH
def test_a_server_that_comes_back_is_found_again(api: ApiServer, many: bool) -> None:
    api.put(*PLAIN, thing("one"))
    api.stop()
    threading.Timer(0.3, api.start).start()
    found = run(api, lambda client: client.get(THINGS, "one", "ns"), attempts=8, pause=0.05, many=many)
    assert found["metadata"]["name"] == "one"


def test_watch_tells_what_changed_since_and_bookmarks(api: ApiServer) -> None:
    api.put(*PLAIN, thing("old"))

    async def story(client: KubernetesClient) -> list[tuple[str, str]]:
        version = (await client.find(THINGS, "ns")).resource_version
        api.put(*PLAIN, thing("new"))
        api.change("things", "ns", "new", lambda item: item["spec"].update(size=2))
        seen: list[tuple[str, str]] = []
        async for event in client.watch(THINGS, "ns", resource_version=version, seconds=5):
            seen.append((event["type"], event["object"]["metadata"].get("name", "")))
            if event["type"] == "BOOKMARK":
                assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)
                break
        return seen

    assert run(api, story) == [("ADDED", "new"), ("MODIFIED", "new"), ("BOOKMARK", "")]


def test_watch_of_a_forgotten_version_says_expired(api: ApiServer) -> None:
    api.put(*PLAIN, thing("one"))

    async def story(client: KubernetesClient) -> None:
        version = (await client.find(THINGS, "ns")).resource_version
        api.compact()
        async for _ in client.watch(THINGS, "ns", resource_version=version):
            pass

    with pytest.raises(Expired):
        run(api, story)


def test_watch_that_is_cut_is_unreachable_and_one_that_ends_is_not(api: ApiServer) -> None:
    async def collect(client: KubernetesClient, seconds: int) -> list[str]:
        return [e["type"] async for e in client.watch(THINGS, "ns", resource_version="1", seconds=seconds)]

    assert set(run(api, lambda client: collect(client, 1))) == {"BOOKMARK"}

    # Whenever it is open: nobody knows how soon that is.
    with repeated(0.01, api.cut), pytest.raises(Unreachable):
        run(api, lambda client: collect(client, 60))


def test_a_dead_watch_is_noticed(api: ApiServer) -> None:
    """Nothing at all arrives, not even the end that was asked for."""
    api._bookmarks = 3600
    api.faults = [Fault("delay", seconds=30, path="*things")]

    async def story(client: KubernetesClient) -> None:
        async for _ in client.watch(THINGS, "ns", resource_version="1", seconds=1):
            pass

    with pytest.raises(Unreachable):
        run(api, story, timeout=0.5)


def test_follow_goes_on_where_a_watch_ended(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_pipeops.kubernetes.watches.WATCH_SECONDS", 2)
    api.put(*PLAIN, thing("one", size=0))
    stop, listed = threading.Event(), threading.Event()

    def changes() -> None:
        listed.wait(60)  # else a slow machine would list what is changed already
        for size in range(1, 8):
            if stop.wait(0.5):
                return
            api.change("things", "ns", "one", lambda item, size=size: item["spec"].update(size=size))

    thread = threading.Thread(target=changes)
    thread.start()

    async def story(client: KubernetesClient) -> list[int]:
        seen = []
        async for event in client.follow(THINGS, "ns", fields="metadata.name=one"):
            listed.set()
            seen.append(event["object"]["spec"]["size"])
            if seen[-1] == 7:
                break
        return seen

    try:
        assert run(api, story) == list(range(8))
    finally:
        listed.set()
        stop.set()
        thread.join()
    lists = [path for path in api.requests if "?watch" not in path]
    assert len(lists) == 1
    assert len(api.requests) >= 3


def test_follow_ends_when_history_was_lost(api: ApiServer) -> None:
    api.put(*PLAIN, thing("one"))

    async def story(client: KubernetesClient) -> None:
        async for _ in client.follow(THINGS, "ns"):
            api.compact()

    with pytest.raises(Unreachable):
        run(api, story)


def test_a_line_with_unicode_line_ends_is_one_line(api: ApiServer) -> None:
    # U+0085 and U+2028 end lines for Python, and not for JSON.
    api.put(*PLAIN, thing("one", text="a\u0085b\u2028c"))
    body = json.dumps(api.read("things", "ns", "one"), ensure_ascii=False)
    assert len(body.splitlines()) > 1

    async def story(client: KubernetesClient) -> str:
        async for event in client.watch(THINGS, "ns", seconds=5):
            return str(event["object"]["spec"]["text"])
        return ""

    assert run(api, story) == "a\u0085b\u2028c"


def test_events_logs_permissions_version(api: ApiServer) -> None:
    for name, when in (("e2", "2026-01-02T00:00:00Z"), ("e1", "2026-01-01T00:00:00Z")):
        about = {"name": "api", "kind": "Deployment"}
        event = {
            "metadata": {"name": name, "namespace": "ns"},
            "involvedObject": about,
            "lastTimestamp": when,
        }
        api.put("", "v1", "events", event)
    other = {"metadata": {"name": "e3", "namespace": "ns"}, "involvedObject": {"name": "b"}}
    api.put("", "v1", "events", other)
    api.pod_logs["ns", "api-1"] = "".join(f"line {number}\n" for number in range(100))
    api.tokens["token"] = lambda verb, target, namespace: (verb, target) != ("patch", "things.example.com")

    async def story(client: KubernetesClient) -> None:
        events = await client.events("ns", name="api", kind="Deployment")
        assert [event["metadata"]["name"] for event in events] == ["e1", "e2"]
        assert await client.logs("ns", "api-1", tail=2) == ["line 98", "line 99"]
        with pytest.raises(NotFound):
            await client.logs("ns", "api-2")
        assert await client.version() == "v1.34.1"
        assert await client.allowed("get", THINGS, "ns")
        assert not await client.allowed("patch", THINGS, "ns")
        assert await client.allowed("get", PODS, "ns", subresource="log")
        with pytest.raises(AccessDenied, match=r"things\.example\.com ns/one"):
            await client.patch(THINGS, "one", {}, "ns")

    run(api, story)


def test_a_new_token_takes_effect_without_breaking_the_stream(api: ApiServer) -> None:
    api.put(*PLAIN, thing("one"))
    api.tokens = {"first": lambda *_: True, "second": lambda *_: True}
    tokens = ["first"]

    async def source() -> Endpoint:
        return Endpoint(api.url, f"Bearer {tokens[0]}")

    async def story() -> list[str]:
        seen = []
        async with KubernetesClient(source, pause=0.01) as client:
            async for event in client.follow(THINGS, "ns"):
                seen.append(event["type"])
                if len(seen) == 1:
                    tokens[0] = "second"
                    del api.tokens["first"]
                    assert (await client.get(THINGS, "one", "ns"))["metadata"]["name"] == "one"
                    api.change("things", "ns", "one", lambda item: item["spec"].update(size=2))
                else:
                    return seen
        return seen

    assert asyncio.run(story()) == ["ADDED", "MODIFIED"]
