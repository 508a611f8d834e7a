"""A commit becomes an image in a real registry, built by a real Buildah: once, the same again, and with no secret in it."""

from __future__ import annotations

import gzip
import io
import json
import logging
import multiprocessing
import os
import shutil
import tarfile
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_pipeops.base.http import tls_context
from airflow_pipeops.build import oci, planning, referrers
from airflow_pipeops.build.backends import BuildRequest
from airflow_pipeops.build.operators import BuildImageOperator
from airflow_pipeops.build.registry import Credential, Registry
from airflow_pipeops.delivery.deliverable import Deliverable
from airflow_pipeops.delivery.records import Record
from airflow_pipeops.demo import packager
from airflow_pipeops.exceptions import Unreachable
from airflow_pipeops.git.hook import GitHook
from tests.registry import LOGIN, PASSWORD, ContainerRegistry, Fault, Proxy, proxy, registry

pytestmark = pytest.mark.timeout(240)
service = Deliverable("svc")
#: Podman has passed the same tests; it is not in the gate.
ENGINE = os.environ.get("PIPEOPS_TEST_ENGINE", "buildah")
BUSYBOX = shutil.which("busybox") or ""
HERE = oci.platform_here()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def empty(real: ContainerRegistry) -> ContainerRegistry:
    """The registry, without a single image."""
    real.empty()
    return real


@pytest.fixture
def before(real: ContainerRegistry) -> Iterator[Proxy]:
    with proxy(real) as running:
        yield running


def connect(
    monkeypatch: pytest.MonkeyPatch, name: str, host: str, real: ContainerRegistry, **fields: Any
) -> None:
    value = {
        "conn_type": "container_registry", "host": host, "login": LOGIN, "password": PASSWORD,
        "extra": {"ca_file": str(real.ca_file)}, **fields,
    }  # fmt: skip
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(value))


def empty_builder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Buildah a storage in which there is nothing."""
    folder.mkdir()
    conf = folder / "storage.conf"
    conf.write_text(f'[storage]\ndriver="vfs"\ngraphroot="{folder}/graph"\nrunroot="{folder}/run"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))


def no_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be Git, and no engine."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "git").symlink_to(shutil.which("git") or "")
    monkeypatch.setenv("PATH", str(programs))


@pytest.fixture(autouse=True)
def surroundings(real: ContainerRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shutil.which(ENGINE), f"{ENGINE} is not here: run .ci/engines"
    connect(monkeypatch, "reg", f"{real.host}/team", real)
    empty_builder(tmp_path / "containers", monkeypatch)


def base(real: ContainerRegistry, folder: Path, tag: str = "1", marker: str = "") -> str:
    """Push a base image that has a shell; return its digest."""
    tree = folder / f"base-{tag}-{marker}"
    (tree / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(BUSYBOX, tree / "bin" / "busybox")
    (tree / "bin" / "sh").unlink(missing_ok=True)
    (tree / "bin" / "sh").symlink_to("busybox")
    (tree / "marker").write_text(marker)
    blobs = packager.image(tree, packager.parse("FROM scratch\nCOPY . /\nCMD sh\n"))
    layout = oci.Layout(folder / "base-layout")
    digest = list(blobs)[-1]
    layout.add(blobs, digest)
    context = tls_context(str(real.ca_file))
    with Registry(real.host, credential=Credential(LOGIN, PASSWORD), verify=context) as client:
        client.push("base/shell", layout, digest)
        client.tag("base/shell", digest, tag)
    return digest


def build(context: Any, sha: str, /, **kwargs: Any) -> dict[str, Any]:
    kwargs = {"image": "shop", "registry_conn_id": "reg", "builder": ENGINE, **kwargs}
    return BuildImageOperator(task_id="build", git_conn_id="app", commit=sha, **kwargs).execute(context)


def files_of(real: ContainerRegistry, digest: str) -> dict[str, str]:
    """What is in the layers of an image: path -> content; a folder has none."""
    found: dict[str, str] = {}
    for layer in real.manifest("team/shop", digest)[1]["layers"]:
        content = gzip.decompress(real.blob("team/shop", layer["digest"]))
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                found[member.name.rstrip("/")] = file.read().decode("latin-1") if file else ""
    return found


class Watch:
    """Looks at the arguments of every process, and at the environment of those that a build starts, all the while."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [one.encode() for one in secrets]
        self._end = threading.Event()
        self.found: list[str] = []
        self.seen: set[str] = set()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)

    def _look(self) -> None:
        while not self._end.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    line = (process / "cmdline").read_bytes()
                    around = (process / "environ").read_bytes()
                except OSError:
                    continue
                self.seen.add(line.split(b"\0")[0].decode(errors="replace").rpartition("/")[2])
                if any(secret in line for secret in self._secrets):
                    self.found.append(line.decode(errors="replace"))
                if b"PIPEOPS_RUN_TOKEN=" in around and any(secret in around for secret in self._secrets):
                    self.found.append(f"environment of {line.decode(errors='replace')}")


def test_a_commit_is_built_pushed_and_recorded_and_the_secret_is_nowhere(
    context, commit, real, tmp_path, caplog
) -> None:
    digest = base(real, tmp_path)
    text = (
        f"ARG BASE=none\nFROM ${{BASE}} AS tools\nRUN echo made > /tools; env > /env\nFROM {real.host}/base/shell:1\n"
        "COPY --from=tools /tools /env /\nCOPY . /srv\n"
        f"RUN --mount=type=bind,from={real.host}/base/shell:1,target=/m echo ok\n"
        'CMD ["sh"]\n'
    )
    sha = commit({"app.py": "print(1)\n", "Containerfile": text})
    packed = b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
    caplog.set_level(logging.DEBUG)
    with Watch(PASSWORD, packed) as watch:
        result = build(
            context,
            sha,
            deliverable=service,
            tags=["v1", "latest"],
            build_args={"BASE": f"{real.host}/base/shell:1"},
        )
    assert ENGINE in watch.seen, "nothing was watched"
    assert watch.found == []

    there, manifest = real.manifest("team/shop", f"pipeops-{result['key']}")
    assert result["reference"] == f"{real.host}/team/shop@{there}"
    assert (result["digest"], result["builder"], result["found"]) == (there, ENGINE, False)
    assert real.manifest("team/shop", "v1")[0] == real.manifest("team/shop", "latest")[0] == there
    created = manifest["annotations"]["org.opencontainers.image.created"]
    assert manifest["annotations"]["org.opencontainers.image.revision"] == sha
    assert created.endswith("Z")
    assert {"srv/app.py", "tools", "bin/busybox"} <= set(files_of(real, there))

    record = Record.from_extra(context["outlet_events"][service.image].extra)
    assert record.body["bases"] == [f"{real.host}/base/shell@{digest}"] * 3
    everything = [json.dumps(result), json.dumps(record.to_extra()), caplog.text, json.dumps(manifest)]
    everything.append(real.blob("team/shop", manifest["config"]["digest"]).decode())
    everything += files_of(real, there).values()
    assert not [one for one in everything if PASSWORD in one or packed in one]


def test_an_image_that_is_there_is_not_built_again_even_where_nothing_can_build(
    context, commit, empty, tmp_path, monkeypatch
) -> None:
    base(empty, tmp_path)
    files = {"app.py": "1", "Containerfile": f"FROM {empty.host}/base/shell:1\nCOPY . /srv\nRUN echo > /x\n"}
    first = build(context, commit(files))
    no_engine(tmp_path, monkeypatch)
    second = build(context, commit({}), builder="auto", tags=["again"])
    assert second["commit"] != first["commit"]
    assert (second["digest"], second["found"], second["key"]) == (first["digest"], True, first["key"])
    assert empty.manifest("team/shop", "again")[0] == first["digest"]
    # Whatever decides the image makes another key, and then there is no way around an engine.
    for change in ({"build_args": {"A": "1"}}, {"target": "0"}, {"platforms": [HERE]}, {"context": "sub"}):
        sha = commit({"sub/Containerfile": f"FROM {empty.host}/base/shell:1\nCOPY . /srv\n"})
        with pytest.raises(AirflowFailException, match="no engine that builds images works here"):
            build(context, sha, builder="auto", **change)
    base(empty, tmp_path, marker="a newer base under the same tag")
    with pytest.raises(AirflowFailException, match="no engine that builds images works here"):
        build(context, commit(files), builder="auto")


def test_the_same_tree_is_the_same_digest_in_another_builder_and_registry(
    context, commit, empty, tmp_path, monkeypatch
) -> None:
    base(empty, tmp_path)
    text = f'FROM {empty.host}/base/shell:1\nCOPY . /srv\nRUN echo $(( 6 * 7 )) > /answer && mkdir /made\nCMD ["sh"]\n'
    sha = commit({"app.py": "1", "Containerfile": text})
    first = build(context, sha)
    parts = real_parts(empty, first["digest"])
    empty.empty()
    base(empty, tmp_path)
    empty_builder(tmp_path / "another", monkeypatch)
    again = build(context, sha)
    assert (again["found"], again["digest"]) == (False, first["digest"])
    # Of another commit of that tree the configuration and every layer are the same; annotations say where it came from.
    empty.empty()
    base(empty, tmp_path)
    other = build(context, commit({}))
    assert other["commit"] != sha
    assert other["key"] == first["key"]
    assert real_parts(empty, other["digest"]) == parts


def real_parts(real: ContainerRegistry, digest: str) -> list[str]:
    _, manifest = real.manifest("team/shop", digest)
    return [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


def test_a_base_image_in_another_registry_is_reached_by_its_own_connection(
    context, commit, real, before, tmp_path, monkeypatch
) -> None:
    base(real, tmp_path)
    sha = commit({"Containerfile": f"FROM {before.host}/base/shell:1\nCOPY . /srv\n", "a": str(tmp_path)})
    with pytest.raises(AirflowFailException, match=rf"certificate of https://{before.host} is not trusted"):
        build(context, sha)
    connect(monkeypatch, "bases", before.host, real, password="wrong-pa55")
    with pytest.raises(
        AirflowFailException, match=r"wants a login .*base/shell:1: the credential is not accepted"
    ):
        build(context, sha, base_conn_ids=["bases"])
    connect(monkeypatch, "bases", before.host, real)
    assert build(context, sha, base_conn_ids=["bases"])["found"] is False


def test_a_step_that_fails_is_named_with_its_last_lines(context, commit, real, tmp_path) -> None:
    base(real, tmp_path)
    text = (
        f"FROM {real.host}/base/shell:1\nRUN echo early-step-output\n"
        "RUN echo wheel-one; echo no matching distribution >&2; exit 3\nRUN echo later\n"
    )
    with pytest.raises(AirflowFailException) as raised:
        build(context, commit({"Containerfile": text}))
    said = str(raised.value)
    assert "step 3/4 (RUN echo wheel-one" in said
    assert "no matching distribution" in said
    assert "early-step-output" not in said


def test_a_registry_that_wants_a_login_says_so_before_anything_is_built(
    context, commit, real, monkeypatch
) -> None:
    connect(monkeypatch, "reg", f"{real.host}/team", real, login=None, password=None)
    with pytest.raises(AirflowFailException, match=r"wants a login .*no credential is known"):
        build(context, commit({"Containerfile": "FROM scratch\nCOPY . /\n"}))


def test_what_the_ignore_file_names_is_in_no_layer(context, commit, real, tmp_path) -> None:
    files = {
        ".dockerignore": "*.key\nsecrets\n!secrets/public\n**/__pycache__\n",
        "Containerfile": "FROM scratch\nCOPY . /srv\n", "a.key": "x", "deep/b.key": "x", "secrets/private": "x",
        "secrets/public": str(tmp_path), "deep/__pycache__/x.pyc": "x", "app.py": "1",
    }  # fmt: skip
    found = set(files_of(real, build(context, commit(files))["digest"]))
    assert {"srv/app.py", "srv/secrets/public", "srv/deep/b.key"} <= found
    assert not {"srv/a.key", "srv/secrets/private", "srv/deep/__pycache__/x.pyc"} & found


def test_a_pointer_of_git_lfs_is_refused_unless_it_is_asked_for(context, commit, real, tmp_path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 123\n"
    sha = commit({"model.bin": pointer, "Containerfile": "FROM scratch\nCOPY . /\n", "a": str(tmp_path)})
    with pytest.raises(
        AirflowFailException, match=r"pointers of Git LFS, first 'model.bin'.*allow_lfs_pointers"
    ):
        build(context, sha)
    assert build(context, sha, allow_lfs_pointers=True)["digest"]
    ignored = commit({".dockerignore": "*.bin\n"})
    assert build(context, ignored)["digest"]


def test_an_image_for_another_machine_is_not_taken(context, commit, real, tmp_path, monkeypatch) -> None:
    """Without platforms an image is for the machine that built it: whoever builds on another one wants another."""
    sha = commit({"a": str(tmp_path), "Containerfile": "FROM scratch\nCOPY . /\n"})
    first = build(context, sha)
    assert build(context, sha)["found"]
    named = build(context, sha, platforms=[HERE])
    assert (named["found"], named["key"]) == (True, first["key"])
    elsewhere = {"x86_64": "aarch64"}.get(os.uname().machine, "x86_64")
    monkeypatch.setattr(oci.platform, "machine", lambda: elsewhere)
    other = build(context, sha)
    assert not other["found"]
    assert other["key"] != first["key"]


@pytest.mark.parametrize("lists", [False, True], ids=["tag-scheme", "referrers"])
def test_an_image_whose_tag_was_taken_away_is_found_by_what_refers_to_its_key(
    context, commit, real, before, tmp_path, monkeypatch, lists: bool
) -> None:
    connect(monkeypatch, "reg", f"{before.host}/team", real)
    before.referrers = {} if lists else None
    sha = commit({"a": str(tmp_path), "Containerfile": "FROM scratch\nCOPY . /\n"})
    first = build(context, sha)
    assert not first["found"]
    fallback = f"sha256-{first['key']}"
    assert (fallback in real.tags("team/shop")) is not lists
    real.forget("team/shop", f"pipeops-{first['key']}")
    no_engine(tmp_path, monkeypatch)
    again = build(context, sha)
    assert (again["found"], again["digest"]) == (True, first["digest"])
    assert f"pipeops-{first['key']}" in real.tags("team/shop")


def test_what_refers_to_a_key_is_taken_only_if_its_image_is_there(real, before, tmp_path) -> None:
    """Others may refer to it, too, and more than one page of them."""
    before.referrers = {}
    layout, digest = oci.Layout(tmp_path / "layout"), ""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text(str(tmp_path))
    blobs = packager.image(tmp_path / "tree", packager.parse("FROM scratch\nCOPY . /\nCMD x\n"))
    digest = list(blobs)[-1]
    layout.add(blobs, digest)
    key, gone = "5" * 64, "sha256:" + "0" * 64
    context = tls_context(str(real.ca_file))
    with Registry(before.host, credential=Credential(LOGIN, PASSWORD), verify=context) as one:
        one.push("team/key", layout, digest)
        assert referrers.find(one, "team/key", key) == ""
        referrers.attach(one, "team/key", key, gone)
        assert referrers.find(one, "team/key", key) == ""
        referrers.attach(one, "team/key", key, digest)
        assert referrers.find(one, "team/key", key) == digest
        other = {"mediaType": oci.MANIFEST, "digest": digest, "size": 1, "artifactType": "application/other"}
        before.referrers[f"sha256:{key}"][:0] = [other] * 3
        assert referrers.find(one, "team/key", key) == digest
        before.referrers[f"sha256:{key}"] = [other]
        assert referrers.find(one, "team/key", key) == ""


def test_a_registry_that_takes_no_artifact_has_the_image_all_the_same(
    context, commit, real, before, tmp_path, monkeypatch, capsys
) -> None:
    connect(monkeypatch, "reg", f"{before.host}/team", real)
    sha = commit({"a": str(tmp_path), "Containerfile": "FROM scratch\nCOPY . /\n"})
    # The empty blob that each artifact has; and some registries forbid what they do not know.
    before.faults = [
        Fault(times=9, status=400, path="/blobs/sha256:44136fa3"), Fault(times=9, status=403, path="/referrers/")
    ]  # fmt: skip
    assert build(context, sha)["digest"]
    assert "found again by its tag only" in capsys.readouterr().out


def test_what_git_lfs_keeps_is_another_image_than_its_pointers(commit, tmp_path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 123\n"
    text = "FROM scratch\nCOPY . /\n"
    pointers = commit({"model.bin": pointer, "Containerfile": text})
    plain = commit({"model.bin": "content"})

    def planned(sha: str, *, lfs: bool) -> planning.Plan:
        client, place = GitHook("app").get_conn(), Path(tempfile.mkdtemp(dir=tmp_path))
        client.checkout(sha, place / "source")
        request = BuildRequest("app", sha, image="shop", builder=ENGINE)
        return planning.plan(client, place / "source", request, platform=HERE, lfs=lfs)

    fetched, left = planned(pointers, lfs=True), planned(pointers, lfs=False)
    assert fetched.request.tag != left.request.tag
    assert (fetched.pointers, left.pointers) == ((), ("model.bin",))
    assert planned(plain, lfs=True).request.tag == planned(plain, lfs=False).request.tag


def test_an_image_of_two_platforms_is_one_index(context, commit, real, tmp_path) -> None:
    sha = commit({"a": str(tmp_path), "Containerfile": "FROM scratch\nCOPY . /\n"})
    result = build(context, sha, platforms=["linux/amd64", "linux/arm64"])
    there, index = real.manifest("team/shop", result["digest"])
    assert there == result["digest"]
    assert {item["platform"]["architecture"] for item in index["manifests"]} == {"amd64", "arm64"}
    assert index["annotations"]["org.opencontainers.image.revision"] == sha
    for item in index["manifests"]:
        assert real.manifest("team/shop", item["digest"])[0] == item["digest"]


def test_a_key_that_somebody_else_pushed_meanwhile_is_their_image(
    context, commit, real, before, tmp_path, monkeypatch
) -> None:
    connect(monkeypatch, "other", f"{before.host}/team", real)
    sha = commit({"a": str(tmp_path), "Containerfile": "FROM scratch\nCOPY . /\n"})
    theirs = base(real, tmp_path, "theirs")
    key = build(context, sha, image="elsewhere", registry_conn_id="reg")["key"]
    context_ssl = tls_context(str(real.ca_file))

    def meanwhile() -> None:
        layout = oci.Layout(tmp_path / "base-layout")
        with Registry(real.host, credential=Credential(LOGIN, PASSWORD), verify=context_ssl) as client:
            client.push("team/shop", layout, theirs)
            client.tag("team/shop", theirs, f"pipeops-{key}")

    before.faults = [Fault(meanwhile, "POST", "/blobs/uploads/")]
    result = build(context, sha, registry_conn_id="other")
    assert (result["digest"], result["found"]) == (theirs, True)
    assert real.manifest("team/shop", f"pipeops-{key}")[0] == theirs


def test_a_key_that_is_at_another_digest_after_the_push_is_tried_again(
    context, commit, real, before, tmp_path, monkeypatch
) -> None:
    connect(monkeypatch, "other", f"{before.host}/team", real)
    sha = commit({"a": str(tmp_path), "Containerfile": "FROM scratch\nCOPY . /\n"})
    theirs = base(real, tmp_path, "theirs")
    key = build(context, sha, image="elsewhere")["key"]
    context_ssl = tls_context(str(real.ca_file))

    def overwritten() -> None:
        layout = oci.Layout(tmp_path / "base-layout")
        with Registry(real.host, credential=Credential(LOGIN, PASSWORD), verify=context_ssl) as client:
            client.push("team/shop", layout, theirs)
            client.tag("team/shop", theirs, f"pipeops-{key}")

    before.faults = [Fault(overwritten, "GET", f"/manifests/pipeops-{key}")]
    with pytest.raises(Exception, match=f"is {theirs} right after it was pushed") as raised:
        build(context, sha, registry_conn_id="other")
    assert raised.value.retryable, "Airflow tries again"  # type: ignore[attr-defined]
    assert build(context, sha, registry_conn_id="other")["digest"] == theirs


KILLS = 10


def images(real: ContainerRegistry, repository: str) -> list[str]:
    """The tags of images; those of the registry's fallback list what refers to a digest."""
    return [tag for tag in real.tags(repository) if not tag.startswith("sha256-")]


def test_a_worker_that_is_killed_at_any_moment_leaves_one_image_or_none(
    context, commit, empty, tmp_path, monkeypatch
) -> None:
    """Whenever the worker dies, what is seen in the registry is whole, and the next attempt ends with the one image."""
    fork = multiprocessing.get_context("fork")
    sha = commit({"a": str(tmp_path), "Containerfile": f"FROM {empty.host}/base/shell:1\nCOPY . /srv\n"})
    base(empty, tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of this test alone
    started = time.monotonic()
    whole = build(context, sha, image="unharmed")
    lasts = time.monotonic() - started
    seen = []
    for number in range(KILLS):
        worker = fork.Process(target=build, args=(context, sha), kwargs={"image": f"shop-{number}"})
        worker.start()
        worker.join(lasts * (number + 1) / KILLS)
        worker.kill()
        worker.join(30)
        before = images(empty, f"team/shop-{number}")
        result = build(context, sha, image=f"shop-{number}")
        assert images(empty, f"team/shop-{number}") == [f"pipeops-{result['key']}"]
        assert result["digest"] == whole["digest"]
        assert before in ([], [f"pipeops-{result['key']}"])
        assert result["found"] is bool(before)
        seen.append(bool(before))
        assert [path for path in Path(tempfile.gettempdir()).glob("pipeops-*/logins")] == []
    assert False in seen, "no attempt was killed before it was done"


def test_a_registry_that_dies_in_mid_push_is_an_error_that_is_tried_again_and_then_succeeds(
    context, commit, real, before, tmp_path, monkeypatch
) -> None:
    connect(monkeypatch, "other", f"{before.host}/team", real)
    sha = commit({"a": str(tmp_path), "Containerfile": "FROM scratch\nCOPY . /\n"})
    before.faults = [Fault(real.kill, "PUT", "/blobs/uploads/")]
    try:
        with pytest.raises(Unreachable):
            build(context, sha, registry_conn_id="other")
    finally:
        real.start()
    assert build(context, sha, registry_conn_id="other")["found"] is False


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tags": ["not a tag"]}, "tags 'not a tag' is not a tag"),
        ({"platforms": ["amd64"]}, "platforms 'amd64' is not a platform"),
        ({"build_args": {"A B": "1"}}, "build_args 'A B' is not the name"),
        ({"backend": "moon"}, "backend 'moon' is unknown"),
        ({"backend_options": {"x": 1}}, "does not take these backend_options"),
        ({"registry_conn_id": "nobody"}, "connection is missing: 'nobody'.*container_registry"),
        ({"file": "../x"}, "there is no ../x"),
        ({"registry_conn_id": "", "storage_conn_id": "store", "tags": ["v1"]}, "tags are for a registry"),
    ],
)
def test_bad_input_is_one_clear_error(context, commit, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(AirflowFailException, match=says):
        build(context, commit({"Containerfile": "FROM scratch\nCOPY . /\n"}), **arguments)


def test_an_image_in_a_folder_is_found_there_too(
    context, commit, real, artifacts, tmp_path, monkeypatch
) -> None:
    sha = commit({"a": "1", "Containerfile": "FROM scratch\nCOPY . /\n"})
    first = build(context, sha, registry_conn_id="", storage_conn_id="store")
    no_engine(tmp_path, monkeypatch)
    assert oci.Layout(artifacts / "shop").find(f"pipeops-{first['key']}") == first["digest"]
    again = build(context, sha, registry_conn_id="", storage_conn_id="store", builder="podman")
    assert (again["digest"], again["found"]) == (first["digest"], True)
