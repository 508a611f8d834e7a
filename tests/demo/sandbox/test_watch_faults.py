"""Streams in both forms, faults one by one, and what a restart or a signal leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import ROOT, Server, Site, config_map, hook

BASE = "/api/v1/applications"
STREAM = "/api/v1/stream/applications"


@pytest.fixture
def quiet(site: Site) -> Site:
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create()
    site.get(refresh="normal")
    return site


def label(site: Site, value: str) -> None:
    patch = json.dumps({"metadata": {"labels": {"n": value}}})
    site.server.call("PATCH", f"{BASE}/{site.name}", {"patchType": "merge", "patch": patch})


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_watch_tells_what_is_there_and_what_changes(quiet: Site, accept: str) -> None:
    seen = []
    with (
        quiet.server.client("viewer", Accept=accept) as client,
        client.stream("GET", STREAM, params={"name": quiet.name}) as stream,
    ):
        assert stream.headers["content-type"].startswith(accept)
        for line in stream.iter_lines():
            if not line:
                continue
            assert line.startswith("data: ") is (accept == "text/event-stream")
            event = json.loads(line.removeprefix("data: "))["result"]
            if not seen:
                label(quiet, "1")
            seen.append((event["type"], (event["application"]["metadata"].get("labels") or {}).get("n")))
            if seen[-1] == ("MODIFIED", "1"):
                break
    assert seen[0] == ("ADDED", None)


def test_watch_from_a_version_skips_what_is_known(quiet: Site) -> None:
    version = str(int(quiet.get()["metadata"]["resourceVersion"]) + 1)
    with (
        quiet.server.client() as client,
        client.stream("GET", STREAM, params={"resourceVersion": version}) as stream,
    ):
        label(quiet, "2")
        kinds = [json.loads(next(stream.iter_lines()))["result"]["type"]]
    assert kinds == ["MODIFIED"]


def test_tree_can_be_watched(quiet: Site) -> None:
    with (
        quiet.server.client() as client,
        client.stream("GET", f"{STREAM}/{quiet.name}/resource-tree") as stream,
    ):
        assert json.loads(next(stream.iter_lines()))["result"]["nodes"][0]["name"] == "a"


def test_slow_watchers_lose_events_without_a_word() -> None:
    import asyncio

    from airflow_pipeops.demo.sandbox.watch import Broadcaster

    async def run() -> list[int]:
        broadcaster = Broadcaster(buffer=3)
        with broadcaster.subscribe(lambda app: True) as subscription:
            for number in range(10):
                broadcaster.publish("MODIFIED", {"n": number})
            broadcaster.close()
            seen = []
            while True:
                try:
                    event = await subscription.next(1)
                except EOFError:
                    return seen
                assert event is not None
                seen.append(event["application"]["n"])

    assert asyncio.run(run()) == [0, 1, 2]


def test_delay_and_error_count_down(quiet: Site) -> None:
    path = f"{BASE}/{quiet.name}"
    quiet.server.fault("delay", path=path, ms=300, count=1)
    begin = time.monotonic()
    quiet.get()
    assert time.monotonic() - begin >= 0.3
    quiet.server.fault("error", path=path, status=503, count=2)
    for _ in range(2):
        assert quiet.server.call("GET", path, status=503)["code"] == 14
    quiet.get()
    number = quiet.server.fault("error", path=path, status=500)
    quiet.server.call("GET", path, status=500)
    assert [f["id"] for f in quiet.server.call("GET", "/sandbox/admin/faults")["items"]] == [number]
    assert quiet.server.call("DELETE", f"/sandbox/admin/faults/{number}") == {"cleared": 1}
    quiet.get()


def test_truncated_answer(quiet: Site) -> None:
    quiet.server.fault("truncate", path=f"{BASE}/{quiet.name}", bytes=30, count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        quiet.get()
    quiet.server.fault("truncate", path=f"{BASE}/{quiet.name}", bytes=10_000_000, count=1)
    quiet.get()


def test_dropped_stream(quiet: Site) -> None:
    quiet.server.fault("drop_stream", after=1, count=1)
    with quiet.server.client() as client, client.stream("GET", STREAM, params={"name": quiet.name}) as stream:
        lines = stream.iter_lines()
        assert json.loads(next(lines))["result"]["type"] == "ADDED"
        label(quiet, "x")
        with pytest.raises(httpx.RemoteProtocolError):
            next(lines)


def test_dropped_events(quiet: Site) -> None:
    with quiet.server.client() as client, client.stream("GET", STREAM, params={"name": quiet.name}) as stream:
        lines = stream.iter_lines()
        next(lines)
        quiet.server.fault("drop_events", app=quiet.name)
        label(quiet, "lost")
        label(quiet, "next")
        quiet.get(refresh="normal")  # the server's own waits go on
        quiet.server.clear()
        label(quiet, "seen")
        for line in lines:
            app = json.loads(line)["result"]["application"]
            assert app["metadata"].get("labels", {}).get("n") != "lost"
            if app["metadata"].get("labels", {}).get("n") == "seen":
                break


@pytest.mark.parametrize(
    "body",
    [{"kind": "nonsense"}, {"kind": "delay", "bytes": 1}, {"kind": "error", "count": 0}, {"kind": "error", "probability": 2},
     {"kind": "error", "status": 200}, {"kind": "crash", "at": "lunch"}, {}],
)  # fmt: skip
def test_bad_faults_are_refused(server: Server, body: dict[str, Any]) -> None:
    assert server.call("POST", "/sandbox/admin/faults", body, status=400)["code"] == 3
    assert server.call("GET", "/sandbox/admin/faults") == {"items": []}


def crash(site: Site, call: Callable[[], Any]) -> None:
    # Whether the call itself is still answered depends on how far the server came.
    with contextlib.suppress(httpx.TransportError):
        call()
    assert site.server.process.wait(15) == 137


def test_crash_restart_and_state(own: Callable[..., Site]) -> None:
    site = own()
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create(auto={})
    before = site.until(lambda a: a["status"]["sync"]["status"] == "Synced")
    site.server.fault("crash", path="/api/version")
    crash(site, lambda: site.server.call("GET", "/api/version"))
    tokens = site.server.tokens
    site.server.start()
    assert site.server.tokens == tokens
    after = site.get()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert int(after["metadata"]["resourceVersion"]) >= int(before["metadata"]["resourceVersion"])
    assert after["status"]["history"] == before["status"]["history"]
    site.server.call("POST", "/sandbox/admin/crash", {}, status=202)
    assert site.server.process.wait(15) == 137


@pytest.mark.parametrize("at", ["operation-started", "after-apply", "before-finish"])
def test_running_operation_is_resumed_after_a_crash(own: Callable[..., Site], at: str) -> None:
    site = own()
    site.repository.write({"web/pre.yaml": hook("migrate", "PreSync"), "web/a.yaml": config_map("a")})
    site.create()
    site.server.fault("crash", app=site.name, at=at)
    crash(site, lambda: site.sync(infos=[{"name": "id", "value": "mine"}]))
    site.server.start()
    app = site.done()
    state = app["status"]["operationState"]
    assert (state["phase"], state["operation"]["info"]) == ("Succeeded", [{"name": "id", "value": "mine"}])
    assert {(r["name"], r["hookPhase"]) for r in state["syncResult"]["resources"]} == {
        ("migrate", "Succeeded"),
        ("a", "Running"),
    }
    assert [h["id"] for h in app["status"]["history"]] == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly_even_while_clients_wait(own: Callable[..., Site], number: int) -> None:
    site = own()
    site.repository.write({"web/a.yaml": config_map("a")})
    site.create()
    site.server.fault("hang_refresh")
    with site.server.client() as client, client.stream("GET", STREAM) as stream:
        lines = stream.iter_lines()
        next(lines)
        begin = time.monotonic()
        assert site.server.stop(number) == 0
        assert time.monotonic() - begin < 3
        list(lines)  # the end of the stream, not an error
    assert (site.server.state / "stopped-cleanly").exists()


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "airflow_pipeops.demo.sandbox", "serve", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, env=dict(os.environ))


def test_program_refuses_what_it_cannot_do(tmp_path: Any) -> None:
    common = ("--state", str(tmp_path), "--artifacts", str(tmp_path))
    for extra, says in (
        (("--host", "0.0.0.0"), "not a loopback address"),
        (("--port", "70000"), "not a port"),
        (("--reconcile-interval", "0"), "must be above 0"),
    ):
        done = program(*common, *extra)
        assert done.returncode == 2
        assert done.stdout.startswith(
            "airflow-pipeops sandbox: an Argo CD-compatible target for demos and tests"
        )
        assert says in done.stderr
        assert "Traceback" not in done.stderr
