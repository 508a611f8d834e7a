"""Start processes that do not outlive us, watch over them, and stop them with all their descendants."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_pipeops.demo import keeper

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: nothing may be imported between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ProcessDied(Exception):
    """A process of the stack ended by itself."""


class Processes:
    """The processes of one stack, each in a session of its own.

    :param home: folder for ``logs/`` and the mark by which a later run finds what this one left.
    """

    def __init__(self, home: Path) -> None:
        self._logs = home / "logs"
        self._mark_file = home / "mark"
        self._mark = ""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._keeper: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Make the mark, and start the keeper that ends our processes should we be killed."""
        self._logs.mkdir(parents=True, exist_ok=True)
        self._mark = uuid.uuid4().hex
        self._mark_file.write_text(self._mark)
        self._keeper = subprocess.Popen(
            [sys.executable, "-S", "-E", keeper.__file__, self._mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, stdin: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a process; its output goes to ``logs/<name>.log``. Only from the main thread (see below).

        :param stdin: whether it gets a pipe to read from.
        :return: the process, which runs.
        """
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.marked(environment),
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Linux tells the child when the *thread* that started it ends.
                preexec_fn=_die_with_parent if _LIBC is not None else None,
            )
        self._running[name] = process
        self._tell(process.pid)
        return process

    def marked(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return an environment with our mark, so that a process started with it is stopped with the others."""
        # Airflow renames its processes; without SPT_NOENV that would overwrite the environment that we look at.
        return {**environment, keeper.MARK: self._mark, "SPT_NOENV": "1"}

    def finish(self, name: str, timeout: float) -> None:
        """Wait for a process that ends by itself.

        :raises ProcessDied: it failed, or was not done in time.
        """
        process = self._running[name]
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessDied(f"{name} was not done after {timeout:.0f} s:\n{self.tail(name)}") from None
        if status:
            raise ProcessDied(self._obituary(name, status))
        del self._running[name]

    def check(self) -> None:
        """Raise if one of them has ended.

        :raises ProcessDied: with its name, exit status and last lines.
        """
        for name, process in list(self._running.items()):
            if (status := process.poll()) is not None:
                raise ProcessDied(self._obituary(name, status))

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a process's log."""
        text = (self._logs / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def pids(self) -> dict[str, int]:
        """Return the process id of each running process by its name."""
        return {name: process.pid for name, process in self._running.items()}

    def stop(self, patience: float = 10) -> None:
        """End all of them with their descendants: first politely, then for sure; at a second Ctrl-C at once."""
        if self._keeper is None:
            return
        roots = [process.pid for process in self._running.values()]
        try:
            keeper.terminate(process.pid for process in self._running.values() if process.poll() is None)
            self._wait(roots, patience)
        except KeyboardInterrupt:
            pass
        with _undisturbed():
            keeper.kill(roots, self._mark)
            for process in self._running.values():
                process.wait()
                if process.stdin is not None:
                    with contextlib.suppress(OSError):
                        process.stdin.close()
            self._running.clear()
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait(30)
            self._keeper = None
            self._mark_file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """End what an earlier stack that was killed, together with its keeper, has left behind."""
        with contextlib.suppress(FileNotFoundError):
            if mark := self._mark_file.read_text().strip():
                keeper.kill((), mark)

    def memory(self) -> int:
        """Return the memory of all of them and their descendants in bytes.

        The proportional set size: what several share is counted once. Zero where the system does not tell it.

        :return: a number of bytes.
        """
        return sum(_pss(pid) for pid in keeper.family(self.pids().values(), self._mark))

    def cpu_seconds(self) -> float:
        """Return the processor time of all of them and their descendants; zero where the system does not tell it."""
        return sum(_cpu(pid) for pid in keeper.family(self.pids().values(), self._mark))

    def _obituary(self, name: str, status: int) -> str:
        how = f"with status {status}"
        if status < 0:
            with contextlib.suppress(ValueError):
                how = f"by signal {-status} ({signal.Signals(-status).name})"
        return f"{name} ended {how}; the end of {self._logs / name}.log:\n{self.tail(name)}"

    def _wait(self, roots: Sequence[int], patience: float) -> None:
        for _ in range(int(patience * 10)):
            for process in self._running.values():
                process.poll()
            if keeper.wait(roots, self._mark, 0):
                return

    def _tell(self, pid: int) -> None:
        if self._keeper is not None and self._keeper.stdin is not None:
            with contextlib.suppress(OSError):
                self._keeper.stdin.write(f"{pid}\n".encode())
                self._keeper.stdin.flush()


class _undisturbed(contextlib.ContextDecorator):
    """No Ctrl-C for a moment: what happens now is short and must be whole."""

    def __enter__(self) -> None:
        self._before = {}
        with contextlib.suppress(ValueError):  # signals belong to the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _cpu(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
