"""The image recipe, built by a real Buildah and pushed to a real registry by the command of the README.

The official image itself is not in reach of the tests: ``tests/helm/airflow_image.py`` stands in for it.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_pipeops import __version__
from airflow_pipeops.build.containerfile import instructions
from tests.helm.airflow_image import AIRFLOW, HOME, SITE, USER, requirements, tree
from tests.registry import LOGIN, PASSWORD, ContainerRegistry, registry
from tests.surroundings import outside

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
#: What the stand-in lacks: the recipe has to install it, within the constraints.
MISSING, WITHIN, NEWEST = "sqlglot", "27.29.0", "30.19.0"
#: A constraint that an extra of the package does not fit.
UNFIT = {"nannyml": "0.1.0"}
KEY = "awskms:///alias/pipeops"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe may fetch: a builder of wheels, and two versions of what the image lacks."""
    folder = tmp_path_factory.mktemp("wheels")
    for wanted in (["hatchling"], [f"{MISSING}=={WITHIN}"], [f"{MISSING}=={NEWEST}"]):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--only-binary=:all:",
            "-d",
            str(folder),
            *wanted,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=240, env=outside())
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def surroundings(real: ContainerRegistry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the engine knows the registry, and has a storage of its own."""
    folder = tmp_path_factory.mktemp("containers")
    storage, logins = folder / "storage.conf", folder / "auth.json"
    storage.write_text(f'[storage]\ndriver="vfs"\ngraphroot="{folder}/graph"\nrunroot="{folder}/run"\n')
    login = base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
    logins.write_text(json.dumps({"auths": {real.host: {"auth": login}}}))
    return {
        "PATH": os.environ["PATH"], "HOME": str(folder), "BUILDAH_ISOLATION": "chroot", "ENGINE": "buildah",
        "CONTAINERS_STORAGE_CONF": str(storage), "REGISTRY_AUTH_FILE": str(logins), "SSL_CERT_FILE": str(real.ca_file),
    }  # fmt: skip


@pytest.fixture(scope="module")
def base(
    real: ContainerRegistry,
    surroundings: dict[str, str],
    wheels: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Push the stand-in, and return its address."""
    folder = tmp_path_factory.mktemp("base")
    tree(folder, {**requirements(), MISSING: WITHIN, **UNFIT}, wheels, missing=[MISSING])
    address = f"{real.host}/apache/airflow:{AIRFLOW}"
    for command in (["build", "-t", address, str(folder)], ["push", address]):
        subprocess.run(["buildah", *command], env=surroundings, check=True, capture_output=True, timeout=500)
    return address


def image(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the README."""
    command = [str(ROOT / "helm" / "image"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=500)


@dataclass(frozen=True)
class Built:
    """What the command did.

    :param values: what it printed.
    :param signing: what it called cosign with, which is in no registry of packages.
    """

    values: dict[str, Any]
    signing: list[str]


@pytest.fixture(scope="module")
def built(
    real: ContainerRegistry, surroundings: dict[str, str], base: str, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    folder = tmp_path_factory.mktemp("cosign")
    cosign = folder / "cosign"
    cosign.write_text(f'#!/bin/sh\necho "$@" > {folder}/called\n')
    cosign.chmod(0o755)
    env = {**surroundings, "PATH": f"{folder}:{surroundings['PATH']}", "COSIGN_KEY": KEY}
    done = image(
        env, f"{real.host}/team/airflow-pipeops", f"--build-arg=AIRFLOW_IMAGE={base}", "--build-arg=PACKAGES="
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return Built(yaml.safe_load(done.stdout), (folder / "called").read_text().split())


@pytest.fixture(scope="module")
def files(real: ContainerRegistry, built: Built) -> dict[str, tarfile.TarInfo]:
    """What the recipe adds to the base: path -> what is known of it."""
    digest = built.values["images"]["airflow"]["tag"].partition("@")[2]
    _, manifest = real.manifest("team/airflow-pipeops", digest)
    _, below = real.manifest("apache/airflow", AIRFLOW)
    assert manifest["layers"][: len(below["layers"])] == below["layers"], "the base is left as it is"
    found: dict[str, tarfile.TarInfo] = {}
    for layer in manifest["layers"][len(below["layers"]) :]:
        with tarfile.open(
            fileobj=io.BytesIO(gzip.decompress(real.blob("team/airflow-pipeops", layer["digest"])))
        ) as tar:
            found.update((member.name.rstrip("/"), member) for member in tar)
    return found


def test_it_prints_values_that_pin_the_image_that_it_pushed(real: ContainerRegistry, built: Built) -> None:
    airflow = built.values["images"]["airflow"]
    tag, _, digest = airflow["tag"].partition("@")
    assert (airflow["repository"], tag) == (f"{real.host}/team/airflow-pipeops", __version__)
    assert real.manifest("team/airflow-pipeops", __version__)[0] == digest


def test_the_package_and_its_example_dags_are_in_it(files: dict[str, tarfile.TarInfo]) -> None:
    assert f"{SITE}/airflow_pipeops/provider/plugin.py" in files
    examples = {name for name in files if name.startswith(f"{SITE}/airflow_pipeops/example_dags/")}
    assert {
        f"{SITE}/airflow_pipeops/example_dags/{dag.name}" for dag in (ROOT / "dags").glob("*.py")
    } <= examples


def test_what_the_image_lacked_is_within_the_constraints(files: dict[str, tarfile.TarInfo]) -> None:
    assert f"{SITE}/{MISSING}-{WITHIN}.dist-info/METADATA" in files, "and not the newest, which was in reach"
    assert f"{SITE}/{MISSING}-{NEWEST}.dist-info/METADATA" not in files


def test_nothing_else_is_added_or_changed(files: dict[str, tarfile.TarInfo]) -> None:
    added = {name.removeprefix(f"{SITE}/").split("/")[0] for name in files if name.startswith(f"{SITE}/")}
    own = {name for name in added if "pipeops" in name or MISSING in name}
    assert {name for name in added - own if not name.startswith(("_virtualenv", "__pycache__"))} == set()
    elsewhere = {
        name for name, member in files.items() if member.size and not name.startswith(f"{HOME}/.local/")
    }
    of_the_engine = {"etc/hostname", "etc/hosts", "etc/resolv.conf", "run/.containerenv"}
    assert elsewhere - of_the_engine == set(), "neither the source, nor the wheel, nor a cache"


def test_whoever_is_of_the_group_0_may_use_it(files: dict[str, tarfile.TarInfo]) -> None:
    installed = [member for name, member in files.items() if name.startswith(f"{SITE}/airflow_pipeops/")]
    assert installed
    assert {(member.uid, member.gid) for member in installed} == {(USER, 0)}
    assert all(member.mode & 0o060 == 0o060 for member in installed)


def test_it_runs_as_the_user_of_the_base(real: ContainerRegistry, built: Built) -> None:
    _, manifest = real.manifest("team/airflow-pipeops", __version__)
    config = json.loads(real.blob("team/airflow-pipeops", manifest["config"]["digest"]))["config"]
    assert config["User"] == str(USER)


def test_what_does_not_fit_the_constraints_is_no_image(
    real: ContainerRegistry, surroundings: dict[str, str], base: str
) -> None:
    """What an Airflow was not tested with is not silently brought in."""
    arguments = [
        f"--build-arg=AIRFLOW_IMAGE={base}",
        "--build-arg=EXTRAS=--extra nannyml",
        "--build-arg=PACKAGES=",
    ]
    done = image({**surroundings, "SIGN": "no"}, f"{real.host}/team/unfit", *arguments)
    assert done.returncode != 0
    assert "nannyml>=0.13.1" in done.stderr
    assert "nannyml==0.1.0" in done.stderr
    assert done.stdout == ""
    assert real.tags("team/unfit") == []


@pytest.mark.parametrize(
    ("arguments", "changed", "message"),
    [
        ([], {}, "usage: helm/image REPOSITORY"),
        (["registry.example.com/team/x:1.0"], {}, "give the repository without a tag"),
        (["localhost:5000/x@sha256:0"], {}, "give the repository without a tag"),
        (["localhost:5000/x"], {"ENGINE": "kaniko"}, "kaniko is not installed"),
        (
            ["localhost:5000/x"],
            {},
            "cosign is not installed: install it, or leave the image unsigned with SIGN=no",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_built(
    surroundings: dict[str, str], tmp_path: Path, arguments: list[str], changed: dict[str, str], message: str
) -> None:
    for name in ("bash", "dirname", "sed", "buildah"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    (tmp_path / "env").symlink_to(shutil.which("env") or "")
    done = image({**surroundings, "PATH": str(tmp_path), **changed}, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_the_digest_is_signed_with_the_key(real: ContainerRegistry, built: Built) -> None:
    digest, _ = real.manifest("team/airflow-pipeops", __version__)
    assert built.signing == ["sign", "--yes", "--key", KEY, f"{real.host}/team/airflow-pipeops@{digest}"]


def test_the_base_is_the_airflow_that_the_package_is_tested_with() -> None:
    recipe = instructions((ROOT / "helm" / "pipeops" / "Containerfile").read_text())
    default = next(one.rest for one in recipe if one.rest.startswith("AIRFLOW_IMAGE="))
    assert default.startswith(f"AIRFLOW_IMAGE=docker.io/apache/airflow:{AIRFLOW}-python")


def test_the_context_is_what_the_wheel_is_made_from() -> None:
    """Where a file that the wheel needs is left out, the build fails; what it does not need is not sent."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(allowed) == {"airflow_pipeops", "dags", "LICENSE", "README.md", "pyproject.toml"}
