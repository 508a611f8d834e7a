"""The client and the hook against the sandbox, which speaks the Argo CD API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.clients.protocol import Resource
from airflow_pipeops.argocd.clients.rest import AppRef, ArgoCDClient
from airflow_pipeops.argocd.hook import ArgoCDHook
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, SyncFailed


def test_round_trip(connected: Any, manifests: Any) -> None:
    """Create, read, refresh, synchronise, look deeper, roll back, watch and delete."""
    first = connected.repository.commit({"round/a.yaml": manifests.config_map("1")}, "Round one")
    name, ref = "round", AppRef("round", "default")

    async def story() -> None:
        async with ArgoCDClient(connected.url, connected.tokens["admin"]) as client:
            assert await client.version()
            assert (await client.userinfo())["loggedIn"] is True
            assert await client.can_i("get", project="default")
            spec = {
                "project": "default",
                "source": {"repoURL": connected.repository.url, "path": name, "targetRevision": "main"},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": name},
            }
            created = await client.create({"metadata": {"name": name, "namespace": "argocd"}, "spec": spec})
            assert created["metadata"]["uid"]
            refreshed = await client.refresh(ref)
            assert refreshed is not None
            observed = observe(refreshed, refreshed=True)
            assert (observed.desired, observed.sync, observed.refreshed) == ((first,), "OutOfSync", True)
            assert [
                app["metadata"]["name"] for app in await client.applications(project="default", name=name)
            ] == [name]
            await client.sync(ref, {"revision": first})
            async for event in client.watch(name=name, project="default"):
                state = observe(event["application"])
                if state.operation and state.operation.phase == "Succeeded" and state.sync == "Synced":
                    break
            metadata = await client.revision_metadata(ref, first)
            assert "Ada" in metadata["author"]
            assert "Round one" in metadata["message"]
            assert [item["name"] for item in await client.managed_resources(ref)] == ["settings"]
            assert [item["kind"] for item in await client.manifests(ref)] == ["ConfigMap"]
            assert (await client.sync_windows(ref))["canSync"] is True
            assert await client.events(ref) == []
            assert (await client.resource_tree(ref))["nodes"]
            history = (await client.get(ref))["status"]["history"]
            await client.rollback(ref, history[-1]["id"])
            while observe(await client.get(ref)).operation.phase != "Succeeded":  # type: ignore[union-attr]
                await asyncio.sleep(0.1)
            with pytest.raises(InvalidInput, match="No operation is in progress"):
                await client.terminate(ref)
            await client.delete(ref)
            for _ in range(100):
                try:
                    await client.get(ref)
                except NotFound:
                    return
                await asyncio.sleep(0.1)
            raise AssertionError("the application is still there")

    asyncio.run(story())


def test_logs_of_a_deployment(connected: Any, manifests: Any) -> None:
    command = "import time\nfor n in range(9): print('line', n, flush=True)\ntime.sleep(600)"
    text = json.loads(manifests.deployment(command))
    del text["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    connected.repository.commit({"talker/a.json": json.dumps(text)})
    connected.create("talker", automated={})
    ref = AppRef("talker", "default")
    connected.until(
        "talker", lambda found: found.get("status", {}).get("health", {}).get("status") == "Healthy"
    )

    async def story() -> list[str]:
        async with ArgoCDClient(connected.url, connected.tokens["admin"]) as client:
            nodes = (await client.resource_tree(ref))["nodes"]
            pod = next(node for node in nodes if node["kind"] == "Pod")
            for _ in range(100):
                found = await client.logs(ref, Resource("Pod", pod["name"], pod["namespace"]), tail=2)
                if found[-1:] == ["line 8"]:
                    break
                await asyncio.sleep(0.1)
            await client.delete(ref)
            return found

    assert asyncio.run(story()) == ["line 7", "line 8"]


def test_missing_and_forbidden_are_told_apart(connected: Any) -> None:
    hook = ArgoCDHook()
    with pytest.raises(NotFound):
        hook.application("no-such-app")
    hook.settings()
    with pytest.raises(AccessDenied):
        hook.run(lambda client: client.get(AppRef("no-such-app")))


def test_auto_sync_refuses_another_revision(connected: Any, manifests: Any) -> None:
    connected.repository.commit({"refuse/a.yaml": manifests.config_map("1")})
    connected.create("refuse", automated={})
    with pytest.raises(SyncFailed, match="auto-sync"):
        ArgoCDHook().run(lambda client: client.sync(AppRef("refuse", "default"), {"revision": "a" * 40}))


def test_connection_test_names_what_is_lacking(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(token: str) -> tuple[bool, str]:
        connection = {
            "conn_type": "argocd",
            "host": connected.url,
            "password": token,
            "extra": {"project": "default"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_ARGOCD_DEFAULT", json.dumps(connection))
        return ArgoCDHook().test_connection()

    assert trial(connected.tokens["deployer"]) == (True, trial(connected.tokens["deployer"])[1])
    assert "can look and sync" in trial(connected.tokens["deployer"])[1]
    works, words = trial(connected.tokens["viewer"])
    assert works
    assert "lacks 'applications, sync' on default/*" in words
    works, words = trial("wrong-token")
    assert not works
    assert "wrong-token" not in words


def test_connection_without_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ARGOCD_DEFAULT", json.dumps({"conn_type": "argocd"}))
    works, words = ArgoCDHook().test_connection()
    assert not works
    assert "no host" in words


@pytest.mark.parametrize(
    ("extra", "field"), [({"timeout": "soon"}, "timeout"), ({"verify_tls": "maybe"}, "verify_tls")]
)
def test_connection_with_a_wrong_value(
    extra: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "argocd", "host": "https://x", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ARGOCD_DEFAULT", json.dumps(connection))
    with pytest.raises(InvalidInput) as caught:
        ArgoCDHook().settings()
    assert caught.value.field == field
