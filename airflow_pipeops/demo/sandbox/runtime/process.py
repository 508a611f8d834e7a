"""Starts and ends the local processes behind containers, and leaves none behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from airflow_pipeops.base.deadlines import within
from airflow_pipeops.demo.sandbox.runtime import reaper

#: A log file is cut in two halves at this size: the older half is dropped.
LOG_CAP = 4 * 1024 * 1024


class Process:
    """One started process, leader of its own group."""

    def __init__(self, proc: asyncio.subprocess.Process, done: Callable[[int], None]) -> None:
        self._proc = proc
        self._done = done
        self.pid = proc.pid

    async def wait(self) -> int:
        """Wait for its end; returns the exit code as a container has it (128 + signal). Ends its group too."""
        code = await self._proc.wait()
        # As in a container: when the first process ends, the others end with it.
        reaper.kill_group(self.pid)
        self._done(self.pid)
        return code if code >= 0 else 128 - code

    def starved(self) -> float:
        """Return the seconds for which it was ready to run and got no processor; zero where the system does not tell."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int(Path(f"/proc/{self.pid}/schedstat").read_bytes().split()[1]) / 1e9
        return 0.0

    def signal(self, how: int) -> None:
        """Send a signal to the whole group; nothing happens when it has ended."""
        reaper.kill_group(self.pid, how)

    async def terminate(self, grace: float) -> None:
        """Ask the group to end, and kill it after ``grace`` seconds. Somebody else awaits :meth:`wait`."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(asyncio.TimeoutError):
            await within(grace, self._proc.wait())
            return
        self.signal(signal.SIGKILL)
        await self._proc.wait()


class ProcessTable:
    """All processes of one cluster.

    :param state_dir: where the pid file and the cluster's mark are kept, for the clean-up after a hard end.
    """

    def __init__(self, state_dir: Path) -> None:
        self._pids = state_dir / "processes"
        mark = state_dir / "mark"
        if not mark.exists():
            mark.write_text(uuid.uuid4().hex)
        self.mark = mark.read_text().strip()
        self._running: dict[int, str] = {}
        self._keeper: subprocess.Popen[str] | None = None
        self._ports: list[int] = []

    def start(self) -> None:
        """Kill what an earlier run has left, and start the keeper that outlives a hard end of this one."""
        self._sweep()
        self._keeper = subprocess.Popen(
            [sys.executable, "-S", "-E", reaper.__file__, self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def stop(self) -> None:
        """Kill what is left, and end the keeper."""
        for pid in list(self._running):
            reaper.kill_group(pid)
        reaper.kill_marked(self.mark)
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            with contextlib.suppress(OSError):
                self._keeper.stdin.close()
            try:
                self._keeper.wait(10)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
            self._keeper = None
        self._running.clear()
        self._save()

    def free_port(self) -> int:
        """Return a port on loopback that is free, and was not given out just before."""
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in self._ports:
                self._ports = [*self._ports[-63:], port]
                return port

    async def spawn(self, argv: list[str], *, env: dict[str, str], cwd: Path, log: Path) -> Process:
        """Start a process in its own session, its output appended to ``log``.

        :return: the process, which runs.
        :raises OSError: the program cannot be started.
        """
        reading, writing = os.pipe()
        try:
            proc = await asyncio.create_subprocess_exec(
                *argv,
                env={**env, reaper.MARK: self.mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._running[proc.pid] = _started(proc.pid)
        self._tell(f"+{proc.pid}")
        self._save()
        loop = asyncio.get_running_loop()
        # Not the subprocess module's own pipe: waiting for the end must not wait for whoever holds the pipe.
        await loop.connect_read_pipe(lambda: _LogWriter(log), os.fdopen(reading, "rb", 0))
        return Process(proc, self._ended)

    def _ended(self, pid: int) -> None:
        if self._running.pop(pid, None) is not None:
            self._tell(f"-{pid}")
            self._save()

    def _tell(self, line: str) -> None:
        if self._keeper is not None and self._keeper.stdin is not None:
            with contextlib.suppress(OSError):
                self._keeper.stdin.write(line + "\n")
                self._keeper.stdin.flush()

    def _save(self) -> None:
        self._pids.write_text("".join(f"{pid} {started}\n" for pid, started in self._running.items()))

    def _sweep(self) -> None:
        reaper.kill_marked(self.mark)
        if not self._pids.exists():
            return
        for line in self._pids.read_text().splitlines():
            pid, _, started = line.partition(" ")
            # The start time tells our process from a stranger that got its number since.
            if pid.isdigit() and started and _started(int(pid)) == started:
                reaper.kill_group(int(pid))
        self._pids.write_text("")


def _started(pid: int) -> str:
    """Return when a process started, in the system's own words; empty where it cannot be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        if Path("/proc/self").exists():
            return ""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


class _LogWriter(asyncio.Protocol):
    """Appends what a process writes to its log file, within the cap."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")

    def data_received(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        if self._file.tell() > LOG_CAP:
            self._file.close()
            kept = self._path.read_bytes()[-LOG_CAP // 2 :]
            self._path.write_bytes(kept[kept.find(b"\n") + 1 :])
            self._file = self._path.open("ab")

    def connection_lost(self, exc: Exception | None) -> None:
        self._file.close()


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log file; none where there is no file."""
    if lines <= 0 or not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1024 * 1024))
        text = file.read().decode("utf-8", "replace")
    return text.splitlines()[-lines:]
