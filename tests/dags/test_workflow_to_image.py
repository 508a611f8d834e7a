"""The sixth example DAG: from a commit to production by workflows, over real Git, a real registry and the sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_pipeops.demo.stack import Stack
from tests.argo_workflows.server import serving_argo
from tests.build.test_image_in_registry import base
from tests.build.workflows.playing import playing
from tests.dags.test_example_dags import laptop, run_dag
from tests.dags.workflow_cluster import GIT_PASSWORD, WorkflowCluster
from tests.git.conftest import git, over_http
from tests.registry import LOGIN, PASSWORD, registry

__all__ = ["laptop"]
TOKEN = "argo-t0ken"


def environment(git_url: str, real: Any, argo: Any) -> dict[str, str]:
    """Return what a person would add to the demo's connections."""
    added = {
        "PIPEOPS_APP_REPO": {
            "conn_type": "git_repository", "host": git_url, "login": "airflow", "password": GIT_PASSWORD,
        },
        "CONTAINER_REGISTRY_DEFAULT": {
            "conn_type": "container_registry", "host": f"{real.host}/team", "login": LOGIN, "password": PASSWORD,
            "extra": {"ca_file": str(real.ca_file)},
        },
        "ARGO_WORKFLOWS_DEFAULT": {"conn_type": "argo_workflows", "host": argo.url, "password": TOKEN},
    }  # fmt: skip
    return {f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in added.items()}


def commit(repository: Path, work: Path, **files: str) -> str:
    """Commit files, as a person does."""
    if not work.exists():
        git("clone", "--quiet", str(repository), str(work))
    for name, content in files.items():
        (work / name).write_text(content)
    git("add", "--all", cwd=work)
    git("commit", "--quiet", "-m", f"Change {', '.join(files)}", cwd=work)
    git("push", "--quiet", "origin", "HEAD:main", cwd=work)
    return git("rev-parse", "HEAD", cwd=work)


@pytest.mark.timeout(1800)
def test_a_commit_is_built_and_tested_by_workflows_and_becomes_a_release(
    laptop: Stack, tmp_path: Path
) -> None:
    laptop.seeds.push_version(1)
    repository = laptop.seeds.app_repository
    with (
        registry(tmp_path / "registry") as real,
        over_http(repository) as http,
        serving_argo() as argo,
    ):
        base(real, tmp_path)
        containerfile = git("show", "main:Containerfile", cwd=repository)
        assert containerfile.startswith("FROM python:3.12-slim\n")
        ours = containerfile.replace("python:3.12-slim", f"{real.host}/base/shell:1") + "\n"
        sha = commit(repository, tmp_path / "clone", Containerfile=ours)
        argo.tokens[TOKEN] = argo.tokens["token"]
        cluster = WorkflowCluster(argo, tmp_path / "cluster", real, laptop.home / "artifacts")
        env = environment(http.url, real, argo)

        with playing(argo, *[(cluster.step,)] * 4):
            found = run_dag(laptop, "workflow_to_image", env=env)
        assert found["state"] == "success", found["log"][-5000:]
        assert httpx.get(laptop.endpoint("delay-api-production") + "/version").json() == {"version": "1"}
        assert [kind_of(one) for one in argo.workflows()] == ["pipeops-build", "pipeops-test"]
        assert {one["metadata"]["labels"]["pipeops/commit"] for one in argo.workflows()} == {sha}
        bodies = {extra["kind"]: extra["body"] for extra in found["emitted"]}
        digest = bodies["image"]["digest"]
        assert real.manifest("team/delay-api", digest)
        assert bodies["validation"]["passed"] == 5
        assert bodies["image"]["workflow"] == argo.workflows()[0]["metadata"]["name"]

        # The same image is there: it is not built again, and is tested in a workflow of this run.
        with playing(argo, (), (), (cluster.step,)):
            again = run_dag(laptop, "workflow_to_image", {"environment": "staging"}, env=env)
        assert again["state"] == "success", again["log"][-5000:]
        assert [kind_of(one) for one in argo.workflows()].count("pipeops-build") == 1

        # A test that fails shuts the gate before anything is deployed.
        broken = "def test_it_works():\n    assert 1 == 2, 'so it does not'\n"
        commit(repository, tmp_path / "clone", **{"tests/test_broken.py": broken})
        with playing(argo, (), (), (), (cluster.step,), (cluster.step,)):
            failed = run_dag(laptop, "workflow_to_image", env=env)
        assert failed["tasks"]["test"] == "failed"
        assert failed["tasks"]["promote_to_staging"] == "upstream_failed"
        assert "so it does not" in failed["log"]

        told = json.dumps([argo.writes, argo.workflows(), found, again, failed])
        for secret in (GIT_PASSWORD, PASSWORD, TOKEN):
            assert secret not in told


def kind_of(workflow: dict[str, Any]) -> str:
    return str(workflow["spec"]["workflowTemplateRef"]["name"])
