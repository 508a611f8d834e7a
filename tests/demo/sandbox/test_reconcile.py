"""Desired state becomes live: refresh, policies, hooks, failure, pruning, healing."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

from .conftest import Site, config_map, deployment, hook, manifest

AUTO = {"prune": True, "selfHeal": True}


def synced(app: dict[str, Any]) -> bool:
    return app["status"]["sync"]["status"] == "Synced" and app["status"]["health"]["status"] == "Healthy"


def condition(app: dict[str, Any], kind: str) -> str:
    return "".join(c["message"] for c in app["status"].get("conditions", []) if c["type"] == kind)


def test_auto_sync_brings_a_commit_to_life_and_keeps_history(site: Site) -> None:
    first = site.repository.write(
        {"web/a.yaml": config_map("a"), "web/d.yaml": deployment("web", **{"test/after": "0.5"})}
    )
    site.create(auto=AUTO)
    app = site.until(synced)
    status = app["status"]
    assert status["sync"]["revision"] == first
    assert status["operationState"]["phase"] == "Succeeded"
    assert status["operationState"]["operation"]["initiatedBy"] == {"automated": True}
    result = {
        (r["kind"], r["status"], r["syncPhase"]) for r in status["operationState"]["syncResult"]["resources"]
    }
    assert result == {("ConfigMap", "Synced", "Sync"), ("Deployment", "Synced", "Sync")}
    assert status["summary"]["images"] == ["web@sha256:aa"]
    second = site.repository.write({"web/d.yaml": deployment("web", "web@sha256:bb")})
    app = site.until(lambda a: synced(a) and a["status"]["sync"]["revision"] == second)
    assert [(h["id"], h["revision"]) for h in app["status"]["history"]] == [(0, first), (1, second)]
    assert {"deployStartedAt", "deployedAt", "source", "initiatedBy"} <= set(app["status"]["history"][0])


def test_without_policy_nothing_is_touched_until_a_sync(site: Site) -> None:
    commit = site.repository.write(
        {"web/a.yaml": config_map("a"), "web/s.yaml": manifest("Service", "s", {"spec": {}})}
    )
    site.create()
    app = site.get(refresh="normal")
    assert (app["status"]["sync"]["status"], app["status"]["health"]["status"]) == ("OutOfSync", "Missing")
    assert site.live() == []
    begun = site.sync(infos=[{"name": "pipeops/id", "value": "dag/run"}])
    assert begun["operation"]["sync"]["revision"] == commit
    assert begun["operation"]["info"] == [{"name": "pipeops/id", "value": "dag/run"}]
    app = site.done()
    assert app["status"]["operationState"]["operation"]["info"] == begun["operation"]["info"]
    assert app["status"]["operationState"]["operation"]["initiatedBy"] == {"username": "admin"}
    assert synced(site.get(refresh="normal"))


def test_status_right_after_succeeded_is_from_before_the_operation(site: Site) -> None:
    site.repository.write({"web/d.yaml": deployment("web")})
    site.create()
    site.get(refresh="normal")
    with (
        site.server.client() as client,
        client.stream("GET", "/api/v1/stream/applications", params={"name": site.name}) as stream,
    ):
        site.sync()
        for line in stream.iter_lines():
            app = httpx.Response(200, text=line).json()["result"]["application"]
            if app["status"].get("operationState", {}).get("phase") == "Succeeded":
                break
    assert app["status"]["sync"]["status"] == "OutOfSync"
    site.until(synced)


def test_refresh_blocks_until_a_reconcile_saw_it(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create()
    site.get(refresh="normal")
    commit = site.repository.write({"web/a.yaml": config_map("a", "2")})
    app = site.get(refresh="hard")
    assert app["status"]["sync"]["revision"] == commit
    assert "argocd.argoproj.io/refresh" not in (app["metadata"].get("annotations") or {})
    assert len(app["status"]["reconciledAt"]) == len("2026-01-01T00:00:00Z")
    site.server.call("GET", f"/api/v1/applications/{site.name}", refresh="maybe", status=400)


def test_hanging_refresh_leaves_the_annotation(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create()
    site.get(refresh="normal")
    site.server.fault("hang_refresh", app=site.name)
    with site.server.client() as client, pytest.raises(httpx.ReadTimeout):
        client.get(f"/api/v1/applications/{site.name}", params={"refresh": "normal"}, timeout=0.8)
    assert site.get()["metadata"]["annotations"] == {"argocd.argoproj.io/refresh": "normal"}
    site.server.clear()
    site.until(lambda a: not a["metadata"].get("annotations"))


def test_skip_reconcile_is_obeyed(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    body = site.app(auto=AUTO)
    body["metadata"]["annotations"] = {"argocd.argoproj.io/skip-reconcile": "true"}
    site.server.call("POST", "/api/v1/applications", body)
    with site.server.client() as client, pytest.raises(httpx.ReadTimeout):
        client.get(f"/api/v1/applications/{site.name}", params={"refresh": "normal"}, timeout=0.8)
    assert site.live() == []


def test_self_heal_puts_a_change_right_and_writes_no_history(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create(auto=AUTO)
    site.until(synced)
    key = {"kind": "ConfigMap", "namespace": site.name, "name": "a"}
    site.server.call("PATCH", "/sandbox/admin/live", {**key, "patch": {"data": {"value": "drift"}}})
    app = site.until(
        lambda a: (
            a["status"]["operationState"]["operation"]["sync"].get("selfHealAttemptsCount") and synced(a)
        )
    )
    assert site.live(kind="ConfigMap")[0]["data"] == {"value": "1"}
    assert len(app["status"]["history"]) == 1
    site.server.call("DELETE", "/sandbox/admin/live", **key)
    site.until(lambda a: site.live(kind="ConfigMap") and synced(a))


def test_without_self_heal_drift_is_reported_only(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create(auto={})
    site.until(synced)
    body = {"kind": "ConfigMap", "namespace": site.name, "name": "a", "patch": {"data": {"value": "drift"}}}
    site.server.call("PATCH", "/sandbox/admin/live", body)
    before = site.until(lambda a: a["status"]["sync"]["status"] == "OutOfSync")
    after = site.get(refresh="normal")
    assert "operation" not in after
    assert after["status"]["operationState"] == before["status"]["operationState"]
    items = site.server.call("GET", f"/api/v1/applications/{site.name}/managed-resources")["items"]
    assert items[0]["modified"] is True
    assert '"value": "drift"' in items[0]["normalizedLiveState"]
    assert '"value": "1"' in items[0]["predictedLiveState"]


def test_prune_only_where_the_policy_says_so(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a"), "web/b.yaml": config_map("b")})
    site.create(auto={})
    site.until(synced)
    commit = site.repository.write({"web/b.yaml": None})
    app = site.get(refresh="normal")
    assert app["status"]["sync"] | {"comparedTo": 0} == {
        "status": "OutOfSync",
        "revision": commit,
        "comparedTo": 0,
    }
    assert [r["name"] for r in app["status"]["resources"] if r.get("requiresPruning")] == ["b"]
    assert "operation" not in app
    site.sync()
    site.until(lambda a: a["status"]["operationState"]["syncResult"]["revision"] == commit)
    result = site.done()["status"]["operationState"]["syncResult"]["resources"]
    assert {r["name"]: r["status"] for r in result} == {"a": "Synced", "b": "PruneSkipped"}
    site.sync(prune=True)
    site.done()
    assert [item["metadata"]["name"] for item in site.live()] == ["a"]


def test_auto_sync_does_not_wipe_everything_out(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create(auto=AUTO)
    site.until(synced)
    site.repository.write({"web/a.yaml": None, "web/README": "empty"})
    site.until(lambda a: "wipe out all resources" in condition(a, "SyncError"))
    assert len(site.live()) == 1
    site.server.call("PUT", f"/api/v1/applications/{site.name}", site.app(auto={**AUTO, "allowEmpty": True}))
    site.until(lambda a: not site.live() and not a["status"].get("conditions"))


def test_waves_and_hooks_run_in_order(site: Site) -> None:
    wave = "argocd.argoproj.io/sync-wave"
    site.repository.write(
        {
            "web/pre.yaml": hook("migrate", "PreSync", **{"test/after": "0.3"}),
            "web/c.yaml": config_map("late", **{wave: "2"}),
            "web/d.yaml": deployment("web", **{wave: "1", "test/after": "0.3"}),
            "web/post.yaml": hook(
                "check", "PostSync", **{"argocd.argoproj.io/hook-delete-policy": "HookSucceeded"}
            ),
            "web/fail.yaml": hook("alarm", "SyncFail"),
            "web/skip.yaml": hook("never", "Skip"),
        }
    )
    site.create(auto=AUTO)
    app = site.until(synced)
    entries = app["status"]["operationState"]["syncResult"]["resources"]
    assert [(e["name"], e["syncPhase"], e["hookPhase"]) for e in entries if "hookType" in e] == [
        ("migrate", "PreSync", "Succeeded"),
        ("check", "PostSync", "Succeeded"),
    ]
    assert [e["name"] for e in entries if "hookType" not in e] == ["web", "late"]
    assert sorted(item["metadata"]["name"] for item in site.live()) == ["late", "migrate", "web"]
    assert {r["name"] for r in app["status"]["resources"]} == {"late", "web"}


def test_failed_hook_fails_the_operation_and_the_commit_is_not_tried_again(site: Site) -> None:
    bad = {"test/health": "Degraded", "test/message": "Job has reached the specified backoff limit"}
    site.repository.write(
        {
            "web/a.yaml": config_map("a"),
            "web/pre.yaml": hook("migrate", "PreSync", **bad),
            "web/f.yaml": hook("alarm", "SyncFail"),
        }
    )
    # Long enough that a slow machine sees it wait for its second try.
    policy = {"syncPolicy": {"automated": AUTO, "retry": {"limit": 1, "backoff": {"duration": "10s"}}}}
    site.create(**policy)
    app = site.until(
        lambda a: (
            a["status"]["operationState"].get("retryCount") == 1
            and a["status"]["operationState"].get("finishedAt")
            and "operation" in a
        )
    )
    assert app["status"]["operationState"]["phase"] == "Running"
    assert "Retrying attempt #1 at" in app["status"]["operationState"]["message"]
    app = site.until(
        lambda a: a["status"]["operationState"]["phase"] == "Failed" and condition(a, "SyncError")
    )
    assert "backoff limit" in app["status"]["operationState"]["message"]
    phases = {e["name"]: e["hookPhase"] for e in app["status"]["operationState"]["syncResult"]["resources"]}
    assert phases == {"migrate": "Failed", "alarm": "Succeeded"}
    assert app["status"]["history"] == []
    revision = app["status"]["sync"]["revision"]
    assert condition(app, "SyncError").startswith(f"Failed last sync attempt to [{revision}]: ")
    again = site.get(refresh="normal")
    assert again["status"]["operationState"]["startedAt"] == app["status"]["operationState"]["startedAt"]
    site.repository.write({"web/pre.yaml": hook("migrate", "PreSync")})
    assert not condition(site.until(synced), "SyncError")


def test_refused_manifest_is_a_failed_resource(site: Site) -> None:
    site.repository.write(
        {"web/a.yaml": config_map("a", **{"test/refuse": "yes"}), "web/b.yaml": config_map("b")}
    )
    site.create()
    site.sync()
    state = site.done()["status"]["operationState"]
    assert state["phase"] == "Failed"
    assert state["message"].startswith("one or more objects failed to apply, reason: ")
    assert {r["name"]: r["status"] for r in state["syncResult"]["resources"]} == {
        "a": "SyncFailed",
        "b": "Synced",
    }


def test_degraded_workload_with_a_post_sync_hook_fails(site: Site) -> None:
    site.repository.write(
        {
            "web/d.yaml": deployment(
                "web", **{"test/health": "Degraded", "test/message": "exceeded its progress deadline"}
            ),
            "web/post.yaml": hook("check", "PostSync"),
        }
    )
    site.create()
    site.sync()
    state = site.done()["status"]["operationState"]
    assert state["phase"] == "Failed"
    assert "exceeded its progress deadline" in state["message"]
    app = site.get(refresh="normal")
    assert (app["status"]["sync"]["status"], app["status"]["health"]["status"]) == ("Synced", "Degraded")
    assert app["status"]["resources"][0]["health"]["message"] == "exceeded its progress deadline"


def test_terminate_ends_a_waiting_operation(site: Site) -> None:
    path = f"/api/v1/applications/{site.name}/operation"
    site.repository.write({"web/pre.yaml": hook("slow", "PreSync", **{"test/after": "600"})})
    site.create()
    body = site.server.call("DELETE", path, {}, status=400)
    assert body["message"] == "Unable to terminate operation. No operation is in progress"
    site.sync()
    site.until(
        lambda a: a["status"]["operationState"]["message"] == "waiting for completion of hook batch/Job/slow"
    )
    refused = site.sync(status=400)
    assert (refused["code"], refused["message"]) == (9, "another operation is already in progress")
    site.server.call("DELETE", path, {})
    state = site.done()["status"]["operationState"]
    assert (state["phase"], state["message"]) == ("Failed", "Operation terminated")
    assert site.live() == []


def test_stuck_operation_stays_until_the_fault_is_cleared(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create()
    site.server.fault("stuck_operation", app=site.name)
    site.sync()
    site.until(lambda a: a["status"]["operationState"]["phase"] == "Running")
    site.server.call("DELETE", f"/api/v1/applications/{site.name}/operation", {})
    assert site.get(refresh="normal")["status"]["operationState"]["phase"] == "Terminating"
    site.server.clear()
    assert site.done()["status"]["operationState"]["phase"] == "Failed"


def test_repository_errors_are_conditions(site: Site) -> None:
    good = site.repository.write({"web/a.yaml": config_map("a")})
    site.create(auto=AUTO)
    site.until(synced)
    site.repository.write({"web/a.yaml": "apiVersion: v1\nkind: [broken"})
    app = site.get(refresh="normal")
    assert app["status"]["sync"]["status"] == "Unknown"
    assert "web/a.yaml is not valid YAML" in condition(app, "ComparisonError")
    assert app["status"]["history"][-1]["revision"] == good
    site.sync()
    state = site.done()["status"]["operationState"]
    assert (state["phase"], "syncResult" in state) == ("Error", False)
    # As in Argo CD: an operation without a result keeps auto-sync away from every later commit.
    site.repository.write({"web/a.yaml": config_map("a", "3")})
    site.until(
        lambda a: condition(a, "SyncError").startswith("Failed last sync attempt to []: ComparisonError")
    )
    site.sync()
    site.done()
    site.until(synced)


def test_unforced_repository_errors_are_not_written_down(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create(auto=AUTO)
    before = site.until(synced)
    site.repository.path.rename(site.repository.path.with_name("moved"))
    time.sleep(1.6)  # two rounds of the controller
    after = site.get()
    assert after["status"] | {"reconciledAt": 0} == before["status"] | {"reconciledAt": 0}
    assert condition(site.get(refresh="normal"), "ComparisonError")


def test_kustomize_overlay_is_rendered_for_real(site: Site) -> None:
    site.repository.write(
        {
            "base/kustomization.yaml": "resources: [d.yaml]\n",
            "base/d.yaml": deployment("web", "delay-api"),
            "overlays/prod/kustomization.yaml": """\
                resources: [../../base]
                namePrefix: prod-
                images: [{name: delay-api, digest: sha256:cc}]
                """,
        }
    )
    site.create(path="overlays/prod", auto=AUTO)
    app = site.until(synced)
    assert app["status"]["sourceType"] == "Kustomize"
    assert site.live()[0]["metadata"]["name"] == "prod-web"
    assert app["status"]["summary"]["images"] == ["delay-api@sha256:cc"]


def test_target_revision_may_be_a_tag_a_commit_or_head(site: Site) -> None:
    first = site.repository.write({"web/a.yaml": config_map("a")})
    site.repository.git("tag", "-a", "v1", "-m", "first")
    second = site.repository.write({"web/a.yaml": config_map("a", "2")})
    site.create()
    for revision, commit in (
        ("v1", first),
        (first[:8], first),
        (second, second),
        ("HEAD", second),
        ("main", second),
    ):
        source = site.app()["spec"]["source"] | {"targetRevision": revision}
        site.server.call("PUT", f"/api/v1/applications/{site.name}", site.app(source=source))
        assert site.get(refresh="normal")["status"]["sync"]["revision"] == commit, revision
    site.server.call(
        "PUT",
        f"/api/v1/applications/{site.name}",
        site.app(source=source | {"targetRevision": "nope"}),
        status=400,
    )


def test_delete_takes_resources_along_or_leaves_them(site: Site) -> None:
    site.repository.write(
        {
            "web/a.yaml": config_map("a"),
            "web/keep.yaml": config_map("keep", **{"argocd.argoproj.io/sync-options": "Delete=false"}),
        }
    )
    for cascade, left in (("false", ["a", "keep"]), ("true", ["keep"])):
        site.create(auto=AUTO)
        site.until(synced)
        with (
            site.server.client() as client,
            client.stream("GET", "/api/v1/stream/applications", params={"name": site.name}) as stream,
        ):
            site.server.call("DELETE", f"/api/v1/applications/{site.name}", {}, cascade=cascade)
            for line in stream.iter_lines():
                if '"type":"DELETED"' in line:
                    break
        assert [item["metadata"]["name"] for item in site.live()] == left


def test_a_resource_of_another_application_is_shared(site: Site, server: Any, tmp_path: Any) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create(auto=AUTO)
    site.until(synced)
    other = Site(server, tmp_path)
    other.repository.write({"web/a.yaml": config_map("a")})
    other.create(destination={"name": "in-cluster", "namespace": site.name})
    app = other.get(refresh="normal")
    assert app["status"]["sync"]["status"] == "OutOfSync"
    assert site.name in condition(app, "SharedResourceWarning")


def test_many_refreshes_at_once_all_return(site: Site) -> None:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create()
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(site.get(refresh="normal"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert len(answers) == 8
