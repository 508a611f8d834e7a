from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import shutil
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.build import builders, oci
from airflow_pipeops.build.operators import BuildImageOperator
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.demo import packager
from airflow_pipeops.exceptions import BuildFailed, InvalidInput, Unreachable

service = Deliverable("svc")
PACKAGER = "airflow_pipeops.demo.packager:Packager"
SIMPLE = 'FROM python:3.12-slim\nWORKDIR /srv/app\nCOPY . .\nENV A=1 B="two words"\nEXPOSE 8080\nCMD ["python", "app.py"]\n'


def build(task_context, sha: str, **kwargs):
    kwargs = {"builder": PACKAGER, "image": "delay-api", "storage_conn_id": "store", **kwargs}
    return BuildImageOperator(task_id="build", git_conn_id="app", commit=sha, **kwargs).execute(task_context)


def contents(layout: Path, digest: str) -> tuple[dict, dict, tarfile.TarFile]:
    """Manifest, config and layer of an image, each verified against its digest."""

    def blob(name: str) -> bytes:
        content = (layout / "blobs" / name.replace(":", "/")).read_bytes()
        assert oci.digest_of(content) == name
        return content

    manifest = json.loads(blob(digest))
    config = json.loads(blob(manifest["config"]["digest"]))
    raw = gzip.decompress(blob(manifest["layers"][0]["digest"]))
    assert config["rootfs"]["diff_ids"] == [oci.digest_of(raw)]
    return manifest, config, tarfile.open(fileobj=io.BytesIO(raw))


def test_a_commit_becomes_an_image_in_a_layout(context, commit, artifacts) -> None:
    sha = commit({"app.py": "print(1)\n", "lib/x.py": "", "Containerfile": SIMPLE})
    result = build(context, sha, deliverable=service, parents=["b" * 64])
    assert result["reference"] == f"delay-api@{result['digest']}"
    assert (result["builder"], result["commit"]) == ("oci-layout", sha)
    layout = artifacts / "delay-api"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert [entry["digest"] for entry in json.loads((layout / "index.json").read_text())["manifests"]] == [
        result["digest"]
    ]
    _, config, layer = contents(layout, result["digest"])
    assert config["config"] == {
        "Cmd": ["python", "app.py"],
        "Env": ["A=1", "B=two words"],
        "ExposedPorts": {"8080/tcp": {}},
        "WorkingDir": "/srv/app",
    }
    assert layer.getnames() == [
        "srv", "srv/app", "srv/app/Containerfile", "srv/app/app.py", "srv/app/lib", "srv/app/lib/x.py",
    ]  # fmt: skip
    accessor = context["outlet_events"][service.image]
    assert Record.from_extra(accessor.extra).body["digest"] == result["digest"]
    assert accessor.partition_keys == {sha}


def test_the_same_tree_is_the_same_image_and_building_again_changes_nothing(
    context, commit, artifacts
) -> None:
    first = build(context, commit({"app.py": "1", "Containerfile": SIMPLE}))
    before = {
        path: path.stat().st_mtime_ns
        for path in artifacts.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    second = build(context, commit({}))  # another commit, the same tree
    assert second["commit"] != first["commit"]
    assert second["digest"] == first["digest"]
    after = {
        path: path.stat().st_mtime_ns
        for path in artifacts.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    assert after == before
    assert build(context, commit({"app.py": "2"}))["digest"] != first["digest"]


def test_modes_times_and_order_of_creation_do_not_count(tmp_path) -> None:
    spec = packager.parse(SIMPLE)
    digests = set()
    for number, (umask, names) in enumerate([(0o022, ["b", "a", "ü/c"]), (0o077, ["ü/c", "a", "b"])]):
        tree = tmp_path / str(number)
        previous = os.umask(umask)
        try:
            for name in names:
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).write_text(name)
                os.utime(tree / name, (number * 1000, number * 1000))
            (tree / "run").write_text("#!")
            (tree / "run").chmod(0o755 if number else 0o700)
            (tree / "link").symlink_to("ü/c")
            (tree / ".git").mkdir()
            (tree / ".git" / str(number)).write_text("left out")
        finally:
            os.umask(previous)
        digests.add(list(packager.image(tree, spec))[-1])
    assert len(digests) == 1


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "sub/../../x"])
def test_a_link_out_of_the_tree_is_refused(tmp_path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(InvalidInput, match="leads out of the source tree"):
        packager.layer(tmp_path, "/app")


def test_a_pipe_in_the_tree_is_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="neither a file"):
        packager.layer(tmp_path, "/app")


def test_an_interrupted_write_is_never_visible_and_is_mended(tmp_path, monkeypatch) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "app.py").write_text("1")
    blobs = packager.image(tree, packager.parse(SIMPLE))
    digest = list(blobs)[-1]
    replace, calls = os.replace, []
    expected = oci.Layout(tmp_path / "whole")
    expected.add(blobs, digest)
    for died_at in range(5):  # three blobs, oci-layout, index
        layout = oci.Layout(tmp_path / f"layout{died_at}")
        calls.clear()

        def dying(a, b, died_at=died_at) -> None:
            calls.append(b)
            if len(calls) > died_at:
                raise KeyboardInterrupt
            replace(a, b)

        monkeypatch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            layout.add(blobs, digest)
        monkeypatch.setattr(os, "replace", replace)
        assert layout.manifests() == []
        for path in (layout.root / "blobs" / "sha256").iterdir():
            assert oci.digest_of(path.read_bytes()) == f"sha256:{path.name}"
        assert layout.add(blobs, digest)
        assert layout.read() == expected.read()
        assert not list(layout.root.glob(".writing-*"))


def test_a_damaged_blob_is_written_anew(tmp_path) -> None:
    blobs = packager.image(tmp_path / "none", packager.parse(SIMPLE))
    digest = list(blobs)[-1]
    layout = oci.Layout(tmp_path / "layout")
    layout.add(blobs, digest)
    layout.blob(digest).write_bytes(b"x")
    assert not layout.add(blobs, digest)
    assert layout.blob(digest).read_bytes() == blobs[digest]


def _add(root: Path, number: int) -> None:
    tree = root / f"tree{number}"
    tree.mkdir()
    (tree / "n").write_text(str(number))
    blobs = packager.image(tree, packager.parse(SIMPLE))
    oci.Layout(root / "layout").add(blobs, list(blobs)[-1])


def test_builders_at_once_lose_nothing(tmp_path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_add, args=(tmp_path, number)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert len(oci.Layout(tmp_path / "layout").manifests()) == 8


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("RUN pip install x", "line 2 .*RUN"),
        ("USER app", "line 2 .*USER"),
        ("COPY a b", "line 2 .*COPY a b"),
        ("COPY --chown=a . .", "line 2 .*COPY --chown"),
        ("ENV A=$B", "line 2 .*ENV A"),
        ("CMD ['a']", "line 2 .*CMD.*double quotes"),
        ("FROM second", "line 2 .*FROM second"),
        ("WORKDIR ../x", "line 2 .*WORKDIR"),
        ("EXPOSE http", "line 2 .*EXPOSE http"),
        ("ENV", "line 2 .*ENV.*argument"),
        ("CMD a \\", "line 2 .*continuation"),
    ],
)
def test_what_the_packager_does_not_understand_is_named(line: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        packager.parse(f"FROM scratch\n{line}\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "no FROM"), ("FROM a\nCMD x", "no COPY"), ("FROM a\nCOPY . .", "no CMD"), ("CMD x", "first")],
)
def test_what_is_missing_is_named(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        packager.parse(text)


def test_the_supported_subset() -> None:
    spec = packager.parse(
        "# syntax=docker/dockerfile:1\nfrom python:3.12 AS app\nWORKDIR /a\nWORKDIR b\n"
        'COPY . ./\nENV OLD form of it\nENV A=1 \\\n  # why\n  B=2\nENTRYPOINT ["python"]\nCMD ["x.py"]\nEXPOSE 80 53/udp\n'
    )
    assert (spec.base, spec.workdir, spec.folder) == ("python:3.12", "/a/b", "/a/b")
    assert spec.env == {"OLD": "form of it", "A": "1", "B": "2"}
    assert (spec.entrypoint, spec.cmd, spec.ports) == (["python"], ["x.py"], ["80/tcp", "53/udp"])
    assert packager.parse("FROM a\nCOPY . /x\nCMD run $PORT").cmd == ["/bin/sh", "-c", "run $PORT"]


@pytest.mark.parametrize(
    ("files", "arguments", "says"),
    [
        ({"app.py": ""}, {}, "no Containerfile or Dockerfile"),
        ({"Containerfile": SIMPLE + "RUN x\n"}, {}, "RUN"),
        ({"Containerfile": SIMPLE}, {"image": "Upper:tag"}, "not a valid name"),
        ({"Containerfile": SIMPLE}, {"image": "../up"}, "not a valid name"),
        ({"Containerfile": SIMPLE}, {"context": "../.."}, "not a folder of the repository"),
        ({"Containerfile": SIMPLE}, {"context": "/etc"}, "not a folder of the repository"),
        ({"Containerfile": SIMPLE}, {"builder": "kaniko"}, "builder 'kaniko' is unknown"),
        ({"Containerfile": SIMPLE}, {"storage_conn_id": "s3"}, "images are kept on file://"),
    ],
)
def test_bad_input_is_one_clear_error_and_writes_nothing(
    context, commit, artifacts, files, arguments, says
) -> None:
    with pytest.raises(AirflowFailException, match=says):
        build(context, commit(files), **arguments)
    assert not artifacts.exists()


class _Stub(packager.Packager):
    def __init__(self, name: str, problem: str, base_problem: str = "") -> None:
        self.name, self._problem, self._base_problem = name, problem, base_problem

    def unusable(self) -> str:
        return self._problem

    def obtain(self, base: str, platform: str = "") -> str:
        return self._base_problem


def test_auto_takes_the_first_that_works_and_says_what_it_passed_over() -> None:
    told: list[str] = []
    known = {
        "buildah": _Stub("buildah", "", "no route to the registry"),
        "podman": _Stub("podman", "not installed"),
        "docker": _Stub("docker", "Cannot connect to the Docker daemon"),
    }
    with pytest.raises(
        Unreachable, match="buildah cannot get the base image python: no route to the registry"
    ):
        builders.choose("auto", ["python"], known.__getitem__, told.append)
    assert len(told) == 3
    assert builders.choose("auto", [], known.__getitem__, told.append).name == "buildah"


def test_without_an_engine_nothing_is_packed_instead_and_the_way_to_get_one_is_named() -> None:
    known = {name: _Stub(name, "not installed") for name in builders.NAMES}
    with pytest.raises(
        BuildFailed, match=r"buildah: not installed; podman: .*Install Buildah .*backend='kubernetes'"
    ):
        builders.choose("auto", [], known.__getitem__, lambda line: None)
    with pytest.raises(BuildFailed, match="podman cannot be used here: not installed"):
        builders.choose("podman", [], known.__getitem__, lambda line: None)


BUILDKIT = """#7 [3/3] RUN pip install nothing
#7 1.203 ERROR: No matching distribution found for nothing
#7 ERROR: process "/bin/sh -c pip install nothing" did not complete successfully: exit code: 1
------
 > [3/3] RUN pip install nothing:
1.203 ERROR: No matching distribution found for nothing
------
Dockerfile:3
ERROR: failed to solve: process "/bin/sh -c pip install nothing" did not complete successfully: exit code: 1
"""


@pytest.mark.parametrize(
    ("output", "step", "said", "not_said"),
    [
        (BUILDKIT, "step 3/3 (RUN pip install nothing)", "No matching distribution", "#7 [3/3]"),
        ("Step 1/2 : FROM a\n ---> 1\nStep 2/2 : RUN x\nsh: x: not found\nThe command returned 127", "step 2/2 (RUN x)",
         "sh: x: not found", "FROM a"),
        ("[1/2] STEP 1/1: FROM a\n[2/2] STEP 2/3: RUN y\nno y\nError: building", "step 2/3 (RUN y)", "no y", "FROM a"),
        ("STEP 1/1: FROM a\nCOMMIT\nError: no space left on device", "", "no space left", "nothing"),
        ("Error: no such file", "", "no such file", "nothing"),
    ],
)  # fmt: skip
def test_the_step_that_failed_is_found_in_what_an_engine_prints(output, step, said, not_said) -> None:
    found, words = builders.failed_step(output)
    assert found == step
    assert said in words
    assert not_said not in words


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client is installed")
def test_a_docker_client_without_a_daemon_does_not_count(monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    docker = builders.make("docker", lambda command: command.run(), timedelta(seconds=20), lambda line: None)
    assert docker.unusable()


@pytest.mark.skipif(shutil.which("buildah") is None, reason="Buildah is not installed")
def test_buildah_builds_for_real(context, commit, artifacts, monkeypatch) -> None:
    monkeypatch.setenv("STORAGE_DRIVER", "vfs")
    sha = commit({"app.py": "print(1)\n", "Containerfile": SIMPLE.replace("python:3.12-slim", "scratch")})
    result = build(context, sha, builder="buildah")
    assert result["builder"] == "buildah"
    _, config, layer = contents(artifacts / "delay-api", result["digest"])
    assert config["config"]["Cmd"] == ["python", "app.py"]
    assert "srv/app/app.py" in [name.rstrip("/") for name in layer.getnames()]
    assert build(context, sha, builder="buildah")["digest"] == result["digest"]
    assert len(oci.Layout(artifacts / "delay-api").manifests()) == 1
