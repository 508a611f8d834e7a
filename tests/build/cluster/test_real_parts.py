"""A build in the cluster with real parts: Git over HTTP with a password, Buildah, and a registry with TLS and a login.

What the cluster for tests does not do is done here on this machine: the containers' commands are run as the manifest says
them, each mount at a folder of its own, the Secrets as files in theirs.
"""

from __future__ import annotations

import json
import os
import shutil
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_pipeops.build.operators import BuildImageOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.exceptions import PodLost
from tests.build.cluster import running
from tests.build.cluster.test_backends import connect, fired, until
from tests.build.test_image_in_registry import Watch, base, empty_builder, files_of
from tests.build.test_image_in_registry import connect as connect_registry
from tests.kubernetes import workloads as pods
from tests.kubernetes.apiserver import ApiServer, serving
from tests.kubernetes.workloads import Pod, Step, playing
from tests.registry import LOGIN, PASSWORD, ContainerRegistry, registry

pytestmark = pytest.mark.timeout(300)
GIT_PASSWORD = "s3cret/tok+en"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def api(
    real: ContainerRegistry, http_git: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ApiServer]:
    assert shutil.which("buildah"), "Buildah is not here: run .ci/engines"
    with serving() as server:
        connect(monkeypatch, server)
        source = {
            "conn_type": "git_repository",
            "host": http_git.url,
            "login": "airflow",
            "password": GIT_PASSWORD,
        }
        monkeypatch.setenv("AIRFLOW_CONN_APP", json.dumps(source))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        connect_registry(monkeypatch, "reg", f"{real.host}/team", real)
        empty_builder(tmp_path / "containers", monkeypatch)
        real.empty()
        yield server


class Machine:
    """Runs what a pod of the cluster for tests would run.

    :param folder: for its mounts.
    """

    def __init__(self, folder: Path, real: ContainerRegistry) -> None:
        self._folder = folder
        self.secrets = folder / "secrets"
        (self.secrets / "git").mkdir(parents=True)
        (self.secrets / "logins").mkdir()
        (self.secrets / "git" / "username").write_text("airflow")
        (self.secrets / "git" / "password").write_text(GIT_PASSWORD)
        login = b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
        (self.secrets / "logins" / "config.json").write_text(
            json.dumps({"auths": {real.host: {"auth": login}}})
        )

    def script(self, pod: dict[str, Any]) -> list[Step]:
        folder = self._folder / pod["metadata"]["name"]
        folder.mkdir()
        return [
            lambda on_node: self._run(on_node, folder, "source"),
            lambda on_node: self._run(on_node, folder, "main"),
        ]

    def _run(self, on_node: Pod, folder: Path, name: str) -> None:
        work, word = folder / "work", folder / "last-word"
        work.mkdir(exist_ok=True)
        folders = {
            "/pipeops/work": work,
            "/pipeops/git": self.secrets / "git",
            "/pipeops/logins": self.secrets / "logins",
            "/dev/termination-log": word,
        }
        if name == "main":
            pods.runs()(on_node)
        else:
            on_node.running(name)
            on_node.show()
        storage = os.environ["CONTAINERS_STORAGE_CONF"]
        done = running.run(
            running.container(on_node.item, name), folders, HOME=str(folder), CONTAINERS_STORAGE_CONF=storage
        )
        on_node.say(name, *(done.stdout + done.stderr).splitlines())
        if name == "main":
            pods.ends(done.returncode, message=word.read_text() if word.exists() else "")(on_node)
        elif done.returncode:
            on_node.terminated(name, done.returncode, message=done.stderr)
            on_node.phase = "Failed"
            on_node.show()
            raise _Over


class _Over(Exception):
    """An init container has failed: nothing else of the pod begins."""


def image(real: ContainerRegistry, context: Any, sha: str, **more: Any) -> dict[str, Any]:
    options = {
        "git_secret": "git-login",
        "registry_secret": "registry-login",
        "poll_interval": timedelta(seconds=0.1),
        "cache": False,
        "deferrable": False,
        # How a private certificate authority comes into a pod: mounted by the template, and named by it.
        "pod_template": {
            "spec": {
                "containers": [
                    {"name": "any", "env": [{"name": "SSL_CERT_FILE", "value": str(real.ca_file)}]}
                ]
            }
        },
        **more.pop("backend_options", {}),
    }
    operator = BuildImageOperator(
        task_id="build",
        git_conn_id="app",
        commit=sha,
        image="shop",
        registry_conn_id="reg",
        builder="buildah",
        backend="kubernetes",
        backend_options=options,
        deliverable=Deliverable("shop"),
        **more,
    )
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        event = fired(deferred)  # type: ignore[arg-type]
        found: dict[str, Any] = getattr(operator, deferred.method_name)(
            context, event=event, **deferred.kwargs
        )
        return found


def committed(remote: Any, **files: str) -> str:
    sha: str = remote.commit("x", **files)
    return sha


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_commit_becomes_an_image_in_the_registry(
    api: ApiServer, real: ContainerRegistry, remote: Any, context: Any, tmp_path: Path, deferrable: bool
) -> None:
    base(real, tmp_path)
    text = f'FROM {real.host}/base/shell:1\nCOPY . /app/\nRUN echo "$$ $(echo built)" > /said\n'
    files = {"Containerfile": text, "app.py": "1\n", "secret.txt": "no\n", ".dockerignore": "secret.txt\n"}
    for name, content in files.items():
        remote.put(name, content)
    sha = remote.commit("x")
    machine = Machine(tmp_path / "machine", real)
    with playing(api, machine.script), Watch(PASSWORD, GIT_PASSWORD) as watch:
        done = image(real, context, sha, backend_options={"deferrable": deferrable}, base_conn_ids=["reg"])
    assert "buildah" in watch.seen, "nothing was watched"
    assert watch.found == []
    assert done["builder"] == "buildah"
    digest, manifest = real.manifest("team/shop", done["digest"])
    assert digest == done["digest"]
    assert manifest["annotations"]["org.opencontainers.image.revision"] == sha
    found = files_of(real, digest)
    assert found["app/app.py"] == "1\n"
    assert found["said"].endswith(" built\n")
    assert "app/secret.txt" not in found
    # And nobody was told a secret: not the API, not the log, not the record.
    said = json.dumps([api.all("jobs"), api.all("pods"), api.container_logs_as_text()])
    assert PASSWORD not in said
    assert GIT_PASSWORD not in said
    # The second asks the registry, and no cluster.
    api.requests.clear()
    assert image(real, context, sha, base_conn_ids=["reg"])["found"] is True
    assert api.requests == []


def test_a_step_that_fails_is_told_with_what_it_said(
    api: ApiServer, real: ContainerRegistry, remote: Any, context: Any, tmp_path: Path
) -> None:
    base(real, tmp_path)
    text = f"FROM {real.host}/base/shell:1\nRUN echo it was nothing && echo but this was >&2 && exit 3\n"
    remote.put("Containerfile", text)
    sha = remote.commit("x")
    with (
        playing(api, Machine(tmp_path / "machine", real).script),
        pytest.raises(AirflowFailException) as failed,
    ):
        image(real, context, sha, base_conn_ids=["reg"])
    said = str(failed.value)
    assert "BuildFailed" in said
    assert "step 2/2: RUN echo it was nothing" in said
    assert "but this was" in said
    assert "exit status 3" in said


def test_a_pod_that_is_gone_has_left_its_image_in_the_registry(
    api: ApiServer, real: ContainerRegistry, remote: Any, context: Any, tmp_path: Path
) -> None:
    base(real, tmp_path)
    remote.put("Containerfile", f"FROM {real.host}/base/shell:1\nCOPY Containerfile /\n")
    sha = remote.commit("x")
    machine = Machine(tmp_path / "machine", real)

    def script(pod: dict[str, Any]) -> list[Step]:
        # Its last word is lost with it, right after the Job controller has seen that it ended well.
        return [*machine.script(pod), lambda on_node: _gone_when_complete(api, on_node)]

    with playing(api, script), pytest.raises(PodLost, match="its pod is gone"):
        image(real, context, sha, base_conn_ids=["reg"], backend_options={"deferrable": True})
    # The retry asks the registry first, and builds nothing.
    done = image(real, context, sha, base_conn_ids=["reg"])
    assert done["found"] is True
    assert len(api.all("jobs")) == 1
    assert real.manifest("team/shop", done["digest"])[0] == done["digest"]


def _gone_when_complete(api: ApiServer, on_node: Pod) -> None:
    until(lambda: api.all("jobs")[0]["status"].get("conditions"))
    on_node.vanish()
