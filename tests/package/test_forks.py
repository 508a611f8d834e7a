"""Tests that run in forks: none is lost, and what became of each is told as where there are no forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys, pytest; from tests import forks; forks.LIBRARIES = (); sys.exit(pytest.main(sys.argv[1:]))"
)
SHARES = """
import os, warnings, pytest

@pytest.fixture(scope="session")
def shared():
    return os.getpid()

def test_first(shared, tmp_path):
    warnings.warn("take care")
    print("fork", os.getpid() == shared, tmp_path.parent.name[:4], os.environ["HOME"])
    os.system("echo said")
    assert shared == os.getppid()

def test_second(shared):
    assert shared == os.getpid()

def test_no():
    pytest.skip("not here")
"""


def run(folder: Path, **texts: str) -> subprocess.CompletedProcess[str]:
    for name, text in texts.items():
        (folder / f"test_{name}.py").write_text(text)
    given = (
        "-rs",
        "-p",
        "tests.forks",
        "--forks",
        "2",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        str(folder),
    )
    command = [sys.executable, "-c", PROGRAM, *given, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")


def test_what_becomes_of_each_test_is_told(tmp_path) -> None:
    ran = run(tmp_path, shares=SHARES, other="def test_passes(): pass\n")
    assert ran.returncode == 1
    for told in (
        "1 failed, 2 passed, 1 skipped",
        "take care",
        "fork True fork",
        "said",
        "not here",
    ):
        assert told in ran.stdout


def test_a_death_fails_the_run_and_is_named(tmp_path) -> None:
    dies = "import os\ndef test_dies(): os._exit(0)\ndef test_never(): pass\n"
    ran = run(tmp_path, dies=dies, other="def test_passes(): pass\n")
    assert ran.returncode != 0
    assert "ended in the middle of test_dies.py::test_dies" in ran.stdout
    assert "1 passed" in ran.stdout
