"""What it costs an API server to look for failed tasks every two seconds, and to record a storm of them.

Airflow's own tables in SQLite: a thousand DAGs with a task of a deliverable each, and the task instances of a month, one of
twenty failed.

Run: python -m tests.benchmarks.failures [TASKS]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from airflow_pipeops.delivery.failures import Failures

DAGS, DAYS = 1000, 30


def fill(path: Path, tasks: int) -> None:
    """Write the tables."""
    from airflow.models import import_all_models
    from airflow.models.asset import AssetModel, TaskOutletAssetReference
    from airflow.models.base import Base
    from airflow.models.taskinstance import TaskInstance

    import_all_models()
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    now = datetime.now(timezone.utc)
    with Session(engine) as session:
        for number in range(DAGS):
            uri = f"pipeops://d{number}/image"
            session.add(
                AssetModel(id=number + 1, name=f"d{number}.image", uri=uri, group="pipeops", extra={})
            )
            session.add(TaskOutletAssetReference(asset_id=number + 1, dag_id=f"dag{number}", task_id="build"))
        session.commit()
    known = {
        "map_index": -1, "try_number": 1, "max_tries": 0, "operator": "Build", "pool": "default", "pool_slots": 1,
        "queue": "q", "priority_weight": 1, "custom_operator_name": "", "executor_config": {},
    }  # fmt: skip
    rows = (
        {
            **known, "id": uuid.uuid4(), "dag_id": f"dag{number % DAGS}", "run_id": f"run{number // DAGS // 2}",
            "task_id": "build" if number // DAGS % 2 else "other", "state": "success" if number % 20 else "failed",
            "end_date": now - timedelta(days=DAYS * (1 - number / tasks)),
        }
        for number in range(tasks)
    )  # fmt: skip
    with engine.begin() as connection:
        while some := [row for row, _ in zip(rows, range(5000), strict=False)]:
            connection.execute(TaskInstance.__table__.insert(), some)
    engine.dispose()


def main(tasks: int) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as home:
        fill(Path(home) / "airflow.db", tasks)
        engine = create_engine(f"sqlite:///{home}/airflow.db")
        failures = Failures(engine)

        def ask() -> None:
            failures._rests_until = 0.0  # else most of them would ask nothing
            assert not failures.pending

        def timed(what: str, work: Callable[[], None], times: int = 1) -> None:
            began, busy = time.perf_counter(), time.process_time()
            for _ in range(times):
                work()
            took, worked = (time.perf_counter() - began) / times, (time.process_time() - busy) / times
            load = os.getloadavg()[0]
            print(
                f"{what}: {took * 1000:.1f} ms on the clock, {worked * 1000:.1f} ms of CPU, load {load:.0f}",
                flush=True,
            )

        timed("the first look, which records those of seven days", failures.take_up)
        with engine.connect() as connection:
            print("recorded:", connection.execute(text("SELECT count(*) FROM asset_event")).scalar())
        timed("is there a new one?", ask, 100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", type=int, nargs="?", default=200_000)
    main(parser.parse_args().tasks)
