"""A thousand waits in one triggerer: what they cost, and how soon after "green" their tasks go on.

Three ways to wait, each in a real TriggerRunner of Airflow in a process of its own, each for as many applications as
there are waits: ``shared`` is what this package does; ``poll`` looks at each application every 10 seconds for itself;
``stream`` opens a stream per wait, as ``argocd app wait`` does. The server is a lean stand-in with Argo CD's wire format
(``argocd_server.py``), since it is not to be the bottleneck; the part of Airflow's supervisor is played, without a database.

The figures of a way: ``connections`` (most streams at once, most connections at once), ``steady_requests_per_minute``
(nothing happens but the controller's own comparisons), ``requests`` over the whole life of all waits by kind,
``cpu_seconds`` of the triggerer (starting, per minute of waiting, finishing), ``kb_per_wait`` (resident memory with all
waits over that of a runner without any), ``latency`` from green to the event at the supervisor less the settle window.

Run: python tests/benchmarks/waits.py [--waits 1000] [--ways shared poll stream]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import aclosing
from pathlib import Path
from typing import Any

from airflow_pipeops.argocd.triggers import ArgoCDWaitTrigger

HERE = Path(__file__).resolve().parent
NEW, SETTLE = "a" * 40, 5.0
_HERTZ = os.sysconf("SC_CLK_TCK")


class PollingTrigger(ArgoCDWaitTrigger):
    """Each wait looks for itself."""

    def shared_stream_key(self) -> None:
        """Share nothing."""


class StreamingTrigger(ArgoCDWaitTrigger):
    """Each wait has a stream of its own, as the command line tool does."""

    def shared_stream_key(self) -> None:
        """Share nothing."""

    async def outcome(self) -> dict[str, Any]:
        """Look once, and follow the stream from there."""
        from airflow_pipeops.argocd.application import observe
        from airflow_pipeops.argocd.hook import ArgoCDHook
        from airflow_pipeops.argocd.waits import look

        hook = ArgoCDHook(self.argocd_conn_id)
        async with await hook.aclient() as client:
            (wait,) = self._waits("default")
            seen = await look(client, wait.ref)
            assert seen is not None
            await wait.judge(seen)
            events: Any = client.watch(name=wait.ref.name, project="default")
            async with aclosing(events):
                latest = asyncio.ensure_future(anext(events))
                while not wait.over:
                    await asyncio.wait({latest}, timeout=wait.again_in())
                    if latest.done():
                        seen = observe(latest.result()["application"])
                        latest = asyncio.ensure_future(anext(events))
                    if (await wait.judge(seen)).refresh:
                        seen = await look(client, wait.ref, refresh=True) or seen
                        await wait.judge(seen)
                latest.cancel()
                await asyncio.gather(latest, return_exceptions=True)
        return {"decided": {wait.ref.name: wait.state.to_json()}}


WAYS: dict[str, tuple[type[ArgoCDWaitTrigger], float]] = {
    "shared": (ArgoCDWaitTrigger, 10.0),
    "poll": (PollingTrigger, 10.0),
    "stream": (StreamingTrigger, 10.0),
}


class Server:
    """The stand-in, in a process of its own."""

    def __init__(self, apps: int, resources: int) -> None:
        command = [sys.executable, str(HERE / "argocd_server.py"), "0", str(apps), str(resources)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


async def first_looks(
    url: str, names: list[str], poll_interval: float, way: type[ArgoCDWaitTrigger]
) -> list[Any]:
    """Look once at each application, as the tasks do before they are deferred; return their triggers."""
    from airflow_pipeops.argocd.clients.protocol import AppRef
    from airflow_pipeops.argocd.clients.rest import ArgoCDClient
    from airflow_pipeops.argocd.waits import ArgoCDController, wait_to_json
    from airflow_pipeops.waits.controller import look_once
    from airflow_pipeops.waits.verdict import Expectation
    from tests.waits.judging import Wait

    waits = [
        Wait(AppRef(name, "default"), Expectation(revisions={"*": NEW}, settle=SETTLE, timeout=3600.0))
        for name in names
    ]
    async with ArgoCDClient(url, "token") as client:
        await look_once(ArgoCDController(client), waits)
    return [
        way(argocd_conn_id="argocd_default", waits=[wait_to_json(wait)], poll_interval=poll_interval)
        for wait in waits
    ]


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _HERTZ


def resident(pid: int, what: str = "VmRSS") -> int:
    """Return kilobytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(what):
            return int(line.split()[1])
    return 0


def measure(way: str, waits: int, steady: float, spread: float, resources: int) -> dict[str, Any]:
    """Run one way, and return its figures."""
    sys.path.insert(0, str(HERE.parent / "argocd"))
    from triggerer import Triggerer

    trigger, interval = WAYS[way]
    server = Server(waits, resources)
    folder = Path(tempfile.mkdtemp(prefix="waits-"))
    connection = {
        "conn_type": "argocd",
        "host": server.url,
        "password": "token",
        "extra": '{"project": "default"}',
    }
    python_path = os.pathsep.join((str(HERE.parents[1]), str(HERE)))
    runner = Triggerer(folder, {"argocd_default": connection}, environment={"PYTHONPATH": python_path})
    try:
        names = list(server.ask("/figures")["green"])
        triggers = asyncio.run(first_looks(server.url, names, interval, trigger))
        before = server.ask("/figures")["requests"]
        server.ask("/forget-peaks", "POST")
        runner.start()
        runner.until(lambda: runner.asked["TriggerStateChanges"] >= 3, 120.0)
        empty, cpu_start = resident(runner.pid), cpu(runner.pid)
        begun = time.monotonic()
        for one in triggers:
            one.__class__.__module__ = "airflow_pipeops.argocd.triggers" if way == "shared" else "waits"
            runner.add(one)
        runner.until(lambda: not runner.failures and len(runner._given) == waits, 300.0)
        time.sleep(15.0)  # until the last have come to rest
        loaded, cpu_loaded, started = resident(runner.pid), cpu(runner.pid), time.monotonic() - begun
        quiet = server.ask("/figures")["requests"]
        time.sleep(steady)
        calm, cpu_calm = server.ask("/figures")["requests"], cpu(runner.pid)
        server.ask(f"/go?spread={spread}", "POST")
        runner.until(lambda: len(runner.events) + len(runner.failures) >= waits, spread + 600.0)
        figures, cpu_end = server.ask("/figures"), cpu(runner.pid)
        lasted = time.monotonic() - begun
        peak = resident(runner.pid, "VmHWM")
        decided = runner.decided()
        assert len(decided) == waits, (len(decided), runner.failures[:3], runner.tail())
        assert {one["verdict"]["state"] for one in decided.values()} == {"done"}
        late = sorted(
            at - figures["green"][app] - SETTLE
            for _, payload, at in runner.events
            for app in payload["decided"]
        )
        requests = {kind: count - before.get(kind, 0) for kind, count in figures["requests"].items()}
        return {
            "waits": waits,
            "connections": {"streams": figures["most_streams"], "all": figures["most_open"] - 1},
            "steady_requests_per_minute": round(60 * (sum(calm.values()) - sum(quiet.values())) / steady, 1),
            "requests": {
                **requests,
                "all": sum(requests.values()),
                "per_minute": round(60 * sum(requests.values()) / lasted, 1),
            },
            "cpu_seconds": {
                "starting": round(cpu_loaded - cpu_start, 2),
                "per_minute_of_waiting": round(60 * (cpu_calm - cpu_loaded) / steady, 2),
                "finishing": round(cpu_end - cpu_calm, 2),
            },
            "kb_per_wait": round((loaded - empty) / waits, 1),
            "peak_mb": round(peak / 1024),
            "latency": {
                "p50": round(statistics.median(late), 2),
                "p95": round(late[int(len(late) * 0.95)], 2),
                "worst": round(late[-1], 2),
            },
            "seconds": {"starting": round(started), "all": round(lasted)},
        }
    finally:
        runner.stop()
        server.stop()


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Compare the shared stream with the other ways."""
    ours, result = found["shared"], {}
    for way in set(found) - {"shared"}:
        other = found[way]
        calm = ours["steady_requests_per_minute"] or 1.0
        result[f"steady_requests_{way}"] = round(other["steady_requests_per_minute"] / calm, 1)
        result[f"requests_{way}"] = round(other["requests"]["per_minute"] / ours["requests"]["per_minute"], 1)
        result[f"connections_{way}"] = round(other["connections"]["all"] / ours["connections"]["all"], 1)
        result[f"streams_{way}"] = round(other["connections"]["streams"] / ours["connections"]["streams"], 1)
        result[f"cpu_{way}"] = round(
            other["cpu_seconds"]["per_minute_of_waiting"]
            / max(0.01, ours["cpu_seconds"]["per_minute_of_waiting"]),
            1,
        )
        result[f"memory_{way}"] = round(other["kb_per_wait"] / ours["kb_per_wait"], 1)
    return result


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waits", type=int, default=1000, help="waits, and applications (1000)")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="all by default")
    parser.add_argument(
        "--steady", type=float, default=60.0, help="seconds of waiting that are measured (60)"
    )
    parser.add_argument(
        "--spread", type=float, default=60.0, help="seconds over which the releases begin (60)"
    )
    parser.add_argument("--resources", type=int, default=20, help="resources of each application (20)")
    given = parser.parse_args()
    found = {}
    for way in given.ways:
        found[way] = measure(way, given.waits, given.steady, given.spread, given.resources)
        print(way, json.dumps(found[way], indent=1), flush=True)
    print(json.dumps({**found, "ratios": ratios(found) if "shared" in found and len(found) > 1 else {}}))


if __name__ == "__main__":
    main()
