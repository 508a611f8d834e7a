"""A PostgreSQL of our own for a test module: real, empty, behind a Unix socket, gone afterwards."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2


def _program(name: str) -> str:
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))), None)
    assert found, f"{name} is not here: run .ci/engines"
    return found


def free_ports(count: int) -> int:
    """Return the first of as many ports in a row that nothing listens on now.

    Below the range from which the system gives ports to whoever asks for any.
    """
    for first in random.sample(range(11_000, 30_000, count), 200):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError(f"no {count} free ports in a row were found")


@dataclass
class Postgres:
    """A running server."""

    folder: Path
    user: tuple[str, ...]

    def connect(self) -> Any:
        """Return a new connection."""
        return psycopg2.connect(host=str(self.folder / "socket"), user="tester", dbname="postgres")

    def control(self, *words: str) -> None:
        """Start or stop it."""
        program = [*self.user, _program("pg_ctl"), "-D", str(self.folder / "data"), "-w", *words]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)

    def start(self) -> None:
        """Start it; it listens to a socket in its folder alone."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}/socket' -c fsync=off"
        self.control("-l", str(self.folder / "log"), "-o", options, "start")


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server, not as root, which it refuses."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path may have 107 characters
    user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres" if "postgres" in {u.pw_name for u in pwd.getpwall()} else "nobody")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--")
    server = Postgres(folder, user)
    try:
        subprocess.run([*user, "mkdir", str(folder / "socket")], check=True)
        making = [
            *user,
            _program("initdb"),
            "-D",
            str(folder / "data"),
            "-U",
            "tester",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
        ]
        subprocess.run([*making, "--locale=C"], check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=120)
        server.start()
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.control("-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


class Hook:
    """What the engine asks of an Airflow hook: a ``DbApiHook`` over a server that has no Airflow connection."""

    conn_type = "postgres"

    def __init__(self, server: Postgres) -> None:
        self.server, self.connections = server, 0

    def get_conn(self) -> Any:
        """Return a new connection."""
        self.connections += 1
        return self.server.connect()

    def get_records(self, sql: str) -> Any:
        """Not used by the engine, and part of what tells a ``DbApiHook``."""
        raise NotImplementedError
