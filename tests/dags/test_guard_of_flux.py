"""The guard takes back what Flux released: a real DAG run waits for it, another one guards, and the revert goes live."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_pipeops.demo.stack import Stack
from tests.dags.test_example_dags import data_only, run_dag
from tests.dags.test_guard_of_pushed import BUNDLES, LOCAL, kubeconfig
from tests.flux.conftest import NAMESPACE, Flux, api, flux, warm
from tests.flux.world import Commit
from tests.git.conftest import FILE, Remote, remote
from tests.threads import repeated

__all__ = ["api", "data_only", "flux", "remote", "warm"]

RELEASE = """
from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_pipeops import Deliverable, FluxReadySensor

with DAG("release", schedule=None, params={"commit": Param("", type="string")}) as release:
    FluxReadySensor(
        task_id="live", name="apps", revision="{{ params.commit }}", git_conn_id="pipeops_gitops_repo",
        deliverable=Deliverable("delay-api"), environment="production", deferrable=False,
        poll_interval=timedelta(seconds=0.1),
    )
"""


@contextmanager
def followed(flux: Flux, remote: Remote) -> Iterator[None]:
    """Let the world of Flux have the commits of a repository; one whose image is bad falls ill once it was live."""

    def work() -> None:
        tip = remote.tip()
        if not flux.world.commits or flux.world.commits[-1].sha != tip:
            flux.world.commits.append(Commit(tip))
        flux.kustomize.due = flux.kustomize.phase == "idle"  # as at a short interval

    with repeated(0.1, work):
        yield


@pytest.mark.nightly
@pytest.mark.timeout(3600)  # at a load of 50 on 2 cores, 1200 s ended while the guard was under way
def test_what_flux_released_is_taken_back_by_a_commit(
    data_only: Stack, flux: Flux, remote: Remote, tmp_path: Path
) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "release.py").write_text(RELEASE)
    own = {"name": "own", "classpath": LOCAL, "kwargs": {"path": str(tmp_path / "dags")}}
    bundles = json.dumps([*json.loads(data_only.environment[BUNDLES]), own])
    cluster = {"kube_config": kubeconfig(flux.api), "namespace": NAMESPACE}
    connections = {
        "KUBERNETES_DEFAULT": {"conn_type": "kubernetes", "extra": cluster},
        "PIPEOPS_GITOPS_REPO": {"conn_type": "git_repository", "host": str(remote.path)},
    }
    env = {f"AIRFLOW_CONN_{name}": json.dumps(one) for name, one in connections.items()} | {BUNDLES: bundles}
    good = remote.show()
    flux.install()
    with followed(flux, remote):
        flux.start()
        bad = remote.commit("release", **{FILE: good.replace("digest: old", "digest: new")})
        assert remote.show() != good
        run = run_dag(data_only, str(tmp_path / "dags" / "release"), {"commit": bad}, env=env, timeout=1500)
        assert run["state"] == "success", run["log"][-5000:]
        flux.world.find(bad).health = None
        guard = run_dag(data_only, "release_guard", {"deliverable": "delay-api"}, env=env, timeout=1500)
    assert guard["state"] == "success", guard["log"][-5000:]
    wanted = {
        "watch_flux": "success", "revert": "success", "recovered_flux": "success", "incident": "success",
        "watch": "skipped", "watch_pushed": "skipped", "recovered": "skipped", "undo": "skipped",
    }  # fmt: skip
    assert {task: guard["tasks"][f"delay_api.{task}"] for task in wanted} == wanted
    assert remote.show() == good
    assert flux.world.healthy == remote.tip()
    (incident,) = [one for one in guard["emitted"] if one["kind"] == "incident"]
    assert f"at {bad[:8]}" in incident["body"]["what"]
    assert incident["body"]["bad_revision"] == bad
