"""The charts as packages: in a registry, as an OCI artefact, and out of it again, with both majors of Helm."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from airflow_pipeops import __version__
from tests.deploy.helm.running import MAJORS
from tests.helm.programs import CHART, alone
from tests.registry import LOGIN, PASSWORD, ContainerRegistry, registry

REACH = ("--plain-http", "--username", LOGIN, "--password", PASSWORD)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistry]:
    """Without TLS: at this machine's own name, Helm 3 leaves it out whatever it is told."""
    with registry(tmp_path_factory.mktemp("registry"), tls=False) as running:
        yield running


def rendered(major: str, home: Path, *source: str | Path) -> list[dict[str, object]]:
    done = alone(
        major, home, "template", "pipeops", *source, "-n", "airflow", "--set", "rbac.flux.enabled=true"
    )
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.mark.parametrize("major", MAJORS)
def test_the_chart_is_installed_from_a_registry_by_version_or_digest(
    real: ContainerRegistry, major: str, tmp_path: Path
) -> None:
    """Packaged, pushed, and rendered from there as it is rendered from the repository."""
    where = f"oci://{real.host}/{major}"
    alone(major, tmp_path, "package", CHART, "-d", tmp_path)
    told = alone(major, tmp_path, "push", tmp_path / f"pipeops-{__version__}.tgz", where, *REACH)
    (digest,) = set(re.findall(r"sha256:[0-9a-f]{64}", told.stdout + told.stderr))
    assert real.manifest(f"{major}/pipeops", __version__)[0] == digest
    here = rendered(major, tmp_path, CHART)
    assert {document["kind"] for document in here} == {"ServiceAccount", "Role", "RoleBinding"}
    assert rendered(major, tmp_path, f"{where}/pipeops", "--version", __version__, *REACH) == here
    if major == "helm4":  # Helm 3 takes a digest with a version only
        assert rendered(major, tmp_path, f"{where}/pipeops@{digest}", *REACH) == here
    about = yaml.safe_load(alone(major, tmp_path, "show", "chart", f"{where}/pipeops", *REACH).stdout)
    assert (about["version"], about["appVersion"]) == (__version__, __version__)


def test_the_package_holds_what_an_installation_needs(tmp_path: Path) -> None:
    alone("helm4", tmp_path, "package", CHART, "-d", tmp_path)
    with tarfile.open(tmp_path / f"pipeops-{__version__}.tgz") as tar:
        names = {name.removeprefix("pipeops/") for name in tar.getnames()}
    assert {"values.schema.json", "README.md", "values-airflow.yaml", "values-airflow-trial.yaml"} <= names
    assert not [name for name in names if name.startswith("tests/")]
    assert "Containerfile" not in names, "it builds from the repository"
