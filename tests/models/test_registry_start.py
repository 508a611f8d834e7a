"""Several tasks may be the first to open a new registry."""

from __future__ import annotations

import subprocess


def test_a_new_store_is_made_once_by_processes_that_start_together(tmp_path, mlflow_python) -> None:
    program = (
        "import sys; from airflow_pipeops.models.registry import Registry\n"
        "print(Registry(sys.argv[1]).by_alias('flight-delay', 'champion'))"
    )
    command = [mlflow_python, "-c", program, f"sqlite:///{tmp_path}/mlflow.db"]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    assert [out.strip() for out, _ in ended] == ["None"] * 3, ended
