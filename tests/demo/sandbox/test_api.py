"""The shape of each answer, and who may ask for it."""

from __future__ import annotations

import base64
import json
import stat
from typing import Any

import httpx
import pytest

from .conftest import Server, Site, config_map, deployment, manifest

BASE = "/api/v1/applications"


@pytest.fixture
def live(site: Site) -> Site:
    """An Application that is synced: a Deployment, a ConfigMap and a Secret."""
    secret = manifest("Secret", "token", {"data": {"key": base64.b64encode(b"hush").decode()}})
    files = {"web/a.yaml": config_map("a"), "web/d.yaml": deployment("web"), "web/s.yaml": secret}
    site.commit = site.repository.write(files, "First release")  # type: ignore[attr-defined]
    site.create()
    site.sync()
    site.done()
    site.get(refresh="normal")
    return site


def test_tokens_are_private(server: Server) -> None:
    file = server.state / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(server.tokens) == {"admin", "deployer", "viewer"}


def test_session_permissions_version_and_health(server: Server) -> None:
    assert server.call("GET", "/api/v1/session/userinfo", role="viewer")["username"] == "viewer"
    assert server.call("GET", "/api/version")["Version"].startswith("v3.5.1+")
    for role, action, value in (
        ("deployer", "sync", "yes"),
        ("viewer", "sync", "no"),
        ("viewer", "get", "yes"),
    ):
        path = f"/api/v1/account/can-i/applications/{action}/default/x"
        assert server.call("GET", path, role=role) == {"value": value}
    anonymous = httpx.Client(base_url=server.url)
    assert anonymous.get("/healthz").text == "ok"
    assert set(anonymous.get("/api/version").json()) == {"Version"}
    assert anonymous.get("/api/v1/session/userinfo").json() == {"loggedIn": False}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
        answer = anonymous.get(BASE, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, 16)
    cookie = httpx.Client(base_url=server.url, cookies={"argocd.token": server.tokens["viewer"]})
    assert cookie.get(BASE).status_code == 200


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("admin", {"get", "sync", "create", "update", "delete", "logs", "faults"}),
        ("deployer", {"get", "sync", "create", "update", "delete", "logs"}),
        ("viewer", {"get"}),
    ],
)
def test_role_table(live: Site, role: str, allowed: set[str]) -> None:
    one = f"{BASE}/{live.name}"
    calls: dict[str, tuple[str, str, Any]] = {
        "get": ("GET", one, None),
        "sync": ("POST", one + "/sync", {"dryRun": True}),
        "create": ("POST", BASE, live.app()),
        "update": ("PUT", one, live.app()),
        "logs": ("GET", one + "/logs", None),
        "faults": ("GET", "/sandbox/admin/faults", None),
        "delete": ("DELETE", one, {}),
    }
    for action, (method, path, body) in calls.items():
        with live.server.client(role) as client:
            answer = client.request(method, path, json=body)
        assert answer.status_code == (200 if action in allowed else 403), (action, answer.text)
        if action not in allowed:
            assert answer.json()["code"] == 7
            assert answer.json()["message"].startswith("permission denied")
        if action == "sync" and action in allowed:
            live.done()


def test_missing_application_is_hidden_unless_the_project_is_named(live: Site) -> None:
    call = live.server.call
    hidden = call("GET", f"{BASE}/nothing", status=403)
    assert hidden == {"error": "permission denied", "code": 7, "message": "permission denied", "details": []}
    missing = call("GET", f"{BASE}/nothing", project="default", status=404)
    assert (missing["code"], missing["message"]) == (5, 'applications.argoproj.io "nothing" not found')
    call("GET", f"{BASE}/{live.name}", project="default")
    call("GET", f"{BASE}/{live.name}", project="other", status=404)
    call("GET", f"{BASE}/{live.name}", appNamespace="elsewhere", status=403)
    call("POST", f"{BASE}/nothing/sync", {"project": "default"}, status=404)


def test_only_json_may_be_written_and_only_by_loopback_names(server: Server) -> None:
    with server.client(**{"Content-Type": "text/plain"}) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = client.request(method, f"{BASE}/x", content="{}")
            assert (answer.status_code, answer.text) == (415, "Invalid content type\n")
    with server.client(**{"Content-Type": "application/json; charset=utf-8"}) as client:
        assert client.post(BASE, content="{").json()["code"] == 3
    with server.client(Host="evil.example:80") as client:
        assert client.get(BASE).status_code == 403
    with server.client(Host="localhost:1") as client:
        assert client.get(BASE).status_code == 200
    assert server.call("GET", "/api/v1/unknown", status=404)["code"] == 5
    server.call("DELETE", BASE, {}, status=405)


def test_create_update_patch_and_list(site: Site) -> None:
    call, one = site.server.call, f"{BASE}/{site.name}"
    site.repository.write({"web/a.yaml": config_map("a")})
    made = site.create()
    assert {"uid", "resourceVersion", "creationTimestamp", "generation"} <= set(made["metadata"])
    assert made["metadata"]["namespace"] == "argocd"
    assert site.create()["metadata"]["uid"] == made["metadata"]["uid"]
    other = site.app(auto={})
    assert "use upsert flag" in call("POST", BASE, other, status=400)["message"]
    assert call("POST", BASE, other, upsert="true")["metadata"]["generation"] == 2
    assert call("PUT", f"{one}/spec", site.app()["spec"]) == site.app()["spec"]
    patch = {
        "patchType": "merge",
        "patch": json.dumps({"metadata": {"labels": {"team": "x"}}, "status": {"sync": 1}}),
    }
    patched = call("PATCH", one, patch)
    assert patched["metadata"]["labels"] == {"team": "x"}
    assert patched["status"].get("sync") != 1
    step = [{"op": "replace", "path": "/spec/source/targetRevision", "value": "HEAD"}]
    assert (
        call("PATCH", one, {"patchType": "json", "patch": json.dumps(step)})["spec"]["source"][
            "targetRevision"
        ]
        == "HEAD"
    )
    for query, found in (
        ({"selector": "team=x"}, True),
        ({"selector": "team!=x", "name": site.name}, False),
        ({"projects": "default", "name": site.name}, True),
        ({"projects": "none"}, False),
        ({"repo": site.repository.url}, True),
    ):
        listed = call("GET", BASE, **query)
        assert (site.name in [a["metadata"]["name"] for a in listed["items"] or []]) is found, query
        assert listed["metadata"]["resourceVersion"].isdigit()
    call("GET", BASE, selector="team in (x)", status=400)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"source": {"repoURL": "", "path": "web"}}, "repoURL is required"),
        ({"source": {"repoURL": "--upload-pack=x", "path": "web"}}, "dash"),
        ({"source": {"repoURL": "REPO", "path": "../up"}}, "inside the repository"),
        ({"source": {"repoURL": "REPO", "path": "nowhere"}}, "nowhere: app path does not exist"),
        (
            {"source": {"repoURL": "REPO", "path": "web", "targetRevision": "gone"}},
            "unable to resolve 'gone'",
        ),
        ({"source": {"repoURL": "file:///nowhere", "path": "web"}}, "nowhere"),
        ({"source": {"repoURL": "ext::sh -c touch% /tmp/x", "path": "web"}}, "not allowed"),
        ({"source": {"repoURL": "REPO", "path": "web", "helm": {"values": "x"}}}, "helm"),
        ({"sources": [{}]}, "neither sources"),
        ({"destination": {"server": "https://elsewhere"}}, "not the sandbox's own cluster"),
        ({"destination": {}}, "Destination server missing"),
        ({"syncPolicy": {"automated": {"prune": "yes"}}}, "automated.prune"),
    ],
)
def test_invalid_specs_are_refused_before_anything_is_kept(
    site: Site, change: dict[str, Any], says: str
) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    body = json.loads(json.dumps(site.app(**change)).replace('"REPO"', json.dumps(site.repository.url)))
    refused = site.server.call("POST", BASE, body, status=400)
    assert refused["code"] == 3
    assert says in refused["message"]
    site.server.call("GET", f"{BASE}/{site.name}", project="default", status=404)


def test_names_and_bodies_are_checked(server: Server) -> None:
    for body in ({}, {"metadata": {"name": "UPPER"}, "spec": {}}, {"metadata": {"name": "../x"}, "spec": {}}):
        assert server.call("POST", BASE, body, status=400)["code"] == 3


def test_unvalidated_invalid_spec_is_a_condition(site: Site) -> None:
    body = site.app(destination={"server": "https://elsewhere"})
    site.server.call("POST", BASE, body, validate="false")
    app = site.get(refresh="normal")
    assert app["status"]["conditions"][0]["type"] == "InvalidSpecError"
    assert "reconciledAt" not in app["status"]


def test_managed_resources_mask_secrets(live: Site) -> None:
    items = live.server.call("GET", f"{BASE}/{live.name}/managed-resources")["items"]
    fields = {
        "group",
        "kind",
        "namespace",
        "name",
        "targetState",
        "liveState",
        "normalizedLiveState",
        "predictedLiveState",
    }
    assert all(fields <= set(item) and item["modified"] is False for item in items)
    text = json.dumps(items) + json.dumps(live.server.call("GET", f"{BASE}/{live.name}/manifests"))
    assert "aHVzaA" not in text
    key = {"kind": "Secret", "namespace": live.name, "name": "token"}
    live.server.call("PATCH", "/sandbox/admin/live", {**key, "patch": {"data": {"key": "b3RoZXI="}}})
    (item,) = live.server.call("GET", f"{BASE}/{live.name}/managed-resources", kind="Secret")["items"]
    assert item["modified"] is True
    assert (
        json.loads(item["targetState"])["data"]["key"]
        != json.loads(item["normalizedLiveState"])["data"]["key"]
    )
    live.server.call("DELETE", "/sandbox/admin/live", **key)
    (item,) = live.server.call("GET", f"{BASE}/{live.name}/managed-resources", kind="Secret")["items"]
    assert item["liveState"] == "null"


def test_tree_manifests_metadata_windows_logs(live: Site) -> None:
    one, call = f"{BASE}/{live.name}", live.server.call
    nodes = {node["kind"]: node for node in call("GET", one + "/resource-tree")["nodes"]}
    assert nodes["Pod"]["parentRefs"][0]["kind"] == "ReplicaSet"
    assert nodes["ReplicaSet"]["parentRefs"][0]["name"] == "web"
    assert nodes["Deployment"]["health"] == {"status": "Healthy"}
    answer = call("GET", one + "/manifests", revision=live.commit)  # type: ignore[attr-defined]
    assert (answer["revision"], answer["sourceType"], len(answer["manifests"])) == (
        live.commit,
        "Directory",
        3,
    )  # type: ignore[attr-defined]
    data = call("GET", f"{one}/revisions/{live.commit}/metadata")  # type: ignore[attr-defined]
    assert (data["author"], data["message"]) == ("Ada <ada@example.org>", "First release")
    assert data["date"].endswith("Z")
    call("GET", f"{one}/revisions/main/metadata", status=400)
    call("GET", f"{one}/revisions/{'0' * 40}/metadata", status=400)
    assert call("GET", one + "/syncwindows")["canSync"] is True
    assert json.loads(
        call("GET", one + "/resource", kind="ConfigMap", resourceName="a", namespace=live.name)["manifest"]
    )
    with live.server.client("deployer") as client:
        lines = client.get(one + "/logs", params={"tailLines": 2}).text.splitlines()
    assert [json.loads(line)["result"]["content"] for line in lines] == [
        "line 3 of web-1-a",
        "line 4 of web-1-a",
    ]


def test_sync_and_rollback_rules(live: Site) -> None:
    one, call, first = f"{BASE}/{live.name}", live.server.call, live.commit  # type: ignore[attr-defined]
    second = live.repository.write({"web/a.yaml": config_map("a", "2")})
    assert live.sync(revision=first[:10])["operation"]["sync"]["revision"] == first
    live.done()
    live.sync(revision="main")
    assert live.done()["status"]["operationState"]["syncResult"]["revision"] == second
    assert "error resolving" in live.sync(revision="nope", status=400)["message"]
    live.sync(revision="--all", status=400)
    assert "does not have deployment" in call("POST", one + "/rollback", {"id": 99}, status=400)["message"]
    call("POST", one + "/rollback", {"id": "0"})
    app = live.done()
    assert app["status"]["operationState"]["syncResult"]["revision"] == first
    assert [h["id"] for h in app["status"]["history"]] == [0, 1, 2, 3]
    live.sync(resources=[{"kind": "ConfigMap", "name": "a"}])
    app = live.done()
    assert [r["name"] for r in app["status"]["operationState"]["syncResult"]["resources"]] == ["a"]
    assert len(app["status"]["history"]) == 4
    call("PUT", one, live.app(auto={}))
    refused = live.sync(revision=first, status=400)
    assert (refused["code"], refused["message"]) == (
        9,
        f"Cannot sync to {first}: auto-sync currently set to main",
    )
    refused = call("POST", one + "/rollback", {"id": 0}, status=400)
    assert (refused["code"], refused["message"]) == (
        9,
        "rollback cannot be initiated when auto-sync is enabled",
    )


def test_dry_run_pollutes_the_operation_state_and_nothing_else(live: Site) -> None:
    live.repository.write({"web/a.yaml": config_map("a", "2")})
    live.sync(dryRun=True)
    app = live.done()
    assert app["status"]["operationState"]["operation"]["sync"]["dryRun"] is True
    assert live.live(kind="ConfigMap")[0]["data"] == {"value": "1"}
    assert len(app["status"]["history"]) == 1
