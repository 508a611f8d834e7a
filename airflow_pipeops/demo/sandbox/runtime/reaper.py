"""Ends a cluster's processes when the cluster itself can no longer do so.

Run as a program: a tiny process of its own that waits for the end of its standard input, which the cluster holds
open. However the cluster ends, ``kill -9`` included, the pipe closes, and what is left is killed: the process
groups it was told of (``+PGID`` / ``-PGID`` lines), and on Linux every process that carries the cluster's mark in
its environment, so that neither a daemonised child nor one just being started escapes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

#: Environment variable that marks every process of a cluster.
MARK = "PIPEOPS_SANDBOX_CLUSTER"


def marked(mark: str) -> list[int]:
    """Return the ids of the processes that carry the mark; empty where the system has no ``/proc``."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            if pid != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def kill_group(pgid: int, how: int = signal.SIGKILL) -> bool:
    """Send a signal to a process group; False where it has ended."""
    try:
        os.killpg(pgid, how)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_marked(mark: str) -> int:
    """Kill what carries the mark, and what it may start meanwhile; returns how many were killed."""
    killed = 0
    for _ in range(5):
        pids = marked(mark)
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


def main(mark: str) -> None:
    """Follow the list of process groups until the input ends, then kill them all."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # A Ctrl-C in the terminal reaches us too; we must outlive the cluster.
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        sign, number = line[0], int(line[1:])
        (groups.add if sign == "+" else groups.discard)(number)
    for pgid in groups:
        kill_group(pgid)
    kill_marked(mark)


if __name__ == "__main__":
    main(sys.argv[1])
