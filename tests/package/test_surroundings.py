"""No machine decides what the tests say: a part of the suite passes in hostile surroundings, of each kind and of all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import hostile, surroundings

ROOT = Path(__file__).parents[2]
#: Tests that meet Git, Airflow's connections and configuration, encodings, times, kubectl and child processes.
SAMPLE = (
    "tests/git/test_repository.py::TestRevert",
    "tests/git/test_repository.py::TestHttp",
    "tests/build/test_run_tests.py",
    "tests/delivery/test_records.py",
    "tests/demo/test_configuration.py",
    "tests/demo/test_seeds.py",
    "tests/kubernetes/test_connections.py",
)


def passes(kinds: list[str], *tests: str) -> None:
    command = hostile.pytest("-q", "-p", "no:cacheprovider", *tests)
    ran = hostile.run(kinds, command, capture_output=True, encoding="utf-8", errors="replace")
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    told = re.search(r"(\d+) passed", ran.stdout)
    assert told, ran.stdout
    assert int(told.group(1)) > 5


@pytest.mark.timeout(1800)
def test_with_everything_hostile_at_once() -> None:
    passes(list(hostile.KINDS), *SAMPLE)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", hostile.KINDS)
def test_with_one_thing_hostile(kind: str) -> None:
    passes([kind], *SAMPLE)


def test_hostile_surroundings_are_hostile(tmp_path) -> None:
    """Without what the suite does against it, Git fails there: else nothing above would be shown."""
    script = (
        f"cd {tmp_path} && git init -q --initial-branch=x repo && cd repo && git commit -q --allow-empty -m x"
    )
    assert hostile.run(["git"], ["sh", "-c", script], capture_output=True).returncode != 0
    asked = hostile.run(
        ["airflow"], ["sh", "-c", "echo $AIRFLOW__CORE__EXECUTOR; umask"], capture_output=True
    )
    assert asked.stdout.split()[0] == b"Nonsense"
    assert hostile.run(["umask"], ["sh", "-c", "umask"], capture_output=True).stdout.strip() == b"0077"


def test_this_process_has_left_its_machine_behind() -> None:
    assert Path(os.environ["HOME"]).is_relative_to(os.environ["PIPEOPS_TESTS_FOLDER"])
    assert Path(os.environ["AIRFLOW_HOME"]).is_relative_to(os.environ["HOME"])
    known = (*surroundings.KEPT, *surroundings.OURS, *surroundings.GIT)
    ours = ("HOME", "AIRFLOW_", "LC_ALL", "TZ", "DO_NOT_TRACK", "GX_", "MLFLOW_DISABLE", "OMP_NUM_THREADS")
    strange = [name for name in surroundings.left if not name.startswith((*known, *ours))]
    assert strange == []


def test_python_without_assertions_is_refused() -> None:
    command = [sys.executable, "-O", "-m", "pytest", "-q", "tests/git/test_urls.py"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert ran.returncode != 0
    assert "no test could fail" in ran.stdout + ran.stderr


def test_a_download_still_knows_the_machine(monkeypatch) -> None:
    monkeypatch.setenv("PIPEOPS_OUTSIDE_HTTPS_PROXY", "http://proxy:3128")
    assert surroundings.outside()["HTTPS_PROXY"] == "http://proxy:3128"
    assert "HTTPS_PROXY" not in os.environ
