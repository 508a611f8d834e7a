"""What the chart's own pods run: the commands, arguments and variables as rendered, as processes of this machine."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from airflow_pipeops.demo.airflow_api import AirflowApi
from airflow_pipeops.demo.cluster.planting import write_desired_state
from airflow_pipeops.demo.cluster.trial import DAG, Trial
from airflow_pipeops.demo.preflight import kubectl
from airflow_pipeops.demo.seeds import DELIVERABLES, ENVIRONMENTS
from airflow_pipeops.exceptions import Conflict, InvalidInput, PipeOpsError, SystemFailure, Unreachable
from airflow_pipeops.git.repository import GitRepository
from tests.git.conftest import git
from tests.helm.combinations import IMAGE
from tests.helm.test_chart import render
from tests.servers import free_ports
from tests.ui.conftest import Server, running

PASSWORD = "s3cret/tok+en"
REGISTRY = "registry.example.com/team"


def values(url: str, password: str = PASSWORD) -> dict[str, Any]:
    """Return the values of a trial, whose Git server is asked at an address of this machine."""
    connections = {
        name: {
            "conn_type": "git_repository",
            "host": f"{url}/{file}",
            "login": "airflow",
            "password": password,
        }
        for name, file in (("pipeops_app_repo", "delay-api.git"), ("pipeops_gitops_repo", "deploy.git"))
    }
    return {
        "image": IMAGE,
        "connections": {"values": connections},
        "git": {"enabled": True},
        "examples": {"gitops": "argocd", "registry": REGISTRY, "seed": {"enabled": True}},
        "tests": {"release": {"enabled": True, "secret": "airflow-admin", "url": "http://127.0.0.1:9"}},
    }


def command(found: list[dict[str, Any]], kind: str, **replaced: str) -> tuple[list[str], dict[str, str]]:
    """Return what the container of an object runs, and its variables, with those of Secrets read."""
    item = next(one for one in found if one["kind"] == kind)
    (container,) = item["spec"]["template"]["spec"]["containers"]
    secrets = {one["metadata"]["name"]: one["data"] for one in found if one["kind"] == "Secret"}
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    for one in container["env"]:
        ref = one.get("valueFrom", {}).get("secretKeyRef")
        env[one["name"]] = (
            base64.b64decode(secrets[ref["name"]][ref["key"]]).decode() if ref else one["value"]
        )
    words = [word.replace(old, new) for word in container["args"] for old, new in [_swap(word, replaced)]]
    assert container["command"][0] == "python"
    return [sys.executable, *container["command"][1:], *words], env


def _swap(word: str, replaced: dict[str, str]) -> tuple[str, str]:
    return next(((old, new) for old, new in replaced.items() if old in word), ("", ""))


@dataclass
class Trials:
    """A Git server as the chart runs it.

    :param url: where it is asked.
    :param root: the folder of its repositories.
    """

    url: str
    root: Path

    def seed(self, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        """Run the seed as the chart does."""
        words, env = command(render(values(self.url, password)), "Job")
        env["AIRFLOW_HOME"] = str(self.root / "home")
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    root, port = tmp_path_factory.mktemp("git"), free_ports(1)
    url = f"http://127.0.0.1:{port}"
    words, env = command(
        render(values(url)), "StatefulSet", **{"/repositories": str(root), "8080": str(port)}
    )
    whole = [*words, "--host=127.0.0.1"]
    with subprocess.Popen(whole, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "serving" in process.stdout.readline()
        yield Trials(url, root)
        process.terminate()
        assert process.wait(60) == 0, "it ends when Kubernetes asks it to"


def test_the_server_is_well_and_everybody_may_read_but_not_write(trials: Trials, tmp_path: Path) -> None:
    assert httpx.get(f"{trials.url}/healthz").status_code == 200
    git("clone", "--quiet", f"{trials.url}/delay-api.git", str(tmp_path / "mine"))
    refs = f"{trials.url}/delay-api.git/info/refs?service=git-receive-pack"
    assert httpx.get(refs).status_code == 401
    assert httpx.get(refs, auth=("airflow", "wrong")).status_code == 401
    assert httpx.get(refs, auth=("airflow", PASSWORD)).status_code == 200
    assert httpx.post(f"{trials.url}/delay-api.git/git-receive-pack", content=b"0000").status_code == 401
    spelt = f"{trials.url}/delay-api.git/info/refs?service=git%2Dreceive-pack"
    assert httpx.get(spelt).status_code == 403
    assert httpx.get(f"{trials.url}/../../etc/passwd").status_code == 404


def test_the_seed_plants_both_repositories_and_then_leaves_them_alone(trials: Trials, tmp_path: Path) -> None:
    refused = trials.seed("wrong-password")
    assert refused.returncode == 1
    assert "wrong-password" not in refused.stdout + refused.stderr
    first = trials.seed()
    assert first.returncode == 0, first.stderr
    tips = [git("rev-parse", "main", cwd=trials.root / name) for name in ("delay-api.git", "deploy.git")]
    again = trials.seed()
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is left alone") == 2
    assert [git("rev-parse", "main", cwd=trials.root / n) for n in ("delay-api.git", "deploy.git")] == tips
    for application in (one for one in render(values(trials.url)) if one["kind"] == "Application"):
        source = application["spec"]["source"]
        listed = git(
            "ls-tree",
            "--name-only",
            f"{source['targetRevision']}:{source['path']}",
            cwd=trials.root / "deploy.git",
        )
        assert "kustomization.yaml" in listed.splitlines()
        assert urlsplit(source["repoURL"]).path == "/deploy.git"
    assert "app.py" in git("ls-tree", "--name-only", "main", cwd=trials.root / "delay-api.git")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("deliverable", DELIVERABLES)
def test_what_is_planted_runs_in_a_restricted_namespace_out_of_the_registry(
    tmp_path: Path, deliverable: str, environment: str
) -> None:
    from tests.helm.policy import violations

    write_desired_state(tmp_path, f"{REGISTRY}/", IMAGE)
    overlay = tmp_path / "apps" / deliverable / "overlays" / environment
    done = subprocess.run([kubectl(), "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    found = {item["kind"]: item for item in yaml.safe_load_all(done.stdout)}
    assert found["Service"]["spec"]["type"] == "ClusterIP"
    assert "nodePort" not in found["Service"]["spec"]["ports"][0]
    assert found["Deployment"]["metadata"]["namespace"] == f"{deliverable}-{environment}"
    image = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"]
    expected = {"delay-api": f"{REGISTRY}/delay-api@sha256:{'0' * 64}", "flight-delay": IMAGE}
    assert image == expected[deliverable]
    assert violations(found["Deployment"]) == []


@pytest.mark.parametrize(
    ("image", "written"),
    [
        ("registry:5000/a/pipeops:1.2", {"newName": "registry:5000/a/pipeops", "newTag": "1.2"}),
        ("registry:5000/a/pipeops", None),
        ("pipeops", None),
    ],
)
def test_the_image_that_serves_models_has_a_version(tmp_path: Path, image: str, written: Any) -> None:
    if written is None:
        with pytest.raises(InvalidInput, match="names no version"):
            write_desired_state(tmp_path, REGISTRY, image)
        return
    write_desired_state(tmp_path, REGISTRY, image)
    file = tmp_path / "apps/flight-delay/overlays/staging/kustomization.yaml"
    assert yaml.safe_load(file.read_text())["images"] == [{"name": "airflow-pipeops", **written}]


def test_a_branch_that_somebody_else_began_is_not_overwritten(tmp_path: Path) -> None:
    git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "it.git"))
    repository = GitRepository(str(tmp_path / "it.git"), cache_dir=tmp_path / "cache")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = repository.begin(folder, "Begin")
    assert repository.tip() == first
    (folder / "a").write_text("2")
    with pytest.raises(SystemFailure, match="rejected"):
        repository.begin(folder, "Begin again")
    assert repository.tip() == first


# ---- helm test -----------------------------------------------------------------------------------------------------------

DAG_FILE = f"""
from airflow.sdk import DAG, Param
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG({DAG!r}, schedule=None, params={{"environment": Param("production", type="string")}}):
    EmptyOperator(task_id="build") >> EmptyOperator(task_id="staging_is_live")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real API server that knows the DAG, by the tasks that the trial looks at; nothing runs them."""
    with running(tmp_path_factory.mktemp("airflow"), dags=DAG_FILE) as found:
        yield found


@pytest.fixture
def airflow(server: Server) -> AirflowApi:
    api = AirflowApi(server.url, "admin", "pass")
    api.login()
    return api


def played(
    api: AirflowApi, known: set[str], states: dict[str, str], run_state: str, stop: threading.Event
) -> None:
    """Be the scheduler of a run that was not known: give its tasks these states, and end it."""
    while not stop.wait(0.05):
        for run in (run["dag_run_id"] for run in api.runs(DAG) if run["dag_run_id"] not in known):
            path = f"/dags/{DAG}/dagRuns/{run}"
            changes = [
                (f"{path}/taskInstances/{task}", {"new_state": state}) for task, state in states.items()
            ]
            for at, change in [*changes, *([(path, {"state": run_state})] if run_state else [])]:
                _insisted(api, at, change, stop)
            return


def _insisted(api: AirflowApi, path: str, change: dict[str, str], stop: threading.Event) -> None:
    """Change it however busy the server is: on SQLite, who reads and then writes while others write is refused at once."""
    while not stop.is_set():
        try:
            api.call("PATCH", path, json=change)
            return
        except Conflict:  # the change was made, and its answer lost
            return
        except Unreachable:
            stop.wait(0.2)


@pytest.mark.parametrize(
    ("states", "run_state", "live"),
    [
        ({"build": "success", "staging_is_live": "success"}, "success", True),
        ({"build": "success", "staging_is_live": "failed"}, "failed", False),
        # Green without the wait is not live: a task that was skipped proves nothing.
        ({"build": "success", "staging_is_live": "skipped"}, "success", False),
    ],
)
def test_the_trial_is_green_only_if_staging_is_live(
    airflow: AirflowApi, states: dict[str, str], run_state: str, live: bool
) -> None:
    told: list[str] = []
    stop = threading.Event()
    known = {run["dag_run_id"] for run in airflow.runs(DAG)}
    player = threading.Thread(target=played, args=(airflow, known, states, run_state, stop), daemon=True)
    player.start()
    trial = Trial(AirflowApi(airflow.url, "admin", "pass"), "staging", 200, told.append, pause=0.1)
    try:
        assert trial.run() is live
    finally:
        stop.set()
        player.join(60)
    (run,) = [one for one in airflow.runs(DAG) if one["dag_run_id"] in told[0]]
    assert run["conf"] == {"environment": "staging"}
    assert f"  staging_is_live: {states['staging_is_live']}" in told


def test_a_trial_that_takes_too_long_says_what_it_waited_for(airflow: AirflowApi) -> None:
    trial = Trial(AirflowApi(airflow.url, "admin", "pass"), "staging", 3, print, pause=0.1)
    with pytest.raises(PipeOpsError, match=r"waited in vain until .* ends"):
        trial.run()
    with pytest.raises(PipeOpsError, match="Airflow refused the login"):
        Trial(AirflowApi(airflow.url, "admin", "wrong"), "staging", 3, print, pause=0.1).run()
    began = time.monotonic()
    nobody = AirflowApi(f"http://127.0.0.1:{free_ports(1)}", "admin", "pass")
    with pytest.raises(PipeOpsError, match="waited in vain until Airflow answers"):
        Trial(nobody, "staging", 0.5, print, pause=0.1).run()
    assert time.monotonic() - began < 60


def test_the_program_of_the_test_pod_takes_its_arguments() -> None:
    pod = next(
        one for one in render(values("http://git")) if one["metadata"]["name"] == "pipeops-release-test"
    )
    (container,) = pod["spec"]["containers"]
    words = [sys.executable, *container["command"][1:], *container["args"]]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert "'AIRFLOW_USER' is not set" in done.stderr
    names = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
    assert names == {
        "AIRFLOW_USER": {"name": "airflow-admin", "key": "username"},
        "AIRFLOW_PASSWORD": {"name": "airflow-admin", "key": "password"},
    }
