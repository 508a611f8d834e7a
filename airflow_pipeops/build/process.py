"""Run a command so that nothing of it outlives us: a process group, a deadline, and the tail of its output."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from airflow_pipeops.exceptions import BuildFailed

#: How much of the output is kept, in bytes.
TAIL_BYTES = 64 * 1024
#: Present in the environment of every descendant, so that one that left the group is found again.
TOKEN = "PIPEOPS_RUN_TOKEN"
_TERM_GRACE = 3.0

#: What a build or test needs of our own environment; everything else (AIRFLOW_*, credentials) stays here.
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    :param status: exit status; negative for a signal.
    :param timed_out: whether the deadline ended it.
    :param seconds: how long it ran.
    :param output: the last :data:`TAIL_BYTES` of its standard output and error.
    """

    status: int
    timed_out: bool
    seconds: float
    output: str


@contextmanager
def scratch(key: str) -> Iterator[Path]:
    """Make a folder that nobody else may read, and take it away; before that, what an attempt left that was killed.

    :param key: the same for each attempt of one task, and for this use of the folder alone.
    :yield: the folder.
    """
    who = f"{os.environ.get('AIRFLOW_HOME', '')} {key}"  # two installations may have runs of one name
    prefix = f"pipeops-{hashlib.sha256(who.encode()).hexdigest()[:24]}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def environment(
    home: Path, extra: Mapping[str, str] | None = None, keep: Sequence[str] = ()
) -> dict[str, str]:
    """Return a small environment: :data:`KEPT` and ``keep`` of ours, a private home, and ``extra``."""
    env = {name: os.environ[name] for name in (*KEPT, *keep) if name in os.environ}
    env.setdefault("LANG", "C.UTF-8")
    env.update(HOME=str(home), PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
    return {**env, **(extra or {})}


class Command:
    """One command. ``kill()`` may be called from another thread or a signal handler.

    :param argv: program and arguments; never a shell line.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: timedelta,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.argv = list(argv)
        self.cwd = cwd
        self.timeout = timeout
        self.on_line = on_line
        #: The same for each attempt of one task: what an attempt left running whose worker was killed ends with the next.
        self.token = uuid.uuid4().hex
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> Finished:
        """Run it to its end or to the deadline; afterwards nothing that it started is alive.

        :return: how it ended, and the end of its output.
        :raises BuildFailed: if the program cannot be started.
        """
        started = time.monotonic()
        _end(self.token)
        try:
            self._process = subprocess.Popen(
                self.argv,
                cwd=self.cwd,
                env={**self._env, TOKEN: self.token},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise BuildFailed(
                f"cannot start {self.argv[0]!r}: {error.strerror}",
                remedy="Install it, or name another command.",
            ) from error
        tail: deque[bytes] = deque()
        reader = threading.Thread(target=self._read, args=(tail,), daemon=True)
        reader.start()
        timed_out = False
        try:
            timed_out = not self._wait(started + self.timeout.total_seconds())
            if timed_out:
                self._signal(signal.SIGTERM)
                self._wait(time.monotonic() + _TERM_GRACE)
        finally:
            # Before the leader is reaped its group id cannot be given to anybody else.
            self.kill()
            status = self._process.wait()
            reader.join(timeout=5)
        output = b"".join(tail)[-TAIL_BYTES:].decode(errors="replace")
        return Finished(status, timed_out, round(time.monotonic() - started, 3), output)

    def kill(self) -> None:
        """End the whole group, and what left it but still carries our token (Linux)."""
        self._signal(signal.SIGKILL)
        _end(self.token)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _wait(self, deadline: float) -> bool:
        """Wait, without reaping, until the leader ended; say whether it did before the deadline."""
        assert self._process is not None
        pause = 0.005
        while time.monotonic() < deadline:
            with suppress(ChildProcessError):
                if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                    time.sleep(pause)
                    pause = min(pause * 1.5, 0.1)
                    continue
            return True
        return False

    def _read(self, tail: deque[bytes]) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        size = 0
        with self._process.stdout as pipe:
            while line := pipe.readline(TAIL_BYTES):
                tail.append(line)
                size += len(line)
                while size - len(tail[0]) >= TAIL_BYTES:
                    size -= len(tail.popleft())
                self.on_line(line.decode(errors="replace").rstrip())


def _end(token: str) -> None:
    for pid in _carriers(token):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _carriers(token: str) -> list[int]:
    wanted = f"{TOKEN}={token}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found
