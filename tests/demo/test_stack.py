"""The whole stack on a real Airflow, without the story: how it starts, how it is killed, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_pipeops.demo import keeper
from airflow_pipeops.demo.airflow_api import AirflowApi
from airflow_pipeops.demo.configuration import USERS
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.stack import DAGS
from airflow_pipeops.exceptions import AccessDenied
from tests.servers import free_ports

pytestmark = [pytest.mark.demo, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
PORTS = Ports(airflow=free_ports(2), nodes=free_ports(6))

#: Starts a stack, says that it is up, and watches over it.
PROGRAM = """
import sys, time
from pathlib import Path
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.processes import ProcessDied
from airflow_pipeops.demo.stack import Stack, StackFailed
try:
    with Stack(Path(sys.argv[1]), Ports(airflow=int(sys.argv[2]), nodes=int(sys.argv[3]))) as stack:
        print("UP", stack._processes.pids()["scheduler"], stack.memory(), round(stack.start_seconds), flush=True)
        while True:
            stack.check()
            time.sleep(0.2)
except (StackFailed, ProcessDied) as error:
    print(error, flush=True)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)
"""


class Running:
    """A stack in a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        command = [sys.executable, "-c", PROGRAM, str(home), str(PORTS.airflow), str(PORTS.nodes)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def line(self, beginning: str) -> str:
        """Return the next line that begins so."""
        lines = []
        for line in self.process.stdout:
            if line.strip().startswith(beginning):
                return line
            lines.append(line)
        raise AssertionError("".join(lines))

    def leaves_nothing(self) -> None:
        """Wait until no process of it lives and all its ports are free."""
        deadline = time.monotonic() + 120
        while (left := _of(self.home)) or any(map(_listening, PORTS.all())):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        self.process.stdout.close()


def _of(home: Path) -> list[str]:
    """Return the command lines of the processes whose environment or arguments name the folder."""
    found = []
    for pid in keeper._processes():
        try:
            text = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if str(home).encode() in text:
            found.append(text.decode(errors="replace")[-200:])
    return found


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder whose name needs quoting."""
    return tmp_path_factory.mktemp("my demo") / "home"


@pytest.fixture(scope="module")
def running(home) -> Iterator[Running]:
    made = Running(home)
    yield made
    made.process.kill()
    made.process.wait()
    made.process.stdout.close()


@pytest.fixture(scope="module")
def api(running) -> AirflowApi:
    running.scheduler, running.memory, running.seconds = map(int, running.line("UP").split()[1:])
    passwords = json.loads((running.home / "airflow" / "passwords.json").read_text())
    assert (running.home / "airflow" / "passwords.json").stat().st_mode & 0o077 == 0
    assert set(passwords) == set(USERS)
    return login(passwords, "admin")


def login(passwords: dict[str, str], user: str) -> AirflowApi:
    made = AirflowApi(f"http://127.0.0.1:{PORTS.airflow}", user, passwords[user])
    made.login()
    return made


def test_airflow_knows_the_five_dags_and_could_read_them(api) -> None:
    assert set(api.dags()) == DAGS
    assert api.import_errors() == []


def test_it_is_small(api, running) -> None:
    assert 2**29 < running.memory < 2 * 2**30


def test_the_connections_are_there_and_hide_the_token(api, running) -> None:
    found = api.connections()
    endpoints = {name.replace("-", "_") for name in PORTS.endpoints}
    names = {"pipeops_app_repo", "pipeops_gitops_repo", "argocd_default", "mlflow_default", "pipeops_data"}
    names |= {"pipeops_prompt_repo", "pipeops_prompt_items", "pydanticai_default", "pipeops_timings"}
    names |= {"pipeops_artifacts", "pipeops_predictions", "pipeops_labels", "pipeops_signing_key"}
    assert set(found) == names | endpoints
    token = json.loads((running.home / "sandbox" / "tokens.json").read_text())["deployer"]
    assert token not in json.dumps(found)
    assert "PRIVATE KEY" not in json.dumps(found)
    assert not list((running.home / "airflow").glob("connections*"))


def test_a_viewer_may_look_and_not_act(running, api) -> None:
    passwords = json.loads((running.home / "airflow" / "passwords.json").read_text())
    viewer = login(passwords, "viewer")
    assert set(viewer.dags()) == DAGS
    with pytest.raises(AccessDenied):
        viewer.trigger("code_to_release")


def test_an_example_without_its_connections_says_so_where_a_person_looks(running, api) -> None:
    """The DAG that would wait in silence gets one run, whose first task fails and names what to make."""
    api.call("DELETE", "/connections/argocd_default")
    api.unpause("desired_state_drift")
    deadline = time.monotonic() + 600
    while not (runs := [run for run in api.runs("desired_state_drift") if run["state"] == "failed"]):
        assert time.monotonic() < deadline, api.runs("desired_state_drift")
        time.sleep(0.5)
    (run,) = runs
    assert run["note"] == "Ships: nothing: connections are missing"
    states = {
        task["task_id"]: task["state"]
        for task in api.task_instances("desired_state_drift", run["dag_run_id"])
    }
    assert states["difference"] == "failed"
    (log,) = (running.home / "airflow" / "logs").glob("dag_id=desired_state_drift/*/task_id=difference/*.log")
    said = log.read_text()
    assert "'argocd_default' of type Argo CD (argocd)" in said
    assert "docs/connections.md#argo-cd" in said


def test_it_listens_on_the_loopback_interface_only(running, api) -> None:
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True)
    if listening.returncode:
        pytest.skip("no ss here")
    family = keeper.family([running.process.pid], "no mark")
    ours = [
        line.split()[3] for line in listening.stdout.splitlines() if any(f"pid={p}," in line for p in family)
    ]
    assert f"127.0.0.1:{PORTS.airflow}" in ours
    assert [address for address in ours if not address.startswith("127.0.0.1:")] == []


def test_a_second_demo_in_the_same_folder_is_refused_and_harms_nothing(running, api, home) -> None:
    second = Running(home)
    said, _ = second.process.communicate(timeout=60)
    assert second.process.returncode == 2
    assert said.startswith(f"a demo is running in {home}: ")
    assert len(said.splitlines()) == 1
    assert api.health()["scheduler"] == "healthy"


def test_a_killed_demo_leaves_nothing(running, api) -> None:
    running.process.kill()
    running.process.wait()
    running.leaves_nothing()


def test_the_next_start_is_clean_tells_a_death_and_ends_the_rest(running, api, home) -> None:
    (home / "data" / "old.parquet").touch()
    again = Running(home)
    scheduler = int(again.line("UP").split()[1])
    assert list((home / "data").iterdir()) == []
    os.kill(scheduler, signal.SIGKILL)
    assert again.process.wait(60) == 2
    assert "scheduler ended by signal 9 (SIGKILL)" in again.process.stdout.read()
    again.leaves_nothing()


def test_ctrl_c_while_it_starts_leaves_nothing(running, api, home) -> None:
    third = Running(home)
    third.line("· starting Airflow's scheduler")
    os.killpg(third.process.pid, signal.SIGINT)
    assert third.process.wait(30) == 130
    third.leaves_nothing()
