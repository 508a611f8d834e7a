"""``python -m airflow_pipeops.demo.warm scheduler``: an Airflow component with the heavy libraries loaded beforehand.

Airflow's local executor forks a process for each task. What its parent has loaded, a task need not load again: on a
laptop that saves several seconds a task, and most of a year of flights is such tasks. Only libraries that start no
thread when they are imported belong here, since threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import sys

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
    """Load the libraries that are there, then become the ``airflow`` command."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from airflow.__main__ import main as airflow

    sys.argv[0] = "airflow"
    airflow()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
