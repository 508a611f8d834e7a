"""Empty databases with all their tables: what takes seconds is made by one process of the suite, and copied by all."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path


def once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a file that all processes of the suite share; who comes first makes it, and the others wait.

    :param make: writes it to the path that it is given.
    """
    shared = _folder() / name
    with shared.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            with tempfile.TemporaryDirectory(dir=shared.parent) as scratch:
                made = Path(scratch, name)
                make(made)
                made.rename(shared)
    return shared


@cache
def _folder() -> Path:
    if named := os.environ.get("PIPEOPS_TESTS_FOLDER"):
        return Path(named)
    own = tempfile.TemporaryDirectory(prefix="once-")  # a benchmark, which runs without the suite
    atexit.register(own.cleanup)
    return Path(own.name)


def airflow_database(home: Path) -> None:
    """Put Airflow's database where an Airflow with this home looks for it, as ``airflow db migrate`` makes it."""
    shutil.copy(once("airflow.db", _migrated), home / "airflow.db")


def mlflow_database(folder: Path) -> str:
    """Put an empty store of MLflow's into a folder, unless one is there; return its URL."""
    path = folder / "mlflow.db"
    if not path.exists():
        shutil.copy(once("mlflow.db", _empty_store), path)
    return f"sqlite:///{path}"


def _migrated(path: Path) -> None:
    known = {name: text for name, text in os.environ.items() if not name.startswith("AIRFLOW")}
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    environment = {**known, "AIRFLOW_HOME": str(path.parent), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-3000:]


def _empty_store(path: Path) -> None:
    from airflow_pipeops.models.registry import Registry

    Registry(f"sqlite:///{path}").ping()
