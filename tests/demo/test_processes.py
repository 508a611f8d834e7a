"""However the demo ends, nothing of it stays: real processes, killed in the ways that people and machines kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_pipeops.demo import keeper
from airflow_pipeops.demo.processes import ProcessDied, Processes

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

#: Does what Airflow's executor does: a child in a process group of its own, that does not listen to TERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import os, time; os.setpgid(0, 0); time.sleep(600)"])
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
#: A child that left its parent, its group and its session behind.
DAEMON = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
"""
#: A demo in small: starts the two, says their ids, and waits to be killed.
DEMO = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background of a shell
from airflow_pipeops.demo.processes import Processes
home, program = Path(sys.argv[1]), sys.argv[2]
processes = Processes(home)
processes.begin()
processes.start("stubborn", [sys.executable, "-c", program], os.environ)
while len(processes.tail("stubborn").split()) < 2:
    time.sleep(0.02)
try:
    print(processes.tail("stubborn"), flush=True)  # from here on it may be interrupted
    time.sleep(600)
except KeyboardInterrupt:
    print("stopping", flush=True)
    processes.stop(patience=float(sys.argv[3]))
"""


def until(fact: Callable[[], bool], patience: float = 120) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + patience
    while not fact():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    return pid in keeper._processes()


@pytest.fixture
def processes(tmp_path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    made.begin()
    yield made
    made.stop(patience=0)


def test_stop_ends_what_does_not_listen_and_what_has_another_group(processes) -> None:
    processes.start("stubborn", [sys.executable, "-c", STUBBORN], os.environ)
    until(lambda: len(processes.tail("stubborn").split()) == 2)
    pids = [int(pid) for pid in processes.tail("stubborn").split()]
    processes.stop(patience=0.5)
    assert not [pid for pid in pids if alive(pid)]


@LINUX
def test_stop_ends_what_went_its_own_way(processes) -> None:
    processes.start("daemon", [sys.executable, "-c", DAEMON], os.environ)
    until(lambda: bool(processes.tail("daemon").strip()))
    orphan = int(processes.tail("daemon"))
    processes.finish("daemon", timeout=20)
    assert alive(orphan)
    processes.stop(patience=0)
    assert not alive(orphan)


def test_a_death_is_told_with_name_cause_and_last_words(processes) -> None:
    processes.start("oracle", [sys.executable, "-c", "print('alas'); raise SystemExit(7)"], os.environ)
    with pytest.raises(ProcessDied, match=r"(?s)oracle ended with status 7.*oracle\.log.*alas"):
        until(lambda: processes.check() is not None)


def test_a_death_by_signal_names_the_signal(processes) -> None:
    processes.start("oracle", [sys.executable, "-c", "import time; time.sleep(600)"], os.environ)
    os.kill(processes.pids()["oracle"], signal.SIGKILL)
    with pytest.raises(ProcessDied, match=r"oracle ended by signal 9 \(SIGKILL\)"):
        until(lambda: processes.check() is not None)


def test_what_should_end_and_fails_is_told(processes) -> None:
    processes.start("database", [sys.executable, "-c", "raise SystemExit('no room')"], os.environ)
    with pytest.raises(ProcessDied, match=r"(?s)database ended with status 1.*no room"):
        processes.finish("database", timeout=20)


@LINUX
def test_memory_counts_descendants(processes) -> None:
    hungry = "b = bytearray(64 * 2**20); print('fed', flush=True); import time; time.sleep(600)"
    program = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hungry!r}], start_new_session=True)"
    )
    processes.start("parent", [sys.executable, "-c", program], os.environ)
    until(lambda: "fed" in processes.tail("parent"))
    assert 64 * 2**20 < processes.memory() < 160 * 2**20


@pytest.fixture
def small_demo(tmp_path) -> Iterator[tuple[subprocess.Popen, list[int]]]:
    command = [sys.executable, "-c", DEMO, str(tmp_path), STUBBORN, "60"]
    demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert demo.stdout is not None
    pids = [int(pid) for pid in demo.stdout.readline().split()]
    yield demo, pids
    demo.kill()
    demo.communicate()
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_killed_demo_leaves_nothing(small_demo) -> None:
    demo, pids = small_demo
    demo.kill()
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_second_ctrl_c_ends_everything_at_once(small_demo, tmp_path) -> None:
    demo, pids = small_demo
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.stdout.readline().strip() == "stopping"
    until(lambda: "told" in (tmp_path / "logs" / "stubborn.log").read_text())
    assert all(alive(pid) for pid in pids), "the first waits for what takes its time"
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(10) == 0
    assert not any(alive(pid) for pid in pids)


@LINUX
def test_the_next_demo_sweeps_what_the_last_left_even_without_its_keeper(small_demo, tmp_path) -> None:
    demo, pids = small_demo
    keepers = [pid for pid, near in keeper._processes().items() if demo.pid in near and pid not in pids]
    keepers = [pid for pid in keepers if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(keepers) == 1
    os.kill(keepers[0], signal.SIGKILL)
    demo.kill()
    demo.wait()
    assert alive(pids[1])
    Processes(tmp_path).sweep()
    assert not any(alive(pid) for pid in pids)
