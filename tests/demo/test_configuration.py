"""The demo takes nothing from the machine but where its programs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_pipeops.demo import airflow_api
from airflow_pipeops.demo.configuration import INHERITED, environment, surroundings
from airflow_pipeops.demo.preflight import Ports
from airflow_pipeops.demo.seeds import Seeds
from tests import hostile


@pytest.fixture
def everything_hostile(tmp_path, monkeypatch):
    before = os.umask(0o022)
    os.umask(before)
    folder = tmp_path / "hostile"
    folder.mkdir()
    for kind in hostile.KINDS.values():
        for name, value in kind(folder).items():
            monkeypatch.setenv(name, value)
    yield folder
    os.umask(before)


def test_nothing_hostile_reaches_a_process_of_the_demo(tmp_path, everything_hostile) -> None:
    home = tmp_path / "home"
    found = environment(home, Ports(), home / "passwords.json")
    strange = {name for name in found if name in os.environ and found[name] == os.environ[name]} - {
        *INHERITED
    }
    # The suite's own choices, which are those of the demo too.
    assert strange <= {"DO_NOT_TRACK", "GX_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY"}
    assert not [
        name for name in found if name.startswith(("GIT_", "KUBE", "MLFLOW_T", "XDG_", "AIRFLOW_CONN_"))
    ]
    assert not [name for name in found if "proxy" in name.lower()]
    assert found["HOME"] == str(home / "home")
    assert found["AIRFLOW_HOME"] == str(home / "airflow")
    assert (found["TZ"], found["PYTHONUTF8"]) == ("UTC", "1")
    assert str(everything_hostile) not in "".join(found.values())


def test_its_repositories_obey_no_configuration_of_the_machine(tmp_path, everything_hostile) -> None:
    planted = Seeds(tmp_path / "home", Ports().endpoints)
    planted.plant()
    commits = [planted.push_version(number) for number in (1, 2)]
    assert len(set(commits)) == 2


def test_programs_are_found_as_before(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/opt/tools")
    first, *others = surroundings(Path(tmp_path))["PATH"].split(os.pathsep)
    assert Path(first, "python").exists()
    assert others == ["/opt/tools"]


def test_who_waits_for_a_lock_gives_up_before_those_who_wait_for_an_answer(tmp_path) -> None:
    """Airflow's API server may wait in its event loop for a lock whose holder needs that loop to let go."""
    found = environment(tmp_path, Ports(), tmp_path / "passwords.json")
    lock = float(found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].rpartition("?timeout=")[2])
    assert lock < airflow_api.PATIENCE < float(found["AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT"])
