"""Folders for secrets: held by whoever uses them, and deleted once nobody does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from airflow_pipeops.base.folders import PrivateFolder

#: Makes a folder with a secret, begins a child that uses it, tells both, and waits to be killed.
KILLED = """
import subprocess, sys, time
from airflow_pipeops.base.folders import PrivateFolder
folder = PrivateFolder("pipeops-test-")
(folder.path / "secret").write_text("hunter2")
child = subprocess.Popen(["sleep", "600"], pass_fds=(folder.lock,), start_new_session=True)
print(folder.path, child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_what_a_killed_process_left_goes_once_its_last_child_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path, child = process.stdout.readline().split()
        left = Path(path)
        assert left.stat().st_mode & 0o777 == 0o700
        PrivateFolder("pipeops-test-").close()
        assert left.exists(), "it is in use"
        process.kill()
    PrivateFolder("pipeops-test-").close()
    assert (left / "secret").exists(), "a child that finishes its work needs it"
    os.kill(int(child), signal.SIGKILL)
    end = time.monotonic() + 60
    while left.exists():
        assert time.monotonic() < end
        PrivateFolder("pipeops-test-").close()


def test_one_that_is_closed_is_gone_and_others_are_left_alone(here: Path) -> None:
    (here / "pipeops-test-link").symlink_to(here.parent)
    (here / "pipeops-test-file").write_text("")
    (here / "another").mkdir()
    first, second = PrivateFolder("pipeops-test-"), PrivateFolder("pipeops-test-")
    first.close()
    first.close()
    assert not first.path.exists()
    assert second.path.exists()
    second.close()
    assert sorted(one.name for one in here.iterdir()) == ["another", "pipeops-test-file", "pipeops-test-link"]
    assert here.parent.exists()


def test_one_that_goes_before_it_is_held_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that tidies up may come between the two."""
    made, others = tempfile.mkdtemp, iter([lambda: PrivateFolder("pipeops-test-").close()])

    def interrupted(**more: str) -> str:
        path = made(**more)
        next(others, lambda: None)()
        return path

    monkeypatch.setattr("tempfile.mkdtemp", interrupted)
    folder = PrivateFolder("pipeops-test-")
    assert folder.path.is_dir()
    folder.close()
