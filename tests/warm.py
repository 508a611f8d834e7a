"""Programs in forks of a Python that has loaded what they need: to load Airflow takes longer than what most of them do.

``python warm.py MODULE...`` loads the modules, and then runs a program for each line on standard input: {"words": as for
Python, "env": {}, "folder": ""}. What it prints is in the folder's out and err; pid is its process and process group; when
it has ended, its exit code is in code. Its environment is that of the Python, and the variables of the line, which are in
time only for what is read when it is needed: where Airflow's home is, for one, is read when Airflow is loaded.

Where ``WARM_SOCKET`` names a socket, whoever connects to it sends words, environment and folder, and its files 0, 1 and 2,
and is sent process and exit code: so does the program of :meth:`Warm.command`, which stands where Python would be started.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

#: What ``airflow`` loads.
AIRFLOW = ("airflow.cli.cli_parser", "airflow.models.dag", "airflow.models.asset")
#: What ``dag.test()`` loads beside it.
DAGS = (*AIRFLOW, "airflow.models.dagrun", "airflow.sdk.execution_time.supervisor")

_SOCKET = "WARM_SOCKET"
#: Runs as little as can be: it has to begin at once.
_COMMAND = """#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as fork:
    fork.connect({path!r})
    said = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(fork, [b"%8d" % len(said)], [0, 1, 2])
    fork.sendall(said)
    pid = int(fork.recv(8))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    code = int(fork.recv(8))
if code < 0:
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(code)
"""


class Running:
    """A program that was started in a fork."""

    def __init__(self, folder: Path, alive: Callable[[], None]) -> None:
        self._folder, self._alive = folder, alive
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """Its process, which leads a group of processes."""
        return int(self._awaited("pid", 60))

    def poll(self) -> int | None:
        """Return its exit code; ``None`` while it runs."""
        if self._code is None and (self._folder / "code").exists():
            self._code = int(self._read("code"))
        return self._code

    def said(self) -> str:
        """Return what it has printed, and then what it has said of errors."""
        return "".join(self._read(name) for name in ("out", "err"))

    def wait(self, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """Wait for its end."""
        self._code = int(self._awaited("code", timeout))
        return subprocess.CompletedProcess((), self._code, self._read("out"), self._read("err"))

    def kill(self) -> None:
        """End it and its children, if it has not ended, and wait for that."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended in this moment
                os.killpg(self.pid, signal.SIGKILL)
            self.wait(30)

    def _read(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8", errors="replace")

    def _awaited(self, name: str, timeout: float) -> str:
        path, ends = self._folder / name, time.monotonic() + timeout
        while not path.exists():
            self._alive()
            assert time.monotonic() < ends, f"no {name} after {timeout} s: {self.said()[-5000:]}"
            time.sleep(0.05)
        return self._read(name)


class Warm:
    """A Python that has loaded modules.

    :param environment: of it and its programs.
    :param modules: to load; the whole of ``airflow``'s command line by default.
    :param python: where it is not that of the tests.
    """

    def __init__(
        self, environment: Mapping[str, str], modules: Sequence[str] = AIRFLOW, python: str = sys.executable
    ) -> None:
        self.environment = dict(environment)
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._count = 0
        path = self._folder.name + "/socket"
        with Path(self._folder.name, "log").open("wb") as log:
            self.process = subprocess.Popen(
                [python, __file__, *modules],
                env={**self.environment, _SOCKET: path},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def start(self, *words: str, **environment: str) -> Running:
        """Run a program: ``-m MODULE``, ``-c TEXT`` or a file, and its arguments."""
        self._count += 1
        folder = Path(self._folder.name, str(self._count))
        folder.mkdir()
        asked(self.process, words, environment, folder)
        return Running(folder, self._check)

    def run(self, *words: str, timeout: float = 280, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return self.start(*words, **environment).wait(timeout)

    def command(self) -> str:
        """Return the file of a program that takes the arguments of Python, and runs them in a fork.

        It ends as that does, and ends it when it is ended; what the fork is killed by is always told as SIGKILL.
        """
        path = Path(self._folder.name, "python")
        if not path.exists():
            text = _COMMAND.format(python=sys.executable, path=f"{self._folder.name}/socket")
            path.write_text(text, encoding="utf-8")
            path.chmod(0o700)
        while not path.with_name("socket").exists():
            self._check()
            time.sleep(0.05)
        return str(path)

    def stop(self) -> None:
        """End it; programs that have not ended go on."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        self._folder.cleanup()

    def _check(self) -> None:
        assert self.process.poll() is None, Path(self._folder.name, "log").read_text("utf-8")[-5000:]


@cache
def programs() -> Warm:
    """Return a Python that has loaded what most programs of ours load; it ends with this process."""
    libraries = (
        "pandas",
        "pyarrow.parquet",
        "sklearn.compose",
        "sklearn.ensemble",
        "sklearn.metrics",
        "skops.io",
    )
    return Warm(os.environ, ("airflow.sdk", *libraries))


def asked(
    process: subprocess.Popen[bytes], words: Sequence[str], environment: Mapping[str, str], folder: Path
) -> None:
    """Ask the process of such a Python to run a program."""
    for name in ("out", "err"):
        (folder / name).touch()
    line = json.dumps({"words": words, "env": dict(environment), "folder": str(folder)})
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


def serve(modules: Sequence[str]) -> None:
    """Load all once, then fork for each line."""
    for name in modules:
        importlib.import_module(name)
    if "airflow.sdk.execution_time.supervisor" in modules:
        from airflow.sdk.execution_time.supervisor import in_process_api_server

        # Makes the models of each version of Airflow's API for tasks, else done with the first call.
        getattr(in_process_api_server().app, "_cadwyn_initialize", lambda: None)()
    assert threading.active_count() == 1, f"no fork has these: {threading.enumerate()}"
    signal.signal(signal.SIGCHLD, _reap)
    if (path := os.environ.pop(_SOCKET, "")) and not os.fork():
        _accept(path)
    for line in iter(sys.stdin.readline, ""):
        if not os.fork():
            _look_after(**json.loads(line))


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _accept(path: str) -> None:
    """Fork for each that connects, as long as the Python lives."""
    python = os.getppid()
    listens = socket.socket(socket.AF_UNIX)
    listens.bind(path + ".new")
    listens.listen(64)
    listens.settimeout(1)
    os.rename(path + ".new", path)
    while os.getppid() == python:
        with contextlib.suppress(TimeoutError):
            asks, _ = listens.accept()
            if not os.fork():
                listens.close()
                _attend(asks)
            asks.close()
    os._exit(0)


def _attend(asks: socket.socket) -> None:
    """Run what somebody asks for, with the files of whoever asks, and end it when that one ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asks.settimeout(None)
    size, files, *_ = socket.recv_fds(asks, 8, 3)
    with asks.makefile("rb") as sent:
        words, env, folder = json.loads(sent.read(int(size)))
    if not (child := os.fork()):
        asks.close()
        os.setsid()
        os.chdir(folder)
        os.environ.clear()
        sys.path[:0] = [folder, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
        _become(words, env, files)
    for file in files:
        os.close(file)
    asks.sendall(b"%8d" % child)
    with contextlib.suppress(OSError), open(os.pidfd_open(child), "rb") as ended:
        if asks in select.select([asks, ended], [], [])[0]:
            os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        asks.sendall(b"%8d" % code)
    os._exit(0)


def _look_after(words: Sequence[str], env: Mapping[str, str], folder: str) -> None:
    """Run a program in a child, and write down how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not (child := os.fork()):
        os.setsid()
        paths = (os.devnull, *(f"{folder}/{name}" for name in ("out", "err")))
        _become(words, env, [os.open(path, os.O_RDWR | os.O_CREAT) for path in paths])
    _write(Path(folder, "pid"), child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has left behind
    _write(Path(folder, "code"), code)
    os._exit(0)


def _write(path: Path, number: int) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(str(number), encoding="utf-8")
    unfinished.rename(path)


def _become(words: Sequence[str], env: Mapping[str, str], files: Sequence[int]) -> None:
    code: Any = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.environ.update(env)
        _run(words)
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(words: Sequence[str]) -> None:
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # as for those who start Python in the root
    serve(sys.argv[1:])
