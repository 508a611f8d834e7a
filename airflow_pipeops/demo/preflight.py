"""What must be true before anything is started: one clear line for each thing that is not."""

from __future__ import annotations

import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

#: Marks a folder as made by the demo, so that it may be wiped.
MARKER = ".pipeops-demo"
_NEEDED_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Ports:
    """The ports of the stack, all on the loopback interface.

    :param airflow: the Airflow UI; the next four follow it.
    :param nodes: the first of the four endpoints.
    """

    airflow: int = 8080
    nodes: int = 30080

    @property
    def sandbox(self) -> int:
        """The Argo CD API of the sandbox."""
        return self.airflow + 1

    @property
    def worker_logs(self) -> int:
        """Airflow serves the logs of running tasks here."""
        return self.airflow + 2

    @property
    def triggerer_logs(self) -> int:
        """Airflow serves the logs of running triggers here."""
        return self.airflow + 3

    @property
    def endpoints(self) -> dict[str, int]:
        """The port of each ``<deliverable>-<environment>``."""
        names = (
            "delay-api-staging",
            "delay-api-production",
            "flight-delay-staging",
            "flight-delay-production",
        )
        return {name: self.nodes + offset for offset, name in enumerate(names)}

    def all(self) -> list[int]:
        """Return every port."""
        return [self.airflow, self.sandbox, self.worker_logs, self.triggerer_logs, *self.endpoints.values()]


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
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if (free := shutil.disk_usage(existing).free) < _NEEDED_BYTES:
        found.append(f"only {free / 2**30:.1f} GiB are free at {existing}: 2 GiB are needed")
    if home.exists() and any(home.iterdir()) and not (home / MARKER).exists():
        found.append(f"{home} is not empty and was not made by the demo: choose another with --home")
    found += [
        f"port {port} is in use: stop what listens there, or choose others with --port and --node-port"
        for port in ports.all()
        if _in_use(port)
    ]
    return found


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
