"""Nothing survives the cluster but its state."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.demo.sandbox.runtime import process as processes
from airflow_pipeops.demo.sandbox.runtime import reaper

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")

#: A server with a child in its group, and one that left the group.
FAMILY = """
import subprocess, sys, os, http.server
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
address = os.environ["HOST"], int(os.environ["PORT"])
http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def mark(tmp_path: Path) -> str:
    return (tmp_path / "state" / "mark").read_text()


@linux
async def test_stop_leaves_no_process(make_cluster, layout, deployment, web, wait, tmp_path) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.apply(
        deployment(layout.app(source=FAMILY), container={"readinessProbe": {"tcpSocket": {"port": 1}}})
    )
    await wait(lambda: cluster.health(cluster.get(web))[0] == "Healthy")
    await wait(lambda: len(reaper.marked(mark(tmp_path))) == 3)
    await cluster.stop()
    await cluster.stop()
    assert reaper.marked(mark(tmp_path)) == []


@linux
async def test_a_stubborn_process_is_killed(make_cluster, deployment, web, wait, tmp_path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    cluster = make_cluster()
    await cluster.start()
    try:
        container = {"command": ["python", "-c", code], "readinessProbe": None}
        await cluster.apply(
            deployment("airflow-pipeops", container=container, pod={"terminationGracePeriodSeconds": 1})
        )
        await wait(lambda: cluster.logs(web) == ["up"])
        assert await cluster.delete(web)
        assert reaper.marked(mark(tmp_path)) == []
    finally:
        await cluster.stop()


async def test_state_survives_a_restart(
    make_cluster, layout, deployment, service, web, wait, free_port
) -> None:
    first = make_cluster()
    await first.start()
    await first.apply(deployment(layout.app(), env={"VERSION": "v1"}))
    await first.apply(service(free_port))
    await wait(lambda: first.health(first.get(web))[0] == "Healthy")
    before = first.get(web)
    await first.stop()

    second = make_cluster()
    assert second.get(web)["metadata"]["uid"] == before["metadata"]["uid"]
    await second.start()
    try:
        await wait(lambda: second.health(second.get(web))[0] == "Progressing")
        await wait(lambda: second.health(second.get(web))[0] == "Healthy")
        after = second.get(web)
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert int(after["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
        url = f"http://127.0.0.1:{free_port}/"
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())
        assert answer.startswith(b"v1")
        assert len(second.list(kind="Pod")) == 1
        assert (await second.apply(deployment(layout.app(), env={"VERSION": "v1"})))["metadata"][
            "generation"
        ] == 1
    finally:
        await second.stop()


def host(tmp_path: Path, manifest: dict[str, Any]) -> subprocess.Popen[str]:
    """Run a cluster in a process of its own; it prints one line when the Deployment is healthy."""
    code = """
        import asyncio, sys
        from pathlib import Path
        from airflow_pipeops.demo.sandbox.runtime.cluster import Cluster
        from airflow_pipeops.demo.sandbox.runtime.images import ImageStore
        from airflow_pipeops.demo.sandbox.runtime.key import Key
        async def main():
            cluster = Cluster(Path(sys.argv[1]) / "state", ImageStore(Path(sys.argv[1]) / "artifacts"))
            await cluster.start()
            live = await cluster.apply(eval(sys.argv[2]))
            while cluster.health(cluster.get(Key.of(live)))[0] != "Healthy":
                await asyncio.sleep(0.02)
            print("up", flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """
    root = Path(processes.__file__).parents[4]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), repr(manifest)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )


@linux
async def test_kill_9_of_the_cluster_leaves_no_process(layout, deployment, wait, tmp_path) -> None:
    probe = {"readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 0.1}}
    parent = host(tmp_path, deployment(layout.app(source=FAMILY), container=probe))
    try:
        assert await asyncio.to_thread(parent.stdout.readline) == "up\n"
        await wait(lambda: len(reaper.marked(mark(tmp_path))) == 3)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    await wait(lambda: reaper.marked(mark(tmp_path)) == [], timeout=5)


@linux
async def test_leftovers_are_ended_at_the_next_start(
    layout, deployment, make_cluster, web, wait, tmp_path
) -> None:
    parent = host(tmp_path, deployment(layout.app()))
    try:
        assert await asyncio.to_thread(parent.stdout.readline) == "up\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text(encoding="utf-8").split()
        keepers = [int(pid) for pid in children if b"reaper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for keeper in keepers:  # even the keeper is gone: the pid file and the mark are what is left
            os.kill(keeper, signal.SIGKILL)
        left = reaper.marked(mark(tmp_path))
        assert left
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert reaper.marked(mark(tmp_path)) == left
    cluster = make_cluster()
    await cluster.start()
    try:
        assert not set(left) & set(reaper.marked(mark(tmp_path)))
        await wait(lambda: cluster.health(cluster.get(web))[0] == "Healthy")
    finally:
        await cluster.stop()


async def test_pid_file_spares_a_stranger(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        (tmp_path / "processes").write_text(f"{stranger.pid} 12345\n")
        table = processes.ProcessTable(tmp_path)
        table.start()
        table.stop()
        assert stranger.poll() is None
        (tmp_path / "processes").write_text(f"{stranger.pid} {processes._started(stranger.pid)}\n")
        table.start()
        table.stop()
        assert stranger.wait(5) == -signal.SIGKILL
    finally:
        stranger.kill()
        stranger.wait()


async def test_logs_are_capped(tmp_path: Path, wait, monkeypatch) -> None:
    monkeypatch.setattr(processes, "LOG_CAP", 20_000)
    table = processes.ProcessTable(tmp_path)
    table.start()
    try:
        log = tmp_path / "log"
        code = "for n in range(20000): print('line', n)"
        env = {"PYTHONUNBUFFERED": ""}
        proc = await table.spawn([sys.executable, "-c", code], env=env, cwd=tmp_path, log=log)
        assert await proc.wait() == 0
        await wait(lambda: processes.tail(log, 1) == ["line 19999"])
        assert log.stat().st_size < 100_000
        assert all(line.startswith("line ") for line in processes.tail(log, 100))
    finally:
        table.stop()
