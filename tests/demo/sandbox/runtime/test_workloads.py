"""Deployments, Services and Jobs with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
from airflow_pipeops.demo.sandbox.runtime.key import Key

SERVER = """
import http.server, os
address = os.environ["HOST"], int(os.environ["PORT"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


@contextlib.asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[Cluster]:
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


def health(cluster: Cluster, key: Key) -> str | None:
    live = cluster.get(key)
    return cluster.health(live)[0] if live else "Missing"


def pods(cluster: Cluster, key: Key) -> list[dict[str, Any]]:
    return [c for c in cluster.children(key) if c["kind"] == "Pod"]


def get(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


async def test_becomes_ready_and_serves(
    make_cluster, layout, deployment, service, web, wait, free_port
) -> None:
    async with running(make_cluster()) as cluster:
        await cluster.apply(service(free_port))
        with pytest.raises((ConnectionError, urllib.error.URLError)):
            await asyncio.to_thread(get, free_port)  # no ready pod: closed at once
        image = layout.app()
        env = {"VERSION": "v1", "PORT": "8080", "GREETING": "$(VERSION)!", "READY_AFTER": "0.5"}
        await cluster.apply(
            deployment(image, env=env, container={"args": ["python", "main.py", "on $(PORT)", "$$(X)"]})
        )
        await wait(lambda: pods(cluster, web))
        assert health(cluster, web) == "Progressing"
        await wait(lambda: health(cluster, web) == "Healthy")
        assert await asyncio.to_thread(get, free_port) == "v1 v1!"
        live = cluster.get(web)
        assert live["status"]["observedGeneration"] == live["metadata"]["generation"] == 1
        assert {c["type"]: (c["status"], c["reason"]) for c in live["status"]["conditions"]} == {
            "Available": ("True", "MinimumReplicasAvailable"),
            "Progressing": ("True", "NewReplicaSetAvailable"),
        }
        kinds = [c["kind"] for c in cluster.children(web)]
        assert kinds == ["ReplicaSet", "Pod"]
        assert cluster.children(web)[1]["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
        await wait(lambda: any("listening" in line for line in cluster.logs(web)))
        line = cluster.logs(web, tail=1)[0]
        port = line.split()[2]
        assert line == f"listening on {port} on {port} $(X)"
        assert port != "8080"
        assert await cluster.delete(web)
        assert cluster.list(namespace="demo", kind="Pod") == []
        with pytest.raises((ConnectionError, urllib.error.URLError)):
            await asyncio.to_thread(get, free_port)


async def test_rolls_over_without_a_failed_request(
    make_cluster, layout, deployment, service, web, wait, free_port
) -> None:
    async with running(make_cluster()) as cluster:
        image = layout.app()
        await cluster.apply(service(free_port))
        await cluster.apply(deployment(image, replicas=2, env={"VERSION": "v1"}))
        await wait(lambda: health(cluster, web) == "Healthy")
        answers: list[str] = []
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                answers.append(await asyncio.to_thread(get, free_port))

        askers = [asyncio.create_task(ask()) for _ in range(3)]
        await cluster.apply(deployment(image, replicas=2, env={"VERSION": "v2", "READY_AFTER": "0.3"}))
        assert health(cluster, web) == "Progressing"
        await wait(lambda: health(cluster, web) == "Healthy" and len(pods(cluster, web)) == 2)
        await wait(lambda: answers[-1].startswith("v2"))
        done.set()
        await asyncio.gather(*askers)  # raises if any request failed
        versions = [a.split()[0] for a in answers]
        assert set(versions) == {"v1", "v2"}
        assert [
            c["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
            for c in cluster.children(web)
            if c["kind"] == "ReplicaSet" and c["spec"]["replicas"]
        ] == ["2"]


async def test_bad_update_degrades_and_leaves_the_old_pods(
    make_cluster, layout, deployment, web, wait
) -> None:
    async with running(make_cluster()) as cluster:
        good, bad = layout.app(), layout.app("bad", "import sys; print('boom', flush=True); sys.exit(3)")
        await cluster.apply(deployment(good, env={"VERSION": "v1"}, progressDeadlineSeconds=2))
        await wait(lambda: health(cluster, web) == "Healthy")
        await cluster.apply(deployment(bad, progressDeadlineSeconds=2))

        def crashing() -> dict[str, Any] | None:
            for pod in pods(cluster, web):
                waiting = pod["status"]["containerStatuses"][0]["state"].get("waiting") or {}
                if waiting.get("reason") == "CrashLoopBackOff":
                    return pod
            return None

        pod = await wait(crashing)
        assert health(cluster, web) == "Progressing"
        assert cluster.health(pod)[0] == "Degraded"
        assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
        assert "boom" in cluster.logs(Key.of(pod))
        await wait(lambda: health(cluster, web) == "Degraded")
        assert cluster.health(cluster.get(web))[1] == 'Deployment "web" exceeded its progress deadline'
        assert cluster.get(web)["status"]["availableReplicas"] == 1  # the old one still serves
        await cluster.apply(deployment(good, env={"VERSION": "v1"}, progressDeadlineSeconds=2))
        await wait(lambda: health(cluster, web) == "Healthy" and len(pods(cluster, web)) == 1)


async def test_liveness_restarts(make_cluster, layout, deployment, web, wait, tmp_path) -> None:
    sick = tmp_path / "sick"
    probe = {"httpGet": {"path": "/live", "port": 8080}, "periodSeconds": 0.1, "failureThreshold": 30}
    async with running(make_cluster()) as cluster:
        await cluster.apply(
            deployment(layout.app(), env={"SICK": str(sick)}, container={"livenessProbe": probe})
        )
        await wait(lambda: health(cluster, web) == "Healthy")
        sick.touch()
        await wait(lambda: pods(cluster, web)[0]["status"]["containerStatuses"][0]["lastState"])
        assert (
            health(cluster, web) == "Progressing"
        )  # a rollout that was complete does not exceed its deadline
        sick.unlink()
        await wait(lambda: health(cluster, web) == "Healthy")
        assert pods(cluster, web)[0]["status"]["containerStatuses"][0]["restartCount"] == 1


async def test_startup_and_exec_and_tcp_probes(make_cluster, layout, deployment, web, wait, tmp_path) -> None:
    gate = tmp_path / "gate"
    container = {
        "startupProbe": {
            "exec": {"command": ["test", "-e", str(gate)]},
            "periodSeconds": 0.1,
            "failureThreshold": 200,
        },
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 0.1},
    }
    async with running(make_cluster()) as cluster:
        await cluster.apply(deployment(layout.app(), container=container))
        await wait(lambda: cluster.logs(web))
        status = pods(cluster, web)[0]["status"]
        assert status["phase"] == "Running"
        assert status["containerStatuses"][0]["started"] is False
        gate.touch()
        await wait(lambda: health(cluster, web) == "Healthy")


async def test_a_killed_process_comes_back(make_cluster, layout, deployment, web, wait) -> None:
    async with running(make_cluster()) as cluster:
        await cluster.apply(deployment(layout.app()))
        await wait(lambda: health(cluster, web) == "Healthy")
        assert await cluster.kill(web) == 1
        await wait(lambda: health(cluster, web) == "Progressing")
        await wait(lambda: health(cluster, web) == "Healthy")
        last = pods(cluster, web)[0]["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert last["exitCode"] == 137


async def test_config_maps_and_secrets(
    make_cluster, layout, deployment, service, web, wait, free_port
) -> None:
    sources = {"envFrom": [{"configMapRef": {"name": "settings"}}]}
    async with running(make_cluster()) as cluster:
        await cluster.apply(service(free_port))
        manifest = deployment(layout.app(), container=sources)
        secret = {"name": "GREETING", "valueFrom": {"secretKeyRef": {"name": "key", "key": "word"}}}
        manifest["spec"]["template"]["spec"]["containers"][0]["env"] = [secret]
        await cluster.apply(manifest)

        def waiting() -> str:
            state = (
                pods(cluster, web)[0]["status"]["containerStatuses"][0]["state"] if pods(cluster, web) else {}
            )
            return str((state.get("waiting") or {}).get("message", ""))

        await wait(lambda: waiting() == 'configmap "settings" not found')
        meta = {"name": "settings", "namespace": "demo"}
        await cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"VERSION": "from map"}}
        )
        await wait(lambda: waiting() == 'secret "key" not found')
        meta = {"name": "key", "namespace": "demo"}
        await cluster.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"word": "aGVsbG8="}}
        )
        await wait(lambda: health(cluster, web) == "Healthy")
        assert await asyncio.to_thread(get, free_port) == "from map hello"


async def test_scales_to_zero_and_up(make_cluster, layout, deployment, web, wait) -> None:
    async with running(make_cluster()) as cluster:
        image = layout.app()
        await cluster.apply(deployment(image))
        await wait(lambda: health(cluster, web) == "Healthy")
        await cluster.apply(deployment(image, replicas=0))
        await wait(lambda: not pods(cluster, web))
        await wait(lambda: health(cluster, web) == "Healthy")
        await cluster.patch(web, {"spec": {"replicas": 3}})
        await wait(lambda: health(cluster, web) == "Healthy" and len(pods(cluster, web)) == 3)
        assert len({c["metadata"]["name"] for c in cluster.children(web) if c["kind"] == "ReplicaSet"}) == 1


async def test_recreate_strategy_never_runs_both(make_cluster, layout, deployment, web, wait) -> None:
    async with running(make_cluster()) as cluster:
        image, most = layout.app(), 0

        def count(event: str, live: dict[str, Any]) -> None:
            nonlocal most
            most = max(most, len(cluster.list(kind="Pod")))

        await cluster.apply(deployment(image, strategy={"type": "Recreate"}))
        await wait(lambda: health(cluster, web) == "Healthy")
        cluster.subscribe(count)
        await cluster.apply(deployment(image, strategy={"type": "Recreate"}, env={"VERSION": "v2"}))
        await wait(lambda: health(cluster, web) == "Healthy")
        assert most == 1


async def test_missing_image_waits_until_it_is_built(make_cluster, layout, deployment, web, wait) -> None:
    image = layout.app()
    blob = layout.root / "app" / "blobs" / "sha256" / image.rpartition(":")[2]
    content = blob.read_bytes()
    blob.unlink()
    async with running(make_cluster()) as cluster:
        await cluster.apply(deployment(image))

        def reason() -> str:
            found = pods(cluster, web)
            state = found[0]["status"]["containerStatuses"][0]["state"] if found else {}
            return str((state.get("waiting") or {}).get("reason", ""))

        await wait(lambda: reason() == "ImagePullBackOff")
        assert cluster.health(pods(cluster, web)[0])[0] == "Degraded"
        assert "not found" in cluster.health(pods(cluster, web)[0])[1]
        blob.write_bytes(content)
        await wait(lambda: health(cluster, web) == "Healthy")


def job(image: str, name: str = "once", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, **spec.pop("container", {})}
    pod = {"restartPolicy": spec.pop("restartPolicy", "Never"), "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {"template": {"spec": pod}, **spec},
    }


ONCE = Key("batch", "Job", "demo", "once")


async def test_job_succeeds_with_a_host_image(make_cluster, wait) -> None:
    code = "import airflow_pipeops, os; print('done in', os.environ['POD'])"
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    async with running(make_cluster()) as cluster:
        container = {"command": ["python3", "-c", code], "env": env}
        await cluster.apply(job("airflow-pipeops", container=container))
        await wait(lambda: health(cluster, ONCE) == "Healthy")
        status = cluster.get(ONCE)["status"]
        assert (status["succeeded"], status["failed"], status["active"]) == (1, 0, 0)
        assert cluster.logs(ONCE)[-1].startswith("done in once-")
        with pytest.raises(Exception, match="field is immutable"):
            await cluster.apply(job("airflow-pipeops", container={"command": ["true"]}))


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
async def test_job_gives_up_after_its_back_off_limit(make_cluster, wait, policy) -> None:
    async with running(make_cluster()) as cluster:
        container = {"command": ["python", "-c", "raise SystemExit(2)"]}
        await cluster.apply(job("airflow-pipeops", container=container, backoffLimit=1, restartPolicy=policy))
        await wait(lambda: health(cluster, ONCE) == "Degraded")
        assert cluster.health(cluster.get(ONCE))[1] == "Job has reached the specified backoff limit"
        assert policy == "OnFailure" or cluster.get(ONCE)["status"]["failed"] == 2


async def test_job_deadline(make_cluster, wait) -> None:
    async with running(make_cluster()) as cluster:
        container = {"command": ["sleep", "60"]}
        await cluster.apply(job("airflow-pipeops", container=container, activeDeadlineSeconds=1))
        await wait(lambda: health(cluster, ONCE) == "Degraded")
        await wait(lambda: not [p for p in pods(cluster, ONCE) if p["status"]["phase"] == "Running"])


async def test_command_not_found_is_a_start_error(make_cluster, wait) -> None:
    async with running(make_cluster()) as cluster:
        await cluster.apply(
            job("airflow-pipeops", container={"command": ["no-such-program"]}, backoffLimit=0)
        )
        await wait(lambda: health(cluster, ONCE) == "Degraded")
        terminated = pods(cluster, ONCE)[0]["status"]["containerStatuses"][0]["state"]["terminated"]
        assert terminated["reason"] == "StartError"
        assert "no-such-program" in terminated["message"]


async def test_apply_during_deletion_waits_for_the_end(make_cluster, layout, deployment, web, wait) -> None:
    async with running(make_cluster()) as cluster:
        # It takes a moment to end.
        slow = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit()))\n"
        manifest = deployment(layout.app(source=slow + SERVER))
        first = await cluster.apply(manifest)
        await wait(lambda: health(cluster, web) == "Healthy")
        deletion = asyncio.create_task(cluster.delete(web))
        await wait(lambda: (cluster.get(web) or {"metadata": {}})["metadata"].get("deletionTimestamp"))
        assert cluster.health(cluster.get(web)) == ("Progressing", "Pending deletion")
        second = await cluster.apply(copy.deepcopy(manifest))
        assert await deletion
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        await wait(lambda: health(cluster, web) == "Healthy")
