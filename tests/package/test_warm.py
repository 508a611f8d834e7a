"""A program in a fork of a Python that has loaded everything ends, and is ended, as one that Python was started for."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm import Warm

SAYS = "import os, sys; print(sys.stdin.read(), sys.argv, os.getcwd(), os.environ['A']); sys.exit('no')"
HEARS = "import os, signal, time; signal.signal(15, lambda *_: os._exit(7)); print(os.getpid(), flush=True); time.sleep(60)"


@pytest.fixture
def python() -> Iterator[str]:
    warm = Warm(os.environ, ("json",))
    yield warm.command()
    warm.stop()


def test_it_has_the_files_words_environment_and_folder_of_whoever_starts_it(
    python: str, tmp_path: Path
) -> None:
    asked = {"input": "hello", "cwd": tmp_path, "env": {**os.environ, "A": "1"}}
    ran = subprocess.run([python, "-c", SAYS, "x"], capture_output=True, text=True, **asked)
    assert (ran.returncode, ran.stderr) == (1, "no\n")
    assert ran.stdout == f"hello ['-c', 'x'] {tmp_path} 1\n"


def test_it_is_told_to_end_and_is_ended(python: str) -> None:
    for end, code in ((subprocess.Popen.terminate, 7), (subprocess.Popen.kill, -9)):
        with subprocess.Popen([python, "-c", HEARS], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            pid, until = int(process.stdout.readline()), time.monotonic() + 30
            end(process)
            assert process.wait(30) == code
            assert process.stdout.read() == "", "nobody has its files any more"
            while Path(f"/proc/{pid}").exists():
                assert time.monotonic() < until
                time.sleep(0.01)
    assert subprocess.run([python, "-c", "import os; os.kill(os.getpid(), 9)"]).returncode == -9
