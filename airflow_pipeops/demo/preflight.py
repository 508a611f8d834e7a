"""What must be true before anything is started: one clear line for each thing that is not."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Marks a folder as made by the demo, so that it may be wiped.
MARKER = ".pipeops-demo"
_NEEDED_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Ports:
    """The ports of the stack, all on the loopback interface.

    :param airflow: the Airflow UI; the sandbox's API has the next one.
    :param nodes: the first of the six endpoints.
    """

    airflow: int = 8080
    nodes: int = 30080

    @property
    def sandbox(self) -> int:
        """The Argo CD API of the sandbox."""
        return self.airflow + 1

    @property
    def endpoints(self) -> dict[str, int]:
        """The port of each ``<deliverable>-<environment>``."""
        names = (
            "delay-api-staging",
            "delay-api-production",
            "flight-delay-staging",
            "flight-delay-production",
            "flight-notice-staging",
            "flight-notice-production",
        )
        return {name: self.nodes + offset for offset, name in enumerate(names)}

    def all(self) -> list[int]:
        """Return every port."""
        return [self.airflow, self.sandbox, *self.endpoints.values()]


def problems(home: Path, ports: Ports) -> list[str]:
    """Return what stands in the way, each with its remedy; empty if nothing does."""
    found = []
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        found.append(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old or too new: use 3.10 to 3.13"
        )
    if shutil.which("git") is None:
        found.append("git is not installed: install it, then try again")
    if shutil.which("kustomize") is None and kubectl() is None:
        found.append("neither kustomize nor kubectl is here: pip install 'airflow-pipeops[demo]'")
    existing = next(folder for folder in (home, *home.parents) if folder.is_dir())
    if home.exists() and not home.is_dir():
        found.append(f"{home} is a file: choose a folder with --home")
    if not os.access(existing, os.W_OK | os.X_OK):
        found.append(f"{existing} cannot be written: choose another folder with --home")
    if (free := shutil.disk_usage(existing).free) < _NEEDED_BYTES:
        found.append(f"only {free / 2**30:.1f} GiB are free at {existing}: 2 GiB are needed")
    if home.is_dir() and any(home.iterdir()) and not (home / MARKER).exists():
        found.append(f"{home} is not empty and was not made by the demo: choose another with --home")
    if wrong := [port for port in ports.all() if not 1 <= port <= 65535]:
        numbers = ", ".join(map(str, wrong))
        return [
            *found,
            f"there is no port {numbers}: choose others with --port and --node-port, from 1 to 65535",
        ]
    found += [
        f"port {port} is in use: stop what listens there, or choose others with --port and --node-port"
        for port in ports.all()
        if _in_use(port)
    ]
    return found


def occupy(home: Path) -> IO[str] | None:
    """Hold the demo's folder against a second demo for as long as the returned file is open.

    The system lets go of it when we end, however that is. Only a folder with the demo's marker can be held.

    :return: None if another demo holds it.
    """
    import fcntl

    marker = (home / MARKER).open("a")
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        marker.close()
        return None
    return marker


def empty(home: Path) -> None:
    """Remove everything in the demo's folder but the marker."""
    for item in home.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        elif item.name != MARKER:
            item.unlink()


def kubectl() -> str | None:
    """Return a kubectl: the one on PATH, or the one that came with this Python environment."""
    return shutil.which("kubectl") or shutil.which("kubectl", path=str(Path(sys.executable).parent))


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
