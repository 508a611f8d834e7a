"""``python -m airflow_pipeops.demo.warm scheduler``: an Airflow component that has loaded beforehand what its forks need.

Airflow's local executor forks a process for each task, and its DAG processor one for each reading of a DAG file. What their
parent has loaded, they need not load again: on a laptop that saves several seconds a task, and most of a year of flights is
such tasks. Only libraries that start no thread when they are imported belong here, since threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import runpy
import sys

#: What tasks load. Of DAG files, only what they import is loaded as well.
LIBRARIES = (
    "pandas",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.metrics",
    "great_expectations",
    "evidently",
    "evidently.presets",
    "mlflow",
    "skops.io",
)


def main() -> None:
    """Load what is there, then become the ``airflow`` command."""
    for name in LIBRARIES if sys.argv[1] == "scheduler" else ():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from airflow.__main__ import main as airflow

    from airflow_pipeops.provider.examples import example_dags

    for file in example_dags().glob("*.py"):
        with contextlib.suppress(Exception):  # whoever reads it says what is wrong with it
            runpy.run_path(str(file))

    sys.argv[0] = "airflow"
    airflow()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
