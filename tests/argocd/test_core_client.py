"""What only the Kubernetes route has: races with the controller, what it cannot do, events, logs and the hook."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.clients.kubernetes import ArgoCDCoreClient
from airflow_pipeops.argocd.clients.protocol import AppRef, Resource
from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.argocd.links import app_url
from airflow_pipeops.argocd.watchers import ArgoCDDriftTrigger, ArgoCDReleasedTrigger
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    Unreachable,
    Unsupported,
)
from tests.argocd.controller import APPLICATIONS, Controller
from tests.argocd.worlds import CoreWorld, spec
from tests.kubernetes.apiserver import ApiServer, Fault, serving

JOBS = ("batch", "v1", "jobs")
SETS = ("argoproj.io", "v1alpha1", "applicationsets")
APP = AppRef("api", "default")


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """An API server without a controller: nothing moves unless a test moves it."""
    with serving(APPLICATIONS, SETS, JOBS, bookmarks=0.1) as server:
        yield server


def put(api: ApiServer, name: str = "api", **more: Any) -> None:
    body = {
        "metadata": {"name": name, "namespace": "argocd"},
        "spec": spec("https://git.example.com/x.git", name),
        "status": {"sync": {"status": "OutOfSync", "revision": "a" * 40}},
    }
    api.put(*APPLICATIONS, {**body, **more})


def run(api: ApiServer, work: Callable[[Any], Awaitable[Any]], token: str = "token") -> Any:
    async def inside() -> Any:
        async with CoreWorld.client(_World(api), token) as client:  # type: ignore[arg-type]
            return await asyncio.wait_for(work(client), 30)

    return asyncio.run(inside())


class _World:
    def __init__(self, api: ApiServer) -> None:
        self.url, self.full = api.url, "token"


def test_a_change_by_the_controller_between_look_and_patch_is_looked_at_again(api: ApiServer) -> None:
    put(api)

    async def story(client: ArgoCDCoreClient) -> None:
        reads = 0
        get = client.kubernetes.get

        async def racing(*given: Any, **named: Any) -> dict[str, Any]:
            nonlocal reads
            found = await get(*given, **named)
            reads += 1
            if reads <= 2:
                # Moves the resourceVersion, as every write of a status does.
                api.change(
                    "applications", "argocd", "api", lambda a: a["status"].update(reconciledAt=str(reads))
                )
            return found

        client.kubernetes.get = racing  # type: ignore[method-assign]
        await client.sync(APP, {"revision": "b" * 40})
        assert reads == 3

    run(api, story)
    found = api.read("applications", "argocd", "api")
    assert found is not None
    assert found["operation"]["sync"]["revision"] == "b" * 40


def test_an_application_that_never_stands_still_is_a_conflict(api: ApiServer) -> None:
    put(api)

    async def story(client: ArgoCDCoreClient) -> None:
        get, reads = client.kubernetes.get, 0

        async def racing(*given: Any, **named: Any) -> dict[str, Any]:
            nonlocal reads
            found = await get(*given, **named)
            reads += 1
            api.change("applications", "argocd", "api", lambda a: a["status"].update(reconciledAt=str(reads)))
            return found

        client.kubernetes.get = racing  # type: ignore[method-assign]
        with pytest.raises(Conflict) as caught:
            await client.sync(APP, {"revision": "b" * 40})
        assert type(caught.value) is Conflict
        assert reads == 6

    run(api, story)


def test_an_operation_that_slips_in_between_is_not_overwritten(api: ApiServer) -> None:
    put(api)
    theirs = {"sync": {"revision": "c" * 40}, "initiatedBy": {"username": "somebody"}}

    async def story(client: ArgoCDCoreClient) -> None:
        get = client.kubernetes.get

        async def racing(*given: Any, **named: Any) -> dict[str, Any]:
            found = await get(*given, **named)
            api.change("applications", "argocd", "api", lambda a: a.setdefault("operation", theirs))
            return found

        client.kubernetes.get = racing  # type: ignore[method-assign]
        with pytest.raises(Conflict, match="another operation is already in progress"):
            await client.sync(APP, {"revision": "b" * 40})

    run(api, story)
    assert api.read("applications", "argocd", "api")["operation"] == theirs  # type: ignore[index]


def test_sync_clears_the_state_of_the_operation_before(api: ApiServer) -> None:
    state = {"phase": "Failed", "operation": {"info": [{"name": "old", "value": "x"}]}}
    put(api, status={"operationState": state, "sync": {"status": "OutOfSync"}})
    run(api, lambda client: client.sync(APP, {"revision": "b" * 40}))
    found = api.read("applications", "argocd", "api")
    assert found is not None
    assert found["status"] == {"sync": {"status": "OutOfSync"}}


def test_a_refresh_is_acknowledged_even_if_the_watch_for_it_breaks(api: ApiServer) -> None:
    put(api)
    api.faults = [Fault("status", method="GET", path="*/applications", status=410, count=1)]

    async def story(client: ArgoCDCoreClient) -> None:
        patch = client.kubernetes.patch

        async def acknowledged(*given: Any, **named: Any) -> dict[str, Any]:
            asked = await patch(*given, **named)
            api.change("applications", "argocd", "api", lambda a: a["metadata"].pop("annotations"))
            return asked

        client.kubernetes.patch = acknowledged  # type: ignore[method-assign]
        assert await client.refresh(APP) is not None

    run(api, story)


def test_a_refresh_of_what_is_deleted_meanwhile(api: ApiServer) -> None:
    put(api)

    async def story(client: ArgoCDCoreClient) -> None:
        asked = asyncio.ensure_future(client.refresh(APP, timeout=10))
        while not api.open_watches:
            await asyncio.sleep(0.01)
        await client.delete(APP, cascade=False)
        with pytest.raises(NotFound):
            await asked

    run(api, story)


def test_what_the_api_server_of_argo_cd_computes_cannot_be_had(api: ApiServer) -> None:
    put(api)

    async def story(client: ArgoCDCoreClient) -> None:
        for call in (
            client.managed_resources(APP),
            client.revision_metadata(APP, "a" * 40),
            client.manifests(APP),
            client.sync_windows(APP),
        ):
            with pytest.raises(Unsupported, match="connection of type 'argocd'"):
                await call
        assert api.requests == []

    run(api, story)


def test_events_and_logs_of_the_same_cluster(api: ApiServer) -> None:
    put(api)
    about = {"kind": "Application", "name": "api"}
    events = (
        ("argocd", "e1", about, "refreshed"),
        ("api", "e2", {"kind": "Job", "name": "hook"}, "failed"),
    )
    for namespace, name, involved, message in events:
        metadata = {"name": name, "namespace": namespace}
        body = {"metadata": metadata, "involvedObject": involved, "message": message}
        api.put("", "v1", "events", body)
    selector = {"matchLabels": {"job-name": "hook"}}
    api.put(*JOBS, {"metadata": {"name": "hook", "namespace": "api"}, "spec": {"selector": selector}})
    for number in (1, 2):
        metadata = {
            "name": f"hook-{number}",
            "namespace": "api",
            "labels": {"job-name": "hook"},
            "creationTimestamp": f"2026-01-0{number}T00:00:00Z",
        }
        state = {"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}}
        pod = {"spec": {"containers": [{"name": "main"}]}, "status": {"containerStatuses": [state]}}
        api.put("", "v1", "pods", {"metadata": metadata, **pod})
    api.put("", "v1", "pods", {"metadata": {"name": "other", "namespace": "api"}})
    api.pod_logs["api", "hook-2"] = "one\ntwo\nthree\n"
    hook = Resource("Job", "hook", "api", "batch")

    async def story(client: ArgoCDCoreClient) -> None:
        assert [event["message"] for event in await client.events(APP)] == ["refreshed"]
        assert [event["message"] for event in await client.events(APP, hook)] == ["failed"]
        # One of the two pods has no log yet.
        assert await client.logs(APP, hook, tail=2) == ["two", "three"]
        assert await client.logs(APP, Resource("Pod", "hook-2", "api"), tail=1) == ["three"]
        with pytest.raises(InvalidInput, match="waiting to start: ContainerCreating"):
            await client.logs(APP, Resource("Pod", "hook-1", "api"))
        with pytest.raises(NotFound):
            await client.logs(APP, Resource("Pod", "hook-3", "api"))
        with pytest.raises(Unsupported, match="Give a pod"):
            await client.logs(APP, Resource("Strange", "x", "api", "example.com"))

    run(api, story)


def test_events_and_logs_of_another_cluster_are_not_those_of_this_one(api: ApiServer) -> None:
    destination = {"server": "https://elsewhere.example.com", "namespace": "api"}
    put(api, spec={**spec("https://git.example.com/x.git", "api"), "destination": destination})

    async def story(client: ArgoCDCoreClient) -> None:
        with pytest.raises(Unsupported, match="another cluster"):
            await client.events(APP, Resource("Pod", "x", "api"))
        with pytest.raises(Unsupported, match="another cluster"):
            await client.logs(APP, Resource("Pod", "x", "api"))

    run(api, story)


def test_application_sets_and_other_namespaces(api: ApiServer) -> None:
    put(api, metadata={"name": "api", "namespace": "team"})
    api.put(*SETS, {"metadata": {"name": "set", "namespace": "argocd"}, "status": {"x": 1}})

    async def story(client: ArgoCDCoreClient) -> None:
        assert (await client.application_set("set"))["status"] == {"x": 1}
        with pytest.raises(NotFound):
            await client.get(APP)
        assert (await client.get(AppRef("api", "default", "team")))["metadata"]["namespace"] == "team"

    run(api, story)


def test_applications_in_any_namespace(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    put(api)
    put(api, metadata={"name": "theirs", "namespace": "team"})
    define(monkeypatch, api.url)

    async def names(client: Any) -> set[str]:
        async for event in client.watch():
            if event["application"]["metadata"]["namespace"] != "argocd":
                break
            if not everywhere:
                break
        return {item["metadata"]["name"] for item in await client.applications()}

    everywhere = False
    assert ArgoCDHook("kubernetes_default").run(names) == {"api"}
    everywhere = True
    define(monkeypatch, api.url, argocd_any_namespace=True)
    assert ArgoCDHook("kubernetes_default").run(names) == {"api", "theirs"}
    api.tokens["token"] = lambda verb, target, namespace: namespace == "argocd"
    assert "in all namespaces" in ArgoCDHook("kubernetes_default").test_connection()[1]
    define(monkeypatch, api.url, argocd_any_namespace="perhaps")
    with pytest.raises(InvalidInput, match="argocd_any_namespace"):
        ArgoCDHook("kubernetes_default").settings()


# ---- the hook --------------------------------------------------------------------------------------------------------


def define(monkeypatch: pytest.MonkeyPatch, url: str, token: str = "token", **extra: Any) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    value = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": config, **extra}})
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", value)


def test_a_kubernetes_connection_is_all_that_it_takes(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(api)
    define(monkeypatch, api.url)
    hook = ArgoCDHook("kubernetes_default")
    assert hook.application("api")["metadata"]["name"] == "api"
    assert hook.settings()["url"] == ""
    assert app_url("", "", "api") == ""

    async def ask() -> dict[str, Any]:
        fresh = ArgoCDHook("kubernetes_default", project="default")
        async with await fresh.aclient() as client:
            return await client.get(fresh.ref("api"))

    assert asyncio.run(ask())["metadata"]["name"] == "api"


def test_extras_of_the_connection_and_arguments_of_the_hook(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(api, metadata={"name": "api", "namespace": "gitops"})
    extra = {
        "argocd_namespace": "gitops",
        "argocd_url": "https://argocd.example.com/",
        "argocd_project": "ml",
    }
    define(monkeypatch, api.url, **extra)
    hook = ArgoCDHook("kubernetes_default")
    assert hook.settings()["url"] == "https://argocd.example.com/"
    with pytest.raises(NotFound, match="is in project default"):
        hook.application("api")
    assert ArgoCDHook("kubernetes_default", project="default").application("api")["metadata"]["name"] == "api"
    with pytest.raises(NotFound):
        ArgoCDHook("kubernetes_default", project="default", argocd_namespace="argocd").application("api")


def test_connection_test_in_one_sentence(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, api.url)
    works, words = ArgoCDHook("kubernetes_default").test_connection()
    assert works, words
    assert words.endswith("; the token can look and sync")
    api.tokens["token"] = lambda verb, target, namespace: (
        verb in ("get", "list") and target.startswith("applications.")
    )
    works, words = ArgoCDHook("kubernetes_default").test_connection()
    assert works
    for part in ("'watch applications.argoproj.io' in argocd", "'patch applications", "'get pods/log'"):
        assert part in words
    api.tokens["token"] = lambda *_: False
    works, words = ArgoCDHook("kubernetes_default").test_connection()
    assert not works
    assert "'get applications.argoproj.io' in argocd (to look)" in words
    define(monkeypatch, api.url, "s3cr3t-token")
    works, words = ArgoCDHook("kubernetes_default").test_connection()
    assert not works
    assert "401" in words
    assert "s3cr3t" not in words


def test_connection_test_of_a_cluster_without_argo_cd(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as empty:
        define(monkeypatch, empty.url)
        works, words = ArgoCDHook("kubernetes_default").test_connection()
    assert not works
    assert "CRDs installed" in words


def test_connection_test_of_a_cluster_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as gone:
        url = gone.url
    define(monkeypatch, url)
    hook = ArgoCDHook("kubernetes_default")
    with pytest.raises(Unreachable):
        hook.run(lambda client: client.version(), attempts=1)


def test_an_operator_needs_not_know(context: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Synchronise, and then wait, through the Kubernetes API, with the controller at work."""
    from datetime import timedelta

    from airflow_pipeops.argocd.operators import ArgoCDSyncOperator
    from airflow_pipeops.argocd.sensors import ArgoCDAppSensor

    with serving(APPLICATIONS, bookmarks=0.2) as api, Controller(api) as controller:
        world = CoreWorld(api, controller)
        app, commit = world.make()
        define(monkeypatch, api.url)
        common = {
            "app": app.name,
            "argocd_conn_id": "kubernetes_default",
            "revision": commit,
            "poll_interval": timedelta(seconds=0.2),
            "settle": timedelta(0),
            "deferrable": False,
        }
        done = ArgoCDSyncOperator(task_id="sync", **common).execute(context)
        assert done["revision"] == commit
        again = ArgoCDSyncOperator(task_id="sync", **common).execute(context)
        assert again["attached"] is True
        assert controller.started.count(app.name) == 1
        seen = ArgoCDAppSensor(task_id="wait", on_manual="wait", **common).execute(context)
        assert seen["health"] == "Healthy"
        api.tokens["token"] = lambda *_: False
        with pytest.raises(AccessDenied):
            ArgoCDHook("kubernetes_default").application(app.name)


def test_the_tree_has_the_workloads_and_what_their_pods_wait_for(api: ApiServer) -> None:
    here = {"destination": {"server": "https://kubernetes.default.svc"}}
    listed = [
        {"kind": "ConfigMap", "name": "settings", "namespace": "api"},
        {"group": "batch", "kind": "Job", "name": "hook", "namespace": "api"},
        {"group": "batch", "kind": "Job", "name": "gone", "namespace": "api"},
    ]
    put(api, spec={**spec("https://git.example.com/x.git", "api"), **here}, status={"resources": listed})
    metadata = {"name": "hook", "namespace": "api", "uid": "u-1"}
    api.put(*JOBS, {"metadata": metadata, "spec": {"selector": {"matchLabels": {"job": "hook"}}}})
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    states = {"crashes": [{"state": {"waiting": waiting}}], "runs": [{"ready": True}], "starts": []}
    for name, state in states.items():
        pod = {"name": name, "namespace": "api", "labels": {"job": "hook"}}
        api.put(
            "", "v1", "pods", {"metadata": pod, "status": {"phase": "Running", "containerStatuses": state}}
        )

    tree = run(api, lambda client: client.resource_tree(APP))
    pods = {node["name"]: node["health"] for node in tree["nodes"] if node["kind"] == "Pod"}
    assert [node["name"] for node in tree["nodes"] if node["kind"] == "Job"] == ["hook"]
    assert pods == {
        "crashes": {"status": "Degraded", "message": "back-off 40s restarting failed container"},
        "runs": {"status": "Healthy"},
        "starts": {"status": "Progressing"},
    }
    assert all(node["parentRefs"] == [{"uid": "u-1"}] for node in tree["nodes"] if node["kind"] == "Pod")


def test_an_operation_that_nobody_has_taken_up_is_withdrawn(api: ApiServer) -> None:
    put(api, operation={"sync": {"revision": "a" * 40}})
    run(api, lambda client: client.terminate(APP))
    left = run(api, lambda client: client.get(APP))
    assert not left.get("operation")


def test_differences_are_told_through_the_kubernetes_api_too(api: ApiServer) -> None:
    listed = [
        {"kind": "ConfigMap", "name": "settings", "namespace": "api", "status": "OutOfSync"},
        {"kind": "Secret", "name": "creds", "namespace": "api", "status": "Synced"},
    ]
    synced = {"status": "Synced", "revision": "a" * 40}
    done = {"phase": "Succeeded", "syncResult": {"revision": "a" * 40}, "finishedAt": "2026-01-01T00:00:00Z"}
    put(api, status={"sync": synced, "operationState": done, "resources": listed})
    trigger = ArgoCDDriftTrigger(argocd_conn_id="cluster", apps=["api"])

    async def story(client: ArgoCDCoreClient) -> list[Any]:
        memory, told = trigger.remembered({}), []
        for status in ("Synced", "OutOfSync", "OutOfSync"):
            found = await client.get(APP)
            found["status"]["sync"]["status"] = status
            payload, memory = await trigger.judge(client, APP, observe(found), memory, resumed=False)
            told.append(payload and payload["resources"])
        return told

    differs = {
        "group": "",
        "kind": "ConfigMap",
        "namespace": "api",
        "name": "settings",
        "change": "modified",
        "fields": [],
    }
    assert run(api, story) == [None, [differs], None]


def test_a_release_that_only_a_comparison_can_tell_is_compared_once(api: ApiServer) -> None:
    second = "2026-01-01T00:00:00Z"
    done = {"phase": "Succeeded", "syncResult": {"revision": "a" * 40}, "finishedAt": second}
    status = {
        "sync": {"status": "Synced", "revision": "a" * 40},
        "health": {"status": "Healthy", "lastTransitionTime": "2025-12-01T00:00:00Z"},
        "reconciledAt": second,
        "operationState": done,
        "history": [{"id": 3, "revision": "a" * 40}],
    }
    put(api, status=status)
    trigger = ArgoCDReleasedTrigger(argocd_conn_id="cluster", apps=["api"])

    async def acknowledge(client: ArgoCDCoreClient) -> None:
        while not any(request.startswith("PATCH") for request in api.requests):
            await asyncio.sleep(0.01)

        def compared(found: dict[str, Any]) -> None:
            found["metadata"].pop("annotations", None)
            found["status"]["reconciledAt"] = "2026-01-01T00:00:09Z"

        api.change("applications", "argocd", "api", compared)

    async def story(client: ArgoCDCoreClient) -> list[Any]:
        answer = asyncio.ensure_future(acknowledge(client))
        memory, told = trigger.remembered({"known": True, "reported": "another", "number": 2}), []
        for _ in range(5):
            seen = observe(await client.get(APP))
            payload, memory = await trigger.judge(client, APP, seen, memory, resumed=False)
            told.append(payload and payload["number"])
        await answer
        return told

    assert run(api, story) == [None, None, None, 3, None]
    assert sum(request.startswith("PATCH") for request in api.requests) == 1
