"""The demo's repositories: what they hold must render, and each version must behave as the story says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml

from airflow_pipeops.demo.preflight import Ports, kubectl
from airflow_pipeops.demo.seeds import DELIVERABLES, ENVIRONMENTS, PROMPT, VERSIONS, Seeds


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Seeds:
    planted = Seeds(tmp_path_factory.mktemp("demo"), Ports(nodes=31000).endpoints)
    planted.plant()
    return planted


def clone(repository: Path, folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(repository), str(folder)], check=True)
    return folder


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("deliverable", [*DELIVERABLES, PROMPT])
def test_an_overlay_renders_as_the_cluster_will_see_it(
    seeds, tmp_path, deliverable: str, environment: str
) -> None:
    folder = (
        clone(seeds.deploy_repository, tmp_path / "deploy") / "apps" / deliverable / "overlays" / environment
    )
    render = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=True)
    objects = {item["kind"]: item for item in yaml.safe_load_all(render.stdout)}
    assert objects["Deployment"]["spec"]["replicas"] == (deliverable == PROMPT)
    assert objects["Deployment"]["metadata"]["namespace"] == f"{deliverable}-{environment}"
    expected = Ports(nodes=31000).endpoints[f"{deliverable}-{environment}"]
    assert objects["Service"]["spec"]["ports"][0]["nodePort"] == expected


def test_each_application_points_at_its_overlay(seeds, tmp_path) -> None:
    folder = clone(seeds.deploy_repository, tmp_path / "deploy")
    applications = seeds.applications()
    assert len(applications) == 6
    for application in applications:
        assert (folder / application["spec"]["source"]["path"] / "kustomization.yaml").is_file()


def test_a_commit_changes_only_what_its_message_says(tmp_path) -> None:
    planted = Seeds(tmp_path, Ports().endpoints)
    planted.plant()
    changed = {}
    for number in sorted(VERSIONS):
        sha = planted.push_version(number)
        show = ["git", "-C", str(planted.app_repository), "show", "--name-only", "--format=%an: %s", sha]
        told, _, *files = subprocess.run(show, capture_output=True, text=True, check=True).stdout.splitlines()
        assert told == f"{VERSIONS[number][1]}: {VERSIONS[number][0].splitlines()[0]}"
        changed[number] = set(files)
    assert changed[2] == {"app.py"}
    assert changed[3] == {"app.py", "pool.py", "tests/test_pool.py"}
    assert changed[4] == {"app.py", "pool.py"}


def serve(folder: Path, **environment: str) -> tuple[subprocess.Popen, str]:
    """Start a version of the application on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": str(port), **environment}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=folder, env=env, stderr=subprocess.PIPE, text=True
    )
    return process, f"http://127.0.0.1:{port}"


def answers(process: subprocess.Popen, url: str) -> httpx.Response:
    """Wait for the first answer."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return httpx.get(url, timeout=2)
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(process.communicate(timeout=5)[1])


@pytest.mark.parametrize("number", sorted(VERSIONS))
def test_versions_behave_as_the_story_says(seeds, tmp_path, number: int) -> None:
    sha = seeds.push_version(number)
    folder = clone(seeds.app_repository, tmp_path / "app")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert head.stdout.strip() == sha
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=folder, capture_output=True
    )
    assert tests.returncode == 0, "each version passes its own tests"

    process, url = serve(folder)
    try:
        if number == 2:
            assert process.wait(20) != 0, "it cannot start without a setting that nobody provides"
            return
        assert answers(process, f"{url}/version").json() == {"version": str(number)}
        with httpx.Client(base_url=url) as client:
            healths = [client.get("/healthz").status_code for _ in range(200)]
            assert healths == [200] * 200, "it comes up well, and being asked how it is harms no version"
            began = time.monotonic()
            assert client.get("/delays/jfk").json()["origin"] == "JFK"
            assert number != 4 or time.monotonic() - began >= 0.15, "version 4 asks the store once more"
            with ThreadPoolExecutor(8) as users:
                list(users.map(lambda _: client.get("/delays/jfk"), range(60)))
            unwell = client.get("/healthz").status_code == 503
        assert unwell == (number == 3), "only version 3 degrades, by its users' requests"
    finally:
        process.kill()
        process.communicate()
