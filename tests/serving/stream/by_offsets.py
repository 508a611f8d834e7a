"""Attempts at a rollback with two sides, with a proof by stream offsets: the release is announced, begins, and is seen live.

The further settings are ``environment``, with Airflow's connections; ``group``, ``topic`` and ``start``.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import partial
from typing import Any

from airflow_pipeops.models.rollback.proof import Proof, proof_of
from airflow_pipeops.models.rollback.saga import Begun, ModelRollback
from airflow_pipeops.serving.stream.operators import StreamBeginOperator
from airflow_pipeops.serving.stream.sensors import StreamLiveSensor
from tests.conftest import FakeTaskInstance
from tests.models.rollback.two_sides import Given, attempt, task
from tests.mortal import attempts


def by_offsets(given: Given, rollback: ModelRollback, begun: Begun) -> Proof:
    """Do what the three tasks between the two of the rollback do."""
    os.environ.update(given["environment"])
    release = rollback.desired.told(begun.values)["release"]

    def run(name: str, operator: type, **more: Any) -> dict[str, Any]:
        said = {
            "file": rollback.desired.file,
            "release": release,
            "group": given["group"],
            "topic": given["topic"],
        }
        context = {"ti": FakeTaskInstance(run_id=given["key"], task_id=name)}
        found: dict[str, Any] = task(
            given, name, lambda: operator(task_id=name, **said, **more).execute(context)
        )
        return found

    look = {
        "poll_interval": timedelta(seconds=0.3),
        "settle": timedelta(seconds=1),
        "timeout": timedelta(minutes=4),
        "deferrable": False,
    }
    run("ready", StreamLiveSensor, stage="ready", **look)
    run("begin", StreamBeginOperator, start=given["start"])
    return proof_of(run("live", StreamLiveSensor, on_idle="wait", **look))


if __name__ == "__main__":
    attempts(partial(attempt, proves=by_offsets))
