"""Waits in Airflow's own triggerer through the Kubernetes API: one watch for all, cut, and its history lost."""

from __future__ import annotations

import json
import time
from pathlib import Path

from airflow_pipeops.argocd.application import observe
from airflow_pipeops.argocd.triggers import ArgoCDWaitTrigger
from tests.argocd.controller import APPLICATIONS, Controller
from tests.argocd.triggerer import Triggerer
from tests.argocd.worlds import CoreWorld
from tests.kubernetes.apiserver import serving

WAITS = 25


def connection(url: str) -> dict[str, str]:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "token"}}],
    }
    return {"conn_type": "kubernetes", "extra": json.dumps({"kube_config": config})}


def test_one_watch_for_all_waits(tmp_path: Path) -> None:
    with serving(APPLICATIONS, bookmarks=0.2) as api, Controller(api) as controller:
        world = CoreWorld(api, controller)
        apps = [world.make(automated={})[0].name for _ in range(WAITS)]
        # Nothing is done before all wait: the commit that they wait for is not there yet.
        target = f"{4711:040x}"
        triggerer = Triggerer(tmp_path, {"cluster": connection(api.url)})
        for app in apps:
            expectation = {"revisions": {"*": target}, "settle": 0.0, "timeout": 300.0}
            wait = {"app": app, "project": "default", "expectation": expectation}
            triggerer.add(ArgoCDWaitTrigger(argocd_conn_id="cluster", waits=[wait], dwell=0))
        triggerer.start()
        try:
            # All have begun, and the refreshes that they asked for, each of which is watched for a moment, are through.
            triggerer.until(lambda: sum(request.startswith("PATCH") for request in api.requests) >= WAITS)
            triggerer.until(lambda: api.open_watches == 1)
            api.compact()
            api.cut()
            triggerer.until(lambda: api.open_watches)
            controller.heads[world.repo] = target
            # Every controller looks at Git now and then.
            for app in apps:
                api.change("applications", "argocd", app, lambda found: found["status"].update(_again=True))
            triggerer.until(lambda: len(triggerer.events) == WAITS, seconds=120)
        finally:
            triggerer.stop()
        decided = triggerer.decided()
        assert set(decided) == set(apps)
        assert {one["verdict"]["state"] for one in decided.values()} == {"done"}
        assert not triggerer.failures
        # The connection is read once or twice, and not once for each wait.
        assert triggerer.asked["GetConnection"] <= 3
        watches = [request for request in api.requests if request.endswith("?watch")]
        lists = [request for request in api.requests if request == watches[0].removesuffix("?watch")]
        assert len(lists) <= 4
        # Each refresh is one patch and one watch for its acknowledgement; beside those there is the shared one.
        refreshes = [request for request in api.requests if request.startswith("PATCH")]
        assert len(watches) - len(refreshes) <= 3
        assert len(refreshes) <= 3 * WAITS


def test_a_wait_ends_when_health_has_settled_and_not_a_minute_later(tmp_path: Path) -> None:
    """The controller compares in the second in which an operation ends, and then stands still until it is asked."""
    settle = 5.0
    with serving(APPLICATIONS, bookmarks=0.2) as api, Controller(api) as controller:
        world = CoreWorld(api, controller)
        app = world.make(automated={})[0].name
        triggerer = Triggerer(tmp_path, {"cluster": connection(api.url)})
        target = f"{4712:040x}"
        expectation = {"revisions": {"*": target}, "settle": settle, "timeout": 300.0}
        wait = {"app": app, "project": "default", "expectation": expectation}
        triggerer.add(ArgoCDWaitTrigger(argocd_conn_id="cluster", waits=[wait], dwell=0))
        triggerer.start()
        try:
            triggerer.until(lambda: any(request.startswith("PATCH") for request in api.requests))
            triggerer.until(lambda: api.open_watches == 1)
            controller.heads[world.repo] = target
            api.change("applications", "argocd", app, lambda found: found["status"].update(_again=True))
            triggerer.until(lambda: len(triggerer.events) == 1, seconds=120)
            ended = observe(api.all("applications")[0]).operation
            took = time.time() - ((ended.finished_at or 0.0) if ended else 0.0)
        finally:
            triggerer.stop()
        verdict = triggerer.decided()[app]["verdict"]
        assert (verdict["state"], verdict["rule"]) == ("done", "healthy")
        # The gate for refreshes opens again after a minute; a machine may be slow, and not that slow.
        assert settle <= took < 45.0
        print(f"done {took:.1f} s after the operation, {settle:.0f} s of them to settle")
