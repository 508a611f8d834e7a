"""The public names of the package: each resolves, and importing the package costs nothing."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_pipeops
from airflow_pipeops.exceptions import PipeOpsError

FACE = Path(airflow_pipeops.__file__)


def run(*arguments: str) -> list[str]:
    """Run a program (the last argument) in a fresh interpreter, and return the names that it prints as JSON."""
    command = [sys.executable, *arguments[:-1], "-c", arguments[-1]]
    done = subprocess.run(command, cwd=FACE.parents[1], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", airflow_pipeops.__all__)
def test_a_public_name_is_where_it_is_said_to_be(name: str) -> None:
    found = getattr(airflow_pipeops, name)
    assert found.__name__ == name
    assert found.__module__ == f"airflow_pipeops.{airflow_pipeops._MODULES[name]}"
    assert name in dir(airflow_pipeops)


def test_a_type_checker_sees_the_same_names() -> None:
    block = next(
        node for node in ast.parse(FACE.read_text(encoding="utf-8")).body if isinstance(node, ast.If)
    )
    seen = {
        name.asname: node.module.removeprefix("airflow_pipeops.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }
    assert seen == airflow_pipeops._MODULES


def test_importing_the_package_loads_nothing_else() -> None:
    program = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "import airflow_pipeops\n"
        "dir(airflow_pipeops)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    came = run("-S", program)
    assert "airflow_pipeops" in came
    assert not [name for name in came if name.startswith(("airflow_pipeops.", "airflow."))]
    assert "airflow" not in came


def test_a_name_loads_its_own_subject_only() -> None:
    program = (
        "import json, sys\n"
        "from airflow_pipeops import ArgoCDAppSensor, Deliverable\n"
        "print(json.dumps(sorted(name for name in sys.modules if name.startswith('airflow_pipeops.'))))"
    )
    subjects = {name.split(".")[1] for name in run(program)}
    assert {"argocd", "delivery"} <= subjects
    assert not subjects & {"build", "demo", "drift", "governor", "models", "serving", "validation"}


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'ArgoCDApSensor'"):
        _ = airflow_pipeops.ArgoCDApSensor


def test_the_errors_of_the_face_have_one_root() -> None:
    assert issubclass(airflow_pipeops.WaitTimeout, airflow_pipeops.ReleaseFailed)
    assert airflow_pipeops.PipeOpsError is PipeOpsError


def test_the_distribution_has_the_version_of_this_file() -> None:
    assert importlib.metadata.version("airflow-pipeops") == airflow_pipeops.__version__
