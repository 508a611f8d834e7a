"""Airflow's own triggerer, killed after its watchers fired and before their events are in the database: nothing is lost."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.argocd.watchers import ArgoCDReleasedTrigger
from airflow_pipeops.flux.kinds import KINDS
from airflow_pipeops.flux.watchers import FluxReadyTrigger
from airflow_pipeops.git.triggers import GitPushTrigger
from airflow_pipeops.validation.triggers import DataBatchTrigger
from tests.argocd.conftest import Script
from tests.flux.conftest import NAMESPACE, connect
from tests.flux.objects import git as source
from tests.flux.objects import ks
from tests.git.conftest import git
from tests.kubernetes.apiserver import ApiServer, serving
from tests.once import airflow_database
from tests.warm import AIRFLOW, Running, Warm

ROOT = Path(__file__).resolve().parents[2]
POLL = 0.2
#: Each watcher, and where its payload has what :class:`World` has changed.
WATCHERS = {
    "push": (GitPushTrigger("repo", poll_interval=POLL), "commit"),
    "batch": (DataBatchTrigger(poll_interval=POLL), "name"),
    "release": (ArgoCDReleasedTrigger(apps=["api"], poll_interval=POLL), "revision"),
    "ready": (FluxReadyTrigger(names=["apps"], poll_interval=POLL), "revision"),
}
#: Stores the watchers as the parsing of a DAG does, each for two assets.
_STORE = """
import json, sys
from airflow.models.asset import AssetActive, AssetModel, AssetWatcherModel
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
with create_session() as session:
    for kind, (path, arguments) in json.loads(sys.argv[1]).items():
        trigger = Trigger(classpath=path, kwargs=arguments)
        session.add(trigger)
        for name in (f"{kind}-a", f"{kind}-b"):
            asset = AssetModel(name=name, uri=f"x://{name}", group="asset", extra={})
            session.add_all([asset, AssetActive.for_asset(asset)])
            session.flush()
            session.add(AssetWatcherModel(name=name, asset_id=asset.id, trigger_id=trigger.id))
"""


class World:
    """What the watchers look at."""

    def __init__(self, folder: Path, script: Script, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.script, self.api = folder, script, api
        git("init", "--quiet", "--bare", "--initial-branch=main", str(folder / "repo"))
        git("clone", "--quiet", str(folder / "repo"), str(folder / "work"))
        (folder / "batches").mkdir()
        connections = {
            "REPO": {"conn_type": "git_repository", "host": str(folder / "repo")},
            "PIPEOPS_DATA": {"conn_type": "pipeops_storage", "host": (folder / "batches").as_uri()},
            "ARGOCD_DEFAULT": {"conn_type": "argocd", "host": script.url, "password": "token"},
        }
        for name, connection in connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
        connect(monkeypatch, api.url)
        script.answers = [(404, {"code": 5, "message": "no stream here"})]
        for item in (source(f"{0:040x}"), ks(f"{0:040x}")):
            api.put(*KINDS[item["kind"]], item)

    def change(self, number: int) -> dict[str, str]:
        """Push a commit, add a batch, release an application and reconcile an object.

        :return: how the payload of each names what is new.
        """
        revision = f"{number:040x}"
        git("commit", "--quiet", "--allow-empty", "-m", str(number), cwd=self.folder / "work")
        git("push", "--quiet", "origin", "HEAD:main", cwd=self.folder / "work")
        batch = f"batch-{number:04}.parquet"
        (self.folder / "batches" / batch).write_bytes(b"data")
        live = {
            "metadata": {"name": "api", "uid": "u"},
            "spec": {"project": "default", "source": {"repoURL": "https://git/x"}},
            "status": {
                "health": {"status": "Healthy"},
                "sync": {"status": "Synced", "revision": revision},
                "history": [{"id": number, "revision": revision}],
            },
        }
        self.script.routes = {"/applications/api": (200, live)}
        for item in (source(revision), ks(revision)):
            plural, name = KINDS[item["kind"]][2], item["metadata"]["name"]
            self.api.change(
                plural,
                NAMESPACE,
                name,
                lambda one, item=item: one.update(spec=item["spec"], status=item["status"]),
            )
        commit = git("rev-parse", "HEAD", cwd=self.folder / "work")
        return {"push": commit, "batch": batch, "release": revision, "ready": revision}


class Airflow:
    """A database, and a triggerer that is killed and started again."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.database = home / "airflow.db"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
        }
        self._process: Running | None = None
        airflow_database(home)
        self.warm = Warm(environment, (*AIRFLOW, "airflow.jobs.triggerer_job_runner"))
        watchers = json.dumps({kind: one.serialize() for kind, (one, _) in WATCHERS.items()})
        done = self.warm.run("-c", _STORE, watchers)
        assert done.returncode == 0, done.stderr[-3000:]

    def start(self) -> None:
        """Start the triggerer."""
        self._process = self.warm.start("-m", "airflow", "triggerer", "--skip-serve-logs")

    def kill(self) -> None:
        """Kill it with all its processes, and give its triggers free, as another triggerer does after a while."""
        if self._process is None:
            return
        self._process.kill()
        with closing(sqlite3.connect(self.database, timeout=20)) as connection, connection:
            connection.execute("UPDATE trigger SET triggerer_id = NULL")

    def said(self) -> str:
        """Return the log of the running triggerer."""
        assert self._process is not None
        return self._process.said()

    def fired(self, new: dict[str, str]) -> set[str]:
        """Return the kinds of watcher that have fired for these news since its start."""
        lines = [line for line in self.said().splitlines() if "Trigger fired event" in line]
        numbers = {kind: f"ID {number}" for number, kind in enumerate(WATCHERS, 1)}
        return {
            kind
            for kind, value in new.items()
            if any(value in line and numbers[kind] in line for line in lines)
        }

    def query(self, text: str) -> list[Any]:
        """Ask the database."""
        with closing(sqlite3.connect(self.database, timeout=20)) as connection:
            return connection.execute(text).fetchall()

    def events(self) -> dict[str, list[dict[str, Any]]]:
        """Return the payloads of the events in the database, by asset."""
        found: dict[str, list[dict[str, Any]]] = {}
        rows = self.query(
            "SELECT a.name, e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id ORDER BY e.id"
        )
        for name, extra in rows:
            found.setdefault(name, []).append(json.loads(extra)["payload"])
        return found

    def stored(self, new: dict[str, str]) -> set[str]:
        """Return the kinds whose news both assets have."""
        found = self.events()
        return {
            kind
            for kind, value in new.items()
            if all(
                any(value in one[WATCHERS[kind][1]] for one in found.get(f"{kind}-{asset}", ()))
                for asset in "ab"
            )
        }

    def until(self, fact: Callable[[], Any], pause: float = 0.2, seconds: float = 120.0) -> None:
        """Wait for a fact."""
        end = time.monotonic() + seconds
        while not fact():
            assert time.monotonic() < end, self.said()[-5000:]
            time.sleep(pause)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    script = Script()
    threading.Thread(target=script.server.serve_forever, args=(0.05,), daemon=True).start()
    with serving(*((*place, True) for place in KINDS.values()), bookmarks=0.1) as api:
        yield World(tmp_path, script, api, monkeypatch)
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture
def airflow(world: World, tmp_path: Path) -> Iterator[Airflow]:
    made = Airflow(tmp_path / "airflow")
    yield made
    made.kill()
    made.warm.stop()


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(1, marks=pytest.mark.timeout(1800)),
        pytest.param(50, marks=[pytest.mark.nightly, pytest.mark.timeout(7200)]),
    ],
)
def test_a_triggerer_that_is_killed_before_its_events_are_stored_loses_none(
    world: World, airflow: Airflow, kills: int
) -> None:
    """Killed until each kind of watcher has met the window so many times."""
    window: Counter[str] = Counter()
    world.change(1)
    airflow.start()
    # Where the watchers stand at first is kept; a batch that is there already is news.
    airflow.until(lambda: len(airflow.query("SELECT * FROM asset_state_store")) == 2 * len(WATCHERS))
    number = 1
    while min(window[kind] for kind in WATCHERS) < kills:
        number += 1
        assert number < 20 * kills + 10, window
        aimed_at = min(WATCHERS, key=lambda kind: window[kind])
        new = world.change(number)
        airflow.until(lambda new=new, aimed_at=aimed_at: aimed_at in airflow.fired(new), pause=0.01)
        airflow.kill()
        window.update(airflow.fired(new) - airflow.stored(new))
        airflow.start()
        airflow.until(lambda new=new: airflow.stored(new) == set(WATCHERS))
    print(f"fired and not stored when it was killed, in {number - 1} kills: {dict(window)}")
    for asset, payloads in airflow.events().items():
        field = WATCHERS[asset[:-2]][1]
        keys: dict[str, set[str]] = {}
        for one in payloads:
            keys.setdefault(one[field], set()).add(one["key"])
        assert all(len(found) == 1 for found in keys.values()), "an event that is told again has the same key"
        assert len(set().union(*keys.values())) == len(keys)
