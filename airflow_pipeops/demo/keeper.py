"""Ends what the demo started when the demo itself can no longer do so.

Run as a program: a tiny process of its own that waits for the end of its standard input, which the demo holds open.
However the demo ends, ``kill -9`` included, the pipe closes, and what is left of its family is ended: the processes
it told of (``+PID`` lines), whatever carries its mark in its environment, and all their descendants. Airflow gives
each task a process group of its own, so that ending groups alone would leave tasks behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

#: Environment variable that marks every process of one demo.
MARK = "PIPEOPS_DEMO_MARK"
_PATIENCE = 5.0


def family(roots: Iterable[int], mark: str) -> set[int]:
    """Return the living processes among ``roots``, those that carry the mark, and all that descend from them.

    Descent is by parent and by session, so that a child whose parent has ended is found too. We are never among them.

    :return: process ids.
    """
    processes = _processes()
    found = {pid for pid in processes if pid in set(roots) or _carries(pid, mark)} - {os.getpid()}
    grown = True
    while grown:
        more = {pid for pid, near in processes.items() if near & found} - found - {os.getpid()}
        found |= more
        grown = bool(more)
    return found


def terminate(pids: Iterable[int]) -> None:
    """Ask processes to end."""
    _signal(pids, signal.SIGTERM)


def kill(roots: Iterable[int], mark: str) -> None:
    """Kill a family, and what it may start meanwhile."""
    for _ in range(10):
        if not (left := family(roots, mark)):
            return
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)


def wait(roots: Iterable[int], mark: str, patience: float) -> bool:
    """Wait until a family has ended; false if it has not within ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while family(roots, mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main(mark: str) -> None:
    """Follow the list of processes until the input ends, then end what is left of the family."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # A Ctrl-C in the terminal reaches us too; we must outlive the demo.
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    roots = {int(line) for line in sys.stdin}
    terminate(roots & family(roots, mark))
    wait(roots, mark, _PATIENCE)
    kill(roots, mark)


def _processes() -> dict[int, set[int]]:
    """Return each living process with its parent and its session (or group, where there is no ``/proc``)."""
    found: dict[int, set[int]] = {}
    if not Path("/proc/self/stat").exists():
        command = ["ps", "-A", "-o", "pid=,ppid=,pgid=,state="]
        listed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        for line in listed.splitlines():
            pid, parent, group, state = line.split()[:4]
            if not state.startswith("Z"):
                found[int(pid)] = {int(parent), int(group)}
        return found
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            state, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                found[int(entry.name)] = {int(parent), int(session)}
    return found


def _carries(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


if __name__ == "__main__":
    main(sys.argv[1])
