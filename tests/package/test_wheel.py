"""The wheel holds what an installation needs: example DAGs, typing marker, metadata."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.surroundings import outside

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "uv", "build", "--wheel", "--out-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=240, env=outside())
    return next(folder.glob("*.whl"))


def test_example_dags_travel_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for dag in (ROOT / "dags").glob("*.py"):
        assert f"airflow_pipeops/example_dags/{dag.name}" in names
    assert "airflow_pipeops/py.typed" in names
    assert not [name for name in names if name.startswith("tests/")]


def test_an_installation_finds_them_there(wheel: Path, tmp_path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "from airflow_pipeops.provider.examples import ExampleDagsBundle as B; print(B(name='x').path)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.splitlines()[-1] == str(tmp_path / "airflow_pipeops" / "example_dags")


def test_five_requirements_are_named(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(n for n in archive.namelist() if n.endswith("METADATA"))).decode()
    lines = [line.partition(": ")[2] for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    required = {Requirement(line).name for line in lines if "extra ==" not in line}
    assert {
        "apache-airflow", "apache-airflow-providers-cncf-kubernetes", "argo-workflows", "evidently", "great-expectations",
    } <= required  # fmt: skip
