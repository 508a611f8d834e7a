"""The cluster for tests holds what Helm itself, of both majors, puts there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_pipeops.deploy.helm.program import Helm
from tests.deploy.helm.running import NAMESPACE, chart, kubeconfig, run
from tests.kubernetes.apiserver import ApiServer


def test_a_release_is_installed_upgraded_rolled_back_and_uninstalled(
    api: ApiServer, major: str, tmp_path: Path
) -> None:
    config, web = kubeconfig(tmp_path / "config", api.url), chart(tmp_path / "web")
    run(major, config, "upgrade", "--install", "web", str(web), "--labels", "a=b")
    assert api.read("deployments", NAMESPACE, "web")["spec"]["replicas"] == 2  # type: ignore[index]
    api.change("configmaps", NAMESPACE, "web-config", lambda item: item["data"].update(by="a person"))
    run(major, config, "upgrade", "web", str(web), "--set", "greeting=ho,image=registry.example.com/web:2")
    found = api.read("configmaps", NAMESPACE, "web-config")
    assert found is not None
    assert found["data"] == {"greeting": "ho", "by": "a person"}
    containers = api.read("deployments", NAMESPACE, "web")["spec"]["template"]["spec"]["containers"]  # type: ignore[index]
    assert containers == [{"name": "web", "image": "registry.example.com/web:2"}]
    run(major, config, "rollback", "web", "1")
    history = json.loads(run(major, config, "history", "web", "--output", "json"))
    assert [one["status"] for one in history] == ["superseded", "superseded", "deployed"]
    newest = api.read("secrets", NAMESPACE, "sh.helm.release.v1.web.v3")
    assert newest is not None
    assert newest["metadata"]["labels"]["a"] == "b"
    run(major, config, "uninstall", "web")
    assert (api.all("secrets"), api.all("configmaps"), api.all("deployments")) == ([], [], [])


def test_a_trial_changes_nothing(api: ApiServer, major: str, tmp_path: Path) -> None:
    config, web = kubeconfig(tmp_path / "config", api.url), chart(tmp_path / "web")
    said = run(major, config, "upgrade", "--install", "web", str(web), "--dry-run=server", "-o", "json")
    assert "registry.example.com/web:1" in json.loads(said[said.index("{") :])["manifest"]
    assert (api.all("secrets"), api.all("configmaps")) == ([], [])


def test_the_folder_of_a_killed_task_stays_for_its_helm_and_then_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the way to the cluster and the values in it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = tmp_path / "helm"
    program.write_text("#!/bin/sh\necho $$ > begun.part; mv begun.part begun; exec sleep 600\n")
    program.chmod(0o755)
    work = f"from airflow_pipeops.deploy.helm.program import Helm\nHelm({str(program)!r}, 'shop').run('x', timeout=600)"

    def left() -> list[Path]:
        with Helm(str(program), "shop") as mine:
            return [one for one in tmp_path.glob("pipeops-helm-*") if one != mine.place]

    with subprocess.Popen([sys.executable, "-c", work]) as task:
        end = time.monotonic() + 60
        while not (begun := [*tmp_path.glob("pipeops-helm-*/begun")]):
            assert time.monotonic() < end
        pid = int(begun[0].read_text())
        task.kill()
    assert left() == [begun[0].parent]
    os.kill(pid, signal.SIGKILL)
    while left():
        assert time.monotonic() < end
