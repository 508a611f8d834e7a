"""What stands in the way of the demo is said in one clear line, before anything is touched."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_pipeops.demo import preflight
from airflow_pipeops.demo.preflight import MARKER, Ports, problems
from tests.servers import free_ports


@pytest.fixture
def ports() -> Ports:
    return Ports(airflow=free_ports(2), nodes=free_ports(6))


def test_a_good_machine_has_no_problem(tmp_path, ports) -> None:
    assert problems(tmp_path / "home", ports) == []


def test_a_port_in_use_is_named(tmp_path, ports) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports.sandbox))
        other.listen()
        (found,) = problems(tmp_path / "home", ports)
    assert found.startswith(f"port {ports.sandbox} is in use")
    assert "--port" in found


def test_a_folder_that_is_not_ours_is_not_wiped(tmp_path, ports) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (found,) = problems(tmp_path, ports)
    assert "was not made by the demo" in found
    run = subprocess.run(
        [sys.executable, "-m", "airflow_pipeops.demo", "--headless", "--home", str(tmp_path),
         "--port", str(free_ports(2)), "--node-port", str(free_ports(6))],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.strip() == found
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_our_own_folder_may_be_wiped(tmp_path, ports) -> None:
    (tmp_path / MARKER).touch()
    (tmp_path / "old").touch()
    assert problems(tmp_path, ports) == []


def test_a_missing_tool_is_named(tmp_path, ports, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(Path(tmp_path, "bin", "python")))
    found = problems(tmp_path / "home", ports)
    assert [line.partition(":")[0] for line in found] == [
        "git is not installed",
        "neither kustomize nor kubectl is here",
    ]


def test_no_disk_is_said(tmp_path, ports, monkeypatch) -> None:
    monkeypatch.setattr(preflight, "_NEEDED_BYTES", 2**60)
    (found,) = problems(tmp_path / "home", ports)
    assert "are needed" in found


def test_all_ports_differ(ports) -> None:
    assert len(set(ports.all())) == 8


@pytest.mark.parametrize(
    "wrong", [Ports(airflow=99999), Ports(airflow=65535), Ports(nodes=65532), Ports(airflow=-5)]
)
def test_a_port_that_cannot_be_is_named(tmp_path, wrong: Ports) -> None:
    (found,) = problems(tmp_path / "home", wrong)
    assert found.startswith("there is no port")
    assert "--node-port" in found
