"""What a process of ``tests/forked.py`` has imported before it starts."""

import airflow.sdk  # noqa: F401

import airflow_pipeops

for name in airflow_pipeops.__all__:
    getattr(airflow_pipeops, name)
