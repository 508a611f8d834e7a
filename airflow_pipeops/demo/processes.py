"""Start processes that do not outlive us, wait for them, and stop them with all their children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class ProcessDied(Exception):
    """A process of the stack ended by itself."""


class Processes:
    """The processes of one stack, each in a session of its own.

    :param home: folder for ``logs/`` and the list of process groups.
    """

    def __init__(self, home: Path) -> None:
        self._logs = home / "logs"
        self._pids = home / "pids"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a process; its output goes to ``logs/<name>.log``."""
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._running[name] = process
        self._pids.write_text("\n".join(str(item.pid) for item in self._running.values()))

    def check(self) -> None:
        """Raise if one of them has ended.

        :raises ProcessDied: with its name, exit status and last lines.
        """
        for name, process in self._running.items():
            if (status := process.poll()) is not None:
                raise ProcessDied(f"{name} ended with status {status}:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a process's log."""
        text = (self._logs / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, patience: float = 15) -> None:
        """End all of them with their children: first politely, then for sure."""
        for process in self._running.values():
            _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        for process in self._running.values():
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()
        self._pids.unlink(missing_ok=True)

    def sweep(self) -> None:
        """End what an earlier stack that was killed has left behind."""
        with contextlib.suppress(FileNotFoundError):
            for pid in self._pids.read_text().split():
                if str(self._logs.parent) in _environment_of(int(pid)):
                    _signal_group(int(pid), signal.SIGKILL)
            self._pids.unlink()

    def memory(self) -> int:
        """Return the memory of all of them and their children in bytes (proportional set size)."""
        sessions = {process.pid for process in self._running.values()}
        return sum(_pss(pid) for pid in _members(sessions))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _environment_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def _members(sessions: set[int]) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) in sessions:
                found.append(int(entry.name))
    return found


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
