"""How soon after its operation has ended a release is told, beyond the settle window, in four ways.

Automatic synchronisation (``ArgoCDAppSensor``) or by hand (``ArgoCDSyncOperator``), through Argo CD's REST API or through
the Kubernetes API. Each task's first look is the worker's own; then it is deferred, and a real TriggerRunner in a process of
its own goes on. The controllers compare once after an operation, often in its last second, and then stand still until they
are asked: that of the REST API is the sandbox's, with a real repository, the other is that of the tests.

From the moment at which the end of the operation can be read, to the event at the supervisor; seconds. The supervisor hears
of events about once a second, and the end of an operation is told in whole seconds: both are part of it.

Run: python tests/benchmarks/settling.py [--apps 5] [--settle 5] [--mode poll]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

WAYS = ("auto, REST", "by hand, REST", "auto, Kubernetes", "by hand, Kubernetes")


class Rest:
    """The sandbox: a real repository, a reconciler that compares by itself once in ten minutes."""

    def __init__(self, folder: Path) -> None:
        from tests.demo.sandbox.conftest import Repository, Server

        self.server = Server(folder / "state", interval=600.0)
        self.repository = Repository(folder / "desired")
        self.connection = {
            "conn_type": "argocd",
            "host": self.server.url,
            "password": self.server.tokens["deployer"],
            "extra": json.dumps({"project": "default"}),
        }

    def make(self, name: str, *, automated: bool) -> None:
        source = {"repoURL": self.repository.url, "path": name, "targetRevision": "main"}
        spec: dict[str, Any] = {
            "project": "default",
            "source": source,
            "destination": {"server": "https://kubernetes.default.svc", "namespace": name},
        }
        if automated:
            spec["syncPolicy"] = {"automated": {}}
        self.server.call(
            "POST", "/api/v1/applications?validate=false", {"metadata": {"name": name}, "spec": spec}
        )

    def commit(self, names: list[str], value: str) -> str:
        text = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": {"value": value},
        }
        return self.repository.write({f"{name}/settings.json": json.dumps(text) for name in names})

    def notice(self, name: str) -> None:
        """Have the commit noticed, as by a webhook."""
        self.server.call("GET", f"/api/v1/applications/{name}?refresh=normal")

    def read(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.server.call("GET", f"/api/v1/applications/{name}")
        return found

    def stop(self) -> None:
        self.server.stop()


class Kubernetes:
    """The API server for tests, with a thread that plays the controller."""

    repository = "https://git.example.com/desired.git"

    def __init__(self, folder: Path) -> None:
        from tests.argocd.controller import APPLICATIONS, Controller
        from tests.argocd.test_core_triggerer import connection
        from tests.kubernetes.apiserver import serving

        self._open = contextlib.ExitStack()
        self.api = self._open.enter_context(serving(APPLICATIONS, bookmarks=0.2))
        self.controller = Controller(self.api)
        self.connection = connection(self.api.url)
        self._commits = 0

    def make(self, name: str, *, automated: bool) -> None:
        from tests.argocd.worlds import spec

        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": name, "namespace": "argocd"},
            "spec": spec(self.repository, name, {} if automated else None),
        }
        self.api.put("argoproj.io", "v1alpha1", "applications", body)

    def commit(self, names: list[str], value: str) -> str:
        self._commits += 1
        self.controller.heads[self.repository] = f"{self._commits:040x}"
        if self._commits == 1:
            self._open.enter_context(self.controller)
        return self.controller.heads[self.repository]

    def notice(self, name: str) -> None:
        self.api.change("applications", "argocd", name, lambda found: found["status"].update(_again=True))

    def read(self, name: str) -> Mapping[str, Any]:
        return next(one for one in self.api.all("applications") if one["metadata"]["name"] == name)

    def stop(self) -> None:
        self._open.close()


def until(fact: Callable[[], Any], seconds: float = 120.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := fact()):
        if time.monotonic() > end:
            raise TimeoutError(f"{fact} did not come true")
        time.sleep(0.05)
    return found


def ended(world: Any, name: str, commit: str) -> str:
    """Return when the operation at a commit ended, by the server; empty while it has not."""
    state = (world.read(name).get("status") or {}).get("operationState") or {}
    at = (state.get("syncResult") or {}).get("revision")
    return str(state.get("finishedAt") or "") if at == commit and state.get("phase") == "Succeeded" else ""


def first_look(name: str, commit: str, *, automated: bool, settle: float) -> Any:
    """Run the task up to its deferral, and return the trigger."""
    from airflow.sdk.exceptions import TaskDeferred
    from airflow.sdk.execution_time.context import OutletEventAccessors

    from airflow_pipeops.argocd.operators import ArgoCDSyncOperator
    from airflow_pipeops.argocd.sensors import ArgoCDAppSensor

    cls: Any = ArgoCDAppSensor if automated else ArgoCDSyncOperator
    task = cls(
        task_id=name,
        app=name,
        project="default",
        revision=commit,
        settle=timedelta(seconds=settle),
        deferrable=True,
    )
    ti = SimpleNamespace(dag_id="dag", run_id=commit, task_id=name, map_index=-1, try_number=1)
    try:
        task.execute({"ti": ti, "outlet_events": OutletEventAccessors()})
    except TaskDeferred as deferred:
        return deferred.trigger
    raise AssertionError(f"{name} was done at its first look")


@contextlib.contextmanager
def watching(world: Any, names: list[str], commit: str) -> Iterator[dict[str, float]]:
    """Note when the end of each operation can be read first."""
    seen: dict[str, float] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05) and len(seen) < len(names):
            for name in names:
                if name not in seen and ended(world, name, commit):
                    seen[name] = time.monotonic()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def measure(way: str, apps: int, settle: float, mode: str, folder: Path) -> dict[str, Any]:
    """Measure one way, with so many applications at the same time."""
    from tests.argocd.triggerer import Triggerer

    automated = way.startswith("auto")
    world: Any = (Rest if way.endswith("REST") else Kubernetes)(folder)
    world.connection["extra"] = json.dumps(
        {**json.loads(world.connection["extra"]), "mode" if way.endswith("REST") else "argocd_mode": mode}
    )
    names = [f"app-{number}" for number in range(apps)]
    os.environ["AIRFLOW_CONN_ARGOCD_DEFAULT"] = json.dumps(world.connection)
    (folder / "airflow").mkdir()
    triggerer = Triggerer(folder / "airflow", {"argocd_default": world.connection})
    try:
        triggerer.start()
        # It asks for its rows once it runs; before that it imports Airflow for some seconds.
        triggerer.until(lambda: triggerer.asked["TriggerStateChanges"] > 1)
        commit = world.commit(names, "1")
        for name in names:
            world.make(name, automated=automated)
            until(
                lambda name=name: ((world.read(name).get("status") or {}).get("sync") or {}).get("revision")
            )
        if automated:
            until(lambda: all(ended(world, name, commit) for name in names))
            # A release long ago, not one of this second.
            time.sleep(2.0)
            commit = f"{10**6:040x}" if way.endswith("Kubernetes") else world.commit(names, "2")
        with watching(world, names, commit) as seen:
            rows = {}
            for name in names:
                rows[triggerer.add(first_look(name, commit, automated=automated, settle=settle))] = name
            if automated and way.endswith("Kubernetes"):
                world.controller.heads[world.repository] = commit
            if automated:
                for name in names:
                    world.notice(name)
            triggerer.until(lambda: len(triggerer.events) + len(triggerer.failures) == len(names), 180.0)
        decided = triggerer.decided()
        assert {one["verdict"]["state"] for one in decided.values()} == {"done"}, decided
        took = sorted(at - seen[rows[row]] for row, _, at in triggerer.events)
    finally:
        triggerer.stop()
        world.stop()
    beyond = [one - settle for one in took]
    return {"way": way, "median": round(statistics.median(beyond), 2), "worst": round(max(beyond), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--apps", type=int, default=5)
    parser.add_argument("--settle", type=float, default=5.0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--mode", default="auto", help="of the connection: auto, stream or poll")
    arguments = parser.parse_args()
    for way in arguments.ways:
        with tempfile.TemporaryDirectory(prefix="pipeops-settling-") as folder:
            print(
                json.dumps(measure(way, arguments.apps, arguments.settle, arguments.mode, Path(folder))),
                flush=True,
            )


if __name__ == "__main__":
    main()
